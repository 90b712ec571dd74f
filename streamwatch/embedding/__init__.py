"""Frames in, vectors out. `load_embedder` picks the implementation; only modules in this folder import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamwatch.records import Grid, Picture


@dataclass(frozen=True, kw_only=True)
class EmbedderIdentity:
    """What must be equal for two vectors to be comparable."""

    network: str
    layer: str
    weights_id: str
    """Names the numbers: `sha256:` and the first 16 hex digits of the weights file's hash."""

    fit: str
    """`squash`, `crop` or `letterbox`: how a picture is brought to the network's input shape."""

    unit_length: bool
    """True if each region's vector is scaled to length 1."""

    grid: Grid
    dimensions: int


class Embedder(Protocol):
    """Turns pictures into region vectors. One thread at a time may call it."""

    @property
    def identity(self) -> EmbedderIdentity:
        """Constant for the embedder's life."""
        ...

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Region vectors of a batch, shape (len(pictures), regions, dimensions), float32, C-contiguous.

        A picture's vectors do not depend on what else is in the batch beyond float rounding.
        """
        ...
