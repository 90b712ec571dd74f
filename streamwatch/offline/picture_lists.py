"""Which pictures and crops are meant: folders walked, CSV files of boxes read."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from streamwatch.errors import SourceUnusable, UsageError
from streamwatch.imaging import PICTURE_SUFFIXES
from streamwatch.offline.gallery_records import PixelBox

BOX_COLUMNS = ("path", "x", "y", "width", "height")
_MAX_CSV_BYTES = 256 << 20


@dataclass(frozen=True)
class Item:
    """A picture to index, whole or a crop of it."""

    path: Path
    box: PixelBox | None = None


@dataclass(frozen=True)
class Problem:
    """Something that was asked for and is not in the gallery."""

    path: str
    reason: str


def find_images(folders: Iterable[Path]) -> list[Path]:
    """The image files of folders and those below them, and files named themselves; in order of name, each once.

    Linked folders are not entered.

    Raises:
        SourceUnusable: A folder is missing or cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise SourceUnusable(f"{error.filename} cannot be read: {error.strerror or error}") from error

    found: dict[Path, None] = {}
    for folder in folders:
        if folder.is_file():
            found[_absolute(folder)] = None
            continue
        if not folder.is_dir():
            raise SourceUnusable(f"{folder} does not exist; name folders of images")
        paths = [
            Path(parent, name)
            for parent, _, names in os.walk(_absolute(folder), onerror=refuse)
            for name in names
            if Path(name).suffix.lower() in PICTURE_SUFFIXES
        ]
        found.update(dict.fromkeys(sorted(paths)))
    return list(found)


def read_boxes(path: Path) -> tuple[list[Item], list[Problem]]:
    """A CSV file of boxes: columns path, x, y, width and height, in pixels of the upright picture; further ones may be
    there. Paths are relative to the file's folder. Commas, semicolons or tabs; a byte order mark does no harm.

    Returns:
        The boxes in order of path, each once; and the rows that are none.

    Raises:
        UsageError: The file cannot be read, or lacks a column.
    """
    try:
        if path.stat().st_size > _MAX_CSV_BYTES:
            raise UsageError(f"{path} has more than {_MAX_CSV_BYTES >> 20} MB; split it")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"the boxes {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    lacking = [name for name in BOX_COLUMNS if name not in columns]
    if lacking:
        got = ", ".join(columns) or "nothing"
        raise UsageError(f"{path} lacks the columns {', '.join(lacking)}: its first line names {got:.200}")
    reader.fieldnames = columns
    items: dict[Item, None] = {}
    problems = []
    try:
        for row in reader:
            try:
                items[Item(_absolute(path.parent / _cell(row, "path")), _box(row))] = None
            except ValueError as error:
                problems.append(Problem(f"{path}, line {reader.line_num}", str(error)))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}; is it a CSV file?") from None
    return sorted(items, key=lambda item: item.path), problems


def parse_box(text: str) -> PixelBox:
    """`x,y,width,height` in pixels.

    Raises:
        UsageError: It is none.
    """
    names = BOX_COLUMNS[1:]
    parts = text.split(",")
    try:
        if len(parts) != len(names):
            raise ValueError
        return _box(dict(zip(names, parts, strict=True)))
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise UsageError(
            f"the box is {text!r}, expected x,y,width,height in pixels, such as 40,25,300,200{why}"
        ) from None


def _absolute(path: Path) -> Path:
    # Not resolve(): the name that a linked file has here is the one that its owner knows.
    return Path(os.path.abspath(path))


def _cell(row: dict[str, str | None], name: str) -> str:
    text = (row.get(name) or "").strip()
    if not text:
        raise ValueError(f"{name} is empty")
    return text


def _box(row: dict[str, str | None] | dict[str, str]) -> PixelBox:
    numbers = []
    for name in BOX_COLUMNS[1:]:
        text = _cell(dict(row), name)
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{name} is {text!r}, expected a number of pixels") from None
        if not math.isfinite(value) or abs(value) > 1e6:
            raise ValueError(f"{name} is {text!r}, expected a number of pixels")
        numbers.append(round(value))
    return PixelBox(*numbers)
