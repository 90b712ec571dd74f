"""Between the cameras' readers and the network: one bounded place for each camera."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from streamwatch.records import Frame


@dataclass
class _Slot:
    bound: int
    live: bool
    waiting: deque[tuple[Frame, int]] = field(default_factory=deque)


class Slots:
    """Samples on their way to the network.

    A live camera's place holds one sample: a newer one replaces it, and the older one counts as dropped. A file's
    place holds a few; when it is full, the file's reader waits: files lose nothing. Readers call `put`, the network's
    one thread calls `take`.
    """

    def __init__(self, *, file_bound: int = 8) -> None:
        self._slots: dict[str, _Slot] = {}
        self._order: deque[str] = deque()
        self._file_bound = file_bound
        self._changed = threading.Condition()
        self._closed = self._files_closed = False

    def add(self, camera: str, *, live: bool) -> None:
        """Make a place for a camera."""
        with self._changed:
            self._slots[camera] = _Slot(bound=1 if live else self._file_bound, live=live)
            self._order.append(camera)

    def put(self, camera: str, frame: Frame, *, epoch: int) -> int:
        """Offer a sample; returns how many it displaced.

        Args:
            camera: One that was added.
            frame: The sample.
            epoch: Rises whenever the camera's stream was opened anew.
        """
        with self._changed:
            slot = self._slots[camera]
            while not slot.live and len(slot.waiting) >= slot.bound and not self._refuses(slot):
                self._changed.wait()
            if self._refuses(slot):
                return 0
            dropped = 0
            while len(slot.waiting) >= slot.bound:
                slot.waiting.popleft()
                dropped += 1
            slot.waiting.append((frame, epoch))
            self._changed.notify_all()
            return dropped

    def take(self, most: int, *, timeout_s: float) -> list[tuple[str, Frame, int]]:
        """Up to `most` samples, one of each camera in turn; none after the timeout or `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._empty(), timeout=timeout_s)
            taken: list[tuple[str, Frame, int]] = []
            while not self._closed and len(taken) < most and not self._empty():
                camera = self._order[0]
                self._order.rotate(-1)
                if self._slots[camera].waiting:
                    taken.append((camera, *self._slots[camera].waiting.popleft()))
            self._changed.notify_all()
            return taken

    def empty(self) -> bool:
        """Whether nothing waits."""
        with self._changed:
            return self._empty()

    def close_files(self) -> None:
        """Let go of what waits of files, and take no more of them: nobody waits for their end any more."""
        with self._changed:
            self._files_closed = True
            for slot in self._slots.values():
                if not slot.live:
                    slot.waiting.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Let every `put` and `take` return at once, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _refuses(self, slot: _Slot) -> bool:
        return self._closed or (self._files_closed and not slot.live)

    def _empty(self) -> bool:
        return not any(slot.waiting for slot in self._slots.values())
