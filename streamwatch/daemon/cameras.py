"""The cameras that are watched: readers, memories and decisions, added, removed and changed while others go on."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from streamwatch.assembly import new_memory, new_pipeline
from streamwatch.clock import Clock
from streamwatch.config import CameraConfig, Config
from streamwatch.daemon.offline import OfflineWatch
from streamwatch.daemon.reader import Backoff, Reader
from streamwatch.daemon.reload import Plan
from streamwatch.daemon.slots import Slots
from streamwatch.embedding import Embedder
from streamwatch.errors import OutputError
from streamwatch.events.store import FolderStore
from streamwatch.metrics import Metrics
from streamwatch.pipeline import CameraPipeline
from streamwatch.sources import Source
from streamwatch.urls import is_live

log = logging.getLogger(__name__)

NOTHING_WATCHED = "masks, or the network's fit, leave nothing of the zones: no event can come; change them"


@dataclass
class Camera:
    """One camera that is watched."""

    config: CameraConfig
    pipeline: CameraPipeline
    reader: Reader
    first_epoch: int
    """What was read under an earlier epoch came from a predecessor of the same name."""

    offline: OfflineWatch | None = None
    """Of live cameras, once they are started."""

    epoch: int | None = None
    """Of the last sample that was judged."""

    unwritten: OutputError | None = None
    """Why its last event is not written yet."""

    @property
    def name(self) -> str:
        return self.config.name

    def configure(self, section: CameraConfig) -> None:
        """Take over what needs no new reader or pipeline."""
        self.config = section
        if self.offline is not None:
            self.offline.expect(offline_after_s=section.offline_after, every_s=section.every)


class Cameras:
    """All cameras. The main thread changes them, the worker judges by them, each within `lock`; any thread may look at
    them."""

    def __init__(
        self,
        config: Config,
        *,
        embedder: Embedder,
        store: FolderStore,
        slots: Slots,
        metrics: Metrics,
        clock: Clock,
        opener: Callable[[CameraConfig], Source],
        new_backoff: Callable[[], Backoff | None] = lambda: None,
    ) -> None:
        """Build all parts; nothing runs yet.

        Raises:
            UsageError: The network's vectors need a threshold, and none was given.
            WeightsMismatch: A camera's memory was written with other weights.
            OutputError: The data folder cannot be used.
        """
        self.lock = threading.Lock()
        """Held while a sample is judged and what follows from it is written, and while cameras change."""

        self._embedder, self._store, self._slots = embedder, store, slots
        self._metrics, self._clock, self._opener = metrics, clock, opener
        self._new_backoff = new_backoff
        self._epochs = itertools.count(1)
        self._by_name: dict[str, Camera] = {}
        pipelines = [self._pipeline(section, config) for section in config.cameras]
        for section, pipeline in zip(config.cameras, pipelines, strict=True):
            self._by_name[section.name] = self._new(section, config, pipeline)

    def get(self, name: str) -> Camera | None:
        """The camera of that name, or None."""
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[Camera]:
        """As they are now: later changes are not seen."""
        return iter(tuple(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def start(self) -> None:
        """Begin to read."""
        for camera in self:
            self._start(camera)

    def apply(self, plan: Plan) -> None:
        """Change what is watched; as long as this can fail, nothing has changed.

        Raises:
            UsageError: The network's vectors need a threshold, and none was given.
            WeightsMismatch: A new camera's memory was written with other weights.
            OutputError: The data folder cannot be used.
        """
        config = plan.config
        fresh = {camera.name: self._pipeline(camera, config) for camera in (*plan.started, *plan.rejudged)}
        with self.lock:
            known = dict(self._by_name)
            leaving = {name: known.pop(name) for name in plan.stopped}
            for camera in leaving.values():
                self._let_go(camera)
            for section in plan.started:
                if section.name in leaving:
                    _take_over(fresh[section.name], leaving[section.name])
                known[section.name] = self._new(section, config, fresh[section.name])
            for section in plan.rejudged:
                camera = known[section.name]
                _take_over(fresh[section.name], camera)
                camera.pipeline = fresh[section.name]
            for section in config.cameras:
                known[section.name].configure(section)
            self._by_name = known
        for section in plan.started:
            camera, predecessor = known[section.name], leaving.get(section.name)
            self._start(camera)
            if predecessor is not None and predecessor.offline is not None and camera.offline is not None:
                camera.offline.take_over(predecessor.offline)

    def save(self, camera: Camera) -> None:
        """Write a camera's memory, where it is to last. Within `lock`."""
        pipeline = camera.pipeline
        if not pipeline.lasting or not len(pipeline.memory):
            return
        try:
            self._store.save_memory(camera.name, pipeline.memory, identity=self._embedder.identity)
        except OutputError as error:
            # The event is safe; at worst the same state is announced again after a restart.
            log.error("%s: %s; the memory is saved with the next change", camera.name, error)

    def _new(self, section: CameraConfig, config: Config, pipeline: CameraPipeline) -> Camera:
        name, first_epoch, identity = section.name, next(self._epochs), self._embedder.identity
        self._metrics.add_camera(name)
        self._slots.add(name, live=is_live(section.url), first_epoch=first_epoch)
        reader = Reader(
            name,
            open_source=partial(self._opener, section),
            every_s=section.every,
            slots=self._slots,
            metrics=self._metrics,
            clock=self._clock,
            fit=identity.fit,
            size_px=identity.input_px,
            backoff=self._new_backoff(),
            epochs=self._epochs,
        )
        return Camera(config=section, pipeline=pipeline, reader=reader, first_epoch=first_epoch)

    def _start(self, camera: Camera) -> None:
        section = camera.config
        if is_live(section.url):
            camera.offline = OfflineWatch(
                camera.name,
                offline_after_s=section.offline_after,
                every_s=section.every,
                clock=self._clock,
                metrics=self._metrics,
            )
        camera.reader.start()

    def _let_go(self, camera: Camera) -> None:
        self._slots.remove(camera.name)
        camera.reader.stop()  # and is not waited for: it may hang in the network
        self.save(camera)
        self._metrics.forget_camera(camera.name)

    def _pipeline(self, camera: CameraConfig, config: Config) -> CameraPipeline:
        change = camera.change_settings(config.change)
        identity = self._embedder.identity
        memory = new_memory(change, identity)
        if change.remember == "states" and self._store.load_memory(camera.name, memory, identity=identity):
            log.info("%s: remembers %d states", camera.name, len(memory))
        pipeline = new_pipeline(
            camera.name,
            change=change,
            embedder=self._embedder,
            memory=memory,
            pictures=self._store.pictures(camera.name),
            jpeg_quality=config.events.jpeg_quality,
            zones=camera.zones,
            masks=camera.masks,
        )
        if not pipeline.watched:
            log.warning("%s: %s", camera.name, NOTHING_WATCHED)
        return pipeline


def _take_over(pipeline: CameraPipeline, predecessor: Camera) -> None:
    """What the camera remembers just now is newer than what was saved."""
    memory = predecessor.pipeline.memory
    if pipeline.lasting and predecessor.pipeline.lasting:
        pipeline.memory.restore(memory.vectors, memory.vector_regions, memory.states)
