"""What follows from each embedded sample: the decision, pictures, events, memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamwatch.change.decision import Judgement
from streamwatch.clock import Clock
from streamwatch.daemon.cameras import NOTHING_WATCHED, Camera, Cameras
from streamwatch.embedding import EmbedderIdentity
from streamwatch.errors import OutputError
from streamwatch.events.cloudevents import label_needed
from streamwatch.events.sinks import Sink
from streamwatch.metrics import Metrics
from streamwatch.pipeline import Outcome, Raised
from streamwatch.records import Frame

log = logging.getLogger(__name__)

Observer = Callable[[str, Frame, Judgement, Raised | None], None]
"""Sees every judged sample; called by the worker."""


class Judge:
    """Takes samples of all cameras, from one thread at a time, each in its camera's order."""

    def __init__(
        self,
        cameras: Cameras,
        *,
        identity: EmbedderIdentity,
        sinks: Sequence[Sink],
        metrics: Metrics,
        clock: Clock,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._cameras, self._identity, self._sinks = cameras, identity, sinks
        self._metrics, self._clock, self._observers = metrics, clock, observers
        self._closed = threading.Event()

    def judge(self, name: str, frame: Frame, epoch: int, regions: NDArray[np.float32]) -> None:
        """Judge the next sample of a camera. Let go of is that of a camera that is watched no more, that of another
        reader than the camera has now, and everything after `close`."""
        with self._cameras.lock:
            camera = self._cameras.get(name)
            if camera is None or epoch < camera.first_epoch:
                return
            if self._closed.is_set():
                self._metrics.dropped.labels(name).inc()
                return
            self._judge(camera, frame, epoch, regions)

    def close(self, *, timeout_s: float) -> bool:
        """Judge nothing more. False if a sample is still being judged after that time."""
        self._closed.set()
        ended = self._cameras.lock.acquire(timeout=timeout_s)
        if ended:
            self._cameras.lock.release()
        return ended

    def _judge(self, camera: Camera, frame: Frame, epoch: int, regions: NDArray[np.float32]) -> None:
        name, pipeline = camera.name, camera.pipeline
        if epoch != camera.epoch:
            if camera.epoch is not None:
                pipeline.restart()
            camera.epoch = epoch
        self._metrics.embedded.labels(name).inc()
        self._metrics.last_sample_s.labels(name).set(self._clock.now().timestamp())
        try:
            before = pipeline.watched
            outcome = pipeline.push(frame, regions)
            if before and not pipeline.watched:  # what the network sees depends on the picture's shape
                log.warning("%s: %s", name, NOTHING_WATCHED)
            if outcome.raised is not None:
                self._send(camera, outcome.raised)
        except OutputError as error:
            self._metrics.event_failures.labels(name).inc()
            log.error("%s: %s; it is raised again while it is still new", name, error)
            camera.unwritten = error
            return
        if outcome.raised is not None:
            camera.unwritten = None
        self._count(camera, outcome)
        if outcome.memory_changed:
            self._cameras.save(camera)
        for observe in self._observers:
            observe(name, frame, outcome.judgement, outcome.raised)

    def _send(self, camera: Camera, raised: Raised) -> None:
        event = raised.event
        document = label_needed(
            event, identity=self._identity, before=raised.before, after=raised.after, decided_at=self._clock.now()
        )
        try:
            for sink in self._sinks:
                sink.write(document)
        except OutputError:
            camera.pipeline.withdraw(event.after_state)
            raise
        log.info(
            "%s: new label needed: novelty %.3g, threshold %.3g, %s",
            event.camera,
            event.novelty,
            event.threshold,
            raised.after,
        )

    def _count(self, camera: Camera, outcome: Outcome) -> None:
        judgement = outcome.judgement
        if judgement.novelty == judgement.novelty:
            self._metrics.novelty.labels(camera.name).set(judgement.novelty)
        self._metrics.threshold.labels(camera.name).set(judgement.threshold)
        self._metrics.states.labels(camera.name).set(len(camera.pipeline.memory))
        if outcome.raised is not None:
            self._metrics.events.labels(camera.name).inc()
