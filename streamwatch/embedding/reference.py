"""One fixed picture that tells how large a network's numbers come out with given weights."""

from __future__ import annotations

import numpy as np

from streamwatch.records import RGB


def reference_picture(size_px: int) -> RGB:
    """Coloured blocks of many sizes, the same on every machine: shape (size_px, size_px, 3)."""
    random = np.random.RandomState(0)  # NumPy promises never to change what this generator gives.
    pixels = np.full((size_px, size_px, 3), 128.0)
    for cells in (2, 7, 28, 112):
        block = -(-size_px // cells)
        noise = random.uniform(-60, 60, (cells, cells, 3))
        pixels += np.kron(noise, np.ones((block, block, 1)))[:size_px, :size_px]
    picture: RGB = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return picture
