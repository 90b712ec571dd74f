"""Distances: SciPy's values under SciPy's names, and exact ranks from blocks in single precision."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from streamwatch.errors import UsageError
from streamwatch.offline.distances import METRICS, canonical, pairwise
from streamwatch.offline.distances.fitting import fit
from streamwatch.offline.distances.names import BOOLEAN
from streamwatch.offline.distances.ranking import ranks_among

OTHER_NAMES = {"hamming-binary": "hamming", "matching": "hamming", "sokalmichener": "rogerstanimoto"}
DROPPED_BY_SCIPY = ("kulsinski", "kulczynski1")
OF_SCIPY = [name for name in METRICS if name not in (*DROPPED_BY_SCIPY, "mahalanobis", "jensenshannon")]

Floats = NDArray[np.float64]

numbers = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 6.0, 1e-3]) | st.floats(-1e3, 1e3, width=32)


def of_scipy(metric: str, left: NDArray[np.generic], right: NDArray[np.generic]) -> Floats:
    """What SciPy's cdist gives; boolean metrics on x > 0, as documented."""
    x, y = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if metric in BOOLEAN:
        x, y = x > 0, y > 0
    with np.errstate(all="ignore"):
        return np.asarray(cdist(x, y, OTHER_NAMES.get(metric, metric)))


def constant(vectors: NDArray[np.generic]) -> NDArray[np.bool_]:
    array = np.asarray(vectors)
    return np.asarray(array.min(axis=1) == array.max(axis=1))


@pytest.mark.parametrize("metric", OF_SCIPY)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_values_are_scipys(metric: str, data: st.DataObject) -> None:
    # Given vectors of any real numbers, with zeros, repeats and constant ones among them
    dimensions = data.draw(st.integers(1, 9))
    queries = data.draw(arrays(np.float64, (data.draw(st.integers(1, 4)), dimensions), elements=numbers))
    gallery = data.draw(arrays(np.float64, (data.draw(st.integers(1, 5)), dimensions), elements=numbers))
    # When they are compared
    got = pairwise(metric, queries, gallery)
    # Then the values are SciPy's
    wanted = of_scipy(metric, queries, gallery)
    if metric == "correlation":
        # SciPy's mean of equal numbers can differ from them in the last digit, and what follows is noise; here, as by
        # the definition, a constant vector has no correlation.
        none = constant(queries)[:, None] | constant(gallery)[None]
        assert np.isnan(got[none]).all()
        # Nearly constant ones lose their digits in SciPy and here alike.
        spread = [(v - v.mean(1, keepdims=True)).std(1) > 1e-6 * np.abs(v).max(1) for v in (queries, gallery)]
        sound = spread[0][:, None] & spread[1][None] & ~none
        np.testing.assert_allclose(got[sound], wanted[sound], rtol=1e-5, atol=1e-5)
        return
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_jensenshannon_has_scipys_values_for_vectors_without_negative_numbers(data: st.DataObject) -> None:
    positive = st.sampled_from([0.0, 1.0, 2.5]) | st.floats(2.0**-20, 1e3, width=32)
    dimensions = data.draw(st.integers(1, 9))
    queries, gallery = (data.draw(arrays(np.float64, (3, dimensions), elements=positive)) for _ in range(2))
    got, wanted = pairwise("jensenshannon", queries, gallery), of_scipy("jensenshannon", queries, gallery)
    # Of equal shares SciPy may take the root of a rounding error below 0; here their distance is 0.
    wanted = np.where(np.isnan(wanted) & (got < 1e-7), 0.0, wanted)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", [*OF_SCIPY, "mahalanobis", "jensenshannon"])
def test_values_are_scipys_for_vectors_like_a_networks(metric: str) -> None:
    # Given float32 vectors as a ReLU leaves them, two of them alike and one near another
    rng = np.random.default_rng(1)
    vectors = np.maximum(rng.normal(0.3, 1, (90, 40)), 0).astype(np.float32)
    vectors[7] = vectors[8]
    vectors[9] = vectors[10] * np.float32(1 + 1e-6)
    # When some are compared with all, in blocks of very little memory
    got = pairwise(metric, vectors[:20], vectors, block_bytes=20_000)
    # Then
    np.testing.assert_allclose(got, of_scipy(metric, vectors[:20], vectors), rtol=1e-5, atol=1e-5)
    assert np.array_equal(np.isnan(got), np.isnan(of_scipy(metric, vectors[:20], vectors)))


def test_metrics_that_scipy_dropped_keep_their_documented_values() -> None:
    x, y = np.array([[1.0, 1, 0, 0, 1]]), np.array([[1.0, 0, 1, 0, 1]])  # TT 2, TF 1, FT 1, FF 1
    assert pairwise("kulsinski", x, y)[0, 0] == pytest.approx((2 - 2 + 5) / (2 + 5))
    assert pairwise("kulczynski1", x, y)[0, 0] == pytest.approx(2 / 2)
    assert pairwise("sokalmichener", x, y)[0, 0] == pytest.approx(2 * 2 / (3 + 2 * 2))
    assert pairwise("matching", x, y)[0, 0] == pytest.approx(2 / 5)


def test_boolean_metrics_act_on_what_is_above_zero_and_hamming_on_the_values() -> None:
    x, y = np.array([[0.5, -1.0, 2.0, 0.0]]), np.array([[0.7, -3.0, 2.0, 1.0]])
    assert pairwise("hamming", x, y)[0, 0] == 0.75
    assert pairwise("hamming-binary", x, y)[0, 0] == 0.25
    assert pairwise("dice", x, y)[0, 0] == pytest.approx(1 / 5)


def test_minkowski_takes_an_exponent() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(3, 6)), rng.normal(size=(4, 6))
    np.testing.assert_allclose(pairwise("minkowski:3", x, y), cdist(x, y, "minkowski", p=3), rtol=1e-9)
    with pytest.raises(UsageError, match=r"minkowski:0\.5.*from 1 on"):
        pairwise("minkowski:0.5", x, y)


def test_near_vectors_keep_their_digits() -> None:
    # Given vectors far from the origin and near to each other, where ‖x‖² + ‖y‖² − 2xy has no digits left
    x = np.full((1, 64), 1e4)
    y = x + 1e-4
    # Then the distance is still there
    assert pairwise("euclidean", x, y)[0, 0] == pytest.approx(8e-4, rel=1e-5)
    assert pairwise("sqeuclidean", x, x)[0, 0] == 0


@pytest.mark.parametrize(
    ("written", "meant"), [("eucledian", "euclidean"), ("Cosin", "cosine"), ("hamming_binary", "hamming-binary")]
)
def test_an_unknown_name_is_refused_with_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        pairwise(written, np.ones((1, 2)), np.ones((1, 2)))


def test_scipys_other_spellings_are_understood() -> None:
    assert [canonical(name) for name in ("SqEuclid", "cos", "mahal", "minkowski:3.0")] == [
        *("sqeuclidean", "cosine", "mahalanobis", "minkowski:3")
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_reported_with_their_rows(bad: float) -> None:
    gallery = np.ones((7, 3))
    gallery[[2, 5], 1] = bad
    with pytest.raises(UsageError, match=r"2 of 7 gallery hold NaN or infinity \(row 2, 5\)"):
        pairwise("cosine", np.ones((1, 3)), gallery)


def test_vectors_of_other_dimensions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"gallery have 4 dimensions, the queries 3"):
        pairwise("cosine", np.ones((1, 3)), np.ones((2, 4)))


def test_mahalanobis_asks_for_more_vectors_than_dimensions_and_for_an_inverse() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(UsageError, match=r"got 5 vectors of 8 dimensions"):
        pairwise("mahalanobis", rng.normal(size=(2, 8)), rng.normal(size=(3, 8)))
    flat = rng.normal(size=(40, 3))
    flat[:, 2] = flat[:, 0] + flat[:, 1]
    with pytest.raises(UsageError, match="has no inverse"):
        pairwise("mahalanobis", flat[:10], flat[10:])


def test_nothing_comes_of_no_queries() -> None:
    assert pairwise("cosine", np.ones((0, 3)), np.ones((4, 3))).shape == (0, 4)
    assert pairwise("sqeuclidean", np.ones((2, 3)), np.ones((0, 3))).shape == (2, 0)


def test_names_are_known_without_torch_or_scipy() -> None:
    code = (
        "import sys, streamwatch.offline.distances as d; d.canonical('cos'); "
        "print({'torch', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def pool_of(kind: str, rows: int = 260, dimensions: int = 24) -> NDArray[np.float32]:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(rows, dimensions))
    if kind != "any":
        vectors = np.maximum(vectors, 0)
    if kind == "unit":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[5, 6]] = vectors[7]  # Three pictures that are the same …
    if kind == "any":
        vectors[9] = 0  # … and one that shows nothing.
    return vectors.astype(np.float32)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        (metric, kind)
        for metric in METRICS
        for kind in ("any", "relu", "unit")
        # jensenshannon compares shares, which are not negative
        if metric not in DROPPED_BY_SCIPY and (metric, kind) != ("jensenshannon", "any")
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 28, 30_000])
def test_ranks_are_those_of_scipys_distances(metric: str, kind: str, block_bytes: int) -> None:
    # Given a pool with duplicates, queries and two targets for each
    pool = pool_of(kind)
    rng = np.random.default_rng(5)
    queries = rng.permutation(len(pool))[:30]
    targets = np.stack([(queries + rng.integers(1, len(pool), 30)) % len(pool) for _ in range(2)], axis=1)
    queries[:3], targets[:3] = (5, 9, 12), ((6, 8), (10, 11), (9, 13))
    fitted = fit(metric, pool)
    # When they are ranked
    found = ranks_among(fitted, pool, queries, targets, block_bytes=block_bytes)
    # Then each has the place that SciPy's distances give it, ties sharing theirs, NaN last
    more = {}
    if metric == "seuclidean":
        more = {"V": fitted.variance}
    elif metric == "mahalanobis":
        more = {"VI": fitted.precision}
    wide = pool.astype(np.float64)
    everything = wide > 0 if metric in BOOLEAN else wide
    with np.errstate(all="ignore"):
        distances = cdist(everything[queries], everything, OTHER_NAMES.get(metric, metric), **more)
    distances = np.round(np.nan_to_num(distances, nan=np.inf, posinf=np.inf), 11)
    for row, (query, own) in enumerate(zip(queries, targets, strict=True)):
        others = np.delete(np.arange(len(pool)), query)
        places = dict(zip(others, rankdata(distances[row, others]), strict=True))
        assert [places[target] for target in own] == found.rank[row].tolist()


def test_single_precision_leaves_little_open() -> None:
    pool = pool_of("unit", rows=1000, dimensions=64)
    queries = np.arange(100, 200)
    found = ranks_among(fit("sqeuclidean", pool), pool, queries, (queries + 300)[:, None])
    assert found.settled_anew < 100  # of 100,000 comparisons
