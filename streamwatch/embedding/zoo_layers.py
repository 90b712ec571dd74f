"""A library's network run once to find its layers, and cut at one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from streamwatch.embedding.networks import Layer
from streamwatch.errors import UnknownNetwork, WeightsInvalid
from streamwatch.records import Grid

_HEADS = ("classifier", "head", "heads", "fc")
"""Modules that name classes: never the default layer."""

_MOST_PREFIX_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Place:
    """A module's output."""

    layer: Layer
    calls: int
    """Which call of the module is meant: the last one."""

    layout: str
    """`nchw`, `nhwc`, `tokens` or `vector`."""

    ended: int
    """When, in the order of all that happens in one run."""


def run_once(model: nn.Module, input_px: int, name: str) -> tuple[dict[str, Place], dict[str, int]]:
    """The modules that can be cut at, in the order in which they end, and when each module first begins."""
    places: dict[str, Place] = {}
    started: dict[str, int] = {"": 0}
    calls: dict[str, int] = {}
    clock = iter(range(1, 1 << 30))
    prefix = getattr(model, "num_prefix_tokens", None)

    def before(module_name: str) -> Any:
        return lambda _module, _inputs: started.setdefault(module_name, next(clock)) and None

    def after(module_name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            calls[module_name] = calls.get(module_name, 0) + 1
            places.pop(module_name, None)
            found = _layout(output, prefix)
            if found is not None:
                layout, grid, dimensions = found
                layer = Layer(name=module_name, grid=grid, dimensions=dimensions)
                places[module_name] = Place(layer=layer, calls=calls[module_name], layout=layout, ended=next(clock))

        return note

    hooks = []
    for module_name, module in model.named_modules():
        if module_name:
            hooks += [
                module.register_forward_pre_hook(before(module_name)),
                module.register_forward_hook(after(module_name)),
            ]
    try:
        with torch.inference_mode():
            model(torch.zeros(2, 3, input_px, input_px))
    except Exception as error:  # whatever a network raises at an input that it does not take
        raise WeightsInvalid(f"{name} does not take pictures of {input_px}×{input_px} px: {error}") from None
    finally:
        for hook in hooks:
            hook.remove()
    if not places:
        raise UnknownNetwork(f"{name} has no layer that gives a map or a vector a picture")
    return places, started


def _layout(output: Any, prefix: int | None) -> tuple[str, Grid, int] | None:
    """How a module's output for two square pictures lies, its grid and channels; None if it is no map or vector."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4) or output.shape[0] != 2:
        return None  # Windows of attention stand in the first place, behind each other.
    sides = tuple(output.shape[1:])
    if len(sides) == 1:
        return "vector", Grid(1, 1), sides[0]
    if len(sides) == 3:
        # The input is square, and so is the map: the two sides that are equal are its own.
        if sides[1] == sides[2]:
            return "nchw", Grid(sides[1], sides[2]), sides[0]
        return ("nhwc", Grid(sides[0], sides[1]), sides[2]) if sides[0] == sides[1] else None
    tokens = sides[0] - (prefix or 0)
    side = math.isqrt(max(tokens, 0))
    if prefix is not None and side * side != tokens:
        tokens, side = sides[0], math.isqrt(sides[0])
    if not side or tokens - side * side > _MOST_PREFIX_TOKENS:
        return None
    return "tokens", Grid(side, side), sides[1]


def default_of(places: Mapping[str, Place]) -> str:
    """The last map before the classifier; where there is none, the last vector."""
    body = [name for name in places if name.partition(".")[0] not in _HEADS]
    maps = [name for name in body if places[name].layer.grid.regions > 1]
    return (maps or body or list(places))[-1]


class _Reached(Exception):
    """Carries a layer's output out of the network, whose rest is not run."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class Cut(nn.Module):
    """A network up to one of its modules: output (n, channels, rows, columns)."""

    def __init__(self, model: nn.Module, layer: str, place: Place) -> None:
        super().__init__()
        self.model = model
        self._place = place
        self._seen = 0
        model.get_submodule(layer).register_forward_hook(self._note)

    def _note(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._seen += 1
        if self._seen == self._place.calls:
            raise _Reached(output)

    def forward(self, x: Tensor) -> Tensor:
        self._seen = 0
        try:
            self.model(x)
        except _Reached as reached:
            return self._as_map(reached.output)
        raise WeightsInvalid(f"{self._place.layer.name} was not reached for a picture; choose another layer")

    def _as_map(self, output: Tensor) -> Tensor:
        if self._place.layout == "nchw":
            return output
        if self._place.layout == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self._place.layout == "vector":
            return output[:, :, None, None]
        grid = self._place.layer.grid
        return output[:, -grid.regions :].transpose(1, 2).reshape(len(output), -1, grid.rows, grid.columns)
