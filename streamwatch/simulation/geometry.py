"""The simulated camera and the ground under it: metres to pixels, and noise that repeats without a seam.

World coordinates are metres: x to the right, y up, z away from the camera, which stands at (0, height_m, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamwatch.imaging import load_cv2
from streamwatch.records import RGB

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A pinhole camera that looks level with its lens shifted down, so that upright edges stay upright."""

    width: int
    height: int
    height_m: float = 4.3
    focal: float = 0.86
    """In picture widths."""

    horizon: float = 0.27
    """In picture heights, from the top."""

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.focal * self.width

    @property
    def horizon_px(self) -> float:
        """Row of the horizon."""
        return self.horizon * self.height

    def pixels(self, points: NDArray[np.floating]) -> Float:
        """Where points of shape (n, 3) show, shape (n, 2). Points nearer than 1 m are taken as 1 m away."""
        points = np.asarray(points, np.float32)
        depth = np.maximum(points[:, 2], 1.0)
        across = self.width / 2 + self.focal_px * points[:, 0] / depth
        down = self.horizon_px + self.focal_px * (self.height_m - points[:, 1]) / depth
        return np.stack([across, down], axis=1).astype(np.float32)

    def px_per_m(self, z: float) -> float:
        """Pixels to a metre across, at a depth."""
        return self.focal_px / max(z, 1.0)

    def half_width_m(self, z: float) -> float:
        """How far the view reaches to either side, at a depth."""
        return self.width / 2 / self.px_per_m(z)

    def ground(self) -> tuple[Float, Float]:
        """x and z of each pixel's ground point, both of shape (height, width); z is infinite above the horizon."""
        rows = np.arange(self.height, dtype=np.float32)[:, None] - self.horizon_px + 0.5
        columns = np.arange(self.width, dtype=np.float32)[None, :] - self.width / 2 + 0.5
        with np.errstate(divide="ignore"):
            z = np.where(rows > 0.5, self.focal_px * self.height_m / np.maximum(rows, 0.5), np.inf).astype(np.float32)
        x = columns * np.where(np.isfinite(z), z, 0.0) / self.focal_px
        return x.astype(np.float32), np.broadcast_to(z, x.shape).copy()


def periodic_noise(rng: np.random.Generator, *, size: tuple[int, int], cell: int, octaves: int = 4) -> Float:
    """Smooth noise of shape `size` that repeats without a seam in both directions; zero mean, unit deviation.

    `cell` is the size in pixels of the coarsest blobs; each octave halves it and carries 0.55 of the weight.
    """
    cv2 = load_cv2()
    height, width = size
    total = np.zeros(size, np.float32)
    weight = 1.0
    for _ in range(octaves):
        rows, columns = max(2, height // cell), max(2, width // cell)
        coarse = rng.standard_normal((rows, columns)).astype(np.float32)
        margin = 2
        wrapped = np.pad(coarse, margin, mode="wrap")
        scale_y, scale_x = height / rows, width / columns
        ys = (np.arange(height, dtype=np.float32) + 0.5) / scale_y - 0.5 + margin
        xs = (np.arange(width, dtype=np.float32) + 0.5) / scale_x - 0.5 + margin
        grid_x, grid_y = np.meshgrid(xs, ys)
        total += weight * cv2.remap(wrapped, grid_x, grid_y, cv2.INTER_CUBIC)
        weight *= 0.55
        cell = max(1, cell // 2)
        if cell == 1 and octaves > 1 and rows >= height:
            break
    total -= total.mean()
    return (total / max(float(total.std()), 1e-6)).astype(np.float32)


def shifted(picture: RGB, *, across: float, down: float) -> RGB:
    """The picture moved by a few pixels and parts of them, its edges repeated; bilinear, by mixing neighbours.

    Twice as fast as a warp, which computes a position for each pixel.
    """
    cv2 = load_cv2()
    height, width = picture.shape[:2]
    whole_x, whole_y = math.floor(across), math.floor(down)
    margin = max(abs(whole_x), abs(whole_y)) + 2
    wide = cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    left, top = margin - whole_x, margin - whole_y
    share_x, share_y = across - whole_x, down - whole_y
    rows = slice(top - 1, top + height)
    mixed = cv2.addWeighted(
        wide[rows, left : left + width], 1 - share_x, wide[rows, left - 1 : left - 1 + width], share_x, 0
    )
    moved: RGB = cv2.addWeighted(mixed[1:], 1 - share_y, mixed[:-1], share_y, 0)
    return moved


def ground_noise(rng: np.random.Generator, x: Float, z: Float, *, wavelength_m: float, px_per_m: Float) -> Float:
    """One octave of noise lying on the ground, faded out where it is finer than two pixels."""
    cv2 = load_cv2()
    side = 256
    tile = periodic_noise(rng, size=(side, side), cell=4, octaves=1)
    wrapped = np.pad(tile, ((0, 2), (0, 2)), mode="wrap")
    finite_z = np.where(np.isfinite(z), z, 0.0)
    step = 4.0 / wavelength_m
    at_x, at_y = np.mod(x * step, side).astype(np.float32), np.mod(finite_z * step, side).astype(np.float32)
    # The footprint of a pixel is longest in depth: a row spans z² / (f·H) metres.
    fade = np.clip(wavelength_m * px_per_m / 2.5 - 0.6, 0.0, 1.0)
    sampled: Float = cv2.remap(wrapped, at_x, at_y, cv2.INTER_LINEAR)
    faded: Float = (sampled * fade).astype(np.float32)
    return faded
