"""Changed regions: which of them hang together, where they lie in words, and how they are drawn over a picture.

Pure functions of their arguments: no file, clock or randomness; any thread may call them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamwatch.records import RGB, Box, ChangedRegion

AMBER = (255, 170, 20)
"""Seldom the colour of a whole scene, and far from black and from white in lightness."""

_CASING = (16, 16, 20)
_TOUCH = 1e-6  # boxes come from divisions: 5/14 + 1/14 need not be 6/14

_HEAT_LEAST, _HEAT_MOST = 0.08, 0.34  # opacity over the least and the most changed region: the picture stays readable


def connected_groups(regions: Sequence[ChangedRegion]) -> tuple[tuple[ChangedRegion, ...], ...]:
    """The regions that hang together by a shared side (a shared corner does not count), most changed group first.

    A group's weight is the sum of its distances; within a group the order given is kept.
    """
    waiting = list(range(len(regions)))
    groups = []
    while waiting:
        group, front = [], [waiting.pop(0)]
        while front:
            here = front.pop()
            group.append(here)
            touching = [other for other in waiting if _share_a_side(regions[here].box, regions[other].box)]
            waiting = [other for other in waiting if other not in touching]
            front.extend(touching)
        groups.append(tuple(regions[index] for index in sorted(group)))
    return tuple(sorted(groups, key=lambda group: -math.fsum(_finite(region.distance_sq) for region in group)))


def place(regions: Sequence[ChangedRegion]) -> str:
    """Where the regions lie, in a few words: "left bottom", "top and right", "whole picture"; "" without regions."""
    if not regions:
        return ""
    if math.fsum(region.box.width * region.box.height for region in regions) > 0.8:
        return "whole picture"
    words = list(dict.fromkeys(_third(group) for group in connected_groups(regions)))
    if len(words) <= 2:
        return " and ".join(words)
    return f"{words[0]}, {words[1]} and elsewhere"


def draw_regions(
    rgb: RGB,
    regions: Sequence[ChangedRegion],
    *,
    colour: tuple[int, int, int] = AMBER,
    stroke_px: float | None = None,
) -> RGB:
    """A copy of the picture, shape (height, width, 3), with the changed regions marked; the one given stays as it is.

    A translucent tint shows how far each region changed, relative to the most changed one; one outline runs round each
    connected group, a line of `colour` between two dark ones, so that it stands out on light and on dark pictures.
    Only pixels inside the regions change. `stroke_px` is the width of the coloured line; by default it grows with the
    picture. Raises ValueError for an array that is no RGB picture.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"picture has shape {rgb.shape} and type {rgb.dtype}, expected (height, width, 3) and uint8")
    drawn = rgb.copy()
    height, width = rgb.shape[:2]
    boxes = [_pixels(region.box, height, width) for region in regions]
    if not boxes:
        return drawn
    # All work is done in the smallest window that holds the regions, one pixel wider so that every edge has an outside.
    top, left = min(box[0] for box in boxes) - 1, min(box[2] for box in boxes) - 1
    bottom, right = max(box[1] for box in boxes) + 1, max(box[3] for box in boxes) + 1
    strength: NDArray[np.float32] = np.zeros((bottom - top, right - left), dtype=np.float32)
    for (y0, y1, x0, x1), value in zip(boxes, _strengths(regions), strict=True):
        part = strength[y0 - top : y1 - top, x0 - left : x1 - left]
        np.maximum(part, value, out=part)
    side = min(min(y1 - y0, x1 - x0) for y0, y1, x0, x1 in boxes)
    line = stroke_px if stroke_px is not None else max(1.5, min(height, width) / 200)
    depth = _depth(strength > 0, radius=side / 4)

    heat = _smooth(strength, sigma=side / 3) * np.clip(depth + 0.5, 0, 1)
    casing = max(1.0, line * 0.6)
    layers = (
        (colour, heat),
        (_CASING, 0.75 * _band(depth, 0, line + 2 * casing)),
        (colour, _band(depth, casing, casing + line)),
    )
    y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    canvas = rgb[y0:y1, x0:x1].astype(np.float32)
    for paint, opacity in layers:
        alpha = opacity[inside][..., None]
        canvas += alpha * (np.asarray(paint, dtype=np.float32) - canvas)
    drawn[y0:y1, x0:x1] = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return drawn


def _share_a_side(a: Box, b: Box) -> bool:
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return (across > _TOUCH and down > -_TOUCH) or (down > _TOUCH and across > -_TOUCH)


def _third(group: Sequence[ChangedRegion]) -> str:
    weights = np.array([region.box.width * region.box.height for region in group])
    x = float(np.average([region.box.x + region.box.width / 2 for region in group], weights=weights))
    y = float(np.average([region.box.y + region.box.height / 2 for region in group], weights=weights))
    words = ("left", "", "right")[min(int(x * 3), 2)], ("top", "", "bottom")[min(int(y * 3), 2)]
    return " ".join(word for word in words if word) or "middle"


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _strengths(regions: Sequence[ChangedRegion]) -> list[float]:
    """Opacity of the tint over each region. A distance that is not finite has no state to be near: strongest."""
    most = max((_finite(region.distance_sq) for region in regions), default=0.0)
    shares = [
        region.distance_sq / most if most > 0 and math.isfinite(region.distance_sq) else 1.0 for region in regions
    ]
    return [_HEAT_LEAST + (_HEAT_MOST - _HEAT_LEAST) * max(share, 0.0) for share in shares]


def _pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right in whole pixels, at least one wide and within the picture."""
    y0, y1 = _span(box.y, box.height, height)
    x0, x1 = _span(box.x, box.width, width)
    return y0, y1, x0, x1


def _span(start: float, length: float, size: int) -> tuple[int, int]:
    # The nudge lets two boxes that meet at half a pixel round to the same side, whatever division they came from.
    first = min(max(math.floor(start * size + 0.5 + 1e-6), 0), size - 1)
    last = min(max(math.floor((start + length) * size + 0.5 + 1e-6), first + 1), size)
    return first, last


def _depth(mask: NDArray[np.bool_], *, radius: float) -> NDArray[np.float32]:
    """Pixels from the mask's edge to each pixel's centre, positive inside, convex corners rounded by `radius`.

    The rounding is a morphological opening by a disc, written with two Euclidean distance transforms.
    """
    inside = ndimage.distance_transform_edt(mask) - 0.5
    core = inside >= radius
    if not core.any():
        return np.asarray(inside, dtype=np.float32)
    rounded = np.where(core, inside, radius - ndimage.distance_transform_edt(~core))
    return np.where(mask, rounded, -1.0).astype(np.float32)


def _band(depth: NDArray[np.float32], start: float, end: float) -> NDArray[np.float32]:
    """How much of each pixel lies between two depths: an anti-aliased line."""
    band = np.clip(depth - start + 0.5, 0, 1) - np.clip(depth - end + 0.5, 0, 1)
    return np.asarray(band, dtype=np.float32)


def _smooth(strength: NDArray[np.float32], *, sigma: float) -> NDArray[np.float32]:
    """The tint without steps between neighbouring regions; nothing leaks out of them."""
    mask = (strength > 0).astype(np.float32)
    blurred = ndimage.gaussian_filter(strength, sigma, mode="constant")
    share = ndimage.gaussian_filter(mask, sigma, mode="constant")
    return np.asarray(mask * blurred / np.maximum(share, 1e-6), dtype=np.float32)
