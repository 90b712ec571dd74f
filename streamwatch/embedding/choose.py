"""Which network `auto` means on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamwatch.embedding.known import known_network, known_weights
from streamwatch.embedding.networks import NETWORKS, nearest
from streamwatch.embedding.networks import network as network_by_name
from streamwatch.embedding.weights import SUFFIXES, file_sha256, find_cached, split_hash
from streamwatch.errors import UsageError, WeightsHashMismatch, WeightsInvalid, WeightsMissing

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A network by name, and why it is that one."""

    network: str
    weights: str | None
    """As the user wrote it; None for the network's default weights."""

    reason: str
    """One line for the user."""


def choose_network(
    network: str = AUTO,
    *,
    weights: str | None = None,
    sha256: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    hub: Path | None = None,
) -> Choice:
    """Settle on a network. Downloads nothing; loads torch only to ask for a CUDA device or to look into a .pth file.

    `auto` is the network whose weights file is named; else VGG16 where its weights are in the cache or a CUDA device is
    there; else the embedded EfficientNet-Lite0.

    Raises:
        UnknownNetwork: No such network.
        WeightsError: The file that is named cannot be used, or fits no network.
    """
    if network != AUTO:
        return Choice(network=network_by_name(network).name, weights=weights, reason=f"{network}: asked for")
    if weights is not None:
        found = _by_weights(weights, sha256)
        return Choice(network=found, weights=weights, reason=f"{found}: the weights {split_hash(weights)[0]} are its")
    default = known_weights("vgg16")
    assert default is not None
    at_hand = find_cached(default, cache=cache, hub=hub)
    if at_hand is not None:
        return Choice(network="vgg16", weights=None, reason=f"vgg16: its weights are at hand ({at_hand.path})")
    if _cuda(device):
        return Choice(
            network="vgg16",
            weights=None,
            reason="vgg16: there is a CUDA device; its weights are downloaded once (528 MB)",
        )
    return Choice(
        network="lite0",
        weights=None,
        reason="lite0: the embedded network, since VGG16's weights are not in the cache and no CUDA device is used",
    )


def _by_weights(weights: str, sha256: str | None) -> str:
    name, demanded = split_hash(weights)
    known = known_network(name)
    if known is not None:
        return known
    path = Path(name).expanduser()
    if path.suffix.lower() not in SUFFIXES and not path.exists():
        if any(known_weights(net, name) for net in NETWORKS):
            raise UsageError(f"several networks have weights called {name!r}; name the network too, such as vgg16")
        names = [each for net in NETWORKS.values() for each in net.weights]
        raise WeightsMissing(
            f"there are no weights called {name!r}{nearest(name, names)}, and there is no such file; "
            f"known are {', '.join(dict.fromkeys(names))}"
        )
    got = file_sha256(path)
    for expected in (demanded, sha256):
        if expected is not None and got != expected.lower():
            raise WeightsHashMismatch(f"{path} has SHA-256 {got}, expected {expected}; the file was not parsed")
    return network_of_file(path)


def network_of_file(path: Path) -> str:
    """Whose weights a file holds. Loads torch.

    Raises:
        WeightsMissing: There is no such file.
        WeightsInvalid: It cannot be read, or fits no network.
    """
    if not path.is_file():
        file_sha256(path)  # says what is wrong with it
    from streamwatch.embedding.reading import network_of

    found = network_of(path)
    if found is None:
        raise WeightsInvalid(
            f"{path} fits none of the networks {', '.join(NETWORKS)}: its tensors have other names; "
            "expected torchvision's names for VGG, timm's for EfficientNet-Lite0, or what streamwatch weights import "
            "makes; for a network of a library name it too, such as timm:resnet50"
        )
    return found


def _cuda(device: str) -> bool:
    if device != "auto":
        return device.startswith("cuda")
    import torch

    return torch.cuda.is_available()
