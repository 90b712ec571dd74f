"""A folder of pictures, read as a film of one frame each `every_s`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from streamwatch.clock import Clock
from streamwatch.errors import SourceUnusable
from streamwatch.imaging import PICTURE_SUFFIXES, load_picture
from streamwatch.records import Frame
from streamwatch.sources.base import BaseSource

_TOLD = 20
"""Pictures left out that warnings name one by one."""


class FolderSource(BaseSource):
    """The pictures of one folder (not of folders inside it), by name, numbers by value: img2 before img10.

    `pts_s` is the picture's place among those that could be read, times `every_s`, so that every picture is a sample;
    `captured_at` is the time in its EXIF data, else the file's, and `time_source` says which. Unreadable pictures are
    left out with a warning.
    """

    def __init__(self, path: Path, *, every_s: float, clock: Clock, realtime: bool = False) -> None:
        super().__init__(clock=clock, realtime=realtime)
        self._path = path
        self._every_s = every_s

    def frames(self) -> Iterator[Frame]:
        self._begin()
        paths = self._pictures()
        if not paths:
            kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES))
            raise SourceUnusable(f"{self._path} holds no pictures; expected files that end in {kinds}")
        self.announced_s = len(paths) * self._every_s
        place = left_out = 0
        for path in paths:
            if self._closed.is_set():
                return
            try:
                picture = load_picture(path)
                modified_s = path.stat().st_mtime
            except (SourceUnusable, OSError) as error:
                left_out += 1
                if left_out <= _TOLD:
                    self._notes.append(f"left out: {error}")
                else:
                    self._notes[_TOLD:] = [f"and {left_out - _TOLD} more left out"]
                continue
            pts_s = place * self._every_s
            self._pace(pts_s)
            if self._closed.is_set():
                return
            place += 1
            self.size = (picture.width, picture.height)
            self.duration_s = place * self._every_s
            taken_at, written_at = picture.taken_at, datetime.fromtimestamp(modified_s, UTC)
            yield Frame(
                pts_s=pts_s,
                captured_at=taken_at or written_at,
                picture=picture,
                time_source="exif" if taken_at else "file",
            )
        if not place:
            raise SourceUnusable(f"none of the {len(paths)} pictures in {self._path} can be read; {self._notes[0]}")

    def _pictures(self) -> list[Path]:
        try:
            names = [path for path in self._path.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES]
        except FileNotFoundError:
            raise SourceUnusable(f"{self._path}: no such folder; check the path") from None
        except OSError as error:
            raise SourceUnusable(f"{self._path} cannot be listed: {error.strerror or error}") from None
        return sorted((path for path in names if not path.name.startswith(".")), key=_by_value)


def _by_value(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Digits compare as numbers, all else as lower-case text."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", path.name)
    return [(0, int(digits), "") if digits else (1, 0, text.lower()) for digits, text in parts], path.name
