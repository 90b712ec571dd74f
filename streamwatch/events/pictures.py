"""The picture of each remembered state: the after-picture of its own event, the before-picture of later ones."""

from __future__ import annotations

import contextlib
from pathlib import Path

from streamwatch.events.files import make_folder, write_whole
from streamwatch.imaging import encode_jpeg
from streamwatch.records import Picture


class StatePictures:
    """The pictures of one camera's states, as JPEG files named by state.

    A state that is only a recent frame gets its file when an event first needs it; until then its picture is held in
    memory as JPEG: a decoded frame of 1080p takes 3 MB, its JPEG a tenth. Bound: as many pictures as the memory has
    states, since `forget` follows each state that leaves.
    """

    def __init__(self, folder: Path, *, quality: int) -> None:
        make_folder(folder)
        self.folder, self._quality = folder, quality
        self._held: dict[str, bytes] = {}

    def keep(self, state: str, picture: Picture) -> Path:
        """Write a state's picture to disk, with fsync.

        Raises:
            OutputError: The disk does not take it.
        """
        return self._write(state, self._encoded(picture))

    def hold(self, state: str, picture: Picture) -> None:
        """Keep a picture in memory, in case an event needs it."""
        self._held[state] = self._encoded(picture)

    def path(self, state: str) -> Path | None:
        """The file of a state's picture, written now if it was only held; None if it is gone.

        Raises:
            OutputError: The disk does not take it; it is still held.
        """
        held = self._held.get(state)
        if held is not None:
            written = self._write(state, held)
            del self._held[state]
            return written
        path = self._path(state)
        return path if path.exists() else None

    def forget(self, state: str) -> None:
        """Let go of a picture that is only held. Files stay: events may show them."""
        self._held.pop(state, None)

    def discard(self, state: str) -> None:
        """Let go of a picture, and remove its file: no event shows it."""
        self.forget(state)
        with contextlib.suppress(OSError):  # the disk may be read-only by now, or the folder gone
            self._path(state).unlink()

    def _encoded(self, picture: Picture) -> bytes:
        return encode_jpeg(picture.rgb(), self._quality)

    def _write(self, state: str, jpeg: bytes) -> Path:
        path = self._path(state)
        write_whole(path, jpeg)
        return path

    def _path(self, state: str) -> Path:
        return self.folder / f"{state}.jpg"
