"""Eight-bit codes of a gallery: they name candidates for exact search at a fraction of the time and of the bytes.

Rounding to codes is random, so that its errors are independent whatever the vectors are; how far a distance by codes
can be off then follows from Hoeffding's inequality (1963, theorem 2), and the search can tell when it must look again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

_SURE = 7.0
"""An error is beyond its bound with a probability of 2·exp(−_SURE²/2), 5 in 10¹¹, for one query and one vector."""

_ROWS = 4096


class CoarseCodes:
    """A gallery's vectors, less their mean, as 8-bit codes. One thread at a time may ask."""

    def __init__(self, vectors: Tensor) -> None:
        """Code float32 vectors of shape (n, dimensions), which are only read."""
        count, dimensions = vectors.shape
        self._random = torch.Generator().manual_seed(0)
        blocks = (vectors[start : start + _ROWS] for start in range(0, count, _ROWS))
        total = torch.stack([block.sum(0, dtype=torch.float64) for block in blocks]).sum(0)
        self._mean = (total / count).float()
        codes = torch.empty(count, dimensions, dtype=torch.int8)
        self._squares, self._steps = torch.empty(count), torch.empty(count)
        for start in range(0, count, _ROWS):
            here = slice(start, start + _ROWS)
            centred = vectors[here] - self._mean
            self._squares[here] = torch.linalg.vector_norm(centred, dim=1).square_()
            coded, self._steps[here] = self._code(centred)
            codes[here] = coded.to(torch.int8)
        self._zeros = torch.zeros(count, dtype=torch.int64)
        self._packed = torch.ops.onednn.qlinear_prepack(codes, [64, dimensions])
        self._coarsest = float(self._steps.max())
        self._longest = float(self._squares.max()) ** 0.5 + self._coarsest * dimensions**0.5

    def scores(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squared distances less the query's own square.

        Args:
            queries: Shape (queries, dimensions), float32.

        Returns:
            Scores of shape (queries, n); how far each query's may be off, and each query's square less which they are:
            both (queries,).
        """
        centred = queries - self._mean
        lengths = torch.linalg.vector_norm(centred, dim=1)
        coded, steps = self._code(centred)
        products: Tensor = torch.ops.onednn.qlinear_pointwise(
            (coded + 128).to(torch.uint8),
            1.0,
            128,
            self._packed,
            self._steps,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        scores = torch.addcmul(self._squares, products, -2 * steps[:, None])
        # Twice the bound of a product: the gallery's steps along the query, and the query's steps along the gallery.
        off = _SURE * (self._coarsest * lengths + steps * self._longest)
        return scores, off, lengths.square_()

    def _code(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers within ±127 as floats, and what a step is worth in each row."""
        steps = centred.abs().amax(1).div_(127).clamp_(min=1e-30)
        noise = torch.rand(centred.shape, generator=self._random)
        return (centred / steps[:, None]).add_(noise).floor_().clamp_(-127, 127), steps


@cache
def coarse_works() -> bool:
    """True if this processor multiplies 8-bit numbers without overflow, and this torch has the operations."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if not any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return False
    try:
        vectors = torch.linspace(-1, 1, 64 * 70).view(70, 64).sin()
        scores, off, squares = CoarseCodes(vectors).scores(vectors[:3])
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    right = torch.cdist(vectors[:3].double(), vectors.double()).square()
    return bool(((scores + squares[:, None] - right).abs() <= off[:, None] + 1e-5).all())
