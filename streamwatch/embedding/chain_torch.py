"""A chain of operations in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamwatch.embedding.chain import Chain, Convolution, FullyConnected, MaxPool, Rectifier, ResponseNorm

Take = Callable[[str, tuple[int, ...]], Tensor]
"""Gives the tensor of a name and shape."""


def modules(chain: Chain, take: Take) -> list[nn.Module]:
    """The operations in torch: float input (n, 3, side, side), output (n, channels, rows, columns)."""
    shapes = chain.tensors()
    found: list[nn.Module] = []
    for operation in chain.operations:
        if isinstance(operation, Rectifier):
            found.append(nn.ReLU(inplace=True))
        elif isinstance(operation, ResponseNorm):
            found.append(_ResponseNorm(operation))
        elif isinstance(operation, MaxPool):
            # torch's rounding up leaves out a last window behind the map exactly where Caffe does.
            found.append(nn.MaxPool2d(operation.kernel, operation.stride, operation.pad, ceil_mode=True))
        else:
            keys = [f"{operation.name}.{part}" for part in ("weight", "bias")]
            weight, bias = (take(key, shapes[key]) for key in keys)
            found.append(_Weighted(operation, weight, bias))
    return found


class _Weighted(nn.Module):
    """A convolution or fully connected layer around given weights."""

    def __init__(self, operation: Convolution | FullyConnected, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self._operation = operation

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self._operation, Convolution):
            return functional.conv2d(x, self.weight, self.bias, self._operation.stride, self._operation.pad)
        return functional.linear(x.flatten(1), self.weight, self.bias)[:, :, None, None]


class _ResponseNorm(nn.Module):
    """torch's own averages over a volume, which takes twice as long, and in half precision
    the squares overflow."""

    def __init__(self, operation: ResponseNorm) -> None:
        super().__init__()
        self._operation = operation

    def forward(self, x: Tensor) -> Tensor:
        own, channels = self._operation, x.shape[1]
        wide = x.float()
        squares = functional.pad(wide.square(), (0, 0, 0, 0, own.size // 2, own.size // 2))
        total = squares[:, :channels].clone()
        for offset in range(1, own.size):
            total += squares[:, offset : offset + channels]
        scale = total.mul_(own.alpha / own.size).add_(own.k)
        return (wide * torch.pow(scale, -own.beta)).to(x.dtype)
