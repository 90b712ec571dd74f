"""Frames in, vectors out. `load_embedder` picks the implementation.

Of all stages, only this one imports torch; outside it, `offline.distances` does, for exact search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamwatch.errors import UnknownLayer, UsageError
from streamwatch.records import Grid, Picture

if TYPE_CHECKING:
    from streamwatch.embedding.download import Progress


POOLINGS = ("layer", "gem", "max", "mean", "rmac")


def check_pooling(pooling: str) -> str:
    """The pooling itself.

    Raises:
        UsageError: It is not one of `POOLINGS`.
    """
    if pooling not in POOLINGS:
        raise UsageError(f"pooling is {pooling!r}, expected one of {', '.join(POOLINGS)}")
    return pooling


@dataclass(frozen=True, kw_only=True)
class EmbedderIdentity:
    """What must be equal for two vectors to be comparable."""

    network: str
    layer: str
    weights_id: str
    """Names the numbers: `sha256:` and the first 16 hex digits of the weights file's hash; `+` and a name follow where
    another preprocessing than the file's own was asked for."""

    fit: str
    """`squash`, `crop` or `letterbox`: how a picture is brought to the network's input shape."""

    unit_length: bool
    """True if each region's vector is scaled to length 1, or less where next to nothing is seen (`norm_floor`)."""

    norm_floor: float = 0.0
    """The layer's `norm_floor` as far as it was used: 0 for raw vectors and whole frames."""

    grid: Grid
    dimensions: int

    pooling: str = "layer"
    """`layer` for the layer's regions, else how all its places became one vector: see `embedding.pooling`."""

    input_px: int = 224
    """Width and height of the network's input."""

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> EmbedderIdentity:
        """What `dataclasses.asdict` made, through JSON or not; fields that came later may be missing.

        Raises:
            ValueError: It is no identity.
        """
        try:
            return cls(**{**data, "grid": Grid(**data["grid"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{str(data)[:80]} is no embedder's identity: {error}") from None


class Embedder(Protocol):
    """Turns pictures into region vectors. One thread at a time may call it."""

    @property
    def identity(self) -> EmbedderIdentity:
        """Constant for the embedder's life."""
        ...

    @property
    def batch_size(self) -> int:
        """How many pictures `embed` is best given at once: more are taken too, in parts. Constant, at least 1."""
        ...

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Region vectors of a batch, shape (len(pictures), regions, dimensions), float32, C-contiguous.

        A picture's vectors do not depend on what else is in the batch beyond float rounding.
        """
        ...


def load_embedder(
    *,
    network: str = "auto",
    weights: str | None = None,
    layer: str | None = None,
    device: str = "auto",
    fit: str = "squash",
    grid: str = "layer",
    pooling: str = "layer",
    unit_length: bool = True,
    sha256: str | None = None,
    preprocessing: str | None = None,
    batch_size: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Embedder:
    """Load a network's weights, downloading known ones where they are not at hand, and build an embedder.

    Loads torch. Changes nothing but the cache folder.

    Args:
        network: A name in `embedding.networks`, `torchvision:NAME` or `timm:NAME` (see `embedding.zoo`), or `auto`
            (see `embedding.choose`).
        weights: A known name or the path of a .safetensors or .pth file, `#sha256=HEX` allowed behind it; None for the
            network's default weights.
        layer: Where to cut the network; None for its default layer.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. CUDA computes in half precision.
        fit: `squash`, `crop` or `letterbox`.
        grid: `layer` for the layer's own regions, `frame` for one vector a frame, the mean over its places.
        pooling: `layer` for the layer's regions as `grid` says; `gem`, `max`, `mean` or `rmac` for one vector a picture
            of all the layer's places (see `embedding.pooling`).
        unit_length: Scale each region's vector to length 1, or less where the layer's `norm_floor` holds.
        sha256: The weights file's hash, 64 hex digits; another file is refused before it is parsed.
        preprocessing: A name in `embedding.preprocessing`, where the file's own is not known or not right.
        batch_size: Pictures that go through the network at once; None for 4 on the CPU and 32 on CUDA.
        cache: Folder for downloads; None for the user's cache folder.
        progress: Hears of a download's bytes; None draws a bar where stderr is a terminal.

    Raises:
        UsageError: An option's value is none, or there is no such device.
        WeightsError: Unknown network or layer, or a weights file that is missing or not to be used.
        OutputError: The cache folder cannot be written.
        MissingLibrary: The package with the embedded weights is not installed.
    """
    from streamwatch.embedding.choose import choose_network
    from streamwatch.embedding.fitting import check_fit
    from streamwatch.embedding.known import known_weights
    from streamwatch.embedding.networks import network as network_by_name
    from streamwatch.embedding.weights import locate, split_hash

    check_fit(fit)
    check_pooling(pooling)
    choice = choose_network(network, weights=weights, sha256=sha256, device=device, cache=cache)
    net = network_by_name(choice.network)
    if not net.of_library:
        cut = net.layer(layer)
        known = known_weights(net.name, None if choice.weights is None else split_hash(choice.weights)[0])
        if known is not None and cut.classifier and not known.classifier:  # Said before 528 MB are downloaded in vain.
            has = ", ".join(name for name, each in net.layers.items() if not each.classifier)
            raise UnknownLayer(f"{known.name} has no usable classifier, which layer {cut.name!r} needs; it has {has}")

    from streamwatch.embedding.reading import load_network
    from streamwatch.embedding.torch_backend import TorchEmbedder, pick_device

    pick_device(device)
    if net.of_library:
        from streamwatch.embedding.zoo import load_library_network

        loaded = load_library_network(
            net.name,
            choice.weights,
            layer,
            sha256=sha256,
            preprocessing_name=preprocessing,
            cache=cache,
            progress=progress,
        )
    else:
        file = locate(net, choice.weights, sha256=sha256, cache=cache, progress=progress)
        loaded = load_network(file, net, cut.name, preprocessing_name=preprocessing)
    return TorchEmbedder(
        loaded, device=device, fit=fit, grid=grid, pooling=pooling, unit_length=unit_length, batch_size=batch_size
    )
