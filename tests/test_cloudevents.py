"""Events as CloudEvents 1.0 documents."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamwatch.events.cloudevents import camera_event, label_needed, to_line
from streamwatch.records import Box, CameraEvent, ChangedRegion, LabelNeeded
from tests.builders import IDENTITY

DECIDED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def event(**changes: Any) -> LabelNeeded:
    values: dict[str, Any] = {
        "id": "s2",
        "camera": "yard",
        "pts_s": 12.3456,
        "captured_at": None,
        "novelty": 1.23456789,
        "threshold": 0.6,
        "regions": (ChangedRegion(box=Box(1 / 14, 2 / 14, 1 / 14, 1 / 14), distance_sq=1.3),),
        "before_state": "s1",
        "after_state": "s2",
    }
    return LabelNeeded(**{**values, **changes})


def document(of: LabelNeeded, *, before: Path | None = Path("p/s1.jpg")) -> dict[str, Any]:
    return label_needed(of, identity=IDENTITY, before=before, after=Path("p/s2.jpg"), decided_at=DECIDED)


def test_a_document_has_what_cloudevents_requires_and_names_with_its_own_letters() -> None:
    made = document(event())
    # Required attributes are strings that are not empty
    for attribute in ("specversion", "id", "source", "type"):
        assert isinstance(made[attribute], str)
        assert made[attribute]
    assert made["specversion"] == "1.0"
    # Names of attributes are lower-case letters and digits
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", attribute) for attribute in made)
    assert made["datacontenttype"] == "application/json"
    assert made["source"] == "/cameras/yard"


def test_a_document_tells_what_changed_and_what_the_numbers_were_made_with() -> None:
    data = document(event())["data"]
    assert data["camera"] == "yard"
    assert data["time_s"] == 12.346
    assert (data["novelty"], data["threshold"]) == (1.234568, 0.6)
    assert data["regions"] == [
        {"x": 0.071429, "y": 0.142857, "width": 0.071429, "height": 0.071429, "distance_sq": 1.3}
    ]
    assert (data["before"], data["after"]) == ("p/s1.jpg", "p/s2.jpg")
    assert (data["network"], data["layer"]) == ("lite0", "blocks.4.2")
    assert data["weights_id"] == IDENTITY.weights_id


@pytest.mark.parametrize(
    ("captured_at", "time", "source"),
    [
        (None, "2026-03-01T12:00:00.250000Z", "stream"),
        (datetime(2026, 3, 1, 11, 59, tzinfo=UTC), "2026-03-01T11:59:00Z", "arrival"),
        (datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=14))), "2026-03-01T09:30:00Z", "arrival"),
    ],
)
def test_the_time_is_the_frames_own_in_utc_and_the_decisions_where_it_has_none(
    captured_at: datetime | None, time: str, source: str
) -> None:
    made = document(event(captured_at=captured_at))
    assert made["time"] == time
    assert made["data"]["time_source"] == source


@pytest.mark.parametrize("kind", ["exif", "file"])
def test_the_time_of_a_picture_from_a_folder_is_no_arrival(kind: str) -> None:
    made = document(event(captured_at=datetime(2026, 3, 1, 11, 59, tzinfo=UTC), time_source=kind))
    assert made["data"]["time_source"] == kind


def test_a_first_state_has_no_novelty_no_regions_and_no_picture_before() -> None:
    made = document(event(novelty=float("nan"), regions=(), before_state=None), before=None)
    data = json.loads(to_line(made))["data"]
    assert data["novelty"] is None
    assert data["regions"] == []
    assert data["before"] is None


def test_a_line_is_one_line_of_ascii_that_reads_back_the_same() -> None:
    # Given a picture in a folder with a line break, letters of other scripts, and bytes that are no UTF-8
    made = document(event())
    made["data"]["after"] = "Höfe\n場/\udcff.jpg"
    # When it becomes a line
    line = to_line(made)
    # Then it is one, any terminal can show it, and nothing is lost
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == made


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_line(document(event(threshold=float("inf"))))


def test_distances_as_numpy_measures_them_become_plain_numbers() -> None:
    region = ChangedRegion(box=Box(0, 0, 1, 1), distance_sq=float(np.float32(0.7)))
    assert '"distance_sq":0.7' in to_line(document(event(regions=(region,))))


def test_a_camera_event_says_what_it_is_when_it_began_and_what_it_ends() -> None:
    # Given a camera that was offline for 90 s
    back = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    event = CameraEvent(id="e2", camera="gate", kind="camera_online", at=back, ends="e1", lasted_s=90.0)
    # When it is written
    document = camera_event(event, told_at=back + timedelta(seconds=50))
    # Then it is a CloudEvent of its own type, with the time when it came back rather than when that was told
    assert document["specversion"] == "1.0"
    assert (document["id"], document["subject"]) == ("e2", "gate")
    assert document["type"] == "streamwatch.camera_online"
    assert document["time"] == "2026-03-01T12:00:00Z"
    assert document["data"] == {
        "camera": "gate",
        "kind": "camera_online",
        "ends": "e1",
        "time_s": None,
        "lasted_s": 90.0,
    }
