"""A camera's reader: opening again, giving up, stopping, counting."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from streamwatch.clock import ManualClock
from streamwatch.daemon.reader import Backoff, Reader
from streamwatch.daemon.slots import Slots
from streamwatch.errors import MissingLibrary, SourceLost, SourceUnauthorized, SourceUnusable
from streamwatch.metrics import Metrics
from streamwatch.records import RGB, Frame
from streamwatch.sources import Source
from streamwatch.sources.scripted import ScriptedSource
from tests.builders import StuckSource, eventually, frame, picture

PIXELS = picture(width=8, height=8)


class NoWaiting(random.Random):
    """Chance that makes every wait as short as it can be."""

    def random(self) -> float:
        return -1.0


class Bench:
    """A reader with its surroundings."""

    def __init__(
        self, open_source: Callable[[], Source], *, live: bool, every_s: float = 1.0, impatient: bool = True
    ) -> None:
        self.slots, self.metrics, self.clock = Slots(file_bound=1000), Metrics(), ManualClock()
        self.slots.add("yard", live=live)
        self.metrics.add_camera("yard")
        self.reader = Reader(
            "yard",
            open_source=open_source,
            every_s=every_s,
            slots=self.slots,
            metrics=self.metrics,
            clock=self.clock,
            fit="squash",
            size_px=224,
            backoff=Backoff(randomness=NoWaiting() if impatient else random.Random(1)),
        )

    def count(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name, {"camera": "yard"})
        assert value is not None
        return value

    @contextmanager
    def running(self) -> Iterator[Bench]:
        self.reader.start()
        try:
            yield self
        finally:
            self.slots.close()
            self.reader.stop()
            assert self.reader.join(timeout_s=5)


def frames(count: int, *, every_s: float = 0.5) -> list[Frame | Exception]:
    return [frame(PIXELS, number * every_s) for number in range(count)]


class Opener:
    """Opens one source after another, the last of them for ever."""

    def __init__(self, *scripts: list[Frame | Exception], live: bool = True) -> None:
        self._scripts, self._live = scripts, live
        self.opened: list[ScriptedSource] = []

    def __call__(self) -> Source:
        script = self._scripts[min(len(self.opened), len(self._scripts) - 1)]
        self.opened.append(ScriptedSource(script, live=self._live))
        return self.opened[-1]


# --- Waiting


def test_waits_double_from_half_a_second_to_half_a_minute_and_start_over() -> None:
    # Given no chance
    class Longest(random.Random):
        def random(self) -> float:
            return 1.0

    backoff = Backoff(randomness=Longest())
    # When ten waits are asked for, then they double up to 30 s
    assert [backoff.next_s() for _ in range(10)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_chance_takes_up_to_half_of_a_wait_so_that_cameras_do_not_come_back_all_at_once() -> None:
    waits = []
    for seed in range(200):
        backoff = Backoff(randomness=random.Random(seed))
        for _ in range(9):
            backoff.next_s()
        waits.append(backoff.next_s())
    assert 15 <= min(waits) < 17
    assert 28 < max(waits) <= 30


# --- Files


def test_a_file_is_read_once_and_sampled() -> None:
    # Given a file with a frame every half second, of which one a second is wanted
    opener = Opener(frames(21), live=False)
    bench = Bench(opener, live=False)
    # When it is read
    with bench.running():
        assert bench.reader.finished.wait(5)
        taken = bench.slots.take(100, timeout_s=0)
    # Then its samples are there, it was opened once and closed, and all was counted
    assert [each.pts_s for _, each, _ in taken] == list(range(11))
    assert {epoch for _, _, epoch in taken} == {1}
    assert len(opener.opened) == 1
    assert opener.opened[0]._closed.is_set()
    assert bench.reader.failure is None
    assert bench.count("streamwatch_frames_total") == 21
    assert bench.count("streamwatch_samples_total") == 11
    assert bench.count("streamwatch_dropped_total") == 0
    assert bench.count("streamwatch_camera_losses_total") == 0
    assert bench.count("streamwatch_camera_up") == 0


def test_a_file_that_cannot_be_read_is_not_tried_again() -> None:
    # Given a file that is no video
    opener = Opener([SourceUnusable("notes.txt is no video")], live=False)
    bench = Bench(opener, live=False)
    # When it is read
    with bench.running():
        assert bench.reader.finished.wait(5)
    # Then the reader ends with the reason
    assert len(opener.opened) == 1
    assert str(bench.reader.failure) == "notes.txt is no video"


def test_a_file_that_breaks_half_way_keeps_the_samples_before() -> None:
    opener = Opener([*frames(5), SourceUnusable("clip.mp4 is damaged")], live=False)
    bench = Bench(opener, live=False)
    with bench.running():
        assert bench.reader.finished.wait(5)
        assert len(bench.slots.take(100, timeout_s=0)) == 3
    assert str(bench.reader.failure) == "clip.mp4 is damaged"


# --- Cameras


def test_a_camera_that_is_lost_is_opened_again_under_a_new_epoch() -> None:
    # Given a camera that drops its stream twice: once with an error, once by just ending
    opener = Opener([*frames(3), SourceLost("cam: connection reset")], frames(3), frames(3))
    bench = Bench(opener, live=False)  # a file's slot, so that nothing is dropped
    # When it runs
    with bench.running():
        assert eventually(lambda: len(opener.opened) >= 3)
        taken = bench.slots.take(6, timeout_s=5)
    # Then its samples go on, and each opening has an epoch of its own
    assert [epoch for _, _, epoch in taken][:4] == [1, 1, 2, 2]
    assert bench.count("streamwatch_camera_losses_total") >= 2
    assert all(source._closed.is_set() for source in opener.opened)


def test_a_camera_that_refuses_the_password_is_tried_for_ever_and_complains_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a camera that refuses the password six times, until somebody mends it
    caplog.set_level(logging.INFO)
    refused: list[Frame | Exception] = [SourceUnauthorized("cam refused the user name or password")]
    opener = Opener(*[refused] * 6, frames(2))
    bench = Bench(opener, live=True)
    # When it runs
    with bench.running():
        assert eventually(lambda: bench.count("streamwatch_samples_total") > 0)
    # Then it was said once, and each time was counted
    warnings = [record for record in caplog.records if "refused" in record.message]
    assert len(warnings) == 1
    assert warnings[0].levelno == logging.WARNING
    assert bench.count("streamwatch_camera_losses_total") >= 6


def test_another_complaint_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    opener = Opener(
        [SourceLost("cam: no route")], [SourceLost("cam: no route")], [SourceLost("cam: silent")], [SourceLost("late")]
    )
    with Bench(opener, live=True).running():
        assert eventually(lambda: len(opener.opened) >= 5)
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ["yard: cam: no route", "yard: cam: silent", "yard: late"]


def test_a_flapping_camera_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    # Given a camera that gives a picture and hangs up, a hundred times within a minute
    caplog.set_level(logging.INFO)
    opener = Opener([*frames(1), SourceLost("cam: reset")])
    bench = Bench(opener, live=True)
    with bench.running():
        assert eventually(lambda: len(opener.opened) >= 100)
        # Then that was said once, and that it was back
        assert caplog.messages == ["yard: pictures of 8×8", "yard: cam: reset", "yard: pictures of 8×8"]
        # And a minute later once more
        bench.clock.elapsed_s += 61
        so_far = len(opener.opened)
        assert eventually(lambda: len(opener.opened) >= so_far + 10)
    assert caplog.messages.count("yard: cam: reset") == 2


def test_a_camera_is_up_while_it_gives_pictures_only() -> None:
    # Given a camera that gives a picture and then hangs
    stuck = StuckSource([frame(PIXELS, 0)])
    bench = Bench(lambda: stuck, live=True)
    with bench.running():
        # When its picture is there, then it is up and nothing is wrong
        assert eventually(lambda: bench.count("streamwatch_camera_up") == 1)
        assert bench.reader.failure is None
        # And when the stream ends, it is not
        stuck.let_go.set()
        assert eventually(lambda: bench.count("streamwatch_camera_losses_total") >= 1)
    assert bench.count("streamwatch_camera_up") == 0


def test_a_fast_camera_drops_what_the_network_has_no_time_for_and_counts_it() -> None:
    stuck = StuckSource([frame(PIXELS, number) for number in range(50)])
    bench = Bench(lambda: stuck, live=True)
    with bench.running():
        assert eventually(lambda: bench.count("streamwatch_samples_total") == 50)
        assert eventually(lambda: bench.count("streamwatch_dropped_total") == 49)
        ((_, newest, _),) = bench.slots.take(8, timeout_s=0)
        assert newest.pts_s == 49
        stuck.let_go.set()


def test_a_source_that_cannot_even_be_made_is_tried_again() -> None:
    # Given an opener that fails at first
    opened: list[int] = []

    def open_source() -> Source:
        opened.append(1)
        if len(opened) < 3:
            raise SourceLost("the name cannot be resolved")
        return StuckSource([frame(PIXELS, 0)])

    bench = Bench(open_source, live=True)
    bench.reader.start()
    # Then it is tried until it works
    assert eventually(lambda: bench.count("streamwatch_samples_total") == 1)
    source = bench.reader._source
    assert isinstance(source, StuckSource)
    bench.reader.stop()
    source.let_go.set()
    assert bench.reader.join(timeout_s=5)


# --- Stopping


def test_stop_ends_a_long_wait_at_once() -> None:
    # Given a camera that is down, whose reader waits
    opener = Opener([SourceLost("cam: no route")])
    bench = Bench(opener, live=True, impatient=False)
    bench.reader.start()
    assert eventually(lambda: len(opener.opened) >= 2)
    # When it is stopped, then it ends before its wait does
    started_s = time.monotonic()
    bench.reader.stop()
    assert bench.reader.join(timeout_s=5)
    assert time.monotonic() - started_s < 0.4
    assert bench.reader.finished.is_set()


def test_stop_ends_a_camera_that_gives_pictures_for_ever() -> None:
    # Given an endless camera
    def endless() -> Iterator[Frame]:
        number = 0
        while True:
            yield frame(PIXELS, number * 0.01)
            number += 1

    bench = Bench(lambda: ScriptedSource(endless(), live=True), live=True)
    bench.reader.start()
    assert eventually(lambda: bench.count("streamwatch_frames_total") > 10)
    # When it is stopped, twice, then it ends, and that is no loss
    bench.reader.stop()
    bench.reader.stop()
    assert bench.reader.join(timeout_s=5)
    assert bench.count("streamwatch_camera_losses_total") == 0


def test_a_reader_that_hangs_in_the_network_is_not_waited_for() -> None:
    stuck = StuckSource()
    bench = Bench(lambda: stuck, live=True)
    bench.reader.start()
    assert eventually(lambda: bench.reader._source is stuck)
    bench.reader.stop()
    assert not bench.reader.join(timeout_s=0.1)
    stuck.let_go.set()
    assert bench.reader.join(timeout_s=5)


def test_a_stop_that_comes_while_the_source_is_being_made_closes_it() -> None:
    # Given an opener that takes a while
    making, made = threading.Event(), threading.Event()
    source = ScriptedSource(frames(5), live=True)

    def open_source() -> Source:
        making.set()
        made.wait(5)
        return source

    bench = Bench(open_source, live=True)
    bench.reader.start()
    assert making.wait(5)
    # When the reader is stopped meanwhile, then the source is never read
    bench.reader.stop()
    made.set()
    assert bench.reader.join(timeout_s=5)
    assert bench.count("streamwatch_frames_total") == 0
    assert source._closed.is_set()


# --- Other failures


def test_what_the_machine_lacks_ends_the_reader_with_its_message(caplog: pytest.LogCaptureFixture) -> None:
    # Given a machine without a library that every opening would miss
    opener = Opener([MissingLibrary("OpenCV needs libGL.so.1")])
    bench = Bench(opener, live=True)
    with bench.running():
        assert bench.reader.finished.wait(5)
    # Then the message is passed on, without a traceback, and nobody tries again
    assert "OpenCV needs libGL.so.1" in str(bench.reader.failure)
    assert len(opener.opened) == 1
    assert [record.exc_info for record in caplog.records if record.levelno >= logging.ERROR] == [None]


@pytest.mark.parametrize("kind", [ZeroDivisionError, MemoryError])
def test_a_live_camera_outlives_any_error_with_one_traceback_a_kind(
    caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    # Given a camera with which something unforeseen goes wrong four times, twice before its first picture
    caplog.set_level(logging.INFO)
    opener = Opener([kind("1")], [kind("2")], [*frames(1), kind("3")], [*frames(1), kind("4")], frames(1))
    bench = Bench(opener, live=True)
    # When it runs
    with bench.running():
        assert eventually(lambda: bench.count("streamwatch_samples_total") >= 3)
        assert not bench.reader.finished.is_set()
    # Then its pictures come again, each time was counted, and the details were told once
    assert bench.count("streamwatch_camera_losses_total") >= 4
    assert [bool(record.exc_info) for record in caplog.records if record.levelno == logging.ERROR] == [True]
    assert f"yard: {kind.__name__} while reading" in caplog.text


def test_a_picture_that_cannot_be_converted_costs_a_live_camera_nothing_but_a_reconnect() -> None:
    # Given a camera whose first picture fails when it is resized for the network
    class Broken:
        width, height = 8, 8

        def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
            raise ValueError("swscale fails")

    opener = Opener([Frame(pts_s=0.0, captured_at=None, picture=Broken())], frames(1))
    bench = Bench(opener, live=True)
    # When it runs, then its next pictures are taken
    with bench.running():
        assert eventually(lambda: bench.slots.take(1, timeout_s=0.1))


def test_a_bug_in_reading_a_file_is_logged_and_ends_this_reader_only(caplog: pytest.LogCaptureFixture) -> None:
    opener = Opener([ZeroDivisionError("a bug")], live=False)
    bench = Bench(opener, live=False)
    with bench.running():
        assert bench.reader.finished.wait(5)
    assert isinstance(bench.reader.failure, SourceUnusable)
    assert len(opener.opened) == 1
    assert any(record.exc_info for record in caplog.records)


def test_a_cameras_time_goes_on_over_its_reconnects() -> None:
    # Given a camera whose stream was open at 0 s and again at 100 s, each time counting from 0
    clock = ManualClock()
    reader = Reader(
        "gate",
        open_source=lambda: ScriptedSource([], live=True),
        every_s=1.0,
        slots=Slots(),
        metrics=Metrics(),
        clock=clock,
        fit="squash",
        size_px=224,
    )
    first = frame(picture(), 0.0)
    assert reader._since_first_s(first) == 0.0

    # When it comes back
    clock.elapsed_s = 100.0

    # Then its frames are 100 s later than they say, and a cooldown cannot be got round by flapping
    assert reader._since_first_s(first) == 100.0
