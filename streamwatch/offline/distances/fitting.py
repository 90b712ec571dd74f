"""What a metric takes from the vectors before it compares two of them: variances, and checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamwatch.errors import UsageError
from streamwatch.offline.distances.names import canonical, exponent

_SINGULAR = 1e14
_CHUNK = 2048

Square = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A metric that is ready to compare vectors of `dimensions` numbers."""

    name: str
    """Without the exponent."""

    dimensions: int
    p: float = 2.0
    """minkowski's exponent."""

    variance: NDArray[np.float64] | None = None
    """seuclidean's, one a dimension."""

    precision: NDArray[np.float64] | None = None
    """mahalanobis' inverse of the covariance, (dimensions, dimensions)."""

    root: NDArray[np.float64] | None = None
    """Its Cholesky factor L: precision = L Lᵀ."""

    centre: NDArray[np.float64] | None = None
    """The mean of the vectors: taken away before matrix products, which loses fewer digits then."""


def checked(vectors: NDArray[Any], *, name: str, dimensions: int | None = None) -> NDArray[Any]:
    """The vectors as a 2-D array of real numbers, not copied where they are one.

    Raises:
        UsageError: They are not, or some number is NaN or infinite; the message says in which rows.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind not in "fiub":
        raise UsageError(
            f"{name} have shape {array.shape} and dtype {array.dtype}, expected real numbers of shape (n, dimensions)"
        )
    if dimensions is not None and array.shape[1] != dimensions:
        raise UsageError(
            f"{name} have {array.shape[1]} dimensions, the queries {dimensions}: vectors of one network and layer are "
            "to be compared"
        )
    if array.dtype.kind == "f":
        check_finite(array, name=name)
    return array


def check_finite(vectors: NDArray[Any], *, name: str) -> None:
    """Nothing, where all numbers are finite.

    Raises:
        UsageError: Some are not; the message says in which rows.
    """
    bad: list[int] = []
    for start in range(0, len(vectors), _CHUNK):
        rows = np.flatnonzero(~np.isfinite(vectors[start : start + _CHUNK]).all(axis=1))
        bad += [start + int(row) for row in rows]
    if bad:
        raise UsageError(
            f"{len(bad)} of {len(vectors)} {name} hold NaN or infinity (row {', '.join(map(str, bad[:5]))}"
            f"{', …' if len(bad) > 5 else ''}); distances to them mean nothing: make them again, or leave them out"
        )


def fit(metric: str, *samples: NDArray[Any]) -> Fitted:
    """The metric over these vectors, taken together as SciPy's cdist takes both of its arguments.

    Raises:
        UsageError: No such metric; or mahalanobis with too few vectors, or with dimensions that follow from others.
    """
    full = canonical(metric)
    name = full.partition(":")[0]
    dimensions = int(samples[0].shape[1])
    rows = sum(len(sample) for sample in samples)
    variance = precision = root = None
    centre = sum((_total(sample) for sample in samples), np.zeros(dimensions)) / max(rows, 1)
    if name == "seuclidean":
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = sum((_squares(sample, centre) for sample in samples), np.zeros(dimensions))
            variance = squares / np.float64(rows - 1)
    elif name == "mahalanobis":
        if rows <= dimensions:
            raise UsageError(
                f"mahalanobis got {rows} vectors of {dimensions} dimensions, expected more vectors than dimensions: "
                "add images, or take a layer or pooling with fewer dimensions"
            )
        precision, root = _precision(samples, centre, rows)
    return Fitted(
        name=name,
        dimensions=dimensions,
        p=exponent(full),
        variance=variance,
        precision=precision,
        root=root,
        centre=centre,
    )


def _total(sample: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(sample.sum(axis=0, dtype=np.float64))


def _squares(sample: NDArray[Any], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(sample.shape[1])
    for start in range(0, len(sample), _CHUNK):
        total += np.square(sample[start : start + _CHUNK] - centre).sum(axis=0)
    return total


def _precision(samples: tuple[NDArray[Any], ...], centre: NDArray[np.float64], rows: int) -> tuple[Square, Square]:
    covariance = np.zeros((len(centre), len(centre)))
    for sample in samples:
        for start in range(0, len(sample), _CHUNK):
            part = sample[start : start + _CHUNK] - centre
            covariance += part.T @ part
    covariance /= rows - 1
    try:
        inverse = np.linalg.inv(covariance)
        condition = float(np.linalg.norm(covariance, 1) * np.linalg.norm(inverse, 1))
        root = np.linalg.cholesky((inverse + inverse.T) / 2)
    except np.linalg.LinAlgError:
        condition = np.inf
    if not condition < _SINGULAR:
        raise UsageError(
            f"mahalanobis cannot be had: some of the {len(centre)} dimensions are constant or follow from others, so "
            "the covariance has no inverse; add vectors, or take seuclidean"
        )
    return np.asarray(inverse, np.float64), np.asarray(root, np.float64)
