"""Which cameras have given no picture for so long that somebody should look."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from streamwatch.clock import Clock
from streamwatch.metrics import Metrics
from streamwatch.pipeline import new_id
from streamwatch.records import CameraEvent

log = logging.getLogger(__name__)

_QUIET_S = 60.0
"""A camera is told about at most once in this time, however often it comes and goes."""


class OfflineWatch:
    """Says once when a live camera has gone offline, and once when it is back. The service's main thread calls it.

    What each loss was, the reader says as it happens; here, short ones are silent. A camera that flaps is told about
    once a minute at most: what was left out is made up for as soon as the minute is over, if it still holds.
    """

    def __init__(
        self,
        camera: str,
        *,
        offline_after_s: float,
        every_s: float,
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        """Count from now.

        Args:
            camera: Its name.
            offline_after_s: Seconds without a picture that make it offline; never fewer than two sampling periods,
                since between two samples nothing may be decoded.
            every_s: The sampling period.
            clock: Its monotonic side counts; the wall clock is only told.
            metrics: Get `streamwatch_camera_offline`.
            new_id: Names events.
        """
        self._camera, self._clock = camera, clock
        self.expect(offline_after_s=offline_after_s, every_s=every_s)
        self._gauge = metrics.camera_offline.labels(camera)
        self._since_s = clock.monotonic_s()
        self._changed_s = self._since_s
        """When it went offline (its last picture) or came back."""

        self._silent_s = 0.0
        self._new_id = new_id
        self._told_offline: str | None = None
        """The id of the event that told that it is offline; None where the last word was that it is there."""

        self._told_s: float | None = None
        self.offline = False

    def expect(self, *, offline_after_s: float, every_s: float) -> None:
        """From now on, count as offline after this long."""
        self._limit_s = max(offline_after_s, 2 * every_s)

    def take_over(self, predecessor: OfflineWatch) -> None:
        """Go on where another one of the same camera stopped: what it has told still has to end."""
        self._since_s, self._changed_s = predecessor._since_s, predecessor._changed_s
        self._silent_s, self.offline = predecessor._silent_s, predecessor.offline
        self._told_offline, self._told_s = predecessor._told_offline, predecessor._told_s
        self._gauge.set(int(self.offline))

    def check(self, last_picture_s: float | None) -> CameraEvent | None:
        """Look again; returns what somebody should hear now. Its `at` is when the last picture came, or the camera came
        back; `lasted_s` is how long it has been, or was, without a picture.

        Args:
            last_picture_s: When the last picture came, on the monotonic clock; None before the first.
        """
        now_s = self._clock.monotonic_s()
        before_s = self._since_s
        if last_picture_s is not None:
            self._since_s = last_picture_s
        offline = now_s - self._since_s >= self._limit_s
        if offline != self.offline:
            self._change(offline, silent_s=self._since_s - before_s)
        if offline:
            self._silent_s = now_s - self._since_s
        quiet = self._told_s is not None and now_s - self._told_s < _QUIET_S
        if self.offline == (self._told_offline is not None) or quiet:
            return None
        self._told_s = now_s
        event = CameraEvent(
            id=self._new_id(),
            camera=self._camera,
            kind="camera_offline" if self.offline else "camera_online",
            at=self._wall(self._changed_s),
            ends=self._told_offline,
            lasted_s=self._silent_s,
        )
        self._told_offline = event.id if self.offline else None
        return event

    def _change(self, offline: bool, *, silent_s: float) -> None:
        self.offline, self._changed_s = offline, self._since_s
        self._gauge.set(int(offline))
        if offline:
            since = self._wall(self._since_s).isoformat(timespec="seconds")
            log.warning("%s: camera offline since %s: no picture", self._camera, since)
        else:
            self._silent_s = silent_s
            log.info("%s: camera is back after %.0f s without a picture", self._camera, silent_s)

    def _wall(self, monotonic_s: float) -> datetime:
        return self._clock.now() - timedelta(seconds=self._clock.monotonic_s() - monotonic_s)
