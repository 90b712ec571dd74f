"""The networks by name, and the layers that each can be cut at. Light: no weights, no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from streamwatch.errors import UnknownLayer, UnknownNetwork
from streamwatch.records import Grid

VGG16_CONV4_3_THRESHOLD = 1.1
VGG19_CONV4_3_THRESHOLD = VGG16_CONV4_3_THRESHOLD  # Taken over: VGG19's weights were not at hand to measure with.
LITE0_BLOCKS_4_2_THRESHOLD = 1.1
"""Squared distance of region vectors (0 … 4) above which a region is new until it is calibrated: docs/decision.md. That
VGG16's and Lite0's came out equal is chance."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A place where the network can be cut."""

    name: str
    grid: Grid
    """Regions after averaging."""

    dimensions: int
    """Numbers in a region's vector."""

    average: int = 1
    """How many places, along each side, are averaged into one region."""

    classifier: bool = False
    """True if the layer needs the fully connected part of the weights."""

    norm_floor: float = 0.0
    """Region vectors shorter than this are, for unit length, scaled as if they were this long: on a plain wall there is
    next to nothing to see, and at unit length that nothing would be noise blown up."""

    norm_reference: float = 0.0
    """The median length that `reference.reference_picture` gave with the weights that `norm_floor` was found with.
    Other weights may give vectors ten times longer or shorter: their floor moves in proportion."""

    threshold: float | None = None
    """Shipped threshold for change on unit-length regions; None where none was measured."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network, its layers and the weights known for it."""

    name: str
    title: str
    """As shown to people."""

    layers: Mapping[str, Layer]
    """By name, from the picture's side to the classifier's."""

    default_layer: str
    input_px: int = 224
    """Width and height of the network's input."""

    weights: tuple[str, ...]
    """Names of known weights; the first is the default."""

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name, or the default one.

        Raises:
            UnknownLayer: The network has no such layer; the message lists those it has.
        """
        wanted = self.default_layer if name is None else name
        try:
            return self.layers[wanted]
        except KeyError:
            raise UnknownLayer(
                f"{self.title} has no layer {wanted!r}{nearest(wanted, self.layers)}; it has {', '.join(self.layers)}"
            ) from None


def network(name: str) -> Network:
    """The network of that name.

    Raises:
        UnknownNetwork: There is none; the message lists them all.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        raise UnknownNetwork(
            f"there is no network {name!r}{nearest(name, NETWORKS)}; known are {', '.join(NETWORKS)}"
        ) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for a message, or nothing when no known name is near."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _layers(*layers: Layer) -> Mapping[str, Layer]:
    return MappingProxyType({layer.name: layer for layer in layers})


def _vgg(name: str, title: str, *, threshold: float | None, fourth: bool, weights: tuple[str, ...]) -> Network:
    # The convolutions are taken after their ReLU; fc6 and fc7 too, as in torchvision's classifier[:2] and [:5].
    conv4 = [
        Layer(
            name="conv4_3",
            grid=Grid(14, 14),
            dimensions=512,
            average=2,
            norm_floor=400.0,
            norm_reference=1325.9,
            threshold=threshold,
        )
    ]
    conv5 = [Layer(name="conv5_3", grid=Grid(7, 7), dimensions=512, average=2)]
    if fourth:
        conv4.append(Layer(name="conv4_4", grid=Grid(14, 14), dimensions=512, average=2))
        conv5.append(Layer(name="conv5_4", grid=Grid(7, 7), dimensions=512, average=2))
    return Network(
        name=name,
        title=title,
        layers=_layers(
            *conv4,
            *conv5,
            Layer(name="pool5", grid=Grid(7, 7), dimensions=512),
            Layer(name="fc6", grid=Grid(1, 1), dimensions=4096, classifier=True),
            Layer(name="fc7", grid=Grid(1, 1), dimensions=4096, classifier=True),
        ),
        default_layer="conv4_3",
        weights=weights,
    )


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        net.name: net
        for net in (
            _vgg(
                "vgg16",
                "VGG16",
                threshold=VGG16_CONV4_3_THRESHOLD,
                fourth=False,
                weights=("imagenet1k_v1", "imagenet1k_features"),
            ),
            _vgg("vgg19", "VGG19", threshold=VGG19_CONV4_3_THRESHOLD, fourth=True, weights=("imagenet1k_v1",)),
            Network(
                name="lite0",
                title="EfficientNet-Lite0",
                # Named as timm names the blocks of tf_efficientnet_lite0; a block's output has no activation.
                layers=_layers(
                    Layer(name="blocks.2.1", grid=Grid(14, 14), dimensions=40, average=2),
                    Layer(name="blocks.3.2", grid=Grid(14, 14), dimensions=80),
                    Layer(
                        name="blocks.4.2",
                        grid=Grid(14, 14),
                        dimensions=112,
                        norm_floor=50.0,
                        norm_reference=39.85,
                        threshold=LITE0_BLOCKS_4_2_THRESHOLD,
                    ),
                    Layer(name="blocks.6.0", grid=Grid(7, 7), dimensions=320),
                    Layer(name="features", grid=Grid(7, 7), dimensions=1280),
                    Layer(name="pooled", grid=Grid(1, 1), dimensions=1280, average=7),
                ),
                default_layer="blocks.4.2",
                weights=("embedded",),
            ),
        )
    }
)
