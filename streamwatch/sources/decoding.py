"""Which packets are decoded. Values in, actions out: no PyAV, no clock.

A camera's key frames stand alone; everything between them needs all frames since the last key frame. Where key frames
come at least as often as samples are wanted, decoding them alone costs a tenth.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal

DecodeOption = Literal["auto", "keyframes", "all"]

_SLACK = 1.02
"""Key intervals wander by a frame."""

_MISSING = 1.5
"""Periods without a key frame after which they have stopped coming."""


_PROOF = 0.9
"""Periods. A time rather than a number of intervals: some cameras send parameter sets as key packets of their own, just
ahead.
"""


class Action(Enum):
    """What to do with a packet."""

    SKIP = auto()
    FEED = auto()
    """Give it to the running decoder."""

    ALONE = auto()
    """A key frame: drain the decoder, decode this packet and drain again, so that its picture comes out at once."""

    CATCH_UP = auto()
    """Feed all packets since the last key frame, this one included, and go on so."""


class DecodePolicy:
    """Decides packet by packet, in decoding order; `mode` says what is being done now."""

    def __init__(self, *, every_s: float, decode: DecodeOption, starts_with: Literal["keyframes", "all"]) -> None:
        """`starts_with` matters for `auto` only: what looking ahead in a file found, or `all` where nobody can look
        ahead.
        """
        self._every_s = every_s
        self._auto = decode == "auto"
        self.mode: Literal["keyframes", "all"] = starts_with if decode == "auto" else decode
        self._last_key_s: float | None = None
        self._fitting_s = 0.0
        self._needed_s = _PROOF * every_s
        """For how long key frames must have come often enough before they are relied on; doubles with each
        disappointment.
        """

    def step(self, stream_s: float, *, is_key: bool) -> Action:
        """`stream_s`: the packet's time in the stream, on any scale that never jumps."""
        if is_key:
            if self._last_key_s is not None:
                interval_s = stream_s - self._last_key_s
                self._fitting_s = self._fitting_s + interval_s if self._fits(interval_s) else 0.0
            self._last_key_s = stream_s
            if self._auto and self.mode == "all" and self._fitting_s >= self._needed_s:
                self.mode = "keyframes"
            return Action.ALONE if self.mode == "keyframes" else Action.FEED
        if self.mode == "all":
            return Action.FEED
        if self._last_key_s is None:
            self._last_key_s = stream_s  # what comes before the first key frame counts as waiting for it
        if self._auto and stream_s - self._last_key_s > _MISSING * self._every_s:
            self._give_up()
            return Action.CATCH_UP
        return Action.SKIP

    def key_frames_are_empty(self) -> None:
        """Packets called key frames gave no picture of their own: never rely on them again (with `auto`)."""
        if self._auto:
            self._give_up()
            self._auto = False

    def _give_up(self) -> None:
        self.mode = "all"
        self._fitting_s = 0.0
        self._needed_s *= 2

    def _fits(self, interval_s: float) -> bool:
        return 0 <= interval_s <= self._every_s * _SLACK


def key_intervals_fit(packets: list[tuple[float, bool]], *, every_s: float) -> bool:
    """True if key frames alone serve the period; `packets`: (seconds, is key) of a file's beginning, in decoding order.

    The stretch behind the last key frame counts as an interval too: a file with one key frame at its start does not
    fit.
    """
    keys_s = [pts_s for pts_s, is_key in packets if is_key]
    if not keys_s or keys_s[0] - min(pts_s for pts_s, _ in packets) > every_s:
        return False
    ends_s = [*keys_s[1:], max(max(pts_s for pts_s, _ in packets), keys_s[-1])]
    return all(end_s - start_s <= every_s * _SLACK for start_s, end_s in zip(keys_s, ends_s, strict=True))
