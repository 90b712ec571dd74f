"""Parts of several tests: made-up scenes of region vectors, a small embedder, frames, a source that hangs."""

from __future__ import annotations

import itertools
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streamwatch.change.decision import ChangeDecider, ChangeSettings, Judgement
from streamwatch.change.memory import Memory
from streamwatch.clock import SystemClock
from streamwatch.embedding import EmbedderIdentity
from streamwatch.imaging import ArrayPicture
from streamwatch.records import RGB, Embedding, Frame, Grid, Picture
from streamwatch.sources.base import BaseSource

GRID = Grid(14, 14)
THRESHOLD = 0.6
DIMENSIONS = 32


def eventually(holds: Callable[[], object], *, timeout_s: float = 5.0) -> bool:
    """True as soon as the condition holds; False if it does not within the time."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def counting_ids(prefix: str = "s") -> Callable[[], str]:
    """Names s1, s2, …"""
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers)}"


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scaled to length 1 along the last axis."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


def block(row: int, column: int, rows: int = 2, columns: int = 2, *, grid: Grid = GRID) -> tuple[int, ...]:
    """The regions of a rectangle."""
    return tuple(r * grid.columns + c for r in range(row, row + rows) for c in range(column, column + columns))


Thing = tuple[str, Iterable[int]]
"""What something looks like, and the regions that show it."""


class Scenery:
    """Unit-length region vectors of a made-up camera: a background, things on it, a little noise in every sample."""

    def __init__(self, *, grid: Grid = GRID, noise: float = 0.01, seed: int = 1) -> None:
        self.grid, self._noise = grid, noise
        self._rng = np.random.default_rng(seed)
        self._background = self._looks("background")

    def look(self, *things: Thing) -> Embedding:
        """The next sample; later things hide earlier ones."""
        vectors = self._background.copy()
        for name, regions in things:
            chosen = list(regions)
            vectors[chosen] = self._looks(name)[chosen]
        noisy = vectors + self._rng.normal(0, self._noise, vectors.shape)
        return Embedding(vectors=unit(noisy), grid=self.grid)

    def _looks(self, name: str) -> NDArray[np.float32]:
        """Two looks of a region are about √2 apart, a squared distance of 2."""
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        return unit(rng.normal(size=(self.grid.regions, DIMENSIONS)))


def new_memory(*, max_states: int = 512, grid: Grid = GRID) -> Memory:
    return Memory(regions=grid.regions, dimensions=DIMENSIONS, max_states=max_states)


def new_decider(*, memory: Memory | None = None, grid: Grid = GRID, **settings: object) -> ChangeDecider:
    """A decider over vectors of a `Scenery`; states are named s1, s2, …"""
    chosen = ChangeSettings(**{"threshold": THRESHOLD, **settings})  # type: ignore[arg-type]
    if memory is None:  # an empty one is falsy
        memory = new_memory(grid=grid)
    return ChangeDecider(chosen, memory, grid=grid, new_id=counting_ids())


class Watching:
    """Feeds a decider at a steady pace and keeps what it says."""

    def __init__(self, decider: ChangeDecider, *, every_s: float = 1.0, start_s: float = 0.0) -> None:
        self.decider, self.every_s, self.next_s = decider, every_s, start_s
        self.judgements: list[Judgement] = []
        self.times_s: list[float] = []

    def see(self, *embeddings: Embedding) -> list[Judgement]:
        """The judgements of these samples."""
        new = []
        for embedding in embeddings:
            new.append(self.decider.judge(embedding, pts_s=self.next_s))
            self.times_s.append(self.next_s)
            self.next_s += self.every_s
        self.judgements += new
        return new

    @property
    def event_times_s(self) -> list[float]:
        """When events were raised."""
        return [at for at, judgement in zip(self.times_s, self.judgements, strict=True) if judgement.change]


IDENTITY = EmbedderIdentity(
    network="lite0",
    layer="blocks.4.2",
    weights_id="sha256:00000000grid4x16",
    fit="squash",
    unit_length=True,
    grid=GRID,
    dimensions=4,
)


class ColourEmbedder:
    """A real embedder without a network: each region's mean colour, as a vector of unit length."""

    batch_size = 8

    def __init__(self, identity: EmbedderIdentity = IDENTITY, *, takes_s: float = 0.0) -> None:
        self._identity, self._takes_s = identity, takes_s

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        time.sleep(self._takes_s)
        return np.stack([self._one(picture) for picture in pictures])

    def _one(self, picture: Picture) -> NDArray[np.float32]:
        grid = self._identity.grid
        cell = 224 // grid.rows
        pixels = picture.rgb(width=224, height=224).astype(np.float32)
        means = pixels.reshape(grid.rows, cell, grid.columns, cell, 3).mean(axis=(1, 3)).reshape(grid.regions, 3)
        return unit(np.concatenate([means - 128, np.full((grid.regions, 1), 64, np.float32)], axis=1))


RED, BLUE, YELLOW = (220, 30, 30), (30, 30, 220), (220, 220, 30)


def picture(*squares: tuple[tuple[int, int, int], int, int], width: int = 224, height: int = 224) -> RGB:
    """A grey yard with coloured squares of 48 pixels: (colour, x, y)."""
    pixels = np.full((height, width, 3), 128, dtype=np.uint8)
    for colour, x, y in squares:
        pixels[y : y + 48, x : x + 48] = colour
    return pixels


def frame(pixels: RGB, pts_s: float) -> Frame:
    return Frame(pts_s=pts_s, captured_at=None, picture=ArrayPicture(pixels))


class StuckSource(BaseSource):
    """A camera in a network that swallows packets: gives its frames, then hangs, whatever `close` says."""

    live = True

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        super().__init__(clock=SystemClock())
        self._frames = list(frames)
        self.let_go = threading.Event()

    def frames(self) -> Iterator[Frame]:
        yield from self._frames
        self.let_go.wait(30)
