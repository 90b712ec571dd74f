"""People who walk: jointed figures in hi-vis clothing, drawn at a moment of their stride."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from streamwatch.imaging import load_cv2
from streamwatch.simulation.geometry import Projection
from streamwatch.simulation.solids import Colour, Sprite, cut, darker, finish, shadow_of

_SUPERSAMPLING = 3
_SHIFT = 4
HEIGHT_M = 1.8
STRIDE_M = 1.5
"""Length of a full cycle of two steps."""

OUTFITS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((236, 116, 28), (52, 58, 74), (238, 238, 232)),
    ((206, 222, 40), (44, 46, 52), (232, 196, 40)),
    ((206, 222, 40), (86, 78, 66), (220, 60, 44)),
    ((58, 72, 96), (62, 66, 74), (240, 240, 236)),
    ((236, 116, 28), (88, 92, 98), (46, 92, 170)),
)
"""Vest, trousers and helmet."""


def render_person(
    projection: Projection, *, x: float, z: float, walked_m: float, outfit: int, to_right: bool
) -> Sprite | None:
    """A person at (x, z) who has walked so far; None if out of the view."""
    cv2 = load_cv2()
    feet = projection.pixels(np.array([[x, 0.0, z]], np.float32))[0]
    per_m = projection.px_per_m(z)
    corners = feet + np.array([(-0.6, -1.95), (0.6, 0.08)], np.float32) * np.float32(per_m)
    box = cut(projection, corners)
    if box is None:
        return None
    left, top, right, bottom = box
    size = _SUPERSAMPLING
    buffer = np.zeros(((bottom - top) * size, (right - left) * size, 4), np.uint8)
    forward = 1.0 if to_right else -1.0
    phase = 2 * math.pi * walked_m / STRIDE_M
    bounce = 0.025 * math.cos(2 * phase)

    def at(ahead: float, up: float) -> tuple[int, int]:
        px = (feet[0] + forward * ahead * per_m - left) * size
        py = (feet[1] - (up + bounce) * per_m - top) * size
        return round(px * (1 << _SHIFT)), round(py * (1 << _SHIFT))

    def limb(points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        thickness = max(1, round(width * per_m * size))
        for start, end in pairwise(points):
            cv2.line(buffer, at(*start), at(*end), (*colour, 255), thickness, cv2.LINE_8, _SHIFT)

    vest, trousers, helmet = OUTFITS[outfit % len(OUTFITS)]
    skin: Colour = (198, 150, 122)

    def leg(turn: float, shade: float) -> None:
        swing = 0.46 * math.sin(turn)
        bend = 0.75 * max(0.0, math.cos(turn)) ** 1.5
        knee = (0.46 * math.sin(swing), 0.92 - 0.46 * math.cos(swing))
        shin = swing - bend
        ankle = (knee[0] + 0.42 * math.sin(shin), knee[1] - 0.42 * math.cos(shin))
        colour = darker(trousers, shade)
        limb([(0.0, 0.92), knee], 0.18, colour)
        limb([knee, ankle], 0.14, colour)
        limb([(ankle[0] - 0.05, ankle[1] - 0.02), (ankle[0] + 0.15, ankle[1] - 0.03)], 0.1, (42, 36, 30))

    def arm(turn: float, shade: float) -> None:
        swing = 0.5 * math.sin(turn)
        elbow = (0.02 + 0.3 * math.sin(swing), 1.42 - 0.3 * math.cos(swing))
        hand = (elbow[0] + 0.27 * math.sin(swing + 0.4), elbow[1] - 0.27 * math.cos(swing + 0.4))
        sleeve = darker(vest, shade)
        limb([(0.02, 1.42), elbow, hand], 0.11, sleeve)
        limb([hand, (hand[0], hand[1] - 0.03)], 0.1, skin)

    arm(phase, 0.62)
    leg(phase + math.pi, 0.75)
    leg(phase, 1.0)
    limb([(0.0, 0.92), (0.03, 1.38)], 0.31, vest)
    # The side away from the sun.
    limb([(forward * 0.1, 0.9), (0.03 + forward * 0.1, 1.38)], 0.12, darker(vest, 0.8))
    limb([(-0.13, 1.06), (0.15, 1.06)], 0.055, (214, 216, 212))
    limb([(-0.12, 1.2), (0.15, 1.2)], 0.055, (214, 216, 212))
    limb([(0.04, 1.46), (0.05, 1.56)], 0.11, skin)
    limb([(0.055, 1.62), (0.06, 1.66)], 0.19, skin)
    limb([(0.03, 1.72), (0.075, 1.72)], 0.2, helmet)
    limb([(0.08, 1.7), (0.17, 1.69)], 0.05, helmet)
    arm(phase + math.pi, 0.92)
    width, stance = 0.2, 0.3 * abs(math.sin(phase))
    hulls = [
        np.array([[x + dx, up, z + dz] for up in (0.0, 0.9) for dx in (-stance, stance) for dz in (-0.08, 0.08)]),
        np.array([[x + dx, up, z + dz] for up in (0.85, 1.5) for dx in (-width, width) for dz in (-0.1, 0.1)]),
        np.array([[x + dx, up, z] for up in (1.45, 1.8) for dx in (-0.11, 0.11)]),
    ]
    shadow = shadow_of(projection, [hull.astype(np.float32) for hull in hulls])
    return finish(buffer, box, shadow)
