"""The daemon: what is started and stopped, in which order, and the loop between cameras and events.

    readers (a thread a camera) ─► slots ─► worker (one thread): network ─► decision ─► pictures, events, memory

Started from the back: store and sinks, network, readers last. Stopped in the order of the data, so that the last sample
of each camera is still judged and what was judged is still written; what waits of files is let go. A network that is
too slow for that loses its last batch, before anything of it was judged: sinks are closed only after the last event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from streamwatch.assembly import new_memory, new_pipeline
from streamwatch.change.decision import Judgement
from streamwatch.clock import Clock, SystemClock
from streamwatch.config import CameraConfig, Config
from streamwatch.daemon.health import HealthServer
from streamwatch.daemon.offline import OfflineWatch
from streamwatch.daemon.reader import Reader
from streamwatch.daemon.slots import Slots
from streamwatch.daemon.systemd import Notifier
from streamwatch.embedding import Embedder
from streamwatch.errors import OutputError
from streamwatch.events.cloudevents import label_needed
from streamwatch.events.sinks import Sink
from streamwatch.events.store import FolderStore
from streamwatch.metrics import Metrics
from streamwatch.pipeline import CameraPipeline, Outcome, Raised
from streamwatch.records import Frame
from streamwatch.sources import Source, open_source
from streamwatch.urls import is_live

log = logging.getLogger(__name__)

# Together under the 5 s that are promised, with room for the interpreter's own end.
_STOP_READERS_S = 1.0
_STOP_WORKER_S = 2.0
_STOP_JUDGING_S = 0.5
_STOP_S = 3.5
_NOTHING_WATCHED = "masks, or the network's fit, leave nothing of the zones: no event can come; change them"

_STUCK_S = 60.0
"""A worker that was busy with one batch for this long counts as hung."""

Observer = Callable[[str, Frame, Judgement, Raised | None], None]
"""Sees every judged sample; called by the worker."""


class Service:
    """One run of the daemon over one configuration."""

    def __init__(
        self,
        config: Config,
        *,
        embedder: Embedder,
        store: FolderStore,
        sinks: Sequence[Sink],
        notifier: Notifier,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        opener: Callable[[CameraConfig], Source] | None = None,
    ) -> None:
        """Build all parts; nothing runs yet.

        Raises:
            UsageError: The network's vectors need a threshold, and none was given.
            WeightsMismatch: A camera's memory was written with other weights.
            OutputError: The data folder cannot be used.
        """
        self.metrics = metrics or Metrics()
        self._config, self._embedder, self._store, self._sinks = config, embedder, store, sinks
        self._notifier, self._clock, self._observers = notifier, clock or SystemClock(), observers
        self._slots = Slots()
        self._stop = threading.Event()
        self._draining = threading.Event()
        self._abandoned = threading.Event()
        """Set when the worker may judge nothing more."""

        self._judging = threading.Lock()
        """Held by the worker while it judges a sample and writes what follows from it."""

        self._worker = threading.Thread(target=self._work_guarded, name="worker", daemon=True)
        self._busy_since_s: float | None = None
        self._epochs: dict[str, int] = {}
        self._failure: BaseException | None = None
        self._unwritten: dict[str, OutputError] = {}
        identity = embedder.identity
        self.metrics.info.labels(identity.network, identity.layer, identity.weights_id).set(1)
        self._pipelines = {camera.name: self._pipeline(camera) for camera in config.cameras}
        opener = opener or partial(open_camera, clock=self._clock)
        self._readers = {camera.name: self._reader(camera, opener) for camera in config.cameras}
        self._offline_watches: dict[str, OfflineWatch] = {}

    def run(self, *, stop_at_end: bool = False) -> None:
        """Watch until `stop` is called.

        Args:
            stop_at_end: Also stop once every camera is a file and has ended.

        Raises:
            PortUnavailable: The metrics' port is taken.
            SourceError: No camera is left: each one is a file, and none could be read to its end; with `stop_at_end`,
                any of them could not.
            OutputError: With `stop_at_end`, a camera's last event could not be written.
        """
        listen = self._config.metrics.listen
        health = (
            HealthServer(listen.host, listen.port, metrics=self.metrics, healthy=self._unhealthy, ready=self._unready)
            if listen
            else None
        )
        try:
            self._worker.start()
            for reader in self._readers.values():
                reader.start()
            self._offline_watches = {
                camera.name: OfflineWatch(
                    camera.name,
                    offline_after_s=camera.offline_after,
                    every_s=camera.every,
                    clock=self._clock,
                    metrics=self.metrics,
                )
                for camera in self._config.cameras
                if is_live(camera.url)
            }
            self._notifier.send(f"READY=1\nSTATUS=watching {len(self._readers)} cameras")
            log.info("watching %d cameras", len(self._readers))
            self._wait(stop_at_end=stop_at_end)
            self._notifier.send("STOPPING=1")
            self._shut_down()
        finally:
            if health:
                health.close()
        if self._failure is not None:
            raise self._failure
        self._report_failures(stop_at_end=stop_at_end)

    def stop(self) -> None:
        """Make `run` return soon; any thread or signal handler may call it."""
        self._stop.set()

    def _wait(self, *, stop_at_end: bool) -> None:
        watchdog_s = self._notifier.watchdog_s
        pause_s = min(0.25 if stop_at_end else 1.0, watchdog_s / 3 if watchdog_s else 1.0)
        while not self._stop.wait(pause_s):
            if self._unhealthy() is None:
                self._notifier.send("WATCHDOG=1")
            if self._failure is not None:
                return
            for name, watch in self._offline_watches.items():
                watch.check(self._readers[name].last_picture_s)
            readers = self._readers.values()
            if all(reader.finished.is_set() for reader in readers):
                if stop_at_end:
                    # However long the network needs for what the files have left in their slots.
                    self._draining.set()
                    if not self._worker.is_alive():
                        return
                elif all(reader.failure for reader in readers):
                    return

    def _shut_down(self) -> None:
        stopped_s = self._clock.monotonic_s()
        if self._stop.is_set():
            self._slots.close_files()
        for reader in self._readers.values():
            reader.stop()
        deadline_s = stopped_s + _STOP_READERS_S
        late = [
            name
            for name, reader in self._readers.items()
            if not reader.join(timeout_s=max(0.0, deadline_s - self._clock.monotonic_s()))
        ]
        if late:
            log.info("not waiting for cameras that hang in the network: %s", ", ".join(late))
        self._draining.set()
        self._worker.join(timeout=_STOP_WORKER_S)
        self._slots.close()
        self._abandoned.set()
        if self._worker.is_alive():
            log.warning("the network is still busy: its last batch is given up")
        if self._judging.acquire(timeout=_STOP_JUDGING_S):
            # From here on the worker writes nothing. What was learned is saved already, with each state; this adds
            # when the states were last matched.
            for name, pipeline in self._pipelines.items():
                if self._clock.monotonic_s() - stopped_s < _STOP_S:
                    self._save(name, pipeline)
            self._judging.release()
        for sink in self._sinks:
            sink.close()
        log.info("stopped")

    def _report_failures(self, *, stop_at_end: bool) -> None:
        failed = [reader.failure for reader in self._readers.values() if reader.finished.is_set() and reader.failure]
        if failed and (stop_at_end or len(failed) == len(self._readers)) and not self._stop.is_set():
            raise failed[0]
        if stop_at_end and self._unwritten:
            camera, error = next(iter(self._unwritten.items()))
            raise OutputError(f"{camera}: its last event could not be written: {error}; watch it again") from error

    def _work_guarded(self) -> None:
        try:
            self._work()
        except BaseException as error:
            log.exception("the worker failed; the daemon stops")
            self._failure = error
            self._stop.set()

    def _work(self) -> None:
        most = self._embedder.batch_size
        while True:
            self._busy_since_s = None
            taken = self._slots.take(most, timeout_s=0.2)
            if not taken:
                if self._draining.is_set():
                    return
                continue
            started_s = self._busy_since_s = self._clock.monotonic_s()
            vectors = self._embedder.embed([frame.picture for _, frame, _ in taken])
            self.metrics.embed_s.observe(self._clock.monotonic_s() - started_s)
            self.metrics.batch.observe(len(taken))
            for (camera, frame, epoch), regions in zip(taken, vectors, strict=True):
                with self._judging:
                    if self._abandoned.is_set():
                        return
                    self._judge(camera, frame, epoch, regions)

    def _judge(self, camera: str, frame: Frame, epoch: int, regions: Any) -> None:
        pipeline = self._pipelines[camera]
        if self._epochs.setdefault(camera, epoch) != epoch:
            self._epochs[camera] = epoch
            pipeline.restart()
        self.metrics.embedded.labels(camera).inc()
        self.metrics.last_sample_s.labels(camera).set(self._clock.now().timestamp())
        try:
            before = pipeline.watched
            outcome = pipeline.push(frame, regions)
            if before and not pipeline.watched:  # what the network sees depends on the picture's shape
                log.warning("%s: %s", camera, _NOTHING_WATCHED)
            if outcome.raised is not None:
                self._send(pipeline, outcome.raised)
        except OutputError as error:
            self.metrics.event_failures.labels(camera).inc()
            log.error("%s: %s; it is raised again while it is still new", camera, error)
            self._unwritten[camera] = error
            return
        if outcome.raised is not None:
            self._unwritten.pop(camera, None)
        self._count(camera, pipeline, outcome)
        if outcome.memory_changed:
            self._save(camera, pipeline)
        for observe in self._observers:
            observe(camera, frame, outcome.judgement, outcome.raised)

    def _send(self, pipeline: CameraPipeline, raised: Raised) -> None:
        document = label_needed(
            raised.event,
            identity=self._embedder.identity,
            before=raised.before,
            after=raised.after,
            decided_at=self._clock.now(),
        )
        try:
            for sink in self._sinks:
                sink.write(document)
        except OutputError:
            pipeline.withdraw(raised.event.after_state)
            raise
        log.info(
            "%s: new label needed: novelty %.3g, threshold %.3g, %s",
            raised.event.camera,
            raised.event.novelty,
            raised.event.threshold,
            raised.after,
        )

    def _count(self, camera: str, pipeline: CameraPipeline, outcome: Outcome) -> None:
        judgement = outcome.judgement
        if judgement.novelty == judgement.novelty:
            self.metrics.novelty.labels(camera).set(judgement.novelty)
        self.metrics.threshold.labels(camera).set(judgement.threshold)
        self.metrics.states.labels(camera).set(len(pipeline.memory))
        if outcome.raised is not None:
            self.metrics.events.labels(camera).inc()

    def _save(self, camera: str, pipeline: CameraPipeline) -> None:
        if not pipeline.lasting or not len(pipeline.memory):
            return
        try:
            self._store.save_memory(camera, pipeline.memory, identity=self._embedder.identity)
        except OutputError as error:
            # The event is safe; at worst the same state is announced again after a restart.
            log.error("%s: %s; the memory is saved with the next change", camera, error)

    def _pipeline(self, camera: CameraConfig) -> CameraPipeline:
        change = camera.change_settings(self._config.change)
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
            jpeg_quality=self._config.events.jpeg_quality,
            zones=camera.zones,
            masks=camera.masks,
        )
        if not pipeline.watched:
            log.warning("%s: %s", camera.name, _NOTHING_WATCHED)
        return pipeline

    def _reader(self, camera: CameraConfig, opener: Callable[[CameraConfig], Source]) -> Reader:
        self.metrics.add_camera(camera.name)
        identity = self._embedder.identity
        self._slots.add(camera.name, live=is_live(camera.url))
        return Reader(
            camera.name,
            open_source=partial(opener, camera),
            every_s=camera.every,
            slots=self._slots,
            metrics=self.metrics,
            clock=self._clock,
            fit=identity.fit,
            size_px=identity.input_px,
        )

    def _unhealthy(self) -> str | None:
        if self._failure is not None:
            return f"the worker failed: {type(self._failure).__name__}"
        busy_since_s = self._busy_since_s
        if busy_since_s is not None and self._clock.monotonic_s() - busy_since_s > _STUCK_S:
            return f"the network has been busy with one batch for more than {_STUCK_S:.0f} s"
        return None

    def _unready(self) -> str | None:
        if self._stop.is_set():
            return "stopping"
        readers = self._readers
        down = [name for name, reader in readers.items() if not (reader.up or reader.finished.is_set())]
        if down and not any(reader.up for reader in readers.values()):
            return f"no camera gives pictures; down: {', '.join(down)}"
        return self._unhealthy()


def open_camera(camera: CameraConfig, *, clock: Clock | None = None) -> Source:
    """A camera's source, as the configuration describes it. Opens nothing yet."""
    return open_source(
        camera.url,
        every_s=camera.every,
        decode=camera.decode,
        username=camera.username,
        password=camera.password.get_secret_value() if camera.password else None,
        open_timeout_s=camera.open_timeout,
        read_timeout_s=camera.read_timeout,
        realtime=camera.realtime,
        hwaccel=camera.hwaccel,
        clock=clock or SystemClock(),
    )
