"""One vector a picture, and one for each of its windows, of a layer's regions: pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding import Embedder
from streamwatch.errors import UsageError
from streamwatch.offline.gallery_records import GalleryIdentity
from streamwatch.records import Box, Grid, Picture

POOLINGS = ("mean", "max", "gem", "rmac", "flat")
_OVER_WINDOWS = ("mean", "max", "gem")
DEFAULT_SCALES = 3
_GEM_FLOOR = 1e-6

RETRIEVAL_LAYERS = {"lite0": "features", "vgg16": "fc7", "vgg19": "fc7"}
"""Where each network is cut unless the user says otherwise."""

REGIONAL_LAYERS = {"lite0": "features", "vgg16": "conv5_3", "vgg19": "conv5_4"}
"""… where regional vectors are asked for as well: fully connected layers have no regions."""


def embedder_pooling(pooling: str, scales: int) -> str:
    """What the embedder is to be loaded with: it pools by itself unless regions are wanted too.

    Raises:
        UsageError: No such pooling, or not over windows.
    """
    if pooling not in POOLINGS:
        raise UsageError(f"--pooling is {pooling!r}, expected one of {', '.join(POOLINGS)}")
    if scales and pooling not in _OVER_WINDOWS:
        raise UsageError(f"regional vectors cannot be {pooling}; use {', '.join(_OVER_WINDOWS)}")
    return "layer" if scales or pooling == "flat" else pooling


@dataclass(frozen=True)
class Features:
    """What is kept of a batch of pictures."""

    vectors: NDArray[np.float32]
    """Shape (pictures, dimensions)."""

    regions: NDArray[np.float32] | None
    """Shape (pictures, windows, dimensions)."""


class FeatureExtractor:
    """Pools an embedder's raw regions. As the embedder, one thread at a time may call it."""

    def __init__(self, embedder: Embedder, *, pooling: str, unit_length: bool, scales: int = 0, half: bool = False):
        """Check that pooling and layer go together.

        Args:
            embedder: Loaded with `pooling=embedder_pooling(pooling, scales)` and `unit_length=False`.
            pooling: `mean`, `max`, `gem` or `rmac` over all places of the layer (see `embedding.pooling`), or `flat`:
                its regions one after the other. With windows, places are the layer's regions.
            unit_length: Scale each vector to length 1; one of zeros stays.
            scales: Also give vectors of windows of so many scales (see `windows_of`); 0 for none.
            half: Only noted in the identity: how a gallery stores the vectors.

        Raises:
            UsageError: They do not.
        """
        seen = embedder.identity
        assert not seen.unit_length
        assert seen.pooling == embedder_pooling(pooling, scales)
        if scales and seen.grid.regions == 1:
            raise UsageError(
                f"regional vectors need a layer with regions, and {seen.layer} of {seen.network} is one vector a "
                f"picture; try --layer {REGIONAL_LAYERS.get(seen.network, 'of a convolution')}"
            )
        self._embedder, self._pooling, self._unit = embedder, pooling, unit_length
        self._pooled = seen.pooling != "layer"
        self._windows = windows_of(seen.grid, scales)
        self.identity = GalleryIdentity(
            network=seen.network,
            layer=seen.layer,
            weights_id=seen.weights_id,
            fit=seen.fit,
            pooling=pooling,
            unit_length=unit_length,
            dimensions=seen.dimensions * (seen.grid.regions if pooling == "flat" else 1),
            grid=seen.grid,
            input_px=seen.input_px,
            scales=scales,
            windows=len(self._windows),
            half=half,
        )

    def extract(self, pictures: Sequence[Picture]) -> Features:
        """Vectors of a batch. Raises what the embedder raises."""
        raw = self._embedder.embed(pictures)
        grid, scaled = self.identity.grid, _unit if self._unit else _as_is
        if self._pooling == "flat" or self._pooled:
            return Features(scaled(raw.reshape(len(raw), -1)), None)
        maps = raw.reshape(len(raw), grid.rows, grid.columns, raw.shape[2])
        vectors = scaled(_pool(maps, self._pooling))
        if not self._windows:
            return Features(vectors, None)
        parts = [scaled(_pool(maps[:, w.top : w.bottom, w.left : w.right], self._pooling)) for w in self._windows]
        return Features(vectors, np.stack(parts, axis=1))


@dataclass(frozen=True)
class Window:
    """A rectangle of a layer's regions; bottom and right are one past its last."""

    top: int
    left: int
    bottom: int
    right: int

    def box(self, grid: Grid) -> Box:
        """Where it lies in what the network was shown."""
        return Box(
            self.left / grid.columns,
            self.top / grid.rows,
            (self.right - self.left) / grid.columns,
            (self.bottom - self.top) / grid.rows,
        )


def windows_of(grid: Grid, scales: int) -> tuple[Window, ...]:
    """Windows in the manner of R-MAC (Tolias et al. 2016, section 3.2), the whole grid first.

    At scale s there are s × s windows, each 2 / (s + 1) of the grid wide and high, spread evenly: neighbours overlap by
    half. (There, the shorter side of the grid decides; the networks' own grids are square.)
    """
    found: dict[Window, None] = {}
    for scale in range(1, scales + 1):
        rows, columns = (max(1, round(2 * side / (scale + 1))) for side in (grid.rows, grid.columns))
        for down in _starts(grid.rows - rows, scale):
            for across in _starts(grid.columns - columns, scale):
                found[Window(down, across, down + rows, across + columns)] = None
    return tuple(found)


def _starts(room: int, count: int) -> list[int]:
    return [0] if count == 1 else [round(room * index / (count - 1)) for index in range(count)]


def _pool(maps: NDArray[np.float32], pooling: str) -> NDArray[np.float32]:
    """(n, rows, columns, dimensions) to (n, dimensions)."""
    if pooling == "mean":
        pooled = maps.mean(axis=(1, 2), dtype=np.float32)
    elif pooling == "max":
        pooled = maps.max(axis=(1, 2))
    else:
        clipped = np.maximum(maps, _GEM_FLOOR)
        pooled = np.cbrt((clipped * clipped * clipped).mean(axis=(1, 2), dtype=np.float32))
    return np.asarray(pooled, np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _as_is(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors
