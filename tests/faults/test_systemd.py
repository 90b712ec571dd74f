"""The shipped unit under a real systemd: ready, reloaded, killed by the watchdog, remembering, stopped.

systemd runs as process 1 in namespaces of its own, over a throw-away overlay: this machine's is not touched.
Needs root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.running import free_port, wait_for
from tests.shared_data import shared

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "systemd/streamwatch.service"
LIFETIME_S = 400
"""After this the sandbox is killed, whatever a test does."""

WATCHDOG_S = 6


def write_still(path: Path, *, seconds: int) -> None:
    """A file in which nothing happens, two frames a second."""
    pixels = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 192, 128, "yuv420p", 2
        for number in range(2 * seconds):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 2)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


class Sandbox:
    """A systemd that has nothing to run but our unit."""

    def __init__(self, folder: Path, *cameras: dict[str, Any]) -> None:
        self.etc, self.out, units = folder / "etc", folder / "out", folder / "units"
        for each in (self.etc, self.out, units):
            each.mkdir()
        self.port = free_port()
        write_still(self.etc / "still.mp4", seconds=LIFETIME_S)
        self.write(*cameras)
        (units / UNIT.name).write_text(self._unit(), encoding="utf-8")
        target = "[Unit]\nDescription=Only our service\nDefaultDependencies=no\nWants=streamwatch.service\n"
        (units / "sandbox.target").write_text(target, encoding="utf-8")
        script = shared("tools/systemd_sandbox.sh")
        binds = [f"{self.etc}:/etc/streamwatch", f"{ROOT}:/opt/streamwatch/source", *self._python_binds()]
        self._console = (folder / "console.log").open("w+b")
        command = ["bash", str(script), str(units), str(self.out), str(LIFETIME_S), *binds]
        self._process = subprocess.Popen(command, stdout=self._console, stderr=self._console)
        self._systemd: int = wait_for(self._find_systemd, "systemd as process 1 of its namespace")

    def write(self, *cameras: dict[str, Any], **more: Any) -> None:
        """The service's configuration."""
        listen = f"127.0.0.1:{self.port}"
        document = {
            "data_dir": "/var/lib/streamwatch",
            "network": "lite0",
            "metrics": {"listen": listen},
            "change": {"announce_first": True},
            "cameras": list(cameras),
            **more,
        }
        (self.etc / "site.yaml").write_text(json.dumps(document), encoding="utf-8")

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the inner systemd."""
        enter = ["nsenter", "-t", str(self._systemd), "-m", "-p", "-C", "-u", "-i"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=120, check=False)

    def show(self, *names: str) -> dict[str, str]:
        """Properties of the unit."""
        said = self.inside("systemctl", "show", UNIT.name, "-p", ",".join(names)).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def wait_for_state(self, **wanted: str) -> dict[str, str]:
        """Wait until the unit's properties are so."""

        def reached() -> dict[str, str] | None:
            properties = self.show("MainPID", *wanted)
            return properties if properties.items() >= wanted.items() else None

        try:
            found: dict[str, str] = wait_for(reached, f"{wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.show(*wanted)}\n{self.log}") from None
        return found

    @property
    def log(self) -> str:
        """What the service said."""
        path = self.out / "streamwatch.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """The whole lines of events.jsonl."""
        # With DynamicUser, /var/lib/streamwatch is a link to here.
        path = Path(f"/proc/{self._systemd}/root/var/lib/private/streamwatch/events.jsonl")
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def close(self) -> None:
        """End everything in it."""
        if self._process.poll() is None:
            # The death of its process 1 ends a namespace's other processes too.
            os.kill(self._systemd, signal.SIGKILL)
            self._process.wait(timeout=30)
        self._console.close()

    def _find_systemd(self) -> int | None:
        assert self._process.poll() is None, f"the sandbox ended: {self._said()}"
        pid: int | None = self._process.pid
        while pid is not None:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = int(children[0]) if children else None
        return None

    def _said(self) -> str:
        self._console.seek(0)
        return self._console.read().decode(errors="replace")[-3000:]

    @staticmethod
    def _python_binds() -> list[str]:
        packages = f"{sysconfig.get_path('platlib')}:/opt/streamwatch/packages"
        # ProtectHome hides a Python of the user's own.
        return [packages] if sys.base_prefix == "/usr" else [packages, f"{sys.base_prefix}:/opt/streamwatch/python"]

    @staticmethod
    def _unit() -> str:
        """As shipped, but for where Python lies, how patient the watchdog is, and where the log goes."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        prefix = "/usr" if sys.base_prefix == "/usr" else "/opt/streamwatch/python"
        text = UNIT.read_text(encoding="utf-8")
        for pattern, replacement in (
            ("/opt/streamwatch/venv/bin/streamwatch ", f"{prefix}/bin/{version} -m streamwatch "),
            ("WatchdogSec=30", f"WatchdogSec={WATCHDOG_S}"),
            ("RestartSec=5", "RestartSec=1"),
            ("TimeoutStopSec=10", "TimeoutStopSec=6"),
            ("[Unit]\n", "[Unit]\nDefaultDependencies=no\n"),
            (
                "[Service]\n",
                "[Service]\nStandardOutput=append:/out/streamwatch.log\nStandardError=append:/out/streamwatch.log\n"
                "Environment=PYTHONPATH=/opt/streamwatch/source:/opt/streamwatch/packages PYTHONDONTWRITEBYTECODE=1 "
                f"LD_LIBRARY_PATH={prefix}/lib\n",
            ),
        ):
            assert pattern in text, f"the unit has no {pattern!r}"
            text = text.replace(pattern, replacement)
        return text


CAMERA = {"name": "gate", "url": "/etc/streamwatch/still.mp4", "realtime": True, "every": "500ms"}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    if os.geteuid() != 0:
        pytest.skip("only root can run a systemd of its own")
    for program in ("systemctl", "nsenter", "unshare", "setsid"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine")
    probe = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("namespaces with mounts of their own are not allowed here")
    box = Sandbox(tmp_path, CAMERA)
    try:
        yield box
    finally:
        box.close()


def test_the_unit_starts_is_reloaded_and_stops_cleanly(sandbox: Sandbox) -> None:
    # When systemd starts the unit
    started = sandbox.wait_for_state(ActiveState="active", SubState="running")
    # Then the daemon told that it was ready, as a user without rights
    assert sandbox.show("StatusText")["StatusText"] == "watching 1 cameras"
    status = Path(f"/proc/{sandbox_pid(sandbox, started)}/status").read_text()
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\b", status, re.MULTILINE)
    wait_for(lambda: "gate: pictures of" in sandbox.log, "the camera's first picture")
    # When another camera is added and systemctl reloads
    sandbox.write(CAMERA, {**CAMERA, "name": "yard"})
    reloaded = sandbox.inside("systemctl", "reload", UNIT.name)
    # Then it is taken, by the same process, which is ready again
    assert reloaded.returncode == 0, reloaded.stderr + sandbox.log
    wait_for(lambda: "configuration taken: new: yard" in sandbox.log, "the new camera")
    wait_for(lambda: sandbox.show("StatusText")["StatusText"] == "watching 2 cameras", "the status")
    after = sandbox.wait_for_state(ActiveState="active", SubState="running", NRestarts="0")
    assert after["MainPID"] == started["MainPID"]
    # When the file has a mistake
    sandbox.write(CAMERA, colour="blue")
    refused = sandbox.inside("systemctl", "reload", UNIT.name)
    # Then systemctl says so, and the daemon runs on as it was
    assert refused.returncode != 0
    wait_for(lambda: "not taken, and all goes on as before" in sandbox.log, "the refusal")
    assert "colour" in sandbox.log
    after = sandbox.wait_for_state(ActiveState="active", SubState="running", NRestarts="0")
    assert after["MainPID"] == started["MainPID"]
    # When it is stopped
    stopped = sandbox.inside("systemctl", "stop", UNIT.name)
    # Then it ends by itself, without an error
    assert stopped.returncode == 0, stopped.stderr
    ended = sandbox.wait_for_state(ActiveState="inactive", Result="success")
    assert sandbox.show("ExecMainStatus", "ExecMainCode") == {"ExecMainStatus": "0", "ExecMainCode": "1"}, ended
    assert "Traceback" not in sandbox.log


def test_the_watchdog_replaces_a_daemon_that_hangs_and_the_new_one_remembers(sandbox: Sandbox) -> None:
    # Given a daemon that has announced its camera's first state
    started = sandbox.wait_for_state(ActiveState="active", SubState="running")
    wait_for(lambda: len(sandbox.events()) == 1, "the first state's event")
    # When it hangs
    assert sandbox.inside("kill", "-STOP", started["MainPID"]).returncode == 0
    # Then systemd kills it and starts another
    after = sandbox.wait_for_state(NRestarts="1", ActiveState="active", SubState="running")
    assert after["MainPID"] != started["MainPID"]
    # which remembers the state, and does not announce it again
    wait_for(lambda: "gate: remembers 1 states" in sandbox.log, "the memory")
    wait_for(lambda: sandbox.log.count("gate: pictures of") == 2, "the camera's first picture")
    sandbox.inside("systemctl", "stop", UNIT.name)
    sandbox.wait_for_state(ActiveState="inactive")
    assert len(sandbox.events()) == 1


def sandbox_pid(sandbox: Sandbox, properties: dict[str, str]) -> int:
    """The daemon's process id out here."""
    inner = properties["MainPID"]
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            found = re.search(r"^NSpid:\s+\d+\s+(\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        same = found and found[1] == inner
        if same and os.readlink(path.parent / "ns/pid") == os.readlink(f"/proc/{sandbox._systemd}/ns/pid"):
            return int(path.parent.name)
    raise AssertionError(f"there is no process {inner} in the sandbox")
