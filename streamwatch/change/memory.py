"""What a camera has seen already: remembered states, bounded, to be kept over a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamwatch.change.distances import squared_distances

Stored = NDArray[np.float16] | NDArray[np.float32]

ABSENT = -1
"""Row of a region that a state knows nothing of."""

_BLOCK = 1 << 18
"""Numbers that are widened at a time: a block stays in the processor's cache, and the memory is never doubled."""


@dataclass(frozen=True, kw_only=True)
class State:
    """One remembered state of the scene."""

    id: str
    rows: NDArray[np.int32]
    """Shape (regions,): for each region, which row of the memory's vectors it looks like; `ABSENT` where unknown."""

    made_at: datetime | None
    """Capture time of its first sample; None for files."""

    made_s: float
    """The same on the stream's own time."""

    matched: int
    """Rises with each match in the whole memory; the smallest number is the least recently matched state."""

    verdict: str = "pending"
    """`pending`, `labelled` or `not_needed`."""


class Memory:
    """The remembered states of one camera.

    States differ in few regions, so a region's vector is stored only where it lies farther than `epsilon_sq` from
    those already stored for that region; else the state refers to the nearest stored one. At most `max_states` are
    kept: when one more comes, the least recently matched pending state leaves (any state, if none is pending).
    """

    def __init__(
        self,
        *,
        regions: int,
        dimensions: int,
        max_states: int,
        epsilon_sq: float = 0.02,
        dtype: DTypeLike = np.float16,
    ) -> None:
        if max_states < 1:
            raise ValueError(f"max_states is {max_states}, expected at least 1")
        self.regions, self.dimensions = regions, dimensions
        self.max_states, self.epsilon_sq = max_states, epsilon_sq
        self.dtype = np.dtype(dtype)
        """Of the stored vectors: float16 for vectors of unit length, float32 for raw ones, which may pass its 65504."""

        self._vectors: Stored = np.empty((0, dimensions), dtype=self.dtype)
        self._region = np.empty(0, dtype=np.int32)
        self._states: list[State] = []
        self._matches = 0

    @property
    def states(self) -> tuple[State, ...]:
        """Oldest first."""
        return tuple(self._states)

    @property
    def vectors(self) -> Stored:
        """Every stored region vector, shape (rows, dimensions)."""
        return self._vectors

    @property
    def vector_regions(self) -> NDArray[np.int32]:
        """The region that each stored vector belongs to, shape (rows,)."""
        return self._region

    def __len__(self) -> int:
        return len(self._states)

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared distance of each region to each state.

        Args:
            vectors: Shape (regions, dimensions).

        Returns:
            Shape (states, regions), infinite where a state knows nothing of a region.
        """
        if not self._states:
            return np.empty((0, self.regions), dtype=np.float32)
        by_row = np.append(self._by_row(vectors), np.float32(np.inf))
        # ABSENT is -1: it finds the infinity appended at the end.
        distances: NDArray[np.float32] = by_row[np.stack([state.rows for state in self._states])]
        return distances

    def known_regions(self) -> NDArray[np.bool_]:
        """Regions of which at least one state knows something, shape (regions,)."""
        known = np.zeros(self.regions, dtype=np.bool_)
        for state in self._states:
            known |= state.rows != ABSENT
        return known

    def touch(self, index: int) -> None:
        """Say that the state at this place of `states` was matched just now."""
        self._matches += 1
        self._states[index] = replace(self._states[index], matched=self._matches)

    def add(
        self,
        vectors: NDArray[np.float32],
        *,
        id: str,
        known: NDArray[np.bool_],
        made_s: float,
        made_at: datetime | None = None,
    ) -> State | None:
        """Remember a state; returns the one that had to leave for it, if any.

        Args:
            vectors: Shape (regions, dimensions).
            id: Unique in this memory.
            known: Regions of which the state really tells something, shape (regions,).
            made_s: Stream time in seconds.
            made_at: Capture time, if known.
        """
        self._matches += 1
        rows = self._store(vectors, known)
        self._states.append(State(id=id, rows=rows, made_at=made_at, made_s=made_s, matched=self._matches))
        if len(self._states) <= self.max_states:
            return None
        leaving = self._leaving(self._states[:-1])
        self.remove(leaving.id)
        return leaving

    def remove(self, id: str) -> None:
        """Forget the state of that id; nothing happens if there is none."""
        self._states = [state for state in self._states if state.id != id]
        self._forget_unused()

    def learn(self, index: int, vectors: NDArray[np.float32], *, regions: NDArray[np.bool_]) -> None:
        """Let the state at this place know further regions (shape (regions,)); those that it knows already stay."""
        state = self._states[index]
        fresh = regions & (state.rows == ABSENT)
        rows = np.where(fresh, self._store(vectors, fresh), state.rows).astype(np.int32)
        self._states[index] = replace(state, rows=rows)

    def restore(self, vectors: Stored, vector_regions: NDArray[np.int32], states: Iterable[State]) -> None:
        """Take over what was saved: as `vectors`, `vector_regions` and `states` gave it.

        Where it was a larger memory's, those leave that would have left this one.
        """
        self._vectors, self._region, self._states = self._narrowed(vectors), vector_regions, list(states)
        self._matches = max((state.matched for state in self._states), default=0)
        while len(self._states) > self.max_states:
            self.remove(self._leaving(self._states).id)

    @staticmethod
    def _leaving(candidates: list[State]) -> State:
        pending = [state for state in candidates if state.verdict == "pending"] or candidates
        return min(pending, key=lambda state: state.matched)

    def _store(self, vectors: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.int32]:
        rows = np.full(self.regions, ABSENT, dtype=np.int32)
        nearest = np.full(self.regions, np.inf, dtype=np.float32)
        if len(self._vectors):
            distances = self._by_row(vectors)
            order = np.argsort(-distances, kind="stable")  # the nearest of a region is written last
            rows[self._region[order]] = order
            nearest[self._region[order]] = distances[order]
        new = np.flatnonzero(known & (nearest > self.epsilon_sq))
        rows[new] = len(self._vectors) + np.arange(len(new))
        rows[~known] = ABSENT
        self._vectors = np.concatenate([self._vectors, self._narrowed(vectors[new])])
        self._region = np.concatenate([self._region, new.astype(np.int32)])
        return rows

    def _by_row(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared distance of each stored vector to the one of its region, shape (rows,)."""
        distances = np.empty(len(self._vectors), dtype=np.float32)
        step = max(1, _BLOCK // self.dimensions)
        for start in range(0, len(distances), step):
            rows = slice(start, start + step)
            wide = self._vectors[rows].astype(np.float32, copy=False)
            distances[rows] = squared_distances(vectors[self._region[rows]], wide)
        return distances

    def _narrowed(self, vectors: NDArray[np.floating]) -> Stored:
        largest = float(np.finfo(self.dtype).max)
        if vectors.size and not float(np.abs(vectors).max()) <= largest:
            raise ValueError(f"a vector holds {np.abs(vectors).max():g}, {self.dtype} holds numbers up to {largest:g}")
        narrowed: Stored = vectors.astype(self.dtype, copy=False)
        return narrowed

    def _forget_unused(self) -> None:
        used = np.zeros(len(self._vectors) + 1, dtype=np.bool_)
        for state in self._states:
            used[state.rows] = True  # ABSENT marks the spare place at the end
        kept = np.flatnonzero(used[:-1])
        if len(kept) == len(self._vectors):
            return
        moved = np.full(len(used), ABSENT, dtype=np.int32)
        moved[kept] = np.arange(len(kept), dtype=np.int32)
        self._vectors, self._region = self._vectors[kept], self._region[kept]
        self._states = [replace(state, rows=moved[state.rows]) for state in self._states]
