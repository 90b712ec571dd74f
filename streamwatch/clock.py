"""The two clocks, passed in wherever time is needed. Durations come from the monotonic one only."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where long-lived work gets its time from."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back, ignores steps of the wall clock."""
        ...

    def now(self) -> datetime:
        """The wall clock, in UTC. For people and records; never for a duration."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved; for tests."""

    def __init__(self, *, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self.elapsed_s = 0.0
        self.wall_step_s = 0.0
        """How far somebody has set the wall clock; the monotonic one does not feel it."""

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._start.timestamp() + self.elapsed_s + self.wall_step_s, UTC)
