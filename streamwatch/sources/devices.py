"""USB and other V4L2 cameras of this machine, by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamwatch.clock import Clock
from streamwatch.errors import SourceLost
from streamwatch.imaging import ArrayPicture, load_cv2
from streamwatch.records import Frame
from streamwatch.sources.base import BaseSource, DueTimes


class DeviceSource(BaseSource):
    """`/dev/videoN`. Every picture is fetched from the driver, so that none grows old there; only those near a multiple
    of `every_s` are decoded and come out.
    """

    def __init__(self, device: str, *, every_s: float, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.live = True
        self._path = Path(f"/dev/video{int(device)}" if device.isdecimal() else device)
        self._every_s = every_s

    def frames(self) -> Iterator[Frame]:
        self._begin()
        if self._closed.is_set():
            return
        if not self._path.exists():
            present = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
            raise SourceLost(f"{self._path}: no such camera; is it plugged in? Present: {present}")
        cv2 = load_cv2()
        # No read timeout: V4L2 refuses to open with that property set.
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_V4L2)
        try:
            if not capture.isOpened():
                raise SourceLost(
                    f"{self._path} does not open as a camera; is another program using it, or access denied?"
                )
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            due = DueTimes(self._every_s)
            first_s: float | None = None
            while not self._closed.is_set():
                if not capture.grab():
                    raise SourceLost(f"{self._path} gave no more pictures; was it unplugged?")
                arrived_s = self._clock.monotonic_s()
                if not due.wants(arrived_s):
                    continue
                whole, pixels = capture.retrieve()
                if not whole:
                    continue
                first_s = arrived_s if first_s is None else first_s
                picture = ArrayPicture(np.ascontiguousarray(pixels[:, :, ::-1]))
                self.size = (picture.width, picture.height)
                self.duration_s = arrived_s - first_s
                yield Frame(pts_s=arrived_s - first_s, captured_at=self._clock.now(), picture=picture)
        finally:
            capture.release()
