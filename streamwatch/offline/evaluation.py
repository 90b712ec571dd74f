"""How well distances agree with people about triplets: accuracy, ranks, Wang et al.'s figures, retrieval figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamwatch.errors import UsageError
from streamwatch.offline.distances import BLOCK_BYTES
from streamwatch.offline.distances.fitting import check_finite, fit
from streamwatch.offline.distances.names import canonical
from streamwatch.offline.distances.ranking import pair_distances, ranks_among
from streamwatch.offline.retrieval import Retrieval, RetrievalMeter

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Heard = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be chosen about an evaluation."""

    seed: int = 0
    """Of the bootstrap and of the sampled class members."""

    bootstrap: int = 2000
    confidence: float = 0.95
    class_sample: int = 1000
    """Images of the query's class that a triplet is ranked among, at most."""

    top: int = 30
    """K of the score at top K."""

    block_bytes: int = BLOCK_BYTES


@dataclass(frozen=True, kw_only=True)
class ClassRestricted:
    """Wang et al. 2014, section 6.2: ranked among images of the query's own class."""

    precision: float
    """Share of triplets whose positive ranks before the negative, ties as half. Who else is in the sample changes no
    order, so it is the triplet accuracy."""

    score: float
    """Score at top K: of the triplets whose positive or negative is among the query's K nearest of the sample, those
    ranked right less those ranked wrong."""

    counted: int
    """Triplets with an image among the K nearest."""

    top: int
    sample: int
    """How many images of the class were asked for."""

    short: int
    """Triplets whose class has fewer."""

    smallest: int
    largest: int
    """Images that a triplet was ranked among, at least and at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """One metric over one set of vectors."""

    metric: str
    triplets: int
    accuracy: float
    """Share of triplets with d(q, p+) < d(q, p−), ties as half."""

    low: float
    high: float
    """Ends of the bootstrap interval of the accuracy."""

    ties: int
    undefined: int
    """Triplets with a distance that is NaN; it counts as farthest."""

    outcomes: Floats
    """1, ½ or 0 for each triplet."""

    ranks: Floats
    """(triplets, 2): of p+ and p− among the pool without the query; 1 is the nearest, ties share the mean of their
    places."""

    pool: int
    """Images that are ranked: all but the query."""

    class_restricted: ClassRestricted | None
    """None where there are no classes."""

    retrieval: Retrieval | None


def evaluate(
    vectors: NDArray[np.float32],
    triplets: Integers,
    metric: str,
    *,
    classes: Sequence[str] | None = None,
    settings: Settings | None = None,
    heard: Heard | None = None,
) -> Evaluation:
    """Evaluate one metric.

    Args:
        vectors: Of all images, (n, dimensions).
        triplets: (t, 3), numbers of query, positive and negative.
        metric: Its name. seuclidean and mahalanobis take their variances from all the vectors; dimensions that are the
            same in all of them are left out there (SciPy would divide 0 by 0).
        classes: One a triplet; one that is "" has no class.
        settings: What can be chosen.
        heard: Is told how many triplets are ranked.

    Raises:
        UsageError: An unknown metric, or vectors that it cannot compare.
    """
    settings = settings or Settings()
    name = canonical(metric)
    check_finite(vectors, name="vectors")
    if name in ("seuclidean", "mahalanobis"):
        varied = (vectors.max(axis=0) != vectors.min(axis=0)) if len(vectors) else np.ones(vectors.shape[1], bool)
        vectors = np.ascontiguousarray(vectors[:, varied])
        if not vectors.shape[1]:
            raise UsageError(f"{name}: all vectors are the same, so no dimension has a variance")
    if name == "jensenshannon" and (vectors < 0).any():
        raise UsageError(
            "jensenshannon compares shares, and these vectors hold negative numbers: take a layer behind a ReLU, or "
            "another metric"
        )
    fitted = fit(name, vectors)
    labels = None if classes is None else image_labels(triplets, classes, len(vectors))
    meter = None if labels is None else RetrievalMeter(labels)
    queries = triplets[:, 0]

    def rows(part: slice, block: Tensor) -> None:
        if meter is not None:
            meter.add(queries[part], block)

    ranks = ranks_among(
        fitted, vectors, queries, triplets[:, 1:], block_bytes=settings.block_bytes, heard=heard, rows=rows
    )
    undefined = int(np.isnan(ranks.distance).any(axis=1).sum())
    outcomes = judge(ranks.distance[:, 0], ranks.distance[:, 1])
    low, high = bootstrap_interval(outcomes, clusters(triplets, classes), settings=settings)
    restricted = None
    if classes is not None and labels is not None:
        distance = np.nan_to_num(ranks.distance, nan=np.inf, posinf=np.inf)
        members, sizes, short = class_samples(triplets, classes, settings)
        found = _nearer_members(
            distance,
            queries,
            members,
            sizes,
            lambda left, right: pair_distances(fitted, vectors, left, right, block_bytes=settings.block_bytes),
        )
        restricted = _restricted(outcomes, distance, found, sizes, short, settings)
    return Evaluation(
        metric=name,
        triplets=len(triplets),
        accuracy=float(outcomes.mean()),
        low=low,
        high=high,
        ties=int((outcomes == 0.5).sum()),
        undefined=undefined,
        outcomes=outcomes,
        ranks=ranks.rank,
        pool=len(vectors) - 1,
        class_restricted=restricted,
        retrieval=None if meter is None else meter.result(),
    )


def judge(positive: Floats, negative: Floats) -> Floats:
    """1 where the positive is nearer, 0 where the negative is, ½ where they tie; NaN is farthest."""
    near, far = (np.nan_to_num(each, nan=np.inf, posinf=np.inf) for each in (positive, negative))
    return np.where(near == far, 0.5, (near < far).astype(np.float64))


def image_labels(triplets: Integers, classes: Sequence[str], images: int) -> Integers:
    """A number for each image's class: that of the first triplet it is in; -1 for none."""
    names = {name: number for number, name in enumerate(dict.fromkeys(name for name in classes if name))} | {"": -1}
    labels = np.full(images, -1, np.int64)
    # Backwards, so that the first stands.
    labels[triplets[::-1].ravel()] = np.repeat([names[name] for name in reversed(classes)], triplets.shape[1])
    return labels


def clusters(triplets: Integers, classes: Sequence[str] | None) -> Integers:
    """What the bootstrap draws as one: the triplets of a class or, without classes, of a query.

    Triplets of one text query share pictures' kind and difficulty: drawn singly, the interval would be too narrow.
    """
    of_query = np.unique(triplets[:, 0], return_inverse=True)[1].astype(np.int64)
    if classes is None:
        return of_query
    names = [name or f"\0{query}" for name, query in zip(classes, of_query, strict=True)]
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def bootstrap_interval(values: Floats, groups: Integers, *, settings: Settings) -> tuple[float, float]:
    """The mean's percentile interval, whole groups being drawn with replacement (Efron & Tibshirani 1993, 13.3)."""
    rng = np.random.default_rng(settings.seed)
    count = int(groups.max()) + 1
    totals, sizes = np.bincount(groups, values, minlength=count), np.bincount(groups, minlength=count)
    means = np.empty(settings.bootstrap)
    step = max(1, (64 << 20) // (8 * count))
    for start in range(0, settings.bootstrap, step):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(step, settings.bootstrap - start))
        means[start : start + len(drawn)] = (drawn @ totals) / (drawn @ sizes)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def class_samples(
    triplets: Integers, classes: Sequence[str], settings: Settings
) -> tuple[list[Integers], Integers, int]:
    """For each triplet, which images of its class it is ranked among, besides p+ and p−.

    All of the class's images but the query, or `class_sample` of them, drawn by the seed; p+ and p− are always among
    them.

    Returns:
        The images without query, p+ and p−; how many are ranked with p+ and p−; how many triplets' classes are smaller
        than asked for.
    """
    rng = np.random.default_rng(settings.seed)
    groups = clusters(triplets, classes)
    of_class = [np.unique(triplets[groups == number]) for number in range(int(groups.max()) + 1)]
    others: list[Integers] = []
    short = 0
    for triplet, group in zip(triplets, groups, strict=True):
        rest = of_class[group][~np.isin(of_class[group], triplet)]
        wanted = max(settings.class_sample - 2, 0)
        short += len(rest) < wanted
        if len(rest) > wanted:
            rest = rng.choice(rest, wanted, replace=False)
        others.append(rest)
    return others, np.array([len(rest) + 2 for rest in others], np.int64), short


def _nearer_members(
    distance: Floats,
    queries: Integers,
    members: Sequence[Integers],
    sizes: Integers,
    measure: Callable[[Integers, Integers], Floats],
) -> Integers:
    """How many sampled images are nearer to the query than the nearer of p+ and p−."""
    nearest = distance.min(axis=1)
    counts = np.zeros(len(queries), np.int64)
    step = 1 << 18  # pairs at a time
    ends = np.cumsum(sizes - 2)
    start = 0
    while start < len(queries):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + step, side="right")))
        owner = np.repeat(np.arange(start, stop), (sizes - 2)[start:stop])
        if len(owner):
            far = measure(queries[owner], np.concatenate(members[start:stop]))
            near = np.nan_to_num(far, nan=np.inf, posinf=np.inf) < nearest[owner]
            counts += np.bincount(owner[near], minlength=len(queries))
        start = stop
    return counts


def _restricted(
    outcomes: Floats, distance: Floats, nearer: Integers, sizes: Integers, short: int, settings: Settings
) -> ClassRestricted:
    among_top = nearer < settings.top  # the better of the two has rank nearer + 1
    right = (outcomes == 1) & among_top
    wrong = (outcomes == 0) & among_top
    return ClassRestricted(
        precision=float(outcomes.mean()),
        score=float(right.sum() - wrong.sum()),
        counted=int(among_top.sum()),
        top=settings.top,
        sample=settings.class_sample,
        short=short,
        smallest=int(sizes.min()),
        largest=int(sizes.max()),
    )
