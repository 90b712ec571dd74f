"""Triplets of images from a CSV file: which image a person found more similar to the query."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.networks import nearest
from streamwatch.errors import SourceUnusable, UsageError

COLUMNS = ("query", "positive", "negative")
CLASS_COLUMN = "class"
_MAX_BYTES = 1 << 30
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row that is no usable triplet."""

    row: int
    """The line in the file, the header being line 1."""

    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Triplets:
    """What a file holds. Images are numbered in the order in which they first appear."""

    source: Path
    images: tuple[Path, ...]
    names: tuple[str, ...]
    """Of the images, as the file writes them."""

    index: NDArray[np.int64]
    """(n, 3): numbers of query, positive and negative."""

    classes: tuple[str, ...] | None
    """One a triplet, "" where its row has none; None where no row has one."""

    rows: tuple[int, ...]
    """The line of each triplet."""

    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.index)

    def key(self, number: int) -> str:
        """Tells one triplet from another in whatever file: the names of its images."""
        return "\t".join(self.names[image] for image in self.index[number])


def read_triplets(path: Path, *, root: Path | None = None) -> Triplets:
    """Read a CSV file with the columns query, positive, negative and, if it likes, class; others are ignored.

    Comma, semicolon, tab and bar are understood, and UTF-8 and UTF-16 with or without their marks. Rows that are no
    triplet (an empty cell, a missing file, an image twice, a row twice) are left out and said in `skipped`.

    Args:
        path: The file.
        root: The folder that paths are relative to; None for the file's own.

    Raises:
        SourceUnusable: No such file, or not text.
        UsageError: A column is missing, or no row is a triplet.
    """
    text = _text(path)
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        header = next(lines, None)
        columns = _columns(path, header)
        return _read(path, root or path.parent, lines, columns)
    except csv.Error as error:
        raise UsageError(f"{path}, row {lines.line_num}: {error}; expected CSV with quotes doubled in quotes") from None


def thinned(triplets: Triplets, limit: int) -> Triplets:
    """At most `limit` triplets, spread evenly over the file, and only their images.

    Raises:
        UsageError: The limit is below 1.
    """
    if limit < 1:
        raise UsageError(f"--limit is {limit}, expected at least 1")
    if limit >= len(triplets):
        return triplets
    return chosen(triplets, np.linspace(0, len(triplets) - 1, limit).round().astype(np.int64))


def without_images(triplets: Triplets, unreadable: Mapping[int, str]) -> Triplets:
    """The triplets that need none of these images (number → reason); the others go to `skipped`.

    Raises:
        UsageError: None is left.
    """
    if not unreadable:
        return triplets
    bad = np.isin(triplets.index, list(unreadable)).any(axis=1)
    skipped = [
        Skipped(
            row=triplets.rows[number], reason=next(unreadable[i] for i in triplets.index[number] if i in unreadable)
        )
        for number in np.flatnonzero(bad).tolist()
    ]
    if bad.all():
        raise UsageError(f"{triplets.source}: no triplet is left whose images can be read; {skipped[0].reason}")
    kept = chosen(triplets, np.flatnonzero(~bad))
    return Triplets(
        source=kept.source,
        images=kept.images,
        names=kept.names,
        index=kept.index,
        classes=kept.classes,
        rows=kept.rows,
        skipped=tuple(sorted((*triplets.skipped, *skipped), key=lambda each: each.row)),
    )


def chosen(triplets: Triplets, numbers: NDArray[np.int64]) -> Triplets:
    """Some of the triplets, and only their images."""
    used, index = np.unique(triplets.index[numbers], return_inverse=True)
    return Triplets(
        source=triplets.source,
        images=tuple(triplets.images[image] for image in used),
        names=tuple(triplets.names[image] for image in used),
        index=index.reshape(-1, 3).astype(np.int64),
        classes=None if triplets.classes is None else tuple(triplets.classes[number] for number in numbers),
        rows=tuple(triplets.rows[number] for number in numbers),
        skipped=triplets.skipped,
    )


class _Lines(Protocol):
    """What `csv.reader` gives; its own type has no public name."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SourceUnusable(f"{path} has more than {_MAX_BYTES} bytes, which no list of triplets has")
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceUnusable(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise SourceUnusable(f"{path} cannot be read: {error.strerror or error}") from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceUnusable(
            f"{path} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8 from your spreadsheet"
        ) from None
    if "\0" in text:
        raise SourceUnusable(f"{path} holds zero bytes, so it is no CSV file; name the list of triplets")
    return text


def _columns(path: Path, header: Sequence[str] | None) -> dict[str, int]:
    names = [name.strip().lower() for name in header or ()]
    if not any(names):
        raise UsageError(f"{path} is empty, expected a first row that names the columns {', '.join(COLUMNS)}")
    for column in COLUMNS:
        if column not in names:
            raise UsageError(
                f"{path} has no column {column!r}{nearest(column, names)}; its first row is {', '.join(names)}, "
                f"expected {', '.join(COLUMNS)} and, if you like, {CLASS_COLUMN}"
            )
        if names.count(column) > 1:
            raise UsageError(f"{path} has two columns {column!r}; keep one")
    return {name: names.index(name) for name in (*COLUMNS, CLASS_COLUMN) if name in names}


def _read(path: Path, root: Path, lines: _Lines, columns: Mapping[str, int]) -> Triplets:
    numbers: dict[str, int] = {}
    images: list[Path] = []
    names: list[str] = []
    missing: dict[str, bool] = {}
    seen: dict[tuple[str, ...], int] = {}
    index: list[list[int]] = []
    classes: list[str] = []
    rows: list[int] = []
    skipped: list[Skipped] = []
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = lines.line_num
        written = [cells[columns[name]].strip() if columns[name] < len(cells) else "" for name in COLUMNS]
        paths = [os.path.normpath(root / name) for name in written]
        at = columns.get(CLASS_COLUMN, -1)
        kind = cells[at].strip() if 0 <= at < len(cells) else ""
        reason = _wrong(written, paths, missing)
        if reason is None and (first := seen.setdefault(tuple(paths), row)) != row:
            reason = f"the same triplet as row {first}"
        if reason is not None:
            skipped.append(Skipped(row=row, reason=reason))
            continue
        for name, image in zip(written, paths, strict=True):
            if image not in numbers:
                numbers[image] = len(images)
                images.append(Path(image))
                names.append(name)
        index.append([numbers[image] for image in paths])
        rows.append(row)
        classes.append(kind)
    if not index:
        why = f"; row {skipped[0].row}: {skipped[0].reason}" if skipped else ""
        raise UsageError(f"{path} has no usable triplet ({len(skipped)} rows were skipped{why})")
    return Triplets(
        source=path,
        images=tuple(images),
        names=tuple(names),
        index=np.array(index, np.int64),
        classes=tuple(classes) if any(classes) else None,
        rows=tuple(rows),
        skipped=tuple(skipped),
    )


def _wrong(written: Sequence[str], paths: Sequence[str], missing: dict[str, bool]) -> str | None:
    for column, name in zip(COLUMNS, written, strict=True):
        if not name:
            return f"no {column} is given"
    for one, other in ((0, 1), (0, 2), (1, 2)):
        if paths[one] == paths[other]:
            return f"{COLUMNS[one]} and {COLUMNS[other]} are the same image, {written[one]}"
    for name, image in zip(written, paths, strict=True):
        if image not in missing:
            missing[image] = not os.path.isfile(image)
        if missing[image]:
            return f"there is no file {name} ({image})"
    return None
