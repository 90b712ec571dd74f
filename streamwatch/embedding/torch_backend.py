"""Embedding with PyTorch, on the CPU or one CUDA device. The CUDA path is unmeasured: no such device was at hand.

CPU threads are as many as torch takes by itself (`OMP_NUM_THREADS` changes it): one embedder serves all cameras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from streamwatch.embedding import EmbedderIdentity, check_pooling
from streamwatch.embedding.fitting import check_fit, fit_picture
from streamwatch.embedding.networks import Layer
from streamwatch.embedding.pooling import pool
from streamwatch.embedding.reading import LoadedNetwork
from streamwatch.embedding.reference import reference_picture
from streamwatch.errors import UsageError, WeightsInvalid
from streamwatch.records import Grid, Picture

GRIDS = ("layer", "frame")
CPU_BATCH = 4
"""Larger batches leave the processor's cache: Lite0 took 5.0 ms an image at 4, 7.5 at 8 and 16, 6.1 at 1 (2 cores).
VGG16 to conv4_3 took 307 at 4, 300 at 8, 291 at 16, 472 at 1."""

CUDA_BATCH = 32


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device that is there.

    Raises:
        UsageError: It is none of these, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (":" in name and not (number.isascii() and number.isdigit())):
        raise UsageError(f"device is {name!r}, expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise UsageError(
            f"device is {name!r}, but PyTorch sees {count or 'no'} CUDA device{'s' * (count != 1)} here; "
            "use device: auto or cpu, or check the driver with nvidia-smi"
        )
    return torch.device("cuda", int(number or 0))


class TorchEmbedder:
    """An `Embedder` on one device. Only its maker's thread, or one thread at a time, may call it."""

    def __init__(
        self,
        loaded: LoadedNetwork,
        *,
        device: str = "auto",
        fit: str = "squash",
        grid: str = "layer",
        pooling: str = "layer",
        unit_length: bool = True,
        batch_size: int | None = None,
    ) -> None:
        if grid not in GRIDS:
            raise UsageError(f"grid is {grid!r}, expected one of {', '.join(GRIDS)}")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}, expected at least 1")
        self.device = pick_device(device)
        cuda = self.device.type == "cuda"
        # Half precision and channels-last are what tensor cores want. On the CPU channels-last won as well, on 2 cores:
        # VGG16 to conv4_3 took 307 ms an image instead of 401 (batches of 4), Lite0 5.0 instead of 11.9. TorchScript's
        # frozen graphs were as fast, but are deprecated; torch.compile wants a C compiler on the user's machine.
        self._dtype = torch.float16 if cuda else torch.float32
        self._module = loaded.module.to(self.device, self._dtype).to(memory_format=torch.channels_last)
        network, cut = loaded.network, loaded.network.layer(loaded.layer)
        self._average = cut.average
        self._pooling = check_pooling(pooling)
        self._whole = grid == "frame" or pooling != "layer"
        self._identity = EmbedderIdentity(
            network=network.name,
            layer=cut.name,
            weights_id=loaded.weights_id,
            fit=check_fit(fit),
            unit_length=unit_length,
            norm_floor=cut.norm_floor if unit_length and not self._whole else 0.0,
            grid=Grid(1, 1) if self._whole else cut.grid,
            dimensions=cut.dimensions,
            pooling=pooling,
            input_px=network.input_px,
        )
        gain, shift = loaded.preprocessing.factors()
        self._gain = torch.tensor(gain, device=self.device).view(1, 3, 1, 1)
        self._shift = torch.tensor(shift, device=self.device).view(1, 3, 1, 1)
        if loaded.mean_image is not None:
            std = torch.tensor(loaded.preprocessing.std).view(3, 1, 1)
            self._shift = (-loaded.mean_image / std).to(self.device)[None]
        self._blue_first = loaded.preprocessing.channels == "bgr"
        self._border = loaded.preprocessing.neutral_rgb()
        self._size_px = network.input_px
        self._batch_size = batch_size or (CUDA_BATCH if cuda else CPU_BATCH)
        self._norm_floor = self._find_norm_floor(cut)
        # Pinned on CUDA, so that the copy to the device runs beside this thread.
        shape = (self._batch_size, self._size_px, self._size_px, 3)
        self._staging = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
        self._stream: torch.cuda.Stream | None = None
        self._copied: torch.cuda.Event | None = None
        if cuda:
            torch.cuda.synchronize(self.device)  # The weights came on another stream than the pictures will.
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    @property
    def batch_size(self) -> int:
        """How many pictures go through the network at once."""
        return self._batch_size

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """As the protocol says.

        Raises:
            WeightsInvalid: The network gave numbers that are not finite.
        """
        shape = (len(pictures), self._identity.grid.regions, self._identity.dimensions)
        vectors = torch.empty(shape, dtype=torch.float32, pin_memory=self._stream is not None and len(pictures) > 0)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for start in range(0, len(pictures), self._batch_size):
                batch = pictures[start : start + self._batch_size]
                if self._copied is not None:
                    self._copied.synchronize()  # The last batch has left the staging memory; its network may still run.
                staged = self._staging[: len(batch)]
                pixels = staged.numpy()
                for index, picture in enumerate(batch):
                    pixels[index] = fit_picture(
                        picture, fit=self._identity.fit, size_px=self._size_px, border=self._border
                    )
                on_device = staged.to(self.device, non_blocking=True)
                if self._copied is not None:
                    self._copied.record()
                regions = self._scaled(self._regions(self._run(on_device)))
                vectors[start : start + len(batch)].copy_(regions, non_blocking=True)
            if self._stream is not None:
                self._stream.synchronize()
        result: NDArray[np.float32] = vectors.numpy()
        if not np.isfinite(result).all():
            raise WeightsInvalid(
                f"{self._identity.network} at {self._identity.layer} gave numbers that are not finite: the weights are "
                "damaged" + (", or too large for half precision; try device: cpu" if self._stream is not None else "")
            )
        return result

    def _run(self, pixels: Tensor) -> Tensor:
        """(n, height, width, 3) of bytes through the network: (n, channels, rows, columns)."""
        # The permuted bytes already lie channels-last.
        x = pixels.permute(0, 3, 1, 2)
        if self._blue_first:
            x = x.flip(1)
        x = x.to(torch.float32).mul_(self._gain).add_(self._shift)
        return self._module(  # type: ignore[no-any-return]
            x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        )

    def _regions(self, x: Tensor) -> Tensor:
        """Feature maps as raw region vectors: (n, regions, dimensions), float32."""
        x = x.float()
        if self._pooling != "layer":
            return pool(x, self._pooling)
        if self._average > 1:
            x = functional.avg_pool2d(x, self._average)
        vectors = x.flatten(2).transpose(1, 2)
        return vectors.mean(1, keepdim=True) if self._whole else vectors

    def _scaled(self, vectors: Tensor) -> Tensor:
        if not self._identity.unit_length:
            return vectors
        # A vector of zeros stays one.
        return functional.normalize(vectors, dim=2, eps=max(self._norm_floor, 1e-12))

    def _find_norm_floor(self, cut: Layer) -> float:
        """The layer's floor, in proportion to how large these weights make their numbers."""
        if not self._identity.norm_floor:
            return 0.0
        pixels = torch.from_numpy(reference_picture(self._size_px)).to(self.device)
        with torch.inference_mode():
            median = float(self._regions(self._run(pixels[None])).norm(dim=2).median())
        return cut.norm_floor * median / cut.norm_reference
