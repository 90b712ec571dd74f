"""How many vectors of a pool are nearer to a query than its targets: exact ranks from single-precision blocks.

Single precision settles nearly every comparison; those within its rounding error are decided by `exact`. So ranks are
those of double precision, at the price of the faster arithmetic, and the pool's square is never held in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamwatch.offline.distances import BLOCK_BYTES
from streamwatch.offline.distances.blocked import SQUARED, Side, blocks, keys, side
from streamwatch.offline.distances.exact import distances_of_rows
from streamwatch.offline.distances.fitting import Fitted
from streamwatch.offline.distances.names import BOOLEAN, PRODUCTS

_UNIT = 2.0**-24
_SPREAD = 8.0
"""λ in Higham & Mary 2019 (SIAM J. Sci. Comput. 41, theorem 2.4): a sum of n products in precision u is off by more
than λ√n·u·Σ|xy| with a probability below 2n·exp(−λ²/2), below 1e-10 at 8. The bound n·u is never met."""

_UNDEFINED = BOOLEAN | {"cosine", "correlation", "braycurtis", "jensenshannon"}
"""Metrics that have no value for some vectors: only for those whose number in `Side` is not above 0."""

Heard = Callable[[int], None]
Rows = Callable[[slice, Tensor], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranks:
    """Where each target stands among the pool, the query itself left out. Shapes are (queries, targets)."""

    distance: NDArray[np.float64]
    """From the query to the target, double precision; NaN where the metric has none."""

    nearer: NDArray[np.int64]
    """How many of the pool are nearer to the query than the target."""

    tied: NDArray[np.int64]
    """How many others are exactly as far; where a distance is NaN it counts as farthest, and ties with other NaN."""

    settled_anew: int
    """Comparisons that single precision left open."""

    @property
    def rank(self) -> NDArray[np.float64]:
        """1 for the nearest; targets that tie share the mean of their places, as in `scipy.stats.rankdata`."""
        return 1.0 + self.nearer + self.tied / 2


def pair_distances(
    metric: Fitted,
    vectors: NDArray[np.float32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> NDArray[np.float64]:
    """The distances of pairs given by their indices, in double precision. `left` and `right` are of one shape."""
    result = np.empty(left.shape)
    flat, x, y = result.reshape(-1), left.reshape(-1), right.reshape(-1)
    for part in blocks(len(flat), bytes_each=48 * metric.dimensions, block_bytes=block_bytes):
        flat[part] = distances_of_rows(metric, vectors[x[part]], vectors[y[part]])
    return result


def ranks_among(
    metric: Fitted,
    vectors: NDArray[np.float32],
    queries: NDArray[np.int64],
    targets: NDArray[np.int64],
    *,
    block_bytes: int = BLOCK_BYTES,
    heard: Heard | None = None,
    rows: Rows | None = None,
) -> Ranks:
    """Rank each query's targets among all vectors.

    Args:
        metric: Fitted over the vectors.
        vectors: The pool, (n, dimensions), finite; may be a memory map.
        queries: (q,), indices into the pool.
        targets: (q, t), indices into the pool, none of them their query.
        block_bytes: Working memory beyond the vectors and the result.
        heard: Is told how many queries are done.
        rows: Is given each block of keys, (its queries as a slice, (b, n)), infinity at the query itself; they are in
            single precision, NaN made infinite. Must not write to it.
    """
    exact = pair_distances(metric, vectors, queries[:, None].repeat(targets.shape[1], axis=1), targets)
    nearer, tied = np.zeros(targets.shape, np.int64), np.zeros(targets.shape, np.int64)
    anew = 0
    pool = len(vectors)
    with torch.inference_mode():
        chunk = max(1, block_bytes // 4 // (32 * metric.dimensions))
        whole = _whole(metric, vectors, chunk) if 4 * metric.dimensions * pool <= block_bytes // 4 else None
        for part in blocks(len(queries), bytes_each=32 * metric.dimensions + 40 * pool, block_bytes=block_bytes // 2):
            x = side(metric, vectors[queries[part]], torch.float32)
            block, longest, least = _keys_of(metric, x, vectors, whole, chunk)
            index = torch.from_numpy(queries[part])
            own = torch.arange(len(index))
            if metric.name in _UNDEFINED and not least > 0:
                block.nan_to_num_(nan=torch.inf, posinf=torch.inf)
            block[own, index] = torch.inf
            aim, slack = _aims(metric, x, longest, torch.from_numpy(exact[part]))
            for column in range(targets.shape[1]):
                target = torch.from_numpy(targets[part, column])
                less, same, open_ = _count(
                    metric, vectors, block, queries[part], target, aim[:, column], slack[:, column], exact[part, column]
                )
                nearer[part, column], tied[part, column] = less, same
                anew += open_
            if rows is not None:
                rows(part, block)
            if heard is not None:
                heard(part.stop)
    return Ranks(distance=exact, nearer=nearer, tied=tied, settled_anew=anew)


def _whole(metric: Fitted, vectors: NDArray[np.float32], chunk: int) -> Side:
    """All the pool, made ready chunk by chunk: on the way there are double-precision copies."""
    parts = [side(metric, vectors[start : start + chunk], torch.float32) for start in range(0, len(vectors), chunk)]
    return Side(values=torch.cat([part.values for part in parts]), numbers=torch.cat([part.numbers for part in parts]))


def _keys_of(
    metric: Fitted, x: Side, vectors: NDArray[np.float32], whole: Side | None, chunk: int
) -> tuple[Tensor, float, float]:
    """Keys of all the pool, and the largest and the least of its sides' numbers, the least being NaN if one is."""
    if whole is not None:
        return keys(metric, x, whole), float(whole.numbers.nan_to_num(0.0).max()), float(whole.numbers.min())
    block: Tensor | None = None
    longest, least = 0.0, torch.inf
    for start in range(0, len(vectors), chunk):
        y = side(metric, vectors[start : start + chunk], torch.float32)
        some = keys(metric, x, y)
        if block is None:
            block = some.new_empty((len(x.values), len(vectors)))
        block[:, start : start + chunk] = some
        longest = max(longest, float(y.numbers.nan_to_num(0.0).max()))
        least = min(least, float(y.numbers.nan_to_num(0.0).min()))
    assert block is not None
    return block, longest, least


def _aims(metric: Fitted, x: Side, longest: float, exact: Tensor) -> tuple[Tensor, Tensor]:
    """The targets' keys, and by how much a key may be off there: both (b, t), double."""
    growth = (_SPREAD * metric.dimensions**0.5 + 16) * _UNIT
    name = metric.name
    if name in BOOLEAN or name == "hamming":
        return exact, torch.zeros_like(exact)
    if name in SQUARED:
        square = exact if name == "sqeuclidean" else exact.square()
        own = x.numbers[:, None]
        slack = growth * 2 * (own * longest).sqrt() + 8 * _UNIT * (own + longest)
        return square - own, slack.expand_as(exact)
    if name in PRODUCTS:
        return exact, torch.full_like(exact, growth)
    if name == "jensenshannon":
        return exact.square(), torch.full_like(exact, 4 * growth * (1 + float(np.log(metric.dimensions))))
    if name == "chebyshev":
        growth = _UNIT  # One subtraction, nothing is summed.
    return exact, 4 * growth * exact.abs()


def _count(
    metric: Fitted,
    vectors: NDArray[np.float32],
    block: Tensor,
    queries: NDArray[np.int64],
    target: Tensor,
    aim: Tensor,
    slack: Tensor,
    exact: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """How many are nearer than the target, how many tie with it, and how many had to be computed anew."""
    own = torch.arange(len(target))
    kept = block[own, target].clone()
    block[own, target] = torch.inf  # The target does not tie with itself.
    lost = aim.isnan()
    low, high = (aim - slack).nan_to_num(nan=torch.inf), (aim + slack).nan_to_num(nan=torch.inf)
    if block.dtype == torch.float32:  # Rounded outwards, so that comparisons in single precision leave nothing out.
        low, high = _outwards(low, -torch.inf), _outwards(high, torch.inf)
    less, upto = _per_row(block < low[:, None]), _per_row(block <= high[:, None])
    nearer, tied = less.numpy().copy(), np.zeros(len(target), np.int64)
    # Infinity stands for the query and the target as well.
    for row in torch.nonzero(lost | aim.isinf()).flatten().tolist():
        others = torch.isinf(block[row])
        others[queries[row]] = False
        others[target[row]] = False
        tied[row] = int(others.sum())
    opened = 0
    unsure = torch.nonzero((upto > less) & ~lost & ~aim.isinf()).flatten()
    counted = not slack.any()
    if counted:
        tied[unsure.numpy()] = (upto - less)[unsure].numpy()
    elif len(unsure):
        some = block[unsure]
        found, columns = torch.nonzero((some >= low[unsure, None]) & (some <= high[unsure, None]), as_tuple=True)
        rows = unsure[found].numpy()
        distance = pair_distances(metric, vectors, queries[rows], columns.numpy())
        np.add.at(nearer, rows, distance < exact[rows])
        np.add.at(tied, rows, distance == exact[rows])
        opened = len(rows)
    block[own, target] = kept
    return nearer, tied, opened


def _per_row(mask: Tensor) -> Tensor:
    """How many are true in each row. NumPy counts a row of truths faster than torch adds them up."""
    return torch.tensor([int(np.count_nonzero(row)) for row in mask.numpy()])


def _outwards(values: Tensor, direction: float) -> Tensor:
    single = values.float()
    return torch.nextafter(single, torch.full_like(single, direction))
