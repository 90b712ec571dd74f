"""What a scan found: the records between the scan and its table, JSON, CSV and HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamwatch.records import ChangedRegion


@dataclass(frozen=True, kw_only=True)
class TimelinePoint:
    """One judged sample."""

    pts_s: float
    """Seconds in the video's own time."""

    novelty: float
    """Persisted squared distance of the most novel region; not finite while too few samples were seen."""


@dataclass(frozen=True, kw_only=True)
class ScanEvent:
    """One "new label needed" in a video."""

    time_s: float
    novelty: float
    threshold: float
    regions: tuple[ChangedRegion, ...]
    """Most changed first."""

    before: Path | None
    """JPEG of the nearest remembered state; None where there is none (a first state that was announced)."""

    after: Path
    """JPEG of the new state, at the time of the event."""


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """One scanned video."""

    video: str
    """As the user named it."""

    duration_s: float
    """Time of the last frame read, plus that frame's own length where the file tells it."""

    samples: int
    every_s: float
    network: str
    layer: str
    weights_id: str
    threshold: float
    decode: str
    """`keyframes` or `all`: what the decoder was asked for."""

    timeline: tuple[TimelinePoint, ...]
    events: tuple[ScanEvent, ...]
    warnings: tuple[str, ...]
    """Facts that the reader of the report must know: the file is cut off, …"""

    interrupted: bool = False
    """Someone stopped the scan before the video's end."""
