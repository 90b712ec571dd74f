"""Ranks of all triplets' images: streamwatch's blocked ranks against SciPy's cdist and argsort over the same pool.

The pool is generated: as many vectors and triplets as the development triplets have, from classes, behind a ReLU and at
unit length. SciPy gets a part of the queries, since some of its metrics would take an hour; its time is scaled up by
their number, in which it is linear. Ranks are compared on that part, place by place. Both run in one process, in turn.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # As the command has it; to be set before torch is loaded.

import numpy as np
from _common import Check, Outcome, options_of, say, show
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from streamwatch.offline.distances import METRICS
from streamwatch.offline.distances.fitting import Fitted, fit
from streamwatch.offline.distances.names import BOOLEAN, PRODUCTS
from streamwatch.offline.distances.ranking import Ranks, ranks_among

POOL, TRIPLETS, DIMENSIONS = 7383, 2461, 1280
LEAST_RATIO = 20.0
OTHER_NAMES = {"hamming-binary": "hamming", "matching": "hamming", "sokalmichener": "rogerstanimoto"}
MATRIX_PRODUCTS = PRODUCTS | BOOLEAN
BLOCK_BYTES = 64 << 20


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--queries", type=int, default=200, help="queries that SciPy ranks (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both; the medians count (default: 3)")
    parser.add_argument("--metric", action="append", metavar="NAME", help="only this metric; repeatable")
    options = parser.parse_args()
    size = (600, 200, 64) if options.quick else (POOL, TRIPLETS, DIMENSIONS)
    rounds, some = (1, 20) if options.quick else (options.rounds, options.queries)
    pool = 2_000 if options.quick else 60_000
    extra = extra_mb(pool)  # first, while no freed memory is at hand
    vectors, triplets = generated(*size)
    names = options.metric or [name for name in METRICS if name not in ("kulsinski", "kulczynski1")]
    outcome = Outcome(
        bench="evaluation",
        claim=f"Ranks of {len(triplets):,} triplets among {len(vectors):,} vectors of {size[2]:,} dimensions",
        settings={"rounds": rounds, "SciPy's queries": some, "vectors": "generated"},
    )
    for name in names:
        say(f"{name} …")
        outcome.rows.append(row(name, vectors, triplets, some=some, rounds=rounds))
    if not options.quick:
        for each in outcome.rows:
            if each["metric"] in MATRIX_PRODUCTS:
                outcome.checks.append(
                    Check(name=each["metric"], value=each["ratio"], target=LEAST_RATIO, at_most=False)
                )
    outcome.checks.append(
        Check(name=f"extra memory over a pool of {pool:,}, MB", value=extra, target=1.5 * BLOCK_BYTES / 1e6)
    )
    outcome.notes.append(
        "Ranks were equal on all of SciPy's queries: each of streamwatch's is where argsort put the image, or, where "
        "distances tie, among the places of the tie."
    )
    show(outcome, as_json=options.json)


def generated(pool: int, count: int, dimensions: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit-length vectors without negative numbers, about a third of them 0, in classes of 13, and triplets of any."""
    rng = np.random.default_rng(0)
    classes = max(1, pool // 13)
    kinds = rng.integers(0, classes, pool)
    centres = rng.normal(0.3, 0.7, (classes, dimensions)).astype(np.float32)
    vectors = np.maximum(centres[kinds] + rng.normal(0, 0.5, (pool, dimensions)).astype(np.float32), 0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.permutation(pool)[:count]
    shifts = np.stack([rng.permutation(pool - 1)[:2] + 1 for _ in range(count)])
    return vectors, np.column_stack([queries, (queries[:, None] + shifts) % pool]).astype(np.int64)


def row(
    name: str, vectors: NDArray[np.float32], triplets: NDArray[np.int64], *, some: int, rounds: int
) -> dict[str, object]:
    """One metric's times and their ratio.

    Raises:
        AssertionError: The ranks differ.
    """
    ours_s, theirs_s = [], []
    scale = len(triplets) / some
    for _ in range(rounds):
        started_s, cpu_s = time.perf_counter(), time.process_time()
        fitted = fit(name, vectors)
        ranks = ranks_among(fitted, vectors, triplets[:, 0], triplets[:, 1:])
        ours_s.append((time.perf_counter() - started_s, time.process_time() - cpu_s))
        started_s, cpu_s = time.perf_counter(), time.process_time()
        distances, order = by_scipy(fitted, vectors, triplets[:some, 0])
        theirs_s.append(((time.perf_counter() - started_s) * scale, (time.process_time() - cpu_s) * scale))
        compare(ranks, distances, order, triplets[:some])
    (ours, ours_cpu), (theirs, theirs_cpu) = np.median(ours_s, axis=0), np.median(theirs_s, axis=0)
    return {
        "metric": name,
        "streamwatch_s": round(float(ours), 3),
        "scipy_s": round(float(theirs), 1),
        "ratio": round(float(theirs / ours), 1),
        "ratio of CPU s": round(float(theirs_cpu / ours_cpu), 1),
        "settled anew": ranks.settled_anew,
    }


def by_scipy(
    fitted: Fitted, vectors: NDArray[np.float32], queries: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What a user would write: all distances, sorted."""
    more = {"V": fitted.variance} if fitted.variance is not None else {}
    more |= {"VI": fitted.precision} if fitted.precision is not None else {}
    name = OTHER_NAMES.get(fitted.name, fitted.name)
    pool = vectors > 0 if fitted.name in BOOLEAN else vectors
    distances = cdist(pool[queries], pool, name, **more)
    distances[np.arange(len(queries)), queries] = np.inf
    return distances, np.argsort(distances, axis=1)


def compare(
    ranks: Ranks, distances: NDArray[np.float64], order: NDArray[np.int64], triplets: NDArray[np.int64]
) -> None:
    """Nothing, where the ranks are the same."""
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(1, order.shape[1] + 1)[None].repeat(len(order), axis=0), axis=1)
    theirs = np.take_along_axis(places, triplets[:, 1:], axis=1)
    first = 1 + ranks.nearer[: len(triplets)]
    last = first + ranks.tied[: len(triplets)]
    exact = np.take_along_axis(distances, triplets[:, 1:], axis=1)
    off = (theirs < first) | (theirs > last)
    for query, target in np.argwhere(off):
        # SciPy sums in another order: what differs in the last digit there may stand the other way round.
        near = np.isclose(distances[query], exact[query, target], rtol=1e-13, atol=1e-13).sum() - 1
        distance_off = max(first[query, target] - theirs[query, target], theirs[query, target] - last[query, target])
        assert distance_off <= near, (query, target, theirs[query, target], first[query, target], near)


def extra_mb(pool: int) -> float:
    """Megabytes of memory that ranking takes at most, beyond its input."""
    vectors, triplets = generated(pool, 300, 128)
    fitted = fit("sqeuclidean", vectors)
    ranks_among(fitted, vectors[:500], np.array([0]), np.array([[1, 2]]))  # what torch takes once
    done = threading.Event()
    start = peak = resident_mb()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    ranks_among(fitted, vectors, triplets[:, 0], triplets[:, 1:], block_bytes=BLOCK_BYTES)
    done.set()
    watcher.join()
    return round(peak - start, 1)


def resident_mb() -> float:
    """This process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


if __name__ == "__main__":
    main()
