"""A scan's result as JSON, CSV and table."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from streamwatch.offline.output import CSV_COLUMNS, clock_time, print_table, short_number, to_json, write_csv
from streamwatch.offline.result import ScanEvent, ScanResult, TimelinePoint
from streamwatch.records import ChangedRegion, Grid

GRID = Grid(14, 14)


def event(
    *,
    time_s: float = 9.04,
    novelty: float = 0.95,
    threshold: float = 0.5,
    before: Path | None = Path("pictures/1-before.jpg"),
    after: Path = Path("pictures/1-after.jpg"),
) -> ScanEvent:
    regions = tuple(ChangedRegion(box=GRID.box(12 * 14 + column), distance_sq=0.9) for column in range(3))
    return ScanEvent(time_s=time_s, novelty=novelty, threshold=threshold, regions=regions, before=before, after=after)


def result(
    *, video: str = "yard.mp4", events: tuple[ScanEvent, ...] = (), warnings: tuple[str, ...] = ()
) -> ScanResult:
    return ScanResult(
        video=video,
        duration_s=39.85,
        samples=133,
        every_s=0.3,
        network="efficientnet_lite0",
        layer="blocks.4.2",
        weights_id="sha256:3f2c9a7d51b8e640",
        threshold=0.5,
        decode="all",
        timeline=(TimelinePoint(pts_s=0.0, novelty=math.inf), TimelinePoint(pts_s=0.3, novelty=0.1)),
        events=events,
        warnings=warnings,
    )


def table(*results: ScanResult, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(results, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_json_has_exactly_the_keys_that_are_promised() -> None:
    # Given a video with one event
    # When it becomes JSON
    document = to_json(result(events=(event(),), warnings=("The file is cut off.",)))
    # Then keys and values are these and no others
    region = {"x": 0.0, "y": 12 / 14, "width": 1 / 14, "height": 1 / 14, "distance_sq": 0.9}
    assert document == {
        "video": "yard.mp4",
        "duration_s": 39.85,
        "samples": 133,
        "every_s": 0.3,
        "decode": "all",
        "network": "efficientnet_lite0",
        "layer": "blocks.4.2",
        "weights_id": "sha256:3f2c9a7d51b8e640",
        "threshold": 0.5,
        "events": [
            {
                "time_s": 9.04,
                "novelty": 0.95,
                "threshold": 0.5,
                "regions": [region, {**region, "x": 1 / 14}, {**region, "x": 2 / 14}],
                "before": "pictures/1-before.jpg",
                "after": "pictures/1-after.jpg",
            }
        ],
        "warnings": ["The file is cut off."],
    }


def test_json_never_holds_a_number_that_is_not_finite() -> None:
    # Given a first state that was announced: no before, no distance
    endless = event(novelty=math.inf, threshold=math.nan, before=None)
    # When it becomes text under the strict rule
    document = json.loads(json.dumps(to_json(result(events=(endless,))), allow_nan=False))
    # Then null stands for them
    assert document["events"][0]["novelty"] is None
    assert document["events"][0]["threshold"] is None
    assert document["events"][0]["before"] is None


def test_csv_comes_back_as_it_was_written() -> None:
    # Given two videos, one of them with a comma, a quote and a line break in its name
    awkward = 'north, "gate"\n2.mp4'
    first = result(video=awkward, events=(event(), event(time_s=12.5, novelty=math.inf, before=None)))
    # When they are written and read again
    file = io.StringIO(newline="")
    write_csv([first, result(video="quiet.mp4")], file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    # Then each event is a row, and what is not finite or not there is empty
    assert [tuple(row) for row in rows] == [CSV_COLUMNS, CSV_COLUMNS]
    assert [row["video"] for row in rows] == [awkward, awkward]
    assert [float(row["time_s"]) for row in rows] == [9.04, 12.5]
    assert [(row["novelty"], row["threshold"], row["regions"]) for row in rows] == [
        ("0.95", "0.5", "3"),
        ("", "0.5", "3"),
    ]
    assert [row["before"] for row in rows] == ["pictures/1-before.jpg", ""]
    assert [row["after"] for row in rows] == ["pictures/1-after.jpg"] * 2


@pytest.mark.parametrize("name", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_csv_cells_that_a_spreadsheet_would_run_are_made_text(name: str) -> None:
    # Given a video and a picture whose names begin like a formula
    file = io.StringIO(newline="")
    # When they are written
    write_csv([result(video=name, events=(event(after=Path(name)),))], file)
    # Then a quotation mark stands before them
    (row,) = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    assert row["video"] == f"'{name}"
    assert row["after"] == f"'{name}"


@pytest.mark.parametrize("name", ["-3", "-0.25", "+4", "-1e-3"])
def test_csv_cells_that_are_plain_signed_numbers_stay(name: str) -> None:
    # Given a name that is a number, and a negative time
    file = io.StringIO(newline="")
    # When they are written, then neither is touched
    write_csv([result(video=name, events=(event(time_s=-0.5),))], file)
    (row,) = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    assert (row["video"], row["time_s"]) == (name, "-0.5")


def test_csv_takes_file_names_with_broken_bytes() -> None:
    # Given a file name that is no UTF-8, as Python hands it over
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    # When it is written to a UTF-8 file
    write_csv([result(video="caf\udce9.mp4", events=(event(),))], file)
    file.flush()
    # Then the broken byte is shown, and nothing fails
    assert rb"caf\udce9.mp4" in raw.getvalue()


def test_the_table_names_time_novelty_place_and_picture_of_each_event() -> None:
    # Given two events
    text = table(result(events=(event(), event(time_s=3725.96, novelty=20.0, after=Path("pictures/2-after.jpg")))))
    # When they are printed, then each line holds what a reader looks for
    first, second = (line.split() for line in text.splitlines() if "after.jpg" in line)
    assert first == ["0:00:09.0", "0.950", "0.500", "×1.90", "left", "bottom,", "3", "regions", "1-after.jpg"]
    assert second[:4] == ["1:02:06.0", "20.0", "0.500", "×40"]


def test_the_line_of_facts_names_length_samples_network_and_threshold() -> None:
    facts = table(result(), width=200).splitlines()[1]
    assert facts.startswith("0:00:39.")
    for fact in (
        "133 samples, one every 0.3 s (all frames)",
        "efficientnet_lite0 blocks.4.2",
        "3f2c9a7d51b8",
        "0 events",
    ):
        assert fact in facts


def test_a_video_without_events_says_so() -> None:
    assert "No events" in table(result())
    assert "No events" not in table(result(events=(event(),)))


def test_warnings_are_shown_in_yellow() -> None:
    # Given a terminal with colours
    console = Console(file=io.StringIO(), width=100, color_system="standard", force_terminal=True)
    # When a result with a warning is printed
    print_table([result(warnings=("The file is cut off.",))], console)
    # Then the line is yellow (SGR 33)
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "\x1b[33mWarning: The file is cut off." in file.getvalue()


def test_names_are_printed_as_they_are_and_control_no_terminal() -> None:
    # Given a name with rich's markup and one that would clear the screen
    text = table(result(video="[bold]x[/bold].mp4", warnings=("\x1b[2Jgone",)), result(video="a\u202egpj.mp4"))
    # When they are printed, then both are plain text
    assert "[bold]x[/bold].mp4" in text
    assert "\x1b" not in text
    assert r"\x1b[2Jgone" in text
    assert r"a\u202egpj.mp4" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00.0"),
        (59.96, "0:01:00.0"),
        (3599.99, "1:00:00.0"),
        (86400, "24:00:00.0"),
        (-0.01, "0:00:00.0"),
        (-1.5, "-0:00:01.5"),
        (math.nan, "–"),
    ],
)
def test_times_round_to_tenths_without_sixty_seconds(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5833, "0.583"),
        (0.05, "0.0500"),
        (12.44, "12.4"),
        (1240.4, "1,240"),
        (0.0, "0"),
        (4.2e-7, "4.20e-07"),
        (2.5e9, "2.50e+09"),
        (math.inf, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert short_number(value) == text
