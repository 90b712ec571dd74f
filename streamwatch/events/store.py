"""What outlives a restart, as files in the data folder: the network's choice and each camera's memory.

data_dir/network.json             the network chosen for this folder, once
data_dir/memory/CAMERA.npz        its remembered states
data_dir/pictures/CAMERA/ID.jpg   their pictures
data_dir/events.jsonl             the events
data_dir/lock                     held while a daemon runs
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamwatch.change.memory import ABSENT, Memory, State
from streamwatch.embedding import EmbedderIdentity
from streamwatch.errors import OutputError, WeightsMismatch
from streamwatch.events.files import make_folder, write_whole

_FORMAT = 1
_VERDICTS = ("pending", "labelled", "not_needed")


def network_choice(folder: Path) -> dict[str, Any] | None:
    """What was chosen for a data folder, or None when nothing was yet, or there is no such folder.

    Raises:
        OutputError: The file is damaged.
    """
    path = folder / "network.json"
    try:
        choice = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path} cannot be read: {error}; delete it to choose the network afresh") from error
    if not isinstance(choice, dict) or not _is_choice(choice):
        raise OutputError(f"{path} names no network; delete it to choose the network afresh")
    return choice


class FolderStore:
    """The data folder. One process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_folder(folder)
        make_folder(folder / "memory")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out; the system lets go of it when the process ends, however it ends.

        Raises:
            OutputError: Another process has the folder, or it takes no lock.
        """
        path = self.folder / "lock"
        with ExitStack() as held:
            try:
                file = held.enter_context(path.open("w"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"{self.folder} is in use by another streamwatch: two would spoil each other's memory; stop the "
                    "other, or give this one another data_dir"
                ) from None
            except OSError as error:
                raise OutputError(
                    f"cannot lock {path}: {error.strerror or error}; remove what is there, or choose another data_dir"
                ) from error
            yield

    def network_choice(self) -> dict[str, Any] | None:
        """What was chosen for this folder, or None when nothing was yet."""
        return network_choice(self.folder)

    def keep_network_choice(self, *, network: str, weights: str | None) -> None:
        """Fix the choice for this folder."""
        data = json.dumps({"network": network, "weights": weights}, indent=1) + "\n"
        write_whole(self.folder / "network.json", data.encode())

    def pictures(self, camera: str) -> Path:
        """The folder of a camera's pictures."""
        return self.folder / "pictures" / camera

    def load_memory(self, camera: str, memory: Memory, *, identity: EmbedderIdentity) -> bool:
        """Fill a memory with what was saved for a camera; False if nothing was.

        Raises:
            WeightsMismatch: It was written with another network, layer, weights or fit.
            OutputError: The file is damaged.
        """
        path = self._memory_path(camera)
        damaged = f"{path} is damaged; delete it, and {camera} starts to remember afresh"
        try:
            if not path.is_file() and path.exists():
                raise OutputError(damaged)
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror or error}") from error
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                header = json.loads(str(saved["header"]))
                vectors, regions, rows = saved["vectors"], saved["vector_regions"], saved["rows"]
            version, written = header["format"], header["identity"]
            same = version == _FORMAT and EmbedderIdentity.from_plain(written) == identity
            states = _states(header["states"], rows) if same else []
            if same:
                _check(vectors, regions, rows, memory)
        except Exception as error:  # NumPy and zipfile let through whatever their parsing meets in a damaged file
            raise OutputError(damaged) from error
        if not same:
            raise WeightsMismatch(
                f"{path} was written with {_words(written if version == _FORMAT else None)}, but "
                f"{_words(_plain(identity))} is configured now; "
                "distances between the two mean nothing. Go back to the old setting, or delete the file, and "
                f"{camera} starts to remember afresh"
            )
        memory.restore(vectors, regions, states)
        return True

    def save_memory(self, camera: str, memory: Memory, *, identity: EmbedderIdentity) -> None:
        """Write a camera's memory, whole or not at all."""
        header = {
            "format": _FORMAT,
            "identity": _plain(identity),
            "states": [
                {
                    "id": state.id,
                    "made_at": state.made_at.isoformat() if state.made_at else None,
                    "made_s": state.made_s,
                    "matched": state.matched,
                    "verdict": state.verdict,
                }
                for state in memory.states
            ],
        }
        rows = [state.rows for state in memory.states]
        data = io.BytesIO()
        np.savez(
            data,
            header=np.array(json.dumps(header)),
            vectors=memory.vectors,
            vector_regions=memory.vector_regions,
            rows=np.stack(rows) if rows else np.empty((0, memory.regions), dtype=np.int32),
        )
        write_whole(self._memory_path(camera), data.getvalue())

    def _memory_path(self, camera: str) -> Path:
        return self.folder / "memory" / f"{camera}.npz"


def _is_choice(choice: dict[str, Any]) -> bool:
    return isinstance(choice.get("network"), str) and isinstance(choice.get("weights"), str | None)


def _check(vectors: NDArray[Any], regions: NDArray[Any], rows: NDArray[Any], memory: Memory) -> None:
    """See that a file's arrays are such as a memory of this kind writes.

    Raises:
        ValueError: They are not.
    """
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or vectors.shape[1] != memory.dimensions:
        raise ValueError(f"vectors are {vectors.dtype} of shape {vectors.shape}")
    with np.errstate(over="ignore"):
        if not np.isfinite(vectors.astype(memory.dtype)).all():
            raise ValueError("a vector is not finite")
    if regions.dtype != np.int32 or regions.shape != vectors.shape[:1]:
        raise ValueError(f"regions are {regions.dtype} of shape {regions.shape}")
    if regions.size and not 0 <= regions.min() <= regions.max() < memory.regions:
        raise ValueError("a vector is of no region")
    if rows.dtype != np.int32 or rows.ndim != 2 or rows.shape[1] != memory.regions:
        raise ValueError(f"rows are {rows.dtype} of shape {rows.shape}")
    if rows.size and not ABSENT <= rows.min() <= rows.max() < len(vectors):
        raise ValueError("a state has a vector that is not there")
    _, column = np.nonzero(rows != ABSENT)
    if not np.array_equal(regions[rows[rows != ABSENT]], column):
        raise ValueError("a state has a vector of another region")


def _states(details: list[dict[str, Any]], rows: NDArray[np.int32]) -> list[State]:
    if not all(map(_is_state, details)):
        raise ValueError("a state is not as one is written")
    return [
        State(
            id=state["id"],
            rows=np.ascontiguousarray(row),
            made_at=datetime.fromisoformat(state["made_at"]) if state["made_at"] else None,
            made_s=state["made_s"],
            matched=state["matched"],
            verdict=state["verdict"],
        )
        for state, row in zip(details, rows, strict=True)
    ]


def _is_state(state: dict[str, Any]) -> bool:
    return (
        re.fullmatch(r"[A-Za-z0-9_-]+", state["id"]) is not None  # the name of its picture's file
        and type(state["made_s"]) in (int, float)
        and math.isfinite(state["made_s"])
        and type(state["matched"]) is int
        and state["verdict"] in _VERDICTS
    )


def _plain(identity: EmbedderIdentity) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(identity)))
    return plain


def _words(identity: Mapping[str, Any] | None) -> str:
    if not identity:
        return "another version"
    kind = f", norm floor {identity.get('norm_floor', 0):g}" if identity["unit_length"] else " of raw vectors"
    return (
        "{network} {layer}, weights {weights_id}, {fit}, {grid[rows]}×{grid[columns]} regions".format(**identity) + kind
    )
