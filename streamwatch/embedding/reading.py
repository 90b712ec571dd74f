"""A weights file opened, its tensors checked, and a network built from them. Nothing in the file is ever run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from streamwatch.embedding.architectures import build, needed
from streamwatch.embedding.cnn_m import FC7
from streamwatch.embedding.forms import Form, form_of, resolved
from streamwatch.embedding.known import KnownWeights
from streamwatch.embedding.networks import LIBRARIES, NETWORKS, Network
from streamwatch.embedding.preprocessing import (
    CAFFE_BGR,
    LITE0,
    MEAN_IMAGE,
    TORCHVISION,
    TORCHVISION_FEATURES,
    Preprocessing,
    preprocessing,
)
from streamwatch.embedding.weights import SUFFIXES, WeightsFile
from streamwatch.errors import UnknownLayer, WeightsInvalid

Shape = tuple[int, ...]

_OXFORD_FIRST_NUMBER = 0.42947057
"""Of conv1_1's first kernel, its blue channel: tells Oxford's VGG16 convolutions, which want other pixels, by value."""

_CLASSES = {
    "lite0": ("_fc.", "classifier."),
    "vgg16": ("classifier.6.", "classifier.weight", "classifier.bias"),
    "vgg19": ("classifier.6.", "classifier.weight", "classifier.bias"),
}
"""The layers that name classes: they may stand in a file and have any number of classes."""


@dataclass(frozen=True, kw_only=True)
class OpenFile:
    """What a file says of itself, and a way to its tensors."""

    path: Path
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]
    tensor: Callable[[str], Tensor]


@dataclass(frozen=True, kw_only=True)
class LoadedNetwork:
    """A network cut at a layer, on the CPU in float32, with what its weights expect."""

    module: nn.Module
    network: Network
    """With the input and the layers that it has with these weights."""

    layer: str
    preprocessing: Preprocessing
    mean_image: Tensor | None = None
    """What is subtracted in the place of the preprocessing's mean: shape (3, input_px, input_px)."""

    weights_id: str


def open_file(path: Path) -> OpenFile:
    """Open a .safetensors or PyTorch file. The caller has checked its hash.

    Raises:
        WeightsInvalid: It is neither, is damaged, or is a pickle that holds more than tensors.
    """
    if path.stat().st_size == 0:
        raise WeightsInvalid(f"{path} is empty; bring the file again")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _open_safetensors(path)
    if suffix in SUFFIXES:
        return _open_pytorch(path)
    hint = "; make one of it with streamwatch weights import" if suffix == ".caffemodel" else ""
    raise WeightsInvalid(f"{path} ends in {suffix!r}, expected {' or '.join(SUFFIXES)}{hint}")


def _open_safetensors(path: Path) -> OpenFile:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path} is no whole safetensors file ({error}); bring the file again") from None
    return OpenFile(path=path, shapes=shapes, metadata=metadata, tensor=file.get_tensor)


def _open_pytorch(path: Path) -> OpenFile:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old files are of no use to our users
            # Mapped where the format allows: a network cut early then never reads the 500 MB of its classifier.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch names the function that it would not call; pickles not made by torch.save fail before it comes to one.
        if "GLOBAL" in str(error) or _begins_as_pickle(path):
            raise WeightsInvalid(
                f"{path} holds more than tensors, and nothing of it was run; expected a plain state_dict. "
                "Have whoever made it save model.state_dict(), or convert it to .safetensors where running it is safe"
            ) from None
        raise WeightsInvalid(f"{path} is no PyTorch weights file, or is damaged; bring the file again") from None
    except Exception as error:  # torch raises nearly every type at a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsInvalid(f"{path} is no PyTorch weights file, or is damaged ({first})") from None
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise WeightsInvalid(f"{path} holds {type(content).__name__}, expected a state_dict: tensors by name")
    return OpenFile(
        path=path,
        shapes={key: tuple(value.shape) for key, value in content.items()},
        metadata={},
        tensor=content.__getitem__,
    )


def _begins_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def network_of(path: Path) -> str | None:
    """Which network a file's tensors belong to, by what it says or by their names; None if it fits none."""
    file = open_file(path)
    said = file.metadata.get("network")
    if said in NETWORKS or (said is not None and said.startswith(tuple(f"{each}:" for each in LIBRARIES))):
        return said
    if {"_conv_stem.weight", "conv_stem.weight"} & file.shapes.keys():
        return "lite0"
    for name in ("vgg16", "vgg19"):
        try:
            wanted = needed(name, "conv4_3", form=form_of(name, file.shapes, file.metadata))
        except ValueError:
            continue
        if all(file.shapes.get(key) == shape for key, shape in wanted.items()):
            return name
    return None


def load_network(
    file: WeightsFile, network: Network, layer: str, *, preprocessing_name: str | None = None
) -> LoadedNetwork:
    """Build the network up to a layer from a file's tensors.

    Raises:
        UsageError: No preprocessing of that name.
        UnknownLayer: The network has no such layer, or the file lacks the tensors for it.
        WeightsInvalid: The file is not this network's.
    """
    if network.layer(layer).classifier and file.known is not None and not file.known.classifier:
        raise _no_classifier(file.path, network, layer)
    opened = open_file(file.path)
    said = opened.metadata.get("network")
    if said is not None and said != network.name:
        raise WeightsInvalid(f"{file.path} says that it is for {said!r}, expected {network.name!r}")
    form, own = inspect(opened, network)
    wanted = own.layer(layer)
    _check_shapes(opened, own, layer, form)

    def take(key: str, shape: Shape) -> Tensor:
        tensor = opened.tensor(key)
        if not tensor.is_floating_point():
            raise WeightsInvalid(f"{file.path}: {key} has type {tensor.dtype}, expected floating point")
        if not bool(torch.isfinite(tensor).all()):
            if wanted.classifier and key.startswith("classifier."):
                raise _no_classifier(file.path, network, layer)
            raise WeightsInvalid(f"{file.path}: {key} holds numbers that are not finite; bring the file again")
        return tensor.float()

    module = build(network.name, layer, take, form=form)
    usual = usual_preprocessing(opened, network, file.known)
    weights_id = file.id
    if preprocessing_name is None:
        chosen = usual
    else:
        chosen = preprocessing(preprocessing_name)
        if chosen != usual:  # Other pixels give other vectors: they must not pass for comparable ones.
            weights_id += f"+{preprocessing_name}"
    return LoadedNetwork(
        module=module.eval(),
        network=own,
        layer=layer,
        preprocessing=chosen,
        mean_image=_mean_image(opened, own.input_px) if chosen.mean_image else None,
        weights_id=weights_id,
    )


def inspect(opened: OpenFile, network: Network) -> tuple[Form, Network]:
    """How a file's network differs from the published one, and the network with the file's own input and layers.

    Raises:
        WeightsInvalid: The file says something of itself that cannot be.
    """
    try:
        form = form_of(network.name, opened.shapes, opened.metadata)
        return form, resolved(network, form)
    except (ValueError, RecursionError) as error:
        raise WeightsInvalid(f"{opened.path} cannot be used as {network.title}: {error}") from None


def usable_layers(opened: OpenFile, network: Network, form: Form) -> tuple[str, ...]:
    """The layers that the file has all tensors for."""
    has = opened.shapes.keys()
    return tuple(name for name in network.layers if needed(network.name, name, form=form).keys() <= has)


def _check_shapes(opened: OpenFile, network: Network, layer: str, form: Form) -> None:
    per_layer = {name: needed(network.name, name, form=form) for name in network.layers}
    expected = {key: shape for shapes in per_layer.values() for key, shape in shapes.items()}
    for key, shape in opened.shapes.items():
        if key.endswith(".num_batches_tracked") or (key not in expected and _is_unused(key, network.name)):
            continue
        if key not in expected:
            raise WeightsInvalid(f"{opened.path} holds {key!r} of shape {shape}, which {network.title} does not have")
        if shape != expected[key]:
            raise WeightsInvalid(
                f"{opened.path}: {key} has shape {shape}, expected {expected[key]} for {network.title}"
            )
    missing = [key for key in per_layer[layer] if key not in opened.shapes]
    if not missing:
        return
    has = usable_layers(opened, network, form)
    if not has:
        raise WeightsInvalid(
            f"{opened.path} lacks {missing[0]}, expected of shape {per_layer[layer][missing[0]]} for {network.title}"
        )
    raise UnknownLayer(
        f"{opened.path} has no weights for layer {layer!r} ({missing[0]} is missing); it has {', '.join(has)}"
    )


def _is_unused(key: str, network: str) -> bool:
    return key == MEAN_IMAGE or key.startswith(_CLASSES.get(network, ("fc8.",)))


def _no_classifier(path: Path, network: Network, layer: str) -> UnknownLayer:
    has = ", ".join(name for name, each in network.layers.items() if not each.classifier)
    return UnknownLayer(f"{path} has no usable classifier, which layer {layer!r} needs; it has {has}")


def _mean_image(opened: OpenFile, size_px: int) -> Tensor:
    shape = opened.shapes.get(MEAN_IMAGE)
    if shape != (3, size_px, size_px):
        has = f"has shape {shape}" if shape else "is not in it"
        raise WeightsInvalid(f"{opened.path}: its mean image {has}, expected {MEAN_IMAGE!r} of {(3, size_px, size_px)}")
    image = opened.tensor(MEAN_IMAGE).float()
    if not bool(torch.isfinite(image).all()):
        raise WeightsInvalid(f"{opened.path}: its mean image holds numbers that are not finite; bring the file again")
    return image


def usual_preprocessing(opened: OpenFile, network: Network, known: KnownWeights | None) -> Preprocessing:
    """What the file's network wants its pixels to look like, as far as the file says or its numbers tell.

    Raises:
        WeightsInvalid: What the file says cannot be used.
    """
    if known is not None:
        return known.preprocessing
    said = opened.metadata.get("preprocessing")
    if said is not None:
        try:
            return Preprocessing.from_json(said)
        except ValueError as error:
            raise WeightsInvalid(f"{opened.path}: its metadata key 'preprocessing' cannot be used: {error}") from None
    if network.name == "lite0":
        return LITE0
    if network.name in FC7:
        return CAFFE_BGR
    first = opened.tensor("features.0.weight")[0, :, 0, 0].float()
    # Oxford's file has blue first; the same numbers turned round have it last. 2e-3 leaves room for half precision.
    if abs(float(first[0]) - _OXFORD_FIRST_NUMBER) < 2e-3:
        return CAFFE_BGR
    if abs(float(first[2]) - _OXFORD_FIRST_NUMBER) < 2e-3:
        return TORCHVISION_FEATURES
    return TORCHVISION
