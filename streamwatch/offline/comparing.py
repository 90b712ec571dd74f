"""Two evaluations of the same triplets: is one really better? Paired tests, since both saw the same pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from streamwatch.errors import UsageError
from streamwatch.offline.evaluation import Settings, bootstrap_interval
from streamwatch.offline.runs import Run, RunCell


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first of two evaluations against the second, over the triplets that both have."""

    first: str
    second: str
    triplets: int
    first_accuracy: float
    second_accuracy: float
    difference: float
    """First less second."""

    low: float
    high: float
    """Bootstrap interval of the difference."""

    first_only: int
    """Triplets that the first did better on."""

    second_only: int
    p_value: float
    """McNemar's exact test, two-sided: how likely it is that triplets on which they differ fall so unevenly by chance.
    With ties, counted as half, it is the sign test of the differences."""


def compare(first: RunCell, second: RunCell, *, settings: Settings) -> Comparison:
    """Compare two evaluations.

    Raises:
        UsageError: They have no triplet in common.
    """
    there = {key: number for number, key in enumerate(second.run.keys)}
    pairs = [(number, there[key]) for number, key in enumerate(first.run.keys) if key in there]
    if not pairs:
        raise UsageError(f"{first.title} and {second.title} have no triplet in common: were they of the same CSV file?")
    mine, theirs = (np.array(numbers) for numbers in zip(*pairs, strict=True))
    one, other = first.outcomes[mine], second.outcomes[theirs]
    difference = one - other
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    groups = np.unique(np.asarray(first.run.groups)[mine], return_inverse=True)[1].astype(np.int64)
    low, high = bootstrap_interval(difference, groups, settings=settings)
    return Comparison(
        first=first.title,
        second=second.title,
        triplets=len(pairs),
        first_accuracy=float(one.mean()),
        second_accuracy=float(other.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        first_only=wins,
        second_only=losses,
        p_value=float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
    )


def pair_up(first: Run, second: Run) -> list[tuple[RunCell, RunCell]]:
    """Which evaluations of two runs are compared: those of one name or, where each run has one, the two.

    Raises:
        UsageError: There is no such pair; the message has the names.
    """
    names = {cell.name: cell for cell in second.cells}
    pairs = [(cell, names[cell.name]) for cell in first.cells if cell.name in names]
    if first.path == second.path and len(first.cells) != 1:
        pairs = []
    if pairs:
        return pairs
    if len(first.cells) == len(second.cells) == 1:
        return [(first.cells[0], second.cells[0])]
    raise UsageError(
        "which evaluations are to be compared? Name one of each run, as in RUN#network/layer/pooling/metric; "
        f"{first.path} has {_some(first)}; {second.path} has {_some(second)}"
    )


def _some(run: Run) -> str:
    return ", ".join(cell.name for cell in run.cells[:8]) + (", …" if len(run.cells) > 8 else "")
