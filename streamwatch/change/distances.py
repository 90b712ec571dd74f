"""The distance that decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def squared_distances(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared Euclidean distances between vectors that lie opposite each other.

    Args:
        vectors: Shape (..., dimensions).
        others: Any shape that broadcasts against it.

    Returns:
        The broadcast shape without its last axis, each ≥ 0.

    Source: `sqeuclidean` of scipy.spatial.distance; the seed paper's best metric (section 4).
    """
    # Not |a|² + |b|² − 2ab: that form cancels where the two are close, and can go negative.
    difference = vectors - others
    distances: NDArray[np.float32] = np.einsum("...d,...d->...", difference, difference)
    return distances


def spreads(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far apart a region's vectors lie within a window: the largest squared distance between any two of them.

    Args:
        window: Shape (samples, regions, dimensions).

    Returns:
        Shape (regions,).
    """
    widest: NDArray[np.float32] = _pairwise(window).max(axis=(1, 2))
    return widest


def medoids(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each region, the vector of the window that lies nearest to all the others.

    Unlike the mean it is a vector that was really seen, and one odd sample does not move it.

    Args:
        window: Shape (samples, regions, dimensions).

    Returns:
        Shape (regions, dimensions).
    """
    central = _pairwise(window).sum(axis=1).argmin(axis=1)
    chosen: NDArray[np.float32] = window[central, np.arange(window.shape[1])]
    return chosen


def _pairwise(window: NDArray[np.float32]) -> NDArray[np.float32]:
    by_region = np.ascontiguousarray(window.transpose(1, 0, 2))
    products = by_region @ by_region.transpose(0, 2, 1)
    squares = np.einsum("rss->rs", products)
    distances: NDArray[np.float32] = np.maximum(squares[:, :, None] + squares[:, None, :] - 2 * products, 0)
    return distances
