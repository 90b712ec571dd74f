"""Retrieval figures over labelled images, from blocks of distances: no query's whole order is kept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CUTS = (1, 5, 10, 100)
"""k of recall@k and CMC@k."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Means over the queries that have another image of their class in the pool.

    Each query is compared with all the pool but itself. Where distances tie, the images of the query's class come last.
    """

    queries: int
    without: int
    """Queries left out, their class having no other image."""

    mean_average_precision: float
    r_precision: float
    """Share of the class among the first R, R being how many there are."""

    recall: tuple[float, ...]
    """At each of CUTS: the share of the class that is among the first k."""

    cmc: tuple[float, ...]
    """At each of CUTS: the share of queries with at least one of the class among the first k (the recall@k of metric
    learning)."""


class RetrievalMeter:
    """Adds up the figures block by block."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        """`labels` has one number an image of the pool; negative ones are of no class."""
        self._labels = labels
        order = np.argsort(labels, kind="stable")
        first = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
        self._members = [order[a:b] for a, b in pairwise(first)]
        self._queries = self._without = 0
        self._precision = self._r_precision = 0.0
        self._recall = np.zeros(len(CUTS))
        self._cmc = np.zeros(len(CUTS))

    def add(self, queries: NDArray[np.int64], block: Tensor) -> None:
        """A block of keys (b, n) of queries given by their numbers in the pool, infinity at each query itself."""
        members = [
            own[own != query] if label >= 0 else own[:0]
            for query, label in zip(queries, self._labels[queries], strict=True)
            for own in (self._members[max(label, 0)],)
        ]
        counts = np.array([len(some) for some in members], np.int64)
        kept = np.flatnonzero(counts)
        self._without += len(counts) - len(kept)
        # Queries of like class size together, so that little is padded.
        for part in np.array_split(kept[np.argsort(counts[kept])], max(1, len(kept) // 256)):
            if len(part):
                self._add_part(block, torch.from_numpy(part), [members[row] for row in part], counts[part])

    def _add_part(
        self, block: Tensor, rows: Tensor, members: list[NDArray[np.int64]], counts: NDArray[np.int64]
    ) -> None:
        widest = int(counts.max())
        own = torch.full((len(rows), widest), torch.inf, dtype=block.dtype)
        for row, some in enumerate(members):
            own[row, : len(some)] = block[rows[row], torch.from_numpy(some)]
        own = own.sort(dim=1).values
        keys = block[rows]
        # Each of the pool falls before the first of the class that is as far or farther; summed up, that is how many
        # are as near or nearer. The query itself, at infinity, falls behind all.
        places = torch.searchsorted(own, keys)
        places += torch.arange(len(rows))[:, None] * (widest + 1)
        fallen = torch.bincount(places.flatten(), minlength=len(rows) * (widest + 1))
        ranks = fallen.view(len(rows), widest + 1).cumsum(1)[:, :widest].numpy()
        present = np.arange(widest)[None] < counts[:, None]
        # A member at infinity shares its place with the query, which does not count.
        ranks = np.minimum(ranks, block.shape[1] - 1)
        number = np.arange(1, widest + 1)[None]
        self._queries += len(rows)
        self._precision += float((np.where(present, number / ranks, 0.0).sum(axis=1) / counts).sum())
        self._r_precision += float((((ranks <= counts[:, None]) & present).sum(axis=1) / counts).sum())
        for place, cut in enumerate(CUTS):
            hits = ((ranks <= cut) & present).sum(axis=1)
            self._recall[place] += float((hits / counts).sum())
            self._cmc[place] += int((hits > 0).sum())

    def result(self) -> Retrieval | None:
        """The means; None where no query has another image of its class."""
        if not self._queries:
            return None
        n = self._queries
        return Retrieval(
            queries=n,
            without=self._without,
            mean_average_precision=self._precision / n,
            r_precision=self._r_precision / n,
            recall=tuple(float(value / n) for value in self._recall),
            cmc=tuple(float(value / n) for value in self._cmc),
        )
