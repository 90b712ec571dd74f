"""SIGTERM, SIGINT and SIGHUP. Imports next to nothing, so that they are heard before the rest is loaded."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

log = logging.getLogger(__name__)


class _StopAsked(BaseException):
    """Ends the block of `Signals`, whatever is being loaded or downloaded in it."""


class Signals:
    """SIGTERM and SIGINT within a `with` block: until `deliver_to` is called they leave the block, later they stop a
    service. To be stopped is no error: the block ends without an exception. Main thread only.

    With `reloads`, SIGHUP asks the service to read its configuration again; one that comes earlier waits for the
    service. If it is the terminal that went away, it stops the service.

    A handler runs in the middle of whatever the main thread does, perhaps within the lock of the very event that it
    waits for: setting it there would wait for ever. So the handler only writes to a pipe, and a thread at its other end
    calls the service.
    """

    def __init__(self, *, reloads: bool = False) -> None:
        self._stopping = False
        """Whether a signal stops a service by now, rather than leaving the block."""

        self._asked = False
        self._reload_asked = False
        self._numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if reloads else [])]
        self._has_terminal = os.isatty(0)

    def __enter__(self) -> Signals:
        self._heard, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        self._listener: threading.Thread | None = None
        self._old = {number: signal.signal(number, self._received) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._tell)
        if self._listener is not None:
            self._listener.join()
        os.close(self._heard)
        if kind is None or not issubclass(kind, _StopAsked):
            return False
        log.info("stopped while starting")
        return True

    def deliver_to(self, stop: Callable[[], None], *, reload: Callable[[], None] | None = None) -> None:
        """From now on call these, which must return at once, from a thread of its own. Once only."""

        def listen() -> None:
            # What was asked for stands in the flags: a pipe that is full loses bytes.
            while os.read(self._heard, 64):
                if self._reload_asked:
                    self._reload_asked = False
                    if self._has_terminal and not os.isatty(0):
                        self._asked = True
                    elif reload is not None:
                        reload()
                if self._asked:
                    stop()

        self._listener = threading.Thread(target=listen, name="signals", daemon=True)
        self._listener.start()
        self._stopping = True
        if self._asked:  # a library caught the exception that should have ended the block
            stop()
        if self._reload_asked:
            self._wake()

    def _received(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload_asked = True
            if self._stopping:
                self._wake()
            return
        again, self._asked = self._asked, True
        if self._stopping:
            self._wake()
        elif not again:
            raise _StopAsked

    def _wake(self) -> None:
        try:  # noqa: SIM105 - a handler may be interrupted by the next signal: the fewer calls, the better
            os.write(self._tell, b"!")
        except BlockingIOError:
            pass  # full: the listener has more than enough to hear
