"""The paper's heat map: each triplet where the ranks of its positive (across) and its negative (up) meet."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from streamwatch.errors import UsageError

BINS = 48
_SIDE = 360
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 14, 14, 46
_RAMP = ((247, 250, 253), (158, 202, 225), (49, 130, 189), (8, 48, 107), (3, 16, 45))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Where the paper's regions lie, as shares of the pool."""

    best: float = 0.1
    """Up to this share from the front a rank is among the best."""

    worst: float = 0.1
    """Up to this share from the end it is among the worst."""

    def __post_init__(self) -> None:
        for name, value in (("best", self.best), ("worst", self.worst)):
            if not 0 < value <= 0.5:
                raise UsageError(f"--{name} is {value * 100:g} %, expected more than 0 and up to 50")


@dataclass(frozen=True, kw_only=True)
class Region:
    """One corner of the heat map."""

    name: str
    meaning: str
    triplets: tuple[int, ...]
    """All in it, the most extreme first."""


def regions(ranks: NDArray[np.float64], pool: int, bounds: Bounds) -> tuple[Region, ...]:
    """The corners: A, where p+ is among the best and p− among the worst; C, its mirror; B, both worst; D, both best.

    Args:
        ranks: (triplets, 2), of p+ and p−.
        pool: How many images are ranked.
        bounds: How far the corners reach.
    """
    share = (ranks - 0.5) / max(pool, 1)
    best, worst = share <= bounds.best, share >= 1 - bounds.worst
    positive, negative = share[:, 0], share[:, 1]
    corners = (
        ("A", "p+ among the best, p− among the worst", best[:, 0] & worst[:, 1], positive - negative),
        ("B", "both among the worst", worst.all(axis=1), -positive - negative),
        ("C", "p+ among the worst, p− among the best", worst[:, 0] & best[:, 1], negative - positive),
        ("D", "both among the best", best.all(axis=1), positive + negative),
    )
    found = []
    for name, meaning, inside, order in corners:
        numbers = np.flatnonzero(inside)
        numbers = numbers[np.argsort(order[numbers], kind="stable")]
        found.append(Region(name=name, meaning=meaning, triplets=tuple(int(number) for number in numbers)))
    return tuple(found)


def rank_histogram(ranks: NDArray[np.float64], pool: int, *, bins: int = BINS) -> NDArray[np.int64]:
    """How many triplets fall where: (bins, bins), first by the rank of p−, then by that of p+."""
    place = np.clip(((ranks - 0.5) / max(pool, 1) * bins).astype(np.int64), 0, bins - 1)
    flat = np.bincount(place[:, 1] * bins + place[:, 0], minlength=bins * bins)
    return flat.reshape(bins, bins)


def heat_map_svg(ranks: NDArray[np.float64], pool: int, *, bounds: Bounds, title: str) -> Markup:
    """The heat map as SVG with presentation attributes only, so that a page's content policy may forbid style."""
    counts = rank_histogram(ranks, pool)
    most = int(counts.max())
    width, height = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _BOTTOM
    right, foot = _LEFT + _SIDE, _TOP + _SIDE
    above = float((ranks[:, 1] > ranks[:, 0]).mean() * 100)
    parts = [
        f'<svg class="heat" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}: {above:.1f} % of the triplets lie above the line x = y">',
        f'<image x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" image-rendering="pixelated" '
        f'preserveAspectRatio="none" href="{_png(counts)}"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" class="frame"/>',
        f'<line x1="{_LEFT}" y1="{foot}" x2="{right}" y2="{_TOP}" class="diagonal"/>',
        f'<text x="{right - 84}" y="{_TOP + 96}" class="line-label" transform="rotate(-45 {right - 84} {_TOP + 96})" '
        'text-anchor="middle">x = y</text>',
    ]
    best, worst = bounds.best * _SIDE, bounds.worst * _SIDE
    for name, x, y, w, h in (
        ("A", _LEFT, _TOP, best, worst),
        ("B", right - worst, _TOP, worst, worst),
        ("C", right - worst, foot - best, worst, best),
        ("D", _LEFT, foot - best, best, best),
    ):
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" class="corner"/>')
        parts.append(
            f'<text x="{x + w / 2:g}" y="{y + h / 2 + 5:g}" class="corner-name" text-anchor="middle">{name}</text>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1):
        label = f"{round(share * pool):,}" if share else "1"
        parts.append(
            f'<text x="{_LEFT + share * _SIDE:g}" y="{foot + 16}" class="tick" text-anchor="middle">{label}</text>'
            f'<text x="{_LEFT - 6}" y="{foot - share * _SIDE + 4:g}" class="tick" text-anchor="end">{label}</text>'
        )
    middle = _TOP + _SIDE / 2
    parts.append(
        f'<text x="{_LEFT + _SIDE / 2}" y="{height - 8}" class="axis-name" text-anchor="middle">rank of p+</text>'
        f'<text x="12" y="{middle:g}" class="axis-name" text-anchor="middle" transform="rotate(-90 12 {middle:g})">'
        f"rank of p−</text><title>{escape(title)}; darkest: {most} triplets</title></svg>"
    )
    return Markup("".join(parts))


def _png(counts: NDArray[np.int64]) -> str:
    level = np.log1p(counts) / max(np.log1p(counts.max()), 1e-9)
    stops: Sequence[float] = np.linspace(0, 1, len(_RAMP)).tolist()
    channels = [np.interp(level, stops, [colour[channel] for colour in _RAMP]) for channel in range(3)]
    pixels = np.stack(channels, axis=2).round().astype(np.uint8)[::-1]  # Ranks grow upwards.
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
