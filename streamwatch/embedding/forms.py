"""How the network in a weights file differs from the published one of its name, and what follows for its layers. Light.

Files trained on other pictures have other inputs and classifiers: a VGG16 of CIFAR-10 gets 32 px and ends in
512 → 512 → 10. What a file says in its metadata (`input_px`, `chain`) holds; else the tensors' shapes tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from streamwatch.embedding import cnn_m
from streamwatch.embedding.chain import MAX_INPUT_PX, Chain, whole_number
from streamwatch.embedding.networks import Layer, Network, cnn_m_layers
from streamwatch.records import Grid

Shape = tuple[int, ...]

_VGG_STRIDE_PX = 32
"""Pixels of the input to one place of VGG's pool5."""

_CLASSIFIER = re.compile(r"classifier\.(\d+)\.weight")


@dataclass(frozen=True, kw_only=True)
class Form:
    """Every default is the published network's."""

    input_px: int = 224
    timm_names: bool = False
    """EfficientNet-Lite0: the tensors are named as timm names them."""

    batch_norm: bool = False
    """VGG: batch normalisation stands between each convolution and its ReLU."""

    fc: tuple[tuple[str, int], ...] = (("classifier.0", 4096), ("classifier.3", 4096))
    """VGG: where fc6 and fc7 stand, and how many numbers each gives."""

    pooled: int = 7
    """VGG: rows and columns that fc6 reads; pool5 is averaged to them where it has others, as torchvision does it."""

    chain: Chain | None = None
    """CNN-M: its operations."""


PUBLISHED = Form()


def form_of(network: str, shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> Form:
    """The form of a file's network.

    Raises:
        ValueError: The file says something of itself that cannot be.
    """
    if network == "lite0":
        return Form(timm_names="_conv_stem.weight" not in shapes)
    if network in cnn_m.FC7:
        if "chain" not in metadata:
            raise ValueError(
                "it does not say LRN's and the pools' parameters (metadata key 'chain'); "
                "make the file with streamwatch weights import"
            )
        chain = cnn_m.check(Chain.from_json(metadata["chain"]), network)
        return Form(input_px=chain.input_px, chain=chain)
    return _vgg(shapes, metadata)


def _vgg(shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> Form:
    form = Form(batch_norm=len(shapes.get("features.3.weight", ())) == 4)
    # Dropout stands before or behind each: fc6 is classifier.0 or .1, fc7 .3 or .4, and what follows names classes.
    linear = {int(match[1]): shapes[key] for key in shapes if (match := _CLASSIFIER.fullmatch(key))}
    fc = [(f"classifier.{index}", linear[index]) for index in (0, 1, 3, 4) if len(linear.get(index, ())) == 2]
    if len(fc) == 2:
        form = replace(form, fc=tuple((name, shape[0]) for name, shape in fc))
    if fc:
        places = fc[0][1][1] / 512
        pooled = math.isqrt(int(places))
        if places != pooled**2 or not 1 <= pooled <= MAX_INPUT_PX // _VGG_STRIDE_PX:
            raise ValueError(f"{fc[0][0]}.weight has {fc[0][1][1]} columns, expected 512 · n · n")
        form = replace(form, pooled=pooled, input_px=pooled * _VGG_STRIDE_PX)
    if "input_px" in metadata:
        text = metadata["input_px"]
        px = whole_number(int(text) if text.isascii() and text.isdigit() else text, "input_px", least=1)
        if not _VGG_STRIDE_PX <= px <= MAX_INPUT_PX:
            raise ValueError(f"input_px is {px}, expected {_VGG_STRIDE_PX} … {MAX_INPUT_PX}")
        form = replace(form, input_px=px)
    return form


def resolved(network: Network, form: Form) -> Network:
    """The network with the input and layers that a file's form gives it. Thresholds hold only for the published one."""
    if form.chain is not None:
        layers = cnn_m_layers(form.chain)
    elif network.name == "lite0" or form == PUBLISHED:
        return network
    else:
        layers = {name: _vgg_layer(layer, form) for name, layer in network.layers.items()}
    return replace(network, input_px=form.input_px, layers=MappingProxyType(layers))


def _vgg_layer(layer: Layer, form: Form) -> Layer:
    if layer.classifier:
        return replace(
            layer, dimensions=dict(zip(("fc6", "fc7"), (size for _, size in form.fc), strict=True))[layer.name]
        )
    if form.input_px == 224:
        return layer
    block = int(layer.name[4])
    places = form.input_px // (_VGG_STRIDE_PX if layer.name == "pool5" else 2 ** (block - 1))
    average = 1 if places % layer.average else layer.average
    grid = Grid(places // average, places // average)
    return replace(layer, grid=grid, average=average, threshold=None)
