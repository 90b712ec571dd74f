"""Distances of blocks of vectors in torch: matrix products where there is one, else tiles that fit the caches.

A block holds *keys*: the distance itself, or its square for the metrics whose square a matrix product gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamwatch.offline.distances.exact import boolean_distance, distances_of_rows, unit_rows
from streamwatch.offline.distances.fitting import Fitted
from streamwatch.offline.distances.names import BOOLEAN, PRODUCTS

SQUARED = PRODUCTS - {"cosine", "correlation"}
"""Metrics whose keys are squares (sqeuclidean is its own square)."""

_TILE = 32_000
"""Numbers; torch takes several threads from 32,768 on."""

_CLOSE = 1e-7
"""Squares below this share of both vectors' lengths have lost digits to cancellation, and are computed anew."""

_COUNTABLE = 1 << 24
"""Single precision counts exactly up to here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """Some vectors, as their metric wants them."""

    values: Tensor
    """(n, dimensions), single or double precision."""

    numbers: Tensor
    """(n,), double: squared length, count or entropy of each, as the metric needs; else zeros."""


def side(metric: Fitted, rows: NDArray[Any], dtype: torch.dtype) -> Side:
    """Vectors made ready for `keys`."""
    if metric.name in BOOLEAN:
        above = torch.from_numpy(np.ascontiguousarray(rows > 0))
        exact = torch.float64 if metric.dimensions >= _COUNTABLE else torch.float32
        return Side(values=above.to(exact), numbers=above.sum(dim=1).double())
    if metric.name in PRODUCTS:
        wide = _moved(metric, rows)
        values = torch.from_numpy(wide).to(dtype)
        return Side(values=values, numbers=values.double().square().sum(dim=1))
    values = torch.from_numpy(np.ascontiguousarray(rows)).to(dtype)
    if metric.name == "jensenshannon":
        values = values / values.sum(dim=1, keepdim=True, dtype=torch.float64).to(dtype)
        return Side(values=values, numbers=torch.xlogy(values, values).sum(dim=1, dtype=torch.float64))
    return Side(values=values, numbers=torch.zeros(len(values), dtype=torch.float64))


def keys(metric: Fitted, left: Side, right: Side) -> Tensor:
    """(n, m) keys; double where they are counted, else of the sides' precision.

    For `SQUARED` the squared length of `left` is not yet added: in single precision it would cost digits, and within a
    row it changes no order.
    """
    name, x, y = metric.name, left.values, right.values
    if name in BOOLEAN:
        return _boolean(metric, left, right)
    if name in SQUARED:
        return torch.addmm(right.numbers.to(x.dtype)[None], x, y.T, alpha=-2)
    if name in PRODUCTS:
        return torch.addmm(x.new_ones(1, len(y)), x, y.T, alpha=-1)  # 1 − x·y in one pass
    if name == "hamming":
        if x.dtype == torch.float32 and metric.dimensions >= _COUNTABLE:
            x, y = x.double(), y.double()
        return _cdist(x, y, 0.0).double() / metric.dimensions
    if name == "braycurtis":
        return _cdist(x, y, 1.0) / _cdist(x, -y, 1.0)
    if name in ("cityblock", "chebyshev", "minkowski"):
        return _cdist(x, y, {"cityblock": 1.0, "chebyshev": math.inf}.get(name, metric.p))
    return _tiled(metric, left, right)


def all_pairs(metric: Fitted, left: NDArray[Any], right: NDArray[Any], *, block_bytes: int) -> NDArray[np.float64]:
    """`distances.pairwise` for checked vectors and a fitted metric."""
    result = np.empty((len(left), len(right)))
    if metric.name == "jensenshannon" and not (_shares(left) and _shares(right)):
        _row_by_row(metric, left, right, result, block_bytes)
        return result
    with torch.inference_mode():
        for these in blocks(len(right), bytes_each=24 * metric.dimensions, block_bytes=block_bytes // 2):
            y = side(metric, right[these], torch.float64)
            each = 24 * metric.dimensions + 24 * len(y.values)
            for those in blocks(len(left), bytes_each=each, block_bytes=block_bytes // 2):
                x = side(metric, left[those], torch.float64)
                block = keys(metric, x, y)
                if metric.name in SQUARED:
                    block += x.numbers[:, None]
                    _again_where_close(metric, block, x, y, left[those], right[these], block_bytes)
                    if metric.name != "sqeuclidean":
                        block.sqrt_()
                elif metric.name == "jensenshannon":
                    block.clamp_(min=0).sqrt_()
                elif metric.name in PRODUCTS:
                    block.clamp_(0, 2)
                result[those, these] = block.numpy()
    return result


def blocks(rows: int, *, bytes_each: int, block_bytes: int) -> Iterator[slice]:
    """Slices of at least one row that stay within a size."""
    step = max(1, block_bytes // max(1, bytes_each))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _boolean(metric: Fitted, left: Side, right: Side) -> Tensor:
    both = left.values @ right.values.T
    result = both.new_empty(both.shape, dtype=torch.float64)
    # A few rows at a time, so that the formula's steps find their numbers in the cache.
    step = max(1, _TILE // max(1, both.shape[1]))
    for start in range(0, len(both), step):
        rows = slice(start, start + step)
        count = left.numbers[rows, None]
        result[rows] = boolean_distance(metric.name, metric.dimensions, both[rows].double(), count, right.numbers[None])
    return result


def _moved(metric: Fitted, rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    if metric.name in ("cosine", "correlation"):
        return unit_rows(metric.name, wide)
    assert metric.centre is not None
    wide -= metric.centre
    if metric.variance is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            wide /= np.sqrt(metric.variance)
    if metric.root is not None:
        # C⁻¹ = L Lᵀ, so (x−y)ᵀ C⁻¹ (x−y) = ‖Lᵀx − Lᵀy‖².
        wide = wide @ metric.root
    return wide


def _cdist(x: Tensor, y: Tensor, p: float) -> Tensor:
    return torch.cdist(x, y, p=p, compute_mode="donot_use_mm_for_euclid_dist")


def _tiled(metric: Fitted, left: Side, right: Side) -> Tensor:
    # Tiles below torch's own grain, on threads of ours: its threads would meet at a barrier after every operation.
    x, y = left.values, right.values
    result = x.new_empty((len(x), len(y)))
    height = max(1, _TILE // x.shape[1])
    sizes = y.abs() if metric.name == "canberra" else None

    def fill(some: range) -> None:
        with torch.inference_mode():
            for start in range(0, len(y), height):
                part, lengths = y[start : start + height], None if sizes is None else sizes[start : start + height]
                for row in some:
                    result[row, start : start + height] = _tile(x[row], part, lengths)

    workers = torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(fill, range(first, len(x), workers)) for first in range(workers)]:
            done.result()
    if sizes is not None:
        return result
    return ((left.numbers[:, None] + right.numbers[None]) / 2 - result).to(x.dtype)


def _tile(vector: Tensor, part: Tensor, sizes: Tensor | None) -> Tensor:
    """canberra with `sizes` = |part|, else the sums of m·log m for the means m."""
    if sizes is None:
        middle = (part + vector).mul_(0.5)
        return torch.xlogy(middle, middle).sum(dim=1)
    # Where both are 0, 0 is divided by 1 or so.
    whole = (sizes + vector.abs()).clamp_(min=torch.finfo(sizes.dtype).tiny)
    return (part - vector).abs_().div_(whole).sum(dim=1)


def _again_where_close(
    metric: Fitted, block: Tensor, x: Side, y: Side, left: NDArray[Any], right: NDArray[Any], block_bytes: int
) -> None:
    close = block < _CLOSE * (x.numbers[:, None] + y.numbers[None])
    rows, columns = (index.numpy() for index in torch.nonzero(close, as_tuple=True))
    for part in blocks(len(rows), bytes_each=40 * metric.dimensions, block_bytes=block_bytes):
        distance = distances_of_rows(metric, left[rows[part]], right[columns[part]])
        square = distance if metric.name == "sqeuclidean" else np.square(distance)
        block[rows[part], columns[part]] = torch.from_numpy(square)


def _shares(vectors: NDArray[Any]) -> bool:
    """True if all can be taken as shares of their sums."""
    return bool((vectors >= 0).all() and (vectors.sum(axis=1) > 0).all())


def _row_by_row(
    metric: Fitted, left: NDArray[Any], right: NDArray[Any], result: NDArray[np.float64], block_bytes: int
) -> None:
    for row, vector in enumerate(left):
        for part in blocks(len(right), bytes_each=80 * metric.dimensions, block_bytes=block_bytes):
            result[row, part] = distances_of_rows(metric, np.broadcast_to(vector, right[part].shape), right[part])
