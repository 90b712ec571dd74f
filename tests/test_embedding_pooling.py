"""One vector a picture of all of a layer's places: GeM, maximum, mean and R-MAC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamwatch.embedding import POOLINGS, load_embedder
from streamwatch.embedding.pooling import pool, rmac_regions
from streamwatch.errors import UsageError
from streamwatch.records import Grid
from tests.pictures import random_picture

MAPS = np.random.default_rng(0).uniform(0, 4, (2, 5, 14, 14)).astype(np.float32)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("mean", MAPS.mean((2, 3))),
        ("max", MAPS.max((2, 3))),
        ("gem", (MAPS.astype(np.float64) ** 3).mean((2, 3)) ** (1 / 3)),
    ],
)
def test_pooling_is_the_formula(way: str, expected: np.ndarray) -> None:
    got = pool(torch.from_numpy(MAPS), way).numpy()
    assert got.shape == (2, 1, 5)
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-5)


def test_gem_takes_numbers_below_zero_for_next_to_nothing() -> None:
    maps = torch.tensor([[[[-8.0, 2.0], [0.0, 0.0]]]])
    assert float(pool(maps, "gem")) == pytest.approx((8 / 4) ** (1 / 3), rel=1e-4)


def test_rmac_on_a_square_map_is_fourteen_regions() -> None:
    # Given a map of 14 × 14
    regions = rmac_regions(14, 14)
    # Then scale 1 is the whole, scale 2 four squares of 9, scale 3 nine of 7, spread evenly
    assert regions[0] == (0, 0, 14)
    assert regions[1:5] == [(0, 0, 9), (0, 5, 9), (5, 0, 9), (5, 5, 9)]
    assert [region[:2] for region in regions[5:]] == [(top, left) for top in (0, 3, 7) for left in (0, 3, 7)]
    assert {region[2] for region in regions[5:]} == {7}


def test_rmac_on_a_long_map_lays_more_squares_along_the_longer_side() -> None:
    # Given a map of 32 × 24: two squares of 24 overlap by two thirds, three by five sixths, so two are nearest to 40 %
    regions = rmac_regions(24, 32)
    assert regions[:2] == [(0, 0, 24), (0, 8, 24)]
    assert sorted(region[2] for region in regions) == [8 * 3 // 2] * 12 + [16] * 6 + [24] * 2
    # And the other way round
    assert {(left, top, side) for top, left, side in rmac_regions(32, 24)} == set(regions)


def test_rmac_is_the_sum_of_unit_length_maxima() -> None:
    # Given the same computed region by region
    expected = np.zeros((2, 5))
    for top, left, side in rmac_regions(14, 14):
        part = MAPS[:, :, top : top + side, left : left + side].max((2, 3)).astype(np.float64)
        expected += part / np.linalg.norm(part, axis=1, keepdims=True)
    np.testing.assert_allclose(pool(torch.from_numpy(MAPS), "rmac").numpy()[:, 0], expected, rtol=1e-5)


def test_rmac_of_a_single_place_is_its_direction() -> None:
    maps = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    np.testing.assert_allclose(pool(maps, "rmac").numpy()[0, 0], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("way", POOLINGS[1:])
def test_an_embedder_pools_any_layer_and_says_so(way: str, tmp_path: Path) -> None:
    # Given the embedded network's raw regions (a layer whose places are its regions)
    pictures = [random_picture(1), random_picture(2)]
    plain = load_embedder(network="lite0", layer="features", unit_length=False, device="cpu")
    raw = plain.embed(pictures)
    maps = torch.from_numpy(raw.transpose(0, 2, 1).reshape(2, 1280, 7, 7).copy())
    # When it is loaded with a pooling, raw and at unit length
    embedder = load_embedder(network="lite0", layer="features", pooling=way, unit_length=False, device="cpu")
    unit = load_embedder(network="lite0", layer="features", pooling=way, device="cpu").embed(pictures)
    # Then it gives one vector a picture: the pooled regions
    expected = pool(maps, way).numpy()
    np.testing.assert_allclose(embedder.embed(pictures), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=2, keepdims=True), atol=1e-5)
    # And its identity tells it from the others
    assert (embedder.identity.pooling, embedder.identity.grid) == (way, Grid(1, 1))
    assert embedder.identity != plain.identity


def test_another_pooling_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pooling is 'avg', expected one of layer, gem, max, mean, rmac"):
        load_embedder(network="lite0", pooling="avg", device="cpu")
