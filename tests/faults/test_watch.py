"""`streamwatch watch` with real cameras that refuse, hang, vanish and come back, and with its own sudden death."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamwatch.simulation import LastingObject, Scenario, Stay, YardScene, write_clip
from tests.running import PATIENCE_S, Daemon, free_port, wait_for, watching
from tests.shared_data import shared
from tests.videos import write_video

pytestmark = pytest.mark.faults

STOP_S = 5.0
"""The time in which the daemon promises to stop."""

CANARY = "c4nary@:/?#%25 [ä]&'\""
"""A password with every sign that a URL, a shell or a log could trip over."""


class Simulator:
    """RTSP cameras that play clips for ever. Start and stop it as one would pull a camera's plug."""

    def __init__(self, *clips: tuple[str, Path], port: int | None = None, user: str = "", password: str = "") -> None:
        self._script = shared("tools/rtspsim.py")
        self.port = port or free_port()
        self._login = ["--user", user, "--password", password] if user else []
        self._paths = [f"{name}={path}" for name, path in clips]
        self.process: subprocess.Popen[str] | None = None

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        command = ["/usr/bin/python3", str(self._script), str(self.port), *self._login, *self._paths]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready"), "the camera simulator does not start"

    def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self.process is not None:
            assert self.process.stdout is not None
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


@contextlib.contextmanager
def simulated(*clips: tuple[str, Path], **login: str) -> Iterator[Simulator]:
    simulator = Simulator(*clips, **login)  # type: ignore[arg-type]
    try:
        simulator.start()
        yield simulator
    finally:
        simulator.kill()


@pytest.fixture(scope="module", autouse=True)
def _gstreamer() -> None:
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path("/usr/bin/python3").exists() or subprocess.run(["/usr/bin/python3", "-c", code]).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("GStreamer's RTSP server is missing: .ci/run installs it")
        pytest.skip("GStreamer's RTSP server is not on this machine (Debian: gir1.2-gst-rtsp-server-1.0 python3-gi)")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in which nothing happens, a key frame each half second."""
    return write_video(tmp_path_factory.mktemp("clips") / "still.mp4", frames=20, fps=10.0, gop=5, size=(192, 128))


@pytest.fixture(scope="module")
def skip_comes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A yard without a skip for 13 s, its delivery by crane, and 12 s with it."""
    skip = LastingObject(name="skip", kind="skip", x_m=-2.0, z_m=13.0, stays=(Stay(arrives_s=20.0),), scale=1.3)
    scenario = Scenario(duration_s=32.0, lasting=(skip,))
    path = tmp_path_factory.mktemp("clips") / "skip.mp4"
    write_clip(path, YardScene(seed=2, width=320, height=180, fps=5.0, scenario=scenario), gop_s=1.0)
    return path


def config(*cameras: dict[str, Any], **more: Any) -> dict[str, Any]:
    common = {"every": "500ms", "open_timeout": "3s", "read_timeout": "3s"}
    return {"cameras": [{**common, **camera} for camera in cameras], **more}


def assert_stops(daemon: Daemon, number: signal.Signals = signal.SIGTERM) -> None:
    code, took_s = daemon.stop(number)
    assert code == 0, daemon.log
    assert took_s < STOP_S
    assert "Traceback" not in daemon.log


def test_a_wrong_password_is_reported_the_other_camera_goes_on_and_no_password_is_seen_anywhere(
    tmp_path: Path, still: Path
) -> None:
    # Given two cameras that ask for the same password; it comes from a file, and the other one's is wrong
    wrong = CANARY.swapcase()
    (tmp_path / "right").write_text(CANARY + "\n")
    (tmp_path / "wrong").write_text(wrong + "\n")
    with simulated(("cam", still), user="viewer", password=CANARY) as cameras:
        common = {"url": cameras.url("cam"), "username": "viewer"}
        right = {"name": "right", "password_file": "right", **common}
        settings = config(right, {"name": "wrong", "password_file": "wrong", **common}, change={"announce_first": True})
        with watching(tmp_path, settings) as daemon:
            # When both are watched until the right one has its first state
            daemon.wait_for_metric("streamwatch_embedded_total", "right", at_least=8)
            daemon.wait_for_events(1)
            exposed = daemon.fetch("/metrics")[1] + daemon.fetch("/readyz")[1] + daemon.fetch("/healthz")[1]
            command_line = Path(f"/proc/{daemon.process.pid}/cmdline").read_text()
            environ = Path(f"/proc/{daemon.process.pid}/environ").read_text()
            # Then the metrics and the log tell which one is refused
            assert daemon.metric("streamwatch_camera_up", "right") == 1
            assert daemon.metric("streamwatch_camera_up", "wrong") == 0
            wait_for(lambda: "wrong: rtsp://" in daemon.log, "the refusal in the log")
            assert "refused the user name or password" in daemon.log
            assert "right: rtsp://" not in daemon.log
            assert_stops(daemon)
        # and neither password, in any spelling, is in what others may read
        files = [path for path in daemon.data.glob("**/*") if path.is_file()]
        written = "".join(path.read_bytes().decode("latin-1") for path in files) + "\n".join(map(str, files))
        for secret in ("c4nary", "C4NARY"):
            for place in (daemon.log, exposed, command_line, environ, written):
                assert secret not in place


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.2, 1.0, 2.5])
def test_a_daemon_that_is_still_starting_stops_at_once(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    with watching(tmp_path, config({"name": "gate", "url": "rtsp://127.0.0.1:9/gate"})) as daemon:
        time.sleep(after_s)
        assert_stops(daemon, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_stops_while_a_camera_hangs(tmp_path: Path, still: Path, number: signal.Signals) -> None:
    # Given a camera that gives pictures and then, without a word, no more
    with simulated(("cam", still)) as cameras:
        camera = {"name": "gate", "url": cameras.url("cam"), "read_timeout": "60s", "open_timeout": "60s"}
        with watching(tmp_path, config(camera)) as daemon:
            daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=2)
            cameras.hang()
            time.sleep(1)
            # Then a signal stops it all the same
            assert_stops(daemon, number)


def test_a_black_hole_does_not_hold_up_the_other_camera(tmp_path: Path, still: Path) -> None:
    # Given a camera's address that accepts connections and never answers
    with socket.socket() as hole, simulated(("cam", still)) as cameras:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        black = {"name": "black", "url": f"rtsp://127.0.0.1:{hole.getsockname()[1]}/cam", "open_timeout": "2s"}
        with watching(tmp_path, config(black, {"name": "gate", "url": cameras.url("cam")})) as daemon:
            # Then the other one's samples come while the black one is tried again and again
            daemon.wait_for_metric("streamwatch_camera_losses_total", "black", at_least=2)
            before = daemon.metric("streamwatch_embedded_total", "gate") or 0
            daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=before + 4)
            assert daemon.metric("streamwatch_camera_up", "black") == 0
            assert "sent nothing for 2 s" in daemon.log
            assert daemon.fetch("/readyz") == (200, "ok\n")
            assert_stops(daemon)


def test_a_camera_that_was_rebooted_comes_back_by_itself(tmp_path: Path, still: Path) -> None:
    with (
        simulated(("cam", still)) as cameras,
        watching(tmp_path, config({"name": "gate", "url": cameras.url("cam")})) as daemon,
    ):
        daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=2)
        # When it loses its power
        cameras.kill()
        daemon.wait_for_metric("streamwatch_camera_losses_total", "gate", at_least=2)
        assert daemon.metric("streamwatch_camera_up", "gate") == 0
        before = daemon.metric("streamwatch_embedded_total", "gate") or 0
        # and gets it back
        cameras.start()
        # Then its pictures are judged again
        daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=before + 3)
        assert daemon.metric("streamwatch_camera_up", "gate") == 1
        assert_stops(daemon)


def test_a_camera_that_hangs_is_opened_again(tmp_path: Path, still: Path) -> None:
    with (
        simulated(("cam", still)) as cameras,
        watching(tmp_path, config({"name": "gate", "url": cameras.url("cam")})) as daemon,
    ):
        daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=2)
        cameras.hang()
        # Then its silence is noticed
        daemon.wait_for_metric("streamwatch_camera_losses_total", "gate", at_least=1)
        before = daemon.metric("streamwatch_embedded_total", "gate") or 0
        # and it is watched again once it wakes up
        assert cameras.process is not None
        cameras.process.send_signal(signal.SIGCONT)
        daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=before + 3)
        assert_stops(daemon)


def test_a_killed_daemon_remembers_its_states_and_leaves_whole_lines_only(tmp_path: Path, skip_comes: Path) -> None:
    # Given a camera that shows a yard and then a skip in it, over and over, and a daemon that announces each state
    with simulated(("cam", skip_comes)) as cameras:
        settings = config({"name": "yard", "url": cameras.url("cam")}, change={"announce_first": True})
        with watching(tmp_path, settings) as daemon:
            # When it is killed as soon as its first event is written
            daemon.wait_for_events(1)
            daemon.kill()
        first = daemon.events()
        with watching(tmp_path, settings) as daemon:
            # and once more when the second is, and once in between
            time.sleep(3)
            daemon.kill()
        with watching(tmp_path, settings) as daemon:
            daemon.wait_for_events(2)
            time.sleep(0.5)
            daemon.kill()
        with watching(tmp_path, settings) as daemon:
            # and then runs while the camera goes through both states once more
            daemon.wait_for_metric("streamwatch_embedded_total", "yard", at_least=76, timeout_s=120)
            assert_stops(daemon)
    # Then there is one event for each of the two states, none of them twice, in whole lines
    text = (daemon.data / "events.jsonl").read_text()
    assert text.endswith("\n")
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["id"] for event in events[: len(first)]] == [event["id"] for event in first]
    assert len(events) == len({event["id"] for event in events}) == 2, [event["data"]["time_s"] for event in events]
    # and each one's picture is there
    for event in events:
        assert Path(event["data"]["after"]).is_file()
    assert not list(daemon.data.glob("**/*.part"))


def test_systemd_hears_that_it_is_ready_alive_and_stopping(tmp_path: Path, still: Path) -> None:
    # Given systemd's datagram socket, and a watchdog of 3 s
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, simulated(("cam", still)) as cameras:
        channel.bind(str(address))
        channel.settimeout(PATIENCE_S)
        env = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "3000000"}
        with watching(tmp_path, config({"name": "gate", "url": cameras.url("cam")}), **env) as daemon:
            # Then it says that it is ready first, and from then on that it is alive, in time
            said = [channel.recv(4096).decode()]
            assert said[0].startswith("READY=1\nSTATUS=")
            assert daemon.fetch("/healthz") == (200, "ok\n")
            last_s = time.monotonic()
            for _ in range(3):
                assert channel.recv(4096) == b"WATCHDOG=1"
                assert time.monotonic() - last_s < 3
                last_s = time.monotonic()
            # and that it stops
            assert_stops(daemon)
            channel.settimeout(1)
            rest = [channel.recv(4096)]
            while rest[-1] != b"STOPPING=1":
                rest.append(channel.recv(4096))
            assert set(rest[:-1]) <= {b"WATCHDOG=1"}


def test_health_and_metrics_answer_to_this_machine_only(tmp_path: Path) -> None:
    with watching(tmp_path, config({"name": "gate", "url": "rtsp://127.0.0.1:9/gate"})) as daemon:
        daemon.wait_until_healthy()
        # Given a daemon whose only camera is down: the service itself is well, but of no use yet
        assert daemon.fetch("/healthz") == (200, "ok\n")
        assert daemon.fetch("/readyz") == (503, "no camera gives pictures; down: gate\n")
        assert daemon.metric("streamwatch_camera_up", "gate") == 0
        # Then a page that was led here under another name gets nothing
        assert daemon.fetch("/metrics", Host="evil.example")[0] == 421
        assert daemon.fetch("/config")[0] == 404
        status, metrics = daemon.fetch("/metrics")
        assert status == 200
        assert re.search(r'^streamwatch_network_info{.*network="lite0".*} 1\.0$', metrics, re.MULTILINE)
        assert_stops(daemon)
        assert daemon.fetch("/healthz") == (0, "")


def test_a_full_disk_delays_an_event_and_loses_none(tmp_path: Path, still: Path) -> None:
    # Given a data folder on a disk with no room left for a picture
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        with simulated(("cam", still)) as cameras:
            settings = config(
                {"name": "gate", "url": cameras.url("cam")}, data_dir="disk/data", change={"announce_first": True}
            )
            filler = disk / "other-peoples-files"
            with watching(tmp_path, settings) as daemon:
                daemon.wait_until_ready()
                with contextlib.suppress(OSError), filler.open("wb") as file:
                    while True:
                        file.write(bytes(4096))
                        file.flush()
                # When its first state is to be announced
                daemon.wait_for_metric("streamwatch_event_failures_total", "gate", at_least=1)
                assert daemon.events() == []
                assert "No space left on device" in daemon.log
                # and room is made
                filler.unlink()
                # Then the event comes after all, once, with its picture
                daemon.wait_for_events(1)
                time.sleep(2)
                assert_stops(daemon)
            (event,) = daemon.events()
            assert Path(event["data"]["after"]).is_file()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
