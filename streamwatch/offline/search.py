"""Exact nearest neighbours in memory: matrix products in float32 name candidates, float64 puts them in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamwatch.errors import UsageError
from streamwatch.offline.coarse import CoarseCodes, coarse_works
from streamwatch.offline.distances import canonical, pairwise

PRODUCT_METRICS = ("sqeuclidean", "euclidean", "cosine")
"""Those that are matrix products; all others go through `offline.distances`."""

_SPARE = 16
"""Candidates beyond those asked for."""

_SPARE_OF_CODES = 24
_SPARE_LAST = 2
_TOO_NEAR = 2000
"""Candidates by codes, of one query, past which single precision is the shorter way."""

_MANY = 256
"""From so many queries on, coding the gallery costs less than what it saves."""

_BLOCK_NUMBERS = 1 << 23
"""Distances, and gallery numbers converted from half precision, that are held at once."""


_Answer = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
"""Distances (squared for euclidean), positions and windows of one query's nearest."""


@dataclass(frozen=True)
class Found:
    """The nearest of the gallery for each query, nearest first; ties by position."""

    distances: NDArray[np.float64]
    """Shape (queries, top). NaN, last, where a metric is not defined (the cosine distance of a vector of zeros)."""

    positions: NDArray[np.int64]
    """Shape (queries, top): the gallery's rows."""

    windows: NDArray[np.int64]
    """Shape (queries, top): which of a picture's windows was the nearest; 0 for whole pictures."""


class ExactSearch:
    """The vectors of a gallery, ready to be searched. One thread at a time may search; the array must not change."""

    def __init__(self, vectors: NDArray[np.float32] | NDArray[np.float16]) -> None:
        """Take the vectors, which are not copied, and look at each once.

        Args:
            vectors: Shape (pictures, dimensions), or (pictures, windows, dimensions): a picture is then as near as its
                nearest window.

        Raises:
            UsageError: A vector holds NaN or infinity.
        """
        assert vectors.ndim in (2, 3)
        self._pictures = len(vectors)
        self._windows = vectors.shape[1] if vectors.ndim == 3 else 1
        self._dimensions = vectors.shape[-1]
        self._all = torch.from_numpy(vectors.reshape(-1, self._dimensions))
        # vector_norm reads once; vecdot would write all products first.
        parts = [torch.linalg.vector_norm(block, dim=1).square_() for _, block in self._blocks()]
        self._squares = torch.cat(parts) if parts else torch.zeros(0)
        self._coarse: CoarseCodes | None = None
        self._asked = 0
        odd = torch.nonzero(~torch.isfinite(self._squares)).flatten().tolist()
        for row in odd:  # A square may overflow though its vector is finite.
            if not bool(torch.isfinite(self._all[row]).all()):
                raise UsageError(
                    f"the vector at position {row // self._windows} of the gallery holds NaN or infinity; index the "
                    "pictures into a new gallery"
                )
            raise UsageError(f"the vector at position {row // self._windows} of the gallery is too large for float32")

    def __len__(self) -> int:
        return self._pictures

    def search(self, queries: NDArray[np.float32], *, top: int, metric: str = "sqeuclidean") -> Found:
        """The `top` nearest pictures for each query, or all where there are fewer.

        Distances are SciPy's values, computed in float64 from the float32 vectors.

        Args:
            queries: Shape (queries, dimensions).
            top: At least 1.
            metric: A name of SciPy's.

        Raises:
            UsageError: NaN or infinity in a query, another number of dimensions, or no such metric.
        """
        if queries.ndim != 2 or queries.shape[1] != self._dimensions:
            raise UsageError(
                f"queries have shape {queries.shape}, expected (queries, {self._dimensions}) as the gallery's vectors"
            )
        if top < 1:
            raise UsageError(f"the number of results is {top}, expected at least 1")
        if not np.isfinite(queries).all():
            raise UsageError("a query's vector holds NaN or infinity: the weights gave no usable numbers")
        top = min(top, self._pictures)
        metric = canonical(metric)
        if metric not in PRODUCT_METRICS:
            return self._by_pairs(queries, top, metric)
        asked = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
        with torch.inference_mode():
            return self._by_products(asked, top, metric)

    def prepare(self) -> bool:
        """Make ready for many queries: a copy in 8-bit codes, a quarter of the gallery's bytes. `search` does it by
        itself once it pays.

        Returns:
            False where this machine or these vectors (in half precision, or with windows) do without.
        """
        if self._coarse is None and self._windows == 1 and len(self._all) > 1 and self._all.dtype == torch.float32:
            self._coarse = CoarseCodes(self._all) if coarse_works() else None
        return self._coarse is not None

    def _by_products(self, queries: Tensor, top: int, metric: str) -> Found:
        if not top or not len(queries):
            return _nothing(len(queries), top)
        answers: dict[int, _Answer] = {}
        self._asked += len(queries)
        if metric != "cosine" and (self._coarse is not None or (self._asked >= _MANY and self.prepare())):
            answers = self._by_codes(queries, top)
        waiting = [number for number in range(len(queries)) if number not in answers]
        spare = top + _SPARE
        while waiting:
            # Most often once. Again, with more candidates, for queries with many all but equal distances.
            count = min(spare, self._pictures)
            scores, positions = self._candidates(queries[waiting], count, metric)
            again = []
            for number, query in enumerate(waiting):
                answers[query] = self._settled(queries[query], positions[number], top, metric)
                furthest = answers[query][0][-1]
                if count < self._pictures and not self._safe(scores[number], queries[query], furthest, metric):
                    again.append(query)
            waiting, spare = again, spare * 8
        parts = zip(*(answers[number] for number in range(len(queries))), strict=True)
        distances, positions_found, windows = (np.stack(part) for part in parts)
        return Found(np.sqrt(distances) if metric == "euclidean" else distances, positions_found, windows)

    def _by_codes(self, queries: Tensor, top: int) -> dict[int, _Answer]:
        """What the codes are exact enough for."""
        assert self._coarse is not None
        answers: dict[int, _Answer] = {}
        count = min(top + _SPARE_OF_CODES, self._pictures)
        at_once = max(1, _BLOCK_NUMBERS // self._pictures)
        for start in range(0, len(queries), at_once):
            part = queries[start : start + at_once]
            scores, off, squares = self._coarse.scores(part)
            best, positions = scores.topk(count, largest=False, sorted=False)
            bars = squares - off
            for number, query in enumerate(part):
                answer = self._settled(query, positions[number], top, "sqeuclidean")
                bar = float(bars[number])
                if count < self._pictures and float(best[number].max()) + bar <= answer[0][-1]:
                    # All that may be as near as the last of these.
                    near = torch.nonzero(scores[number] <= answer[0][-1] - bar).flatten()
                    if len(near) > _TOO_NEAR:
                        continue
                    answer = self._settled(query, near, top, "sqeuclidean")
                answers[start + number] = answer
        return answers

    def _settled(self, query: Tensor, positions: Tensor, top: int, metric: str) -> _Answer:
        """The nearest of the candidates, exactly."""
        if self._windows == 1 and metric != "cosine" and len(positions) > top + _SPARE_LAST:
            # Single precision differences, off by a part in a million at most, leave few for double precision. NumPy:
            # so little work is done before torch's threads have met.
            apart = np.take(self._all.numpy(), positions.numpy(), axis=0, mode="clip")  # clip: nothing to check
            apart -= query.numpy()
            rough = np.einsum("ij,ij->i", apart, apart)
            order = np.argpartition(rough, top + _SPARE_LAST)[: top + _SPARE_LAST]
            kept = np.sort(rough[order])
            if kept[top - 1] * (1 + 1e-5) < kept[-1]:
                positions = positions[torch.from_numpy(order)]
        exact, windows = self._exact(query, positions, metric)
        order = np.lexsort((positions.numpy(), exact))[:top]
        return exact[order], positions.numpy()[order], windows[order]

    def _candidates(self, queries: Tensor, count: int, metric: str) -> tuple[Tensor, Tensor]:
        """(scores, positions), each (queries, count), lowest score first; a score grows with the distance."""
        best = torch.empty(len(queries), 0)
        positions = torch.empty(len(queries), 0, dtype=torch.int64)
        for start, block in self._blocks(per_row=len(queries)):
            squares = self._squares[start : start + len(block)]
            if metric == "cosine":
                scores = (queries @ block.T).neg_().div_(squares.sqrt())
                scores = scores.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
            else:
                scores = torch.addmm(squares, queries, block.T, alpha=-2)
            if self._windows > 1:
                scores = scores.view(len(queries), -1, self._windows).amin(2)
            first = start // self._windows
            if scores.shape[1] > count:
                scores, here = scores.topk(count, largest=False, sorted=False)
                here += first
            else:
                here = torch.arange(first, first + scores.shape[1]).expand(len(queries), -1)
            best, positions = torch.cat((best, scores), 1), torch.cat((positions, here), 1)
            if best.shape[1] > count:
                best, kept = best.topk(count, largest=False, sorted=False)
                positions = positions.gather(1, kept)
        return best, positions

    def _exact(self, query: Tensor, positions: Tensor, metric: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distances (squared for euclidean) to the candidates, and their nearest windows."""
        if self._windows == 1 and metric != "cosine":
            apart = self._all.numpy()[positions.numpy()].astype(np.float64)
            apart -= query.numpy()
            return np.einsum("ij,ij->i", apart, apart), np.zeros(len(positions), np.int64)
        chosen = self._all.view(self._pictures, self._windows, self._dimensions)[positions].double()
        wanted = query.double()
        if metric == "cosine":
            lengths = torch.linalg.vecdot(chosen, chosen).sqrt() * torch.linalg.vecdot(wanted, wanted).sqrt()
            distances = 1 - (chosen @ wanted) / lengths
            ranked = distances.nan_to_num(nan=torch.inf)
        else:
            chosen -= wanted
            ranked = distances = torch.linalg.vecdot(chosen, chosen)
        windows = ranked.argmin(1, keepdim=True)
        return distances.gather(1, windows).flatten().numpy(), windows.flatten().numpy()

    def _safe(self, scores: Tensor, query: Tensor, furthest: float, metric: str) -> bool:
        """True if rounding cannot have kept anything out that belongs among the nearest.

        Rounding errors of a dot product of n terms grow as √n, not n (Higham & Mary 2019, theorem 2.4); four times that
        is taken.
        """
        rounding = 4 * self._dimensions**0.5 * 2.0**-24
        worst = float(scores.max())
        length_sq = float(query.double().square().sum())
        if metric == "cosine":
            if np.isnan(furthest):
                return True  # undefined ones come last in any order
            worst, bar, scale = worst / max(length_sq, 1e-300) ** 0.5, furthest - 1, 1.0
        else:
            bar = furthest - length_sq
            # |q|² + |g|² bounds 2|q||g|; for a candidate |g| ≤ |q| + its distance.
            reach = length_sq**0.5 + max(worst + length_sq, furthest, 0.0) ** 0.5
            scale = length_sq + reach**2
        return bool(worst - bar > rounding * scale)

    def _by_pairs(self, queries: NDArray[np.float32], top: int, metric: str) -> Found:
        if not top or not len(queries):
            return _nothing(len(queries), top)
        # In one call: some metrics depend on the whole gallery (its variances).
        matrix = np.asarray(pairwise(metric, queries, self._all.float().numpy()), np.float64)
        matrix = matrix.reshape(len(queries), self._pictures, self._windows)
        ranked = np.where(np.isnan(matrix), np.inf, matrix)
        windows = ranked.argmin(2)
        order = np.argsort(ranked.min(2), axis=1, kind="stable")[:, :top]
        nearest = np.take_along_axis(windows, order, 1)
        distances = matrix[np.arange(len(queries))[:, None], order, nearest]
        return Found(distances, order, nearest)

    def _blocks(self, *, per_row: int = 1) -> Iterator[tuple[int, Tensor]]:
        """(first row, float32 rows), whole pictures, in order."""
        half = self._all.dtype == torch.float16
        numbers = max(per_row, self._dimensions if half else 1)
        rows = max(1, _BLOCK_NUMBERS // numbers // self._windows) * self._windows
        for start in range(0, len(self._all), rows):
            yield start, self._all[start : start + rows].float()


def _nothing(queries: int, top: int) -> Found:
    return Found(np.zeros((queries, top)), np.zeros((queries, top), np.int64), np.zeros((queries, top), np.int64))
