"""Events as lines of JSON, in a file or on standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from streamwatch.errors import OutputError
from streamwatch.events.cloudevents import to_line
from streamwatch.events.files import make_folder, sync_folder


class JsonLinesSink:
    """Appends each event as one line, with fsync. The file is opened anew for each, so that it may be rotated away."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        self._open().close()
        sync_folder(path.parent)

    def write(self, document: dict[str, Any]) -> None:
        line = (to_line(document) + "\n").encode()
        try:
            with self._open() as stream:
                begun = stream.tell() > 0
                # A line that a crash cut off is closed first, so that it spoils only itself.
                if begun and _last_byte(stream) != b"\n":
                    line = b"\n" + line
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            if not begun:
                sync_folder(self.path.parent)
        except OSError as error:
            raise OutputError(f"cannot append to {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Nothing is held open."""

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("a+b")
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; choose another file with events.jsonl"
            ) from error


class StandardOutputSink:
    """Prints each event as one line."""

    def write(self, document: dict[str, Any]) -> None:
        try:
            print(to_line(document), flush=True)
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error

    def close(self) -> None:
        try:
            sys.stdout.flush()
        except OSError:
            return  # the reader went away; every line was flushed when it was written


def _last_byte(stream: BinaryIO) -> bytes:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1)
