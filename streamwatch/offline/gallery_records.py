"""What a gallery says of itself and of its pictures. Light: no pylance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from streamwatch.errors import WeightsMismatch
from streamwatch.records import Grid


@dataclass(frozen=True)
class PixelBox:
    """A rectangle in pixels of the upright picture, from its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise ValueError(f"the box {self} is none: x and y are at least 0, width and height at least 1")

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"


@dataclass(frozen=True, kw_only=True)
class GalleryIdentity:
    """What two galleries, or a gallery and a query, must share to be compared; and how a gallery stores it."""

    network: str
    layer: str
    weights_id: str
    fit: str
    pooling: str
    unit_length: bool
    dimensions: int
    grid: Grid
    """The layer's regions, which pooling made one vector of."""

    input_px: int = 224
    """Width and height of the network's input."""

    scales: int = 0
    """Regional vectors: windows of so many scales, 0 for none."""

    windows: int = 0
    """Regional vectors a picture."""

    half: bool = False
    """True if vectors are stored as float16; regional ones always are."""

    def describe(self) -> str:
        """One line for messages."""
        length = "unit length" if self.unit_length else "raw"
        return (
            f"{self.network} {self.layer}, {self.pooling}, {length}, {self.fit}, {self.dimensions} numbers, "
            f"weights {self.weights_id}"
        )

    def check_comparable(self, other: GalleryIdentity, *, mine: str, others: str) -> None:
        """Refuse to compare vectors that mean different things.

        Raises:
            WeightsMismatch: Anything but the storage differs; the message names both.
        """
        storage = {"scales", "windows", "half"}
        if any(getattr(self, f.name) != getattr(other, f.name) for f in fields(self) if f.name not in storage):
            raise WeightsMismatch(
                f"{mine} was made with {self.describe()}; {others} with {other.describe()}. Distances between them "
                "mean nothing: use the same network, layer and weights, or index the pictures again"
            )


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """What a gallery knows of one picture, or one crop of it."""

    content_hash: str
    """SHA-256 of the file's bytes, 64 hex digits."""

    path: str
    """Absolute, as it was when the picture was indexed."""

    width: int
    height: int
    """Of the whole upright picture, in pixels."""

    box: PixelBox | None = None
    """The crop that the vectors are of; None for the whole picture."""

    @property
    def id(self) -> str:
        """The same for the same bytes and box, wherever the file lies."""
        return row_id(self.content_hash, self.box)


def row_id(content_hash: str, box: PixelBox | None) -> str:
    """A row's name: 32 hex digits."""
    return hashlib.sha256(f"{content_hash}:{box or ''}".encode()).hexdigest()[:32]
