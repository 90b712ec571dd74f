"""A plain network as a list of operations, with Caffe's arithmetic for the sizes. Light: no torch.

A weights file of such a network carries this list as JSON (metadata key `chain`), since response normalisation and
pooling have parameters that no tensor shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

MAX_INPUT_PX = 1024
_MAX_NUMBER = 1 << 16
"""No kernel, stride or count of channels in a file may be larger: it would be a damaged or hostile one."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Square kernels over zero-padded borders; its tensors are `name.weight` and `name.bias`."""

    name: str
    channels: int
    kernel: int
    stride: int
    pad: int

    def __str__(self) -> str:
        return f"convolution {self.name} {self.kernel}×{self.kernel}/{self.stride} to {self.channels}"


@dataclass(frozen=True, kw_only=True)
class FullyConnected:
    """Reads its input in the order channels, rows, columns; its tensors are `name.weight` and `name.bias`."""

    name: str
    outputs: int

    def __str__(self) -> str:
        return f"fully connected {self.name} to {self.outputs}"


@dataclass(frozen=True, kw_only=True)
class Rectifier:
    """max(x, 0)"""

    def __str__(self) -> str:
        return "ReLU"


@dataclass(frozen=True, kw_only=True)
class ResponseNorm:
    """x / (k + alpha / size · Σ x² over `size` neighbouring channels) ** beta, as Caffe's ACROSS_CHANNELS."""

    size: int
    alpha: float
    beta: float
    k: float

    def __str__(self) -> str:
        return f"LRN over {self.size} channels"


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Windows that begin inside the map, as many as it takes to cover it (Caffe's rounding up)."""

    name: str
    kernel: int
    stride: int
    pad: int

    def __str__(self) -> str:
        return f"max-pool {self.name} {self.kernel}×{self.kernel}/{self.stride}"


Operation = Convolution | FullyConnected | Rectifier | ResponseNorm | MaxPool
_KINDS: dict[str, type[Operation]] = {
    "conv": Convolution,
    "fc": FullyConnected,
    "relu": Rectifier,
    "lrn": ResponseNorm,
    "maxpool": MaxPool,
}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Operations one after another, from a square input of three channels."""

    input_px: int
    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.input_px <= MAX_INPUT_PX:
            raise ValueError(f"the input is {self.input_px} px wide, expected 1 … {MAX_INPUT_PX}")
        self.shapes()

    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(channels, side) of the square map behind each operation.

        Raises:
            ValueError: An operation cannot follow: its window is larger than the map, or it has no sense there.
        """
        channels, side, flat = 3, self.input_px, False
        found = []
        for operation in self.operations:
            if isinstance(operation, FullyConnected):
                channels, side, flat = operation.outputs, 1, True
            elif flat and not isinstance(operation, Rectifier):
                raise ValueError(f"{operation} stands behind a fully connected layer")
            elif isinstance(operation, Convolution):
                channels, side = operation.channels, _strides(operation, side, up=False) + 1
            elif isinstance(operation, MaxPool):
                windows = _strides(operation, side, up=True) + 1
                # With a border the last window could begin behind the map: then there is none.
                if operation.pad and (windows - 1) * operation.stride >= side + operation.pad:
                    windows -= 1
                side = windows
            found.append((channels, side))
        return tuple(found)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The tensors that the operations need, by name with their shapes (out, in, rows, columns) or (out, in)."""
        needed: dict[str, tuple[int, ...]] = {}
        channels, side = 3, self.input_px
        for operation, (out, out_side) in zip(self.operations, self.shapes(), strict=True):
            if isinstance(operation, Convolution):
                needed[f"{operation.name}.weight"] = (out, channels, operation.kernel, operation.kernel)
                needed[f"{operation.name}.bias"] = (out,)
            elif isinstance(operation, FullyConnected):
                needed[f"{operation.name}.weight"] = (out, channels * side * side)
                needed[f"{operation.name}.bias"] = (out,)
            channels, side = out, out_side
        return needed

    def to_json(self) -> str:
        """As `from_json` reads it; the same text for the same chain."""
        names = {kind: name for name, kind in _KINDS.items()}
        operations = [{"op": names[type(operation)], **asdict(operation)} for operation in self.operations]
        return json.dumps({"input_px": self.input_px, "operations": operations})

    @staticmethod
    def from_json(text: str) -> Chain:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is no such document, or its numbers make no network.
        """
        data: Any = json.loads(text)
        if not isinstance(data, dict) or set(data) != {"input_px", "operations"}:
            raise ValueError(f"it is {text[:80]!r}, expected an object with input_px and operations")
        if not isinstance(data["operations"], list):
            raise ValueError("operations is no list")
        operations = tuple(_operation(each) for each in data["operations"])
        return Chain(input_px=whole_number(data["input_px"], "input_px", least=1), operations=operations)


def whole_number(value: Any, name: str, *, least: int) -> int:
    """The value, if it is an int from `least` to a bound that no real network passes.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_NUMBER:
        raise ValueError(f"{name} is {value!r}, expected a whole number of {least} … {_MAX_NUMBER}")
    return value


def check_operation(operation: Operation) -> Operation:
    """The operation itself, its numbers checked.

    Raises:
        ValueError: A number is out of range.
    """
    for field in fields(operation):
        value = getattr(operation, field.name)
        if field.name == "name":
            if not isinstance(value, str) or not value:
                raise ValueError(f"name is {value!r}, expected text")
        elif field.name in ("alpha", "beta", "k"):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{field.name} is {value!r}, expected a finite number")
        else:
            whole_number(value, field.name, least=0 if field.name == "pad" else 1)
    if isinstance(operation, ResponseNorm):
        if operation.size % 2 == 0:
            raise ValueError(f"LRN's size is {operation.size}, expected an odd number")
        if operation.k <= 0 or operation.alpha < 0:
            raise ValueError(f"LRN has k {operation.k} and alpha {operation.alpha}, expected above 0 and at least 0")
    if isinstance(operation, MaxPool) and operation.stride > operation.kernel:
        raise ValueError(f"{operation} leaves gaps, expected a stride of at most its kernel")
    if isinstance(operation, MaxPool) and 2 * operation.pad > operation.kernel:
        raise ValueError(f"{operation} has a border of {operation.pad}, expected at most half its kernel")
    return operation


def first_difference(got: Sequence[Operation], expected: Sequence[Operation]) -> tuple[int, str] | None:
    """Where two lists first differ in kind, kernel, stride or channels, and what it is; None if they do not.

    Names, borders, LRN's numbers, a pool's numbers and what stands behind the expected list are not compared.
    """
    for index, each in enumerate(expected):
        if index >= len(got):
            return index, f"it ends after {index} operations, where {each} is expected"
        if _essence(got[index]) != _essence(each):
            return index, f"it has {got[index]} as operation {index + 1}, where {each} is expected"
    return None


def _essence(operation: Operation) -> tuple[Any, ...]:
    if isinstance(operation, Convolution):
        return Convolution, operation.channels, operation.kernel, operation.stride
    if isinstance(operation, FullyConnected):
        return FullyConnected, operation.outputs
    return (type(operation),)


def _operation(data: Any) -> Operation:
    if not isinstance(data, dict) or data.get("op") not in _KINDS:
        raise ValueError(f"{str(data)[:80]!r} is no operation, expected an object whose op is {' or '.join(_KINDS)}")
    kind = _KINDS[data["op"]]
    names = {field.name for field in fields(kind)}
    if set(data) != {"op", *names}:
        raise ValueError(
            f"an operation {data['op']} has {', '.join(sorted(data))}, expected {', '.join(sorted(names))}"
        )
    return check_operation(kind(**{name: data[name] for name in names}))


def _strides(operation: Convolution | MaxPool, side: int, *, up: bool) -> int:
    room = side + 2 * operation.pad - operation.kernel
    if room < 0:
        raise ValueError(f"{operation} is larger than the {side}×{side} map that it gets")
    return -(-room // operation.stride) if up else room // operation.stride
