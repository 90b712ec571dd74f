"""What can be checked of a configuration only by asking the networks. Apart from loading, as it imports numpy."""

from __future__ import annotations

from streamwatch.config.sections import Config
from streamwatch.errors import ConfigError, UnknownLayer, WeightsMissing


def check_networks(config: Config) -> None:
    """Check that the network, its layer and its weights exist by name, and that a threshold is known. Reads no weights.

    Raises:
        UnknownNetwork: No network is called that.
        UnknownLayer: No network that `auto` could choose, or not the one that is named, has the layer.
        WeightsMissing: A weights name that is neither known nor a path.
        ConfigError: No threshold is shipped for the layer, and a camera has none.
    """
    from streamwatch.embedding.known import known_weights
    from streamwatch.embedding.networks import NETWORKS, network

    if config.network == "auto":
        if config.layer is not None and not any(config.layer in net.layers for net in NETWORKS.values()):
            known = "; ".join(f"{net.name} has {', '.join(net.layers)}" for net in NETWORKS.values())
            raise UnknownLayer(f"layer: no network has a layer {config.layer!r}: {known}")
        return
    net = network(config.network)
    layer = net.layer(config.layer)
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
    shipped = layer.threshold if config.change.regions == "layer" and config.change.unit_length else None
    for camera in config.cameras:
        if shipped is None and camera.change_settings(config.change).threshold is None:
            raise ConfigError(
                f"change.threshold is missing: none is shipped for {net.name}'s {layer.name} with "
                f"regions: {config.change.regions} and unit_length: {str(config.change.unit_length).lower()}; "
                f"give change.threshold, or one for camera {camera.name}"
            )
