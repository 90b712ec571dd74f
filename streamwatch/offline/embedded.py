"""Images in, pooled vectors out, kept on disk by the images' content: what was done once is never done again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedRandom
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding import Embedder, EmbedderIdentity
from streamwatch.embedding.fitting import fit_picture
from streamwatch.errors import OutputError, SourceUnusable
from streamwatch.events.files import make_folder, write_whole
from streamwatch.imaging import ArrayPicture, load_picture
from streamwatch.offline.pooling import pool_regions, pooled_dimensions
from streamwatch.prefetch import prefetch
from streamwatch.records import Picture

_BATCH = 16
_LINE = 65  # 64 hex digits and a line feed
_READERS = 2

Heard = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What images hold."""

    hashes: tuple[str | None, ...]
    """SHA-256 of each file, 64 hex digits; None for one that cannot be read."""

    unreadable: Mapping[int, str]
    """Number of the image → why."""


def read_contents(images: Sequence[Path]) -> Contents:
    """Hash each file. Nothing is decoded."""
    hashes: list[str | None] = []
    unreadable: dict[int, str] = {}
    for number, path in enumerate(images):
        try:
            hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            hashes.append(None)
            unreadable[number] = f"{path} cannot be read: {error.strerror or error}"
    return Contents(hashes=tuple(hashes), unreadable=unreadable)


class VectorStore:
    """The vectors of one identity and pooling in two files that only grow: vectors, then the hashes they belong to.

    Vectors are written and fsynced before their hashes, so what a hash is there for is whole, whenever the process or
    the machine stopped. One process at a time may write, and holds the store from its opening to `release`.
    """

    def __init__(self, folder: Path, identity: EmbedderIdentity, pooling: str) -> None:
        """Open, or create.

        Args:
            folder: Where the files are; made where it is not there.
            identity: Of the embedder that gives the layer's raw regions.
            pooling: What becomes of them.

        Raises:
            OutputError: The folder cannot be written, or another process has the store open.
        """
        self.dimensions = pooled_dimensions(pooling, identity.grid, identity.dimensions)
        about = {
            "format": 1,
            "network": identity.network,
            "layer": identity.layer,
            "weights_id": identity.weights_id,
            "fit": identity.fit,
            "input_px": identity.input_px,
            "pooling": pooling,
            "dimensions": self.dimensions,
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        name = f"{identity.network}-{identity.layer}-{pooling}-{key}".replace("/", "_").replace(":", "_")
        make_folder(folder)
        self._path = folder / name
        self._files = ExitStack()
        try:
            if not (about_file := self._path.with_name(name + ".json")).exists():
                write_whole(about_file, json.dumps(about, indent=1).encode())
            self._hashes = self._open(".hashes")
            fcntl.flock(self._hashes, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._vectors = self._open(".vectors")
            self._rows = self._whole_rows()
        except BlockingIOError:
            self._files.close()
            raise OutputError(
                f"another run is using {self._path}.hashes; wait until it has ended, or name another --cache"
            ) from None
        except OSError as error:
            self._files.close()
            raise OutputError(f"the cache {self._path} cannot be used: {error.strerror or error}") from error

    def __enter__(self) -> VectorStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def __contains__(self, content: object) -> bool:
        return content in self._rows

    def add(self, contents: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep these vectors, (n, dimensions), durably.

        Raises:
            OutputError: The disk is full, or failed.
        """
        try:
            self._vectors.write(np.ascontiguousarray(vectors, np.float32).tobytes())
            self._vectors.flush()
            os.fsync(self._vectors.fileno())
            self._hashes.write("".join(f"{content}\n" for content in contents).encode())
            self._hashes.flush()
        except OSError as error:
            raise OutputError(f"the cache {self._path} cannot be written: {error.strerror or error}") from error
        for content in contents:
            self._rows[content] = len(self._rows)

    def release(self) -> None:
        """Let other processes write: from here on this one only reads."""
        fcntl.flock(self._hashes, fcntl.LOCK_UN)

    def read(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of these contents, all of which must be there: (n, dimensions)."""
        kept = np.memmap(self._vectors.name, np.float32, "r", shape=(len(self._rows), self.dimensions))
        return np.ascontiguousarray(kept[[self._rows[content] for content in contents]])

    def _open(self, suffix: str) -> BufferedRandom:
        path = self._path.with_name(self._path.name + suffix)
        return self._files.enter_context(path.open("a+b"))

    def _whole_rows(self) -> dict[str, int]:
        """Content → row; what an interrupted run left half-written is cut off."""
        bytes_each = 4 * self.dimensions
        self._hashes.seek(0)
        lines = self._hashes.read()
        count = min(len(lines) // _LINE, os.fstat(self._vectors.fileno()).st_size // bytes_each)
        rows: dict[str, int] = {}
        for row in range(count):
            rows[lines[row * _LINE : row * _LINE + 64].decode("ascii", "replace")] = row
        if len(rows) != count:  # Not written by us: begin anew.
            rows, count = {}, 0
        for file, size in ((self._hashes, count * _LINE), (self._vectors, count * bytes_each)):
            if file.seek(0, os.SEEK_END) != size:
                file.truncate(size)
                file.seek(size)
        return rows


@dataclass(frozen=True, kw_only=True)
class Maker:
    """An embedder, and the stores that it fills, by pooling."""

    embedder: Embedder
    stores: Mapping[str, VectorStore]

    def lacks(self, content: str) -> bool:
        """True if some store has not got it."""
        return not all(content in store for store in self.stores.values())

    def make(self, contents: Sequence[str], pictures: Sequence[Picture]) -> None:
        """Embed what some store lacks, once, and add it where it is lacking."""
        todo = [row for row, content in enumerate(contents) if self.lacks(content)]
        if not todo:
            return
        identity = self.embedder.identity
        regions = self.embedder.embed([pictures[row] for row in todo])
        for pooling, store in self.stores.items():
            new = [place for place, row in enumerate(todo) if contents[row] not in store]
            if new:
                how = "flat" if identity.pooling != "layer" else pooling
                store.add([contents[todo[place]] for place in new], pool_regions(regions[new], identity.grid, how))


def embed_missing(
    images: Sequence[Path], contents: Contents, makers: Sequence[Maker], *, heard: Heard | None = None
) -> dict[int, str]:
    """Embed what is not in all of the stores, each distinct content once.

    Args:
        images: Files.
        contents: Theirs.
        makers: Their embedders are of one network and fit, and give raw vectors.
        heard: Is told how many images are done, and of how many.

    Returns:
        The images that cannot be decoded: number → why.
    """
    todo: dict[str, int] = {}
    for number, content in enumerate(contents.hashes):
        if content is not None and any(maker.lacks(content) for maker in makers):
            todo.setdefault(content, number)
    failed: dict[str, str] = {}
    done = 0
    if heard is not None:
        heard(0, len(todo))
    identity = makers[0].embedder.identity
    for batch in _batches(_decoded(images, todo, identity.fit, identity.input_px)):
        good = [(content, picture) for content, picture in batch if not isinstance(picture, str)]
        failed.update({content: picture for content, picture in batch if isinstance(picture, str)})
        for maker in makers:
            maker.make([content for content, _ in good], [picture for _, picture in good])
        done += len(batch)
        if heard is not None:
            heard(done, len(todo))
    return {number: failed[content] for number, content in enumerate(contents.hashes) if content in failed and content}


def _decoded(
    images: Sequence[Path], todo: Mapping[str, int], fit: str, size_px: int
) -> Iterator[tuple[str, Picture | str]]:
    """Content and picture, or content and why there is none; in order, a few ahead of whoever asks."""

    def load(number: int) -> Picture | str:
        try:
            picture = load_picture(images[number])
        except SourceUnusable as error:
            return str(error)
        if fit == "letterbox":  # Its border's colour is the weights' own.
            return prefetch(picture, fit=fit, size_px=size_px)
        return ArrayPicture(fit_picture(picture, fit=fit, size_px=size_px, border=(0, 0, 0)))

    waiting: deque[tuple[str, Future[Picture | str]]] = deque()
    items = iter(todo.items())
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for content, number in islice(items, 2 * _BATCH):
                waiting.append((content, pool.submit(load, number)))
            while waiting:
                content, future = waiting.popleft()
                yield content, future.result()
                for following, number in islice(items, 1):
                    waiting.append((following, pool.submit(load, number)))
        finally:
            for _, future in waiting:
                future.cancel()


def _batches(items: Iterator[tuple[str, Picture | str]]) -> Iterator[list[tuple[str, Picture | str]]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
