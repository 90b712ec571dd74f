"""Far more frames than the real network can take: who gets its time, what is dropped, what the memory does."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamwatch.clock import SystemClock
from streamwatch.config import CameraConfig, Config
from streamwatch.daemon.service import Service
from streamwatch.daemon.systemd import Notifier
from streamwatch.embedding import load_embedder
from streamwatch.events.sinks.jsonl import JsonLinesSink
from streamwatch.events.store import FolderStore
from streamwatch.imaging import ArrayPicture
from streamwatch.records import Frame
from streamwatch.sources import Source
from streamwatch.sources.base import BaseSource
from tests.running import wait_for

pytestmark = pytest.mark.faults

CAMERAS = 12
OVERLOAD = 4
GREEDY = 5
"""The first camera is this many times as fast as the others."""


class Tally:
    """How many samples were judged so far, and how long each had waited; cameras keep pace with it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.total = 0
        self.by_camera: Counter[str] = Counter()
        self.waited: list[tuple[int, float]] = []
        """Of each sample: how many others were judged since it came, and how many seconds it took."""

        self._came: dict[tuple[str, float], tuple[int, float]] = {}

    def came(self, camera: str, pts_s: float) -> None:
        with self.changed:
            self._came[camera, pts_s] = (self.total, time.monotonic())

    def judged(self, camera: str, frame: Frame, *_: object) -> None:
        with self.changed:
            total, came_s = self._came.pop((camera, frame.pts_s))
            self.waited.append((self.total - total, time.monotonic() - came_s))
            self.total += 1
            self.by_camera[camera] += 1
            self.changed.notify_all()


class Fast(BaseSource):
    """A live camera that gives so many small pictures for each sample that is judged, whatever the machine's speed."""

    live = True

    def __init__(self, camera: str, tally: Tally, *, per_judged: float, seed: int) -> None:
        super().__init__(clock=SystemClock())
        self._camera, self._tally, self._per_judged = camera, tally, per_judged
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        self._picture = ArrayPicture(pixels)

    def frames(self) -> Iterator[Frame]:
        number = 0
        while not self._closed.is_set():
            with self._tally.changed:
                if self._tally.total * self._per_judged < number:
                    self._tally.changed.wait(0.2)
                    continue
            self._tally.came(self._camera, number * 0.02)
            yield Frame(pts_s=number * 0.02, captured_at=None, picture=self._picture)
            number += 1


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.timeout(280)
def test_at_four_times_what_the_network_can_do_every_camera_gets_its_share_and_every_sample_is_accounted_for(
    tmp_path: Path,
) -> None:
    # Given twelve cameras that together give four times what the network takes, one of them five times its part
    names = [f"c{number}" for number in range(CAMERAS)]
    config = Config.model_validate(
        {
            "data_dir": str(tmp_path),
            "metrics": {"listen": None},
            "cameras": [{"name": name, "url": f"rtsp://{name}.test/", "every": "10ms"} for name in names],
        }
    )
    tally = Tally()

    def opener(camera: CameraConfig) -> Source:
        number = names.index(camera.name)
        part = (GREEDY if number == 0 else 1) / (CAMERAS + GREEDY - 1)
        return Fast(camera.name, tally, per_judged=OVERLOAD * part, seed=number)

    service = Service(
        config,
        embedder=load_embedder(network="lite0", device="cpu"),
        store=FolderStore(tmp_path),
        sinks=[JsonLinesSink(tmp_path / "events.jsonl")],
        notifier=Notifier({}),
        opener=opener,
        observers=[tally.judged],
    )
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        wait_for(lambda: tally.total >= 200, "200 samples")
        early_mb, first, started_s = resident_mb(), Counter(tally.by_camera), time.monotonic()
        # When another 2,000 samples are judged
        wait_for(lambda: tally.total >= 2200, "2,000 samples", timeout_s=240)
        late_mb, counted, took_s = resident_mb(), tally.by_camera - first, time.monotonic() - started_s
    finally:
        service.stop()
        thread.join(20)
    assert not thread.is_alive()
    fair = sum(counted.values()) / CAMERAS
    value = service.metrics.registry.get_sample_value

    def total(what: str, camera: str) -> int:
        return int(value(f"streamwatch_{what}_total", {"camera": camera}) or 0)

    rows = {name: [total(what, name) for what in ("samples", "embedded", "dropped")] for name in names}
    overload = sum(row[0] for row in rows.values()) / sum(row[1] for row in rows.values())
    others, seconds = zip(*tally.waited[200:], strict=True)
    print(
        f"\n{overload:.1f} × overload; share {min(counted.values()) / fair:.2f} to {max(counted.values()) / fair:.2f} "
        f"of the fair one; a sample's age when judged: p99 {np.percentile(seconds, 99):.2f} s, where a round of all "
        f"cameras takes {took_s / fair:.2f} s; memory {early_mb:.0f} → {late_mb:.0f} MB"
    )
    # Then there really was too much
    assert overload > OVERLOAD * 0.75
    # and each camera got its share, within a factor of two
    assert all(fair / 2 <= counted[name] <= 2 * fair for name in names), counted
    # and every sample was judged or dropped, none twice
    for sampled, embedded, dropped in rows.values():
        assert sampled == embedded + dropped
    # and what is judged is never older than two rounds of all cameras
    assert max(others) <= 2 * CAMERAS
    # and the memory is flat
    assert late_mb - early_mb < 40
