"""Distances between vectors, under SciPy's names and with SciPy's values. Light until something is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamwatch.offline.distances.names import METRICS, canonical

__all__ = ["BLOCK_BYTES", "METRICS", "canonical", "pairwise"]

BLOCK_BYTES = 256 << 20
"""Working memory of one computation, beyond its input and its result."""


def pairwise(
    metric: str, queries: NDArray[Any], gallery: NDArray[Any], *, block_bytes: int = BLOCK_BYTES
) -> NDArray[np.float64]:
    """The distance of each query to each vector of the gallery, as `scipy.spatial.distance.cdist` has it, to 1e-5.

    As there, seuclidean and mahalanobis take their variances from both sets of vectors together, and what has no
    distance gives NaN (cosine of zeros, correlation of a constant vector, dice of two that are nowhere above 0).
    Boolean metrics act on `x > 0`.

    Args:
        metric: A name in METRICS, or SciPy's other spelling of it; `minkowski:P` has an exponent P (2 without).
        queries: (n, dimensions), any real dtype.
        gallery: (m, dimensions).
        block_bytes: Working memory beyond queries, gallery and result.

    Returns:
        (n, m).

    Raises:
        UsageError: No such metric; shapes that do not go together; vectors with NaN or infinity; too few vectors for
            mahalanobis.
    """
    from streamwatch.offline.distances.blocked import all_pairs
    from streamwatch.offline.distances.fitting import checked, fit

    left, right = checked(queries, name="queries"), checked(gallery, name="gallery", dimensions=np.shape(queries)[-1])
    return all_pairs(fit(metric, left, right), left, right, block_bytes=block_bytes)
