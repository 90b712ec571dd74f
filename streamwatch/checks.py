"""What can be checked of a configuration only by asking the networks. Light: neither torch nor a video library."""

from __future__ import annotations

from collections.abc import Sequence

from streamwatch.config import Config
from streamwatch.embedding.choose import choose_network
from streamwatch.embedding.known import known_weights
from streamwatch.embedding.networks import NETWORKS, Network, network
from streamwatch.errors import ConfigError, UnknownLayer, WeightsMissing


def check_networks(config: Config) -> None:
    """Check that the network, its layer and its weights exist by name, and that a threshold is known. Reads no weights.

    Raises:
        UnknownNetwork: No network is called that.
        UnknownLayer: No network that `auto` could choose, or not the one that is named, has the layer.
        WeightsMissing: A weights name that is neither known nor a path.
        UsageError: A weights name of several networks, with `auto`.
        ConfigError: No threshold is shipped for the layer, and a camera has none.
    """
    if config.network == "auto":
        nets = _choosable(config)
    else:
        nets = [network(config.network)]
        nets[0].layer(config.layer)
        _check_weights(config, nets[0])
    _check_threshold(config, nets)


def _choosable(config: Config) -> list[Network]:
    """The networks that `auto` could choose and that have the layer."""
    if config.weights is None:
        nets = [network("vgg16"), network("lite0")]
    elif "/" in config.weights:  # a file: whose weights it holds is known only once it is read
        nets = list(NETWORKS.values())
    else:
        nets = [network(choose_network(weights=config.weights).network)]
    if config.layer is None:
        return nets
    having = [net for net in nets if config.layer in net.layers]
    if not having:
        known = "; ".join(f"{net.name} has {', '.join(net.layers)}" for net in nets)
        raise UnknownLayer(f"layer: no network that `auto` could choose has a layer {config.layer!r}: {known}")
    return having


def _check_weights(config: Config, net: Network) -> None:
    if config.weights is None and net.bring:
        raise WeightsMissing(f"weights: {net.title} has no weights of its own: {net.bring}")
    if (
        config.weights is not None
        and not net.of_library
        and "/" not in config.weights
        and known_weights(net.name, config.weights.partition("#sha256=")[0]) is None
    ):
        raise WeightsMissing(
            f"weights: {net.title} has no weights called {config.weights!r}; "
            f"known are {', '.join(net.weights)}, and paths of .safetensors and .pth files"
        )


def _check_threshold(config: Config, nets: Sequence[Network]) -> None:
    """A network without one is refused only where no other could be chosen: it need not come to that."""
    layers = [net.layer(config.layer) for net in nets]
    plain = config.change.regions == "layer" and config.change.unit_length
    if plain and any(layer.threshold is not None for layer in layers):
        return
    for camera in config.cameras:
        if camera.change_settings(config.change).threshold is None:
            kinds = " or ".join(f"{net.name}'s {layer.name}" for net, layer in zip(nets, layers, strict=True))
            raise ConfigError(
                f"change.threshold is missing: none is shipped for {kinds} with "
                f"regions: {config.change.regions} and unit_length: {str(config.change.unit_length).lower()}; "
                f"give change.threshold, or one for camera {camera.name}"
            )
