"""Cameras that have given no picture for too long: told once, and once when they are back."""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import pairwise

import pytest

from streamwatch.clock import ManualClock
from streamwatch.daemon.offline import OfflineWatch
from streamwatch.metrics import Metrics
from streamwatch.records import CameraEvent


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


# --- What somebody hears


def heard(bench: Bench) -> list[tuple[float, bool]]:
    """(when, whether offline) of all that is told from now on; the bench tells as it goes."""
    told: list[tuple[float, bool]] = []
    check = bench.watch.check

    def listening(last_picture_s: float | None) -> CameraEvent | None:
        said = check(last_picture_s)
        if said is not None:
            told.append((bench.clock.elapsed_s, said.kind == "camera_offline"))
        return said

    bench.watch.check = listening  # type: ignore[method-assign]
    return told


def test_an_outage_and_its_end_are_told_with_their_times() -> None:
    # Given a camera whose last picture came at 1000 s
    bench = Bench()
    bench.picture()
    # When it is silent for two minutes and comes back
    told = [bench.watch.check(bench.last_picture_s)]
    for _ in range(120):
        bench.clock.elapsed_s += 1
        told.append(bench.watch.check(bench.last_picture_s))
    bench.last_picture_s = bench.clock.elapsed_s
    told.append(bench.watch.check(bench.last_picture_s))
    # Then two things were told, when they were due, with when they began
    gone, back = (each for each in told if each is not None)
    assert told.index(gone) == 30
    assert (gone.kind, gone.at, gone.lasted_s) == ("camera_offline", bench.clock.now() - timedelta(seconds=120), 30)
    assert (back.kind, back.at, back.lasted_s) == ("camera_online", bench.clock.now(), 120)
    # and the second says that it ends the first
    assert (gone.ends, back.ends) == (None, gone.id)


def test_short_outages_are_heard_of_by_nobody() -> None:
    bench = Bench()
    told = heard(bench)
    for _ in range(100):
        bench.picture()
        bench.silent(29)
    assert told == []


@pytest.mark.parametrize("up_s", [0, 1, 7, 31])
def test_a_flapping_camera_is_told_about_once_a_minute_at_most(up_s: int) -> None:
    # Given a camera that is always gone just long enough to be offline, and then back for a moment
    bench = Bench()
    told = heard(bench)
    for _ in range(200):
        bench.picture()
        for _ in range(up_s):
            bench.clock.elapsed_s += 1
            bench.picture()
        bench.silent(31)
    # When two hours have passed, then there is a minute at least between what is told, and it alternates
    times = [at for at, _ in told]
    assert len(told) >= 2
    assert min(later - earlier for earlier, later in pairwise(times)) >= 60
    assert [offline for _, offline in told] == [number % 2 == 0 for number in range(len(told))]


def test_what_was_left_out_is_made_up_for_if_it_still_holds() -> None:
    # Given a camera that was offline, and came back 10 s after that was told
    bench = Bench()
    told = heard(bench)
    bench.picture()
    bench.silent(40)
    assert told == [(1030, True)]
    # When it stays
    for _ in range(100):
        bench.clock.elapsed_s += 1
        bench.picture()
    # Then that is told once the minute is over
    assert told == [(1030, True), (1090, False)]


def test_what_was_left_out_and_holds_no_more_is_never_told() -> None:
    # Given a camera that was told to be offline, came back for 5 s, and is gone again
    bench = Bench()
    told = heard(bench)
    bench.picture()
    bench.silent(35)
    for _ in range(5):
        bench.clock.elapsed_s += 1
        bench.picture()
    bench.silent(300)
    # Then nothing has changed for those who heard of it
    assert told == [(1030, True)]


def test_the_wall_clock_changes_neither_when_something_is_told_nor_how_long_it_was() -> None:
    bench = Bench()
    told = heard(bench)
    bench.picture()
    for step_s in (3600.0, -3600.0, 0.0):
        bench.clock.wall_step_s = step_s
        bench.silent(5)
    assert told == []
    bench.clock.wall_step_s = -3600.0
    bench.silent(15)
    assert told == [(1030, True)]


def test_a_camera_that_is_opened_anew_with_other_settings_still_ends_what_was_told() -> None:
    # Given a camera that was told to be offline
    bench = Bench()
    bench.picture()
    bench.silent(29)
    bench.clock.elapsed_s += 1
    gone = bench.watch.check(bench.last_picture_s)
    assert gone is not None
    # When another watch takes over, with other limits, and its camera comes back
    again = Bench(offline_after_s=300.0)
    again.clock.elapsed_s = bench.clock.elapsed_s + 100
    again.watch.take_over(bench.watch)
    assert again.gauge == 1
    again.last_picture_s = again.clock.elapsed_s
    back = again.watch.check(again.last_picture_s)
    # Then its end is that of what was told
    assert back is not None
    assert (back.kind, back.ends, back.lasted_s) == ("camera_online", gone.id, 130)
