"""Which cameras have given no picture for so long that somebody should look."""

from __future__ import annotations

import logging
from datetime import timedelta

from streamwatch.clock import Clock
from streamwatch.metrics import Metrics

log = logging.getLogger(__name__)


class OfflineWatch:
    """Says once when a live camera has gone offline, and once when it is back. The service's main thread calls it.

    What each loss was, the reader says as it happens; here, short ones are silent.
    """

    def __init__(self, camera: str, *, offline_after_s: float, every_s: float, clock: Clock, metrics: Metrics) -> None:
        """Count from now.

        Args:
            camera: Its name.
            offline_after_s: Seconds without a picture that make it offline; never fewer than two sampling periods,
                since between two samples nothing may be decoded.
            every_s: The sampling period.
            clock: Its monotonic side counts; the wall clock is only told.
            metrics: Get `streamwatch_camera_offline`.
        """
        self._camera, self._clock = camera, clock
        self.expect(offline_after_s=offline_after_s, every_s=every_s)
        self._gauge = metrics.camera_offline.labels(camera)
        self._since_s = clock.monotonic_s()
        self.offline = False

    def expect(self, *, offline_after_s: float, every_s: float) -> None:
        """From now on, count as offline after this long."""
        self._limit_s = max(offline_after_s, 2 * every_s)

    def check(self, last_picture_s: float | None) -> None:
        """Look again; `last_picture_s` is when the last picture came, on the monotonic clock."""
        now_s = self._clock.monotonic_s()
        offline_since_s = self._since_s
        if last_picture_s is not None:
            self._since_s = last_picture_s
        silent_s = now_s - self._since_s
        offline = silent_s >= self._limit_s
        if offline == self.offline:
            return
        self.offline = offline
        self._gauge.set(int(offline))
        if offline:
            since = self._clock.now() - timedelta(seconds=silent_s)
            log.warning("%s: camera offline since %s: no picture", self._camera, since.isoformat(timespec="seconds"))
        else:
            log.info("%s: camera is back after %.0f s without a picture", self._camera, self._since_s - offline_since_s)
