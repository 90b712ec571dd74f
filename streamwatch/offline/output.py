"""A scan's result as JSON, as CSV and as a table on the terminal. Nothing here opens a file."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamwatch.offline.annotate import place
from streamwatch.offline.result import ScanEvent, ScanResult

CSV_COLUMNS = ("video", "time_s", "novelty", "threshold", "regions", "before", "after")

_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def to_json(result: ScanResult) -> dict[str, Any]:
    """One video as plain dicts, lists, strings and finite numbers; a number that is not finite becomes None.

    Paths are strings as the scan wrote them. The timeline is not part of it: it is the report's.
    """
    return {
        "video": result.video,
        "duration_s": _number(result.duration_s),
        "samples": int(result.samples),
        "every_s": _number(result.every_s),
        "decode": result.decode,
        "network": result.network,
        "layer": result.layer,
        "weights_id": result.weights_id,
        "threshold": _number(result.threshold),
        "events": [_event(event) for event in result.events],
        "warnings": list(result.warnings),
    }


def write_csv(results: Sequence[ScanResult], file: TextIO) -> None:
    """One row an event, under a row of CSV_COLUMNS; open the file with newline="".

    `regions` is how many regions changed. An empty cell is a number that is not finite, or a picture that is not there.
    Text that a spreadsheet would run as a formula (= + - @ tab or line break first) gets a ' before it; numbers do not.
    """
    writer = csv.writer(file)  # lines end as RFC 4180 has it; with "\n" alone a lone carriage return goes out unquoted
    writer.writerow(CSV_COLUMNS)
    for result in results:
        for event in result.events:
            numbers = (_number(value) for value in (event.time_s, event.novelty, event.threshold))
            before = "" if event.before is None else _cell(str(event.before))
            writer.writerow([_cell(result.video), *numbers, len(event.regions), before, _cell(str(event.after))])


def print_table(results: Sequence[ScanResult], console: Console) -> None:
    """For each video a line of facts, its warnings in yellow, and a table of its events or the fact that it has none.

    Names are printed as text: neither rich's markup nor a terminal's control characters in them have any effect.
    """
    for number, result in enumerate(results):
        if number:
            console.print()
        console.print(Text(printable(result.video), style="bold"))
        console.print(Text(_facts(result), style="dim"))
        for warning in result.warnings:
            console.print(Text(f"Warning: {printable(warning)}", style="yellow"))
        if result.events:
            console.print(_table(result))
        else:
            console.print("No events: nothing stayed that the scan had not seen before.")


def clock_time(seconds: float) -> str:
    """Hours, minutes, seconds and tenths: 0:01:09.5. "–" for a time that is not finite."""
    if not math.isfinite(seconds):
        return "–"
    tenths = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and tenths else ""
    return f"{sign}{tenths // 36000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


def short_number(value: float) -> str:
    """Three significant digits, as people read a distance: 0.583, 12.4, 1,240. "–" where it is not finite."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def times_threshold(event: ScanEvent) -> str:
    """How far the event is above its threshold: ×2.1. "–" where that is no number."""
    if not (math.isfinite(event.novelty) and math.isfinite(event.threshold)) or event.threshold <= 0:
        return "–"
    ratio = event.novelty / event.threshold
    return f"×{ratio:.2f}" if ratio < 10 else f"×{ratio:,.0f}"


def where(event: ScanEvent) -> str:
    """The place and number of the changed regions: "left bottom, 6 regions"."""
    count = len(event.regions)
    return f"{place(event.regions)}, {count} region{'' if count == 1 else 's'}" if count else "–"


def decode_words(result: ScanResult) -> str:
    """Which frames the decoder was asked for, in words."""
    return {"keyframes": "key frames only", "all": "all frames"}.get(result.decode, result.decode)


def printable(text: str) -> str:
    """The text with control characters, direction marks and broken bytes of file names shown as escapes."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def count_of(number: int, noun: str) -> str:
    """1 event, 2 events, 1,200 samples."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _facts(result: ScanResult) -> str:
    facts = (
        clock_time(result.duration_s),
        f"{count_of(result.samples, 'sample')}, one every {result.every_s:g} s ({decode_words(result)})",
        f"{result.network} {result.layer}, weights {result.weights_id.removeprefix('sha256:')[:12]}",
        f"threshold {short_number(result.threshold)}",
        count_of(len(result.events), "event"),
    )
    return printable(" · ".join(facts))


def _table(result: ScanResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("time", "novelty", "threshold", "× threshold"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("after picture", overflow="fold")
    for event in result.events:
        cells = (
            clock_time(event.time_s),
            short_number(event.novelty),
            short_number(event.threshold),
            times_threshold(event),
            where(event),
            printable(event.after.name),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _event(event: ScanEvent) -> dict[str, Any]:
    return {
        "time_s": _number(event.time_s),
        "novelty": _number(event.novelty),
        "threshold": _number(event.threshold),
        "regions": [
            {
                "x": _number(region.box.x),
                "y": _number(region.box.y),
                "width": _number(region.box.width),
                "height": _number(region.box.height),
                "distance_sq": _number(region.distance_sq),
            }
            for region in event.regions
        ],
        "before": None if event.before is None else str(event.before),
        "after": str(event.after),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cell(text: str) -> str:
    # A name such as "-3" is a number to a spreadsheet and does no harm; "-3+cmd" is a formula.
    text = text.encode("utf-8", "backslashreplace").decode(
        "utf-8"
    )  # a file name with broken bytes must not end the run
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
