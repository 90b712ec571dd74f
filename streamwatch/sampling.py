"""Which frames go on: one for each due time. Time comes from the frames' own time stamps only."""

from __future__ import annotations

import math

_ROUNDING = 1e-9
"""In periods: time stamps are sums of binary fractions, so a frame due at 0.3 s may say 0.29999999999999999."""


class Sampler:
    """Takes the frame nearest to each due time of a grid that is anchored at the first frame.

    The next frame is not known yet when one has to be judged, so its distance is guessed from the last two: a frame is
    taken when it, plus half of that spacing (at most half a period), reaches a due time. A key frame at 1.99 s counts
    for 2 s. A gap takes its due times with it: no burst follows. Time that goes backwards (the stream began anew)
    re-anchors the grid. Not thread-safe: one sampler for each source.
    """

    def __init__(self, every_s: float) -> None:
        if not (math.isfinite(every_s) and every_s > 0):
            raise ValueError(f"every_s is {every_s}, expected a number of seconds above 0")
        self._every_s = every_s
        self._anchor_s = 0.0
        self._last_s: float | None = None
        self._spacings_s: tuple[float, ...] = ()
        self._slot = 0

    @property
    def every_s(self) -> float:
        """The period."""
        return self._every_s

    def take(self, pts_s: float) -> bool:
        """True if the frame goes on. Call it once for each frame, in the order of the source."""
        if not math.isfinite(pts_s):
            raise ValueError(f"pts_s is {pts_s}, expected a finite number of seconds")
        last_s, self._last_s = self._last_s, pts_s
        if last_s is None or pts_s < last_s:
            self._anchor_s, self._slot, self._spacings_s = pts_s, 0, ()
            return True
        if pts_s > last_s:
            # The smaller of two, so that the first frame after a gap is not thought to stand for half of the gap.
            self._spacings_s = (*self._spacings_s[-1:], pts_s - last_s)
        slack_s = min((*self._spacings_s, self._every_s)) / 2 if self._spacings_s else 0.0
        slot = math.floor((pts_s + slack_s - self._anchor_s) / self._every_s + _ROUNDING)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True
