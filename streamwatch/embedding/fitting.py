"""How a picture of any shape is brought to the network's square input."""

from __future__ import annotations

import numpy as np

from streamwatch.errors import UsageError
from streamwatch.imaging import resize
from streamwatch.records import RGB, Box, Picture

FITS = ("squash", "crop", "letterbox")
_LONG = 8
"""Pictures this many times longer than wide are cropped before they are scaled, or they would fill the memory."""


def check_fit(fit: str) -> str:
    """The fit itself.

    Raises:
        UsageError: It is not one of `FITS`.
    """
    if fit not in FITS:
        raise UsageError(f"fit is {fit!r}, expected one of {', '.join(FITS)}")
    return fit


def fit_picture(picture: Picture, *, fit: str, size_px: int, border: tuple[int, int, int]) -> RGB:
    """The picture as RGB of shape (size_px, size_px, 3).

    Args:
        picture: Any width and height.
        fit: `squash` scales both sides to the size (the shape is distorted); `crop` scales the shorter side and cuts
            the longer one's ends off; `letterbox` scales the longer side and fills the rest up.
        size_px: Width and height of the result.
        border: The colour to fill up with, red first.
    """
    width, height = picture.width, picture.height
    if fit == "squash" or width == height:
        return picture.rgb(width=size_px, height=size_px)
    short = min(width, height)
    if fit == "crop":
        if max(width, height) > _LONG * short:
            whole = picture.rgb()
            top, left = (height - short) // 2, (width - short) // 2
            square = np.ascontiguousarray(whole[top : top + short, left : left + short])
            return resize(square, width=size_px, height=size_px)
        scaled_width, scaled_height = (round(side * size_px / short) for side in (width, height))
        scaled = picture.rgb(width=scaled_width, height=scaled_height)
        top, left = (scaled_height - size_px) // 2, (scaled_width - size_px) // 2
        return scaled[top : top + size_px, left : left + size_px]
    scaled_width, scaled_height = (max(1, round(side * size_px / max(width, height))) for side in (width, height))
    fitted = np.empty((size_px, size_px, 3), np.uint8)
    fitted[:] = border
    top, left = (size_px - scaled_height) // 2, (size_px - scaled_width) // 2
    fitted[top : top + scaled_height, left : left + scaled_width] = picture.rgb(
        width=scaled_width, height=scaled_height
    )
    return fitted


def seen_box(fit: str, *, width: int, height: int) -> Box:
    """The part of a picture that the network's input shows, in fractions of the picture.

    With `letterbox` it is larger than the picture. A region's own box lies in this one.
    """
    if fit == "squash":
        return Box(0.0, 0.0, 1.0, 1.0)
    side = min(width, height) if fit == "crop" else max(width, height)
    across, down = side / width, side / height
    return Box((1 - across) / 2, (1 - down) / 2, across, down)
