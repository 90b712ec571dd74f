"""The daemon's core over files, as fast as it can go: decoding in one thread, the network in another."""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from streamwatch.assembly import change_settings, new_memory, new_pipeline
from streamwatch.config import ChangeConfig
from streamwatch.embedding import Embedder
from streamwatch.errors import SourceError, SourceUnusable
from streamwatch.offline.result import ScanEvent, ScanResult, TimelinePoint
from streamwatch.pipeline import Raised
from streamwatch.prefetch import prefetch
from streamwatch.records import Frame
from streamwatch.sampling import Sampler
from streamwatch.sources import DecodeOption, Source, open_source

_AHEAD = 16
"""Samples decoded ahead of the network. Full: the decoder waits. A sample holds one decoded picture."""

Progress = Callable[[float, int, float | None], None]
"""Hears how far the scan is: seconds of the video, events so far, and the length that the video announces, if any."""

Polygons = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """How a video is scanned."""

    change: ChangeConfig
    every_s: float
    pictures: Path
    """Folder for this video's pictures."""

    decode: DecodeOption = "auto"
    hwaccel: str | None = None
    zones: Polygons = ()
    masks: Polygons = ()
    jpeg_quality: int = 90


def scan(
    video: str,
    *,
    embedder: Embedder,
    options: ScanOptions,
    progress: Progress = lambda pts_s, events, total_s: None,
) -> ScanResult:
    """Find the changes in one video or folder of images.

    An interrupt (Ctrl-C) ends the scan early: what was found until then is the result, with a warning that says so.

    Raises:
        SourceUnusable: It cannot be opened, or shows no pictures.
        UsageError: The embedder's vectors need a threshold, and none was given.
        OutputError: The pictures cannot be written.
    """
    settings = change_settings(options.change, embedder.identity)
    pipeline = new_pipeline(
        "scan",
        change=options.change,
        embedder=embedder,
        memory=new_memory(options.change, embedder.identity),
        pictures=options.pictures,
        jpeg_quality=options.jpeg_quality,
        zones=options.zones,
        masks=options.masks,
        new_id=(f"state-{number:04d}" for number in itertools.count(1)).__next__,
    )
    source = open_source(video, every_s=options.every_s, decode=options.decode, hwaccel=options.hwaccel)
    if source.live:
        raise SourceUnusable(f"{video} is a camera, not a file: watch it with `streamwatch watch`")
    timeline: list[TimelinePoint] = []
    events: list[ScanEvent] = []
    warnings: list[str] = []
    samples = _Samples(source, embedder=embedder, every_s=options.every_s)
    last_s = 0.0
    interrupted = False
    try:
        for batch in samples.batches(embedder.batch_size):
            vectors = embedder.embed([frame.picture for frame in batch])
            for frame, regions in zip(batch, vectors, strict=True):
                outcome = pipeline.push(frame, regions)
                last_s = frame.pts_s
                timeline.append(TimelinePoint(pts_s=frame.pts_s, novelty=outcome.judgement.novelty))
                if outcome.raised is not None:
                    events.append(scan_event(outcome.raised))
            progress(last_s, len(events), source.announced_s)
    except KeyboardInterrupt:
        interrupted = True
        warnings.append(f"the scan was interrupted at {last_s:.1f} s; what comes after was not looked at")
    finally:
        samples.stop()
    if samples.failure is not None and (not timeline or not isinstance(samples.failure, SourceError)):
        raise samples.failure
    if samples.failure is not None:
        warnings.append(str(samples.failure))
    if len(timeline) and not len(pipeline.memory):
        needed = options.change.confirm
        if len(timeline) == 1:
            told = "1 sample is too few"
            advice = "choose a shorter --every, or a longer video"
        else:
            told = f"{len(timeline)} samples are too few"
            advice = "choose a shorter --every"
        warnings.append(f"{told} to judge anything ({needed} must agree); {advice}")
    if not pipeline.watched:
        warnings.append("masks, or the network's fit, leave nothing of the zones: no change can be found; change them")
    return ScanResult(
        video=video,
        duration_s=max(source.duration_s or 0.0, last_s),
        samples=len(timeline),
        every_s=options.every_s,
        network=embedder.identity.network,
        layer=embedder.identity.layer,
        weights_id=embedder.identity.weights_id,
        threshold=settings.threshold,
        decode=source.decode_mode,
        timeline=tuple(timeline),
        events=tuple(events),
        warnings=(*source.warnings, *warnings),
        interrupted=interrupted,
    )


class _Samples:
    """A source read, sampled and resized in a thread of its own."""

    def __init__(self, source: Source, *, embedder: Embedder, every_s: float) -> None:
        self.failure: Exception | None = None
        """What ended the source, if it did not end by itself."""

        self._source, self._sampler = source, Sampler(every_s)
        self._fit, self._size_px = embedder.identity.fit, embedder.identity.input_px
        self._queue: queue.Queue[Frame | None] = queue.Queue(maxsize=_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="scan-reader", daemon=True)

    def batches(self, size: int) -> Iterator[list[Frame]]:
        """Samples in order, `size` at once; the last batch may be smaller.

        A full batch is waited for: one picture alone costs VGG16 half as much again, and where decoding is what takes
        long, the decoder goes on while the batch is embedded.
        """
        self._thread.start()
        batch: list[Frame] = []
        while (frame := self._queue.get()) is not None:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def stop(self) -> None:
        """End the thread; idempotent."""
        self._stopped.set()
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)

    def _read(self) -> None:
        try:
            for frame in self._source.frames():
                if self._stopped.is_set():
                    return
                if self._sampler.take(frame.pts_s):
                    picture = prefetch(frame.picture, fit=self._fit, size_px=self._size_px)
                    self._put(replace(frame, picture=picture))
        except Exception as error:  # handed to the thread that waits for samples, which raises it
            self.failure = error
        finally:
            self._put(None)

    def _put(self, frame: Frame | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(frame, timeout=0.2)
            except queue.Full:
                continue


def scan_event(raised: Raised) -> ScanEvent:
    """An event as the reports show it."""
    event = raised.event
    return ScanEvent(
        time_s=event.pts_s,
        novelty=event.novelty if math.isfinite(event.novelty) else 0.0,
        threshold=event.threshold,
        regions=event.regions,
        before=raised.before,
        after=raised.after,
    )
