"""An evaluation as one HTML file that needs nothing else: matrix, retrieval figures, heat maps, extreme triplets."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from streamwatch import __version__
from streamwatch.errors import SourceUnusable
from streamwatch.events.files import write_whole
from streamwatch.imaging import load_picture
from streamwatch.offline import pages
from streamwatch.offline.eval_output import Cell, Features, best_cell, notes
from streamwatch.offline.evaluation import Evaluation, Settings
from streamwatch.offline.heatmap import Bounds, heat_map_svg, regions
from streamwatch.offline.output import count_of
from streamwatch.offline.retrieval import CUTS
from streamwatch.offline.triplets import Triplets

_THUMB_PX = 220
_ROLES = ("query", "p+", "p−")


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """What is shown as pictures."""

    cells: int = 3
    """The so many most accurate evaluations get picture sheets."""

    each: int = 6
    """Triplets of each region."""

    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, kw_only=True)
class _Row:
    features: Features
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class _Picture:
    role: str
    name: str
    uri: str
    rank: str


@dataclass(frozen=True, kw_only=True)
class _Triplet:
    row: int
    label: str
    pictures: tuple[_Picture, ...]


@dataclass(frozen=True, kw_only=True)
class _Region:
    name: str
    meaning: str
    count: int
    shown: tuple[_Triplet, ...]


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    cell: Cell
    regions: tuple[_Region, ...]


def write_eval_report(
    path: Path,
    triplets: Triplets,
    cells: Sequence[Cell],
    *,
    settings: Settings,
    sheets: Sheets,
    generated_at: datetime | None = None,
) -> None:
    """Write the report in one step. Raises OutputError where the file cannot be written."""
    done = [cell for cell in cells if cell.evaluation is not None]
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    found = {(cell.features, cell.metric): cell for cell in cells}
    rows = [
        _Row(features=features, cells=tuple(found.get((features, metric)) for metric in metrics))
        for features in dict.fromkeys(cell.features for cell in cells)
    ]
    by_accuracy = sorted(done, key=lambda cell: -_evaluation(cell).accuracy)
    css = pages.style_sheet("eval_report.css")
    queries = len(set(triplets.index[:, 0].tolist()))
    kinds = (
        ""
        if triplets.classes is None
        else f", {count_of(len(set(triplets.classes)), 'class').replace('classs', 'classes')}"
    )
    template = pages.environment().get_template("eval_report.html.j2")
    page = template.render(
        title="Triplet evaluation",
        lead=f"{count_of(len(triplets), 'triplet')} of {count_of(len(triplets.images), 'image')}, "
        f"{queries:,} different queries{kinds}",
        confidence=f"{100 * settings.confidence:g}",
        classes=triplets.classes is not None,
        metrics=metrics,
        matrix=rows,
        best=best_cell(cells),
        notes=notes(triplets, cells),
        top=settings.top,
        cuts=CUTS,
        done=done,
        maps=[(cell, _map(cell, sheets.bounds)) for cell in by_accuracy],
        sheets=list(_sheets(triplets, by_accuracy[: sheets.cells], sheets)),
        generated_at=generated_at,
        source=str(triplets.source),
        css=Markup(css),
        csp=pages.content_security_policy(css),
        version=__version__,
    )
    write_whole(path, page.encode("utf-8", "backslashreplace"))


def _evaluation(cell: Cell) -> Evaluation:
    assert cell.evaluation is not None
    return cell.evaluation


def _map(cell: Cell, bounds: Bounds) -> Markup:
    evaluation = _evaluation(cell)
    return heat_map_svg(evaluation.ranks, evaluation.pool, bounds=bounds, title=cell.name)


def _sheets(triplets: Triplets, cells: Sequence[Cell], sheets: Sheets) -> Iterator[_Sheet]:
    thumbs: dict[int, str] = {}
    for cell in cells:
        evaluation = _evaluation(cell)
        found = []
        for region in regions(evaluation.ranks, evaluation.pool, sheets.bounds):
            shown = tuple(_triplet(triplets, evaluation, number, thumbs) for number in region.triplets[: sheets.each])
            found.append(_Region(name=region.name, meaning=region.meaning, count=len(region.triplets), shown=shown))
        yield _Sheet(cell=cell, regions=tuple(found))


def _triplet(triplets: Triplets, evaluation: Evaluation, number: int, thumbs: dict[int, str]) -> _Triplet:
    pictures = []
    for place, image in enumerate(triplets.index[number].tolist()):
        if image not in thumbs:
            thumbs[image] = _thumb(triplets.images[image])
        rank = f"{evaluation.ranks[number, place - 1]:,.10g}" if place else ""
        pictures.append(_Picture(role=_ROLES[place], name=triplets.names[image], uri=thumbs[image], rank=rank))
    label = "" if triplets.classes is None else triplets.classes[number]
    return _Triplet(row=triplets.rows[number], label=label, pictures=tuple(pictures))


def _thumb(path: Path) -> str:
    try:
        image = Image.fromarray(load_picture(path).rgb())
    except SourceUnusable:
        return ""  # It was there when it was embedded; a gap says more than no report.
    image.thumbnail((_THUMB_PX, _THUMB_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
