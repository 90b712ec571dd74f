"""From a layer's regions to one vector a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.networks import nearest
from streamwatch.errors import UsageError
from streamwatch.records import Grid

POOLINGS = ("mean", "max", "gem", "rmac", "flat")
_GEM_EXPONENT = 3
_GEM_FLOOR = 1e-6
_RMAC_SCALES = 3


def check_pooling(name: str) -> str:
    """The name itself.

    Raises:
        UsageError: It is not one of POOLINGS.
    """
    if name not in POOLINGS:
        raise UsageError(f"there is no pooling {name!r}{nearest(name, POOLINGS)}; known are {', '.join(POOLINGS)}")
    return name


def pooled_dimensions(name: str, grid: Grid, dimensions: int) -> int:
    """How many numbers a pooled vector has."""
    return dimensions * grid.regions if name == "flat" else dimensions


def pool_regions(regions: NDArray[np.float32], grid: Grid, name: str) -> NDArray[np.float32]:
    """Raw region vectors (n, regions, dimensions) as (n, dimensions), or (n, regions · dimensions) for `flat`.

    `mean` and `max` over the regions; `gem`, the generalised mean of Radenović et al. 2018 (equation 3, exponent 3,
    negative numbers taken as none); `rmac` of Tolias et al. 2016 (section 3.2, three scales, without its PCA): the sum of
    the maxima over square windows, each at unit length first; `flat`, the regions one after the other.
    """
    if name == "flat":
        return np.ascontiguousarray(regions.reshape(len(regions), -1))
    if name == "mean":
        return regions.mean(axis=1, dtype=np.float32)
    if name == "max":
        return np.asarray(regions.max(axis=1), np.float32)
    if name == "gem":
        powers = np.maximum(regions, _GEM_FLOOR) ** _GEM_EXPONENT
        return np.asarray(np.cbrt(powers.mean(axis=1, dtype=np.float64)), np.float32)
    assert name == "rmac"
    maps = regions.reshape(len(regions), grid.rows, grid.columns, -1)
    total = np.zeros((len(regions), maps.shape[3]), np.float32)
    for top, left, side in windows(grid):
        vector = maps[:, top : top + side, left : left + side].max(axis=(1, 2))
        total += vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
    return total


def windows(grid: Grid) -> list[tuple[int, int, int]]:
    """R-MAC's squares as (top, left, side): at scale l they are 2 / (l + 1) of the shorter side, spread evenly.

    As many along the longer side as overlap by about 40 %, as the paper has it.
    """
    short, long_ = sorted((grid.rows, grid.columns))
    found: dict[tuple[int, int, int], None] = {}
    more = 0
    if long_ > short:
        steps = range(1, 7)
        overlaps = [abs((short * short - short * ((long_ - short) / step)) / short**2 - 0.4) for step in steps]
        more = int(np.argmin(overlaps)) + 1
    for scale in range(1, _RMAC_SCALES + 1):
        side = max(1, int(2 * short / (scale + 1)))
        down = _starts(grid.rows - side, scale + (more if grid.rows > grid.columns else 0))
        across = _starts(grid.columns - side, scale + (more if grid.columns > grid.rows else 0))
        for top in down:
            for left in across:
                found[top, left, side] = None
    return list(found)


def _starts(room: int, count: int) -> list[int]:
    return [0] if count == 1 else [int(room * step / (count - 1)) for step in range(count)]


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each vector at length 1; one of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1.0, lengths), np.float32)
