"""Exact search beside FAISS flat and SciPy, the time a gallery takes to load, and the approximate index beside exact.

Exact: 27,000 × 4,096 generated vectors, one and fifty queries, ten results; all methods in one run, in turn, and their
results compared. Approximate: vectors generated with the spectrum of real features (see `features_like`), recall of
the exact ten, latency and bytes; a million of them with --full (some 25 minutes, 12 GB of disk).

    python bench/search.py [--full] [--json] [--quick]
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it; it holds for all methods here

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from _common import BUILD, Check, Outcome, middle, options_of, rounds_in_turn, say, show
from numpy.typing import NDArray

from streamwatch.offline.gallery import Gallery
from streamwatch.offline.gallery_records import GalleryIdentity, GalleryRow
from streamwatch.offline.search import ExactSearch
from streamwatch.records import Grid

TOP = 10
ROWS, DIMENSIONS, QUERIES = 27_000, 4096, 50
ANN_DIMENSIONS = 1280
CLUSTERS_EACH = 100
"""Vectors a cluster, about: how many pictures of a kind a collection holds."""


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--full", action="store_true", help="the approximate index over a million vectors")
    parser.add_argument("--only", choices=("exact", "ann"), help="one part alone")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each method (default: 7)")
    options = parser.parse_args()
    outcome = Outcome(
        bench="search",
        claim="Exact search beside FAISS flat and SciPy, with the same results; the approximate index beside exact",
        notes=["Times are medians of rounds in turn, milliseconds; ratios are of those medians."],
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.only != "ann":
        exact(outcome, rows=2000 if options.quick else ROWS, rounds=1 if options.quick else options.rounds)
    if options.only != "exact":
        approximate(outcome, rows=12_000 if options.quick else 1_000_000 if options.full else 50_000)
    show(outcome, as_json=options.json)
    return 0


def exact(outcome: Outcome, *, rows: int, rounds: int) -> None:
    """Times and results of one and fifty queries, and the time to load."""
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((rows, DIMENSIONS), dtype=np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    asked = rng.standard_normal((QUERIES, DIMENSIONS), dtype=np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    outcome.settings.update(rows=rows, dimensions=DIMENSIONS, top=TOP, cores=len(os.sched_getaffinity(0)))
    load_time(outcome, stored, rounds=rounds)

    try:
        import faiss
    except ImportError:
        outcome.notes.append("FAISS is not installed, so nothing was compared: pip install 'streamwatch[bench]'")
        return
    from scipy.spatial.distance import cdist

    ours = ExactSearch(stored)
    started_s = perf_counter()
    first = ours.search(asked, top=TOP).positions
    first_ms = 1000 * (perf_counter() - started_s)
    started_s = perf_counter()
    outcome.settings.update(codes=ours.prepare())
    prepared_ms = 1000 * (perf_counter() - started_s)
    flat = faiss.IndexFlatL2(DIMENSIONS)
    flat.add(stored)
    outcome.settings.update(faiss=faiss.__version__, faiss_threads=faiss.omp_get_max_threads())

    def scipy() -> NDArray[np.int64]:
        matrix = cdist(asked, stored, "sqeuclidean")
        near = np.argpartition(matrix, TOP, axis=1)[:, :TOP]
        order = np.argsort(np.take_along_axis(matrix, near, 1), axis=1, kind="stable")
        return np.take_along_axis(near, order, 1)

    say("SciPy, once")
    started_s = perf_counter()
    right = scipy()
    scipy_s = [perf_counter() - started_s]
    outcome.rows += [
        {
            "what": "exact, streamwatch 50 queries, the first time, before codes",
            "ms": round(first_ms),
            "same as SciPy": bool((first == right).all()),
        },
        {"what": "codes for many queries, made once", "ms": round(prepared_ms)},
    ]
    positions = {
        "streamwatch": ours.search(asked, top=TOP).positions,
        "FAISS flat": flat.search(asked, TOP)[1],
    }
    one = asked[:1]
    work: dict[str, Callable[[], object]] = {
        "streamwatch 1": lambda: ours.search(one, top=TOP),
        "FAISS flat 1": lambda: flat.search(one, TOP),
        "streamwatch 50": lambda: ours.search(asked, top=TOP),
        "FAISS flat 50": lambda: flat.search(asked, TOP),
    }
    taken = rounds_in_turn(work, rounds=rounds)
    cpu = {name: cpu_ms(run) for name, run in work.items()}
    if rounds > 1:
        scipy_s += rounds_in_turn({"SciPy": scipy}, rounds=2)["SciPy"]
    ms = {name: middle([1000 * value for value in values]) for name, values in taken.items()}
    ms["SciPy cdist 50"] = middle([1000 * value for value in scipy_s])
    for name, value in ms.items():
        method = name.rsplit(" ", 1)[0]
        found = positions.get(method, right)
        outcome.rows.append(
            {
                "what": f"exact, {name} quer{'y' if name.endswith(' 1') else 'ies'}",
                "ms": value,
                "CPU ms": cpu.get(name),
                "same as SciPy": bool((found == right).all()),
            }
        )
    ratio = {count: ms[f"FAISS flat {count}"] / ms[f"streamwatch {count}"] for count in (1, 50)}
    outcome.checks += [
        Check(name="times faster than FAISS flat, 1 query", value=ratio[1], target=3, at_most=False),
        Check(name="times faster than FAISS flat, 50 queries", value=ratio[50], target=3, at_most=False),
        Check(
            name="times faster than SciPy, 50 queries",
            value=ms["SciPy cdist 50"] / ms["streamwatch 50"],
            target=30,
            at_most=False,
        ),
        Check(
            name="results that are SciPy's",
            value=float((positions["streamwatch"] == right).mean()),
            target=1.0,
            at_most=False,
        ),
    ]


def cpu_ms(run: Callable[[], object]) -> float:
    """CPU time of all threads, the least of five: other work on the machine hardly changes it."""
    least = float("inf")
    for _ in range(5):
        started_s = process_time()
        run()
        least = min(least, process_time() - started_s)
    return round(1000 * least, 1)


def load_time(outcome: Outcome, stored: NDArray[np.float32], *, rounds: int) -> None:
    """A gallery on disk: read as bytes, and loaded ready to be searched."""
    gallery = made("exact.lance", stored)
    files = sorted((gallery.path / "data").iterdir())

    def read() -> None:
        for path in files:
            path.read_bytes()

    taken = rounds_in_turn(
        {"read": read, "loaded": lambda: Gallery.open(gallery.path).load(), "ready": lambda: ready(gallery.path)},
        rounds=max(3, rounds),
    )
    ms = {name: middle([1000 * value for value in values]) for name, values in taken.items()}
    size = sum(path.stat().st_size for path in files)
    outcome.rows += [
        {"what": f"gallery of {size >> 20} MB: read its bytes", "ms": ms["read"]},
        {"what": "opened and loaded", "ms": ms["loaded"]},
        {"what": "opened, loaded, checked and ready to search", "ms": ms["ready"]},
    ]
    outcome.checks.append(Check(name="loading ÷ reading the bytes", value=ms["ready"] / ms["read"], target=3))
    shutil.rmtree(gallery.path)


def ready(path: Path) -> ExactSearch:
    """A gallery, ready to be searched."""
    return ExactSearch(Gallery.open(path).load())


def made(name: str, vectors: NDArray[np.float32] | Iterator[NDArray[np.float32]], *, half: bool = False) -> Gallery:
    """A new gallery of these vectors."""
    path = BUILD / name
    shutil.rmtree(path, ignore_errors=True)
    parts = iter([vectors]) if isinstance(vectors, np.ndarray) else vectors
    gallery, count = None, 0
    for part in parts:
        if gallery is None:
            gallery = Gallery.create(path, identity(part.shape[1], half=half))
        rows = [
            GalleryRow(content_hash=f"{count + n:064x}", path=f"/{count + n}", width=1, height=1)
            for n in range(len(part))
        ]
        with gallery.writing():
            gallery.append(rows, part)
        count += len(part)
    assert gallery is not None
    return gallery


def identity(dimensions: int, *, half: bool) -> GalleryIdentity:
    """Of vectors that no network made."""
    return GalleryIdentity(
        network="generated",
        layer="none",
        weights_id="none",
        fit="squash",
        pooling="mean",
        unit_length=True,
        dimensions=dimensions,
        grid=Grid(1, 1),
        half=half,
    )


def features_like(rows: int, rng: np.random.Generator, *, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors spread somewhat as pooled features of photos are.

    The constants were chosen, not measured: the eigenvalues of the covariance fall as i to the power of −0.9 for the
    first 300 and then faster, and about half of the variance lies between kinds of pictures.
    """
    spectrum = spectrum_of(centres.shape[1])
    within = rng.standard_normal((rows, centres.shape[1]), dtype=np.float32) * np.sqrt(spectrum)
    vectors = MEAN_LENGTH * _mean_direction(centres.shape[1]) + centres[rng.integers(len(centres), size=rows)]
    vectors = vectors + np.float32(WITHIN**0.5) * within
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


MEAN_LENGTH = 0.6
WITHIN = 0.5


def spectrum_of(dimensions: int) -> NDArray[np.float32]:
    """The share of the variance along each axis; their sum is what unit vectors have left beside their mean."""
    index = np.arange(1, dimensions + 1)
    falling = index**-0.9 * np.exp(-index / 400)
    return np.asarray(falling / falling.sum() * (1 - MEAN_LENGTH**2), np.float32)


def _mean_direction(dimensions: int) -> NDArray[np.float32]:
    return np.full(dimensions, dimensions**-0.5, np.float32)


def approximate(outcome: Outcome, *, rows: int) -> None:
    """Recall, latency and bytes of the approximate index."""
    rng = np.random.default_rng(1)
    count = max(10, rows // CLUSTERS_EACH)
    spread = np.sqrt((1 - WITHIN) * spectrum_of(ANN_DIMENSIONS))
    centres = rng.standard_normal((count, ANN_DIMENSIONS), dtype=np.float32) * spread
    asked = features_like(50, rng, centres=centres)
    part = min(rows, 50_000)
    say(f"{rows:,} vectors of {ANN_DIMENSIONS}")
    gallery = made("ann.lance", (features_like(part, rng, centres=centres) for _ in range(rows // part)), half=True)
    before = tree_bytes(gallery.path)
    say("building the index")
    started_s = perf_counter()
    with gallery.writing():
        gallery.build_ann()
    built_s = perf_counter() - started_s
    index_bytes = tree_bytes(gallery.path / "_indices")
    say("exact search")
    best_d = np.full((len(asked), 0), 0.0)
    best_p = np.zeros((len(asked), 0), np.int64)
    exact_s = 0.0
    for start, block in blocks_of(gallery, part):
        search = ExactSearch(block)
        started_s = perf_counter()
        found = search.search(asked, top=TOP)
        exact_s += perf_counter() - started_s
        best_d, best_p = np.hstack((best_d, found.distances)), np.hstack((best_p, found.positions + start))
    order = np.argsort(best_d, axis=1, kind="stable")[:, :TOP]
    right = np.take_along_axis(best_p, order, 1)
    outcome.settings.update(ann_rows=rows, ann_dimensions=ANN_DIMENSIONS, ann_half=True)
    recall_of = {}
    for probes, refine in ((16, 10), (64, 20), (128, 40)):
        taken, hits = [], 0
        for number, query in enumerate(asked):
            started_s = perf_counter()
            found_rows, _ = gallery.ann_search(query, top=TOP, probes=probes, refine=refine)
            taken.append(1000 * (perf_counter() - started_s))
            hits += len({int(row.path[1:]) for row in found_rows} & set(right[number].tolist()))
        recall_of[probes] = hits / right.size
        outcome.rows.append(
            {
                "what": f"approximate over {rows:,}, {probes} probes, {refine} × {TOP} refined",
                "ms": middle(taken[2:]),
                "recall@10": recall_of[probes],
            }
        )
    outcome.rows.append({"what": f"exact over {rows:,}, 50 queries, a query", "ms": round(1000 * exact_s / 50, 2)})
    outcome.rows.append({"what": "building the index", "ms": round(1000 * built_s)})
    outcome.notes.append(f"Bytes: vectors {before / 1e6:,.0f} MB, approximate index {index_bytes / 1e6:,.0f} MB.")
    outcome.checks.append(Check(name="recall@10 of the default", value=recall_of[64], target=0.95, at_most=False))
    shutil.rmtree(gallery.path)


def blocks_of(gallery: Gallery, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first row, vectors): a million do not fit the memory beside everything else."""
    import lance

    dataset = lance.dataset(str(gallery.path))
    for start in range(0, len(gallery), rows):
        table = dataset.take(range(start, min(start + rows, len(gallery))), columns=["vector"])
        flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        yield start, np.ascontiguousarray(flat.reshape(-1, ANN_DIMENSIONS), np.float32)


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
