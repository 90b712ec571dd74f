"""Between the cameras' readers and the network: one bounded place for each camera."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamwatch.records import Frame


@dataclass
class _Slot:
    bound: int
    live: bool
    first_epoch: int
    removed: bool = False
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

    def add(self, camera: str, *, live: bool, first_epoch: int = 0) -> None:
        """Make a place for a camera, which takes no samples of earlier epochs: its predecessor of the same name may
        still be in the middle of something."""
        with self._changed:
            self._slots[camera] = _Slot(bound=1 if live else self._file_bound, live=live, first_epoch=first_epoch)
            self._order.append(camera)

    def remove(self, camera: str) -> None:
        """Let go of a camera's place and what waits in it; its reader's `put` returns at once, now and later."""
        with self._changed:
            slot = self._slots.pop(camera)
            self._order.remove(camera)
            slot.removed = True
            slot.waiting.clear()
            self._changed.notify_all()

    def put(self, camera: str, frame: Frame, *, epoch: int) -> int:
        """Offer a sample; returns how many samples that cost: those that it displaced, or itself if it is refused.

        Args:
            camera: One that was added; the sample of one that is gone is let go of, as its counters are.
            frame: The sample.
            epoch: Rises whenever the camera's stream was opened anew.
        """
        with self._changed:
            slot = self._slots.get(camera)
            if slot is None or epoch < slot.first_epoch:
                return 1
            while not slot.live and len(slot.waiting) >= slot.bound and not self._refuses(slot):
                self._changed.wait()
            if self._refuses(slot):
                return 1
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

    def close_files(self) -> dict[str, int]:
        """Let go of what waits of files, and take no more of them: nobody waits for their end any more. Tells how many
        samples of which files that cost."""
        with self._changed:
            self._files_closed = True
            return self._let_go({camera: slot for camera, slot in self._slots.items() if not slot.live})

    def close(self) -> dict[str, int]:
        """Let every `put` and `take` return at once, now and later. Tells how many samples of which cameras were still
        waiting."""
        with self._changed:
            self._closed = True
            return self._let_go(self._slots)

    def _let_go(self, slots: Mapping[str, _Slot]) -> dict[str, int]:
        lost = {camera: len(slot.waiting) for camera, slot in slots.items() if slot.waiting}
        for slot in slots.values():
            slot.waiting.clear()
        self._changed.notify_all()
        return lost

    def _refuses(self, slot: _Slot) -> bool:
        return slot.removed or self._closed or (self._files_closed and not slot.live)

    def _empty(self) -> bool:
        return not any(slot.waiting for slot in self._slots.values())
