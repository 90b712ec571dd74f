"""What a weights file expects its pixels to look like. It belongs to the weights, not to the network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from streamwatch.errors import UsageError

Triple = tuple[float, float, float]

MEAN_IMAGE = "preprocessing.mean_image"
"""The tensor with a mean image: shape (3, side, side) of the input, in the order of `channels`."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A pixel x of 0 … 255 becomes (x · scale − mean) / std, channel by channel in the order of `channels`."""

    channels: str
    """`rgb` or `bgr`."""

    scale: float
    mean: Triple
    std: Triple
    mean_image: bool = False
    """True if a whole picture is subtracted instead of three numbers, the file's tensor `MEAN_IMAGE`; `mean` is then
    that picture's mean."""

    def __post_init__(self) -> None:
        if self.channels not in ("rgb", "bgr"):
            raise ValueError(f"channels is {self.channels!r}, expected 'rgb' or 'bgr'")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"mean and std have {len(self.mean)} and {len(self.std)} numbers, expected 3 each")
        if not all(math.isfinite(number) for number in (self.scale, *self.mean, *self.std)):
            raise ValueError("scale, mean and std must be finite numbers")
        if not isinstance(self.mean_image, bool):
            raise ValueError(f"mean_image is {self.mean_image!r}, expected true or false")
        if self.scale <= 0 or min(self.std) <= 0:
            raise ValueError(f"scale is {self.scale} and std {self.std}, expected numbers above 0")

    def factors(self) -> tuple[Triple, Triple]:
        """(a, b) such that the input is a · x + b."""
        a, b = zip(
            *((self.scale / std, -mean / std) for mean, std in zip(self.mean, self.std, strict=True)), strict=True
        )
        return (a[0], a[1], a[2]), (b[0], b[1], b[2])

    def neutral_rgb(self) -> tuple[int, int, int]:
        """The colour, red first, that comes nearest to a network input of zero: for borders that should say nothing."""
        r, g, b = (round(min(255.0, max(0.0, mean / self.scale))) for mean in self.mean)
        return (r, g, b) if self.channels == "rgb" else (b, g, r)

    def to_json(self) -> str:
        """As `from_json` reads it."""
        data = {name: getattr(self, name) for name in ("channels", "scale", "mean", "std")}
        return json.dumps({**data, "mean_image": True} if self.mean_image else data)

    @staticmethod
    def from_json(text: str) -> Preprocessing:
        """Read `{"channels": "rgb", "scale": 1.0, "mean": [3 numbers], "std": [3 numbers]}`; "mean_image": true may
        stand there too.

        Raises:
            ValueError: It is no such document; the message says what is wrong with it.
        """
        data: Any = json.loads(text)
        keys = {"channels", "scale", "mean", "std"}
        if not isinstance(data, dict) or data.keys() - {"mean_image"} != keys:
            raise ValueError(f"it is {text[:80]!r}, expected an object with {', '.join(sorted(keys))}")
        try:
            return Preprocessing(
                channels=data["channels"],
                scale=float(data["scale"]),
                mean=tuple(float(number) for number in data["mean"]),  # type: ignore[arg-type]
                std=tuple(float(number) for number in data["std"]),  # type: ignore[arg-type]
                mean_image=data.get("mean_image", False),
            )
        except TypeError as error:
            raise ValueError(str(error)) from None


TORCHVISION = Preprocessing(
    channels="rgb", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)  # torchvision.transforms.presets.ImageClassification
TORCHVISION_FEATURES = Preprocessing(
    channels="rgb", scale=1 / 255, mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)
)  # VGG16_Weights.IMAGENET1K_FEATURES: Oxford's convolutions, their channels turned round
CAFFE_BGR = Preprocessing(
    channels="bgr", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)
)  # Oxford's own files
LITE0 = Preprocessing(channels="rgb", scale=1.0, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))

PREPROCESSINGS: Mapping[str, Preprocessing] = MappingProxyType(
    {"torchvision": TORCHVISION, "torchvision-features": TORCHVISION_FEATURES, "caffe-bgr": CAFFE_BGR, "lite0": LITE0}
)


def preprocessing(name: str) -> Preprocessing:
    """The preprocessing of that name.

    Raises:
        UsageError: There is none.
    """
    try:
        return PREPROCESSINGS[name]
    except KeyError:
        raise UsageError(f"preprocessing is {name!r}, expected one of {', '.join(PREPROCESSINGS)}") from None
