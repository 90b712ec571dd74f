"""What every embedder must do, run over each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamwatch.embedding import Embedder, load_embedder
from streamwatch.embedding.architectures import needed
from tests.pictures import ArrayPicture, random_picture

Maker = Callable[..., Embedder]


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16 up to conv4_3 with seeded random weights (30 MB)."""
    generator = torch.Generator().manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    shapes = needed("vgg16", "conv4_3")
    save_file({key: torch.randn(shape, generator=generator) * 0.03 for key, shape in shapes.items()}, path)
    return path


@pytest.fixture(params=["torch lite0", "torch lite0 pooled", "torch vgg16"])
def make(request: pytest.FixtureRequest, vgg16_file: Path) -> Maker:
    """Loads one kind of embedder; options are `load_embedder`'s."""
    fixed = {
        "torch lite0": {"network": "lite0"},
        "torch lite0 pooled": {"network": "lite0", "layer": "pooled"},
        "torch vgg16": {"network": "vgg16", "weights": str(vgg16_file)},
    }[request.param]
    return lambda **options: load_embedder(device="cpu", **{**fixed, **options})


def test_vectors_have_the_shape_that_the_identity_names(make: Maker) -> None:
    # Given pictures of several shapes
    embedder = make()
    pictures = [
        random_picture(1),
        random_picture(2, width=320, height=100),
        ArrayPicture(np.zeros((1, 1, 3), np.uint8)),
    ]
    # When they are embedded
    vectors = embedder.embed(pictures)
    # Then there is one vector a region and picture, ready to be stored
    identity = embedder.identity
    assert vectors.shape == (3, identity.grid.regions, identity.dimensions)
    assert vectors.dtype == np.float32
    assert vectors.flags["C_CONTIGUOUS"]
    assert np.isfinite(vectors).all()


def test_no_pictures_are_an_empty_batch(make: Maker) -> None:
    embedder = make()
    assert embedder.embed([]).shape == (0, embedder.identity.grid.regions, embedder.identity.dimensions)


def test_a_pictures_vectors_do_not_depend_on_its_batch(make: Maker) -> None:
    # Given seven pictures and two embedders that split them differently
    pictures = [random_picture(seed) for seed in range(7)]
    together = make(batch_size=3).embed(pictures)
    # When each is embedded alone
    one_by_one = make(batch_size=1)
    alone = np.concatenate([one_by_one.embed([picture]) for picture in pictures])
    # Then the vectors are the same up to rounding, and in the pictures' order
    np.testing.assert_allclose(together, alone, atol=2e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_what_was_returned_is_not_overwritten_by_the_next_call(make: Maker) -> None:
    embedder = make()
    first = embedder.embed([random_picture(1)])
    kept = first.copy()
    embedder.embed([random_picture(2)])
    np.testing.assert_array_equal(first, kept)


def test_unit_length_scales_each_regions_vector_and_nothing_else(make: Maker) -> None:
    # Given the same network with and without unit length
    pictures = [random_picture(1), random_picture(2)]
    unit, raw = make(unit_length=True).embed(pictures), make(unit_length=False).embed(pictures)
    # Then the one is the other, scaled: the long vectors to 1, those under the layer's floor by one common factor
    long, lengths = np.linalg.norm(raw, axis=2, keepdims=True), np.linalg.norm(unit, axis=2, keepdims=True)
    np.testing.assert_allclose(unit * long, raw * lengths, rtol=1e-4, atol=1e-6 * long.max())
    full = lengths > 1 - 1e-5
    assert lengths.max() <= 1 + 1e-5
    assert full.any()
    if not full.all():
        factors = (lengths / long)[~full]
        np.testing.assert_allclose(factors, factors[0], rtol=1e-4)
        assert long[~full].max() <= long[full].min() * (1 + 1e-5)


def test_the_frame_grid_is_the_mean_over_the_layers_places(make: Maker) -> None:
    # Given one vector a frame, and the layer's own regions
    pictures = [random_picture(1), random_picture(2)]
    frame, regions = make(grid="frame", unit_length=False), make(unit_length=False)
    # Then the one is the other's mean
    assert frame.identity.grid.regions == 1
    mean = regions.embed(pictures).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(frame.embed(pictures), mean, rtol=1e-4, atol=1e-5)


def test_the_identity_tells_apart_what_is_not_comparable(make: Maker) -> None:
    # Given embedders that differ in one option each
    options: list[dict[str, object]] = [{}, {"fit": "crop"}, {"unit_length": False}]
    identities = [make(**each).identity for each in options]
    # Then no two identities are equal, and the same options give the same one
    assert len(set(identities)) == len(identities)
    assert make().identity == identities[0]


@pytest.mark.parametrize("make", ["torch lite0", "torch vgg16"], indirect=True)
def test_regions_lie_where_the_picture_shows_them(make: Maker) -> None:
    # Given two pictures that differ in their lower right corner
    embedder = make()
    grid = embedder.identity.grid
    pixels = random_picture(1).rgb()
    changed = pixels.copy()
    changed[176:208, 176:208] = 255 - changed[176:208, 176:208]
    # When their vectors are compared
    before, after = embedder.embed([ArrayPicture(pixels), ArrayPicture(changed)])
    row, column = divmod(int(((before - after) ** 2).sum(axis=1).argmax()), grid.columns)
    # Then the region that differs most lies there
    assert 0.7 < (row + 0.5) / grid.rows < 0.97
    assert 0.7 < (column + 0.5) / grid.columns < 0.97
