"""What passes between the stages: pictures, frames, embeddings, decisions. NumPy only; all frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

TimeSource = Literal["arrival", "camera", "exif", "file"]
"""What a picture's wall-clock time is: when it arrived here, when its camera says it sent it (RTCP, Last-Modified),
when its camera says it was taken, when its file was written."""

RGB = NDArray[np.uint8]
"""A picture: shape (height, width, 3), uint8, red first."""


class Picture(Protocol):
    """One decoded picture, converted only when somebody asks and only to the size asked for."""

    @property
    def width(self) -> int:
        """Pixels, at least 1."""
        ...

    @property
    def height(self) -> int:
        """Pixels, at least 1."""
        ...

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        """The picture as RGB, shape (height, width, 3), area-averaged to the size given; both or neither are given.

        Any thread may call it, any number of times; each call returns an array of its own.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of one camera or file."""

    pts_s: float
    """Seconds since the source's first frame: of a file by its own time stamps, of a live stream by their arrival on
    the monotonic clock."""

    captured_at: datetime | None
    """Wall-clock time in UTC, where the source has one; None for files."""

    picture: Picture

    time_source: TimeSource = "arrival"
    """What `captured_at` is, where there is one."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.pts_s):
            raise ValueError(f"pts_s is {self.pts_s}, expected a finite number of seconds")
        if self.captured_at is not None and self.captured_at.tzinfo is None:
            raise ValueError(f"captured_at is {self.captured_at}, expected a time with its zone")


@dataclass(frozen=True)
class Grid:
    """How an embedding's regions lie over the frame: rows × columns of equal boxes, row by row."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a grid of {self.rows}×{self.columns} has no regions")

    @property
    def regions(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns

    def box(self, region: int) -> Box:
        """Where a region lies."""
        row, column = divmod(region, self.columns)
        return Box(column / self.columns, row / self.rows, 1 / self.columns, 1 / self.rows)


@dataclass(frozen=True)
class Box:
    """A rectangle in fractions of the picture, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A frame as the network sees it: one vector for each region."""

    vectors: NDArray[np.float32]
    """Shape (regions, dimensions)."""

    grid: Grid

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[0] != self.grid.regions:
            raise ValueError(f"vectors have shape {self.vectors.shape}, expected ({self.grid.regions}, dimensions)")


@dataclass(frozen=True, kw_only=True)
class ChangedRegion:
    """A part of the frame that is unlike every remembered state."""

    box: Box
    distance_sq: float
    """Squared Euclidean distance to the nearest remembered state, as it persisted."""


@dataclass(frozen=True, kw_only=True)
class LabelNeeded:
    """The decision that a frame shows a state that nobody has labelled yet."""

    id: str
    camera: str
    pts_s: float
    captured_at: datetime | None
    novelty: float
    threshold: float
    regions: tuple[ChangedRegion, ...]
    """Most changed first."""

    before_state: str | None
    """Id of the nearest remembered state; None for a first state."""

    after_state: str
    """Id of the state that this event's frame has become."""

    time_source: TimeSource = "arrival"
    """What `captured_at` is, where there is one."""


CameraEventKind = Literal[
    "camera_offline", "camera_online", "view_black", "view_frozen", "view_blurred", "view_washed_out", "view_moved"
]


@dataclass(frozen=True, kw_only=True)
class CameraEvent:
    """Something about a camera itself rather than about what it shows: people hear of it, nobody labels it."""

    id: str
    camera: str
    kind: CameraEventKind
    at: datetime | None
    """When it began, or ended, by the wall clock; None for files."""

    ends: str | None = None
    """Of an end: the id of the event that told the beginning."""

    pts_s: float | None = None
    """The same on the stream's own time, where it was seen in a frame."""

    lasted_s: float | None = None
    """How long it has lasted so far, by the monotonic clock or the stream's time."""

    def __post_init__(self) -> None:
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError(f"at is {self.at}, expected a time with its zone")
