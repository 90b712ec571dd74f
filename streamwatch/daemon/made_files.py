"""Which files the demo made itself: it overwrites and deletes nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from streamwatch.errors import UsageError
from streamwatch.events.files import make_folder, write_whole

MARKER = ".made-by-streamwatch-demo"
"""A JSON list of paths, relative to the folder that it is in."""


def claim(folder: Path, paths: Iterable[Path]) -> None:
    """Note in a folder, which is made if need be, that these files and folders are the demo's own from now on.

    What does not exist yet is nobody's, nor is an empty folder.

    Raises:
        UsageError: One of them is there and no earlier demo noted it; nothing was changed.
        OutputError: The folder cannot be written.
    """
    marker = folder / MARKER
    noted, names = _noted(marker), set()
    for path in paths:
        # A link that was put in the place of a file is not the demo's: where it leads decides.
        real = path.resolve()
        name = os.path.relpath(real, folder.resolve())
        if name not in noted and _is_there(real):
            raise UsageError(
                f"{Path(os.path.relpath(path))} is there already and was not made by the demo, which would overwrite "
                "it: move it away, run the demo in another folder, or name other paths in its configuration"
            )
        names.add(name)
    make_folder(folder)
    write_whole(marker, json.dumps(sorted(noted | names)).encode())


def _noted(marker: Path) -> set[str]:
    try:
        names = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        return set()  # with that, whatever exists is refused
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))
    except OSError:
        return True
