"""Distances: SciPy's values, and what spread and medoid mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from streamwatch.change.distances import medoids, spreads, squared_distances
from tests.builders import unit


def brute(window: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pairwise squared distances of each region, shape (regions, samples, samples), in double precision."""
    return np.stack([cdist(window[:, r], window[:, r], "sqeuclidean") for r in range(window.shape[1])])


windows = st.builds(
    lambda samples, regions, dimensions, seed: unit(
        np.random.default_rng(seed).normal(size=(samples, regions, dimensions))
    ),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(2, 40),
    st.integers(0, 2**32 - 1),
)


@given(windows)
def test_distances_between_opposite_vectors_are_scipys(window: NDArray[np.float32]) -> None:
    # Given the first and the last sample of a window
    first, last = window[0], window[-1]
    # When SciPy measures every pair, then its diagonal is what we measure
    expected = np.diagonal(cdist(first, last, "sqeuclidean"))
    assert squared_distances(first, last) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_vectors_that_are_nearly_equal_keep_their_small_distance() -> None:
    # Given long vectors that differ by a thousandth in one place, where |a|² + |b|² − 2ab would be lost in rounding
    one = np.full((1, 4096), 10.0, dtype=np.float32)
    other = one.copy()
    other[0, 7] += 0.001
    # When the distance is measured, then it is there
    assert squared_distances(one, other)[0] == pytest.approx(1e-6, rel=1e-2)


def test_one_window_is_measured_against_one_state_by_broadcasting() -> None:
    window = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert squared_distances(window, window[0]).tolist() == [[0, 0, 0], [576, 576, 576]]


@given(windows)
def test_a_spread_is_the_largest_distance_of_any_pair(window: NDArray[np.float32]) -> None:
    assert spreads(window) == pytest.approx(brute(window).max(axis=(1, 2)), rel=1e-4, abs=2e-6)


@given(windows)
def test_a_medoid_was_seen_and_no_other_sample_lies_nearer_to_all(window: NDArray[np.float32]) -> None:
    # Given the exact sums of distances
    totals = brute(window).sum(axis=2)
    # When the medoids are taken
    chosen = medoids(window)
    for region in range(window.shape[1]):
        # Then each is one of the samples, and its sum is the smallest but for rounding
        same = np.flatnonzero((window[:, region] == chosen[region]).all(axis=1))
        assert len(same) >= 1
        assert totals[region, same].min() <= totals[region].min() + 1e-4


def test_one_odd_sample_moves_no_medoid() -> None:
    # Given five samples of one thing and one of another
    rng = np.random.default_rng(3)
    usual = unit(rng.normal(size=(1, 4, 16)))
    window = unit(np.repeat(usual, 6, axis=0) + rng.normal(0, 0.01, (6, 4, 16)))
    window[4] = -usual[0]
    # When the medoid is taken, then it looks like the five
    assert squared_distances(medoids(window), usual[0]).max() < 0.02


def test_a_window_of_one_sample_is_its_own_medoid_and_has_no_spread() -> None:
    window = unit(np.random.default_rng(0).normal(size=(1, 5, 8)))
    assert (medoids(window) == window[0]).all()
    assert spreads(window).max() < 1e-6
