"""The distance of one vector to another, row by row, by the formula itself and in double precision.

What decides ties, triplets and ranks. The fast ways of `blocked` and `ranking` come here where their rounding matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from streamwatch.offline.distances.fitting import Fitted
from streamwatch.offline.distances.names import BOOLEAN

Vectors = NDArray[np.float64]


def distances_of_rows(metric: Fitted, left: NDArray[Any], right: NDArray[Any]) -> Vectors:
    """The distance of each row of `left` to the same row of `right`, shape (n,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric.name in BOOLEAN:
            x, y = left > 0, right > 0
            both = np.count_nonzero(x & y, axis=1).astype(np.float64)
            of_x, of_y = (np.count_nonzero(z, axis=1).astype(np.float64) for z in (x, y))
            return np.asarray(boolean_distance(metric.name, metric.dimensions, both, of_x, of_y))
        return _real(metric, left.astype(np.float64), right.astype(np.float64))


def boolean_distance(name: str, n: int, both: Any, of_x: Any, of_y: Any) -> Any:
    """The value from counts, which are NumPy arrays or torch tensors of double precision.

    Each formula divides once, and whole numbers: equal fractions give equal values, so ties are ties.

    Args:
        name: One of BOOLEAN.
        n: Dimensions.
        both: In how many both are above 0.
        of_x: In how many x is.
        of_y: In how many y is.
    """
    only_x, only_y = of_x - both, of_y - both
    differing = only_x + only_y
    if name in ("hamming-binary", "matching"):
        return differing / n
    if name == "dice":
        return differing / (2 * both + differing)
    if name == "jaccard":
        union = both + differing
        return differing / (union + (union == 0))
    if name in ("rogerstanimoto", "sokalmichener"):
        return 2 * differing / (n + differing)
    if name == "sokalsneath":
        return 2 * differing / (both + 2 * differing)
    if name == "russellrao":
        return (n - both) / n
    if name == "kulsinski":
        return (differing - both + n) / (differing + n)
    if name == "kulczynski1":
        return both / differing
    assert name == "yule"
    crossed = only_x * only_y
    whole = both * (n - both - differing) + crossed
    return 2 * crossed / (whole + (whole == 0))


def unit_rows(name: str, vectors: Vectors) -> Vectors:
    """For cosine and correlation: each row at length 1, NaN where it has no direction."""
    if name == "correlation":
        constant = vectors.min(axis=1) == vectors.max(axis=1)
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
        # The mean of equal numbers need not be that number to the last digit.
        vectors[constant] = 0.0
    with np.errstate(invalid="ignore"):
        return np.asarray(vectors / np.sqrt(np.square(vectors).sum(axis=1, keepdims=True)))


def _real(metric: Fitted, x: Vectors, y: Vectors) -> Vectors:
    name = metric.name
    if name in ("cosine", "correlation"):
        cosines: Vectors = (unit_rows(name, x) * unit_rows(name, y)).sum(axis=1)
        return np.asarray(1.0 - np.clip(cosines, -1.0, 1.0))
    if name == "jensenshannon":
        return _jensen_shannon(x, y)
    difference = np.abs(x - y)
    if name == "chebyshev":
        return np.asarray(difference.max(axis=1))
    if name == "cityblock":
        return np.asarray(difference.sum(axis=1))
    if name == "hamming":
        return np.asarray(np.count_nonzero(difference, axis=1) / metric.dimensions)
    if name == "canberra":
        sizes = np.abs(x) + np.abs(y)
        return np.asarray((difference / np.where(sizes == 0, 1.0, sizes)).sum(axis=1))
    if name == "braycurtis":
        return np.asarray(difference.sum(axis=1) / np.abs(x + y).sum(axis=1))
    if name == "minkowski" and metric.p != 2:
        return np.asarray(np.power(difference, metric.p).sum(axis=1) ** (1 / metric.p))
    if name == "mahalanobis":
        assert metric.precision is not None
        signed = x - y
        return np.asarray(np.sqrt(np.maximum(((signed @ metric.precision) * signed).sum(axis=1), 0.0)))
    squares = np.square(difference)
    if name == "seuclidean":
        assert metric.variance is not None
        squares = squares / metric.variance
    total: Vectors = squares.sum(axis=1)
    return total if name == "sqeuclidean" else np.sqrt(total)


def _jensen_shannon(x: Vectors, y: Vectors) -> Vectors:
    of_x, of_y = x.sum(axis=1), y.sum(axis=1)
    p, q = x / of_x[:, None], y / of_y[:, None]
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / 2
    # As SciPy's cdist: infinitely far where a vector has no sum, or where a share is negative.
    return np.where(np.isfinite(divergence), np.sqrt(np.maximum(divergence, 0.0)), np.inf)
