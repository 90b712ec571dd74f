"""What all sources share: closing, pacing, and the facts that are known once they were read."""

from __future__ import annotations

import threading

from streamwatch.clock import Clock

_STEP_S = 0.1
"""How soon a sleeping source feels `close`."""


class BaseSource:
    """Facts are empty before `frames` and grow while it runs; whoever reads the frames may read them."""

    live = False

    def __init__(self, *, clock: Clock, realtime: bool = False) -> None:
        self._clock = clock
        self._realtime = realtime
        self._closed = threading.Event()
        self._started_s: float | None = None
        self._notes: list[str] = []
        self.duration_s: float | None = None
        self.announced_s: float | None = None
        self.decode_mode = "all"
        self.size: tuple[int, int] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def close(self) -> None:
        self._closed.set()

    def _begin(self) -> None:
        self._notes.clear()
        self._started_s = None
        self.duration_s = None
        self.announced_s = None
        self.size = None

    def _pace(self, pts_s: float) -> None:
        """Where asked to, wait until the clock has come as far as the frame."""
        if not self._realtime:
            return
        if self._started_s is None:
            self._started_s = self._clock.monotonic_s() - pts_s
        while not self._closed.is_set():
            left_s = pts_s - (self._clock.monotonic_s() - self._started_s)
            if left_s <= 0:
                return
            self._closed.wait(min(left_s, _STEP_S))


class DueTimes:
    """Which of many independently decodable pictures are worth decoding: the one nearest to each multiple of the
    period.

    The grid is anchored at the first picture, as the sampler's is, so that the sampler gets the pictures that it would
    have chosen.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._first_s: float | None = None
        self._last_s = 0.0
        self._slot = 0

    def wants(self, pts_s: float) -> bool:
        """Call it for each picture, in order."""
        last_s, self._last_s = self._last_s, pts_s
        if self._first_s is None or pts_s < last_s:
            self._first_s, self._slot = pts_s, 0
            return True
        slack_s = min(pts_s - last_s, self._every_s) / 2
        slot = int((pts_s + slack_s - self._first_s) / self._every_s + 1e-9)
        due = slot > self._slot
        self._slot = max(slot, self._slot)
        return due

    def missed(self) -> None:
        """The picture that was wanted last gave nothing: the next one is wanted in its place."""
        self._slot -= 1
