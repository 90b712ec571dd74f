"""The networks by name, and the layers that each can be cut at. Light: no weights, no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from streamwatch.embedding import cnn_m
from streamwatch.embedding.chain import Chain
from streamwatch.errors import UnknownLayer, UnknownNetwork
from streamwatch.records import Grid

if TYPE_CHECKING:
    from streamwatch.embedding import EmbedderIdentity

VGG16_CONV4_3_THRESHOLD = 1.1
VGG19_CONV4_3_THRESHOLD = VGG16_CONV4_3_THRESHOLD  # Taken over: VGG19's weights were not at hand to measure with.
LITE0_BLOCKS_4_2_THRESHOLD = 1.2
"""Squared distance of region vectors (0 … 4) above which a region is new until it is calibrated: docs/decision.md."""


VGG_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""In each of the five blocks; Simonyan & Zisserman 2014, table 1, configurations D and E."""

LIBRARIES = ("torchvision", "timm")
"""Whose networks can be named as `LIBRARY:NAME`."""


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
    """Names of known weights; the first is the default. Empty where only the user's own files are used."""

    bring: str = ""
    """Where there are no known weights: the sentence that says which file to bring."""

    @property
    def of_library(self) -> bool:
        """True for `torchvision:NAME` and `timm:NAME`: their layers are known only once the library has built them, and
        `layers` is empty until then."""
        return ":" in self.name

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name, or the default one.

        Raises:
            UnknownLayer: The network has no such layer; the message lists those it has.
        """
        wanted = self.default_layer if name is None else name
        if self.of_library and not self.layers:
            return Layer(name=wanted, grid=Grid(1, 1), dimensions=1)
        try:
            return self.layers[wanted]
        except KeyError:
            raise UnknownLayer(
                f"{self.title} has no layer {wanted!r}{nearest(wanted, self.layers)}; it has {listed(self.layers)}"
            ) from None


def network(name: str) -> Network:
    """The network of that name; of a library's, only what is known without loading the library.

    Raises:
        UnknownNetwork: There is none; the message lists them all.
    """
    library, colon, own = name.partition(":")
    if colon and library in LIBRARIES and own:
        return Network(name=name, title=name, layers=_layers(), default_layer="", weights=())
    try:
        return NETWORKS[name]
    except KeyError:
        raise UnknownNetwork(
            f"there is no network {name!r}{nearest(name, NETWORKS)}; known are {', '.join(NETWORKS)}, "
            f"and {' and '.join(f'{each}:NAME' for each in LIBRARIES)}"
        ) from None


def shipped_threshold(identity: EmbedderIdentity) -> float | None:
    """The threshold for change that was measured for vectors of this kind; None where none was."""
    known = NETWORKS.get(identity.network)
    layer = known.layers.get(identity.layer) if known else None
    if known is None or layer is None or identity.grid != layer.grid:
        return None
    plain = identity.unit_length and identity.pooling == "layer" and identity.input_px == known.input_px
    return layer.threshold if plain else None


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for a message, or nothing when no known name is near."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str], most: int = 40) -> str:
    """The names for a message; of many, those at the end."""
    every = list(names)
    return ("… " if len(every) > most else "") + ", ".join(every[-most:])


def _layers(*layers: Layer) -> Mapping[str, Layer]:
    return MappingProxyType({layer.name: layer for layer in layers})


def cnn_m_layers(chain: Chain) -> dict[str, Layer]:
    """CNN-M's layers by name."""
    layers = {}
    shapes = dict(
        zip((getattr(operation, "name", None) for operation in chain.operations), chain.shapes(), strict=True)
    )
    for name in cnn_m.LAYERS:
        channels, side = shapes[name]
        average = 2 if name == "conv2" and side % 2 == 0 else 1
        grid = Grid(side // average, side // average)
        layers[name] = Layer(
            name=name, grid=grid, dimensions=channels, average=average, classifier=name.startswith("fc")
        )
    return layers


def _cnn_m(name: str, title: str) -> Network:
    return Network(
        name=name,
        title=title,
        layers=MappingProxyType(cnn_m_layers(cnn_m.published(cnn_m.FC7[name]))),
        default_layer="fc7",
        weights=(),
        bring=(
            f"its weights may not be passed on: bring the authors' own {title}.caffemodel, its deploy prototxt and the "
            f"mean image, run streamwatch weights import --caffemodel {title}.caffemodel --prototxt FILE --mean FILE "
            f"--out {name}.safetensors, and give that file with --weights"
        ),
    )


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
            _cnn_m("vgg_cnn_m_2048", "VGG_CNN_M_2048"),
            _cnn_m("vgg_cnn_m_1024", "VGG_CNN_M_1024"),
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
