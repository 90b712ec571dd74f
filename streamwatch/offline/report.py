"""A scan's result as one HTML file that needs nothing else: no network, no script, no font, no file beside it."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from streamwatch import __version__
from streamwatch.errors import OutputError
from streamwatch.offline import output, pages
from streamwatch.offline.annotate import draw_regions
from streamwatch.offline.result import ScanEvent, ScanResult
from streamwatch.offline.timeline import COLUMNS, Tick, choose_scale, line_path, time_ticks

Truth = tuple[float, float, str]
"""Start and end in seconds of the video, and what was to be seen."""

_JPEG_QUALITY = 85
_WIDTHS_PX = ((40, 960), (150, 640))  # up to so many events: so wide. A page of 500 MB helps nobody
_WIDTH_BEYOND_PX = 400
_NUMBER_GAP = 0.022  # closer markers on the timeline than this share of its width get no number of their own
_LABEL_WIDTH = 0.0068  # of one letter, as a share of the timeline on a wide screen


@dataclass(frozen=True, kw_only=True)
class _Picture:
    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    """An event's pictures; None for one that is not there or cannot be read."""

    before: _Picture | None
    after: _Picture | None
    drawn: _Picture | None


@dataclass(frozen=True, kw_only=True)
class _Marker:
    at: float
    height: float
    numbered: bool


@dataclass(frozen=True, kw_only=True)
class _Band:
    start: float
    length: float
    label: str
    fits: bool
    """Whether the label has room before the next band begins."""


@dataclass(frozen=True, kw_only=True)
class _Timeline:
    """What the template draws, in fractions of the drawing."""

    columns: int
    path: str
    log: bool
    threshold: float | None
    ticks: tuple[Tick, ...]
    levels: tuple[Tick, ...]
    markers: tuple[_Marker, ...]
    truth: tuple[_Band, ...]
    judged_from_s: float | None
    """None when no sample was judged."""


@dataclass(frozen=True, kw_only=True)
class _Video:
    """One section of the page: `folder` and `name` are the two parts of what the user called the video."""

    result: ScanResult
    folder: str
    name: str
    peak: float
    timeline: _Timeline | None


def write_report(
    results: Sequence[ScanResult],
    path: Path,
    *,
    title: str = "Scan report",
    generated_at: datetime | None = None,
    truth: Mapping[str, Sequence[Truth]] | None = None,
) -> None:
    """Write the report, replacing a file of that name in one step: a reader sees the old page or the new one.

    `generated_at` stands at the page's foot, where it is given. `truth` maps a video, as the result names it, to what
    was really to be seen and when; it is shaded on the timeline. An event's picture that cannot be read is said to be
    so on its card. Raises OutputError where the file cannot be written; nothing is left behind then.
    """
    path = Path(path)
    events = sum(len(result.events) for result in results)
    width_px = next((width for most, width in _WIDTHS_PX if events <= most), _WIDTH_BEYOND_PX)
    css = pages.style_sheet("scan_report.css")
    pieces = _template().generate(
        title=output.printable(title),
        generated_at=generated_at,
        videos=[_video(result, (truth or {}).get(result.video, ())) for result in results],
        events=events,
        total_s=math.fsum(result.duration_s for result in results if math.isfinite(result.duration_s)),
        css=Markup(css),
        csp=pages.content_security_policy(css),
        pictures=partial(_pictures, width_px=width_px),
        version=__version__,
    )
    try:
        _write_atomically(path, pieces)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"The report {path} cannot be written: {reason}. "
            "Name a file in a folder that exists, that you may write to, and that has room."
        ) from error


def _template() -> jinja2.Template:
    environment = pages.environment()
    environment.filters.update(
        clock=output.clock_time,
        short=output.short_number,
        times=output.times_threshold,
        where=output.where,
        percent=_percent,
    )
    environment.globals["decode_words"] = output.decode_words
    return environment.get_template("scan_report.html.j2")


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.5g}%"


def _video(result: ScanResult, truth: Sequence[Truth]) -> _Video:
    folder, slash, name = output.printable(result.video).rpartition("/")
    peak = max((point.novelty for point in result.timeline if math.isfinite(point.novelty)), default=math.nan)
    timeline = _timeline(result, truth)
    return _Video(result=result, folder=folder + slash, name=name, peak=peak, timeline=timeline)


def _timeline(result: ScanResult, truth: Sequence[Truth]) -> _Timeline | None:
    """None where there is no time to draw along: no sample, or a video of one moment."""
    points = result.timeline
    times = (result.duration_s, *(point.pts_s for point in points), *(event.time_s for event in result.events))
    span_s = max((time for time in times if math.isfinite(time)), default=0.0)
    if span_s <= 0 or not points:
        return None
    values = [point.novelty for point in points] + [event.novelty for event in result.events]
    scale = choose_scale(values, threshold=result.threshold)
    return _Timeline(
        columns=COLUMNS,
        path=line_path(points, scale=scale, span_s=span_s),
        log=scale.log,
        threshold=scale.y(result.threshold) if math.isfinite(result.threshold) else None,
        ticks=time_ticks(span_s),
        levels=scale.ticks(),
        markers=tuple(_markers(result.events, span_s, scale.y)),
        truth=tuple(_bands(truth, span_s)),
        judged_from_s=next((point.pts_s for point in points if math.isfinite(point.novelty)), None),
    )


def _markers(events: Iterable[ScanEvent], span_s: float, y: Any) -> Iterator[_Marker]:
    last = -1.0
    for event in events:
        at = min(max(event.time_s / span_s, 0.0), 1.0) if math.isfinite(event.time_s) else 0.0
        numbered = abs(at - last) >= _NUMBER_GAP
        last = at if numbered else last
        yield _Marker(at=at, height=y(event.novelty) if math.isfinite(event.novelty) else 0.0, numbered=numbered)


def _bands(truth: Iterable[Truth], span_s: float) -> Iterator[_Band]:
    clipped = ((min(max(a / span_s, 0.0), 1.0), min(max(b / span_s, 0.0), 1.0), label) for a, b, label in sorted(truth))
    spans = [(start, end, label) for start, end, label in clipped if end > start]
    nexts = [*(start for start, _, _ in spans[1:]), 1.0][: len(spans)]
    for (start, end, label), following in zip(spans, nexts, strict=True):
        room = following - start
        yield _Band(
            start=start,
            length=end - start,
            label=output.printable(label),
            fits=len(label) * _LABEL_WIDTH + 0.01 <= room,
        )


def _pictures(event: ScanEvent, *, width_px: int) -> _Pictures:
    before = None if event.before is None else _load(event.before, width_px=width_px)
    after = _load(event.after, width_px=width_px)
    # Drawn after scaling, so that the outline is as wide on the page whatever the camera's resolution.
    drawn = draw_regions(np.asarray(after), event.regions) if after is not None and event.regions else None
    return _Pictures(
        before=None if before is None else _embed(before),
        after=None if after is None else _embed(after),
        drawn=None if drawn is None else _embed(Image.fromarray(drawn)),
    )


def _load(path: Path, *, width_px: int) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            image.thumbnail((width_px, 8 * width_px))
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # a report with a gap says more than no report


def _embed(image: Image.Image) -> _Picture:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return _Picture(uri=uri, width=image.width, height=image.height)


def _write_atomically(path: Path, pieces: Iterable[str]) -> None:
    # Not tempfile: its files are readable by their owner only, and a report is there to be passed on.
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
