"""Solids with painted faces, drawn in perspective into small sprites that are laid over the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamwatch.imaging import load_cv2
from streamwatch.records import RGB
from streamwatch.simulation.geometry import Float, Projection

Colour = tuple[int, int, int]
Point = tuple[float, float]

TO_SUN = np.array([-0.55, 0.78, -0.36], np.float32) / np.linalg.norm([-0.55, 0.78, -0.36])
"""The sun stands behind the camera's left shoulder."""

SHADOW_STRENGTH = 0.52
_SHIFT = 4
_SUPERSAMPLING = 2


def darker(colour: Colour, by: float) -> Colour:
    """A colour with less light on it; above 1, with more, up to white."""
    return (min(255, int(colour[0] * by)), min(255, int(colour[1] * by)), min(255, int(colour[2] * by)))


class Paint:
    """A flat painted face, drawn in metres with y up; what is not painted stays transparent."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, px_per_m: float = 72.0) -> None:
        self.x, self.y, self._scale = x, y, px_per_m
        shape = (max(2, round((y[1] - y[0]) * px_per_m)), max(2, round((x[1] - x[0]) * px_per_m)), 4)
        self.rgba: NDArray[np.uint8] = np.zeros(shape, np.uint8)

    def _at(self, points: Sequence[Point]) -> NDArray[np.int32]:
        scaled = [((px - self.x[0]) * self._scale - 0.5, (self.y[1] - py) * self._scale - 0.5) for px, py in points]
        return np.round(np.array(scaled) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon, of any shape."""
        load_cv2().fillPoly(self.rgba, [self._at(points)], (*colour, 255), shift=_SHIFT)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        centre = self._at([(x, y)])[0]
        radius_px = round(radius * self._scale * (1 << _SHIFT))
        load_cv2().circle(self.rgba, tuple(map(int, centre)), radius_px, (*colour, 255), -1, shift=_SHIFT)

    def line(self, points: Sequence[Point], colour: Colour, *, width: float = 0.03) -> None:
        """An open line, width in metres."""
        thickness = max(1, round(width * self._scale))
        load_cv2().polylines(self.rgba, [self._at(points)], False, (*colour, 255), thickness, shift=_SHIFT)

    def weather(self, *, seed: int, dirt: float = 0.35, rough: float = 0.05) -> None:
        """Blotches all over and dried mud towards the bottom."""
        cv2 = load_cv2()
        rng = np.random.default_rng(seed)
        height, width = self.rgba.shape[:2]
        coarse = rng.normal(0, 1, (max(2, height // 10), max(2, width // 10))).astype(np.float32)
        blotches = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        blotches += rng.normal(0, 0.5, (height, width)).astype(np.float32)
        rgb = self.rgba[..., :3].astype(np.float32) * (1 + rough * blotches[..., None])
        low = np.linspace(0, 1, height, dtype=np.float32)[:, None] ** 3
        share = np.clip(dirt * low * (1 + 0.6 * blotches), 0, 0.85)[..., None]
        rgb = rgb * (1 - share) + np.array([122, 104, 80], np.float32) * share
        self.rgba[..., :3] = np.clip(rgb, 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Face:
    """A flat face in local metres: x along the heading, y up, z across."""

    corners: Float
    """Shape (n, 3); for a painted face n is 4: upper left, upper right, lower right, lower left of the paint."""

    normal: Float
    colour: Colour
    paint: NDArray[np.uint8] | None = None


Part = tuple[Face, ...]
"""Faces of one more or less convex body."""

Model = tuple[Part, ...]


def extruded(
    profile: Sequence[Point],
    *,
    half_width: float,
    colours: Sequence[Colour],
    side: Paint | None = None,
    offset_z: float = 0.0,
    edge_paint: dict[int, Paint] | None = None,
) -> Part:
    """A body with the same side view all through.

    Args:
        profile: The side view, counter-clockwise with x to the right and y up.
        half_width: Half its extent across.
        colours: One for each edge of the profile, and the last one for the sides where `side` is None.
        side: The painted side view, seen from both sides.
        offset_z: Where its middle lies across.
        edge_paint: Paint for some edges (by number) that are upright or flat rectangles.
    """
    near, far = offset_z - half_width, offset_z + half_width
    faces: list[Face] = []
    count = len(profile)
    for number, (a, b) in enumerate(zip(profile, [*profile[1:], profile[0]], strict=True)):
        length = math.hypot(b[0] - a[0], b[1] - a[1])
        normal = np.array([(b[1] - a[1]) / length, -(b[0] - a[0]) / length, 0.0], np.float32)
        corners = np.array([(*b, near), (*b, far), (*a, far), (*a, near)], np.float32)
        painted = (edge_paint or {}).get(number)
        faces.append(Face(corners, normal, colours[min(number, len(colours) - 1)], painted.rgba if painted else None))
    for z, direction in ((near, -1.0), (far, 1.0)):
        normal = np.array([0.0, 0.0, direction], np.float32)
        if side is None:
            corners = np.array([(x, y, z) for x, y in profile], np.float32)
            faces.append(Face(corners, normal, colours[min(count, len(colours) - 1)]))
        else:
            (x0, x1), (y0, y1) = side.x, side.y
            corners = np.array([(x0, y1, z), (x1, y1, z), (x1, y0, z), (x0, y0, z)], np.float32)
            faces.append(Face(corners, normal, (0, 0, 0), side.rgba))
    return tuple(faces)


def block(
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    half_width: float,
    colour: Colour,
    offset_z: float = 0.0,
    side: Paint | None = None,
    end: Paint | None = None,
    top: Paint | None = None,
) -> Part:
    """A box. `end` paints both ends, its x running across; `top` paints the lid, its x running across too."""
    paint = {number: p for number, p in ((1, end), (3, end), (2, top)) if p is not None}
    profile = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
    return extruded(profile, half_width=half_width, colours=[colour], side=side, offset_z=offset_z, edge_paint=paint)


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn thing and its shadow, cut to the picture."""

    left: int
    top: int
    rgb: RGB
    """Colours already multiplied by their cover."""

    keep: RGB
    """How much of what lies behind stays, 255 is all."""

    shadow_left: int
    shadow_top: int
    shadow_keep: RGB | None
    """What the shadow leaves of the ground's light, 255 is all."""

    def cast(self, canvas: RGB) -> None:
        """Draw the shadow into a picture."""
        if self.shadow_keep is not None:
            _scale_into(canvas, self.shadow_left, self.shadow_top, self.shadow_keep)

    def lay(self, canvas: RGB) -> None:
        """Draw the thing into a picture."""
        area = _scale_into(canvas, self.left, self.top, self.keep)
        load_cv2().add(area, self.rgb, dst=area)

    def overlaps(self, other: Sprite) -> bool:
        """Whether this thing or its shadow may touch the other thing."""
        boxes = [(self.left, self.top, *self.keep.shape[1::-1])]
        if self.shadow_keep is not None:
            boxes.append((self.shadow_left, self.shadow_top, *self.shadow_keep.shape[1::-1]))
        height, width = other.keep.shape[:2]
        return any(
            left < other.left + width and other.left < left + w and top < other.top + height and other.top < top + h
            for left, top, w, h in boxes
        )


def _scale_into(canvas: RGB, left: int, top: int, keep: RGB) -> RGB:
    height, width = keep.shape[:2]
    area = canvas[top : top + height, left : left + width]
    load_cv2().multiply(area, keep, dst=area, scale=1 / 255)
    return area


def cut(projection: Projection, points: Float, *, margin: int = 2) -> tuple[int, int, int, int] | None:
    """The part of the picture around some pixels: left, top, right, bottom; None where nothing of it shows."""
    low, high = np.floor(points.min(axis=0)) - margin, np.ceil(points.max(axis=0)) + margin
    left, top = max(0, int(low[0])), max(0, int(low[1]))
    right, bottom = min(projection.width, int(high[0])), min(projection.height, int(high[1]))
    return (left, top, right, bottom) if right - left > 1 and bottom - top > 1 else None


def shadow_of(projection: Projection, hulls: Sequence[Float]) -> tuple[int, int, RGB] | None:
    """A soft shadow on the ground of bodies given by their corners in world metres, each of shape (n, 3)."""
    cv2 = load_cv2()
    flat = []
    for corners in hulls:
        fallen = corners - corners[:, 1:2] / TO_SUN[1] * TO_SUN
        flat.append(projection.pixels(fallen))
    together = np.concatenate(flat)
    blur = max(0.6, 0.05 * projection.px_per_m(float(np.concatenate(hulls)[:, 2].mean())))
    box = cut(projection, together, margin=int(3 * blur) + 2)
    if box is None:
        return None
    left, top, right, bottom = box
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for points in flat:
        hull = cv2.convexHull(np.round((points - (left, top)) * (1 << _SHIFT)).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_AA, _SHIFT)
    mask = cv2.GaussianBlur(mask, (0, 0), blur)
    keep = cv2.convertScaleAbs(cv2.bitwise_not(mask), alpha=SHADOW_STRENGTH, beta=255 * (1 - SHADOW_STRENGTH))
    return left, top, cv2.merge([keep, keep, cv2.addWeighted(keep, 0.92, keep, 0.0, 255 * 0.08)])


def finish(buffer: NDArray[np.uint8], box: tuple[int, int, int, int], shadow: tuple[int, int, RGB] | None) -> Sprite:
    """A sprite of a supersampled RGBA buffer that is zero where nothing was drawn."""
    cv2 = load_cv2()
    left, top, right, bottom = box
    small = cv2.resize(buffer, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    keep = cv2.cvtColor(cv2.bitwise_not(small[..., 3]), cv2.COLOR_GRAY2RGB)
    rgb = np.ascontiguousarray(small[..., :3])
    shadow_left, shadow_top, shadow_keep = shadow or (0, 0, None)
    return Sprite(left, top, rgb, keep, shadow_left, shadow_top, shadow_keep)


def render_model(
    projection: Projection,
    model: Model,
    *,
    x: float,
    z: float,
    yaw: float = 0.0,
    lift: float = 0.0,
    scale: float = 1.0,
    shadow: bool = True,
) -> Sprite | None:
    """Draw a model that stands at (x, z), heading `yaw` radians from the right towards the distance; None if unseen."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    place = np.array([x, lift, z], np.float32)
    eye = np.array([0, projection.height_m, 0], np.float32)

    def world(points: Float) -> Float:
        return ((points * scale) @ turn + place).astype(np.float32)

    bodies = [[(face, world(face.corners), face.normal @ turn) for face in part] for part in model]
    hulls = [np.concatenate([corners for _, corners, _ in body]) for body in bodies]
    box = cut(projection, projection.pixels(np.concatenate(hulls)))
    if box is None:
        return None
    left, top, right, bottom = box
    size = _SUPERSAMPLING
    buffer = np.zeros(((bottom - top) * size, (right - left) * size, 4), np.uint8)

    def distance(corners: Float) -> float:
        return round(float(np.linalg.norm(corners.mean(axis=0) - eye)), 1)

    # Rounded, so that parts at the same distance are drawn in the order given.
    for body, _ in sorted(zip(bodies, hulls, strict=True), key=lambda pair: -distance(pair[1])):
        for face, corners, normal in sorted(body, key=lambda item: -distance(item[1])):
            if float(normal @ (eye - corners.mean(axis=0))) <= 0:
                continue
            light = 0.60 + 0.46 * max(0.0, float(normal @ TO_SUN))
            points = (projection.pixels(corners) - (left, top)) * size
            _fill(buffer, points, face, light)
    cast = shadow_of(projection, hulls) if shadow else None
    return finish(buffer, box, cast)


def _fill(buffer: NDArray[np.uint8], points: Float, face: Face, light: float) -> None:
    cv2 = load_cv2()
    if face.paint is None:
        colour = darker(face.colour, light)
        fixed = np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(buffer, [fixed], (*colour, 255), shift=_SHIFT)
        return
    height, width = buffer.shape[:2]
    low = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0)), (width, height)).astype(int)
    if (high - low < 1).any():
        return
    paint = face.paint
    paint_height, paint_width = paint.shape[:2]
    source = np.array([(0, 0), (paint_width, 0), (paint_width, paint_height), (0, paint_height)], np.float32)
    matrix = cv2.getPerspectiveTransform(source, (points - low).astype(np.float32))
    shaded = np.empty_like(paint)
    cv2.convertScaleAbs(paint, dst=shaded, alpha=light)
    shaded[..., 3] = paint[..., 3]
    warped = cv2.warpPerspective(shaded, matrix, tuple(int(v) for v in high - low), flags=cv2.INTER_LINEAR)
    solid = cv2.threshold(warped[..., 3], 127, 255, cv2.THRESH_BINARY)[1]
    warped[..., 3] = solid
    area = buffer[low[1] : high[1], low[0] : high[0]]
    cv2.copyTo(warped, solid, area)
