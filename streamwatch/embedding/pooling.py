"""Feature maps gathered into one vector a picture, for retrieval."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GEM_POWER = 3.0
"""Radenović et al. 2018 (Fine-tuning CNN image retrieval, section 3.2) start from it; theirs is learned."""

_GEM_LEAST = 1e-6
_RMAC_SCALES = 3


def pool(maps: Tensor, way: str) -> Tensor:
    """(n, channels, rows, columns), float32, as (n, 1, channels).

    Args:
        maps: A layer's output, before its averaging into regions.
        way: `mean` or `max` over the places; `gem`, the generalised mean of power 3 (numbers below 1e-6 count as 1e-6:
            it is meant for layers behind a ReLU); `rmac`, the sum of the unit-length maxima over R-MAC's regions.
    """
    if way == "mean":
        return maps.mean((2, 3))[:, None]
    if way == "max":
        return maps.amax((2, 3))[:, None]
    if way == "gem":
        return maps.clamp(min=_GEM_LEAST).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)[:, None]
    assert way == "rmac", way
    regions = [
        functional.normalize(maps[:, :, top : top + side, left : left + side].amax((2, 3)), dim=1)
        for top, left, side in rmac_regions(maps.shape[2], maps.shape[3])
    ]
    return torch.stack(regions).sum(0)[:, None]


def rmac_regions(rows: int, columns: int) -> list[tuple[int, int, int]]:
    """(top, left, side) of R-MAC's squares on a map: Tolias et al. 2016, section 3.2.

    At scale l = 1, 2, 3 a square's side is 2 · min(rows, columns) / (l + 1), and l of them lie along the shorter side;
    along the longer one as many as overlap by nearest to 40 %. On a square map these are 1, 4 and 9.
    """
    short, long = min(rows, columns), max(rows, columns)
    extra = 0
    if long > short:
        overlaps = [1 - (long - short) / (short * count) for count in range(1, 7)]
        extra = min(range(6), key=lambda index: abs(overlaps[index] - 0.4)) + 1
    found = []
    for scale in range(1, _RMAC_SCALES + 1):
        side = 2 * short // (scale + 1)
        if side == 0:
            break
        tops = _starts(rows, side, scale + (extra if rows > columns else 0))
        lefts = _starts(columns, side, scale + (extra if columns > rows else 0))
        found += [(top, left, side) for top in tops for left in lefts]
    return found


def _starts(length: int, side: int, count: int) -> list[int]:
    return [index * (length - side) // (count - 1) for index in range(count)] if count > 1 else [0]
