"""Caffe's files written byte by byte, and its arithmetic in NumPy: what reader and networks are held against."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding.chain import Chain, Convolution, FullyConnected, MaxPool, Operation, Rectifier, ResponseNorm

Array = NDArray[np.float32]


# ---- protobuf's wire format ----


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | str | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array: Array, *, legacy: bool = False, numbers: str = "packed") -> bytes:
    """A BlobProto; `numbers`: packed, pieces (packed in two), loose (one by one), double, loose double."""
    if legacy:  # num, channels, height, width
        sides = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(number, side) for number, side in enumerate(sides, 1))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    flat = array.ravel()
    single, double = flat.astype("<f4").tobytes(), flat.astype("<f8").tobytes()
    if numbers == "packed":
        return shape + field(5, single)
    if numbers == "pieces":
        return field(5, single[:4]) + shape + field(5, single[4:])
    if numbers == "loose":
        return shape + b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in flat)
    if numbers == "double":
        return shape + field(8, double)
    assert numbers == "loose double"
    return shape + b"".join(varint(8 << 3 | 1) + struct.pack("<d", value) for value in flat)


# ---- networks ----


@dataclass(frozen=True)
class CaffeFiles:
    """A network as Caffe's two files."""

    prototxt: str
    caffemodel: bytes


_V1 = {"conv": "CONVOLUTION", "fc": "INNER_PRODUCT", "relu": "RELU", "lrn": "LRN", "pool": "POOLING"}
_V2 = {"conv": "Convolution", "fc": "InnerProduct", "relu": "ReLU", "lrn": "LRN", "pool": "Pooling"}


def caffe_files(
    chain: Chain, tensors: dict[str, Array], *, v1: bool, numbers: str = "packed", legacy: bool | None = None
) -> CaffeFiles:
    """The chain as a deploy prototxt and a caffemodel: of 2014 (`layers`, ReLU in place) or after (`layer`)."""
    legacy = v1 if legacy is None else legacy
    px, lines, model = chain.input_px, ['name: "made"'], field(1, "made")
    if v1:
        lines += ['input: "data"', *(f"input_dim: {side}" for side in (1, 3, px, px))]
    else:
        shape = " ".join(f"dim: {side}" for side in (1, 3, px, px))
        lines.append(f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}')
    last = "data"
    for operation in chain.operations:
        kind, parameters = _parameters(operation)
        name = getattr(operation, "name", f"{kind}_{last}")
        top = last if kind == "relu" else name
        type_ = _V1[kind] if v1 else f'"{_V2[kind]}"'
        word = "layers" if v1 else "layer"
        lines.append(f'{word} {{ name: "{name}" type: {type_} bottom: "{last}" top: "{top}" {parameters} }}')
        last = top
        if f"{name}.weight" in tensors:
            blobs = [blob(tensors[f"{name}.{part}"], legacy=legacy, numbers=numbers) for part in ("weight", "bias")]
            if v1:
                body = field(4, name) + field(5, {"conv": 4, "fc": 14}[kind])
                model += field(2, body + b"".join(field(6, each) for each in blobs))
            else:
                body = field(1, name) + field(2, _V2[kind])
                model += field(100, body + b"".join(field(7, each) for each in blobs))
    return CaffeFiles("\n".join(lines) + "\n", model)


def _parameters(operation: Operation) -> tuple[str, str]:
    if isinstance(operation, Convolution):
        sizes = f"num_output: {operation.channels} kernel_size: {operation.kernel} stride: {operation.stride}"
        return "conv", f"convolution_param {{ {sizes} pad: {operation.pad} weight_filler {{ type: 'xavier' }} }}"
    if isinstance(operation, FullyConnected):
        return "fc", f"inner_product_param {{ num_output: {operation.outputs} }}"
    if isinstance(operation, ResponseNorm):
        sizes = f"local_size: {operation.size} alpha: {operation.alpha} beta: {operation.beta} k: {operation.k}"
        return "lrn", f"lrn_param {{ {sizes} }}"
    if isinstance(operation, MaxPool):
        sizes = f"kernel_size: {operation.kernel} stride: {operation.stride} pad: {operation.pad}"
        return "pool", f"pooling_param {{ pool: MAX {sizes} }}"
    return "relu", ""


def random_tensors(chain: Chain, seed: int = 0) -> dict[str, Array]:
    """Weights that keep the numbers' size from layer to layer."""
    random = np.random.default_rng(seed)
    tensors = {}
    for key, shape in chain.tensors().items():
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        tensors[key] = (random.standard_normal(shape, np.float32) * np.float32(scale)).astype(np.float32)
    return tensors


def with_norm(chain: Chain, **changes: float) -> Chain:
    """The chain with other parameters of its LRN."""
    changed = (replace(each, **changes) if isinstance(each, ResponseNorm) else each for each in chain.operations)  # type: ignore[arg-type]
    return Chain(input_px=chain.input_px, operations=tuple(changed))


# ---- the arithmetic, in double precision ----


def forward(chain: Chain, tensors: dict[str, Array], x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Every operation's output but LRN's for a (3, side, side) input: by name, a ReLU's by that of what it follows."""
    found: dict[str, NDArray[np.float64]] = {}
    name = ""
    for operation in chain.operations:
        name = getattr(operation, "name", name)
        if isinstance(operation, Convolution):
            x = _convolution(x, operation, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        elif isinstance(operation, FullyConnected):
            x = tensors[f"{name}.weight"].astype(np.float64) @ x.ravel() + tensors[f"{name}.bias"]
        elif isinstance(operation, Rectifier):
            x = np.maximum(x, 0)
        elif isinstance(operation, ResponseNorm):
            reach = operation.size // 2
            sums = [(x[max(0, channel - reach) : channel + reach + 1] ** 2).sum(axis=0) for channel in range(len(x))]
            x = x / (operation.k + operation.alpha / operation.size * np.array(sums)) ** operation.beta
        else:
            x = _max_pool(x, operation)
        if not isinstance(operation, ResponseNorm):
            found[name] = x
    return found


def _convolution(x: NDArray[np.float64], own: Convolution, weight: Array, bias: Array) -> NDArray[np.float64]:
    padded = np.pad(x, ((0, 0), (own.pad, own.pad), (own.pad, own.pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (own.kernel, own.kernel), axis=(1, 2))
    windows = windows[:, :: own.stride, :: own.stride]
    result: NDArray[np.float64] = np.einsum("chwij,ocij->ohw", windows, weight.astype(np.float64), optimize=True)
    return result + bias[:, None, None]


def _max_pool(x: NDArray[np.float64], own: MaxPool) -> NDArray[np.float64]:
    """As Caffe's documentation of the layer has it: windows until the map is covered, borders never win."""
    spans = list(_spans(x.shape[1], own))
    return np.array([[[part[a:b, c:d].max() for c, d in spans] for a, b in spans] for part in x])


def _spans(side: int, own: MaxPool) -> Iterable[tuple[int, int]]:
    start = -own.pad
    while True:
        if start >= side:
            return
        yield max(0, start), min(side, start + own.kernel)
        if start + own.kernel >= side + own.pad:
            return
        start += own.stride


def relative_error(got: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """‖got − expected‖ / ‖expected‖, of arrays that hold the same numbers in the same order."""
    assert got.size == expected.size
    difference = np.linalg.norm(got.ravel().astype(np.float64) - expected.ravel())
    return float(difference / np.linalg.norm(expected.ravel()))
