"""A changed configuration while the daemon runs: what goes on, what starts, what stops, and what a bad one costs."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamwatch.clock import SystemClock
from streamwatch.config import CameraConfig, Config, load_config
from streamwatch.daemon.cameras import Camera
from streamwatch.daemon.reload import plan_reload
from streamwatch.daemon.service import Service
from streamwatch.daemon.systemd import Notifier
from streamwatch.errors import ConfigError
from streamwatch.events.sinks.jsonl import JsonLinesSink
from streamwatch.events.store import FolderStore
from streamwatch.records import RGB, Frame
from streamwatch.sources import Source
from streamwatch.sources.base import BaseSource
from tests.builders import RED, ColourEmbedder, StuckSource, eventually, frame, picture

YARD = picture()
TRUCK = picture((RED, 48, 96))


def settings(*cameras: dict[str, Any], **more: Any) -> Config:
    return Config.model_validate(site(*cameras, **more))


def site(*cameras: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"data_dir": "/data", "metrics": {"listen": None}, "cameras": list(cameras), **more}


GATE = {"name": "gate", "url": "rtsp://gate.test/"}
YARD_CAMERA = {"name": "yard", "url": "rtsp://yard.test/"}


# --- The plan


def test_an_unchanged_file_is_nothing_to_do() -> None:
    plan = plan_reload(settings(GATE, YARD_CAMERA), settings(YARD_CAMERA, GATE))
    assert plan.empty
    assert str(plan) == "no camera changes"


def test_cameras_come_go_and_are_opened_anew_where_their_stream_is_another() -> None:
    # Given three cameras
    old = settings(GATE, YARD_CAMERA, {"name": "shed", "url": "rtsp://shed.test/"})
    # When one is gone, one has another address, and one is new
    new = settings(GATE, {**YARD_CAMERA, "url": "rtsp://yard2.test/"}, {"name": "roof", "url": "/dev/video0"})
    plan = plan_reload(old, new)
    # Then the plan names them
    assert plan.stopped == ("yard", "shed")
    assert [camera.name for camera in plan.started] == ["yard", "roof"]
    assert plan.rejudged == ()
    assert str(plan) == "new: roof; gone: shed; opened anew: yard"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("every", "5s"),
        ("decode", "all"),
        ("open_timeout", "9s"),
        ("read_timeout", "9s"),
        ("username", "viewer"),
        ("hwaccel", "vaapi"),
    ],
)
def test_what_its_reader_knows_opens_a_camera_anew(key: str, value: str) -> None:
    plan = plan_reload(settings(GATE, YARD_CAMERA), settings({**GATE, key: value}, YARD_CAMERA))
    assert plan.stopped == ("gate",)
    assert plan.rejudged == ()


@pytest.mark.parametrize(
    "change",
    [
        {"zones": [[[0, 0], [1, 0], [1, 1]]]},
        {"masks": [[[0, 0], [1, 0], [1, 1]]]},
        {"change": {"threshold": 0.7}},
        {"change": {"confirm": 4}},
    ],
)
def test_another_decision_leaves_the_stream_alone(change: dict[str, Any]) -> None:
    plan = plan_reload(settings(GATE, YARD_CAMERA), settings({**GATE, **change}, YARD_CAMERA))
    assert (plan.stopped, plan.started) == ((), ())
    assert [camera.name for camera in plan.rejudged] == ["gate"]


def test_the_sites_threshold_concerns_the_cameras_that_have_none_of_their_own() -> None:
    own = {**GATE, "change": {"threshold": 0.9}}
    plan = plan_reload(settings(own, YARD_CAMERA), settings(own, YARD_CAMERA, change={"threshold": 0.7}))
    assert [camera.name for camera in plan.rejudged] == ["yard"]


def test_a_password_that_moved_into_a_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary\n")
    login = {**GATE, "username": "viewer"}
    plan = plan_reload(
        settings({**login, "password": "canary"}), settings({**login, "password_file": str(tmp_path / "secret")})
    )
    assert plan.empty
    other = plan_reload(settings({**login, "password": "canary"}), settings({**login, "password": "another"}))
    assert other.stopped == ("gate",)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"data_dir": "/elsewhere"}, "data_dir"),
        ({"network": "vgg16"}, "network"),
        ({"device": "cuda"}, "device"),
        ({"fit": "crop"}, "fit"),
        ({"metrics": {"listen": "127.0.0.1:9999"}}, "metrics"),
        ({"events": {"jsonl": "other.jsonl"}}, r"events\.jsonl"),
        ({"change": {"regions": "frame"}}, r"change\.regions"),
        ({"change": {"unit_length": False}}, r"change\.unit_length"),
    ],
)
def test_what_takes_a_restart_is_refused_by_name_even_beside_what_would_not(more: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{named}.* cannot change while the daemon runs.*restart it"):
        plan_reload(settings(GATE), settings(GATE, YARD_CAMERA, **more))


# --- A daemon that runs


class SteadyCamera(BaseSource):
    """A live camera that shows a picture again and again, each with its number as its time."""

    live = True

    def __init__(self, pixels: RGB, *, pause_s: float) -> None:
        super().__init__(clock=SystemClock())
        self.pixels, self._pause_s = pixels, pause_s

    def frames(self) -> Iterator[Frame]:
        number = 0
        while not self._closed.wait(self._pause_s):
            yield frame(self.pixels, float(number))
            number += 1


class Site:
    """A daemon over steady cameras, and its configuration file."""

    def __init__(self, folder: Path, *cameras: dict[str, Any], pause_s: float = 0.02, **more: Any) -> None:
        self.folder, self.file = folder, folder / "site.yaml"
        self.opened: dict[str, list[SteadyCamera]] = {}
        self.judged: dict[str, list[float]] = {}
        self._pause_s = pause_s
        self.shows: dict[str, RGB] = {}
        self.write(*cameras, **more)
        store = FolderStore(folder / "data")
        self.service = Service(
            self.read(),
            embedder=ColourEmbedder(),
            store=store,
            sinks=[JsonLinesSink(folder / "data" / "events.jsonl")],
            notifier=Notifier({}),
            observers=[lambda camera, each, judgement, raised: self._judged(camera, each)],
            opener=self.open,
            read_config=self.read,
        )

    def write(self, *cameras: dict[str, Any], **more: Any) -> None:
        common = {"every": "10ms"}
        document = site(*({**common, **camera} for camera in cameras), **{"change": {"threshold": 0.5}, **more})
        self.file.write_text(json.dumps({**document, "data_dir": "data"}))

    def read(self) -> Config:
        return load_config(self.file, environ={})

    def open(self, camera: CameraConfig) -> Source:
        source = SteadyCamera(self.shows.get(camera.name, YARD), pause_s=self._pause_s)
        self.opened.setdefault(camera.name, []).append(source)
        return source

    def _judged(self, camera: str, each: Frame) -> None:
        self.judged.setdefault(camera, []).append(each.pts_s)

    def camera(self, name: str) -> Camera:
        camera = self.service.cameras.get(name)
        assert camera is not None, f"{name} is not watched"
        return camera

    def count(self, camera: str) -> int:
        return len(self.judged.get(camera, []))

    def value(self, name: str, **labels: str) -> float | None:
        return self.service.metrics.registry.get_sample_value(name, labels)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "data" / "events.jsonl").read_text().splitlines()]

    def reload(self) -> None:
        """Ask, and wait for the answer."""
        before = self.answers()
        self.service.reload()
        assert eventually(lambda: self.answers() == before + 1, timeout_s=30)

    def answers(self) -> float:
        return sum(self.value("streamwatch_config_reloads_total", result=each) or 0 for each in ("taken", "refused"))

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.service.run)
        thread.start()
        try:
            yield
        finally:
            self.service.stop()
            thread.join(20)
            assert not thread.is_alive()

    def wait_until_judged(self, camera: str, more: int) -> None:
        wanted = self.count(camera) + more
        assert eventually(lambda: self.count(camera) >= wanted, timeout_s=60), f"{camera} stands still"


def test_an_untouched_camera_goes_on_while_others_come_and_go(tmp_path: Path) -> None:
    # Given two cameras that are watched
    here = Site(tmp_path, GATE, YARD_CAMERA)
    with here.running():
        here.wait_until_judged("gate", 5)
        here.wait_until_judged("yard", 5)
        reader, epoch = here.camera("gate").reader, here.camera("gate").epoch
        # When one of them is replaced by a third
        here.write(GATE, {"name": "roof", "url": "rtsp://roof.test/"})
        here.reload()
        here.wait_until_judged("roof", 5)
        here.wait_until_judged("gate", 5)
        # Then the untouched one has its reader and its stream still
        assert here.camera("gate").reader is reader
        assert here.camera("gate").epoch == epoch
        assert len(here.opened["gate"]) == 1
        # and lost no sample
        assert here.judged["gate"] == [float(number) for number in range(here.count("gate"))]
        assert here.value("streamwatch_dropped_total", camera="gate") == 0
        # and the other one is gone: no thread, no series
        assert here.service.cameras.get("yard") is None
        assert eventually(lambda: "reader-yard" not in {thread.name for thread in threading.enumerate()})
        exposed = here.service.metrics.exposition().decode()
        assert 'camera="yard"' not in exposed
        assert 'camera="roof"' in exposed
        assert here.value("streamwatch_config_last_reload_successful") == 1


def test_a_changed_address_opens_the_camera_anew_and_keeps_what_it_remembers(tmp_path: Path) -> None:
    # Given a camera that has learned its yard
    here = Site(tmp_path, GATE)
    with here.running():
        here.wait_until_judged("gate", 8)
        old = here.camera("gate").reader
        # When it gets another address
        here.write({**GATE, "url": "rtsp://gate2.test/"})
        here.reload()
        assert eventually(lambda: len(here.opened["gate"]) == 2)
        here.wait_until_judged("gate", 8)
        # Then it has another reader, the old one's stream is closed, and the same yard is no news
        assert here.camera("gate").reader is not old
        assert here.opened["gate"][0]._closed.is_set()
        assert len(here.camera("gate").pipeline.memory) == 1
        assert here.events() == []
    assert old.join(timeout_s=5)


def test_another_threshold_holds_at_once_and_the_memory_stays(tmp_path: Path) -> None:
    # Given a camera whose threshold nothing can pass, in front of which a truck parks
    here = Site(tmp_path, {**GATE, "change": {"threshold": 100}})
    with here.running():
        here.wait_until_judged("gate", 8)
        here.opened["gate"][0].pixels = TRUCK
        here.wait_until_judged("gate", 10)
        assert here.events() == []
        first_state = here.camera("gate").pipeline.memory.states[0].id
        # When the threshold is lowered
        here.write(GATE)
        here.reload()
        # Then the truck is announced against the state from before, over the same stream
        assert eventually(lambda: len(here.events()) == 1, timeout_s=30)
        assert Path(here.events()[0]["data"]["before"]).stem == first_state
        assert len(here.opened["gate"]) == 1
        assert here.judged["gate"] == [float(number) for number in range(here.count("gate"))]


def test_a_zone_that_is_taken_away_silences_its_part_of_the_picture(tmp_path: Path) -> None:
    # Given a camera that judges its whole picture
    here = Site(tmp_path, GATE)
    with here.running():
        here.wait_until_judged("gate", 8)
        # When all but a corner is masked, and a truck comes outside that corner
        here.write({**GATE, "zones": [[[0, 0], [0.15, 0], [0.15, 0.15], [0, 0.15]]]})
        here.reload()
        here.opened["gate"][0].pixels = TRUCK
        here.wait_until_judged("gate", 12)
        # Then it is not announced
        assert here.events() == []
        assert 0 < here.camera("gate").pipeline.watched < 196


def test_a_later_offline_after_holds_without_a_new_reader(tmp_path: Path) -> None:
    here = Site(tmp_path, GATE)
    with here.running():
        here.wait_until_judged("gate", 2)
        here.write({**GATE, "offline_after": "5m"})
        here.reload()
        watch = here.camera("gate").offline
        assert watch is not None
        assert watch._limit_s == 300
        assert len(here.opened["gate"]) == 1


BAD: list[Callable[[Site], None]] = [
    lambda here: here.file.write_text("cameras: ["),
    lambda here: here.file.write_text(""),
    lambda here: here.file.write_bytes(b"\xff\xfe\x00"),
    lambda here: here.file.unlink(missing_ok=True),
    lambda here: here.write(GATE, YARD_CAMERA, colour="blue"),
    lambda here: here.write(GATE, {**YARD_CAMERA, "every": "soon"}),
    lambda here: here.write(GATE, {**GATE, "url": "rtsp://twin.test/"}),
    lambda here: here.write(GATE, {"name": "new", "url": "rtsp://new.test/"}, network="vgg16"),
    lambda here: here.write({"name": "new", "url": "rtsp://new.test/", "password": "${NOT_SET}"}),
    lambda here: here.write({"name": "damaged", "url": "rtsp://new.test/"}),
]
"""Ways in which a file cannot be taken; the last is well-formed, but its camera's memory cannot be read."""


def spoil(here: Site) -> None:
    (here.folder / "data" / "memory" / "damaged.npz").write_bytes(b"no memory")


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_leaves_everything_as_it_was_and_says_why(
    tmp_path: Path, bad: Callable[[Site], None], caplog: pytest.LogCaptureFixture
) -> None:
    # Given a daemon with two cameras
    here = Site(tmp_path, GATE, YARD_CAMERA)
    spoil(here)
    with here.running():
        here.wait_until_judged("gate", 3)
        here.wait_until_judged("yard", 3)
        readers = [camera.reader for camera in here.service.cameras]
        # When a bad file is to be taken
        bad(here)
        caplog.clear()
        here.reload()
        # Then both cameras go on as before
        here.wait_until_judged("gate", 3)
        here.wait_until_judged("yard", 3)
        assert [camera.reader for camera in here.service.cameras] == readers
        assert {name: len(opened) for name, opened in here.opened.items()} == {"gate": 1, "yard": 1}
        # and it is told, by one line without a traceback and by the metrics
        (said,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert "not taken, and all goes on as before" in said.getMessage()
        assert said.exc_info is None
        assert here.value("streamwatch_config_last_reload_successful") == 0
        assert here.value("streamwatch_config_reloads_total", result="refused") == 1
        # and the mended file is taken
        here.write(GATE)
        here.reload()
        assert here.value("streamwatch_config_last_reload_successful") == 1
        assert [camera.name for camera in here.service.cameras] == ["gate"]


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_bad_files_under_load_cost_no_sample(tmp_path: Path, times: int) -> None:
    # Given eight busy cameras
    cameras = [{"name": f"c{number}", "url": f"rtsp://c{number}.test/"} for number in range(8)]
    here = Site(tmp_path, *cameras, pause_s=0.05)
    spoil(here)
    with here.running():
        for camera in cameras:
            here.wait_until_judged(camera["name"], 2)
        readers = [camera.reader for camera in here.service.cameras]
        # When one bad file after another is to be taken
        for number in range(times):
            BAD[number % len(BAD)](here)
            here.reload()
            # Then the old configuration is kept each time
            assert [camera.reader for camera in here.service.cameras] == readers
        assert here.value("streamwatch_config_reloads_total", result="refused") == times
        for camera in cameras:
            here.wait_until_judged(camera["name"], 2)
    # and no sample was lost
    for camera in cameras:
        name = camera["name"]
        sampled = here.value("streamwatch_samples_total", camera=name)
        dropped = here.value("streamwatch_dropped_total", camera=name)
        assert sampled == here.count(name) + (dropped or 0)
        assert len(here.opened[name]) == 1
    print(f"{times} bad reloads: 0 of {sum(map(here.count, here.judged))} samples lost")


def test_a_removed_camera_whose_reader_hangs_does_not_come_back_to_life(tmp_path: Path) -> None:
    # Given a camera that hangs in the network
    here = Site(tmp_path, GATE, YARD_CAMERA)
    stuck = StuckSource([frame(YARD, 0)])
    steady = here.open
    here.service.cameras._opener = lambda camera: stuck if camera.name == "hung" else steady(camera)
    with here.running():
        here.write(GATE, {"name": "hung", "url": "rtsp://hung.test/"})
        here.reload()
        here.wait_until_judged("hung", 1)
        # When it is removed while it hangs, and wakes up later
        here.write(GATE)
        here.reload()
        reader_threads = [thread for thread in threading.enumerate() if thread.name == "reader-hung"]
        assert len(reader_threads) == 1
        stuck.let_go.set()
        reader_threads[0].join(10)
        # Then nothing of it is left
        assert not reader_threads[0].is_alive()
        assert 'camera="hung"' not in here.service.metrics.exposition().decode()
        here.wait_until_judged("gate", 2)


def test_systemd_hears_of_each_reload_whatever_comes_of_it(tmp_path: Path) -> None:
    class Recording(Notifier):
        def __init__(self) -> None:
            super().__init__({})
            self.said: list[str] = []

        def send(self, state: str) -> None:
            self.said.append(state)

    here = Site(tmp_path, GATE)
    notifier = here.service._notifier = Recording()
    with here.running():
        for bad in (False, True):
            (BAD[0] if bad else lambda here: here.write(GATE, YARD_CAMERA))(here)
            here.reload()
            # READY=1 follows the metrics
            assert eventually(lambda: notifier.said[-1].startswith("READY=1") or "WATCHDOG" in notifier.said[-1])
    heard = [state for state in notifier.said if "WATCHDOG" not in state]
    assert [state.split("=")[0] for state in heard] == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
    assert heard[1].split("\n")[1].removeprefix("MONOTONIC_USEC=").isdecimal()
    assert heard[2] == "READY=1\nSTATUS=watching 2 cameras"
    assert heard[4] == "READY=1\nSTATUS=watching 2 cameras"
