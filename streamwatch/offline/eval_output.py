"""An evaluation's figures as a matrix on the terminal, as CSV and as JSON. Nothing here opens a file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamwatch.offline.comparing import Comparison
from streamwatch.offline.evaluation import Evaluation
from streamwatch.offline.output import count_of, printable
from streamwatch.offline.retrieval import CUTS
from streamwatch.offline.triplets import Triplets

_WIDEST = "100.0 (100.0–100.0)"

CSV_COLUMNS = (
    *("network", "layer", "pooling", "unit_length", "dimensions", "weights_id", "metric", "triplets", "accuracy"),
    *("low", "high", "ties", "undefined", "median_rank_positive", "median_rank_negative", "pool"),
    *("top", "score_at_top", "mean_average_precision", "r_precision"),
    *(f"recall@{cut}" for cut in CUTS),
    *(f"cmc@{cut}" for cut in CUTS),
)


@dataclass(frozen=True, kw_only=True)
class Features:
    """Where vectors came from."""

    network: str
    layer: str
    pooling: str
    weights_id: str
    unit_length: bool
    dimensions: int

    @property
    def name(self) -> str:
        """network/layer/pooling, `:raw` behind it where lengths were left as they were."""
        return f"{self.network}/{self.layer}/{self.pooling}{'' if self.unit_length else ':raw'}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One field of the matrix."""

    features: Features
    metric: str
    evaluation: Evaluation | None
    error: str = ""
    """Why there is no evaluation."""

    @property
    def name(self) -> str:
        """network/layer/pooling/metric"""
        return f"{self.features.name}/{self.metric}"


def to_json(triplets: Triplets, cells: Sequence[Cell]) -> dict[str, Any]:
    """`results` with one object a cell; what could not be computed is under `failed`, left-out rows under `skipped`."""
    return {
        "results": [_result(cell, cell.evaluation) for cell in cells if cell.evaluation is not None],
        "failed": [_names(cell) | {"error": cell.error} for cell in cells if cell.evaluation is None],
        "skipped": [{"row": each.row, "reason": each.reason} for each in triplets.skipped],
        "images": len(triplets.images),
    }


def write_csv(cells: Sequence[Cell], file: TextIO) -> None:
    """One row a cell under CSV_COLUMNS; open the file with newline=""."""
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for cell in cells:
        if cell.evaluation is None:
            continue
        result = _result(cell, cell.evaluation)
        restricted, retrieval = result["class_restricted"] or {}, result["retrieval"] or {}
        flat = {
            **result,
            **retrieval,
            "top": restricted.get("top"),
            "score_at_top": restricted.get("score"),
            **{f"recall@{cut}": (retrieval.get("recall") or {}).get(str(cut)) for cut in CUTS},
            **{f"cmc@{cut}": (retrieval.get("cmc") or {}).get(str(cut)) for cut in CUTS},
        }
        writer.writerow(["" if (value := flat.get(column)) is None else value for column in CSV_COLUMNS])


def print_matrix(triplets: Triplets, cells: Sequence[Cell], console: Console) -> None:
    """Features down, metrics across, accuracy and its interval in per cent; then what is to be known about it."""
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    rows = list(dict.fromkeys(cell.features for cell in cells))
    found = {(cell.features, cell.metric): cell.evaluation for cell in cells}
    best = best_cell(cells)
    console.print(f"{len(triplets):,} triplets; ordered right, %:", highlight=False)
    # As many metrics beside each other as the terminal is wide.
    room = console.width - max((len(row.name) for row in rows), default=0)
    across = max(1, room // (max(len(metric) for metric in (*metrics, _WIDEST)) + 2))
    for start in range(0, len(metrics), across):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("network/layer/pooling", overflow="fold")
        for metric in metrics[start : start + across]:
            table.add_column(metric, justify="right", no_wrap=True)
        for row in rows:
            fields = [Text(printable(row.name))]
            for metric in metrics[start : start + across]:
                evaluation = found.get((row, metric))
                bold = evaluation is not None and best is not None and evaluation is best.evaluation
                fields.append(Text(accuracy_words(evaluation), style="bold" if bold else ""))
            table.add_row(*fields)
        console.print(table)
    for line in notes(triplets, cells):
        console.print(Text(printable(line)), soft_wrap=True)


def accuracy_words(evaluation: Evaluation | None) -> str:
    """83.1 (81.5–84.6), or – where there is none."""
    if evaluation is None:
        return "–"
    return f"{100 * evaluation.accuracy:.1f} ({100 * evaluation.low:.1f}–{100 * evaluation.high:.1f})"


def best_cell(cells: Sequence[Cell]) -> Cell | None:
    """The one of the highest accuracy."""
    done = [cell for cell in cells if cell.evaluation is not None]
    return max(done, key=lambda cell: cell.evaluation.accuracy if cell.evaluation else 0.0, default=None)


def notes(triplets: Triplets, cells: Sequence[Cell]) -> list[str]:
    """What a reader of the figures must know: rows left out, ties, small classes, metrics that could not be had."""
    lines = []
    for each in triplets.skipped[:5]:
        lines.append(f"{triplets.source}, row {each.row} skipped: {each.reason}")
    if len(triplets.skipped) > 5:
        lines.append(f"… and {count_of(len(triplets.skipped) - 5, 'more row')} skipped; --json lists them all")
    lines += [f"{cell.name}: {cell.error}" for cell in cells if cell.evaluation is None]
    for cell in cells:
        evaluation = cell.evaluation
        if evaluation is not None and evaluation.ties:
            lines.append(f"{cell.name}: {count_of(evaluation.ties, 'tie')}, counted as half")
        if evaluation is not None and evaluation.undefined:
            lines.append(
                f"{cell.name}: {count_of(evaluation.undefined, 'triplet')} with a distance that is not defined"
            )
    if (class_note := class_words(cells)) is not None:
        lines.append(class_note)
    return lines


def class_words(cells: Sequence[Cell]) -> str | None:
    """How many images the class-restricted figures rank among, where classes are smaller than asked for."""
    for cell in cells:
        restricted = cell.evaluation.class_restricted if cell.evaluation else None
        if restricted is not None and restricted.short:
            return (
                f"{count_of(restricted.short, 'triplet')} of classes with fewer than the {restricted.sample:,} images "
                f"asked for: ranked among {restricted.smallest:,} to {restricted.largest:,} images of their class"
            )
    return None


def comparison_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """`comparisons` with one object a pair."""
    return {"comparisons": [vars(comparison) for comparison in comparisons]}


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """A paragraph a pair."""
    for each in comparisons:
        lines = (
            f"1: {each.first}",
            f"2: {each.second}",
            f"{count_of(each.triplets, 'triplet')} in both. Right: {100 * each.first_accuracy:.1f} % and "
            f"{100 * each.second_accuracy:.1f} %, difference {100 * each.difference:+.1f} points "
            f"({100 * each.low:+.1f} to {100 * each.high:+.1f}).",
            f"1 did better on {each.first_only}, 2 on {each.second_only}: p = {each.p_value:.2g} (McNemar, exact, "
            "two-sided).",
        )
        for line in lines:
            console.print(Text(printable(line)), soft_wrap=True)


def _names(cell: Cell) -> dict[str, Any]:
    features = cell.features
    return {
        "network": features.network,
        "layer": features.layer,
        "pooling": features.pooling,
        "metric": cell.metric,
        "unit_length": features.unit_length,
        "dimensions": features.dimensions,
        "weights_id": features.weights_id,
    }


def _result(cell: Cell, evaluation: Evaluation) -> dict[str, Any]:
    restricted, retrieval = evaluation.class_restricted, evaluation.retrieval
    middle = sorted(evaluation.ranks[:, 0].tolist()), sorted(evaluation.ranks[:, 1].tolist())
    return {
        **_names(cell),
        "triplets": evaluation.triplets,
        "accuracy": evaluation.accuracy,
        "low": evaluation.low,
        "high": evaluation.high,
        "ties": evaluation.ties,
        "undefined": evaluation.undefined,
        "pool": evaluation.pool,
        "median_rank_positive": middle[0][len(middle[0]) // 2],
        "median_rank_negative": middle[1][len(middle[1]) // 2],
        "class_restricted": None if restricted is None else dict(vars(restricted)),
        "retrieval": None
        if retrieval is None
        else {
            "queries": retrieval.queries,
            "without": retrieval.without,
            "mean_average_precision": retrieval.mean_average_precision,
            "r_precision": retrieval.r_precision,
            "recall": {str(cut): value for cut, value in zip(CUTS, retrieval.recall, strict=True)},
            "cmc": {str(cut): value for cut, value in zip(CUTS, retrieval.cmc, strict=True)},
        },
    }
