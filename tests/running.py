"""The real command line in a process of its own, as a user or systemd starts it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamwatch.simulation import LastingObject, Scenario, Stay, Truth, VehiclePass, Walker, YardScene, write_clip

COMMAND = (sys.executable, "-m", "streamwatch")
PATIENCE_S = 90.0
"""How long something may take on a machine that does other work too, before the test gives up."""


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Standard output as one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment, except that caches are empty and nothing is told to systemd."""
    kept = {key: value for key, value in os.environ.items() if key not in {"NOTIFY_SOCKET", "WATCHDOG_USEC"}}
    empty = {"XDG_CACHE_HOME": str(home / "cache"), "TORCH_HOME": str(home / "torch"), "COLUMNS": "300"}
    return {**kept, **empty, **more}


def run(*arguments: str | Path, cwd: Path, timeout_s: float = PATIENCE_S, **env: str) -> Finished:
    """Run `streamwatch ARGUMENTS` in a folder, to its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(cwd, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def complaint(finished: Finished, *, code: int) -> str:
    """The one message with which a command refused its work; fails if it did not refuse just so."""
    assert finished.code == code, f"exit code {finished.code}, expected {code}\n{finished.out}\n{finished.err}"
    assert "Traceback" not in finished.err + finished.out, finished.err
    lines = [line for line in finished.err.splitlines() if line.strip() and not re.match(r"network \w+: ", line)]
    # Under `watch` everything that is logged stands before it.
    said = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d [\d:,]+ INFO ", line)]
    assert [line.startswith("streamwatch: ") for line in said][:1] == [True], finished.err
    assert not [line for line in said[1:] if line.startswith("streamwatch: ")], finished.err
    return "\n".join(said).removeprefix("streamwatch: ")


def wait_for(condition: Callable[[], object], what: str, *, timeout_s: float = PATIENCE_S) -> Any:
    """The condition's first true value."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline_s, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.1)


def free_port() -> int:
    """A port of the loopback address that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """`streamwatch watch` in a process of its own."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *, name: str = "site", **env: str) -> None:
        """Write the configuration (JSON is YAML) and start."""
        self.port = free_port()
        self.folder, self.data = folder, folder / str(config.get("data_dir", "data"))
        self.config = folder / f"{name}.yaml"
        settings = {
            "data_dir": "data",
            "network": "lite0",
            "metrics": {"listen": f"127.0.0.1:{self.port}"},
            **config,
        }
        self.config.write_text(json.dumps(settings))
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "watch", "--config", str(self.config)],
                cwd=folder,
                env=environment(folder, **env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """All that it printed and logged, earlier runs of that name included."""
        return self._log.read_text()

    def fetch(self, path: str, **headers: str) -> tuple[int, str]:
        """(status, body) of its health server; status 0 while it does not answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, camera: str) -> float | None:
        """A camera's number now, or None."""
        found = re.search(rf'^{name}{{camera="{camera}"}} (\S+)$', self.fetch("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else None

    def wait_for_metric(self, name: str, camera: str, *, at_least: float, timeout_s: float = PATIENCE_S) -> float:
        """Wait until a camera's number has come that far."""

        def reached() -> float | None:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            value = self.metric(name, camera)
            return value if value is not None and value >= at_least else None

        return float(wait_for(reached, f"{name} of {camera} ≥ {at_least:g}", timeout_s=timeout_s))

    def wait_until_healthy(self) -> None:
        """Wait for /healthz, whatever the cameras do."""
        wait_for(lambda: self.fetch("/healthz")[0] == 200 or self.process.poll() is not None, "/healthz")
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"

    def wait_until_ready(self) -> None:
        """Wait for /readyz."""
        wait_for(lambda: self.fetch("/readyz")[0] == 200 or self.process.poll() is not None, "/readyz")
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"

    def events(self) -> list[dict[str, Any]]:
        """The whole lines of events.jsonl."""
        try:
            text = (self.data / "events.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_events(self, count: int, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many events are written."""

        def written() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            return len(self.events()) >= count

        wait_for(written, f"{count} events", timeout_s=timeout_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Ask it to stop; (exit code, seconds that it took)."""
        started_s = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE_S)
        return code, time.monotonic() - started_s

    def kill(self) -> None:
        """Let it vanish, as in a power cut."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)


@contextlib.contextmanager
def watching(folder: Path, config: Mapping[str, Any], *, name: str = "site", **env: str) -> Iterator[Daemon]:
    """A daemon that is gone at the end, whatever happens."""
    daemon = Daemon(folder, config, name=name, **env)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


def small_yard(path: Path) -> Truth:
    """Write a clip of 64 s: bricks come to stay, a van comes and goes again, people and a truck pass."""
    bricks = LastingObject(name="bricks", kind="pallet", x_m=1.2, z_m=12.6, scale=1.25, stays=(Stay(arrives_s=16.0),))
    van = LastingObject(name="van", kind="van", x_m=4.6, z_m=18.5, stays=(Stay(arrives_s=31.0, leaves_s=44.0),))
    scenario = Scenario(
        duration_s=64.0,
        lasting=(bricks, van),
        walkers=(
            Walker(starts_s=2.0, z_start_m=16.5, z_end_m=16.0),
            Walker(starts_s=52.0, z_start_m=10.2, z_end_m=10.4, speed_mps=1.7, outfit=2),
        ),
        vehicles=(VehiclePass(starts_s=20.0, kind="truck", z_m=23.5, speed_mps=6.0),),
    )
    return write_clip(path, YardScene(seed=1, width=320, height=180, fps=5.0, scenario=scenario))
