"""What an evaluation leaves behind for later ones to be compared with: each triplet's outcome, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.networks import nearest
from streamwatch.errors import SourceUnusable, UsageError
from streamwatch.events.files import write_whole

RUN_FILE = "run.json"
_FORMAT = 1
_LETTERS = {"1": 1.0, "0": 0.0, "=": 0.5}


@dataclass(frozen=True, kw_only=True, eq=False)
class RunCell:
    """One network, layer, pooling and metric of a run."""

    run: Run
    name: str
    """network/layer/pooling/metric"""

    outcomes: NDArray[np.float64]

    @property
    def title(self) -> str:
        """Which evaluation of which run."""
        return f"{self.run.path}#{self.name}"


@dataclass(kw_only=True, eq=False)
class Run:
    """A run as it was written."""

    path: Path
    keys: Sequence[str]
    """One a triplet: the names of its images."""

    groups: Sequence[str]
    """What the bootstrap draws as one."""

    cells: list[RunCell]


def save_run(
    path: Path, *, keys: Sequence[str], groups: Sequence[str], cells: Sequence[tuple[str, NDArray[np.float64]]]
) -> None:
    """Write a run. Raises OutputError where the file cannot be written."""
    letters = {value: letter for letter, value in _LETTERS.items()}
    document = {
        "format": _FORMAT,
        "triplets": list(keys),
        "groups": list(groups),
        "outcomes": {name: "".join(letters[value] for value in outcomes.tolist()) for name, outcomes in cells},
    }
    write_whole(path, json.dumps(document, ensure_ascii=True).encode())


def load_run(text: str) -> Run:
    """Read a run named by its folder or file, `#network/layer/pooling/metric` behind it for one evaluation of it.

    Raises:
        SourceUnusable: There is none, or it is no run.
        UsageError: It has no such evaluation.
    """
    name, _, wanted = text.partition("#")
    path = Path(name)
    path = path / RUN_FILE if path.is_dir() else path
    try:
        document = json.loads(path.read_bytes())
        run = _parse(path, document)
    except FileNotFoundError:
        raise SourceUnusable(f"{path}: no such file; name a folder that `streamwatch eval --out` has written") from None
    except OSError as error:
        raise SourceUnusable(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SourceUnusable(
            f"{path} is no run of `streamwatch eval`; name a folder that its --out has written"
        ) from None
    if wanted:
        names = [cell.name for cell in run.cells]
        run.cells = [cell for cell in run.cells if cell.name == wanted]
        if not run.cells:
            raise UsageError(
                f"{path} has no evaluation {wanted!r}{nearest(wanted, names)}; it has {', '.join(names[:8])}"
                f"{', …' if len(names) > 8 else ''}"
            )
    return run


def _parse(path: Path, document: Any) -> Run:
    if document["format"] != _FORMAT:
        raise ValueError("another format")
    keys, groups = [str(key) for key in document["triplets"]], [str(group) for group in document["groups"]]
    run = Run(path=path, keys=keys, groups=groups, cells=[])
    for name, letters in document["outcomes"].items():
        outcomes = np.array([_LETTERS[letter] for letter in letters])
        if not len(outcomes) == len(keys) == len(groups):
            raise ValueError("lengths differ")
        run.cells.append(RunCell(run=run, name=str(name), outcomes=outcomes))
    return run
