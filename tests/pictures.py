"""Pictures for tests, made of arrays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from streamwatch.records import RGB


class ArrayPicture:
    """A `Picture` that is an array already."""

    def __init__(self, pixels: RGB) -> None:
        self._pixels = pixels

    @property
    def width(self) -> int:
        return int(self._pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self._pixels.shape[0])

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        if width is None or height is None or (width, height) == (self.width, self.height):
            return self._pixels.copy()
        return np.asarray(cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def random_picture(seed: int, *, width: int = 224, height: int = 224) -> ArrayPicture:
    """Coloured blobs of many sizes, so that all channels of a network have something to answer to."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells in (2, 5, 12, 30, 75):
        noise = rng.normal(0, 50, (cells, cells, 3)).astype(np.float32)
        pixels += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return ArrayPicture(np.clip(pixels + 128, 0, 255).astype(np.uint8))


def photo(path: Path) -> ArrayPicture:
    """A photo file."""
    with Image.open(path) as image:
        return ArrayPicture(np.asarray(image.convert("RGB")))
