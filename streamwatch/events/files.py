"""Files that are either whole or not there, also after a power cut."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from streamwatch.errors import OutputError


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, and make sure that files can be made in it.

    Raises:
        OutputError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror or error}; choose another folder, or give this user "
            "the right to write there"
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, fsync it, rename it, fsync its folder.

    Raises:
        OutputError: The disk is full, or the folder not writable; what was there before is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # the disk may be read-only by now, or the folder gone
            partial.unlink()
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
