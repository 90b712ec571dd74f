"""One camera's reader: `run` opens it again and again, `run_once` reads it straight through."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from streamwatch.clock import Clock
from streamwatch.daemon.slots import Slots
from streamwatch.errors import MissingLibrary, SourceError, SourceLost, SourceUnusable, StreamwatchError
from streamwatch.metrics import Metrics
from streamwatch.prefetch import prefetch
from streamwatch.records import Frame
from streamwatch.sampling import Sampler
from streamwatch.sources import Source

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_STABLE_S = 60.0
"""A stream that lived this long starts over with the shortest wait."""


_SAID_AGAIN_S = 60.0
"""After this the log says once more what it has said of a camera that was back in between."""


class Backoff:
    """How long to wait before the next try: doubling from the first wait to the longest, half of it by chance."""

    def __init__(
        self, *, randomness: random.Random, first_s: float = _FIRST_WAIT_S, longest_s: float = _LONGEST_WAIT_S
    ) -> None:
        self._random, self._first_s, self._longest_s = randomness, first_s, longest_s
        self._wait_s = first_s

    def next_s(self) -> float:
        """The next wait, in seconds."""
        wait_s = self._wait_s * (0.5 + 0.5 * self._random.random())
        self._wait_s = min(self._longest_s, self._wait_s * 2)
        return wait_s

    def reset(self) -> None:
        """Start over with the shortest wait."""
        self._wait_s = self._first_s


class Reader:
    """Reads one camera in a thread of its own and puts its samples into the camera's slot.

    A live camera is opened again for ever, whatever goes wrong with it: a wrong password may be mended on the camera,
    memory may be short for a while, a picture may be the one that a decoder trips over. Only a library that this
    machine lacks ends it. A file is read once.
    """

    def __init__(
        self,
        camera: str,
        *,
        open_source: Callable[[], Source],
        every_s: float,
        slots: Slots,
        metrics: Metrics,
        clock: Clock,
        fit: str,
        size_px: int,
        backoff: Backoff | None = None,
        epochs: Iterator[int] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            camera: Its name; its series are there already.
            open_source: Makes its source, which opens nothing yet.
            every_s: The sampling period.
            slots: Have a place for it.
            metrics: Count what happens, until the camera is forgotten there.
            clock: Its monotonic side counts.
            fit: How the network sees pictures.
            size_px: The network's width and height.
            backoff: How long to wait before it is opened again; None for 0.5 to 30 s.
            epochs: Rising numbers, one for each opening; None for 1, 2, …
        """
        self.camera = camera
        self.failure: SourceError | None = None
        """What ended a file that could not be read, or what is wrong with a camera just now."""

        self.up = False
        """Whether the stream is open and gives pictures."""

        self.last_picture_s: float | None = None
        """When the last picture came, on the monotonic clock; None before the first."""

        self.finished = threading.Event()
        """Set when nothing more will come: a file's end, or `stop`."""

        self._open_source, self._every_s = open_source, every_s
        self._slots, self._clock = slots, clock
        # Bound now: a reader that hangs in the network, and comes back when its camera is watched no more, must not
        # bring the camera's series to life again.
        self._up = metrics.camera_up.labels(camera)
        self._frames, self._samples = metrics.frames.labels(camera), metrics.samples.labels(camera)
        self._dropped, self._losses = metrics.dropped.labels(camera), metrics.losses.labels(camera)
        self._fit, self._size_px = fit, size_px
        self._backoff = backoff or Backoff(randomness=random.Random())
        self._epochs = epochs or itertools.count(1)
        self._stopped = threading.Event()
        self._source: Source | None = None
        self._epoch = 0
        self._began_s: float | None = None
        self._told: set[type[Exception]] = set()
        self._said: str | None = None
        self._said_s = 0.0
        self._mention_pictures = True
        self._thread = threading.Thread(target=self._run_guarded, name=f"reader-{camera}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the reader to end; idempotent, returns at once."""
        self._stopped.set()
        source = self._source
        if source is not None:
            source.close()

    def join(self, *, timeout_s: float) -> bool:
        """Wait for the thread; False if it still hangs in the network after that time."""
        self._thread.join(timeout=timeout_s)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Read until stopped, or until a file has ended."""
        while not self._stopped.is_set():
            started_s = self._clock.monotonic_s()
            live = True
            try:
                live = self.run_once()
            except SourceError as error:
                live = not isinstance(error, SourceUnusable) or self._source is None or self._source.live
                self._lost(error)
            except MissingLibrary:
                raise
            except Exception as error:
                if self._source is not None and not self._source.live:
                    raise
                self._lost(self._unforeseen(error))
            finally:
                self._set_up(False)
            if not live:
                return
            if self._clock.monotonic_s() - started_s >= _STABLE_S:
                self._backoff.reset()
            self._stopped.wait(self._backoff.next_s())

    def run_once(self) -> bool:
        """Open the source and read it to its end; returns whether it is live.

        Raises:
            SourceError: It was lost, or could not be opened.
        """
        source = self._source = self._open_source()
        self._epoch = next(self._epochs)
        sampler = Sampler(self._every_s)
        first, later_s = True, 0.0
        if self._stopped.is_set():  # `stop` may have come too early to close this source
            source.close()
        try:
            for frame in source.frames():
                if self._stopped.is_set():
                    break
                self.last_picture_s = self._clock.monotonic_s()
                if first:
                    first = False
                    self.failure = None
                    later_s = self._since_first_s(frame) if source.live else 0.0
                    self._set_up(True)
                    level = logging.INFO if self._mention_pictures else logging.DEBUG
                    log.log(level, "%s: pictures of %d×%d", self.camera, frame.picture.width, frame.picture.height)
                    self._mention_pictures = False
                self._frames.inc()
                if sampler.take(frame.pts_s):
                    self._offer(frame, later_s=later_s)
        finally:
            source.close()
        if source.live and not self._stopped.is_set():
            raise SourceLost(f"{self.camera}: the stream ended")
        for warning in source.warnings:
            log.warning("%s: %s", self.camera, warning)
        return source.live

    def _since_first_s(self, frame: Frame) -> float:
        """How much later than at the camera's very first opening this one began: its time goes on over reconnects."""
        began_s = self._clock.monotonic_s() - frame.pts_s
        if self._began_s is None:
            self._began_s = began_s
        return began_s - self._began_s

    def _offer(self, frame: Frame, *, later_s: float) -> None:
        picture = prefetch(frame.picture, fit=self._fit, size_px=self._size_px)
        sample = replace(frame, pts_s=frame.pts_s + later_s, picture=picture)
        self._samples.inc()
        self._dropped.inc(self._slots.put(self.camera, sample, epoch=self._epoch))

    def _set_up(self, up: bool) -> None:
        self.up = up
        self._up.set(int(up))

    def _unforeseen(self, error: Exception) -> SourceLost:
        """An error that is no `SourceError`, with its traceback in the log the first time that its kind comes."""
        kind = type(error)
        if kind not in self._told:
            self._told.add(kind)
            log.error("%s: the reader failed; it goes on", self.camera, exc_info=error)
        return SourceLost(f"{self.camera}: {kind.__name__} while reading; the log has the details where it came first")

    def _lost(self, error: SourceError) -> None:
        # The same complaint again and again says nothing new, nor does that of a camera that flaps.
        now_s = self._clock.monotonic_s()
        same = self._said is not None and self._said == str(error)
        repeated = same and (self.failure is not None or now_s - self._said_s < _SAID_AGAIN_S)
        self.failure = error
        self._losses.inc()
        log.log(logging.DEBUG if repeated else logging.WARNING, "%s: %s", self.camera, error)
        self._mention_pictures = self._mention_pictures or not repeated
        if not repeated:
            self._said, self._said_s = str(error), now_s

    def _run_guarded(self) -> None:
        try:
            self.run()
        except StreamwatchError as error:  # the machine lacks something; opening it again cannot help
            log.error("%s: %s", self.camera, error)
            self.failure = SourceUnusable(f"{self.camera}: {error}")
        except Exception:  # a bug: say so, and let the other cameras go on
            log.exception("%s: the reader failed", self.camera)
            self.failure = SourceUnusable(f"{self.camera}: the reader failed; the log has the details")
        finally:
            self.finished.set()
