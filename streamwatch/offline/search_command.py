"""`streamwatch search`: options in; tables, JSON and the contact sheet out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box as boxes
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamwatch.embedding.fitting import seen_box
from streamwatch.errors import StreamwatchError, UsageError
from streamwatch.events.files import make_folder
from streamwatch.offline.contact_sheet import About, Answer, Hit, write_contact_sheet
from streamwatch.offline.features import windows_of
from streamwatch.offline.gallery import Gallery
from streamwatch.offline.gallery_command import extractor_of
from streamwatch.offline.gallery_records import GalleryIdentity, GalleryRow, PixelBox
from streamwatch.offline.indexing import load_query
from streamwatch.offline.output import printable, short_number
from streamwatch.offline.picture_lists import find_images, parse_box
from streamwatch.records import Box

ANN_METRICS = ("sqeuclidean", "euclidean")
_QUERIES_AT_ONCE = 64


def search_gallery(options: argparse.Namespace) -> int:
    """Search a gallery for pictures; one that cannot be read is reported, and the others are still searched for.

    Returns:
        0, or the exit code of the first query that failed.

    Raises:
        StreamwatchError: The options, the network or the gallery cannot be used.
    """
    errors = Console(stderr=True)
    box = parse_box(options.box) if options.box else None
    metric = _metric(options)
    if options.top < 1:
        raise UsageError(f"--top is {options.top}, expected at least 1")
    if options.out:
        make_folder(options.out.parent)
    gallery = Gallery.open(options.gallery)
    if options.regional and not gallery.identity.windows:
        gallery.load(regional=True)  # says what to do
    if not len(gallery):
        raise UsageError(f"{options.gallery} is empty; add pictures with `streamwatch index`")
    queries, failure = _load_queries(options.queries, box, errors, size_px=gallery.identity.input_px)
    if not queries:
        return failure
    extractor = extractor_of(gallery, options.weights, options.device)
    vectors = np.concatenate(
        [
            extractor.extract([picture for _, picture, _ in queries[start : start + _QUERIES_AT_ONCE]]).vectors
            for start in range(0, len(queries), _QUERIES_AT_ONCE)
        ]
    )
    own = max(gallery.rows_of(digest) for _, _, digest in queries) if options.others else 0
    found = _found(gallery, vectors, top=options.top + own, metric=metric, options=options)
    answers = []
    for (path, _, digest), hits in zip(queries, found, strict=True):
        kept = [hit for hit in hits if not (options.others and hit.row.content_hash == digest)][: options.top]
        ranked = tuple(
            Hit(rank=rank, distance=hit.distance, row=hit.row, region=hit.region) for rank, hit in enumerate(kept, 1)
        )
        answers.append(Answer(query=str(path), box=box, hits=ranked, notes=_notes(options, gallery, ranked)))
    about = About(
        gallery=str(options.gallery),
        pictures=len(gallery),
        matching=("regional" if options.regional else "whole frame") + (", approximate" if options.ann else ", exact"),
        metric=metric,
        identity=gallery.identity,
    )
    _print(answers, about, options, errors)
    return failure


def _metric(options: argparse.Namespace) -> str:
    from streamwatch.offline.distances import canonical

    metric = canonical(options.metric)
    if options.ann:
        if options.regional:
            raise UsageError("--ann and --regional do not go together: the approximate index holds whole frames")
        if metric not in ANN_METRICS:
            raise UsageError(f"--ann knows the metrics {' and '.join(ANN_METRICS)}, got {metric!r}; leave --ann out")
    return metric


def _load_queries(
    names: Sequence[Path], box: PixelBox | None, errors: Console, *, size_px: int
) -> tuple[list[tuple[Path, Any, str]], int]:
    queries, failure = [], 0
    for path in names:
        try:
            for each in find_images([path]) if path.is_dir() else [path]:
                picture, digest = load_query(each, box, size_px=size_px)
                queries.append((each, picture, digest))
        except StreamwatchError as error:
            errors.print(f"streamwatch: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            failure = failure or error.exit_code
    return queries, failure


def _found(
    gallery: Gallery, vectors: NDArray[np.float32], *, top: int, metric: str, options: argparse.Namespace
) -> list[list[Hit]]:
    if options.ann:
        if not gallery.ann_rows:
            raise UsageError(
                f"{gallery.path} has no approximate index; build it with `streamwatch index --ann --gallery "
                f"{gallery.path}`, or leave --ann out"
            )
        top = min(top, len(gallery))
        found = []
        for vector in vectors:
            rows, distances = gallery.ann_search(vector, top=top, probes=options.probes, refine=options.refine)
            values = np.sqrt(distances) if metric == "euclidean" else distances
            found.append([_hit(row, float(value)) for row, value in zip(rows, values, strict=True)])
        return found

    from streamwatch.offline.search import ExactSearch

    result = ExactSearch(gallery.load(regional=options.regional)).search(vectors, top=top, metric=metric)
    needed = np.unique(result.positions)
    rows_of = dict(zip(needed.tolist(), gallery.rows(needed.tolist()), strict=True))
    boxes_of = _window_boxes(gallery.identity) if options.regional else None
    return [
        [
            _hit(rows_of[position], distance, boxes_of[window] if boxes_of else None, gallery.identity.fit)
            for distance, position, window in zip(distances.tolist(), positions.tolist(), windows.tolist(), strict=True)
        ]
        for distances, positions, windows in zip(result.distances, result.positions, result.windows, strict=True)
    ]


def _window_boxes(identity: GalleryIdentity) -> list[Box]:
    return [window.box(identity.grid) for window in windows_of(identity.grid, identity.scales)]


def _hit(row: GalleryRow, distance: float, window: Box | None = None, fit: str = "squash") -> Hit:
    return Hit(rank=0, distance=distance, row=row, region=None if window is None else _in_picture(window, row, fit))


def _in_picture(window: Box, row: GalleryRow, fit: str) -> Box:
    """A window of what the network was shown, as a part of the whole picture."""
    part = row.box or PixelBox(0, 0, row.width, row.height)
    seen = seen_box(fit, width=part.width, height=part.height)
    left, right = (min(max(seen.x + seen.width * at, 0.0), 1.0) for at in (window.x, window.x + window.width))
    top, bottom = (min(max(seen.y + seen.height * at, 0.0), 1.0) for at in (window.y, window.y + window.height))
    return Box(
        (part.x + left * part.width) / row.width,
        (part.y + top * part.height) / row.height,
        (right - left) * part.width / row.width,
        (bottom - top) * part.height / row.height,
    )


def _notes(options: argparse.Namespace, gallery: Gallery, hits: Sequence[Hit]) -> tuple[str, ...]:
    notes = []
    if len(hits) < options.top:
        notes.append(f"{options.top} results were asked for; the gallery has {len(gallery)}, all that there are follow")
    undefined = sum(not np.isfinite(hit.distance) for hit in hits)
    if undefined:
        notes.append(f"the distance is not defined for {undefined} results, which come last")
    return tuple(notes)


def _print(answers: Sequence[Answer], about: About, options: argparse.Namespace, errors: Console) -> None:
    if options.out:
        write_contact_sheet(answers, about, options.out, generated_at=datetime.now(UTC))
    console = Console()
    for number, answer in enumerate(answers):
        if options.json:
            print(json.dumps(_answer_json(answer, about), ensure_ascii=True, allow_nan=False), flush=True)
            continue
        if number:
            console.print()
        asked = f" (crop {answer.box})" if answer.box else ""
        console.print(Text(f"{printable(answer.query)}{asked}", style="bold"))
        for note in answer.notes:
            console.print(Text(note, style="yellow"))
        console.print(_table(answer, regional=options.regional))
    if options.out:
        where = errors if options.json else console
        where.print(f"contact sheet: {options.out}", markup=False, highlight=False, soft_wrap=True)


def _table(answer: Answer, *, regional: bool) -> Table:
    table = Table(box=boxes.SIMPLE_HEAD, pad_edge=False)
    for heading in ("rank", "distance"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("picture", overflow="fold")
    crops = any(hit.row.box for hit in answer.hits)
    if crops:
        table.add_column("crop")
    if regional:
        table.add_column("region (% of width, height)")
    for hit in answer.hits:
        cells = [str(hit.rank), short_number(hit.distance), printable(hit.row.path)]
        if crops:
            cells.append(str(hit.row.box or ""))
        if regional and hit.region:
            across, down = (hit.region.x, hit.region.width), (hit.region.y, hit.region.height)
            cells.append(", ".join(f"{100 * a:.0f}–{100 * (a + length):.0f}" for a, length in (across, down)))
        table.add_row(*map(Text, cells))
    return table


def _answer_json(answer: Answer, about: About) -> dict[str, Any]:
    return {
        "query": answer.query,
        "box": None if answer.box is None else vars(answer.box),
        "gallery": about.gallery,
        "pictures": about.pictures,
        "metric": about.metric,
        "matching": about.matching,
        "notes": list(answer.notes),
        "results": [
            {
                "rank": hit.rank,
                "distance": hit.distance if np.isfinite(hit.distance) else None,
                "path": hit.row.path,
                "id": hit.row.id,
                "content_hash": hit.row.content_hash,
                "box": None if hit.row.box is None else vars(hit.row.box),
                "region": None if hit.region is None else vars(hit.region),
            }
            for hit in answer.hits
        ],
    }
