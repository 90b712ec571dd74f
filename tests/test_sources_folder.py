from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from streamwatch.errors import SourceLost, SourceUnusable
from streamwatch.records import Frame
from streamwatch.sources import open_source
from streamwatch.sources.scripted import ScriptedSource
from tests.videos import number_of, numbered


def test_pictures_come_in_the_order_of_their_numbers_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    # Given pictures numbered without leading zeros, a half-written one, and what is no picture
    for index in (0, 1, 2, 10, 11):
        Image.fromarray(numbered(index)).save(tmp_path / f"cam1-{index}.PNG")
    (tmp_path / "cam1-5.jpg").write_bytes(b"\xff\xd8\xff\xe0 half a JPEG")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    # When the folder is read every 2 s
    source = open_source(str(tmp_path), every_s=2.0)
    frames = list(source.frames())
    # Then the readable ones are frames 2 s apart, and the others are warned of
    assert [number_of(frame.picture.rgb()) for frame in frames] == [0, 1, 2, 10, 11]
    assert [frame.pts_s for frame in frames] == [0, 2, 4, 6, 8]
    assert source.duration_s == 10
    assert not source.live
    assert len(source.warnings) == 2
    assert "cam1-5.jpg" in source.warnings[0]
    assert "folder.png" in source.warnings[1]


def test_a_picture_knows_when_it_was_taken_or_else_when_it_was_written(tmp_path: Path) -> None:
    # Given a picture whose EXIF data tell the time, and one without
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2026:07:01 12:00:00", 0x9011: "+00:00"})
    Image.fromarray(numbered(1)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(numbered(2)).save(tmp_path / "b.jpg")
    os.utime(tmp_path / "b.jpg", (1_750_000_000, 1_750_000_000))
    # When / Then
    first, second = open_source(str(tmp_path), every_s=1.0).frames()
    assert first.captured_at == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert second.captured_at == datetime.fromtimestamp(1_750_000_000, UTC)
    assert (first.time_source, second.time_source) == ("exif", "file")


def test_a_folder_without_a_readable_picture_is_unusable(tmp_path: Path) -> None:
    # Given an empty folder
    source = open_source(str(tmp_path), every_s=1.0)
    with pytest.raises(SourceUnusable, match="holds no pictures"):
        list(source.frames())
    # When only a broken picture is in it
    (tmp_path / "a.png").write_bytes(b"broken")
    # Then
    with pytest.raises(SourceUnusable, match="none of the 1 pictures"):
        list(source.frames())


def test_a_folder_that_goes_away_is_unusable(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    source = open_source(str(folder), every_s=1.0)
    folder.rmdir()
    with pytest.raises(SourceUnusable, match="no such folder"):
        list(source.frames())


@pytest.mark.parametrize("url", ["987", "/dev/video987"])
def test_a_camera_that_is_not_plugged_in_is_lost_and_may_come_back(url: str) -> None:
    source = open_source(url, every_s=1.0)
    assert source.live
    with pytest.raises(SourceLost, match="/dev/video987: no such camera"):
        list(source.frames())


def test_a_script_plays_frames_and_failures_in_its_order() -> None:
    # Given a script with a failure in it
    frames = list(ScriptedSource.of_arrays([numbered(0), numbered(1)], every_s=1.0).frames())
    script: list[Frame | Exception] = [frames[0], SourceLost("unplugged"), frames[1]]
    source = ScriptedSource(iter(script), live=True)
    # When it is read, and read again after the failure
    reading = source.frames()
    assert next(reading) is frames[0]
    with pytest.raises(SourceLost, match="unplugged"):
        next(reading)
    # Then it goes on behind the failure, and its end is a loss
    reading = source.frames()
    assert next(reading) is frames[1]
    with pytest.raises(SourceLost, match="no more frames"):
        next(reading)


def test_the_package_loads_neither_pyav_nor_opencv() -> None:
    # Given a process of its own
    code = """
import sys
import streamwatch.sources, streamwatch.sampling, streamwatch.imaging
streamwatch.sources.open_source("a-folder-that-is-not-there/0", every_s=1.0) if "open" in sys.argv else None
print(sorted({"av", "cv2", "torch"} & set(sys.modules)))
"""
    # When / Then
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    # And opening a file loads PyAV alone
    done = subprocess.run([sys.executable, "-c", code, "open"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['av']"


def special(folder: Path, suffix: str) -> dict[str, str]:
    """A named pipe and a socket with names of files; and what messages call them."""
    os.mkfifo(folder / f"pipe{suffix}")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(folder / f"socket{suffix}"))
    return {f"pipe{suffix}": "a named pipe", f"socket{suffix}": "a socket"}


def test_pipes_and_sockets_in_a_folder_are_left_out_and_nothing_waits_for_them(tmp_path: Path) -> None:
    # Given a folder of a picture, a named pipe that nobody writes to, and a socket
    Image.fromarray(numbered(1)).save(tmp_path / "a.png")
    kinds = special(tmp_path, ".png")
    # When it is read
    source = open_source(str(tmp_path), every_s=1.0)
    assert len(list(source.frames())) == 1
    # Then warnings name the two
    assert source.warnings == tuple(
        f"left out: {tmp_path / name} is {kind}, expected an image file" for name, kind in kinds.items()
    )


def test_a_pipe_a_socket_or_a_device_is_no_video(tmp_path: Path) -> None:
    kinds = {str(tmp_path / name): kind for name, kind in special(tmp_path, ".mp4").items()}
    for path, kind in {**kinds, "/dev/zero": "a character device"}.items():
        with pytest.raises(SourceUnusable, match=f"{path} is {kind}, expected a video file"):
            list(open_source(path, every_s=1.0).frames())


def test_many_broken_pictures_are_named_up_to_twenty(tmp_path: Path) -> None:
    # Given a picture and 30 that are none
    Image.fromarray(numbered(1)).save(tmp_path / "a.png")
    for index in range(30):
        (tmp_path / f"b{index}.png").write_bytes(b"broken")
    # When / Then
    source = open_source(str(tmp_path), every_s=1.0)
    assert len(list(source.frames())) == 1
    assert len(source.warnings) == 21
    assert "b19.png" in source.warnings[19]
    assert source.warnings[20] == "and 10 more left out"
