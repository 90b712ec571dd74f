"""`streamwatch scan` from end to end, as a user runs it: simulated yards with exact truth, and real clips."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from streamwatch.config import ChangeConfig
from streamwatch.offline.scan import ScanOptions, scan
from streamwatch.records import Box
from streamwatch.simulation import Truth
from tests.builders import ColourEmbedder
from tests.running import COMMAND, PATIENCE_S, Finished, complaint, environment, run, small_yard, wait_for
from tests.shared_data import shared
from tests.videos import write_video

BOTTLE = "data/clips/intel_bottle-detection.mp4"
VGG16_TRUNK = "data/weights/vgg16_conv_oxford_bgr.safetensors"
BOTTLE_EVENTS_S = ((7.1, 11.3), (17.9, 22.0), (32.3, 34.7))
"""Left gone; only right; left and middle. Every other state of the clip was there before."""


@dataclass(frozen=True)
class ScannedYard:
    folder: Path
    truth: Truth
    finished: Finished

    @property
    def result(self) -> dict[str, Any]:
        return self.finished.documents[0]


@pytest.fixture(scope="module")
def yard_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    path = tmp_path_factory.mktemp("yard") / "yard.mp4"
    return path, small_yard(path)


@pytest.fixture(scope="module")
def yard(yard_clip: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> ScannedYard:
    clip, truth = yard_clip
    folder = tmp_path_factory.mktemp("scan")
    finished = run("scan", clip, "--json", "--csv", "events.csv", "--out", "found", cwd=folder)
    assert finished.code == 0, finished.err
    return ScannedYard(folder, truth, finished)


def overlaps(region: dict[str, float], box: Box) -> bool:
    across = min(region["x"] + region["width"], box.x + box.width) - max(region["x"], box.x)
    down = min(region["y"] + region["height"], box.y + box.height) - max(region["y"], box.y)
    return across > 0 and down > 0


def times_of(document: dict[str, Any]) -> list[float]:
    return [event["time_s"] for event in document["events"]]


def assert_one_in_each(times_s: Sequence[float], spans_s: Sequence[tuple[float, float]]) -> None:
    assert len(times_s) == len(spans_s), times_s
    for time_s, (start_s, end_s) in zip(times_s, spans_s, strict=True):
        assert start_s <= time_s <= end_s, times_s


def test_each_new_state_of_a_yard_is_one_event_and_returns_and_passers_are_none(yard: ScannedYard) -> None:
    # Given a clip whose truth is known: two new states; then the van drives off, which brings back the first of them
    expected = yard.truth.expected_events()
    assert len(expected) == 2
    # Then there is one event in the time of each of them, and no other
    assert_one_in_each(times_of(yard.result), [(state.start_s, state.end_s) for state in expected])


def test_an_events_regions_lie_on_what_has_changed(yard: ScannedYard) -> None:
    for event, state in zip(yard.result["events"], yard.truth.expected_events(), strict=True):
        # Given the box of the thing that arrived
        (box,) = yard.truth.changed_boxes(state)
        # Then nearly all regions overlap it: one at its edge may lie beside it
        hits = [overlaps(region, box) for region in event["regions"]]
        assert sum(hits) >= 0.7 * len(hits), event["regions"]
        assert overlaps(event["regions"][0], box), "the most changed one comes first"


def test_json_has_the_documented_keys_and_pictures_that_exist(yard: ScannedYard) -> None:
    result = yard.result
    # Then the object is the one that the documentation promises
    promised = {"video", "duration_s", "samples", "network", "weights_id", "threshold", "events"}
    assert promised <= result.keys()
    assert (result["samples"], result["network"], result["warnings"]) == (64, "lite0", [])
    assert result["duration_s"] == pytest.approx(64.0, abs=0.3)
    assert result["weights_id"].startswith("sha256:")
    for event in result["events"]:
        assert {"time_s", "novelty", "threshold", "regions", "before", "after"} <= event.keys()
        assert event["novelty"] > event["threshold"] == result["threshold"] > 0
        # and its pictures are JPEG files of the clip's size
        for picture in (event["before"], event["after"]):
            assert (yard.folder / picture).read_bytes()[:2] == b"\xff\xd8"


def test_the_network_that_was_chosen_and_the_report_are_named_beside_the_json(yard: ScannedYard) -> None:
    # Then standard output holds JSON alone, and one line of standard error says which network was taken and why
    assert len(yard.finished.out.splitlines()) == 1
    assert yard.finished.err.startswith("network lite0: the embedded network, since VGG16's weights are not")
    assert "report: found/report.html" in yard.finished.err


def test_csv_holds_the_same_events(yard: ScannedYard) -> None:
    with (yard.folder / "events.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time_s"]) for row in rows] == times_of(yard.result)
    assert [row["after"] for row in rows] == [event["after"] for event in yard.result["events"]]
    assert [int(row["regions"]) for row in rows] == [len(event["regions"]) for event in yard.result["events"]]


def test_the_report_stands_alone_and_shows_each_event(yard: ScannedYard) -> None:
    report = (yard.folder / "found" / "report.html").read_text()
    # Then each event's time is in it, and its pictures too: nothing is loaded from elsewhere
    for time_s in times_of(yard.result):
        assert f"0:00:{time_s:04.1f}" in report
    assert report.count("data:image/jpeg;base64,") >= 2 * len(yard.result["events"])
    assert "http://" not in report.replace("http://www.w3.org/", "")
    assert "https://" not in report


def test_times_are_the_videos_own_where_the_frame_rate_varies(tmp_path: Path) -> None:
    # Given 10 frames a second for 8 s, then one frame a second for 12 s
    times_s = [index / 10 for index in range(80)] + [8.0 + index for index in range(12)]
    clip = write_video(tmp_path / "vfr.mkv", frames=len(times_s), times_s=times_s, gop=10)
    # When it is scanned every second, with the first state announced
    config = tmp_path / "scan.yaml"
    camera = {"name": "a", "url": "unused.mp4"}
    config.write_text(json.dumps({"change": {"announce_first": True, "threshold": 3.9}, "cameras": [camera]}))
    finished = run("scan", clip, "--json", "--config", config, "--every", "1s", cwd=tmp_path)
    # Then as many samples were seen as seconds there are, not as many as frames at a guessed rate
    (result,) = finished.documents
    assert result["duration_s"] == pytest.approx(19.5, abs=0.6)
    assert result["samples"] == 20
    # and the first state was complete with the sixth of them
    assert times_of(result) == pytest.approx([5.0], abs=0.15)


def test_one_broken_video_does_not_keep_the_others_from_being_scanned(
    yard_clip: tuple[Path, Truth], tmp_path: Path
) -> None:
    # Given a text file between two good videos
    broken = tmp_path / "notes.mp4"
    broken.write_text("not a video\n" * 100)
    small = write_video(tmp_path / "small.mp4", frames=20, fps=1.0, gop=1)
    # When all three are scanned
    finished = run("scan", yard_clip[0], broken, small, "--json", "--network", "lite0", "--every", "1s", cwd=tmp_path)
    # Then both good ones have their results, and the exit code and one message tell of the broken one
    assert finished.code == 3
    assert [Path(document["video"]).name for document in finished.documents] == ["yard.mp4", "small.mp4"]
    assert [line for line in finished.err.splitlines() if "notes.mp4" in line] == [
        f"streamwatch: {broken} is no video that can be read, expected MP4, MKV, AVI, MPEG-TS or the like"
    ]
    # and the report tells of the good ones
    report = (tmp_path / "streamwatch-scan" / "report.html").read_text()
    assert "yard.mp4" in report
    assert "small.mp4" in report


def test_tables_are_printed_for_people(yard_clip: tuple[Path, Truth], tmp_path: Path) -> None:
    finished = run("scan", yard_clip[0], "--network", "lite0", cwd=tmp_path)
    assert finished.code == 0
    assert "2 events" in finished.out
    assert "state-0003.jpg" in finished.out
    assert finished.out.rstrip().endswith("report: streamwatch-scan/report.html")
    assert finished.err == ""


def test_a_folder_of_pictures_is_scanned_too(yard_clip: tuple[Path, Truth], tmp_path: Path) -> None:
    # Given the yard's clip as one picture a second, each file's time that of its frame
    folder = tmp_path / "pictures"
    folder.mkdir()
    with av.open(str(yard_clip[0])) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 5 == 0:
                path = folder / f"{index:05d}.jpg"
                Image.fromarray(frame.to_ndarray(format="rgb24")).save(path, quality=92)
                os.utime(path, (1_700_000_000 + index / 5,) * 2)
    # When the folder is scanned
    finished = run("scan", folder, "--json", "--network", "lite0", cwd=tmp_path)
    # Then it has the clip's two events
    assert finished.code == 0, finished.err
    assert len(finished.documents[0]["events"]) == 2


def test_ctrl_c_ends_a_scan_with_what_it_has_found(yard_clip: tuple[Path, Truth], tmp_path: Path) -> None:
    # Given a scan of a long film: the yard's clip twenty times in a row, every frame of it looked at
    film = looped(yard_clip[0], tmp_path / "film.mkv", at_least_s=1280.0)
    arguments = ["scan", str(film), "--json", "--network", "lite0", "--every", "0.2s"]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pictures = tmp_path / "streamwatch-scan" / "pictures"
    try:
        wait_for(lambda: list(pictures.glob("film/*.jpg")) or process.poll() is not None, "the first state")
        # When it is interrupted
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    # Then there is a result of the part that was seen, which says so, and no traceback
    assert "Traceback" not in err
    (result,) = [json.loads(line) for line in out.splitlines()]
    assert 0 < result["samples"] < 6000
    assert any("interrupted" in warning for warning in result["warnings"]), result["warnings"]
    assert "interrupted" in (tmp_path / "streamwatch-scan" / "report.html").read_text()
    assert process.returncode == 130


def test_a_video_after_an_interrupted_one_is_not_begun(yard_clip: tuple[Path, Truth], tmp_path: Path) -> None:
    film = looped(yard_clip[0], tmp_path / "film.mkv", at_least_s=1280.0)
    process = subprocess.Popen(
        [*COMMAND, "scan", str(film), str(film), "--json", "--network", "lite0", "--every", "0.2s"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pictures = tmp_path / "streamwatch-scan" / "pictures"
    try:
        wait_for(lambda: list(pictures.glob("1-film/*.jpg")) or process.poll() is not None, "the first state")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    # Then one Ctrl-C is enough
    assert len(out.splitlines()) == 1
    assert not (pictures / "2-film").exists()


def test_progress_hears_the_length_that_the_video_announces_from_the_start(tmp_path: Path) -> None:
    # Given a video of 40 s, more than one batch
    clip = write_video(tmp_path / "clip.mp4", frames=40, fps=1.0, gop=1)
    heard: list[tuple[float, float | None]] = []
    # When it is scanned
    scan(
        str(clip),
        embedder=ColourEmbedder(),
        options=ScanOptions(change=ChangeConfig(), every_s=1.0, pictures=tmp_path / "pictures"),
        progress=lambda pts_s, events, total_s: heard.append((pts_s, total_s)),
    )
    # Then the share that is done grows, rather than being all of it all the time
    assert [round(pts_s) for pts_s, _ in heard] == [7, 15, 23, 31, 39]
    assert [total_s for _, total_s in heard] == pytest.approx([40.0] * 5)


def test_zones_of_a_configured_camera_are_used(yard_clip: tuple[Path, Truth], tmp_path: Path) -> None:
    # Given a camera that looks at the left third only, where nothing ever arrives
    config = tmp_path / "site.yaml"
    zone = [[0.0, 0.0], [0.3, 0.0], [0.3, 1.0], [0.0, 1.0]]
    config.write_text(
        json.dumps({"network": "lite0", "cameras": [{"name": "left", "url": "x.mp4", "every": "1s", "zones": [zone]}]})
    )
    finished = run("scan", yard_clip[0], "--json", "--config", config, "--camera", "left", cwd=tmp_path)
    # Then there are no events
    assert finished.code == 0, finished.err
    assert times_of(finished.documents[0]) == []


def test_the_papers_way_runs_with_a_threshold_and_one_region(yard_clip: tuple[Path, Truth], tmp_path: Path) -> None:
    # Given whole frames, raw vectors, the last sample, recent frames
    config = tmp_path / "paper.yaml"
    change = {"method": "paper"}
    settings = {"network": "lite0", "layer": "blocks.4.2", "change": change}
    config.write_text(json.dumps({**settings, "cameras": [{"name": "a", "url": "x.mp4"}]}))
    # When no threshold is given, Then one is asked for
    said = complaint(run("scan", yard_clip[0], "--config", config, cwd=tmp_path), code=2)
    assert "no threshold is shipped" in said
    assert "--threshold" in said
    # When one is given
    arguments = ("--json", "--config", config, "--threshold", "1e-6", "--every", "4s")
    finished = run("scan", yard_clip[0], *arguments, cwd=tmp_path)
    # Then it runs: at next to no threshold every frame after the first is new, and the whole frame is its region
    assert finished.code == 0, finished.err
    (result,) = finished.documents
    assert len(result["events"]) == result["samples"] - 1
    regions = result["events"][0]["regions"]
    assert [(r["x"], r["y"], r["width"], r["height"]) for r in regions] == [(0, 0, 1, 1)]


def test_bottles_taken_away_and_put_back_are_exactly_three_events(tmp_path: Path) -> None:
    clip = shared(BOTTLE)
    finished = run("scan", clip, "--json", "--network", "lite0", "--every", "0.3s", cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert_one_in_each(times_of(finished.documents[0]), BOTTLE_EVENTS_S)


@pytest.mark.slow
def test_bottles_are_exactly_three_events_with_the_genuine_vgg16_too(tmp_path: Path) -> None:
    clip, weights = shared(BOTTLE), shared(VGG16_TRUNK)
    options = ("--network", "vgg16", "--weights", weights, "--layer", "conv4_3", "--every", "0.3s")
    finished = run("scan", clip, "--json", *options, cwd=tmp_path, timeout_s=280)
    assert finished.code == 0, finished.err
    assert_one_in_each(times_of(finished.documents[0]), BOTTLE_EVENTS_S)


def test_a_change_of_brightness_is_no_event(tmp_path: Path) -> None:
    clip = shared("data/clips/dvrscan_issue53_brightness_change.avi")
    film = looped(clip, tmp_path / "looped.avi", at_least_s=62.0)
    finished = run("scan", film, "--json", "--network", "lite0", cwd=tmp_path)
    assert finished.code == 0, finished.err
    (result,) = finished.documents
    assert result["samples"] >= 60
    assert times_of(result) == []


def test_cars_that_pass_and_darken_the_picture_are_no_event(tmp_path: Path) -> None:
    clip = shared("data/clips/intel_car-detection.mp4")
    finished = run("scan", clip, "--json", "--network", "lite0", "--every", "0.3s", cwd=tmp_path)
    assert finished.code == 0, finished.err
    (result,) = finished.documents
    assert result["samples"] >= 90
    assert times_of(result) == []


def looped(clip: Path, path: Path, *, at_least_s: float) -> Path:
    """The same packets again and again, their times shifted: nothing is encoded anew."""
    with av.open(str(clip)) as container, av.open(str(path), "w") as output:
        track = container.streams.video[0]
        stream = output.add_stream_from_template(track)
        packets = [packet for packet in container.demux(track) if packet.pts is not None and packet.dts is not None]
        assert track.time_base is not None
        assert track.average_rate is not None
        times = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        length = max(pts for pts, _ in times) + round(1 / track.average_rate / track.time_base)
        for round_number in range(1 + int(at_least_s / float(length * track.time_base))):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.pts, packet.dts = pts + round_number * length, dts + round_number * length
                packet.time_base, packet.stream = track.time_base, stream
                output.mux(packet)
    return path


def test_a_scan_whose_zones_are_all_masked_says_so(tmp_path: Path) -> None:
    # Given a corner that is both watched and masked
    corner = ((0.0, 0.0), (0.3, 0.0), (0.3, 0.3), (0.0, 0.3))
    clip = write_video(tmp_path / "clip.mp4", frames=8, fps=1.0, gop=1)
    # When a video is scanned with and without the mask, then only the former warns
    for masks, warnings in (((corner,), 1), ((), 0)):
        options = ScanOptions(
            change=ChangeConfig(), every_s=1.0, pictures=tmp_path / "pictures", zones=(corner,), masks=masks
        )
        result = scan(str(clip), embedder=ColourEmbedder(), options=options)
        assert len([text for text in result.warnings if "leave nothing of the zones" in text]) == warnings
