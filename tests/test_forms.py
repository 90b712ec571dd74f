"""Weights files whose network differs from the published one: other inputs, classifiers, batch normalisation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import vgg16
from torchvision.models.vgg import VGG, cfgs, make_layers

from streamwatch.embedding import EmbedderIdentity, load_embedder
from streamwatch.embedding.forms import PUBLISHED, Form, form_of
from streamwatch.embedding.networks import shipped_threshold
from streamwatch.embedding.weights_command import describe
from streamwatch.errors import UnknownLayer, WeightsInvalid
from streamwatch.records import Grid
from tests.caffe_files import relative_error
from tests.pictures import ArrayPicture

MEAN, STD = (np.array(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def pixels(px: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (px, px, 3)).astype(np.uint8)


def network_input(picture: Any) -> Tensor:
    return torch.from_numpy(((picture.transpose(2, 0, 1) / 255 - MEAN) / STD).astype(np.float32))[None]


def drawn(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors, batch normalisation's and the biases drawn anew: all would be ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("bias") or "running_mean" in key:
                tensor.normal_(0, 0.1, generator=generator)
            elif "running_var" in key or (tensor.ndim == 1 and key.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return module.state_dict()


CIFAR = {
    # torchvision's order of modules, and the one with dropout first that many trainings on CIFAR-10 use
    "linear first": (lambda: nn.Sequential(*_block(512, 512), *_block(512, 512), nn.Linear(512, 10)), 5),
    "dropout first": (
        lambda: nn.Sequential(
            nn.Dropout(),
            nn.Linear(512, 384),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(384, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        ),
        6,
    ),
}


def _block(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout()


@pytest.mark.parametrize("order", CIFAR)
@pytest.mark.parametrize(
    ("name", "letter", "norm"), [("vgg16", "D", False), ("vgg19", "E", False), ("vgg16", "D", True)]
)
def test_a_vgg_of_cifar_10_has_its_own_input_grids_and_fc_layers(
    order: str, name: str, letter: str, norm: bool, tmp_path: Path
) -> None:
    # Given a VGG that sees 32 px and ends in a small classifier, with or without batch normalisation
    torch.manual_seed(0)
    classifier, fc7_end = CIFAR[order]
    module: Any = nn.Module()
    module.features, module.classifier = make_layers(cfgs[letter], batch_norm=norm), classifier()  # type: ignore[no-untyped-call]
    path = tmp_path / "cifar.pth"
    torch.save(drawn(module), path)
    module.eval()
    picture = pixels(32)
    # When nothing is said but the file, and its layers are used
    for layer in ("conv4_3", "conv5_3", "pool5", "fc6", "fc7"):
        embedder = load_embedder(weights=str(path), layer=layer, unit_length=False, device="cpu")
        identity = embedder.identity
        got = embedder.embed([ArrayPicture(picture)])[0]
        # Then it is the right network at 32 px, with grids that follow from it
        assert (identity.network, identity.input_px) == (name, 32)
        assert identity.grid == {"conv4_3": Grid(2, 2)}.get(layer, Grid(1, 1))
        assert shipped_threshold(identity) is None
    # And fc7 is what torch gives
    with torch.inference_mode():
        expected = module.classifier[:fc7_end](module.features(network_input(picture)).flatten(1))
    assert identity.dimensions == expected.shape[1]
    assert relative_error(got, expected.numpy()) < 1e-5


def test_metadata_names_the_input_where_the_shapes_do_not_tell(tmp_path: Path) -> None:
    # Given a VGG16 for 64 px whose fc6 reads 7×7 places, as torchvision's averaging to that size makes them
    torch.manual_seed(0)
    module: Any = VGG(make_layers(cfgs["D"]), num_classes=10, init_weights=False)
    module.classifier[0], module.classifier[3] = nn.Linear(25088, 32), nn.Linear(32, 16)
    module.classifier[6] = nn.Linear(16, 10)
    path = tmp_path / "mine.safetensors"
    save_file(drawn(module), path, {"network": "vgg16", "input_px": "64"})
    module.eval()
    picture = pixels(64)
    # When it is used
    embedder = load_embedder(weights=str(path), layer="fc7", unit_length=False, device="cpu")
    # Then the numbers are torchvision's own
    with torch.inference_mode():
        features = module.avgpool(module.features(network_input(picture))).flatten(1)
        expected = module.classifier[:5](features).numpy()
    assert relative_error(embedder.embed([ArrayPicture(picture)])[0], expected) < 1e-5
    shown = describe(path)
    assert shown["input_px"] == 64
    assert {each["name"]: each["rows"] for each in shown["layers"]} == {
        "conv4_3": 4, "conv5_3": 2, "pool5": 2, "fc6": 1, "fc7": 1,
    }  # fmt: skip


def test_a_trunk_with_one_layer_for_classes_has_no_fc_layers(tmp_path: Path) -> None:
    # Given features and a single layer of ten classes, as some CIFAR-10 networks are
    module: Any = nn.Module()
    module.features, module.classifier = make_layers(cfgs["D"], batch_norm=True), nn.Linear(512, 10)
    path = tmp_path / "mine.safetensors"
    save_file(module.state_dict(), path, {"input_px": "32"})
    # When it is used, then the convolutions are there at 32 px, and fc7 is not
    assert load_embedder(weights=str(path), layer="pool5", device="cpu").identity.grid == Grid(1, 1)
    with pytest.raises(UnknownLayer, match=r"no weights for layer 'fc7'.*it has conv4_3, conv5_3, pool5$"):
        load_embedder(weights=str(path), layer="fc7", device="cpu")


def test_the_published_networks_are_as_before() -> None:
    # Given the shapes of torchvision's VGG16, and of a trunk alone
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in vgg16(weights=None).state_dict().items()}
    assert form_of("vgg16", shapes, {}) == PUBLISHED
    trunk = {key: shape for key, shape in shapes.items() if key.startswith("features.")}
    assert form_of("vgg16", trunk, {}) == PUBLISHED
    assert form_of("vgg16", trunk, {"input_px": "448"}) == Form(input_px=448)


@pytest.mark.parametrize(
    ("shapes", "metadata", "says"),
    [
        ({"classifier.0.weight": (10, 1000)}, {}, "1000 columns, expected 512"),
        ({"classifier.0.weight": (10, 512 * 10**8)}, {}, "columns, expected 512"),
        ({}, {"input_px": "large"}, "input_px is 'large', expected a whole number"),
        ({}, {"input_px": "16"}, "input_px is 16, expected 32 … 1024"),
        ({}, {"input_px": "60000"}, "input_px is 60000, expected 32 … 1024"),
        ({}, {"input_px": "9" * 5000}, "input_px|digits"),
        ({}, {"input_px": "-32"}, "input_px is '-32'"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(
    shapes: dict[str, tuple[int, ...]], metadata: dict[str, str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        form_of("vgg16", shapes, metadata)
    if metadata:  # and through a file
        module = make_layers(cfgs["D"])[:23]
        path = tmp_path / "mine.safetensors"
        save_file({f"features.{key}": tensor for key, tensor in module.state_dict().items()}, path, metadata)
        with pytest.raises(WeightsInvalid, match="cannot be used as VGG16"):
            load_embedder(network="vgg16", weights=str(path), device="cpu")


def test_a_shipped_threshold_holds_only_for_what_it_was_measured_with() -> None:
    # Given the default vectors of VGG16
    usual = EmbedderIdentity(
        network="vgg16",
        layer="conv4_3",
        weights_id="x",
        fit="squash",
        unit_length=True,
        grid=Grid(14, 14),
        dimensions=512,
    )
    assert shipped_threshold(usual) == 1.1
    # Then every other kind has none
    for change in (
        {"unit_length": False},
        {"grid": Grid(1, 1)},
        {"pooling": "gem"},
        {"input_px": 448},
        {"layer": "conv5_3"},
        {"network": "timm:resnet18", "layer": "layer4"},
    ):
        assert shipped_threshold(dataclasses.replace(usual, **change)) is None


def test_an_identity_written_before_it_had_all_its_fields_is_the_same() -> None:
    # Given an identity, through JSON, without the fields that came later
    usual = EmbedderIdentity(
        network="lite0",
        layer="blocks.4.2",
        weights_id="x",
        fit="crop",
        unit_length=True,
        grid=Grid(14, 14),
        dimensions=112,
    )
    plain = json.loads(json.dumps(dataclasses.asdict(usual)))
    del plain["pooling"], plain["input_px"], plain["norm_floor"]
    # Then it reads as it was; what is no identity is refused
    assert EmbedderIdentity.from_plain(plain) == usual
    for bad in ({}, {**plain, "more": 1}, {**plain, "grid": 3}):
        with pytest.raises(ValueError, match="no embedder's identity"):
            EmbedderIdentity.from_plain(bad)
