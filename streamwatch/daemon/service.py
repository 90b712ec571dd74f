"""The daemon: what is started and stopped, in which order, and what its main thread does in between.

    readers (a thread a camera) ─► slots ─► worker (one thread): network ─► judge: decision ─► pictures, events, memory

Started from the back: store and sinks, network, readers last. Stopped in the order of the data, so that the last sample
of each camera is still judged and what was judged is still written; what waits of files is let go. A network that is
too slow for that loses its last batch, before anything of it was judged: sinks are closed only after the last event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from streamwatch.clock import Clock, SystemClock
from streamwatch.config import CameraConfig, Config
from streamwatch.daemon.camera_events import CameraEventQueue
from streamwatch.daemon.cameras import Cameras
from streamwatch.daemon.health import HealthServer
from streamwatch.daemon.judging import Judge, Observer
from streamwatch.daemon.reader import Backoff
from streamwatch.daemon.reload import plan_reload
from streamwatch.daemon.slots import Slots
from streamwatch.daemon.systemd import Notifier
from streamwatch.daemon.worker import Worker
from streamwatch.embedding import Embedder
from streamwatch.errors import OutputError, StreamwatchError
from streamwatch.events.cloudevents import camera_event
from streamwatch.events.sinks import Sink
from streamwatch.events.store import FolderStore
from streamwatch.metrics import Metrics
from streamwatch.sources import Source, open_source

log = logging.getLogger(__name__)

# Together under the 5 s that are promised, with room for the interpreter's own end.
_STOP_READERS_S = 1.0
_STOP_WORKER_S = 2.0
_STOP_JUDGING_S = 0.5
_STOP_S = 3.5

_STUCK_S = 60.0
"""A worker that was busy with one batch for this long counts as hung."""


class Service:
    """One run of the daemon."""

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
        read_config: Callable[[], Config] | None = None,
        new_backoff: Callable[[], Backoff | None] = lambda: None,
    ) -> None:
        """Build all parts; nothing runs yet.

        Args:
            config: What to watch.
            embedder: Called by one thread.
            store: The data folder, locked.
            sinks: Where events go.
            notifier: Tells systemd.
            metrics: None for new ones.
            clock: None for the machine's.
            observers: See every judged sample.
            opener: Makes a camera's source; None for the real ones.
            read_config: What `reload` reads; None where there is nothing to read again. Raises ConfigError.
            new_backoff: Makes each camera's waits before it is opened again; None is the usual ones.

        Raises:
            UsageError: The network's vectors need a threshold, and none was given.
            WeightsMismatch: A camera's memory was written with other weights.
            OutputError: The data folder cannot be used.
        """
        self.metrics = metrics or Metrics()
        self._config, self._sinks = config, sinks
        self._notifier, self._clock, self._read_config = notifier, clock or SystemClock(), read_config
        self._slots = Slots()
        self._stop = threading.Event()
        self._reload_asked = threading.Event()
        self._woken = threading.Event()
        """Set with either of the two: the main thread waits for it."""

        identity = embedder.identity
        self.metrics.info.labels(identity.network, identity.layer, identity.weights_id).set(1)
        self.metrics.embedder_batch.set(embedder.batch_size)
        self.cameras = Cameras(
            config,
            embedder=embedder,
            store=store,
            slots=self._slots,
            metrics=self.metrics,
            clock=self._clock,
            opener=opener or partial(open_camera, clock=self._clock),
            new_backoff=new_backoff,
        )
        self._camera_events = CameraEventQueue(sinks, clock=self._clock)
        self._judge = Judge(
            self.cameras,
            identity=identity,
            sinks=sinks,
            metrics=self.metrics,
            clock=self._clock,
            observers=observers,
        )
        self._worker = Worker(
            embedder=embedder,
            slots=self._slots,
            judge=self._judge.judge,
            between=self._camera_events.flush,
            failed=self.stop,
            metrics=self.metrics,
            clock=self._clock,
        )

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
            self.cameras.start()
            self._notifier.send(f"READY=1\n{self._status()}")
            log.info("watching %d cameras", len(self.cameras))
            self._wait(stop_at_end=stop_at_end)
            self._notifier.send("STOPPING=1")
            self._shut_down()
        finally:
            if health:
                health.close()
        if self._worker.failure is not None:
            raise self._worker.failure
        self._report_failures(stop_at_end=stop_at_end)

    def stop(self) -> None:
        """Make `run` return soon; any thread may call it."""
        self._stop.set()
        self._woken.set()

    def reload(self) -> None:
        """Read the configuration again, soon; any thread may call it."""
        self._reload_asked.set()
        self._woken.set()

    def _wait(self, *, stop_at_end: bool) -> None:
        watchdog_s = self._notifier.watchdog_s
        pause_s = min(0.25 if stop_at_end else 1.0, watchdog_s / 3 if watchdog_s else 1.0)
        while not self._stop.is_set():
            self._woken.wait(pause_s)
            self._woken.clear()
            if self._unhealthy() is None:
                self._notifier.send("WATCHDOG=1")
            if self._stop.is_set():
                return
            if self._reload_asked.is_set():
                self._reload_asked.clear()
                self._reload()
            for camera in self.cameras:
                if camera.offline is not None and (event := camera.offline.check(camera.reader.last_picture_s)):
                    self._camera_events.add(camera_event(event, told_at=self._clock.now()))
            readers = [camera.reader for camera in self.cameras]
            if all(reader.finished.is_set() for reader in readers):
                if stop_at_end:
                    # However long the network needs for what the files have left in their slots.
                    self._worker.drain()
                    if not self._worker.alive:
                        return
                elif all(reader.failure for reader in readers):
                    return

    def _reload(self) -> None:
        if self._read_config is None:
            log.warning("there is no configuration to read again; all stays as it is")
            return
        # Both in one message, as sd_notify(3) asks for: systemd tells by the time whether READY=1 is the answer.
        self._notifier.send(f"RELOADING=1\nMONOTONIC_USEC={round(self._clock.monotonic_s() * 1e6)}")
        try:
            config = self._read_config()
            plan = plan_reload(self._config, config)
            self.cameras.apply(plan)
        except StreamwatchError as error:
            log.error("the configuration is not taken, and all goes on as before: %s", error)
            self._reloaded("refused")
        except Exception:
            log.exception("the configuration could not be taken")
            self._reloaded("refused")
        else:
            self._config = config
            log.info("configuration taken: %s", plan)
            self._reloaded("taken")
        finally:
            self._notifier.send(f"READY=1\n{self._status()}")

    def _reloaded(self, result: str) -> None:
        self.metrics.reload_ok.set(int(result == "taken"))
        self.metrics.reloads.labels(result).inc()

    def _status(self) -> str:
        return f"STATUS=watching {len(self.cameras)} cameras"

    def _shut_down(self) -> None:
        stopped_s = self._clock.monotonic_s()
        if self._stop.is_set():
            self._lose(self._slots.close_files())
        readers = [camera.reader for camera in self.cameras]
        for reader in readers:
            reader.stop()
        deadline_s = stopped_s + _STOP_READERS_S
        late = [
            reader.camera
            for reader in readers
            if not reader.join(timeout_s=max(0.0, deadline_s - self._clock.monotonic_s()))
        ]
        if late:
            log.info("not waiting for cameras that hang in the network: %s", ", ".join(late))
        self._worker.drain()
        if not self._worker.join(timeout_s=_STOP_WORKER_S):
            log.warning("the network is still busy: its last batch is given up")
        self._lose(self._slots.close())
        if self._judge.close(timeout_s=_STOP_JUDGING_S):
            # From here on the worker writes nothing. What was learned is saved already, with each state; this adds
            # when the states were last matched.
            for camera in self.cameras:
                if self._clock.monotonic_s() - stopped_s < _STOP_S:
                    self.cameras.save(camera)
            self._camera_events.flush(again=True)
        for sink in self._sinks:
            sink.close()
        log.info("stopped")

    def _lose(self, samples: dict[str, int]) -> None:
        for camera, count in samples.items():
            self.metrics.dropped.labels(camera).inc(count)

    def _report_failures(self, *, stop_at_end: bool) -> None:
        cameras = tuple(self.cameras)
        failed = [each.reader.failure for each in cameras if each.reader.finished.is_set() and each.reader.failure]
        if failed and (stop_at_end or len(failed) == len(cameras)) and not self._stop.is_set():
            raise failed[0]
        if stop_at_end:
            for camera in cameras:
                if camera.unwritten is not None:
                    raise OutputError(
                        f"{camera.name}: its last event could not be written: {camera.unwritten}; watch it again"
                    ) from camera.unwritten

    def _unhealthy(self) -> str | None:
        if self._worker.failure is not None:
            return f"the worker failed: {type(self._worker.failure).__name__}"
        if self._worker.busy_s() > _STUCK_S:
            return f"the network has been busy with one batch for more than {_STUCK_S:.0f} s"
        return None

    def _unready(self) -> str | None:
        if self._stop.is_set():
            return "stopping"
        readers = [camera.reader for camera in self.cameras]
        down = [reader.camera for reader in readers if not (reader.up or reader.finished.is_set())]
        if down and not any(reader.up for reader in readers):
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
        kind=camera.kind,
        transport=camera.transport,
        clock=clock or SystemClock(),
    )
