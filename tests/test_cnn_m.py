"""The paper's networks from Caffe's files to vectors: `weights import`, `weights show`, and the numbers they give."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from torch import nn

from streamwatch.cli import main
from streamwatch.embedding import cnn_m, load_embedder
from streamwatch.embedding.caffe_import import import_caffe
from streamwatch.embedding.chain import Chain, Convolution, FullyConnected, MaxPool, Rectifier, ResponseNorm
from streamwatch.embedding.networks import NETWORKS, VGG_CONVOLUTIONS, network
from streamwatch.embedding.weights_command import describe
from streamwatch.errors import UnknownLayer, UsageError, WeightsInvalid, WeightsMissing
from tests.caffe_files import Array, blob, caffe_files, forward, random_tensors, relative_error
from tests.oracles import opencv_4, opencv_forward
from tests.pictures import ArrayPicture, random_picture

PX = 96  # Small, and yet pool5 is 2×2, so that the order in which fc6 reads it counts.


@dataclass(frozen=True)
class Files:
    """One network in Caffe's files, imported."""

    network: str
    chain: Chain
    tensors: dict[str, Array]
    mean: NDArray[np.float64]
    """Shape (3, 1, 1) or (3, px, px), blue first."""

    prototxt: Path
    caffemodel: Path
    mean_file: Path | None
    imported: Path


@pytest.fixture(scope="module", params=["vgg_cnn_m_2048 V1", "vgg_cnn_m_1024 V2"])
def cnn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """CNN-M with seeded random weights: as files of 2014 with a larger mean image, and as later ones with numbers."""
    name, version = request.param.split()
    folder = tmp_path_factory.mktemp("cnn")
    published = cnn_m.published(cnn_m.FC7[name], input_px=PX)
    # A whole file ends in the layer of the classes.
    chain = replace(published, operations=(*published.operations, FullyConnected(name="fc8", outputs=20)))
    tensors = random_tensors(chain)
    files = caffe_files(chain, tensors, v1=version == "V1")
    prototxt, model = folder / "deploy.prototxt", folder / "net.caffemodel"
    prototxt.write_text(files.prototxt)
    model.write_bytes(files.caffemodel)
    mean_file, mean = None, np.array([100.0, 110.5, 120.25]).reshape(3, 1, 1)
    given = "100,110.5,120.25"
    if version == "V1":
        image = np.random.default_rng(5).uniform(80, 140, (1, 3, PX + 9, PX + 4)).astype(np.float32)
        mean_file = folder / "mean.binaryproto"
        mean_file.write_bytes(blob(image, legacy=True))
        mean, given = image[0, :, 4 : 4 + PX, 2 : 2 + PX].astype(np.float64), str(mean_file)
    out = folder / f"{name}.safetensors"
    import_caffe(caffemodel=model, prototxt=prototxt, mean=given, out=out)
    yield Files(name, chain, tensors, mean, prototxt, model, mean_file, out)
    for path in (model, out):
        path.unlink()


def pixels(px: int, seed: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (px, px, 3)).astype(np.uint8)


def network_input(picture: NDArray[np.uint8], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blue first, less the mean."""
    blue_first = picture[..., ::-1].transpose(2, 0, 1).astype(np.float64)
    result: NDArray[np.float64] = blue_first - mean
    return result


def vectors_of(maps: NDArray[Any], average: int = 1) -> NDArray[Any]:
    """A (channels, rows, columns) map or a vector as region vectors, so many places along each side averaged to one."""
    if average > 1:
        channels, rows, columns = maps.shape
        maps = maps.reshape(channels, rows // average, average, columns // average, average).mean((2, 4))
    return maps.reshape(len(maps), -1).T


def without_k(chain: Chain, tensors: dict[str, Array]) -> tuple[Chain, dict[str, Array]]:
    """The same network with k = 1 in every LRN, as OpenCV reads no k.

    (k + α s)^−β = k^−β (1 + α/k s)^−β: the factor goes into the next layer's weights, past the pool.
    """
    operations, changed, factor = [], dict(tensors), 1.0
    for operation in chain.operations:
        if isinstance(operation, ResponseNorm):
            factor *= operation.k**-operation.beta
            operation = replace(operation, k=1.0, alpha=operation.alpha / operation.k)
        elif isinstance(operation, Convolution):
            key = f"{operation.name}.weight"
            changed[key] = changed[key] * np.float32(factor)
            factor = 1.0
        operations.append(operation)
    return replace(chain, operations=tuple(operations)), changed


# ---- numbers ----


def test_cnn_m_gives_opencvs_numbers_at_conv5_pool5_fc6_and_fc7(cnn: Files, tmp_path: Path) -> None:
    # Given OpenCV's own reader and network on files of the same numbers
    chain, tensors = without_k(cnn.chain, cnn.tensors)
    files = caffe_files(chain, tensors, v1=cnn.mean_file is not None)
    prototxt, model = tmp_path / "p.prototxt", tmp_path / "m.caffemodel"
    prototxt.write_text(files.prototxt)
    model.write_bytes(files.caffemodel)
    picture = pixels(PX)
    x = network_input(picture, cnn.mean).astype(np.float32)
    names = {"conv5": "relu_conv5", "pool5": "pool5", "fc6": "relu_fc6", "fc7": "relu_fc7"}
    theirs = opencv_forward(opencv_4(), prototxt, model, x[None], list(names.values()))
    for layer, name in names.items():
        # When the imported file is used for the picture
        embedder = load_embedder(weights=str(cnn.imported), layer=layer, unit_length=False, device="cpu")
        got = embedder.embed([ArrayPicture(picture)])[0]
        # Then the vectors are OpenCV's
        assert relative_error(got, vectors_of(theirs[name][0])) < 1e-4, layer


def test_cnn_m_gives_numpys_numbers_at_every_layer(cnn: Files) -> None:
    # Given the arithmetic in NumPy and double precision, k and the mean as they are
    picture = pixels(PX)
    expected = forward(cnn.chain, cnn.tensors, network_input(picture, cnn.mean))
    for layer in cnn_m.LAYERS:
        # When the imported file is used
        embedder = load_embedder(weights=str(cnn.imported), layer=layer, unit_length=False, device="cpu")
        got = embedder.embed([ArrayPicture(picture)])[0]
        # Then the vectors are NumPy's, one for each place
        own = vectors_of(expected[layer], 2 if layer == "conv2" else 1)
        assert relative_error(got, own) < 1e-5, layer
        identity = embedder.identity
        assert (identity.network, identity.layer, identity.input_px) == (cnn.network, layer, PX)
        assert (identity.grid.regions, identity.dimensions) == own.shape


def test_the_published_size_has_the_published_maps() -> None:
    # Given the networks at 224 px
    for name, fc7 in (("vgg_cnn_m_2048", 2048), ("vgg_cnn_m_1024", 1024)):
        found = network(name)
        grids = {layer.name: (layer.grid.rows, layer.average, layer.dimensions) for layer in found.layers.values()}
        # Then conv2 is 26×26, conv5 13×13, pool5 6×6, as Caffe rounds, and fc7 the default
        assert grids["conv2"] == (13, 2, 256)
        assert grids["conv5"] == (13, 1, 512)
        assert grids["pool5"] == (6, 1, 512)
        assert grids["fc7"] == (1, 1, fc7)
        assert found.default_layer == "fc7"


@pytest.mark.parametrize("cnn", ["vgg_cnn_m_2048 V1"], indirect=True)
def test_a_mean_image_is_not_the_three_numbers_of_its_mean(cnn: Files, tmp_path: Path) -> None:
    # Given the same network imported with Oxford's three numbers
    out = tmp_path / "numbers.safetensors"
    made = import_caffe(caffemodel=cnn.caffemodel, prototxt=cnn.prototxt, out=out)
    assert "no mean was given" in made.notes[0]
    # Then vectors and ids differ
    with_image, with_numbers = (load_embedder(weights=str(path), device="cpu") for path in (cnn.imported, out))
    assert with_image.identity.weights_id != with_numbers.identity.weights_id
    pictures = [random_picture(1)]
    assert np.abs(with_image.embed(pictures) - with_numbers.embed(pictures)).max() > 1e-3
    # And asking for another preprocessing puts the image aside, and says so in the id
    other = load_embedder(weights=str(cnn.imported), device="cpu", preprocessing="caffe-bgr")
    np.testing.assert_allclose(other.embed(pictures), with_numbers.embed(pictures), atol=1e-6)
    assert other.identity.weights_id.endswith("+caffe-bgr")


# ---- the file ----


def test_importing_again_gives_the_same_bytes_and_says_all_there_is_to_say(cnn: Files, tmp_path: Path) -> None:
    # Given a second import
    mean = str(cnn.mean_file) if cnn.mean_file else "100,110.5,120.25"
    out = tmp_path / "again.safetensors"
    import_caffe(caffemodel=cnn.caffemodel, prototxt=cnn.prototxt, mean=mean, out=out)
    # Then the bytes are equal, and no piece of it is left behind
    assert out.read_bytes() == cnn.imported.read_bytes()
    assert list(tmp_path.iterdir()) == [out]
    # And the safetensors package reads the numbers
    tensors = load_file(out)
    for key, array in cnn.tensors.items():
        np.testing.assert_array_equal(tensors[key], array)
    # And the file says which network it is, what its pixels look like, and what it was made of
    said = describe(out)["metadata"]
    assert said["network"] == cnn.network
    assert json.loads(said["preprocessing"])["channels"] == "bgr"
    assert Chain.from_json(said["chain"]) == cnn_m.published(cnn_m.FC7[cnn.network], input_px=PX)
    assert {"caffemodel_sha256", "prototxt_sha256"} <= said.keys()
    assert ("mean_sha256" in said) == (cnn.mean_file is not None)


def test_show_prints_layers_pixels_and_parameters(cnn: Files, capsys: pytest.CaptureFixture[str]) -> None:
    # When the file is shown as JSON
    assert main(["weights", "show", str(cnn.imported), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    # Then the layers are there with their grids, and the default one
    layers = {each["name"]: each for each in shown["layers"]}
    assert tuple(layers) == cnn_m.LAYERS
    assert layers["fc7"]["dimensions"] == cnn_m.FC7[cnn.network]
    assert (layers["conv5"]["rows"], shown["input_px"], shown["default_layer"]) == (5, PX, "fc7")
    assert shown["id"] == f"sha256:{shown['sha256'][:16]}"
    assert shown["parameters"] == sum(map(np.size, cnn.tensors.values())) + (3 * PX * PX if cnn.mean_file else 0)
    # And the table for people names pools and LRN
    assert main(["weights", "show", str(cnn.imported)]) == 0
    text = capsys.readouterr().out
    for word in (cnn.network, "alpha 0.0005, beta 0.75, k 2", "pool5 3×3/2", "blue first", "fc7 (default)"):
        assert word in text


def test_a_file_is_one_network_only(cnn: Files) -> None:
    other = next(name for name in cnn_m.FC7 if name != cnn.network)
    with pytest.raises(WeightsInvalid, match=f"says that it is for '{cnn.network}', expected '{other}'"):
        load_embedder(network=other, weights=str(cnn.imported), device="cpu")
    with pytest.raises(UnknownLayer, match=r"has no layer 'conv5_3' \(did you mean 'conv5'\?\); it has conv2"):
        load_embedder(network=cnn.network, weights=str(cnn.imported), layer="conv5_3", device="cpu")


@pytest.mark.parametrize("cnn", ["vgg_cnn_m_2048 V1"], indirect=True)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chain": None}, "does not say LRN's and the pools' parameters"),
        ({"chain": "[]"}, "expected an object with input_px and operations"),
        ({"chain": "[" * 100_000}, "cannot be used as VGG_CNN_M"),
        ({"chain": lambda text: text.replace('"size": 5', '"size": 4')}, "LRN's size is 4, expected an odd number"),
        ({"chain": lambda text: text.replace('"k": 2.0', '"k": NaN')}, "k is nan, expected a finite number"),
        ({"chain": lambda text: text.replace('"kernel": 7', '"kernel": 9')}, "conv1 9×9/2 to 96 as operation 1, where"),
        ({"chain": lambda text: text.replace('"pool2"', '"conv1"')}, "its layers are called"),
        ({"chain": lambda text: text.replace(f'"input_px": {PX}', '"input_px": 1024')}, r"fc6\.weight has shape"),
        ({"preprocessing": lambda text: text.replace("bgr", "bgra")}, "metadata key 'preprocessing' cannot be used"),
        ({"mean": None}, "its mean image is not in it"),
    ],
)
def test_a_tampered_file_is_refused(change: dict[str, Any], says: str, cnn: Files, tmp_path: Path) -> None:
    # Given a file whose metadata was changed
    metadata, tensors = dict(describe(cnn.imported)["metadata"]), load_file(cnn.imported)
    for key, how in change.items():
        if key == "mean":
            del tensors["preprocessing.mean_image"]
        elif how is None:
            del metadata[key]
        else:
            metadata[key] = how if isinstance(how, str) else how(metadata[key])
    path = tmp_path / "tampered.safetensors"
    save_file(tensors, path, metadata)
    # When it is loaded, then it is refused
    with pytest.raises(WeightsInvalid, match=says):
        load_embedder(network=cnn.network, weights=str(path), device="cpu")
    path.unlink()


# ---- VGG16 and VGG19 ----


def vgg(name: str, *, px: int, fc: tuple[int, ...]) -> Chain:
    """VGG as Oxford's prototxt has it."""
    operations: list[Any] = []
    for block, (count, channels) in enumerate(zip(VGG_CONVOLUTIONS[name], (64, 128, 256, 512, 512), strict=True), 1):
        for number in range(1, count + 1):
            layer = f"conv{block}_{number}"
            operations += [Convolution(name=layer, channels=channels, kernel=3, stride=1, pad=1), Rectifier()]
        operations.append(MaxPool(name=f"pool{block}", kernel=2, stride=2, pad=0))
    for number, outputs in enumerate(fc, 6):
        operations += [FullyConnected(name=f"fc{number}", outputs=outputs), Rectifier()]
    return Chain(input_px=px, operations=tuple(operations[:-1] if fc else operations))


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_converts_to_torchvisions_names_and_gives_opencvs_numbers(name: str, tmp_path: Path) -> None:
    # Given a VGG of Oxford's kind with a classifier and an input of its own: 64 px, fc6 reads 2×2 places
    chain = vgg(name, px=64, fc=(96, 48, 10))
    tensors = random_tensors(chain)
    files = caffe_files(chain, tensors, v1=True)
    prototxt, model, out = (tmp_path / each for each in ("p.prototxt", "m.caffemodel", "out.safetensors"))
    prototxt.write_text(files.prototxt)
    model.write_bytes(files.caffemodel)
    # When it is imported
    made = import_caffe(caffemodel=model, prototxt=prototxt, out=out)
    assert (made.network, made.input_px) == (name, 64)
    # Then torchvision's own network takes the tensors by their names
    with torch.device("meta"):
        theirs: Any = getattr(torchvision.models, name)(weights=None)
    sizes = [512 * 4, 96, 48, 10]
    for index, (before, after) in zip((0, 3, 6), pairwise(sizes), strict=True):
        theirs.classifier[index] = nn.Linear(before, after)
    theirs.load_state_dict(load_torch(out), assign=True)
    theirs.eval()
    # And our vectors are OpenCV's and NumPy's
    picture = pixels(64)
    x = network_input(picture, np.array([103.939, 116.779, 123.68]).reshape(3, 1, 1))
    last = f"conv5_{VGG_CONVOLUTIONS[name][-1]}"
    opencv = opencv_forward(
        opencv_4(), prototxt, model, x[None].astype(np.float32), [f"relu_{last}", "pool5", "relu_fc6", "relu_fc7"]
    )
    numpy = forward(chain, tensors, x)
    for layer, theirs_name in (("pool5", "pool5"), ("fc6", "relu_fc6"), ("fc7", "relu_fc7")):
        embedder = load_embedder(weights=str(out), layer=layer, unit_length=False, device="cpu")
        got = embedder.embed([ArrayPicture(picture)])[0]
        assert relative_error(got, vectors_of(opencv[theirs_name][0])) < 1e-4
        assert relative_error(got, vectors_of(numpy[layer])) < 1e-5
    assert embedder.identity.dimensions == 48
    with torch.inference_mode():
        flat = theirs.features(torch.from_numpy(x[None].astype(np.float32))).flatten(1)
        assert relative_error(got, theirs.classifier[:5](flat).numpy()) < 1e-5


def test_a_trunk_alone_is_imported_too(tmp_path: Path) -> None:
    # Given a prototxt that ends in pool5, and blobs for more
    chain, whole = vgg("vgg16", px=32, fc=()), vgg("vgg16", px=32, fc=(8, 8, 4))
    prototxt, model, out = (tmp_path / each for each in ("p.prototxt", "m.caffemodel", "out.safetensors"))
    tensors = random_tensors(whole)
    prototxt.write_text(caffe_files(chain, {}, v1=False).prototxt)
    model.write_bytes(caffe_files(whole, tensors, v1=False).caffemodel)
    # When it is imported, then it has the layers before the classifier
    import_caffe(caffemodel=model, prototxt=prototxt, out=out)
    shown = describe(out)
    assert [each["name"] for each in shown["layers"]] == ["conv4_3", "conv5_3", "pool5"]
    assert [(each["rows"], each["threshold"]) for each in shown["layers"]] == [(2, None), (1, None), (1, None)]
    with pytest.raises(UnknownLayer, match="no weights for layer 'fc7'"):
        load_embedder(weights=str(out), layer="fc7", device="cpu")


# ---- bad input ----


def changed(chain: Chain, index: int, **changes: object) -> Chain:
    operations = list(chain.operations)
    operations[index] = replace(operations[index], **changes)  # type: ignore[arg-type]
    return Chain(input_px=chain.input_px, operations=tuple(operations))


def cut_out(chain: Chain, index: int) -> Chain:
    operations = list(chain.operations)
    del operations[index]
    return Chain(input_px=chain.input_px, operations=tuple(operations))


CNN = cnn_m.published(2048, input_px=PX)
VGG = vgg("vgg16", px=64, fc=(16, 8, 4))


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        (changed(CNN, 0, kernel=5), r"nearest to \w+, but it has convolution conv1 5×5/2 to 96 as operation 1, where"),
        (changed(CNN, 0, stride=1), r"convolution conv1 7×7/1 to 96 as operation 1"),
        (changed(CNN, 8, channels=256), "nearest to vgg_cnn_m_2048, but it has convolution conv3 3×3/1 to 256"),
        (cut_out(CNN, 2), "max-pool pool1 3×3/2 as operation 3, where LRN over 5 channels is expected"),
        (cut_out(CNN, 1), "LRN over 5 channels as operation 2, where ReLU is expected"),
        (cnn_m.published(4096, input_px=PX), "fully connected fc7 to 4096 as operation 18"),
        (cnn_m.cut(CNN, "pool5"), "it ends after 15 operations, where fully connected fc6 to 4096 is expected"),
        (changed(VGG, 4, kernel=3), "max-pool pool1 3×3/2, border 0, expected 2×2/2 without for vgg16"),
        (changed(VGG, 0, pad=0), r"conv1_1 has a border of 0, expected 1 for vgg16"),
        (replace(VGG, input_px=100), "the input is 100 px, expected a multiple of 32"),
        (cut_out(VGG, 32), "looks like vgg16, but ends in fully connected fc6 to 16"),
        (Chain(input_px=9, operations=(Rectifier(),)), "is none of the networks vgg16, vgg19, vgg_cnn_m_2048"),
    ],
)
def test_another_topology_is_refused_with_the_place_where_it_parts(chain: Chain, says: str, tmp_path: Path) -> None:
    prototxt = tmp_path / "p.prototxt"
    prototxt.write_text(caffe_files(chain, {}, v1=True).prototxt)
    with pytest.raises(WeightsInvalid, match=says):
        import_caffe(caffemodel=tmp_path / "m.caffemodel", prototxt=prototxt, out=tmp_path / "o.safetensors")


def test_pools_and_norms_of_other_numbers_are_the_networks_own(tmp_path: Path) -> None:
    # Given CNN-M with other pools, borders and normalisation, as some of its files have them
    chain = changed(changed(changed(CNN, 3, pad=1), 4, pad=2), 6, alpha=0.0001, k=1.0)
    prototxt, model, out = (tmp_path / each for each in ("p.prototxt", "m.caffemodel", "out.safetensors"))
    tensors = random_tensors(chain)
    files = caffe_files(chain, tensors, v1=False)
    prototxt.write_text(files.prototxt)
    model.write_bytes(files.caffemodel)
    # When it is imported, then the numbers follow the prototxt
    import_caffe(caffemodel=model, prototxt=prototxt, mean="0,0,0", out=out)
    picture = pixels(PX)
    got = load_embedder(weights=str(out), unit_length=False, device="cpu").embed([ArrayPicture(picture)])[0]
    expected = forward(chain, tensors, network_input(picture, np.zeros((3, 1, 1))))["fc7"]
    assert relative_error(got, vectors_of(expected)) < 1e-5


@pytest.mark.parametrize(
    ("mean", "out", "error", "says"),
    [
        ("1,2", "o.safetensors", UsageError, "mean is '1,2', expected a .binaryproto file or three numbers"),
        ("1,2,300", "o.safetensors", UsageError, "three numbers of 0 … 255"),
        ("nan,1,2", "o.safetensors", UsageError, "three numbers of 0 … 255"),
        ("nowhere.binaryproto", "o.safetensors", WeightsMissing, "there is no file nowhere.binaryproto"),
        (None, "o.pth", UsageError, "expected a name that ends in .safetensors"),
        (None, "there.safetensors", UsageError, "is there already; remove it"),
    ],
)
def test_wrong_options_of_an_import(
    mean: str | None, out: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    prototxt = tmp_path / "p.prototxt"
    prototxt.write_text(caffe_files(CNN, {}, v1=True).prototxt)
    (tmp_path / "there.safetensors").write_text("mine")
    with pytest.raises(error, match=says):
        import_caffe(caffemodel=tmp_path / "m", prototxt=prototxt, mean=mean, out=tmp_path / out)
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Given a model that is cut off
    prototxt, model = tmp_path / "p.prototxt", tmp_path / "m.caffemodel"
    prototxt.write_text(caffe_files(CNN, {}, v1=True).prototxt)
    model.write_bytes(b"\x12\xff\xff\xff\xff\x7f")
    out = tmp_path / "o.safetensors"
    options = ["--caffemodel", str(model), "--prototxt", str(prototxt), "--out", str(out)]
    # When the command runs, then it ends with the exit code of weights, one line, and no file
    assert main(["weights", "import", *options]) == 4
    err = capsys.readouterr().err
    assert err.startswith(f"streamwatch: {model} is no whole .caffemodel")
    assert err.count("\n") == 1
    assert not out.exists()
    # And so do files to show that are none, or are Caffe's
    for path, says in ((model, "make one of it with streamwatch weights import"), (tmp_path / "no.pth", "there is no")):
        assert main(["weights", "show", str(path)]) == 4
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", cnn_m.FC7)
def test_without_weights_the_message_says_what_to_bring(name: str) -> None:
    with pytest.raises(WeightsMissing, match=rf"bring the authors' own {name.upper()}\.caffemodel.*weights import"):
        load_embedder(network=name, device="cpu")
    with pytest.raises(WeightsMissing, match="there is no weights file imagenet1k_v1"):
        load_embedder(network=name, weights="imagenet1k_v1", device="cpu")
    assert NETWORKS[name].weights == ()


def test_an_import_runs_as_a_command(cnn: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # When the command runs with --json
    out = tmp_path / "o.safetensors"
    mean = ["--mean", str(cnn.mean_file)] if cnn.mean_file else []
    options = ["--caffemodel", str(cnn.caffemodel), "--prototxt", str(cnn.prototxt), *mean, "--out", str(out)]
    assert main(["weights", "import", *options, "--json"]) == 0
    # Then it prints what it made, and says on stderr what was assumed
    told = capsys.readouterr()
    made = json.loads(told.out)
    assert (made["network"], made["file"]) == (cnn.network, str(out))
    assert math.isclose(made["preprocessing"]["mean"][0], float(cnn.mean[0].mean()), rel_tol=1e-5) == bool(mean)
    assert ("no mean was given" in told.err) == (not mean)
