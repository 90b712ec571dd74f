"""The networks in torch, built only as far as the layer asked for, batch normalisation folded into the convolutions.

They are written out here, since importing torchvision or timm costs every process some 170 to 200 MB and more than a
second; the tests hold them against torchvision's and timm's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamwatch.embedding import cnn_m
from streamwatch.embedding.chain_torch import modules as chain_modules
from streamwatch.embedding.forms import PUBLISHED, Form
from streamwatch.embedding.networks import VGG_CONVOLUTIONS

_VGG_CHANNELS = (3, 64, 128, 256, 512, 512)

# Repeats, kernel, first stride, expansion, channels out: Tan & Le 2019, table 1, as the lite variant has it.
_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_LITE0_STEM, _LITE0_HEAD = 32, 1280
_LITE0_BN_EPS = 1e-3
_VGG_BN_EPS = 1e-5


class Take(Protocol):
    """Where a builder gets its weights from."""

    def __call__(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name, float32; raises if it is not there, or has another shape."""
        ...


def build(network: str, layer: str, take: Take, *, form: Form = PUBLISHED) -> nn.Module:
    """The network up to a layer: float input (n, 3, side, side), output (n, channels, rows, columns), before averaging.

    Args:
        network: A name in `networks.NETWORKS`.
        layer: One of its layers.
        take: Gives the weights; it is asked for nothing behind the cut.
        form: How the file's network differs from the published one.
    """
    if network == "lite0":
        return nn.Sequential(*_lite0(layer, take, form.timm_names))
    if network in cnn_m.FC7:
        chain = form.chain or cnn_m.published(cnn_m.FC7[network])
        return nn.Sequential(*chain_modules(cnn_m.cut(chain, layer), take))
    return nn.Sequential(*_vgg(VGG_CONVOLUTIONS[network], layer, take, form))


def needed(network: str, layer: str, *, form: Form = PUBLISHED) -> dict[str, tuple[int, ...]]:
    """The tensors, by name with their shapes, that `build` asks for."""
    asked: dict[str, tuple[int, ...]] = {}

    def take(key: str, shape: tuple[int, ...]) -> Tensor:
        asked[key] = shape
        return torch.empty(shape, device="meta")  # takes no memory, and folding it no time

    build(network, layer, take, form=form)
    return asked


def _vgg(convolutions: Iterable[int], layer: str, take: Take, form: Form) -> list[nn.Module]:
    modules: list[nn.Module] = []
    index = 0  # in torchvision's `features`
    for block, (count, (channels, out)) in enumerate(zip(convolutions, pairwise(_VGG_CHANNELS), strict=True), 1):
        for number in range(1, count + 1):
            weight = take(f"features.{index}.weight", (out, channels, 3, 3))
            bias = take(f"features.{index}.bias", (out,))
            if form.batch_norm:
                index += 1
                weight, bias = _folded(weight, bias, f"features.{index}", take, _VGG_BN_EPS)
            modules += [_Conv(weight, bias, padding=1), nn.ReLU(inplace=True)]
            index, channels = index + 2, out
            if layer == f"conv{block}_{number}":
                return modules
        modules.append(nn.MaxPool2d(2))
        index += 1
    if layer == "pool5":
        return modules
    if form.input_px != 32 * form.pooled:
        modules.append(nn.AdaptiveAvgPool2d(form.pooled))
    modules.append(nn.Flatten())
    inputs = form.pooled**2 * 512
    for name, (key, outputs) in zip(("fc6", "fc7"), form.fc, strict=True):
        weight = take(f"{key}.weight", (outputs, inputs))
        modules += [_Linear(weight, take(f"{key}.bias", (outputs,))), nn.ReLU(inplace=True)]
        inputs = outputs
        if layer == name:
            break
    return [*modules, nn.Unflatten(1, (inputs, 1, 1))]


def _folded(weight: Tensor, bias: Tensor | None, norm: str, take: Take, eps: float) -> tuple[Tensor, Tensor]:
    """A convolution and the batch normalisation behind it as one convolution; computed in double precision."""
    parts = [take(f"{norm}.{part}", weight.shape[:1]) for part in ("weight", "bias", "running_mean", "running_var")]
    gain, shift, mean, var = (part.double() for part in parts)
    factor = gain / torch.sqrt(var + eps)
    start = -mean if bias is None else bias.double() - mean
    return (weight.double() * factor[:, None, None, None]).float(), (shift + start * factor).float()


def _lite0(layer: str, take: Take, timm: bool) -> list[nn.Module]:
    def folded(
        names: tuple[str, str, str, str], shape: tuple[int, ...], *, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        conv, bn = names[2:] if timm else names[:2]
        weight, bias = _folded(take(f"{conv}.weight", shape), None, bn, take, _LITE0_BN_EPS)
        kernel = shape[2]
        if stride == 1:
            return [_Conv(weight, bias, padding=kernel // 2, groups=groups)]
        # TensorFlow's "same" on an even input: the odd place of the border goes right and below.
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        pad = nn.ZeroPad2d((before, after, before, after))
        return [pad, _Conv(weight, bias, stride=stride, groups=groups)]

    def relu6() -> nn.Module:
        return nn.ReLU6(inplace=True)

    channels = _LITE0_STEM
    modules = [*folded(("_conv_stem", "_bn0", "conv_stem", "bn1"), (channels, 3, 3, 3), stride=2), relu6()]
    number = 0
    for stage, (repeats, kernel, first_stride, expansion, out) in enumerate(_LITE0_STAGES):
        for repeat in range(repeats):
            own, theirs = f"_blocks.{number}.", f"blocks.{stage}.{repeat}."
            stride = first_stride if repeat == 0 else 1
            inner = channels * expansion
            body: list[nn.Module] = []
            if expansion > 1:
                names = (f"{own}_expand_conv", f"{own}_bn0", f"{theirs}conv_pw", f"{theirs}bn1")
                body += [*folded(names, (inner, channels, 1, 1)), relu6()]
                wide, narrow = ("conv_dw", "bn2"), ("conv_pwl", "bn3")
            else:
                wide, narrow = ("conv_dw", "bn1"), ("conv_pw", "bn2")
            names = (f"{own}_depthwise_conv", f"{own}_bn1", theirs + wide[0], theirs + wide[1])
            body += [*folded(names, (inner, 1, kernel, kernel), stride=stride, groups=inner), relu6()]
            names = (f"{own}_project_conv", f"{own}_bn2", theirs + narrow[0], theirs + narrow[1])
            body += folded(names, (out, inner, 1, 1))
            modules.append(_Residual(*body) if stride == 1 and channels == out else nn.Sequential(*body))
            channels, number = out, number + 1
            if layer == f"blocks.{stage}.{repeat}":
                return modules
    return [*modules, *folded(("_conv_head", "_bn1", "conv_head", "bn2"), (_LITE0_HEAD, channels, 1, 1)), relu6()]


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


class _Conv(nn.Module):
    """A convolution around given weights: torch's own would first draw random ones, and load its compiler for that."""

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self._stride, self._padding, self._groups = stride, padding, groups

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self._stride, self._padding, 1, self._groups)


class _Linear(nn.Module):
    """A fully connected layer around given weights."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)
