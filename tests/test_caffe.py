"""Caffe's files read: against OpenCV's own reader, against NumPy, and what is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from streamwatch.embedding.caffe import CaffeModel, read_mean, read_prototxt
from streamwatch.embedding.chain import Chain, Convolution, FullyConnected, MaxPool, Rectifier, ResponseNorm
from streamwatch.embedding.chain_torch import modules
from streamwatch.errors import WeightsInvalid, WeightsMissing
from tests.caffe_files import (
    Array,
    blob,
    caffe_files,
    field,
    forward,
    random_tensors,
    relative_error,
    varint,
    with_norm,
)
from tests.oracles import opencv_4, opencv_forward

SMALL = Chain(
    input_px=23,
    operations=(
        Convolution(name="a", channels=8, kernel=5, stride=2, pad=1),
        Rectifier(),
        ResponseNorm(size=5, alpha=0.05, beta=0.75, k=1.0),
        MaxPool(name="p", kernel=3, stride=2, pad=0),
        Convolution(name="b", channels=6, kernel=3, stride=1, pad=1),
        Rectifier(),
        MaxPool(name="q", kernel=2, stride=2, pad=0),
        FullyConnected(name="c", outputs=7),
        Rectifier(),
        FullyConnected(name="d", outputs=4),
        Rectifier(),
    ),
)
"""Both pools have a remainder: 11 → 5 → 3."""


def written(
    folder: Path, chain: Chain, tensors: dict[str, Array], *, v1: bool = False, numbers: str = "packed"
) -> tuple[Path, Path]:
    files = caffe_files(chain, tensors, v1=v1, numbers=numbers)
    prototxt, model = folder / "deploy.prototxt", folder / "made.caffemodel"
    prototxt.write_text(files.prototxt)
    model.write_bytes(files.caffemodel)
    return prototxt, model


def network(prototxt: Path, model: Path) -> nn.Sequential:
    """What our reader and modules make of the two files."""
    chain = read_prototxt(prototxt)
    tensors = CaffeModel(model).tensors(chain)
    return nn.Sequential(*modules(chain, lambda key, _: torch.from_numpy(tensors[key].copy())))


def picture(px: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-120, 130, (3, px, px))


# ---- the numbers ----


@pytest.mark.parametrize("v1", [True, False], ids=["layers of 2014", "layers of today"])
@pytest.mark.parametrize("px", [23, 24, 26, 31])
def test_a_network_gives_opencvs_and_numpys_numbers_where_pools_round_up(v1: bool, px: int, tmp_path: Path) -> None:
    # Given a network whose pools leave a remainder, in one of Caffe's two ways to write it
    chain = replace(SMALL, input_px=px)
    tensors = random_tensors(chain)
    prototxt, model = written(tmp_path, chain, tensors, v1=v1)
    x = picture(px)
    # When it is run by our reader and modules
    got = network(prototxt, model)(torch.from_numpy(x[None].astype(np.float32))).numpy()
    # Then the numbers are NumPy's and OpenCV's
    assert relative_error(got, forward(chain, tensors, x)["d"]) < 1e-5
    theirs = opencv_forward(opencv_4(), prototxt, model, x[None].astype(np.float32), ["relu_d"])
    assert relative_error(got, theirs["relu_d"]) < 1e-4


@pytest.mark.parametrize(("kernel", "stride", "pad", "px", "side"), [
    (3, 2, 1, 8, 5),  # the last of five windows has one row of the map
    (3, 3, 1, 6, 3),
    (2, 2, 1, 7, 4),
    (2, 2, 1, 6, 4),
    (3, 2, 0, 8, 4),
    (3, 2, 0, 7, 3),
    (2, 1, 0, 5, 4),
    (5, 5, 2, 16, 4),
])  # fmt: skip
def test_pools_with_borders_cover_the_map_as_caffes_do(
    kernel: int, stride: int, pad: int, px: int, side: int, tmp_path: Path
) -> None:
    # Given a convolution that changes nothing of the size, and a pool
    chain = Chain(
        input_px=px,
        operations=(
            Convolution(name="a", channels=4, kernel=1, stride=1, pad=0),
            MaxPool(name="p", kernel=kernel, stride=stride, pad=pad),
        ),
    )
    assert chain.shapes()[-1] == (4, side)
    tensors = random_tensors(chain)
    prototxt, model = written(tmp_path, chain, tensors)
    x = picture(px)
    # When it is run, then size and numbers are NumPy's and OpenCV's
    got = network(prototxt, model)(torch.from_numpy(x[None].astype(np.float32))).numpy()
    expected = forward(chain, tensors, x)["p"]
    assert got.shape == (1, *expected.shape)
    assert relative_error(got, expected) < 1e-5
    theirs = opencv_forward(opencv_4(), prototxt, model, x[None].astype(np.float32), ["p"])["p"]
    assert theirs.shape == got.shape
    assert relative_error(got, theirs) < 1e-4


@pytest.mark.parametrize(
    "norm",
    [
        {"size": 5, "alpha": 0.0005, "beta": 0.75, "k": 2.0},
        {"size": 3, "alpha": 0.01, "beta": 0.5, "k": 0.25},
        {"size": 7, "alpha": 1.0, "beta": 1.5, "k": 1.0},
        {"size": 1, "alpha": 0.1, "beta": 0.75, "k": 1.0},
        {"size": 17, "alpha": 0.1, "beta": 0.75, "k": 3.0},  # wider than there are channels
    ],
)
def test_response_normalisation_takes_all_four_parameters_from_the_prototxt(
    norm: dict[str, float], tmp_path: Path
) -> None:
    # Given a network with these parameters
    chain = with_norm(SMALL, **norm)
    tensors = random_tensors(chain)
    prototxt, model = written(tmp_path, chain, tensors)
    # When it is read and run, then the chain has them as written, and the numbers are NumPy's
    assert read_prototxt(prototxt).operations[2] == ResponseNorm(**norm)  # type: ignore[arg-type]
    x = picture(23)
    got = network(prototxt, model)(torch.from_numpy(x[None].astype(np.float32))).numpy()
    assert relative_error(got, forward(chain, tensors, x)["d"]) < 1e-5
    # And OpenCV's, where k is 1 (it reads no k)
    theirs = opencv_forward(opencv_4(), prototxt, model, x[None].astype(np.float32), ["relu_d"])["relu_d"]
    assert (relative_error(got, theirs) < 1e-4) == (norm["k"] == 1)


def test_half_precision_does_not_overflow_in_the_squares(tmp_path: Path) -> None:
    # Given activations whose squares half precision cannot hold
    chain = Chain(input_px=4, operations=(ResponseNorm(size=3, alpha=1e-4, beta=0.75, k=1.0),))
    layer = modules(chain, lambda key, _: torch.zeros(0))[0]
    x = torch.full((1, 3, 4, 4), 400.0)
    # When they are normalised, then the result is the single-precision one, rounded
    torch.testing.assert_close(layer(x.half()), layer(x).half())


# ---- ways to write numbers ----


@pytest.mark.parametrize("numbers", ["packed", "pieces", "loose", "double", "loose double"])
@pytest.mark.parametrize("v1", [True, False], ids=["V1, four dimensions", "V2, shape"])
def test_every_way_to_write_numbers_is_read(numbers: str, v1: bool, tmp_path: Path) -> None:
    # Given the same numbers written in one of the ways that the format allows
    tensors = random_tensors(SMALL)
    prototxt, model = written(tmp_path, SMALL, tensors, v1=v1, numbers=numbers)
    # When they are read
    read = CaffeModel(model).tensors(read_prototxt(prototxt))
    # Then they are equal, each in its shape
    assert read.keys() == tensors.keys()
    for key, array in tensors.items():
        np.testing.assert_array_equal(read[key], array)


def test_sizes_may_be_given_for_height_and_width(tmp_path: Path) -> None:
    # Given a prototxt that writes them so, and one that gives another for each
    path = tmp_path / "deploy.prototxt"
    text = (
        'input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 } '
        'layer { name: "a" type: "Convolution" bottom: "data" top: "a" '
        "convolution_param { num_output: 2 kernel_h: 3 kernel_w: 3 stride_h: 2 stride_w: 2 pad_h: 1 pad_w: 1 } }"
    )
    path.write_text(text)
    # Then the one is read, and the other refused
    assert read_prototxt(path).operations == (Convolution(name="a", channels=2, kernel=3, stride=2, pad=1),)
    path.write_text(text.replace("kernel_w: 3", "kernel_w: 5"))
    with pytest.raises(WeightsInvalid, match=r"layer 'a': its kernel_size is 3×5, expected the same in both"):
        read_prototxt(path)


# ---- bad models ----


def model_of(folder: Path, content: bytes) -> CaffeModel:
    path = folder / "bad.caffemodel"
    path.write_bytes(content)
    return CaffeModel(path)


def test_a_model_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    # Given a whole model
    content = caffe_files(SMALL, random_tensors(SMALL), v1=False).caffemodel
    chain = SMALL
    assert model_of(tmp_path, content).tensors(chain)
    # When it is cut off at many places, then it is refused, at once or for the layer that is not there
    for length in [*range(0, 200), *range(200, len(content), 97)]:
        with pytest.raises(WeightsInvalid, match=r"bad\.caffemodel"):
            model_of(tmp_path, content[:length]).tensors(chain)


def test_a_damaged_model_gives_numbers_or_a_clear_message_and_nothing_else(tmp_path: Path) -> None:
    # Given a model with a byte changed at 600 places, most of them where its structure is
    content = caffe_files(SMALL, random_tensors(SMALL), v1=True).caffemodel
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        at = int(random.integers(0, 40 if random.random() < 0.7 else len(content)))
        damaged = bytearray(content)
        damaged[at] = int(random.integers(256))
        # When it is read, then it is read or refused
        try:
            model_of(tmp_path, bytes(damaged)).tensors(SMALL)
        except WeightsInvalid:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<html>404 Not Found</html>", "no whole .caffemodel"),
        (b"\x00" * 1000, "no whole .caffemodel"),
        (varint(100 << 3 | 2) + varint(2**63 - 1) + b"abc", "no whole .caffemodel"),
        (varint(100 << 3 | 2) + b"\xff" * 30, "no whole .caffemodel"),
        (field(1, "only a name"), "holds no layer with numbers"),
        (field(100, field(1, "a") + field(2, "Convolution")), "holds no layer with numbers"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalid, match=says):
        model_of(tmp_path, content)


def test_a_blob_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    # Given blobs of four numbers whose shape says two to the 62nd, or less than nothing
    numbers = field(5, np.zeros(4, "<f4").tobytes())
    huge = [
        field(7, field(1, varint(2**31) + varint(2**31))) + numbers,
        field(1, 2**31) + field(2, 2**31) + field(3, 1) + field(4, 1) + numbers,
        field(7, field(1, varint(2**64 - 4))) + numbers,
        field(7, field(1, varint(1) * 100_000)) + field(5, b""),
    ]
    chain = Chain(input_px=2, operations=(FullyConnected(name="a", outputs=1),))
    for content in huge:
        layer = field(1, "a") + field(2, "InnerProduct") + field(7, content) * 2
        tracemalloc.start()
        # When they are read, then they are refused, and nothing of that size was asked for
        with pytest.raises(WeightsInvalid, match=r"a\.weight has"):
            model_of(tmp_path, field(100, layer)).tensors(chain)
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t | {"a.weight": t["a.weight"][:, :, :3, :3]}, r"a\.weight has shape 8×3×3×3, expected 8×3×5×5"),
        (lambda t: t | {"c.weight": t["c.weight"].T}, r"c\.weight has shape 54×7, expected 7×54"),
        (lambda t: t | {"d.bias": t["d.bias"][:3]}, r"d\.bias has shape 3, expected 4"),
        (lambda t: t | {"b.bias": t["b.bias"] * np.float32(np.nan)}, r"b\.bias holds numbers that are not finite"),
        (
            lambda t: {key: array for key, array in t.items() if not key.startswith("c.")},
            r"has no numbers for layer 'c', which the prototxt has; it has 'a', 'b', 'd'\. Are the two files of one",
        ),
    ],
)
def test_numbers_that_do_not_fit_the_prototxt_are_named(
    change: Callable[[dict[str, Array]], dict[str, Array]], says: str, tmp_path: Path
) -> None:
    prototxt, model = written(tmp_path, SMALL, change(random_tensors(SMALL)))
    with pytest.raises(WeightsInvalid, match=says):
        CaffeModel(model).tensors(read_prototxt(prototxt))


def test_layers_without_bias_or_of_one_name_are_refused(tmp_path: Path) -> None:
    chain = Chain(input_px=1, operations=(FullyConnected(name="a", outputs=2),))
    one = field(7, blob(np.ones((2, 3), np.float32)))
    with pytest.raises(WeightsInvalid, match="layer 'a' has 1 blobs, expected weights and bias"):
        model_of(tmp_path, field(100, field(1, "a") + one)).tensors(chain)
    with pytest.raises(WeightsInvalid, match="two layers called 'a' with numbers"):
        model_of(tmp_path, field(100, field(1, "a") + one) * 2)


def test_files_that_are_not_there_are_missing_and_folders_unreadable(tmp_path: Path) -> None:
    for read in (CaffeModel, read_prototxt, lambda path: read_mean(path, size_px=4)):
        with pytest.raises(WeightsMissing, match="there is no file"):
            read(tmp_path / "nowhere")
        with pytest.raises(WeightsInvalid, match="cannot be read"):
            read(tmp_path)


# ---- bad prototxts ----

GOOD = caffe_files(SMALL, {}, v1=False).prototxt
GOOD_V1 = caffe_files(SMALL, {}, v1=True).prototxt


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\x00\xff\x01", "is no prototxt"),
        ("layer {" * 5000, "is no prototxt"),
        ("hello world", "is no prototxt"),
        ('name: "nothing"', "it has no layers"),
        (GOOD.replace("pool: MAX", "pool: AVE", 1), "layer 'p': its pool is AVE, expected MAX"),
        (GOOD.replace("pool: MAX", "pool: MAX round_mode: FLOOR", 1), "its round_mode is FLOOR, expected CEIL"),
        (GOOD.replace("local_size: 5", "norm_region: WITHIN_CHANNEL"), "its norm_region is WITHIN_CHANNEL, expected"),
        (GOOD.replace("local_size: 5", "local_size: 4"), "LRN's size is 4, expected an odd number"),
        (GOOD.replace("num_output: 6", "num_output: 6 group: 2"), "layer 'b': its group is 2, expected 1"),
        (GOOD.replace("num_output: 6", "num_output: 6 dilation: 2"), r"layer 'b': its dilation is \[2\], expected 1"),
        (GOOD.replace("num_output: 6", "num_output: 6 bias_term: false"), "its bias_term is False, expected True"),
        (GOOD.replace("num_output: 6 kernel_size: 3", "num_output: 6"), "layer 'b': it has no kernel_size"),
        (GOOD.replace("num_output: 6", "num_output: 0"), "channels is 0, expected a whole number of 1"),
        (GOOD.replace("num_output: 6", "num_output: 4000000000"), "channels is 4000000000, expected a whole number"),
        (GOOD.replace("kernel_size: 5", "kernel_size: 50"), "convolution a 50×50/2 to 8 is larger than the 23×23 map"),
        (GOOD.replace("stride: 2", "stride: 9").replace("pad: 0", "pad: 0", 1), "leaves gaps"),
        (GOOD.replace('"ReLU"', '"PReLU"', 1), "layer 'relu_a' is of type 'PReLU'; expected Convolution, ReLU"),
        (GOOD.replace('type: "ReLU"', 'type: "ReLU" relu_param { negative_slope: 0.1 }', 1), "negative_slope is 0.1"),
        (GOOD.replace('name: "b"', 'name: "a"'), "two layers are called 'a'"),
        (GOOD.replace('bottom: "p"', 'bottom: "a"'), "layer 'b' takes 'a', expected 'p': layers one after another"),
        (GOOD.replace('bottom: "p"', 'bottom: "p" bottom: "a"'), "layer 'b' has 2 inputs and 1 outputs"),
        (GOOD.replace("dim: 23 } }", "dim: 24 } }"), "its input is 1×3×23×24, expected N×3×S×S"),
        (GOOD.replace("dim: 3 ", "dim: 1 "), "its input is 1×1×23×23"),
        (GOOD.replace("dim: 23", "dim: 9000"), "the input is 9000 px wide, expected 1 … 1024"),
        (GOOD_V1.replace("input_dim: 23\n", ""), "its input is 1×3, expected"),
        ("\n".join(GOOD_V1.splitlines()[6:]), "it has 0 inputs with a size"),
        ("\n".join((GOOD, *GOOD_V1.splitlines()[6:])), "it has both `layers` and `layer`"),
        ('layers { layer { name: "a" type: "conv" } bottom: "data" top: "a" }', "the format of 2013"),
    ],
)  # fmt: skip
def test_prototxts_of_other_networks_are_refused_with_the_layer_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_bytes(text.encode("latin-1") if "\xff" in text else text.encode())
    with pytest.raises(WeightsInvalid, match=says) as raised:
        read_prototxt(path)
    assert "deploy.prototxt" in str(raised.value)


def test_a_training_prototxts_extras_are_passed_over(tmp_path: Path) -> None:
    # Given a prototxt with fillers, dropout, learning rates, a loss and fields that nobody knows
    path = tmp_path / "deploy.prototxt"
    dropout = 'layer { name: "drop" type: "Dropout" bottom: "c" top: "c" dropout_param { dropout_ratio: 0.5 } }'
    softmax = 'layer { name: "prob" type: "Softmax" bottom: "d" top: "prob" unknown_param { x: 1 } }'
    text = GOOD.replace('layer { name: "d" ', f'{dropout}\nlayer {{ name: "d" param {{ lr_mult: 2 }} ')
    path.write_text(text + softmax)
    # Then the chain is the plain one's
    assert read_prototxt(path) == SMALL


# ---- mean images ----


def mean_of(folder: Path, array: Array, *, legacy: bool = True) -> Path:
    path = folder / "mean.binaryproto"
    path.write_bytes(blob(array, legacy=legacy))
    return path


@pytest.mark.parametrize("legacy", [True, False])
def test_a_larger_mean_image_is_cut_to_its_centre(legacy: bool, tmp_path: Path) -> None:
    # Given a mean image of 9 × 8 places for an input of 5
    mean = np.random.default_rng(0).uniform(90, 130, (1, 3, 8, 9)).astype(np.float32)
    # When it is read, then the centre is cut out, the odd place cut off below and right
    got = read_mean(mean_of(tmp_path, mean, legacy=legacy), size_px=5)
    np.testing.assert_array_equal(got, mean[0, :, 1:6, 2:7])


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((1, 3, 4, 9), 100, np.float32), r"is 9×4 pixels, smaller than the network's input of 5×5"),
        (np.full((1, 1, 9, 9), 100, np.float32), "expected a mean image of three channels"),
        (np.full((2, 3, 9, 9), 100, np.float32), "expected a mean image of three channels"),
        (np.full((1, 3, 9, 9), np.nan, np.float32), "outside 0 … 255"),
        (np.full((1, 3, 9, 9), 300, np.float32), "outside 0 … 255"),
    ],
)
def test_mean_images_that_do_not_fit_are_refused(array: Array, says: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalid, match=says):
        read_mean(mean_of(tmp_path, array), size_px=5)


def test_what_is_no_mean_image_is_refused(tmp_path: Path) -> None:
    path = mean_of(tmp_path, np.full((1, 3, 9, 9), 100, np.float32))
    for content, says in ((path.read_bytes()[:-7], "is no mean image"), (b"JPEG?", "is no mean image|has")):
        path.write_bytes(content)
        with pytest.raises(WeightsInvalid, match=says):
            read_mean(path, size_px=5)
