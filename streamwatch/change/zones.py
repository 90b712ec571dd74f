"""Which regions of the grid a camera's zones and masks leave to be watched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamwatch.records import Grid

Polygon = Sequence[tuple[float, float]]
"""Corners in fractions of the picture, x to the right and y down."""

_POINTS = 16
"""Sample points a region and axis; 256 of them tell a region's share to better than 1 %."""


def watched_regions(grid: Grid, *, zones: Sequence[Polygon] = (), masks: Sequence[Polygon] = ()) -> NDArray[np.bool_]:
    """Regions that lie at least half inside the zones (everywhere, if there are none) and outside the masks.

    A zone too small to fill half a region still gets the region that it covers most, unless that one is masked away.

    Returns:
        Shape (grid.regions,).
    """
    free = np.ones((grid.rows * _POINTS, grid.columns * _POINTS), dtype=np.bool_)
    for mask in masks:
        free &= ~_inside(mask, free.shape)
    if not zones:
        return _shares(free, grid) >= 0.5
    covered = np.zeros_like(free)
    small = np.zeros(grid.regions, dtype=np.bool_)
    for zone in zones:
        inside = _inside(zone, free.shape)
        if not inside.any():  # it fell between the points
            inside = _nearest_point(zone, free.shape)
        inside &= free
        covered |= inside
        shares = _shares(inside, grid)
        if shares.max() > 0:
            small[int(shares.argmax())] = True
    return (_shares(covered, grid) >= 0.5) | small


def _shares(points: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    cells = points.reshape(grid.rows, _POINTS, grid.columns, _POINTS)
    shares: NDArray[np.float64] = cells.mean(axis=(1, 3)).reshape(grid.regions)
    return shares


def _inside(polygon: Polygon, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Points of a lattice inside a polygon, by the even-odd rule."""
    ys = ((np.arange(shape[0]) + 0.5) / shape[0])[:, None]
    xs = ((np.arange(shape[1]) + 0.5) / shape[1])[None, :]
    inside = np.zeros(shape, dtype=np.bool_)
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if y1 == y2:
            continue
        between = (ys >= min(y1, y2)) & (ys < max(y1, y2))
        inside ^= between & (xs < x1 + (ys - y1) * (x2 - x1) / (y2 - y1))
    return inside


def _nearest_point(polygon: Polygon, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The point of a lattice nearest to a polygon's middle; none if that lies outside the picture."""
    x, y = np.mean(polygon, axis=0)
    nearest = np.zeros(shape, dtype=np.bool_)
    if 0 <= x < 1 and 0 <= y < 1:
        nearest[int(y * shape[0]), int(x * shape[1])] = True
    return nearest
