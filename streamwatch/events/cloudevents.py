"""An event as a CloudEvents 1.0 document, JSON format."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamwatch.embedding import EmbedderIdentity
from streamwatch.records import CameraEvent, LabelNeeded

LABEL_NEEDED = "streamwatch.label_needed"
"""The event's `type`."""


def label_needed(
    event: LabelNeeded,
    *,
    identity: EmbedderIdentity,
    before: Path | None,
    after: Path,
    decided_at: datetime,
) -> dict[str, Any]:
    """The document of a "new label needed".

    Args:
        event: The decision.
        identity: What the distances were measured with.
        before: The picture of the nearest remembered state; None for a first state.
        after: The picture of the new state.
        decided_at: Wall-clock time of the decision; the event's `time` where the frame has none of its own.

    Source: CloudEvents 1.0.2, sections 3.1 (required attributes) and the JSON format.
    """
    at = event.captured_at or decided_at
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/cameras/{event.camera}",
        "type": LABEL_NEEDED,
        "subject": event.camera,
        "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "camera": event.camera,
            "time_s": round(event.pts_s, 3),
            "time_source": event.time_source if event.captured_at else "stream",
            "novelty": round(event.novelty, 6) if event.novelty == event.novelty else None,
            "threshold": event.threshold,
            "regions": [
                {
                    "x": round(region.box.x, 6),
                    "y": round(region.box.y, 6),
                    "width": round(region.box.width, 6),
                    "height": round(region.box.height, 6),
                    "distance_sq": round(region.distance_sq, 6),
                }
                for region in event.regions
            ],
            "before": str(before) if before else None,
            "after": str(after),
            "network": identity.network,
            "layer": identity.layer,
            "weights_id": identity.weights_id,
        },
    }


def camera_event(event: CameraEvent, *, told_at: datetime) -> dict[str, Any]:
    """The document of a camera event; its type is `streamwatch.` and the kind.

    Args:
        event: What is to be told.
        told_at: Wall-clock time of telling it; the event's `time` where it has none of its own.
    """
    at = event.at or told_at
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/cameras/{event.camera}",
        "type": f"streamwatch.{event.kind}",
        "subject": event.camera,
        "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "camera": event.camera,
            "kind": event.kind,
            "ends": event.ends,
            "time_s": None if event.pts_s is None else round(event.pts_s, 3),
            "lasted_s": None if event.lasted_s is None else round(event.lasted_s, 3),
        },
    }


def to_line(document: dict[str, Any]) -> str:
    """The document as one line, without its line break. Numbers that are not finite are refused.

    Other signs than ASCII are escaped: any terminal takes that, and so it holds paths that are no valid UTF-8.
    """
    return json.dumps(document, allow_nan=False, separators=(",", ":"))
