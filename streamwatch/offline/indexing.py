"""Pictures into a gallery: found, read and resized in threads ahead of the network, appended in transactions."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.fitting import fit_picture
from streamwatch.errors import SourceUnusable, StreamwatchError
from streamwatch.imaging import MAX_FILE_BYTES, ArrayPicture, decode_image, decode_small
from streamwatch.offline.features import FeatureExtractor
from streamwatch.offline.gallery import Gallery
from streamwatch.offline.gallery_records import GalleryRow, PixelBox, row_id
from streamwatch.offline.picture_lists import Item, Problem
from streamwatch.prefetch import prefetch
from streamwatch.records import RGB, Picture

_CHUNK = 16
"""Pictures handed to the embedder at once, at least."""

_SCALE_FROM = 2
"""A whole JPEG need not be decoded larger than this many times the network's input: area averaging has enough left."""

_AHEAD = 4
"""Chunks that may wait, decoded and resized, for the network."""


@dataclass(kw_only=True)
class IndexSummary:
    """What an index run did."""

    asked: int
    """Pictures and crops."""

    added: int = 0
    known: int = 0
    """Pictures and crops of the same content that were there, or came twice in this run."""

    problems: list[Problem] = field(default_factory=list)
    interrupted: bool = False
    elapsed_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Pictures and crops that went through the network, a second."""
        return self.added / self.elapsed_s if self.elapsed_s > 0 else 0.0


def crop(pixels: RGB, box: PixelBox) -> RGB:
    """The box's part of a picture.

    Raises:
        SourceUnusable: The box does not lie in it.
    """
    height, width = pixels.shape[:2]
    if box.x + box.width > width or box.y + box.height > height:
        raise SourceUnusable(f"the box {box} does not lie in the picture, which has {width}×{height} pixels")
    return pixels[box.y : box.y + box.height, box.x : box.x + box.width]


def index(
    items: Sequence[Item],
    gallery: Gallery,
    extractor: FeatureExtractor,
    *,
    chunk: int = _CHUNK,
    flush_every: int = 512,
    flush_s: float = 10.0,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> IndexSummary:
    """Add what the gallery has not. KeyboardInterrupt ends it early: what is embedded by then is kept, and running it
    again goes on.

    Args:
        items: Those of one path next to each other: the file is then decoded once.
        gallery: Of the extractor's identity; held by `gallery.writing()`.
        extractor: Called from this thread only.
        chunk: Pictures handed to the embedder at once.
        flush_every: Pictures a transaction, about.
        flush_s: … or so many seconds.
        workers: Threads that read and resize; None for one a core.
        progress: Hears how many items are done.

    Raises:
        OutputError: The gallery cannot be written. What was flushed before stays.
    """
    summary = IndexSummary(asked=len(items))
    started_s = time.monotonic()
    ids = gallery.ids()
    batch = _Batch(gallery, extractor, summary, flush_every=flush_every, flush_s=flush_s)
    reader = _Reader(extractor, frozenset(ids))
    done = 0
    try:
        for part in _ahead(_by_path(items), reader.read, workers=workers or os.cpu_count() or 1, limit=_AHEAD * chunk):
            summary.problems += part.problems
            summary.known += part.known
            done += part.asked
            for row, picture in part.pictures:
                if row.id in ids:
                    summary.known += 1
                    continue
                ids.add(row.id)
                batch.add(row, picture)
            if len(batch) >= chunk:
                batch.embed()
            if progress:
                progress(done - len(batch))
        batch.embed()
    except KeyboardInterrupt:
        summary.interrupted = True
    except StreamwatchError:
        batch.flush()
        raise
    batch.flush()
    summary.elapsed_s = time.monotonic() - started_s
    if progress and not summary.interrupted:
        progress(done)
    return summary


def load_query(path: Path, box: PixelBox | None, *, size_px: int) -> tuple[ArrayPicture, str]:
    """A picture or its crop, decoded as `index` does for a network's input of `size_px`; and its file's content hash.

    Raises:
        SourceUnusable: It cannot be read, or the box does not lie in it.
    """
    data = _bytes(path)
    try:
        whole = decode_small(data, side_px=_SCALE_FROM * size_px)[0] if box is None else decode_image(data)
        return ArrayPicture(whole if box is None else crop(whole, box)), _hash(data)
    except SourceUnusable as error:
        raise SourceUnusable(f"{path}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What came of one file."""

    asked: int
    known: int = 0
    pictures: tuple[tuple[GalleryRow, Picture], ...] = ()
    problems: tuple[Problem, ...] = ()


class _Reader:
    """Reads a file and makes its picture, or crops, as large as the network's input. Any thread."""

    def __init__(self, extractor: FeatureExtractor, ids: frozenset[str]) -> None:
        self._fit, self._size_px = extractor.identity.fit, extractor.identity.input_px
        self._ids = ids

    def read(self, items: tuple[Item, ...]) -> _Part:
        path = items[0].path
        try:
            data = _bytes(path)
            digest = _hash(data)
            wanted = [item.box for item in items if row_id(digest, item.box) not in self._ids]
            known = len(items) - len(wanted)
            if not wanted:
                return _Part(asked=len(items), known=known)
            if wanted == [None]:
                pixels, width, height = decode_small(data, side_px=_SCALE_FROM * self._size_px)
            else:
                pixels = decode_image(data)
                height, width = pixels.shape[:2]
        except StreamwatchError as error:
            return _Part(asked=len(items), problems=(Problem(str(path), str(error)),) * len(items))
        except MemoryError:
            return _Part(asked=len(items), problems=(Problem(str(path), "not enough memory"),) * len(items))
        del data
        pictures, problems = [], []
        for box in wanted:
            row = GalleryRow(content_hash=digest, path=str(path), width=width, height=height, box=box)
            try:
                pictures.append((row, self._fitted(pixels if box is None else crop(pixels, box))))
            except SourceUnusable as error:
                problems.append(Problem(str(path), str(error)))
        return _Part(asked=len(items), known=known, pictures=tuple(pictures), problems=tuple(problems))

    def _fitted(self, pixels: RGB) -> Picture:
        picture = ArrayPicture(pixels)
        if self._fit == "letterbox":  # Its border is the embedder's to choose.
            return prefetch(picture, fit=self._fit, size_px=self._size_px)
        # Not `prefetch`: it would keep the whole picture.
        return ArrayPicture(fit_picture(picture, fit=self._fit, size_px=self._size_px, border=(0, 0, 0)))


class _Batch:
    """Pictures on their way through the network, and vectors on their way to the gallery."""

    def __init__(
        self, gallery: Gallery, extractor: FeatureExtractor, summary: IndexSummary, *, flush_every: int, flush_s: float
    ) -> None:
        self._gallery, self._extractor, self._summary = gallery, extractor, summary
        self._flush_every, self._flush_s = flush_every, flush_s
        self._waiting: list[tuple[GalleryRow, Picture]] = []
        self._rows: list[GalleryRow] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._regions: list[NDArray[np.float32]] = []
        self._flushed_s = time.monotonic()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, row: GalleryRow, picture: Picture) -> None:
        self._waiting.append((row, picture))

    def embed(self) -> None:
        if self._waiting:
            features = self._extractor.extract([picture for _, picture in self._waiting])
            self._vectors.append(features.vectors)
            if features.regions is not None:
                self._regions.append(features.regions.astype(np.float16))
            self._rows += [row for row, _ in self._waiting]
            self._waiting.clear()
        if len(self._rows) >= self._flush_every or time.monotonic() - self._flushed_s >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        # Taken away first: an interrupt during the append must not have the rows appended once more. And one may have
        # come between two of embed's lines: only rows that have all their vectors count.
        rows, vectors, regions = self._rows, self._vectors, self._regions
        self._rows, self._vectors, self._regions = [], [], []
        self._flushed_s = time.monotonic()
        count = len(rows)
        if count:
            cut = np.concatenate(regions)[:count] if regions else None
            self._gallery.append(rows, np.concatenate(vectors)[:count], cut)
            self._summary.added += count


def _by_path(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    return (tuple(group) for _, group in groupby(items, key=lambda item: item.path))


def _ahead(
    groups: Iterable[tuple[Item, ...]], read: Callable[[tuple[Item, ...]], _Part], *, workers: int, limit: int
) -> Iterator[_Part]:
    """What `read` gives, in order, with up to `limit` files read ahead."""
    waiting: deque[Future[_Part]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for group in groups:
            waiting.append(pool.submit(read, group))
            if len(waiting) >= limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise SourceUnusable(f"{path} has {size} bytes, images of up to {MAX_FILE_BYTES} are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceUnusable(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise SourceUnusable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise SourceUnusable(f"{path} is empty (0 bytes), expected an image")
    return data


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
