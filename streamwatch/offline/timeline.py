"""The timeline's geometry: scales, ticks, and a line that stays small however long the video is. Pure functions.

Everything is laid out in fractions of the drawing, 0…1 from its upper left corner, so that the page can stretch it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from streamwatch.offline.result import TimelinePoint

COLUMNS = 1000
"""Pixel columns that a line is reduced to: about what a wide screen shows."""

_STEPS_S = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10800,
    14400,
    21600,
    43200,
    86400,
)
LOG_ABOVE = 12
"""A peak this many times the threshold would press everything at the threshold flat on a linear axis."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A gridline and its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Novelty to height. Linear from zero, or logarithmic where one peak would press the rest flat."""

    low: float
    high: float
    log: bool

    def y(self, value: float) -> float:
        """0 at the top, 1 at the bottom; what lies outside sits on the edge."""
        if self.log:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return 1 - min(max(share, 0.0), 1.0)

    def ticks(self) -> tuple[Tick, ...]:
        """Round values: at most six on a linear axis, powers of ten on a logarithmic one."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, math.ceil((last - first) / 6))
            return tuple(Tick(at=self.y(10.0**n), label=f"{10.0**n:g}") for n in range(first, last + 1, every))
        step = _round_step((self.high - self.low) / 5)
        return tuple(
            Tick(at=self.y(n * step), label=f"{n * step:.6g}") for n in range(math.floor(self.high / step + 1e-9) + 1)
        )


def choose_scale(values: Sequence[float], *, threshold: float) -> Scale:
    """The axis for these novelties: the threshold is always on it, with room above. Values not finite are ignored."""
    finite = [value for value in values if math.isfinite(value)]
    bar = threshold if math.isfinite(threshold) and threshold > 0 else 0.0
    most = max((*finite, bar), default=0.0)
    if most <= 0:
        return Scale(low=0.0, high=1.0, log=False)
    if bar > 0 and most > LOG_ABOVE * bar:
        low = max(min((value for value in finite if value > 0), default=bar), bar / 1000)
        return Scale(low=10.0 ** math.floor(math.log10(min(low, bar / 2))), high=most * 1.4, log=True)
    return Scale(low=0.0, high=max(most * 1.15, bar * 1.3), log=False)


def time_ticks(duration_s: float, *, most: int = 8) -> tuple[Tick, ...]:
    """Gridlines at round times: 0 and at most `most` more."""
    if duration_s <= 0:
        return ()
    days = math.ceil(duration_s / most / 86400)
    step = next((step for step in _STEPS_S if duration_s / step <= most), 86400.0 * days)
    count = math.floor(duration_s / step + 1e-9)
    return tuple(
        Tick(at=n * step / duration_s, label=_tick_label(n * step, step, duration_s)) for n in range(count + 1)
    )


def line_path(points: Sequence[TimelinePoint], *, scale: Scale, span_s: float, columns: int = COLUMNS) -> str:
    """The novelty as SVG path data in a box of `columns` × 1000. Points that are not finite leave a gap.

    A long video is reduced to the least and the most novel point of each column, in their order in time, so that no
    peak is lost and the path never holds more than two points a column.
    """
    if span_s <= 0:
        return ""
    runs = _reduced_runs(points, span_s, columns) if len(points) > 2 * columns else _runs(points)
    parts = []
    for run in runs:
        spots = [f"{point.pts_s / span_s * columns:.4g} {scale.y(point.novelty) * 1000:.0f}" for point in run]
        # A path of one point draws nothing; a line of no length with round ends draws a dot.
        parts.append(f"M{spots[0]}" + ("h0" if len(spots) == 1 else "L" + " ".join(spots[1:])))
    return "".join(parts)


def _runs(points: Sequence[TimelinePoint]) -> list[list[TimelinePoint]]:
    runs: list[list[TimelinePoint]] = [[]]
    for point in points:
        if math.isfinite(point.novelty):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _reduced_runs(points: Sequence[TimelinePoint], span_s: float, columns: int) -> list[list[TimelinePoint]]:
    filled: list[list[TimelinePoint]] = [[] for _ in range(columns)]
    blank = [False] * columns
    for point in points:
        column = min(max(int(point.pts_s / span_s * columns), 0), columns - 1)
        if math.isfinite(point.novelty):
            filled[column].append(point)
        else:
            blank[column] = True
    runs: list[list[TimelinePoint]] = [[]]
    for column, inside in enumerate(filled):
        if inside:
            least = min(range(len(inside)), key=lambda index: inside[index].novelty)
            most = max(range(len(inside)), key=lambda index: inside[index].novelty)
            runs[-1].extend(inside[index] for index in sorted({least, most}))
        elif blank[column] and runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _tick_label(seconds: float, step: float, duration_s: float) -> str:
    if step < 1:
        return f"{int(seconds + 1e-9) // 60}:{seconds % 60:04.1f}"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if duration_s < 3600:
        return f"{whole // 60}:{rest:02}"
    return f"{hours}:{minutes:02}" if step % 60 == 0 else f"{hours}:{minutes:02}:{rest:02}"
