"""Joins the stages for one camera: a frame and its embedding go in, a judgement and perhaps an event come out.

No threads, no clock; the pictures of states are its only output to disk, through `StatePictures`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamwatch.change.decision import ChangeDecider, ChangeSettings, Judgement
from streamwatch.change.memory import Memory
from streamwatch.change.zones import Polygon, watched_regions
from streamwatch.embedding import EmbedderIdentity
from streamwatch.embedding.fitting import seen_box
from streamwatch.errors import OutputError
from streamwatch.events.pictures import StatePictures
from streamwatch.records import Box, ChangedRegion, Embedding, Frame, LabelNeeded


def new_id() -> str:
    """A unique name for a state and its event."""
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An event, and where its pictures lie."""

    event: LabelNeeded
    before: Path | None
    after: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one sample led to."""

    judgement: Judgement
    raised: Raised | None
    memory_changed: bool
    """True if the camera's memory should be saved now, after the event is safe."""


class CameraPipeline:
    """One camera's way from samples to events. One thread at a time may call it."""

    def __init__(
        self,
        camera: str,
        *,
        settings: ChangeSettings,
        identity: EmbedderIdentity,
        memory: Memory,
        pictures: StatePictures,
        zones: Sequence[Polygon] = (),
        masks: Sequence[Polygon] = (),
        new_id: Callable[[], str] = new_id,
    ) -> None:
        self.camera, self.memory, self.identity = camera, memory, identity
        self._settings, self._pictures = settings, pictures
        self._zones, self._masks = zones, masks
        self._seen = Box(0.0, 0.0, 1.0, 1.0)
        self._size: tuple[int, int] | None = None
        self._decider = ChangeDecider(settings, memory, grid=identity.grid, new_id=self._next_id)
        self.watched = 0
        """Regions that are judged; 0 where masks or the fit leave nothing of the zones, so that no event can come.
        Before the first picture: as if the network saw whole pictures."""

        self._watch()
        self._new_id = new_id
        self._withdrawn: str | None = None
        """The state taken back with the last sample; the same change, raised again, has the same id."""

    @property
    def lasting(self) -> bool:
        """Whether the memory is to outlive a restart: remembered states are, recent frames are not."""
        return self._settings.remember == "states"

    def restart(self) -> None:
        """The stream was interrupted: samples from before and after must not confirm each other."""
        self._decider.restart()

    def push(self, frame: Frame, vectors: NDArray[np.float32]) -> Outcome:
        """Judge the next sample.

        Args:
            frame: In capture order.
            vectors: The frame's region vectors, shape (regions, dimensions).

        Raises:
            OutputError: A state's picture could not be written. Nothing is lost: the state is taken back, and what is
                still new with the next sample is raised then.
        """
        size = (frame.picture.width, frame.picture.height)
        if size != self._size:
            self._look_through(size)
        embedding = Embedding(vectors=vectors, grid=self.identity.grid)
        judgement = self._decider.judge(embedding, pts_s=frame.pts_s, captured_at=frame.captured_at)
        if judgement.learned is None:
            self._withdrawn = None  # what was new is so no more; what comes later is another event
            return Outcome(judgement=judgement, raised=None, memory_changed=False)
        try:
            return self._keep(frame, judgement, judgement.learned)
        except OutputError:
            self.withdraw(judgement.learned)
            raise

    def _look_through(self, size: tuple[int, int]) -> None:
        """What the network sees depends on the picture's shape; zones are given in the picture."""
        width, height = self._size = size
        self._seen = seen_box(self.identity.fit, width=width, height=height)
        self._watch()

    def _watch(self) -> None:
        regions = watched_regions(
            self.identity.grid,
            zones=[self._to_seen(zone) for zone in self._zones],
            masks=[self._to_seen(mask) for mask in self._masks],
        )
        self.watched = int(regions.sum())
        self._decider.watch(regions)

    def _to_seen(self, polygon: Polygon) -> Polygon:
        seen = self._seen
        return [((x - seen.x) / seen.width, (y - seen.y) / seen.height) for x, y in polygon]

    def _in_picture(self, region: ChangedRegion) -> ChangedRegion:
        box, seen = region.box, self._seen
        left, top = seen.x + box.x * seen.width, seen.y + box.y * seen.height
        right, bottom = left + box.width * seen.width, top + box.height * seen.height
        left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in (left, top, right, bottom))
        return replace(region, box=Box(left, top, right - left, bottom - top))

    def withdraw(self, state: str) -> None:
        """Take back a state whose event could not be kept.

        If the next sample raises it again, that event has the same id: a receiver may have got the first one, though
        it was reported as failed, and can drop the repeat.
        """
        self._decider.withdraw(state)
        self._pictures.discard(state)
        self._withdrawn = state

    def _next_id(self) -> str:
        withdrawn, self._withdrawn = self._withdrawn, None
        return withdrawn or self._new_id()

    def _keep(self, frame: Frame, judgement: Judgement, learned: str) -> Outcome:
        raised = None
        if judgement.change is None:
            (self._pictures.keep if self.lasting else self._pictures.hold)(learned, frame.picture)
        else:
            change = judgement.change
            raised = Raised(
                event=LabelNeeded(
                    id=change.after,
                    camera=self.camera,
                    pts_s=frame.pts_s,
                    captured_at=frame.captured_at,
                    novelty=judgement.novelty,
                    threshold=judgement.threshold,
                    regions=tuple(self._in_picture(region) for region in change.regions),
                    before_state=change.before,
                    after_state=change.after,
                    time_source=frame.time_source,
                ),
                before=self._pictures.path(change.before) if change.before else None,
                after=self._pictures.keep(change.after, frame.picture),
            )
        if judgement.forgotten is not None:
            self._pictures.forget(judgement.forgotten)
        return Outcome(judgement=judgement, raised=raised, memory_changed=self.lasting)
