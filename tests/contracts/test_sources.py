"""What every source must hold to, run over all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path

import pytest
from PIL import Image

from streamwatch.records import Frame
from streamwatch.sources import Source, open_source
from streamwatch.sources.scripted import ScriptedSource
from tests.rtsp import rtsp_camera
from tests.videos import number_of, numbered, write_video

PASSWORD = "p@ss:w%rd/?#x"
EVERY_S = 0.5

MakeSource = Callable[[], Source]


@pytest.fixture(
    params=["file-all", "file-keyframes", "file-mjpeg", "http-file", "folder", "scripted", "rtsp", "rtsp-password"]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeSource]:
    """Opens the same source again and again; each has frames for at least 4 s and 96×64 pictures."""
    kind: str = request.param
    with ExitStack() as stack:
        if kind == "folder":
            for index in range(12):
                Image.fromarray(numbered(index)).save(tmp_path / f"img{index}.png")
            yield lambda: open_source(str(tmp_path), every_s=EVERY_S)
        elif kind == "scripted":
            yield lambda: ScriptedSource.of_arrays([numbered(index) for index in range(12)], every_s=EVERY_S)
        elif kind == "file-mjpeg":
            path = write_video(tmp_path / "clip.avi", codec="mjpeg", frames=150)
            yield lambda: open_source(str(path), every_s=EVERY_S)
        elif kind.startswith("rtsp"):
            path = write_video(tmp_path / "clip.mp4", frames=150, gop=12, fps=24)
            password = PASSWORD if kind == "rtsp-password" else None
            place, _ = stack.enter_context(rtsp_camera(path, user="cam" if password else None, password=password))
            username = "cam" if password else None
            yield lambda: open_source(f"rtsp://{place}", every_s=EVERY_S, username=username, password=password)
        else:
            path = write_video(tmp_path / "clip.mp4", frames=150, gop=12 if kind == "file-keyframes" else 50)
            if kind == "http-file":
                from tests.web import serve_folder

                address = stack.enter_context(serve_folder(tmp_path))
                yield lambda: open_source(f"{address}/clip.mp4", every_s=EVERY_S)
            else:
                yield lambda: open_source(str(path), every_s=EVERY_S)


def some(source: Source, *, at_most: int = 60, until_s: float = 1.6) -> list[Frame]:
    frames = source.frames()
    taken: list[Frame] = []
    for frame in islice(frames, at_most):
        taken.append(frame)
        if frame.pts_s >= until_s:
            break
    frames.close()  # type: ignore[attr-defined]
    return taken


def test_times_begin_at_zero_and_rise(make: MakeSource) -> None:
    # Given / When
    frames = some(make())
    # Then
    times_s = [frame.pts_s for frame in frames]
    assert times_s[0] == 0.0
    assert len(times_s) > 3
    assert all(earlier < later for earlier, later in pairwise(times_s))


def test_frames_come_in_order_of_presentation(make: MakeSource) -> None:
    # Given / When
    source = make()
    found = [number_of(frame.picture.rgb()) for frame in some(source)]
    # Then (a looping camera may be joined anywhere, and begin again)
    falls = sum(later < earlier for earlier, later in pairwise(found))
    assert falls <= (1 if source.live else 0)
    assert source.live or found[0] == 0


def test_no_sample_is_missing(make: MakeSource) -> None:
    # Given / When
    times_s = [frame.pts_s for frame in some(make())]
    # Then there is a frame near each due time
    for due_s in (0.0, 0.5, 1.0, 1.5):
        assert min(abs(time_s - due_s) for time_s in times_s) <= EVERY_S / 2


def test_pictures_come_in_any_size(make: MakeSource) -> None:
    # Given a frame that its source has left behind
    frames = some(make(), at_most=4)
    picture = frames[0].picture
    # When / Then
    assert (picture.width, picture.height) == (96, 64)
    assert picture.rgb().shape == (64, 96, 3)
    assert picture.rgb(width=224, height=224).shape == (224, 224, 3)
    assert picture.rgb(width=12, height=4).shape == (4, 12, 3)
    assert number_of(picture.rgb(width=48, height=32)) == number_of(picture.rgb())


def test_cameras_know_the_time_of_day_and_films_do_not(make: MakeSource) -> None:
    source = make()
    frame = some(source, at_most=1)[0]
    if source.live:
        assert frame.captured_at is not None
        assert abs(frame.captured_at.timestamp() - time.time()) < 10
    elif frame.captured_at is not None:
        # A folder's pictures carry the time of their files.
        assert frame.captured_at.timestamp() <= time.time()


def test_facts_are_known_once_frames_came(make: MakeSource) -> None:
    # Given a source that nobody has read
    source = make()
    assert source.duration_s is None
    assert source.size is None
    assert source.announced_s is None
    # When it is read a while
    frames = some(source)
    # Then
    assert source.size == (96, 64)
    assert source.duration_s is not None
    assert source.duration_s >= frames[-1].pts_s
    assert source.announced_s is None or not source.live
    assert source.decode_mode in {"keyframes", "all"}
    assert source.warnings == ()


def test_the_length_is_known_from_the_first_frame_on_where_it_is_announced(make: MakeSource) -> None:
    # Given files of 6 s, a folder of 12 pictures, and what announces nothing: cameras and scripts
    source = make()
    frames = source.frames()
    # When their first frame is there
    next(frames)
    # Then
    if source.live or isinstance(source, ScriptedSource):
        assert source.announced_s is None
    else:
        assert source.announced_s == pytest.approx(6.0, abs=0.05)
    frames.close()  # type: ignore[attr-defined]


def test_closing_from_another_thread_ends_the_frames(make: MakeSource) -> None:
    # Given a source that is being read
    source = make()
    frames = source.frames()
    next(frames)
    # When another thread closes it, twice
    closer = threading.Thread(target=lambda: (source.close(), source.close()))
    closer.start()
    closer.join()
    started_s = time.monotonic()
    rest = list(frames)
    # Then no more than what was on its way comes out, without an error
    assert len(rest) <= 1
    assert time.monotonic() - started_s < 2
    # And never again
    assert list(source.frames()) == []


def test_reading_again_begins_anew(make: MakeSource) -> None:
    # Given a source that was read a while
    source = make()
    first = some(source)
    # When it is read again
    second = some(source)
    # Then it begins at 0 again; a file shows the same
    assert second[0].pts_s == 0.0
    if not source.live:
        assert [frame.pts_s for frame in first] == [frame.pts_s for frame in second]
        assert (first[0].picture.rgb() == second[0].picture.rgb()).all()
