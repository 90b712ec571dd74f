"""A folder that pictures are still being written into, as cameras do over FTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from streamwatch.clock import Clock
from streamwatch.errors import SourceLost, SourceUnusable
from streamwatch.imaging import PICTURE_SUFFIXES, load_picture
from streamwatch.records import Frame
from streamwatch.sources.base import BaseSource

_Stamp = tuple[int, int, int]
"""A file's inode, size and time of change: what a write alters."""

_TOLD = 20


class LiveFolderSource(BaseSource):
    """The newest picture of a folder, and then each new or rewritten one, oldest first, once it is whole.

    A picture is taken when its size and time have not changed for `settle_s`, on the monotonic clock: files are written
    in pieces. One that still cannot be read then is looked at again only when it changes. `pts_s` is when it was taken
    in; `captured_at` the time in its EXIF data, else the file's. No timeout: a folder in which nothing happens may be a
    night without motion. What is remembered is bounded by what the folder holds.

    Raises:
        SourceLost: The folder is gone, or cannot be listed.
    """

    def __init__(self, path: Path, *, every_s: float, clock: Clock, settle_s: float = 5.0) -> None:
        super().__init__(clock=clock)
        self.live = True
        self._path = path
        self._settle_s = settle_s
        self._look_s = min(1.0, every_s, settle_s / 4)

    def frames(self) -> Iterator[Frame]:
        self._begin()
        first_s: float | None = None
        done: dict[str, _Stamp] = {}
        seen: dict[str, tuple[_Stamp, float]] = {}
        begins = True
        left_out = 0
        while not self._closed.is_set():
            now_s = self._clock.monotonic_s()
            present = self._list()
            if begins:
                # What lies there already is history: only the newest says what the camera sees now.
                newest = max(present, key=lambda name: (present[name][2], name), default=None)
                done = {name: stamp for name, stamp in present.items() if name != newest}
                begins = False
            done = {name: stamp for name, stamp in done.items() if name in present}
            seen = {
                name: seen[name] if name in seen and seen[name][0] == stamp else (stamp, now_s)
                for name, stamp in present.items()
                if done.get(name) != stamp
            }
            ready = [name for name, (_, since_s) in seen.items() if now_s - since_s >= self._settle_s]
            for name in sorted(ready, key=lambda name: (seen[name][0][2], name)):
                stamp = done[name] = seen.pop(name)[0]
                try:
                    picture = load_picture(self._path / name)
                except SourceUnusable as error:
                    left_out += 1
                    if left_out <= _TOLD:
                        self._notes.append(f"left out: {error}")
                    else:
                        self._notes[_TOLD:] = [f"and {left_out - _TOLD} more left out"]
                    continue
                taken_s = self._clock.monotonic_s()
                first_s = taken_s if first_s is None else first_s
                self.size, self.duration_s = (picture.width, picture.height), taken_s - first_s
                yield Frame(
                    pts_s=taken_s - first_s,
                    captured_at=picture.taken_at or datetime.fromtimestamp(stamp[2] / 1e9, UTC),
                    picture=picture,
                    time_source="exif" if picture.taken_at else "file",
                )
                if self._closed.is_set():
                    return
            self._closed.wait(self._look_s)

    def _list(self) -> dict[str, _Stamp]:
        found: dict[str, _Stamp] = {}
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in PICTURE_SUFFIXES:
                        continue
                    try:
                        facts = entry.stat()
                    except OSError:
                        continue  # gone since, or a link to nothing
                    found[entry.name] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        except OSError as error:
            raise SourceLost(f"{self._path} cannot be listed: {error.strerror or error}; is it mounted?") from None
        return found
