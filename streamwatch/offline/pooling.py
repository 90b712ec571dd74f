"""Which poolings an evaluation knows, and how the network's regions give several of them in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.networks import nearest
from streamwatch.errors import UsageError
from streamwatch.records import Grid

POOLINGS = ("mean", "max", "gem", "rmac", "flat")
"""Those of `embedding.pooling`, and `flat`: the layer's regions one after the other."""

OF_PLACES = frozenset({"max", "gem", "rmac"})
"""Poolings that need the layer's own places: a mean over 2×2 of them first would change the value."""


def check_pooling(name: str) -> str:
    """The name itself.

    Raises:
        UsageError: It is not one of POOLINGS.
    """
    if name not in POOLINGS:
        raise UsageError(f"there is no pooling {name!r}{nearest(name, POOLINGS)}; known are {', '.join(POOLINGS)}")
    return name


def pooled_dimensions(name: str, grid: Grid, dimensions: int) -> int:
    """How many numbers a pooled vector has."""
    return dimensions * grid.regions if name == "flat" else dimensions


def pool_regions(regions: NDArray[np.float32], grid: Grid, name: str) -> NDArray[np.float32]:
    """Raw region vectors (n, regions, dimensions) as (n, dimensions), or (n, regions · dimensions) for `flat`."""
    if name == "flat" or grid.regions == 1:
        return np.ascontiguousarray(regions.reshape(len(regions), -1))
    import torch

    from streamwatch.embedding.pooling import pool

    maps = torch.from_numpy(regions).view(len(regions), grid.rows, grid.columns, -1).permute(0, 3, 1, 2)
    return np.ascontiguousarray(pool(maps, name)[:, 0].numpy())


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each vector at length 1; one of zeros stays."""
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.where(lengths == 0, 1.0, lengths), np.float32)
