"""One camera that flaps among many steady ones: what the others, the machine and whoever reads events feel of it."""

from __future__ import annotations

import gc
import json
import os
import random
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from streamwatch.config import Config
from streamwatch.daemon.reader import Backoff
from streamwatch.daemon.service import Service
from streamwatch.daemon.systemd import Notifier
from streamwatch.events.sinks.jsonl import JsonLinesSink
from streamwatch.events.store import FolderStore
from tests.builders import ColourEmbedder
from tests.fake_camera import FakeCamera
from tests.running import wait_for

pytestmark = pytest.mark.faults


def census() -> dict[str, int]:
    """What this process holds."""
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(os.listdir("/proc/self/task")),
        "processes": sum(_parent(pid) == os.getpid() for pid in os.listdir("/proc") if pid.isdecimal()),
    }


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("flaps", "steady"),
    [
        pytest.param(300, 9, marks=pytest.mark.timeout(400)),
        pytest.param(10_000, 99, marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
def test_a_flapping_camera_leaks_nothing_and_is_told_about_once_a_minute(
    tmp_path: Path, flaps: int, steady: int
) -> None:
    # Given steady cameras, one that hangs up after two pictures each time, and one that hangs up without any
    with FakeCamera("good", fps=2.0) as server:
        server.behave("flap:2", camera="flapping")
        server.behave("refuse", camera="refusing")
        names = [f"steady{number}" for number in range(steady)]
        cameras = [
            {"name": name, "url": server.url("mjpeg", camera=name), "every": "1s", "offline_after": "1s"}
            for name in [*names, "flapping", "refusing"]
        ]
        config = Config.model_validate(
            {
                "data_dir": str(tmp_path),
                "metrics": {"listen": None},
                "change": {"threshold": 100.0},
                "cameras": cameras,
            }
        )
        service = Service(
            config,
            embedder=ColourEmbedder(),
            store=FolderStore(tmp_path),
            sinks=[JsonLinesSink(tmp_path / "events.jsonl")],
            notifier=Notifier({}),
            new_backoff=lambda: Backoff(randomness=random.Random(1), first_s=0.01, longest_s=0.01),
        )

        def value(name: str, camera: str) -> float:
            return service.metrics.registry.get_sample_value(name, {"camera": camera}) or 0.0

        def lost(camera: str) -> float:
            return value("streamwatch_camera_losses_total", camera)

        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            patience_s = 300.0 if flaps < 1000 else 3600.0
            wait_for(lambda: lost("flapping") >= 50 and lost("refusing") >= 50, "the first flaps", timeout_s=patience_s)
            wait_for(lambda: all(value("streamwatch_embedded_total", name) for name in names), "the steady cameras")
            before, embedded = census(), {name: value("streamwatch_embedded_total", name) for name in names}
            losses = {name: lost(name) for name in names}
            started_s, so_far = time.monotonic(), lost("flapping")
            # When it flaps thousands of times
            wait_for(
                lambda: lost("flapping") >= so_far + flaps and lost("refusing") >= flaps, "flaps", timeout_s=patience_s
            )
            after, took_s = census(), time.monotonic() - started_s
            # Then nothing is left behind but what a flap holds while it lasts
            print(f"\n{flaps} flaps among {steady} cameras in {took_s:.0f} s: before {before}, after {after}")
            assert after["threads"] == before["threads"]
            assert after["processes"] == before["processes"]
            assert abs(after["descriptors"] - before["descriptors"]) <= 4
            assert abs(after["tasks"] - before["tasks"]) <= 4
            # and the steady ones went on, over the connections that they had
            for name in names:
                assert lost(name) == losses[name]
            wait_for(
                lambda: all(value("streamwatch_embedded_total", name) > embedded[name] for name in names),
                "the steady cameras",
            )
        finally:
            service.stop()
            thread.join(30)
        assert not thread.is_alive()
    # and no camera was told about more than once a minute, the steady ones never
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    minutes = 1 + (time.monotonic() - started_s) / 60 + 2
    times: dict[str, list[datetime]] = {}
    for event in events:
        times.setdefault(event["subject"], []).append(datetime.fromisoformat(event["time"]))
    assert set(times) <= {"flapping", "refusing"}, times
    assert all(len(each) <= minutes for each in times.values()), times
    # and the one that never gave a picture is known to be offline
    assert [event["type"] for event in events if event["subject"] == "refusing"] == ["streamwatch.camera_offline"]
