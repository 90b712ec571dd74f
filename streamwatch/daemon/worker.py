"""The loop between the cameras' slots and what follows from their samples: one thread, one network."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamwatch.clock import Clock
from streamwatch.daemon.slots import Slots
from streamwatch.embedding import Embedder
from streamwatch.metrics import Metrics
from streamwatch.records import Frame

log = logging.getLogger(__name__)

_LOOK_S = 0.2
"""How long it waits for a sample before it sees to other things."""


class Worker:
    """Embeds samples of all cameras in batches, and hands each on in turn. Ends when it is told to, or by an error."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        slots: Slots,
        judge: Callable[[str, Frame, int, NDArray[np.float32]], None],
        failed: Callable[[], None],
        metrics: Metrics,
        clock: Clock,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Run nothing yet.

        Args:
            embedder: Called by this thread only.
            slots: Where samples come from.
            judge: Gets each one with its camera, epoch and vectors.
            failed: Called once, should an error end the worker.
            metrics: Get the network's time and its batches.
            clock: Its monotonic side counts.
            between: Called between two batches, at least every 0.2 s while there are none.
        """
        self.failure: BaseException | None = None
        """What ended the worker, if an error did."""

        self._embedder, self._slots, self._judge = embedder, slots, judge
        self._between, self._failed = between, failed
        self._metrics, self._clock = metrics, clock
        self._draining = threading.Event()
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(target=self._run_guarded, name="worker", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def busy_s(self) -> float:
        """For how long it has been at the same batch; 0 between two."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else self._clock.monotonic_s() - since_s

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drain(self) -> None:
        """End as soon as no sample waits. Idempotent, returns at once."""
        self._draining.set()

    def join(self, *, timeout_s: float) -> bool:
        """Wait for the end; False if it still works after that time."""
        self._thread.join(timeout=timeout_s)
        return not self._thread.is_alive()

    def _run_guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            log.exception("the worker failed; the daemon stops")
            self.failure = error
            self._failed()

    def _run(self) -> None:
        most = self._embedder.batch_size
        while True:
            self._busy_since_s = None
            self._between()
            taken = self._slots.take(most, timeout_s=_LOOK_S)
            if not taken:
                if self._draining.is_set():
                    return
                continue
            started_s = self._busy_since_s = self._clock.monotonic_s()
            vectors = self._embedder.embed([frame.picture for _, frame, _ in taken])
            self._metrics.embed_s.observe(self._clock.monotonic_s() - started_s)
            self._metrics.batch.observe(len(taken))
            for (camera, frame, epoch), regions in zip(taken, vectors, strict=True):
                self._judge(camera, frame, epoch, regions)
