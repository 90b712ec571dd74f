"""Camera events on their way to the sinks: what is wrong with a camera, and that it is so no more."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamwatch.clock import Clock
from streamwatch.errors import OutputError
from streamwatch.events.sinks import Sink

log = logging.getLogger(__name__)

_BOUND = 1000
_RETRY_S = 1.0


class CameraEventQueue:
    """Holds documents until every sink has taken them, in order. Any thread may `add`; one thread calls `flush`.

    Bound: 1,000 documents; past it the oldest is let go of, and the log says so. One that a sink refuses is tried
    again, under its id, after a second.
    """

    def __init__(self, sinks: Sequence[Sink], *, clock: Clock) -> None:
        self._sinks, self._clock = sinks, clock
        self._waiting: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._refused_s: float | None = None
        self._said: str | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, document: dict[str, Any]) -> None:
        """Take a document; returns at once."""
        with self._lock:
            if len(self._waiting) >= _BOUND:
                lost = self._waiting.popleft()
                log.error("more than %d camera events wait: %s of %s is lost", _BOUND, lost["type"], lost["subject"])
            self._waiting.append(document)

    def flush(self, *, again: bool = False) -> None:
        """Give the sinks what waits; `again` also right after a refusal."""
        if not self._waiting:
            return
        now_s = self._clock.monotonic_s()
        if not again and self._refused_s is not None and now_s - self._refused_s < _RETRY_S:
            return
        try:
            while self._waiting:
                document = self._waiting[0]
                for sink in self._sinks:
                    sink.write(document)
                with self._lock:
                    if self._waiting and self._waiting[0] is document:
                        self._waiting.popleft()
        except OutputError as error:
            self._refused_s = now_s
            if str(error) != self._said:
                log.error("camera events wait, and are written as soon as that is possible: %s", error)
            self._said = str(error)
        else:
            self._refused_s = self._said = None
