"""Networks of torchvision and timm by name: their numbers, layers, weights, and what is refused."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from streamwatch.cli import main
from streamwatch.embedding import load_embedder, zoo
from streamwatch.embedding.choose import choose_network
from streamwatch.embedding.networks import network
from streamwatch.embedding.weights import file_sha256
from streamwatch.embedding.weights_command import describe
from streamwatch.errors import (
    MissingLibrary,
    UnknownLayer,
    UnknownNetwork,
    UsageError,
    WeightsHashMismatch,
    WeightsInvalid,
    WeightsMissing,
)
from streamwatch.records import Grid
from tests.caffe_files import relative_error
from tests.pictures import ArrayPicture

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def made(name: str) -> Any:
    """The library's own network with seeded random weights; batch normalisation's as if trained."""
    torch.manual_seed(0)
    library, _, own = name.partition(":")
    module = timm.create_model(own) if library == "timm" else torchvision.models.get_model(own, weights=None)
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.BatchNorm2d):
                assert each.running_mean is not None
                assert each.running_var is not None
                each.running_mean.normal_(0, 0.1)
                each.running_var.uniform_(0.5, 1.5)
    return module.eval()


def saved(module: nn.Module, path: Path, **changes: Tensor | None) -> Path:
    """The module's state in a file; keyword a__b changes or (None) drops a.b."""
    state = dict(module.state_dict())
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        state.pop(key, None)
        if tensor is not None:
            state[key] = tensor
    torch.save(state, path)
    return path


def pixels(px: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (px, px, 3)).astype(np.uint8)


def network_input(picture: Any, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (np.array(each).reshape(3, 1, 1) for each in statistics)
    return torch.from_numpy(((picture.transpose(2, 0, 1) / 255 - mean) / std).astype(np.float32))[None]


@pytest.mark.parametrize(
    ("own", "layer", "node", "grid"),
    [
        ("resnet18", None, "layer4", Grid(7, 7)),
        ("resnet18", "layer2.1.bn1", "layer2.1.bn1", Grid(28, 28)),  # what follows would write over its numbers
        ("resnet18", "layer2.1.relu", "layer2.1.relu_1", Grid(28, 28)),  # used twice: the second time counts
        ("resnet18", "avgpool", "avgpool", Grid(1, 1)),
        ("resnet18", "fc", "fc", Grid(1, 1)),
        ("mobilenet_v2", "features.7", "features.7", Grid(14, 14)),
        ("squeezenet1_1", None, "features", Grid(13, 13)),
        ("swin_t", None, "permute", Grid(7, 7)),
    ],
)
def test_torchvisions_networks_give_torchvisions_numbers(
    own: str, layer: str | None, node: str, grid: Grid, tmp_path: Path
) -> None:
    # Given torchvision's own way to take features out, on its own normalisation
    module = made(f"torchvision:{own}")
    path = saved(module, tmp_path / "mine.pth")
    picture = pixels(224)
    with torch.inference_mode():
        maps = create_feature_extractor(module, {node: "x"})(network_input(picture, IMAGENET))["x"]
    # When the network is asked for by name with a file
    embedder = load_embedder(
        network=f"torchvision:{own}", weights=str(path), layer=layer, unit_length=False, device="cpu"
    )
    # Then its vectors are torchvision's, one for each place
    assert (embedder.identity.network, embedder.identity.grid) == (f"torchvision:{own}", grid)
    assert embedder.identity.layer == (layer or node)
    expected = maps[0].reshape(maps.shape[1], -1).T.numpy()
    assert relative_error(embedder.embed([ArrayPicture(picture)])[0], expected) < 1e-5


@pytest.mark.parametrize(
    ("own", "layer", "px", "statistics", "prefix"),
    [
        ("resnet18", "layer4", 224, IMAGENET, 0),
        ("tf_efficientnet_lite0", "bn2", 224, HALF, 0),
        ("vit_tiny_patch16_224", "norm", 224, HALF, 1),
        ("deit_tiny_distilled_patch16_224", "norm", 224, IMAGENET, 2),
        ("mobilevit_xxs", "final_conv", 256, (((0.0,) * 3), ((1.0,) * 3)), 0),
        ("swin_tiny_patch4_window7_224", "norm", 224, IMAGENET, 0),
    ],
)
def test_timms_networks_give_timms_numbers(
    own: str,
    layer: str,
    px: int,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    prefix: int,
    tmp_path: Path,
) -> None:
    # Given timm's own features, on the pixels that its configuration asks for
    module = made(f"timm:{own}")
    path = saved(module, tmp_path / "mine.pth")
    picture = pixels(px)
    with torch.inference_mode():
        features = module.forward_features(network_input(picture, statistics))
    if features.ndim == 3:
        expected = features[0, prefix:]  # without the tokens that are no place
    elif getattr(module, "output_fmt", "") == "NHWC":
        expected = features[0].flatten(0, 1)
    else:
        expected = features[0].flatten(1).T
    # When nothing is said but name and file
    embedder = load_embedder(network=f"timm:{own}", weights=str(path), unit_length=False, device="cpu")
    # Then the default layer is the last with places, and the vectors are timm's
    assert (embedder.identity.layer, embedder.identity.input_px) == (layer, px)
    assert relative_error(embedder.embed([ArrayPicture(picture)])[0], expected.numpy()) < 1e-5


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    module = made("timm:resnet18")
    return module, saved(module, tmp_path_factory.mktemp("zoo") / "mine.pth")


def load(path: Path | str, *, name: str = "timm:resnet18", **options: Any) -> Any:
    return load_embedder(network=name, weights=str(path), device="cpu", **options)


# ---- files ----


def test_a_head_of_other_classes_or_none_is_no_hindrance(resnet: tuple[Any, Path], tmp_path: Path) -> None:
    # Given files whose head names ten classes, or is cut off
    module, whole = resnet
    picture = [ArrayPicture(pixels(224))]
    expected = load(whole).embed(picture)
    other = saved(module, tmp_path / "ten.pth", fc__weight=torch.zeros(10, 512), fc__bias=torch.zeros(10))
    headless = saved(module, tmp_path / "headless.pth", fc__weight=None, fc__bias=None)
    for path in (other, headless):
        # Then the layers before it give the same numbers, and the head is not offered
        np.testing.assert_array_equal(load(path).embed(picture), expected)
        assert "fc" not in [each["name"] for each in describe(path, network="timm:resnet18")["layers"]]
        with pytest.raises(UnknownLayer, match="has no layer 'fc'"):
            load(path, layer="fc")
    assert load(whole, layer="fc").identity.dimensions == 1000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv1__weight": torch.zeros(64, 3, 3, 3)}, r"conv1\.weight has shape \(64, 3, 3, 3\), expected \(64, 3, 7"),
        ({"extra__weight": torch.zeros(2)}, r"holds 'extra\.weight' of shape \(2,\), which timm:resnet18 does"),
        ({"conv1__weight": None}, r"lacks conv1\.weight, expected for timm:resnet18"),
        ({"layer1__0__bn1__weight": torch.full((64,), torch.nan)}, "holds other than finite floating-point"),
        ({"layer1__0__bn1__weight": torch.ones(64, dtype=torch.int8)}, "holds other than finite floating-point"),
    ],
)  # fmt: skip
def test_files_of_other_networks_are_refused(
    changes: dict[str, Tensor | None], says: str, resnet: tuple[Any, Path], tmp_path: Path
) -> None:
    with pytest.raises(WeightsInvalid, match=says):
        load(saved(resnet[0], tmp_path / "bad.pth", **changes))


def test_a_file_may_say_network_pixels_and_input(resnet: tuple[Any, Path], tmp_path: Path) -> None:
    # Given a safetensors file that says all three
    path = tmp_path / "mine.safetensors"
    said = '{"channels": "bgr", "scale": 1.0, "mean": [1, 2, 3], "std": [4, 5, 6]}'
    metadata = {"network": "timm:resnet18", "preprocessing": said, "input_px": "96"}
    save_file(resnet[0].state_dict(), path, metadata)
    # When the network is left to the file
    embedder = load_embedder(weights=str(path), device="cpu", unit_length=False)
    # Then it is the file's, with its grid
    assert choose_network(weights=str(path)).network == "timm:resnet18"
    assert (embedder.identity.input_px, embedder.identity.grid) == (96, Grid(3, 3))
    picture = pixels(96)
    x = torch.from_numpy(
        ((picture[..., ::-1].astype(np.float32) - [1, 2, 3]) / [4, 5, 6]).transpose(2, 0, 1)[None].astype(np.float32)
    )
    with torch.inference_mode():
        expected = resnet[0].forward_features(x)[0].flatten(1).T.numpy()
    assert relative_error(embedder.embed([ArrayPicture(picture)])[0], expected) < 1e-5
    # And another network's name is refused
    with pytest.raises(WeightsInvalid, match="says that it is for 'timm:resnet18', expected 'timm:resnet34'"):
        load(path, name="timm:resnet34")


@pytest.mark.parametrize(("key", "value"), [("input_px", "0"), ("input_px", "2000"), ("input_px", "x")])
def test_metadata_that_cannot_be_is_refused(key: str, value: str, resnet: tuple[Any, Path], tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(resnet[0].state_dict(), path, {key: value})
    with pytest.raises(WeightsInvalid, match="its metadata cannot be used"):
        load(path)


def test_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(made("timm:vit_tiny_patch16_224").state_dict(), path, {"input_px": "200"})
    with pytest.raises(WeightsInvalid, match="does not take pictures of 200×200 px"):
        load(path, name="timm:vit_tiny_patch16_224")


def test_another_preprocessing_is_used_and_named_in_the_id(resnet: tuple[Any, Path]) -> None:
    usual, other = load(resnet[1]), load(resnet[1], preprocessing="caffe-bgr")
    assert other.identity.weights_id == f"{usual.identity.weights_id}+caffe-bgr"
    same = load(resnet[1], preprocessing="torchvision")
    assert same.identity == usual.identity


def test_show_says_what_a_file_of_a_library_is(resnet: tuple[Any, Path], capsys: pytest.CaptureFixture[str]) -> None:
    # Given a file that does not tell its network
    path = str(resnet[1])
    assert main(["weights", "show", path]) == 4
    assert "name it too, such as timm:resnet50" in capsys.readouterr().err
    # When it is named, then its layers are shown
    assert main(["weights", "show", path, "--network", "timm:resnet18"]) == 0
    text = capsys.readouterr().out
    for word in ("layer4 (default)", "layer1.0.conv1", "224×224 px", "red first, 0 … 1"):
        assert word in text


# ---- names ----


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:resnet19", r"timm has no network 'resnet19' \(did you mean 'resnet\d+\w*'\?\); it has \d+, which timm"),
        ("timm:resnet18.nothing", r"timm has no weights 'resnet18\.nothing'; it has resnet18\."),
        ("timm:hf-hub:timm/resnet18", "timm has no network 'hf-hub:timm/resnet18'"),
        ("torchvision:resnet19", r"torchvision has no classifier 'resnet19' \(did you mean 'resnet1\d\w*'\?\); it has"),
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision has no classifier"),
        ("keras:resnet50", "there is no network 'keras:resnet50'"),
        ("timm:", "there is no network 'timm:'"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(UnknownNetwork, match=says):
        load("x.pth", name=name)


def test_an_unknown_layer_is_refused_with_the_nearest(resnet: tuple[Any, Path]) -> None:
    with pytest.raises(UnknownLayer, match=r"no layer 'layer5' \(did you mean 'layer\d'\?\); it has … .*, layer4,"):
        load(resnet[1], layer="layer5")


def test_without_timm_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'streamwatch\[timm\]'"):
        load("x.pth")


def test_the_registry_knows_a_librarys_network_without_loading_the_library() -> None:
    assert network("timm:anything").of_library
    assert not network("vgg16").of_library


# ---- weights by name ----


def test_nothing_is_downloaded_unless_weights_are_named(tmp_path: Path) -> None:
    # Given empty caches, and no word of weights
    for name, says in (
        ("torchvision:resnet18", r"--weights imagenet1k_v1 downloads https://\S+/resnet18-f37072fd\.pth; or bring"),
        ("timm:resnet18", r"--weights a1_in1k downloads https://github\.com/\S+/resnet18_a1_0-d63eafa0\.pth; or bring"),
        ("timm:vit_tiny_patch16_224", r"not downloaded from here: bring https://huggingface\.co/timm/vit_tiny\S+"),
    ):
        # When the network is asked for, then the message names the address
        with pytest.raises(WeightsMissing, match=says):
            load_embedder(network=name, device="cpu", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        WeightsMissing, match="has no weights called 'imagenet', and there is no such file; known are ima"
    ):
        load("imagenet", name="torchvision:resnet18")
    with pytest.raises(WeightsMissing, match="there is no weights file"):
        load(tmp_path / "nowhere.pth")


@pytest.fixture
def offered(
    resnet: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[str]]]:
    """timm's offer at an address of this machine, under the hash of the file there; and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(resnet[1].parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    own = zoo._offers("timm:resnet18")[0]
    url = f"http://127.0.0.1:{server.server_port}/{resnet[1].name}"
    known = replace(own.known, file="resnet18-x.pth", sha256=file_sha256(resnet[1])[:8])
    monkeypatch.setattr(zoo, "_offers", lambda name: (replace(own, url=url, known=known),))
    yield url, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_weights_that_are_named_are_downloaded_once_and_then_found(
    offered: tuple[str, list[str]], resnet: tuple[Any, Path], tmp_path: Path
) -> None:
    # Given an empty cache
    _, asked = offered
    # When the weights are named, twice, and then not
    loaded = [
        load_embedder(network="timm:resnet18", weights=weights, device="cpu", cache=tmp_path)
        for weights in ("a1_in1k", "DEFAULT", None)
    ]
    # Then they came once, and are the file's
    assert len(asked) == 1
    assert {each.identity.weights_id for each in loaded} == {f"sha256:{file_sha256(resnet[1])[:16]}"}
    # And another hash is refused, as is a file in the cache that is not whole
    with pytest.raises(WeightsHashMismatch):
        load_embedder(network="timm:resnet18", device="cpu", cache=tmp_path, sha256="0" * 64)
    with pytest.raises(UsageError, match="64 hex digits"):
        load_embedder(network="timm:resnet18", weights="a1_in1k#sha256=12", device="cpu", cache=tmp_path)
    (tmp_path / "resnet18-x.pth").write_bytes(b"cut off")
    with pytest.raises(WeightsHashMismatch, match="not parsed"):
        load_embedder(network="timm:resnet18", device="cpu", cache=tmp_path)
