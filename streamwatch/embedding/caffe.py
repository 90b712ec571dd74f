"""Caffe's files read: a deploy prototxt as a chain of operations, a .caffemodel's numbers, a mean image.

Both of Caffe's ways to write layers are read (`layer`, and `layers` of 2014 and before), and both ways to write a
blob's shape (`shape`, and num, channels, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.caffe_schema import message
from streamwatch.embedding.chain import (
    Chain,
    Convolution,
    FullyConnected,
    MaxPool,
    Operation,
    Rectifier,
    ResponseNorm,
    check_operation,
)
from streamwatch.errors import WeightsInvalid, WeightsMissing

Array = NDArray[np.float32]

_MAX_PROTOTXT_BYTES = 1 << 20
_MAX_MEAN_BYTES = 64 << 20
_MAX_MODEL_BYTES = (1 << 31) - 1
"""protobuf reads no larger message."""

_MOST_SIDES = 8

_INPUTS = {
    *("Input", "Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "WindowData"),
    *("DATA", "IMAGE_DATA", "MEMORY_DATA", "HDF5_DATA", "DUMMY_DATA", "WINDOW_DATA"),
}
_WITHOUT_EFFECT = {"Dropout", "DROPOUT", "Split", "SPLIT"}
_BEHIND = {
    *("Softmax", "SoftmaxWithLoss", "Accuracy", "ArgMax", "Silence"),
    *("SOFTMAX", "SOFTMAX_LOSS", "ACCURACY", "ARGMAX", "SILENCE"),
}


def read_prototxt(path: Path) -> Chain:
    """The network that a deploy prototxt describes; its operations have the prototxt's names.

    Raises:
        WeightsMissing: There is no such file.
        WeightsInvalid: It is no prototxt, or a network of another kind than one chain of convolutions, ReLU, LRN,
            max-pools and fully connected layers.
    """
    from google.protobuf import text_format

    content = _read(path, _MAX_PROTOTXT_BYTES)
    net = message("Net")()
    try:
        # What is not declared (fillers, learning rates, data sources) does not change the numbers.
        text_format.Parse(content.decode("utf-8"), net, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsInvalid(f"{path} is no prototxt: {error}; expected Caffe's deploy prototxt as text") from None
    try:
        operations = _operations(_layers(net))
        return Chain(input_px=_input_px(net), operations=operations)
    except ValueError as error:
        raise WeightsInvalid(f"{path}: {error}") from None


class CaffeModel:
    """A .caffemodel's blobs by layer name. About twice the file's size is held in memory until it is dropped."""

    def __init__(self, path: Path) -> None:
        """Read and parse the file.

        Raises:
            WeightsMissing: There is no such file.
            WeightsInvalid: It is none, is cut off, or says nothing that can be used.
        """
        self.path = path
        content = _read(path, _MAX_MODEL_BYTES)
        net = message("Net")()
        try:
            net.ParseFromString(content)
        except Exception as error:  # protobuf's DecodeError has another home in each of its implementations
            raise WeightsInvalid(
                f"{path} is no whole .caffemodel: {str(error) or type(error).__name__}; bring the file again"
            ) from None
        self._blobs: dict[str, Any] = {}
        for layer in (*net.layers, *net.layer):
            if not layer.blobs:
                continue
            if layer.name in self._blobs:
                raise WeightsInvalid(f"{path} has two layers called {layer.name!r} with numbers, expected one")
            self._blobs[layer.name] = layer.blobs
        if not self._blobs:
            raise WeightsInvalid(
                f"{path} holds no layer with numbers (it is {len(content):,} bytes long); expected a .caffemodel "
                "as Caffe's training or a model zoo gives it, not its prototxt or a solver's state"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Layers that have numbers."""
        return tuple(self._blobs)

    def tensors(self, chain: Chain) -> dict[str, Array]:
        """The numbers that a chain needs, as `chain.tensors()` names them.

        Raises:
            WeightsInvalid: A layer is missing, or its numbers are of another shape, or not finite.
        """
        found = {}
        for key, shape in chain.tensors().items():
            name, _, part = key.rpartition(".")
            blobs = self._blobs.get(name)
            if blobs is None:
                raise WeightsInvalid(
                    f"{self.path} has no numbers for layer {name!r}, which the prototxt has; it has "
                    f"{', '.join(map(repr, self.names[:30]))}. Are the two files of one network?"
                )
            if len(blobs) != 2:
                raise WeightsInvalid(f"{self.path}: layer {name!r} has {len(blobs)} blobs, expected weights and bias")
            array = _numbers(blobs[0 if part == "weight" else 1], f"{self.path}: {key}")
            if _without_ones(array.shape) != _without_ones(shape):
                raise WeightsInvalid(
                    f"{self.path}: {key} has shape {_words(array.shape)}, expected {_words(shape)} by the prototxt"
                )
            if not np.isfinite(array).all():
                raise WeightsInvalid(f"{self.path}: {key} holds numbers that are not finite; bring the file again")
            found[key] = array.reshape(shape)
        return found


def read_mean(path: Path, *, size_px: int) -> Array:
    """A mean image, its centre cut out as Caffe does it: shape (3, size_px, size_px), blue first, of 0 … 255.

    Raises:
        WeightsMissing: There is no such file.
        WeightsInvalid: It is none, has other than three channels, or is smaller than the network's input.
    """
    content = _read(path, _MAX_MEAN_BYTES)
    blob = message("Blob")()
    try:
        blob.ParseFromString(content)
    except Exception as error:
        raise WeightsInvalid(f"{path} is no mean image: {str(error) or type(error).__name__}") from None
    mean = _numbers(blob, str(path))
    shape = _without_ones(mean.shape)
    if len(shape) != 3 or shape[0] != 3:
        raise WeightsInvalid(f"{path} has shape {_words(mean.shape)}, expected a mean image of three channels: 3×H×W")
    _, height, width = shape
    if height < size_px or width < size_px:
        raise WeightsInvalid(
            f"{path} is {width}×{height} pixels, smaller than the network's input of {size_px}×{size_px}; "
            "bring the mean image that belongs to this network"
        )
    if not np.isfinite(mean).all() or mean.min() < 0 or mean.max() > 255:
        raise WeightsInvalid(f"{path} holds numbers outside 0 … 255, which no mean of pixels can be; bring it again")
    top, left = (height - size_px) // 2, (width - size_px) // 2
    return np.ascontiguousarray(mean.reshape(shape)[:, top : top + size_px, left : left + size_px])


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise WeightsInvalid(f"{path} cannot be read: it is no plain file")
        size = path.stat().st_size
        if size > limit:
            raise WeightsInvalid(f"{path} is {size:,} bytes long, expected at most {limit:,}; is it the right file?")
        with path.open("rb") as file:
            content = file.read(size)
    except FileNotFoundError:
        raise WeightsMissing(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise WeightsInvalid(f"{path} cannot be read: {error.strerror or error}") from None
    if not content:
        raise WeightsInvalid(f"{path} is empty; bring the file again")
    return content


# ---- blobs ----


def _numbers(blob: Any, where: str) -> Array:
    """A blob's numbers in its own shape; without a copy where they stand packed in one piece."""
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    if len(shape) > _MOST_SIDES:
        raise WeightsInvalid(f"{where} has {len(shape):,} sides, expected at most {_MOST_SIDES}")
    if any(side < 0 for side in shape):
        raise WeightsInvalid(f"{where} has shape {_words(shape)}, expected no side below 0")
    count = math.prod(shape)
    array: NDArray[Any]
    if (packed := blob.data) or blob.double_data:
        type_ = np.dtype("<f4" if packed else "<f8")
        pieces = packed or blob.double_data
        if sum(map(len, pieces)) != count * type_.itemsize:
            found = f"{sum(map(len, pieces)):,} bytes of {type_.name}"
            raise WeightsInvalid(f"{where} has {found}, expected {count:,} numbers by its shape {_words(shape)}")
        array = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), type_)
    else:
        # Numbers one by one are of another wire type than bytes are, and so are left among the unknown fields.
        loose = message("Unpacked").FromString(blob.SerializeToString())
        numbers = loose.data or loose.double_data
        if len(numbers) != count:
            raise WeightsInvalid(
                f"{where} has {len(numbers):,} numbers, expected {count:,} by its shape {_words(shape)}"
            )
        array = np.fromiter(numbers, np.float32, count)
    return np.asarray(array, np.float32).reshape(shape)


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """Old files write a vector as 1×1×1×n and a matrix as 1×1×m×n."""
    first = next((index for index, side in enumerate(shape) if side != 1), len(shape))
    return tuple(shape[first:])


def _words(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "()"


# ---- prototxt ----


def _layers(net: Any) -> list[tuple[str, Any]]:
    """(type, layer) in the file's order."""
    if net.layers and net.layer:
        raise ValueError("it has both `layers` and `layer`, expected one of the two ways to write layers")
    if net.layers:
        kinds = message("V1Layer").DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
        if all(layer.type == 0 for layer in net.layers):
            raise ValueError(
                "its layers have no type (the format of 2013); bring it up to date with Caffe's upgrade_net_proto_text"
            )
        return [(kinds[layer.type].name, layer) for layer in net.layers]
    return [(layer.type, layer) for layer in net.layer]


def _input_px(net: Any) -> int:
    sizes = [tuple(shape.dim) for shape in net.input_shape]
    sizes += [tuple(net.input_dim)] if net.input_dim else []
    sizes += [tuple(shape.dim) for layer in net.layer for shape in layer.input_param.shape]
    if len(sizes) != 1:
        raise ValueError(f"it has {len(sizes)} inputs with a size, expected one (a deploy prototxt has input_dim)")
    size = sizes[0]
    if len(size) != 4 or size[1] != 3 or size[2] != size[3]:
        raise ValueError(f"its input is {_words(size)}, expected N×3×S×S: a square picture of three channels")
    return int(size[2])


def _operations(layers: Sequence[tuple[str, Any]]) -> tuple[Operation, ...]:
    operations: list[Operation] = []
    names: set[str] = set()
    top: str | None = None
    for kind, layer in layers:
        if kind in _INPUTS:
            continue
        if kind in _BEHIND:
            break
        if len(layer.bottom) != 1 or len(layer.top) != 1:
            raise ValueError(
                f"layer {layer.name!r} has {len(layer.bottom)} inputs and {len(layer.top)} outputs, expected one each"
            )
        if top is not None and layer.bottom[0] != top:
            raise ValueError(
                f"layer {layer.name!r} takes {layer.bottom[0]!r}, expected {top!r}: layers one after another"
            )
        top = layer.top[0]
        if kind in _WITHOUT_EFFECT:
            continue
        if kind not in _READERS:
            raise ValueError(
                f"layer {layer.name!r} is of type {kind!r}; expected Convolution, ReLU, LRN, Pooling or InnerProduct"
            )
        try:
            operation = check_operation(_READERS[kind](layer))
        except ValueError as error:
            raise ValueError(f"layer {layer.name!r}: {error}") from None
        if layer.name in names:
            raise ValueError(f"two layers are called {layer.name!r}")
        names.add(layer.name)
        operations.append(operation)
    if not operations:
        raise ValueError("it has no layers; expected Caffe's deploy prototxt")
    return tuple(operations)


def _convolution(layer: Any) -> Operation:
    own = layer.convolution_param
    _only(own, bias_term=True, group=1, axis=1)
    if any(each != 1 for each in own.dilation):
        raise ValueError(f"its dilation is {list(own.dilation)}, expected 1")
    return Convolution(
        name=layer.name,
        channels=own.num_output,
        kernel=_side(own, "kernel_size", "kernel", None),
        stride=_side(own, "stride", "stride", 1),
        pad=_side(own, "pad", "pad", 0),
    )


def _pooling(layer: Any) -> Operation:
    own = layer.pooling_param
    _only(own, pool=0, global_pooling=False, round_mode=0)
    return MaxPool(
        name=layer.name,
        kernel=_side(own, "kernel_size", "kernel", None),
        stride=_side(own, "stride", "stride", 1),
        pad=_side(own, "pad", "pad", 0),
    )


def _norm(layer: Any) -> Operation:
    own = layer.lrn_param
    _only(own, norm_region=0)
    # The file's numbers are single precision; as such 0.0005 would be 0.0005000000237 here.
    alpha, beta, k = (float(str(np.float32(value))) for value in (own.alpha, own.beta, own.k))
    return ResponseNorm(size=own.local_size, alpha=alpha, beta=beta, k=k)


def _rectifier(layer: Any) -> Operation:
    _only(layer.relu_param, negative_slope=0)
    return Rectifier()


def _fully_connected(layer: Any) -> Operation:
    _only(layer.inner_product_param, bias_term=True, axis=1, transpose=False)
    return FullyConnected(name=layer.name, outputs=layer.inner_product_param.num_output)


_READERS = {
    **{"Convolution": _convolution, "Pooling": _pooling, "LRN": _norm, "ReLU": _rectifier},
    **{"CONVOLUTION": _convolution, "POOLING": _pooling, "RELU": _rectifier},
    **{"InnerProduct": _fully_connected, "INNER_PRODUCT": _fully_connected},
}


def _only(parameters: Any, **expected: Any) -> None:
    """Refuse what other networks have and these do not."""
    for name, value in expected.items():
        if (got := getattr(parameters, name)) != value:
            field = parameters.DESCRIPTOR.fields_by_name[name]
            if field.enum_type is not None:
                got, value = (field.enum_type.values_by_number[each].name for each in (got, value))
            raise ValueError(f"its {name} is {got}, expected {value}")


def _side(parameters: Any, both: str, each: str, default: int | None) -> int:
    """A number that is given once, once a direction, or as height and width; it must be the same in both."""
    given = getattr(parameters, both)
    single = isinstance(given, int)
    values = [given] if single and parameters.HasField(both) else [] if single else list(given)
    values += [getattr(parameters, f"{each}_{way}") for way in "hw" if parameters.HasField(f"{each}_{way}")]
    if not values:
        if default is None:
            raise ValueError(f"it has no {both}")
        return default
    if len(set(values)) > 1:
        raise ValueError(f"its {both} is {'×'.join(map(str, values))}, expected the same in both directions")
    return int(values[0])
