"""Cameras that have given no picture for too long: told once, and once when they are back."""

from __future__ import annotations

import logging

import pytest

from streamwatch.clock import ManualClock
from streamwatch.daemon.offline import OfflineWatch
from streamwatch.metrics import Metrics


class Bench:
    """A camera that is looked at every second."""

    def __init__(self, *, offline_after_s: float = 30.0, every_s: float = 1.0) -> None:
        self.clock, self.metrics = ManualClock(), Metrics()
        self.clock.elapsed_s = 1000.0
        self.last_picture_s: float | None = None
        self.watch = OfflineWatch(
            "gate", offline_after_s=offline_after_s, every_s=every_s, clock=self.clock, metrics=self.metrics
        )

    def silent(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.elapsed_s += 1
            self.watch.check(self.last_picture_s)

    def picture(self) -> None:
        self.last_picture_s = self.clock.elapsed_s
        self.watch.check(self.last_picture_s)

    @property
    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("streamwatch_camera_offline", {"camera": "gate"})


def test_a_camera_that_is_silent_for_long_is_told_once_and_once_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a camera that gave a picture at 1000 s
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.picture()
    # When it is silent for less than 30 s, then nothing is said
    bench.silent(29)
    assert (bench.gauge, caplog.messages) == (0, [])
    # And when it stays so, then it is, once, with the time of its last picture
    bench.silent(300)
    assert bench.gauge == 1
    assert caplog.messages == ["gate: camera offline since 2026-01-01T00:16:40+00:00: no picture"]
    assert caplog.records[0].levelno == logging.WARNING
    # And when it is back, that too
    bench.picture()
    bench.silent(20)
    assert bench.gauge == 0
    assert caplog.messages[1:] == ["gate: camera is back after 329 s without a picture"]
    assert caplog.records[1].levelno == logging.INFO


def test_a_camera_that_never_answered_is_offline_since_the_start(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.silent(31)
    assert bench.gauge == 1
    assert "offline since 2026-01-01T00:16:40+00:00" in caplog.text


def test_short_outages_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    for _ in range(20):
        bench.picture()
        bench.silent(25)
    assert (bench.gauge, caplog.messages) == (0, [])


def test_the_wall_clock_makes_no_camera_offline() -> None:
    bench = Bench()
    bench.picture()
    bench.clock.wall_step_s = 86400
    bench.silent(5)
    assert bench.gauge == 0


def test_a_camera_is_not_offline_between_two_of_its_samples() -> None:
    # Given a camera of which a picture every five minutes is wanted, and decoded
    bench = Bench(offline_after_s=30.0, every_s=300.0)
    bench.picture()
    bench.silent(599)
    assert bench.gauge == 0
    bench.silent(1)
    assert bench.gauge == 1
