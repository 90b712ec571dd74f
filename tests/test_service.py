"""The whole daemon over scripted cameras: what is written, what a restart knows, how it stops, what failures cost."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamwatch.assembly import new_memory
from streamwatch.change.decision import Judgement
from streamwatch.config import CameraConfig, Config
from streamwatch.daemon.cameras import Camera
from streamwatch.daemon.service import Service
from streamwatch.daemon.systemd import Notifier
from streamwatch.embedding import Embedder
from streamwatch.errors import (
    OutputError,
    PortUnavailable,
    SourceError,
    SourceLost,
    SourceUnusable,
    UsageError,
)
from streamwatch.events.sinks.jsonl import JsonLinesSink
from streamwatch.events.store import FolderStore
from streamwatch.imaging import load_picture
from streamwatch.pipeline import Raised
from streamwatch.records import RGB, Frame
from streamwatch.sources import Source
from streamwatch.sources.scripted import ScriptedSource
from tests.builders import BLUE, IDENTITY, RED, ColourEmbedder, StuckSource, eventually, frame, picture

YARD = picture()
TRUCK = picture((RED, 48, 96))
BOTH = picture((RED, 48, 96), (BLUE, 144, 32))
DAY = [YARD] * 10 + [TRUCK] * 10 + [YARD] * 10 + [BOTH] * 10

Open = Callable[[], Source]


def file(*pixels: RGB) -> Open:
    return lambda: ScriptedSource.of_arrays(pixels, every_s=1.0)


class Daemon:
    """A service over named sources; each is a file unless its name begins with `live`."""

    def __init__(
        self, folder: Path, sources: Mapping[str, Open], *, embedder: Embedder | None = None, **keys: Any
    ) -> None:
        self.folder = folder
        cameras = [
            {"name": name, "url": f"rtsp://{name}.test/" if name.startswith("live") else f"/{name}.mp4", "every": "1s"}
            for name in sources
        ]
        self.config = Config.model_validate(
            {
                "data_dir": str(folder),
                "cameras": cameras,
                "change": {"threshold": 0.5},
                "metrics": {"listen": None},
                **keys,
            }
        )
        self.store = FolderStore(folder)
        self.embedder = embedder or ColourEmbedder()

        def open_camera(camera: CameraConfig) -> Source:
            return sources[camera.name]()

        self.judged: list[tuple[str, float]] = []
        self.saved_states: list[int] = []
        """How many states a restart would have known, after each sample."""

        def observe(camera: str, frame: Frame, judgement: Judgement, raised: Raised | None) -> None:
            self.judged.append((camera, frame.pts_s))
            identity = self.embedder.identity
            memory = new_memory(self.config.change, identity)
            self.store.load_memory(camera, memory, identity=identity)
            self.saved_states.append(len(memory))

        self.service = Service(
            self.config,
            embedder=self.embedder,
            store=self.store,
            sinks=[JsonLinesSink(folder / "events.jsonl")],
            notifier=Notifier({}),
            observers=[observe],
            opener=open_camera,
        )

    def run(self) -> list[dict[str, Any]]:
        """Runs until every file has ended."""
        self.service.run(stop_at_end=True)
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]

    def camera(self, name: str) -> Camera:
        camera = self.service.cameras.get(name)
        assert camera is not None
        return camera

    def value(self, name: str, camera: str) -> float | None:
        return self.service.metrics.registry.get_sample_value(name, {"camera": camera})


def seen(events: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Camera and time of each event."""
    return [(event["subject"], event["data"]["time_s"]) for event in events]


# --- From frames to events


def test_two_files_are_watched_to_their_end_and_their_events_written_with_pictures(tmp_path: Path) -> None:
    # Given a yard where a truck comes, goes and comes back with something blue, and one where nothing happens
    daemon = Daemon(tmp_path, {"yard": file(*DAY), "gate": file(*[YARD] * 25)})
    # When both have ended
    events = daemon.run()
    # Then the truck and the blue thing are announced, each once, as confirmed by six samples
    assert seen(events) == [("yard", 15.0), ("yard", 35.0)]
    for event in events:
        assert event["type"] == "streamwatch.label_needed"
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
        assert event["data"]["network"] == "lite0"
    # And the pictures show what was there and what is there
    first, second = events
    assert load_picture(first["data"]["before"]).rgb()[120, 72].tolist() == pytest.approx([128] * 3, abs=10)
    assert load_picture(first["data"]["after"]).rgb()[120, 72].tolist() == pytest.approx(RED, abs=12)
    assert load_picture(second["data"]["after"]).rgb()[56, 168].tolist() == pytest.approx(BLUE, abs=12)
    # And every sample was judged, in order, and counted
    assert [at for camera, at in daemon.judged if camera == "yard"] == list(range(40))
    assert [at for camera, at in daemon.judged if camera == "gate"] == list(range(25))
    assert daemon.value("streamwatch_embedded_total", "yard") == 40
    assert daemon.value("streamwatch_events_total", "yard") == 2
    assert daemon.value("streamwatch_events_total", "gate") == 0
    assert daemon.value("streamwatch_remembered_states", "yard") == 3


def test_a_restart_raises_nothing_that_was_raised_before_and_what_is_new_it_does(tmp_path: Path) -> None:
    # Given a day that was watched
    Daemon(tmp_path, {"yard": file(*DAY)}).run()
    before = (tmp_path / "events.jsonl").read_text()
    # When the daemon is started again on the same day, then nothing is added
    again = Daemon(tmp_path, {"yard": file(*DAY)})
    again.run()
    assert (tmp_path / "events.jsonl").read_text() == before
    assert again.value("streamwatch_remembered_states", "yard") == 3
    # And when something new comes after that, it is
    events = Daemon(tmp_path, {"yard": file(*DAY, *[picture((RED, 150, 150))] * 10)}).run()
    assert len(events) == 3


def test_each_state_is_saved_with_the_sample_that_made_it(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"yard": file(*DAY)})
    daemon.run()
    assert daemon.saved_states == [0] * 5 + [1] * 10 + [2] * 20 + [3] * 5


def test_samples_before_and_after_a_lost_stream_do_not_confirm_each_other(tmp_path: Path) -> None:
    # Given a stream that is lost when a truck was seen five times, and goes on with five more
    parts: list[list[Frame | Exception]] = [
        [*(frame(YARD, n) for n in range(10)), *(frame(TRUCK, n) for n in range(10, 15)), SourceLost("reset")],
        [frame(TRUCK, n) for n in range(15, 20)],
    ]
    openings = iter([ScriptedSource(parts[0], live=True), ScriptedSource(parts[1])])
    daemon = Daemon(tmp_path, {"yard": lambda: next(openings)})
    # When all was judged, then there was no event
    assert daemon.run() == []
    assert len(daemon.judged) == 20


def test_the_ends_of_files_wait_for_a_slow_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a network that needs longer for its last batches than stopping would wait
    monkeypatch.setattr("streamwatch.daemon.service._STOP_WORKER_S", 0.05)
    daemon = Daemon(tmp_path, {"yard": file(*DAY)}, embedder=ColourEmbedder(takes_s=0.5))
    # When the file ends, then every sample is judged all the same
    assert len(daemon.run()) == 2
    assert len(daemon.judged) == 40


def test_the_papers_way_runs_through_the_same_daemon(tmp_path: Path) -> None:
    # Given recent frames instead of states, and one sample to confirm
    daemon = Daemon(
        tmp_path,
        {"yard": file(*DAY)},
        change={"threshold": 0.5, "remember": "recent", "recent": 4, "confirm": 1},
    )
    # When the day has passed, then each change is announced at once, the returns too, and no memory is kept
    assert seen(daemon.run()) == [("yard", 10.0), ("yard", 20.0), ("yard", 30.0)]
    assert list((tmp_path / "memory").iterdir()) == []


# --- Stopping


def running(daemon: Daemon) -> threading.Thread:
    thread = threading.Thread(target=daemon.service.run)
    thread.start()
    return thread


def test_stop_ends_the_daemon_within_two_seconds_though_a_camera_hangs_and_saves_what_it_knows(tmp_path: Path) -> None:
    # Given a camera that gave its pictures and then hangs, and one that never answered
    hanging, silent = StuckSource([frame(YARD, 0)]), StuckSource()
    daemon = Daemon(
        tmp_path, {"live1": lambda: hanging, "live2": lambda: silent}, change={"threshold": 0.5, "confirm": 1}
    )
    thread = running(daemon)
    assert eventually(lambda: len(daemon.judged) == 1)
    # When it is stopped
    started_s = time.monotonic()
    daemon.service.stop()
    thread.join(10)
    # Then it ends in time, and the memory is there
    assert not thread.is_alive()
    assert time.monotonic() - started_s < 2
    assert (tmp_path / "memory" / "live1.npz").exists()
    hanging.let_go.set()
    silent.let_go.set()


class ClosingSink:
    """Remembers what was written after it was closed."""

    def __init__(self) -> None:
        self.closed, self.too_late = False, 0

    def write(self, document: dict[str, Any]) -> None:
        self.too_late += self.closed

    def close(self) -> None:
        self.closed = True


def test_a_network_that_outlives_the_stop_judges_nothing_more_and_the_stop_takes_less_than_five_seconds(
    tmp_path: Path,
) -> None:
    # Given a network that hangs with the sample that would be an event
    class Hanging(ColourEmbedder):
        busy, let_go = threading.Event(), threading.Event()

        def embed(self, pictures: Any) -> NDArray[np.float32]:
            self.busy.set()
            self.let_go.wait(30)
            return super().embed(pictures)

    hanging, camera, sink = Hanging(), StuckSource([frame(YARD, 0)]), ClosingSink()
    change = {"threshold": 0.5, "confirm": 1, "announce_first": True}
    daemon = Daemon(tmp_path, {"live1": lambda: camera}, embedder=hanging, change=change)
    daemon.service._sinks = daemon.service._judge._sinks = [sink]
    thread = running(daemon)
    assert hanging.busy.wait(5)
    # When the daemon is stopped, then it ends in time
    started_s = time.monotonic()
    daemon.service.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - started_s < 4.5
    # And when the network comes back after all, then its sample is not judged, nothing written to a closed sink
    hanging.let_go.set()
    assert daemon.service._worker.join(timeout_s=5)
    assert (daemon.judged, sink.closed, sink.too_late) == ([], True, 0)
    camera.let_go.set()


def test_a_stop_does_not_wait_for_what_files_have_left(tmp_path: Path) -> None:
    # Given a file of which much waits for a slow network
    class OneByOne(ColourEmbedder):
        batch_size = 1

    daemon = Daemon(tmp_path, {"yard": file(*DAY)}, embedder=OneByOne(takes_s=0.2))
    thread = running(daemon)
    assert eventually(lambda: len(daemon.judged) >= 1)
    # When the daemon is stopped, then at most the batch at hand and one that was just begun are still judged
    daemon.service.stop()
    judged = len(daemon.judged)
    thread.join(10)
    assert not thread.is_alive()
    assert len(daemon.judged) - judged <= 2


def test_ready_means_that_a_camera_gives_pictures_and_else_tells_which_are_down(tmp_path: Path) -> None:
    # Given two cameras that are silent
    gate, yard = StuckSource(), StuckSource([frame(YARD, 0)])
    late = threading.Event()

    def open_yard() -> Source:
        late.wait(30)
        return yard

    daemon = Daemon(tmp_path, {"live1": lambda: gate, "live2": open_yard})
    thread = running(daemon)
    # Then the daemon is healthy, but not ready
    assert daemon.service._unready() == "no camera gives pictures; down: live1, live2"
    assert daemon.service._unhealthy() is None
    # And when one of them comes, it is
    late.set()
    assert eventually(lambda: daemon.service._unready() is None)
    # And when it stops, it is not
    daemon.service.stop()
    assert daemon.service._unready() == "stopping"
    gate.let_go.set()
    yard.let_go.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_daemon_whose_files_have_all_ended_is_ready_and_a_silent_camera_is_told_to_be_offline(tmp_path: Path) -> None:
    # Given one daemon with a file that has ended, and one with a camera that is silent for longer than it may be
    silent = StuckSource()
    ended, waiting = Daemon(tmp_path / "a", {"yard": file(YARD)}), Daemon(tmp_path / "b", {"live1": lambda: silent})
    waiting.service._config.cameras[0].__dict__["offline_after"] = 0.1
    waiting.service._config.cameras[0].__dict__["every"] = 0.05
    threads = [running(ended), running(waiting)]
    # Then the first is ready
    assert eventually(lambda: ended.camera("yard").reader.finished.is_set())
    assert ended.service._unready() is None
    # And the second reports its camera
    assert eventually(lambda: waiting.value("streamwatch_camera_offline", "live1") == 1)
    # by an event too, once
    assert eventually(lambda: waiting.events())
    assert [(event["type"], event["subject"]) for event in waiting.events()] == [
        ("streamwatch.camera_offline", "live1")
    ]
    for daemon in (ended, waiting):
        daemon.service.stop()
    silent.let_go.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_stop_before_run_ends_it_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"live1": StuckSource})
    daemon.service.stop()
    started_s = time.monotonic()
    daemon.service.run()
    assert time.monotonic() - started_s < 3


# --- Failures


def unusable() -> Source:
    return ScriptedSource([SourceUnusable("broken.mp4 is no video that can be read")])


def test_a_camera_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    # Given a broken file, a camera with a bug in it, and a yard
    def bug() -> Source:
        return ScriptedSource([frame(YARD, 0), ZeroDivisionError("a bug")])

    daemon = Daemon(tmp_path, {"broken": unusable, "buggy": bug, "yard": file(*DAY)})
    # When all have ended, then the failure is reported, and the yard's events are there
    with pytest.raises(SourceError):
        daemon.run()
    assert seen(daemon.events()) == [("yard", 15.0), ("yard", 35.0)]


@pytest.mark.parametrize("stop_at_end", [True, False])
def test_a_daemon_with_nothing_left_to_watch_ends_with_the_reason(tmp_path: Path, stop_at_end: bool) -> None:
    daemon = Daemon(tmp_path, {"a": unusable, "b": unusable})
    with pytest.raises(SourceUnusable, match=r"broken\.mp4 is no video"):
        daemon.service.run(stop_at_end=stop_at_end)


def test_an_event_that_the_sink_refuses_comes_again_once_it_takes_events(tmp_path: Path) -> None:
    # Given a sink that refuses three times
    class Refusing:
        def __init__(self) -> None:
            self.refused = 0
            self.ids: set[str] = set()
            self.taken: list[dict[str, Any]] = []

        def write(self, document: dict[str, Any]) -> None:
            if self.refused < 3:
                self.refused += 1
                self.ids.add(document["id"])
                raise OutputError("the disk is full")
            self.taken.append(document)

        def close(self) -> None:
            return

    daemon = Daemon(tmp_path, {"yard": file(*DAY)})
    sink = Refusing()
    daemon.service._sinks = daemon.service._judge._sinks = [sink]
    # When the day has passed
    daemon.service.run(stop_at_end=True)
    # Then the truck is announced three samples late, once, and nothing else is lost
    assert seen(sink.taken) == [("yard", 18.0), ("yard", 35.0)]
    assert daemon.value("streamwatch_event_failures_total", "yard") == 3
    # under the id of the first try, so that a receiver can drop a repeat, and with no more pictures than states
    assert sink.ids == {sink.taken[0]["id"]}
    assert len(list((tmp_path / "pictures" / "yard").iterdir())) == 3
    assert daemon.value("streamwatch_events_total", "yard") == 2


class BrokenEmbedder(ColourEmbedder):
    """Runs out of memory."""

    def embed(self, pictures: Any) -> NDArray[np.float32]:
        raise MemoryError("no room for a batch")


def test_a_network_that_fails_stops_the_daemon_with_its_error(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"yard": file(*DAY)}, embedder=BrokenEmbedder())
    with pytest.raises(MemoryError):
        daemon.service.run()
    assert daemon.service._unhealthy() == "the worker failed: MemoryError"


def test_vectors_without_a_threshold_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no threshold is shipped"):
        Daemon(
            tmp_path,
            {"yard": file(*DAY)},
            embedder=ColourEmbedder(replace(IDENTITY, unit_length=False)),
            change={},
        )


def test_a_port_in_use_is_told_before_anything_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        daemon = Daemon(tmp_path, {"yard": file(*DAY)}, metrics={"listen": f"127.0.0.1:{port}"})
        with pytest.raises(PortUnavailable, match=str(port)):
            daemon.run()
    assert daemon.judged == []


def test_a_camera_whose_zones_are_all_masked_is_told_of_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given two cameras, one of which watches a corner that it also masks
    corner = [[0, 0], [0.3, 0], [0.3, 0.3], [0, 0.3]]
    cameras = [
        {"name": "a", "url": "/a.mp4", "zones": [corner], "masks": [corner]},
        {"name": "b", "url": "/b.mp4", "zones": [corner]},
    ]
    # When the daemon is made, then its log names the one
    Daemon(tmp_path, {"a": file(), "b": file()}, cameras=cameras)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].startswith("a: masks")
    assert "no event can come" in warned[0]
