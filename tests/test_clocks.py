"""Durations come from the monotonic clock: what may read the wall clock, and what a step of it does."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import streamwatch
from streamwatch.clock import SystemClock
from streamwatch.config import Config
from streamwatch.daemon.service import Service
from streamwatch.daemon.systemd import Notifier
from streamwatch.events.sinks.jsonl import JsonLinesSink
from streamwatch.events.store import FolderStore
from streamwatch.records import RGB, Frame
from streamwatch.sources import Source
from streamwatch.sources.base import BaseSource
from tests.builders import BLUE, RED, ColourEmbedder, eventually, frame, picture

ROOT = Path(streamwatch.__file__).parent
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}


def modules() -> list[tuple[str, ast.Module]]:
    paths = sorted(ROOT.rglob("*.py"))
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))) for path in paths]


def is_wall_clock(node: ast.AST) -> bool:
    """Whether it is a call that asks the machine for the time of day."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return (name, node.func.attr) in WALL


def is_now(node: ast.AST) -> bool:
    """Whether it is a call of anything's `now`, a clock's too."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "now"


def test_the_wall_clock_is_read_by_the_clock_alone_and_for_the_dates_of_reports() -> None:
    wrong = []
    for name, tree in modules():
        dates = [word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords
                 if word.arg == "generated_at"]  # fmt: skip
        for node in ast.walk(tree):
            if is_wall_clock(node) and name != "clock.py" and node not in dates:
                wrong.append(f"{name}:{getattr(node, 'lineno', 0)}")
    assert not wrong, "take a Clock instead: " + ", ".join(wrong)


def test_no_duration_is_measured_with_the_wall_clock() -> None:
    # A difference of two times of day, or one compared with another; taking a duration off is fine.
    wrong = []
    for name, tree in modules():
        for node in ast.walk(tree):
            subtracts = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
            if subtracts and any(is_now(inner) for inner in ast.walk(node.right)):  # type: ignore[attr-defined]
                wrong.append(f"{name}:{getattr(node, 'lineno', 0)}")
            if isinstance(node, ast.Compare) and any(map(is_now, [node.left, *node.comparators])):
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong, "durations come from Clock.monotonic_s(): " + ", ".join(wrong)


def test_the_rules_would_find_what_they_forbid() -> None:
    calls = ast.parse("time.time(); datetime.now(UTC); datetime.datetime.utcnow(); clock.now()").body
    assert [is_wall_clock(each.value) for each in calls if isinstance(each, ast.Expr)] == [True, True, True, False]


class SteppedClock(SystemClock):
    """The machine's clocks, but somebody sets the wall clock."""

    def __init__(self) -> None:
        self.step_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.step_s)


class Camera(BaseSource):
    """A live camera that stamps its pictures by the wall clock."""

    live = True

    def __init__(self, clock: SteppedClock) -> None:
        super().__init__(clock=clock)
        self.pixels: RGB = picture()
        self.given = 0

    def frames(self) -> Iterator[Frame]:
        started_s = self._clock.monotonic_s()
        while not self._closed.wait(0.02):
            each = frame(self.pixels, self._clock.monotonic_s() - started_s)
            yield replace(each, captured_at=self._clock.now())
            self.given += 1


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_restarts_nothing_and_neither_repeats_nor_loses_an_event(
    tmp_path: Path, step_s: float
) -> None:
    # Given a daemon that has learned a yard, with a cooldown that is never over before the second truck
    clock = SteppedClock()
    camera = Camera(clock)
    opened: list[Source] = []

    def opener(_: object) -> Source:
        opened.append(camera)
        return camera

    config = Config.model_validate(
        {
            "data_dir": str(tmp_path),
            "metrics": {"listen": None},
            "change": {"threshold": 0.5},
            "cameras": [{"name": "gate", "url": "rtsp://gate.test/", "every": "10ms", "offline_after": "5s"}],
        }
    )
    service = Service(
        config,
        embedder=ColourEmbedder(),
        store=FolderStore(tmp_path),
        sinks=[JsonLinesSink(tmp_path / "events.jsonl")],
        notifier=Notifier({}),
        clock=clock,
        opener=opener,
    )

    def value(name: str) -> float | None:
        return service.metrics.registry.get_sample_value(name, {"camera": "gate"})

    def events() -> list[dict[str, str]]:
        return [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]

    def wait_for_pictures(count: int) -> None:
        wanted = camera.given + count
        assert eventually(lambda: camera.given >= wanted, timeout_s=30)

    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        assert eventually(lambda: value("streamwatch_remembered_states") == 1, timeout_s=30)
        # When the wall clock is set while nothing happens
        clock.step_s = step_s
        wait_for_pictures(20)
        # Then nothing is announced
        assert events() == []
        # And when a truck comes, the clock is set back while it is on trial, and a second one comes
        camera.pixels = picture((RED, 48, 96))
        wait_for_pictures(3)
        clock.step_s = 0.0
        assert eventually(lambda: len(events()) == 1, timeout_s=30)
        clock.step_s = step_s
        camera.pixels = picture((RED, 48, 96), (BLUE, 144, 32))
        assert eventually(lambda: len(events()) == 2, timeout_s=30)
        wait_for_pictures(20)
    finally:
        service.stop()
        thread.join(20)
    # Then both were announced once, over the one stream, by a camera that was never lost
    assert [event["type"] for event in events()] == ["streamwatch.label_needed"] * 2
    assert len(opened) == 1
    assert value("streamwatch_camera_losses_total") == 0
    assert value("streamwatch_camera_offline") == 0
    # and their times are the wall clock's
    second = datetime.fromisoformat(events()[1]["time"])
    assert abs((second - datetime.now(UTC)).total_seconds() - step_s) < 60
