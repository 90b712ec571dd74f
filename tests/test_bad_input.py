"""What a user may get wrong, at the real command line: one clear message, the documented exit code, no traceback."""

from __future__ import annotations

import json
import os
import pickle
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.running import Finished, complaint, environment, run, small_yard, watching
from tests.videos import cut, write_video

# What a user who reads only the message must find in it: the thing that was got, and what would be right.
VIDEOS: dict[str, tuple[str, ...]] = {
    "missing.mp4": ("no such file", "check the path"),
    "notes.mp4": ("no video that can be read", "expected MP4"),
    "noise.mp4": ("no video that can be read", "expected MP4"),
    "empty.mp4": ("is empty (0 bytes)", "expected a video"),
    "no-frames.mp4": ("has no video track (it holds: nothing)",),
    "cut-before-index.mp4": ("has no index (moov)", "Copy it again"),
    "sound.wav": ("has no video track", "expected a video"),
    "no-pictures": ("no pictures",),
    "pipe.mp4": ("is a named pipe, expected a video file",),
    "": ("a video's name is empty",),
    "rtsp//u:hunter2@h/x": ("***@h/x: no such file",),
    "rtsp://127.0.0.1:9/cam": ("is a camera, not a file", "streamwatch watch"),
    "gopher://127.0.0.1/cam": ("gopher:// is not supported", "rtsp"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One scan of everything that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "notes.mp4").write_text("Monday: crane; Tuesday: rain\n" * 200)
    (folder / "noise.mp4").write_bytes(random.Random(0).randbytes(50_000))
    (folder / "empty.mp4").touch()
    (folder / "no-pictures").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    without_frames(folder / "no-frames.mp4")
    cut(write_video(folder / "cut-before-index.mp4", frames=50))
    sound(folder / "sound.wav")
    return run("scan", *VIDEOS, "--network", "lite0", "--out", "out", cwd=folder)


def test_nothing_of_it_is_a_result(refused: Finished) -> None:
    assert refused.code == 3
    assert refused.out == ""
    assert "Traceback" not in refused.err
    assert len(refused.err.splitlines()) == len(VIDEOS), refused.err


@pytest.mark.parametrize("video", VIDEOS)
def test_what_is_no_video_gets_one_message_that_says_why(refused: Finished, video: str) -> None:
    (said,) = [line for line in refused.err.splitlines() if (video.rpartition("@")[2] or "name is empty") in line]
    assert "hunter2" not in said
    assert said.startswith("streamwatch: ")
    for words in VIDEOS[video]:
        assert words in said


def test_a_missing_video_is_named_before_the_network_and_the_others_are_scanned(clip: Path, tmp_path: Path) -> None:
    # Given a clip, a missing one behind it, and what is there but no video
    (tmp_path / "notes.mp4").write_text("Monday: crane")
    arguments = ("scan", "clip.mp4", "missing.mp4", "notes.mp4", "--json")
    finished = run(*arguments, cwd=tmp_path)
    # Then the missing one is the first to be heard of, each failure is said once, and the clip is a result
    assert finished.code == 3
    said = finished.err.splitlines()
    assert said[0] == "streamwatch: missing.mp4: no such file; check the path"
    assert said[1].startswith("network lite0: ")
    assert [finished.err.count(f"streamwatch: {name}") for name in ("missing.mp4", "notes.mp4")] == [1, 1]
    assert [document["video"] for document in finished.documents] == ["clip.mp4"]


def test_where_all_videos_are_missing_no_network_is_chosen_or_loaded(tmp_path: Path) -> None:
    finished = run("scan", "a.mp4", "b/c.mp4", cwd=tmp_path)
    assert finished.code == 3
    assert finished.err == (
        "streamwatch: a.mp4: no such file; check the path\nstreamwatch: b/c.mp4: no such file; check the path\n"
    )


BROKEN = os.fsdecode(b"caf\xe9")
"""A name in Latin-1: no UTF-8."""


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_name_that_is_no_utf8_is_scanned_and_printed(clip: Path, tmp_path: Path, form: list[str]) -> None:
    video = clip.rename(tmp_path / f"{BROKEN}.mp4")
    arguments = ("scan", video.name, "--network", "lite0", "--out", BROKEN, *form)
    # When standard output takes nothing but UTF-8
    finished = run(*arguments, cwd=tmp_path, PYTHONIOENCODING="utf-8:strict")
    # Then the name is shown, the report is named, and JSON gives the very name back
    assert finished.code == 0, finished.err
    assert "report: caf\\udce9/report.html" in (finished.err if form else finished.out)
    if form:
        assert finished.documents[0]["video"] == video.name
        assert finished.out.isascii()
    else:
        assert "caf\\udce9.mp4" in finished.out


def test_the_small_commands_print_names_that_are_no_utf8(tmp_path: Path) -> None:
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    file = tmp_path / f"{BROKEN}.yaml"
    file.write_text(f"data_dir: data\nmetrics: {{listen: null}}\n{SITE.split(maxsplit=2)[2]}")
    # When check-config is content, and when it is not
    assert run("check-config", file.name, cwd=tmp_path, **strict).out.startswith("caf\\udce9.yaml: fine")
    (document,) = run("check-config", "--json", file.name, cwd=tmp_path, **strict).documents
    assert (document["ok"], document["file"]) == (True, file.name)
    file.write_text("cameras: 1")
    (document,) = run("check-config", "--json", file.name, cwd=tmp_path, **strict).documents
    assert document["ok"] is False
    assert file.name in document["error"]


def test_a_photo_under_a_videos_name_is_one_picture_and_too_little_to_judge(tmp_path: Path) -> None:
    # Given a JPEG called .mp4: FFmpeg shows it as a video of one frame
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "photo.mp4", format="JPEG")
    finished = run("scan", "photo.mp4", "--json", "--network", "lite0", cwd=tmp_path)
    # Then it is scanned, and a warning says that nothing could be judged
    assert finished.code == 0, finished.err
    (result,) = finished.documents
    assert (result["samples"], result["events"]) == (1, [])
    assert "1 sample is too few to judge anything" in result["warnings"][0]
    assert "or a longer video" in result["warnings"][0]


@pytest.fixture(scope="module")
def cut_yard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """The yard's clip in four containers, each cut off half-way, scanned at once."""
    folder = tmp_path_factory.mktemp("cut")
    small_yard(folder / "whole.mp4")
    names = ("cut.mp4", "cut.ts", "cut.avi", "cut.mkv")
    for name in names:
        remux(folder / "whole.mp4", folder / name)
        cut(folder / name, share=0.55)
    return folder, run("scan", *names, "--json", "--network", "lite0", "--out", "found", cwd=folder)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.ts", "cut.avi", "cut.mkv"])
def test_a_video_that_is_cut_off_gives_its_events_up_to_there_and_a_warning(
    cut_yard: tuple[Path, Finished], name: str
) -> None:
    # Given a clip of 64 s with events at 26 s and 36 s, and 55 % of its bytes
    _, finished = cut_yard
    assert finished.code == 0, finished.err
    (result,) = [document for document in finished.documents if document["video"] == name]
    # Then the result reaches as far as the pictures do, with the events until then
    assert 28 < result["duration_s"] < 45
    expected = [time_s for time_s in (26.0, 36.0) if time_s <= result["duration_s"]]
    assert [event["time_s"] for event in result["events"]] == pytest.approx(expected, abs=1.1)
    # and the warning says so, in the JSON and on standard error
    assert any("cut off" in warning for warning in result["warnings"]), result["warnings"]
    assert any(name in line and "cut off" in line for line in finished.err.splitlines())


def test_the_report_and_the_table_say_that_a_video_is_cut_off(cut_yard: tuple[Path, Finished]) -> None:
    folder, _ = cut_yard
    assert (folder / "found" / "report.html").read_text().count("cut off") >= 4
    finished = run("scan", "cut.mp4", "--network", "lite0", cwd=folder)
    assert finished.code == 0
    assert "Warning: cut off: 64.0 s were announced, only" in finished.out


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", frames=10, fps=1.0, gop=1)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--network", "vgg61"], 4, ("vgg61", "did you mean 'vgg1", "lite0")),
        (["--network", "lite0", "--layer", "fc7"], 4, ("fc7", "blocks.4.2")),
        (["--network", "vgg16", "--weights", "imagenet1k_features", "--layer", "fc7"], 4, ("fc7", "classifier")),
        (["--network", "vgg16", "--weights", "imagenet2k"], 4, ("imagenet2k", "imagenet1k_v1")),
        (["--network", "vgg16", "--weights", "missing.pth"], 4, ("missing.pth", "check the path")),
        (["--device", "gpu"], 2, ("gpu", "cuda")),
        (["--every", "0"], 2, ("--every", "10ms to 24h")),
        (["--every", "abc"], 2, ("--every", "abc", "2s")),
        (["--every=-1s"], 2, ("--every", "-1s")),
        (["--threshold=-1"], 2, ("--threshold", "above 0")),
        (["--threshold", "nan"], 2, ("--threshold", "above 0")),
        (["--camera", "gate"], 2, ("--camera", "--config")),
        (["--config", "missing.yaml"], 2, ("missing.yaml",)),
        (["--out", "clip.mp4/found"], 5, ("clip.mp4/found", "choose another folder")),
        (["--out", "/proc/found"], 5, ("/proc/found", "choose another folder")),
        (["--csv", "clip.mp4/events.csv"], 5, ("there is no folder clip.mp4", "choose another")),
        (["--csv", "not/there/events.csv"], 5, ("there is no folder not/there", "make it")),
        (["--csv", "."], 5, ("--csv", "is a folder", "expected the name of a file")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_met_are_refused(
    clip: Path, tmp_path: Path, options: list[str], code: int, words: tuple[str, ...]
) -> None:
    said = complaint(run("scan", clip, *options, cwd=tmp_path), code=code)
    assert "\n" not in said
    for word in words:
        assert word in said
    # and there is nothing half-written
    assert not list(tmp_path.glob("**/*.part"))
    assert not list(tmp_path.glob("**/report.html"))
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("arguments", [["scan"], ["scan", "clip.mp4", "--threshold", "much"], ["guard"], []])
def test_arguments_that_do_not_parse_are_explained(tmp_path: Path, arguments: list[str]) -> None:
    finished = run(*arguments, cwd=tmp_path)
    # Then argparse's usage and its one error
    assert finished.code == 2
    assert "error: " in finished.err.splitlines()[-1]
    assert "Traceback" not in finished.err


class Intruder:
    """What a pickle can do to who loads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def wrong_hash(folder: Path) -> str:
    save_file({"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)}, folder / "own.safetensors")
    return "own.safetensors#sha256=" + "0" * 64


def wrong_shape(folder: Path) -> str:
    save_file({"features.0.weight": np.zeros((64, 3, 5, 5), np.float32)}, folder / "own.safetensors")
    return "own.safetensors"


def truncated(folder: Path) -> str:
    save_file({"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)}, folder / "own.safetensors")
    cut(folder / "own.safetensors", share=0.7)
    return "own.safetensors"


def with_code(folder: Path) -> str:
    (folder / "own.pth").write_bytes(pickle.dumps({"features.0.weight": Intruder(folder / "it-ran")}))
    return "own.pth"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_hash, ("SHA-256", "0" * 64, "not parsed")),
        (wrong_shape, ("features.0.weight", "64, 3, 3, 3")),
        (truncated, ("own.safetensors", "no whole safetensors file", "bring the file again")),
        (with_code, ("own.pth", "tensors")),
    ],
)
@pytest.mark.parametrize("network", ["vgg16", "auto"])
def test_weights_that_are_not_what_they_should_be_are_refused_and_nothing_in_them_runs(
    clip: Path, tmp_path: Path, make: Any, words: tuple[str, ...], network: str
) -> None:
    weights = make(tmp_path)
    if network == "auto" and make is not with_code:
        words = ("own.safetensors",)
    said = complaint(run("scan", clip, "--network", network, "--weights", weights, cwd=tmp_path), code=4)
    for word in words:
        assert word in said
    assert not (tmp_path / "it-ran").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one page; root alone can make it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_without_room_for_the_pictures_is_named(clip: Path, tmp_path: Path, tiny_disk: Path) -> None:
    # Given a disk on which a picture of a yard finds no room
    (tiny_disk / "other").write_bytes(bytes(4096))
    said = complaint(run("scan", clip, "--network", "lite0", "--out", tiny_disk / "found", cwd=tmp_path), code=5)
    # Then the message names the file and the reason, and no half of it stays
    assert "No space left on device" in said
    assert str(tiny_disk) in said
    assert not [path for path in tiny_disk.glob("**/*") if path.is_file() and path.name != "other"]


SITE = """\
data_dir: data
network: lite0
cameras:
  - name: gate
    url: clip.mp4
"""

CONFIGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a tab": (SITE.replace("    url", "\turl"), ("site.yaml:5:", "tabs", "use spaces")),
    "a typo": (SITE.replace("network", "netwrok"), ("netwrok", "network")),
    "a typo in a camera": (SITE + "    evry: 2s\n", ("evry", "every")),
    "a zone outside the picture": (SITE + "    zones: [[[0, 0], [1.5, 0], [1, 1]]]\n", ("zones", "1.5", "0", "1")),
    "a zone of two points": (
        SITE + "    zones: [[[0, 0], [1, 1]]]\n",
        ("zones", "three or more points", "there are 2"),
    ),
    "two cameras of one name": (SITE + "  - {name: gate, url: other.mp4}\n", ("gate", "name")),
    "no cameras": ("network: lite0\n", ("cameras",)),
    "nothing": ("", ("cameras",)),
    "a list": ("- a\n- b\n", ("got a list", "expected a mapping")),
    "a secret that is not there": (SITE.replace("clip.mp4", "${NOWHERE_SET}"), ("NOWHERE_SET",)),
    "a public address for metrics": (SITE + "metrics: {listen: 0.0.0.0:9108}\n", ("metrics.listen", "loopback")),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("command", ["check-config", "watch"])
def test_configurations_that_cannot_be_used_are_refused(tmp_path: Path, name: str, command: str) -> None:
    text, words = CONFIGS[name]
    file = tmp_path / "site.yaml"
    file.write_text(text)
    arguments = ("watch", "--config", str(file)) if command == "watch" else ("check-config", str(file))
    said = complaint(run(*arguments, cwd=tmp_path), code=2)
    # Then the message names the file, what is wrong and what would be right
    assert str(file) in said
    for word in words:
        assert word in said
    # and the data folder was not even begun
    assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]


def test_check_config_tells_programs_as_json(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE.replace("network", "netwrok"))
    finished = run("check-config", "--json", "site.yaml", cwd=tmp_path)
    assert finished.code == 2
    assert finished.err == ""
    (document,) = finished.documents
    assert (document["ok"], document["file"]) == (False, "site.yaml")
    assert "netwrok" in document["error"]


def watched(tmp_path: Path, **settings: Any) -> Path:
    camera = {"name": "gate", "url": str(write_video(tmp_path / "clip.mp4", frames=5, fps=1.0))}
    document = {"data_dir": "data", "network": "lite0", "metrics": {"listen": None}, "cameras": [camera], **settings}
    file = tmp_path / "site.yaml"
    file.write_text(json.dumps(document))
    return file


def test_a_metrics_port_that_is_taken_is_named_before_the_network_is_loaded(tmp_path: Path) -> None:
    # Given another program on the port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        file = watched(tmp_path, metrics={"listen": address})
        started_s = time.monotonic()
        finished = run("watch", "--config", file, cwd=tmp_path)
        took_s = time.monotonic() - started_s
    # Then the message names it, and nobody waited for a network or its download
    said = complaint(finished, code=5)
    assert address in said
    assert "metrics.listen" in said
    assert "INFO network" not in finished.err
    print(f"refused after {took_s:.1f} s")


def test_a_second_daemon_on_the_same_data_folder_is_refused(tmp_path: Path) -> None:
    # Given a daemon that runs
    camera = {"name": "gate", "url": "rtsp://127.0.0.1:9/gate"}
    with watching(tmp_path, {"cameras": [camera]}) as daemon:
        daemon.wait_until_healthy()
        # When another is started on its folder, with another port
        file = watched(tmp_path, cameras=[camera])
        said = complaint(run("watch", "--config", file, cwd=tmp_path), code=5)
        # Then it is told so, and the first goes on
        assert "in use by another streamwatch" in said
        assert daemon.fetch("/healthz") == (200, "ok\n")
        assert daemon.stop()[0] == 0


def test_watch_of_files_that_are_all_missing_ends_with_their_message(tmp_path: Path) -> None:
    camera = {"name": "gate", "url": "missing.mp4"}
    finished = run("watch", "--config", watched(tmp_path, cameras=[camera]), cwd=tmp_path)
    assert finished.code == 3
    assert "Traceback" not in finished.err
    last = finished.err.splitlines()[-1]
    assert last.startswith("streamwatch: ")
    assert "missing.mp4: no such file; check the path" in last


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"layer": "fc7"}, 4, ("fc7", "blocks.4.2")),
        ({"network": "lite1"}, 4, ("lite1", "lite0")),
        ({"data_dir": "clip.mp4/data"}, 5, ("clip.mp4/data", "choose another folder")),
        ({"events": {"jsonl": "/proc/events.jsonl"}}, 5, ("/proc", "choose another")),
        ({"change": {"method": "paper"}}, 4, ("fc7",)),
        ({"change": {"regions": "frame"}}, 2, ("change.threshold",)),
    ],
    ids=str,
)
def test_watch_refuses_what_it_cannot_do_from_the_start(
    tmp_path: Path, settings: dict[str, Any], code: int, words: tuple[str, ...]
) -> None:
    said = complaint(run("watch", "--config", watched(tmp_path, **settings), cwd=tmp_path), code=code)
    for word in words:
        assert word in said


def test_a_reader_of_the_output_that_goes_away_is_no_error(clip: Path, tmp_path: Path) -> None:
    # When it is run as `streamwatch scan clip.mp4 --json | true`
    script = '"$0" -m streamwatch scan clip.mp4 --json | true'
    command = ["bash", "-c", script, sys.executable]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    # Then Python complains of no broken pipe
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def without_frames(path: Path) -> None:
    """An MP4 whose header promises a video track, and that holds no frame of it."""
    whole = write_video(path.with_name("whole.mp4"), frames=3)
    with av.open(str(whole)) as container, av.open(str(path), "w") as output:
        output.add_stream_from_template(container.streams.video[0])
        output.start_encoding()


def sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def remux(clip: Path, path: Path) -> None:
    """The same pictures in another container; AVI gets them encoded anew, as it does not take H.264 from MP4."""
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(clip)) as container, av.open(str(path), "w", options=options) as output:
        track = container.streams.video[0]
        if path.suffix == ".avi":
            encoder = output.add_stream("mpeg4", rate=5, width=track.width, height=track.height, bit_rate=2_000_000)
            for frame in container.decode(track):
                output.mux(encoder.encode(frame))
            output.mux(encoder.encode(None))
            return
        stream = output.add_stream_from_template(track)
        for packet in container.demux(track):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device that is always full")
def test_a_watch_to_the_end_whose_events_nobody_took_does_not_end_well(tmp_path: Path) -> None:
    # Given a yard with new states, and a standard output that is always full
    clip = tmp_path / "yard.mp4"
    small_yard(clip)
    config = tmp_path / "site.yaml"
    config.write_text(
        "data_dir: data\nnetwork: lite0\nevents: {jsonl: '-'}\nmetrics: {listen: null}\n"
        f"cameras: [{{name: yard, url: {clip}, every: 1s}}]\n"
    )
    # When it is watched to its end
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streamwatch", "watch", "--stop-at-end", "--config", str(config)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=240,
        )
    # Then the exit code and the last line say that an event was not written
    assert done.returncode == 5, done.stderr
    assert "could not be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
