"""A gallery: vectors of many pictures, and what they are of, as one Lance dataset.

Rows are appended in transactions: after a crash a gallery holds whole transactions and nothing else. Sole user of
pylance, which the extra `gallery` installs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamwatch.errors import MissingLibrary, OutputError, SourceUnusable, UsageError
from streamwatch.offline.gallery_records import GalleryIdentity, GalleryRow, PixelBox
from streamwatch.records import Grid

FORMAT = 1
_KEY = b"streamwatch"
_STORAGE = "2.0"
"""Lance's file format. 27,000 × 4,096 numbers were loaded 2.5 times faster than from 2.1 and 2.2, in as many bytes."""

_FEW_ROWS = 4096
_MANY_FRAGMENTS = 64
"""That many files are put together; each costs an open."""

_READERS_TIME = timedelta(minutes=15)
"""Files that a compaction has replaced stay this long, for those who are reading them."""

ANN_LEAST_ROWS = 10_000
"""Below this exact search is quick, and too few vectors are there to learn a quantiser from."""


class Gallery:
    """One gallery on disk. Any number may read; `writing` keeps a second writer out. One thread at a time."""

    def __init__(self, path: Path, dataset: Any, identity: GalleryIdentity, weights: str | None) -> None:
        self.path = path
        self.identity = identity
        self.weights = weights
        """How the user named the weights, to find them again; None for the network's default ones."""
        self._dataset = dataset

    @classmethod
    def exists(cls, path: Path) -> bool:
        """True if there is a dataset, of whatever kind."""
        return (path / "_versions").is_dir()

    @classmethod
    def create(cls, path: Path, identity: GalleryIdentity, *, weights: str | None = None) -> Gallery:
        """An empty gallery.

        Raises:
            OutputError: There is something of that name, or the folder cannot be written.
            MissingLibrary: pylance is not installed.
        """
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise OutputError(f"{path} is there already and is no gallery; name a new folder")
        document = {"format": FORMAT, "identity": asdict(identity), "weights": weights}
        schema = _schema(identity).with_metadata({_KEY: json.dumps(document).encode()})
        with _written(path):
            dataset = load_lance().write_dataset(
                schema.empty_table(), str(path), mode="create", data_storage_version=_STORAGE
            )
        return cls(path, dataset, identity, weights)

    @classmethod
    def open(cls, path: Path) -> Gallery:
        """The gallery as it is now; later changes are not seen.

        Raises:
            SourceUnusable: There is none, or it is damaged or of a later version.
            MissingLibrary: pylance is not installed.
        """
        lance = load_lance()
        if not cls.exists(path):
            what = "is no gallery" if path.exists() else "does not exist"
            raise SourceUnusable(f"{path} {what}; make one with `streamwatch index FOLDER --gallery {path}`")
        try:
            dataset = lance.dataset(str(path))
            document = json.loads(dataset.schema.metadata[_KEY])
            found = document["format"]
            if found == FORMAT:
                said = document["identity"]
                identity = GalleryIdentity(**{**said, "grid": Grid(**said["grid"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceUnusable(f"{path} is a damaged gallery, or none of streamwatch's: {error!r:.300}") from error
        if found != FORMAT:
            raise SourceUnusable(
                f"{path} is a gallery of format {found}, this streamwatch reads {FORMAT}; use the version that made it"
            )
        return cls(path, dataset, identity, document["weights"])

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off other writers: both would add what neither has seen of the other.

        Raises:
            OutputError: Another process is writing.
        """
        with _written(self.path), (self.path / ".writer").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another `streamwatch index` is writing {self.path}; wait until it is done"
                ) from None
            self._dataset = load_lance().dataset(str(self.path))
            yield

    def rows_of(self, content_hash: str) -> int:
        """How many rows are of the file with this hash: the whole picture, and crops of it."""
        with _read(self.path):
            return int(self._dataset.count_rows(f"content_hash = '{content_hash}'"))

    def ids(self) -> set[str]:
        """The ids of all rows."""
        with _read(self.path):
            return set(self._dataset.to_table(columns=["id"]).column("id").to_pylist())

    def append(
        self, rows: Sequence[GalleryRow], vectors: NDArray[np.float32], regions: NDArray[np.floating] | None = None
    ) -> None:
        """Add rows in one transaction: all are there afterwards, or none.

        Args:
            rows: What the vectors are of.
            vectors: Shape (rows, dimensions).
            regions: Shape (rows, windows, dimensions) where the gallery keeps regional vectors, else None.

        Raises:
            UsageError: A vector holds NaN or infinity, or is too large for half precision.
            OutputError: The disk is full or not writable.
        """
        import pyarrow as pa

        schema, identity = self._dataset.schema, self.identity
        dtype = np.float16 if identity.half else np.float32
        stored = _as_stored(vectors, dtype, rows)
        columns: list[Any] = [
            pa.array([row.id for row in rows], pa.string()),
            pa.array([_storable(row.path) for row in rows], pa.string()),
            pa.array([row.content_hash for row in rows], pa.string()),
            *(pa.array([row.box and getattr(row.box, side) for row in rows], pa.int32()) for side in _SIDES),
            pa.array([row.width for row in rows], pa.int32()),
            pa.array([row.height for row in rows], pa.int32()),
            pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), identity.dimensions),
        ]
        if identity.windows:
            assert regions is not None
            assert regions.shape == (len(rows), identity.windows, identity.dimensions)
            flat = _as_stored(regions.reshape(len(rows), -1), np.float16, rows).reshape(-1)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), identity.windows * identity.dimensions))
        with _written(self.path):
            table = pa.Table.from_arrays(columns, schema=schema)
            self._dataset = load_lance().write_dataset(table, self._dataset, mode="append")

    def tidy(self) -> None:
        """Put many small files together, and remove what nobody has read for a while."""
        with _written(self.path):
            small = [f for f in self._dataset.get_fragments() if f.count_rows() < _FEW_ROWS]
            if len(small) >= _MANY_FRAGMENTS:
                self._dataset.optimize.compact_files()
                self._dataset = load_lance().dataset(str(self.path))
                self._dataset.cleanup_old_versions(older_than=_READERS_TIME)

    def load(self, *, regional: bool = False) -> NDArray[np.float32] | NDArray[np.float16]:
        """All vectors in row order: shape (rows, dimensions) in float32, or (rows, windows, dimensions) in float16.

        Raises:
            UsageError: Regional vectors are asked for, and the gallery has none.
            SourceUnusable: A file of the gallery is damaged.
        """
        identity = self.identity
        if regional and not identity.windows:
            raise UsageError(
                f"{self.path} has no regional vectors; index the pictures into a new gallery with --regional"
            )
        column = "regions" if regional else "vector"
        width = identity.dimensions * (identity.windows if regional else 1)
        out = np.empty((len(self), width), np.float16 if regional else np.float32)
        filled = 0
        with _read(self.path):
            for batch in self._dataset.to_batches(columns=[column], batch_size=max(16, (8 << 20) // (4 * width))):
                part = batch.column(0).flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
                out[filled : filled + len(part)] = part
                filled += len(part)
        assert filled == len(out)
        return out.reshape(len(out), identity.windows, identity.dimensions) if regional else out

    def rows(self, positions: Sequence[int]) -> list[GalleryRow]:
        """The rows at these positions of `load`."""
        with _read(self.path):
            table = self._dataset.take(list(positions), columns=list(_ABOUT))
        return [_row(about) for about in table.to_pylist()]

    @property
    def ann_rows(self) -> int:
        """How many rows the approximate index covers; 0 where there is none."""
        with _read(self.path):
            if not self._dataset.describe_indices():
                return 0
            statistics = self._dataset.stats.index_stats("vector_idx")
            return int(statistics["num_indexed_rows"])

    def build_ann(self) -> None:
        """Build an approximate index over all rows, or build it anew: partitions (IVF) of vectors in RaBitQ codes.

        Raises:
            UsageError: There are too few rows.
            OutputError: The disk is full or not writable.
        """
        rows = len(self)
        if rows < ANN_LEAST_ROWS:
            raise UsageError(
                f"{self.path} has {rows} pictures; an approximate index is for {ANN_LEAST_ROWS} or more, exact search "
                "is quick below that. Leave --ann out"
            )
        with _written(self.path):
            dimensions = self.identity.dimensions
            # RaBitQ's single bits need no codebook; with refinement they found as much as product quantisation with
            # 160 parts, in a third of the time (bench/search.py).
            kind, options = ("IVF_RQ", {"num_bits": 1}) if dimensions % 8 == 0 else ("IVF_FLAT", {})
            self._dataset = self._dataset.create_index(
                "vector",
                kind,
                name="vector_idx",
                metric="L2",
                replace=True,
                num_partitions=min(4096, round(rows**0.5), rows // 256),  # fewer than 256 rows each teach nothing
                **options,
            )

    def ann_search(
        self, query: NDArray[np.float32], *, top: int, probes: int, refine: int
    ) -> tuple[list[GalleryRow], NDArray[np.float64]]:
        """The nearest rows by squared distance, found through the approximate index; distances are exact.

        Args:
            query: Shape (dimensions,).
            top: How many rows.
            probes: Partitions looked into.
            refine: So many times `top` candidates are compared exactly.
        """
        nearest = {"column": "vector", "q": query, "k": top, "nprobes": probes, "refine_factor": refine}
        with _read(self.path):
            table = self._dataset.to_table(columns=[*_ABOUT, "_distance"], nearest=nearest)
        return [_row(about) for about in table.to_pylist()], table.column("_distance").to_numpy().astype(np.float64)


_SIDES = ("x", "y", "width", "height")
_ABOUT = ("path", "content_hash", *(f"box_{side}" for side in _SIDES), "width", "height")


def _row(about: dict[str, Any]) -> GalleryRow:
    box = [about[f"box_{side}"] for side in _SIDES]
    return GalleryRow(
        path=about["path"],
        content_hash=about["content_hash"],
        box=None if None in box else PixelBox(*box),
        width=about["width"],
        height=about["height"],
    )


def _schema(identity: GalleryIdentity) -> Any:
    import pyarrow as pa

    number = pa.float16() if identity.half else pa.float32()
    named = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        *(pa.field(f"box_{side}", pa.int32()) for side in _SIDES),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("vector", pa.list_(number, identity.dimensions), nullable=False),
    ]
    if identity.windows:
        size = identity.windows * identity.dimensions
        named.append(pa.field("regions", pa.list_(pa.float16(), size), nullable=False))
    return pa.schema(named)


def _as_stored(vectors: NDArray[np.floating], dtype: type[np.floating], rows: Sequence[GalleryRow]) -> NDArray[Any]:
    assert vectors.ndim == 2
    assert len(vectors) == len(rows)
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=dtype)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(bad):
        whole = np.isfinite(vectors[bad[0]]).all()
        why = "is too large for half precision; leave --half out" if whole else "holds NaN or infinity"
        raise UsageError(f"the vector of {rows[bad[0]].path} {why}; nothing of its batch was stored")
    return stored


def _storable(path: str) -> str:
    # Arrow's strings are UTF-8; a file name need not be.
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def load_lance() -> Any:
    """The lance module.

    Raises:
        MissingLibrary: pylance is not installed.
    """
    try:
        import lance
    except ImportError as error:
        raise MissingLibrary(
            f"galleries need pylance, which cannot be loaded ({error}); install it: pip install 'streamwatch[gallery]'"
        ) from error
    return lance


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # Lance raises RuntimeError for a full disk
        raise OutputError(f"cannot write the gallery {path}: {error!s:.300}") from error


@contextlib.contextmanager
def _read(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceUnusable(f"the gallery {path} cannot be read, it may be damaged: {error!s:.300}") from error
