"""When a camera's view has become something new. No I/O, no clock, no threads.

A sample's regions are compared with the remembered states. A region is *novel* when it was farther than the threshold
from every remembered state throughout the last `confirm` samples (persistence: a passer-by is not a change), and
*still* when those samples were also near to one another (it has stopped changing). Novel regions that touch one
another are one change; it counts only once none of its regions moves any more: a hand that still holds the new
thing, a car that is still rolling, wait. docs/decision.md has the measurements behind each rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamwatch.change.distances import medoids, spreads
from streamwatch.change.memory import Memory, State, Stored
from streamwatch.records import ChangedRegion, Embedding, Grid

_ACTIVE = 0.9
"""Share of the threshold from which a region belongs to a change: edges of a moving thing must hold up the whole."""

_STILL = 0.8
"""Share of the threshold that a still region's samples may lie apart."""

_PATIENCE = 1.5
"""Windows for which a region that stays new and still waits for what moves beside it; then it counts all the same."""

_NEAR = 2
"""Regions that a part of a change may lie from the rest of it and still belong to the same event."""

_MAX_WINDOW = 24
"""Samples that a window in seconds is thinned to."""


@dataclass(frozen=True, kw_only=True)
class ChangeSettings:
    """How a camera's changes are decided."""

    threshold: float
    """Squared distance above which a region is new."""

    confirm_samples: int = 6
    """Samples in a row that must agree."""

    confirm_s: float | None = None
    """If set, the seconds of stream that must agree, never fewer than three samples; replaces `confirm_samples`."""

    min_regions: int = 2
    """Touching regions that must be new: one alone flickers. Fewer where the grid has no more."""

    cooldown_s: float = 0.0
    """Stream time after an event in which no other is raised; what is still new afterwards is raised then."""

    remember: str = "states"
    """`states`: what was announced is remembered. `recent`: the last `recent` samples are (the paper's way)."""

    recent: int = 32
    announce_first: bool = False
    """Whether the first state raises an event too."""

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"threshold is {self.threshold}, expected a number above 0")
        if self.confirm_samples < 1 or self.min_regions < 1 or self.recent < 1:
            raise ValueError("confirm_samples, min_regions and recent must be at least 1")
        if self.remember not in ("states", "recent"):
            raise ValueError(f"remember is {self.remember!r}, expected 'states' or 'recent'")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A new state, just added to the memory."""

    regions: tuple[ChangedRegion, ...]
    """Most changed first; empty for a first state."""

    before: str | None
    """The remembered state that the sample resembles most; None for a first state."""

    after: str
    """The new state."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one sample told."""

    novelty: float
    """How new the most novel settled group of regions is; NaN while too few samples were seen."""

    threshold: float
    change: Change | None = None
    """Set when this sample raises an event."""

    learned: str | None = None
    """Id of a state that joined the memory with this sample, announced or not."""

    forgotten: str | None = None
    """Id of the state that left the memory for it."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The groups of one sample."""

    novelty: float
    """Of the most novel settled group."""

    changed: NDArray[np.bool_]
    """Regions that are new, of the settled groups above the threshold."""

    pending: NDArray[np.bool_]
    """Active regions of all other groups."""

    groups: NDArray[np.int_]
    """Each region's group; 0 is the rest of the picture."""


@dataclass
class _Rest:
    """The parts of an announced change that had not settled when it was announced."""

    state: str
    regions: NDArray[np.bool_]
    samples_left: int


@dataclass
class _Seen:
    """A sample in the window."""

    pts_s: float
    vectors: NDArray[np.float32]
    nearest: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    """Squared distance of each region to its nearest remembered state."""


class ChangeDecider:
    """Decides for one camera, sample by sample. One thread at a time may call it."""

    def __init__(
        self,
        settings: ChangeSettings,
        memory: Memory,
        *,
        grid: Grid,
        new_id: Callable[[], str],
    ) -> None:
        self.settings, self.memory, self.grid = settings, memory, grid
        self.watch(np.ones(grid.regions, dtype=np.bool_))
        self._new_id = new_id
        self._window: deque[_Seen] = deque()
        self._distances = np.empty((0, grid.regions), dtype=np.float32)
        """Of the newest sample to every state, shape (states, regions)."""

        self._last_event_s: float | None = None
        self._settled_for = np.zeros(grid.regions, dtype=np.int_)
        self._rest: _Rest | None = None
        self._before_add: tuple[str, Stored, NDArray[np.int32], tuple[State, ...]] | None = None

    def watch(self, regions: NDArray[np.bool_]) -> None:
        """Judge by these regions only, shape (regions,); at first all of them count."""
        self._watched = regions
        self._min_regions = max(1, min(self.settings.min_regions, int(regions.sum())))

    def restart(self) -> None:
        """Forget the samples on trial, not the memory: the stream was interrupted."""
        self._window.clear()
        self._settled_for[:] = 0
        self._rest = None

    def withdraw(self, state: str) -> None:
        """Take back a state whose event could not be kept: what is still new with the next sample is raised then.

        Taken back at once, before the next sample, it also brings back the state that had to leave for it.
        """
        if self._before_add is not None and self._before_add[0] == state:
            self.memory.restore(*self._before_add[1:])
        else:
            self.memory.remove(state)
        self._before_add = None
        self._last_event_s = None
        self._memory_changed()

    def judge(self, embedding: Embedding, *, pts_s: float, captured_at: datetime | None = None) -> Judgement:
        """Take the next sample.

        Args:
            embedding: Of the settings' grid; the memory's dimensions.
            pts_s: Stream time; not before the previous sample's (else the trial starts afresh).
            captured_at: Wall-clock time, kept with a state that is learned.
        """
        self._before_add = None
        if self._window and pts_s < self._window[-1].pts_s:
            self.restart()
        self._push(_Seen(pts_s, embedding.vectors))
        if not self._full():
            return Judgement(novelty=float("nan"), threshold=self.settings.threshold)
        vectors = np.stack([seen.vectors for seen in self._window])
        spread = spreads(vectors)
        still = spread <= _STILL * self.settings.threshold
        if not len(self.memory):
            return self._learn_first(vectors, still, pts_s, captured_at)
        if self.settings.remember == "states":
            self._fill_gaps(vectors, still)
            self._complete(vectors, still)

        nearest = np.stack([seen.nearest for seen in self._window])
        persisted = nearest.min(axis=0)
        found = self._group(persisted, now=nearest[-1], still=still)
        # An event that lies ahead belongs to a stream that has begun anew.
        cooling = self._last_event_s is not None and 0 <= pts_s - self._last_event_s < self.settings.cooldown_s
        raised = found.novelty > self.settings.threshold and not cooling

        # What is new but must wait would be known by the time that it may be announced, were it learned now.
        waits = cooling and found.novelty > self.settings.threshold
        if raised or (self.settings.remember == "recent" and not waits):
            similar = self._most_similar()
            # What is new elsewhere but not announced yet must not slip into the memory with this state.
            known = still & ~found.pending if raised else still
            state, forgotten = self._add(vectors, known, pts_s, captured_at)
            change = None
            if raised:
                self._last_event_s = pts_s
                self._rest = _Rest(state, self._rest_of(found), len(self._window))
                change = Change(regions=self._regions(found.changed, persisted), before=similar, after=state)
            return Judgement(
                novelty=found.novelty,
                threshold=self.settings.threshold,
                change=change,
                learned=state,
                forgotten=forgotten,
            )
        self._match(nearest[-1])
        return Judgement(novelty=found.novelty, threshold=self.settings.threshold)

    def _push(self, seen: _Seen) -> None:
        """Bound: `confirm_samples`, or in seconds `_MAX_WINDOW` plus two; the oldest leaves."""
        confirm_s = self.settings.confirm_s
        seen.nearest = self._nearest(seen.vectors)
        if confirm_s is None:
            self._window.append(seen)
            while len(self._window) > self.settings.confirm_samples:
                self._window.popleft()
            return
        # Samples come faster than the window needs them: only the newest of each step stays.
        if len(self._window) >= 3 and self._window[-1].pts_s - self._window[-2].pts_s < confirm_s / _MAX_WINDOW:
            self._window.pop()
        self._window.append(seen)
        while len(self._window) > 3 and seen.pts_s - self._window[1].pts_s >= confirm_s:
            self._window.popleft()

    def _full(self) -> bool:
        confirm_s = self.settings.confirm_s
        if confirm_s is None:
            return len(self._window) >= self.settings.confirm_samples
        return len(self._window) >= 3 and self._window[-1].pts_s - self._window[0].pts_s >= confirm_s

    def _nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples of the window in their order: the newest one's distances are kept."""
        self._distances = self.memory.distances(vectors)
        if not len(self.memory):
            return np.full(self.grid.regions, np.inf, dtype=np.float32)
        nearest: NDArray[np.float32] = self._distances.min(axis=0)
        # Of a region that no state knows, nothing can be said yet.
        return np.where(np.isfinite(nearest), nearest, np.float32(0))

    def _learn_first(
        self, vectors: NDArray[np.float32], still: NDArray[np.bool_], pts_s: float, captured_at: datetime | None
    ) -> Judgement:
        state, _ = self._add(vectors, still, pts_s, captured_at)
        announced = self.settings.announce_first
        if announced:
            self._last_event_s = pts_s
        return Judgement(
            novelty=float("nan"),
            threshold=self.settings.threshold,
            change=Change(regions=(), before=None, after=state) if announced else None,
            learned=state,
        )

    def _fill_gaps(self, vectors: NDArray[np.float32], still: NDArray[np.bool_]) -> None:
        """A region that moved while the first state was learned joins that state as soon as it is still."""
        unknown = ~self.memory.known_regions() & still
        if unknown.any():
            self.memory.learn(0, medoids(vectors), regions=unknown)
            self._memory_changed()

    def _complete(self, vectors: NDArray[np.float32], still: NDArray[np.bool_]) -> None:
        """What was under way close to an announced change, and comes to rest right after it, is the same change."""
        rest = self._rest
        if rest is None:
            return
        settled = rest.regions & still
        ids = [state.id for state in self.memory.states]
        if settled.any() and rest.state in ids:
            self.memory.learn(ids.index(rest.state), medoids(vectors), regions=settled)
            self._memory_changed()
        rest.samples_left -= 1
        if not rest.samples_left:
            self._rest = None

    def _rest_of(self, found: _Found) -> NDArray[np.bool_]:
        """Every pending group that comes near the announced regions, whole."""
        around = np.ones((2 * _NEAR + 1, 2 * _NEAR + 1), dtype=np.bool_)
        changed = found.changed.reshape(self.grid.rows, self.grid.columns)
        near = ndimage.binary_dilation(changed, around).ravel()
        return found.pending & np.isin(found.groups, np.unique(found.groups[found.pending & near]))

    def _group(self, persisted: NDArray[np.float32], *, now: NDArray[np.float32], still: NDArray[np.bool_]) -> _Found:
        """Join what is active now into groups that touch, and see which of them are settled and new."""
        active = self._watched & (now > _ACTIVE * self.settings.threshold)
        touching = np.ones((3, 3), dtype=np.int_)
        labelled, _ = ndimage.label(active.reshape(self.grid.rows, self.grid.columns), touching)
        groups = labelled.ravel().astype(np.int_)
        unsettled = np.unique(groups[active & ~still])
        eligible = self._watched & still & ~(active & np.isin(groups, unsettled))
        # People who pass before a thing that stays must not hold it up for ever.
        self._settled_for = np.where(still & (persisted > self.settings.threshold), self._settled_for + 1, 0)
        eligible |= self._watched & still & (self._settled_for > _PATIENCE * len(self._window))
        novelty, changed, pending = 0.0, np.zeros_like(eligible), active.copy()
        for group in np.unique(groups[eligible]):  # 0 is the rest of the picture: never above the threshold
            members = eligible & (groups == group)
            values = np.sort(persisted[members])
            if len(values) < self._min_regions:
                continue
            of_group = float(values[-self._min_regions])
            novelty = max(novelty, of_group)
            if of_group > self.settings.threshold:
                changed |= members & (persisted > self.settings.threshold)
                pending &= groups != group
        return _Found(novelty=novelty, changed=changed, pending=pending, groups=groups)

    def _regions(self, changed: NDArray[np.bool_], persisted: NDArray[np.float32]) -> tuple[ChangedRegion, ...]:
        order = sorted(np.flatnonzero(changed), key=lambda region: -persisted[region])
        return tuple(
            ChangedRegion(box=self.grid.box(int(region)), distance_sq=float(persisted[region])) for region in order
        )

    def _most_similar(self) -> str:
        return self.memory.states[int(self._totals(self._watched).argmin())].id

    def _match(self, nearest: NDArray[np.float32]) -> None:
        """Keep the states that explain the present from leaving first."""
        if not self._watched.any() or float(nearest[self._watched].max()) > self.settings.threshold:
            return
        self.memory.touch(int(self._totals(np.ones_like(self._watched)).argmin()))

    def _totals(self, regions: NDArray[np.bool_]) -> NDArray[np.float32]:
        """How far the newest sample lies from each state in these regions, shape (states,)."""
        # A state that knows little must not seem near for that, nor far: what it does not know is as far as from the
        # farthest that does.
        finite = np.isfinite(self._distances)
        farthest = np.where(finite, self._distances, 0).max(axis=0)
        totals: NDArray[np.float32] = np.where(finite, self._distances, farthest)[:, regions].sum(axis=1)
        return totals

    def _add(
        self, vectors: NDArray[np.float32], known: NDArray[np.bool_], pts_s: float, captured_at: datetime | None
    ) -> tuple[str, str | None]:
        state = self._new_id()
        self._before_add = (state, self.memory.vectors, self.memory.vector_regions, self.memory.states)
        leaving = self.memory.add(medoids(vectors), id=state, known=known, made_s=pts_s, made_at=captured_at)
        self._memory_changed()
        return state, leaving.id if leaving else None

    def _memory_changed(self) -> None:
        for seen in self._window:
            seen.nearest = self._nearest(seen.vectors)
