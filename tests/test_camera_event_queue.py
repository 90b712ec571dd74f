"""Camera events on their way: in order, kept while a sink refuses, bounded."""

from __future__ import annotations

from typing import Any

import pytest

from streamwatch.clock import ManualClock
from streamwatch.daemon.camera_events import CameraEventQueue
from streamwatch.errors import OutputError


class Disk:
    """A sink that is full as long as it is told to be."""

    def __init__(self) -> None:
        self.full, self.tried = False, 0
        self.written: list[str] = []

    def write(self, document: dict[str, Any]) -> None:
        self.tried += 1
        if self.full:
            raise OutputError("no space left on device")
        self.written.append(document["id"])

    def close(self) -> None:
        return


def document(number: int) -> dict[str, Any]:
    return {"id": f"e{number}", "type": "streamwatch.camera_offline", "subject": "gate"}


def test_every_sink_gets_each_one_in_order() -> None:
    first, second, clock = Disk(), Disk(), ManualClock()
    queue = CameraEventQueue([first, second], clock=clock)
    for number in range(3):
        queue.add(document(number))
    queue.flush()
    assert first.written == second.written == ["e0", "e1", "e2"]
    assert len(queue) == 0


def test_what_a_sink_refuses_waits_in_its_order_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    # Given a full disk
    disk, clock = Disk(), ManualClock()
    queue = CameraEventQueue([disk], clock=clock)
    disk.full = True
    queue.add(document(0))
    # When it is tried for ten seconds, ten times a second
    for _ in range(100):
        queue.flush()
        clock.elapsed_s += 0.1
    queue.add(document(1))
    # Then it was tried about once a second, said once
    assert 9 <= disk.tried <= 11
    assert [record.getMessage() for record in caplog.records] == [
        "camera events wait, and are written as soon as that is possible: no space left on device"
    ]
    # And when there is room, both are written in order
    disk.full = False
    clock.elapsed_s += 1
    queue.flush()
    assert disk.written == ["e0", "e1"]


def test_at_the_end_it_is_tried_at_once() -> None:
    disk, clock = Disk(), ManualClock()
    queue = CameraEventQueue([disk], clock=clock)
    disk.full = True
    queue.add(document(0))
    queue.flush()
    disk.full = False
    queue.flush()
    assert disk.written == []
    queue.flush(again=True)
    assert disk.written == ["e0"]


def test_a_thousand_wait_and_then_the_oldest_goes_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    disk, clock = Disk(), ManualClock()
    queue = CameraEventQueue([disk], clock=clock)
    for number in range(1002):
        queue.add(document(number))
    assert len(queue) == 1000
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    queue.flush()
    assert disk.written[0] == "e2"
    assert disk.written[-1] == "e1001"
