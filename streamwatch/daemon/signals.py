"""SIGTERM and SIGINT. Imports next to nothing, so that they are heard before the rest is loaded."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType, TracebackType

log = logging.getLogger(__name__)


class _StopAsked(BaseException):
    """Ends the block of `Signals`, whatever is being loaded or downloaded in it."""


class Signals:
    """SIGTERM and SIGINT within a `with` block: until `deliver_to` is called they leave the block, later they stop a
    service. To be stopped is no error: the block ends without an exception. Main thread only.
    """

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._asked = False

    def __enter__(self) -> Signals:
        self._old = {number: signal.signal(number, self._received) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if kind is None or not issubclass(kind, _StopAsked):
            return False
        log.info("stopped while starting")
        return True

    def deliver_to(self, stop: Callable[[], None]) -> None:
        """From now on call this, which must return at once."""
        self._stop = stop
        if self._asked:  # a library caught the exception that should have ended the block
            stop()

    def _received(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if self._stop is not None:
            self._stop()
        elif not again:
            raise _StopAsked
