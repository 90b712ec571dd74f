"""What never moves in the yard: ground, fence, hut, the building going up, trees and the sky's texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamwatch.imaging import load_cv2
from streamwatch.records import RGB
from streamwatch.simulation.geometry import Projection, periodic_noise
from streamwatch.simulation.ground import paint_ground, paint_sky
from streamwatch.simulation.models import corrugated
from streamwatch.simulation.solids import Colour, Model, Paint, Point, block, darker, extruded, finish, render_model


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The still layers of a scene."""

    picture: RGB
    """Everything but the sky, already multiplied by its cover."""

    sky_keep: RGB
    """The uppermost rows: how much of the sky shows, 255 is all."""

    sky: RGB
    """The sky's texture, three pictures wide and a pixel more; the last of them repeats the first."""


def make_backdrop(projection: Projection, *, seed: int) -> Backdrop:
    """Draw the still layers; takes about a second for 1280×720."""
    cv2 = load_cv2()
    rng = np.random.default_rng((seed, 0xBACD))
    canvas = paint_ground(projection, rng)
    rows = min(projection.height, int(projection.horizon_px) + 2)
    keep = np.full((projection.height, projection.width, 3), 255, np.uint8)
    keep[int(projection.horizon_px) :] = 0
    size = 2
    top_rows = min(projection.height, int(projection.horizon_px + 0.03 * projection.height))
    for draw in (_far_hills, _tower_crane, _trees):
        buffer = np.zeros((top_rows * size, projection.width * size, 4), np.uint8)
        draw(buffer, projection, rng)
        sprite = finish(buffer, (0, 0, projection.width, top_rows), None)
        sprite.lay(canvas)
        cv2.multiply(keep[:top_rows], sprite.keep, dst=keep[:top_rows], scale=1 / 255)
    fence_drawn = False
    for model, x, z, yaw in _furniture():
        if z < 33 and not fence_drawn:
            _fence(canvas, projection, z=33.0)
            fence_drawn = True
        piece = render_model(projection, model, x=x, z=z, yaw=yaw)
        if piece is None:
            continue
        piece.cast(canvas)
        piece.lay(canvas)
        height, width = piece.keep.shape[:2]
        area = keep[piece.top : piece.top + height, piece.left : piece.left + width]
        cv2.multiply(area, piece.keep, dst=area, scale=1 / 255)
    return Backdrop(picture=canvas, sky_keep=np.ascontiguousarray(keep[:rows]), sky=paint_sky(projection, rng, rows))


def _far_hills(buffer: NDArray[np.uint8], projection: Projection, rng: np.random.Generator) -> None:
    cv2 = load_cv2()
    width = buffer.shape[1]
    base = projection.horizon_px * 2
    for lift, amplitude, cell, colour in ((0.030, 0.014, 300, (150, 166, 170)), (0.018, 0.010, 120, (122, 140, 126))):
        line = periodic_noise(rng, size=(8, width), cell=max(8, cell * width // 2560), octaves=5)[0]
        tops = base - (lift + amplitude * line) * projection.height * 2
        outline = np.concatenate([np.stack([np.arange(width), tops], 1), [[width, base], [0, base]]])
        cv2.fillPoly(buffer, [outline.astype(np.int32)], (*colour, 255))
    for x0, wide, tall, colour in ((0.30, 0.035, 0.052, (168, 164, 160)), (0.345, 0.028, 0.038, (178, 158, 146)),
                                   (0.47, 0.05, 0.03, (160, 164, 168))):  # fmt: skip
        left, top = int(x0 * width), int(base - tall * projection.height * 2)
        cv2.rectangle(buffer, (left, top), (left + int(wide * width), int(base)), (*colour, 255), -1)
        step = max(3, int(0.007 * width))
        for y in range(top + step // 2, int(base), step):
            for x in range(left + step // 2, left + int(wide * width) - step // 2, step):
                cv2.rectangle(buffer, (x, y), (x + step // 3, y + step // 3), (104, 112, 120, 255), -1)


def _tower_crane(buffer: NDArray[np.uint8], projection: Projection, rng: np.random.Generator) -> None:
    cv2 = load_cv2()
    del rng  # always the same crane
    unit = projection.width / 1280 * 2
    base, mast_x, top = projection.horizon_px * 2, 0.64 * projection.width * 2, 0.052 * projection.height * 2
    colour = (188, 140, 48, 255)

    def line(x0: float, y0: float, x1: float, y1: float, width: float = 0.8) -> None:
        ends = [(round(x * 16), round(y * 16)) for x, y in ((x0, y0), (x1, y1))]
        cv2.line(buffer, ends[0], ends[1], colour, max(1, round(width * unit)), cv2.LINE_8, 4)

    half, step = 3.6 * unit, 8.0 * unit
    for side in (-half, half):
        line(mast_x + side, base, mast_x + side, top, 1.1)
    y = base
    while y > top:
        line(mast_x - half, y, mast_x + half, y - step, 0.7)
        line(mast_x + half, y, mast_x - half, y - step, 0.7)
        y -= step
    jib_y, left, right = top + 14 * unit, mast_x - 300 * unit, mast_x + 92 * unit
    line(left, jib_y, right, jib_y, 1.2)
    line(left, jib_y - 6 * unit, mast_x, jib_y - 8 * unit, 0.9)
    x = left
    while x < mast_x:
        line(x, jib_y, x + 5 * unit, jib_y - 6 * unit, 0.6)
        line(x + 5 * unit, jib_y - 6 * unit, x + 10 * unit, jib_y, 0.6)
        x += 10 * unit
    peak = top - 12 * unit
    for end in (left + 70 * unit, left + 190 * unit, right - 12 * unit):
        line(mast_x, peak, end, jib_y - 5 * unit, 0.6)
    line(mast_x - half, top, mast_x, peak, 1.2)
    line(mast_x + half, top, mast_x, peak, 1.2)
    colour = (120, 118, 112, 255)
    for offset in range(0, 22, 3):
        line(right - offset * unit, jib_y, right - offset * unit, jib_y + 13 * unit, 1.6)
    colour = (206, 206, 200, 255)
    line(mast_x - 9 * unit, jib_y + 3 * unit, mast_x - 9 * unit, jib_y + 12 * unit, 4.5)


def _trees(buffer: NDArray[np.uint8], projection: Projection, rng: np.random.Generator) -> None:
    cv2 = load_cv2()
    scale_y, scale_x = projection.height * 2, projection.width * 2
    base = projection.horizon_px * 2
    crowns = [(float(x), float(rng.uniform(0.02, 0.05))) for x in np.arange(-0.01, 0.32, 0.017)]
    crowns += [(0.035, 0.115), (0.085, 0.09), (0.145, 0.075), (0.25, 0.06)]
    crowns += [(float(x), float(rng.uniform(0.018, 0.04))) for x in np.arange(0.52, 1.01, 0.02)]
    for x, tall in crowns:
        trunk = (int(x * scale_x), int(base - tall * 0.5 * scale_y)), (int(x * scale_x), int(base))
        cv2.line(buffer, *trunk, (62, 54, 44, 255), max(1, int(tall * 0.035 * scale_y)))
        # A crown is a few round masses, each built of leaves: dark ones first, then lit ones.
        masses = [(0.0, 0.0, 0.75)] + [(*rng.uniform(-0.55, 0.55, 2), rng.uniform(0.4, 0.6)) for _ in range(5)]
        for mass_x, mass_y, mass in masses:
            for tone in (0.5, 0.75, 1.0):
                for _ in range(int(700 * tall * mass) + 8):
                    turn, reach = rng.uniform(0, 2 * np.pi), mass * np.sqrt(rng.uniform(0, 1))
                    dx, dy = mass_x + reach * np.cos(turn), mass_y + reach * np.sin(turn)
                    if tone > 0.5 + 0.4 * rng.uniform() - 0.35 * (dx + dy):
                        continue
                    lit = tone * (1 + rng.normal(0, 0.08))
                    leaf_colour = darker((106, 124, 78), float(lit))
                    at_x = int(x * scale_x + dx * tall * 0.42 * scale_y)
                    at_y = int(base - tall * 0.62 * scale_y + dy * tall * 0.42 * scale_y)
                    leaf = max(1, int(scale_y * tall * rng.uniform(0.03, 0.075)))
                    cv2.circle(buffer, (at_x, at_y), leaf, (*leaf_colour, 255), -1)
    hedge = periodic_noise(rng, size=(8, buffer.shape[1]), cell=max(8, buffer.shape[1] // 60), octaves=6)[0]
    for offset, colour in ((0.010, (72, 88, 60)), (0.005, (88, 104, 68))):
        tops = base - (offset + 0.0022 * hedge) * scale_y
        outline = np.concatenate([np.stack([np.arange(len(tops)), tops], 1), [[len(tops), base + 2], [0, base + 2]]])
        cv2.fillPoly(buffer, [outline.astype(np.int32)], (*colour, 255))


def _fence(canvas: RGB, projection: Projection, *, z: float) -> None:
    """Mesh panels on posts, across the whole view."""
    cv2 = load_cv2()
    half = projection.half_width_m(z) + 3
    size = 2
    corners = projection.pixels(np.array([[-half, 2.1, z], [half, 0.0, z]], np.float32))
    top, bottom = max(0, int(corners[0, 1]) - 2), min(projection.height, int(corners[1, 1]) + 3)
    buffer = np.zeros(((bottom - top) * size, projection.width * size, 4), np.uint8)

    def line(x0: float, y0: float, x1: float, y1: float, tone: int, cover: int, width: int = 1) -> None:
        ends = projection.pixels(np.array([[x0, y0, z], [x1, y1, z]], np.float32))
        ends = np.round((ends - (0, top)) * size * 16).astype(int)
        part = tone * cover // 255
        start, end = (int(ends[0, 0]), int(ends[0, 1])), (int(ends[1, 0]), int(ends[1, 1]))
        cv2.line(buffer, start, end, (part, part, part, cover), width, cv2.LINE_8, 4)

    for x in np.arange(-half, half, 0.16):
        line(float(x), 0.1, float(x), 1.95, 150, 90)
    for y in np.arange(0.15, 1.95, 0.22):
        line(-half, float(y), half, float(y), 150, 80)
    thick = max(1, round(projection.width / 640))
    for x in np.arange(-half, half, 3.4):
        line(float(x), 0.0, float(x), 2.05, 128, 255, thick)
        line(float(x) - 0.3, 0.04, float(x) + 0.3, 0.04, 96, 255, thick * 2)
    line(-half, 1.98, half, 1.98, 142, 255, thick)
    finish(buffer, (0, top, projection.width, bottom), None).lay(canvas)


def _building() -> Model:
    wide, tall, storey = (-9.0, 9.0), (0.0, 10.2), 3.1
    concrete: Colour = (172, 168, 160)

    def facade(x: tuple[float, float], seed: int) -> Paint:
        rng = np.random.default_rng(seed)
        paint = Paint(x, tall, px_per_m=44)
        paint.rectangle(x[0], 0, x[1], tall[1], (66, 68, 70))
        for floor in range(3):
            y = floor * storey
            for bay, x0 in enumerate(np.arange(x[0], x[1], 3.0)):
                left = float(x0)
                deep = 52 + int(rng.integers(0, 34))
                paint.rectangle(left + 0.3, y + 0.3, left + 2.9, y + storey - 0.1, (deep, deep + 2, deep + 4))
                paint.rectangle(left + 0.3, y + 0.3, left + 2.9, y + 0.75, (deep + 40, deep + 38, deep + 34))
                if floor == 0 and bay % 3 != 1:
                    paint.rectangle(left + 0.3, y + 0.3, left + 2.9, y + 2.9, (158, 92, 70))
                    paint.rectangle(left + 0.9, y + 1.1, left + 2.2, y + 2.4, (58, 66, 74))
                if floor == 2 and bay % 2:
                    paint.line([(left + 0.4, y + 1.1), (left + 2.9, y + 1.1)], (222, 120, 40), width=0.06)
                paint.rectangle(left, y, left + 0.36, y + storey, concrete)
        for floor in range(4):
            paint.rectangle(x[0], floor * storey - 0.15, x[1], floor * storey + 0.28, (186, 182, 174))
        for at in np.arange(x[0] + 0.4, x[1], 0.8):
            paint.line([(float(at), tall[1]), (float(at), tall[1] - 0.65)], (132, 84, 60), width=0.05)
        paint.weather(seed=seed, dirt=0.2, rough=0.05)
        return paint

    front = facade(wide, 21)
    netting = Paint((2.0, 9.0), (0.0, 9.8), px_per_m=44)
    for at in np.arange(2.0, 9.1, 1.75):
        netting.line([(float(at), 0), (float(at), 9.8)], (150, 152, 150), width=0.09)
    for at in np.arange(0.2, 9.8, 1.55):
        netting.rectangle(2.0, float(at), 9.0, float(at) + 0.14, (178, 146, 96))
        netting.line([(2.0, float(at) + 0.9), (9.0, float(at) + 0.9)], (150, 152, 150), width=0.06)
    for start in (2.0, 5.5):
        netting.line([(start, 0), (start + 3.5, 3.2), (start, 6.4), (start + 3.5, 9.6)], (140, 142, 140), width=0.06)
    # Green debris netting over part of the scaffold.
    netting.rectangle(5.5, 4.9, 9.0, 9.5, (64, 118, 92))
    for at in np.arange(5.5, 9.0, 0.35):
        netting.line([(float(at), 4.9), (float(at), 9.5)], (56, 104, 82), width=0.04)
    netting.weather(seed=22, dirt=0.1, rough=0.08)
    return (
        block(wide, (0.0, 9.4), half_width=5.0, colour=concrete, side=front, end=facade((-5.0, 5.0), 23)),
        extruded([(2.0, 0.0), (9.0, 0.0), (9.0, 9.8), (2.0, 9.8)], half_width=0.02, offset_z=-6.0,
                 colours=[concrete], side=netting),
    )  # fmt: skip


def _hut() -> Model:
    wall: Colour = (206, 208, 204)
    side = corrugated((-3.0, 3.0), (0.0, 2.6), wall, seed=24)
    side.rectangle(-3.0, 0.0, 3.0, 0.16, (70, 74, 80))
    side.rectangle(-3.0, 2.42, 3.0, 2.6, (58, 88, 128))
    side.rectangle(-2.4, 0.15, -1.5, 2.15, (58, 88, 128))
    side.rectangle(-2.25, 1.3, -1.65, 1.95, (60, 72, 82))
    for x in (-0.7, 1.2):
        side.rectangle(x - 0.08, 1.0, x + 1.28, 2.0, (236, 236, 232))
        side.rectangle(x, 1.08, x + 1.2, 1.92, (66, 80, 92))
        side.polygon([(x, 1.08), (x + 0.5, 1.92), (x + 0.8, 1.92), (x + 0.3, 1.08)], (112, 128, 140))
    side.rectangle(-1.35, 1.15, -0.95, 1.7, (232, 200, 50))
    end = corrugated((-1.2, 1.2), (0.0, 2.6), wall, seed=25)
    return (
        block((-3.0, 3.0), (0.0, 2.6), half_width=1.2, colour=(150, 150, 148), side=side, end=end),
        block((-2.5, -1.4), (0.0, 0.3), half_width=0.4, colour=(120, 120, 116), offset_z=-1.6),
    )


def _toilet() -> Model:
    colour: Colour = (52, 104, 150)
    side = corrugated((-0.55, 0.55), (0.0, 2.2), colour, seed=26)
    side.rectangle(-0.4, 0.15, 0.4, 2.0, (66, 122, 168))
    side.rectangle(-0.2, 1.6, 0.2, 1.85, (228, 232, 234))
    return (block((-0.55, 0.55), (0.0, 2.3), half_width=0.55, colour=(210, 212, 210), side=side),)


def _heap(colour: Colour, seed: int) -> Model:
    rng = np.random.default_rng(seed)
    outline: list[Point] = [(-2.6, 0.0), (2.6, 0.0)]
    for turn in np.linspace(0.06, np.pi - 0.06, 13):
        reach = 1 + 0.08 * rng.normal()
        outline.append((float(2.5 * np.cos(turn) * reach), float(1.55 * np.sin(turn) ** 1.3 * reach)))
    side = Paint((-2.7, 2.7), (0.0, 1.9))
    side.polygon(outline, colour)
    for _ in range(900):
        x, y = float(rng.uniform(-2.6, 2.6)), float(rng.uniform(0, 1.6))
        inside = y < 1.45 * max(0.0, 1 - (x / 2.5) ** 2) ** 0.65
        if inside:
            lit = 0.82 - 0.12 * x + 0.12 * y + rng.normal(0, 0.08)
            side.disc(
                x, y, float(rng.uniform(0.03, 0.12)), (int(colour[0] * lit), int(colour[1] * lit), int(colour[2] * lit))
            )
    return (extruded(outline, half_width=0.35, colours=[colour], side=side),)


def _cone() -> Model:
    side = Paint((-0.22, 0.22), (0.0, 0.75), px_per_m=120)
    side.polygon([(-0.16, 0.04), (0.16, 0.04), (0.04, 0.75), (-0.04, 0.75)], (226, 84, 32))
    side.polygon([(-0.105, 0.3), (0.105, 0.3), (0.075, 0.47), (-0.075, 0.47)], (236, 236, 232))
    side.rectangle(-0.22, 0.0, 0.22, 0.05, (48, 44, 42))
    return (
        extruded(
            [(-0.2, 0.0), (0.2, 0.0), (0.04, 0.75), (-0.04, 0.75)], half_width=0.02, colours=[(180, 70, 30)], side=side
        ),
    )


def _furniture() -> list[tuple[Model, float, float, float]]:
    """What stands where: model, x, z, yaw; from far to near."""
    return [
        (_building(), 16.0, 47.0, 0.0),
        (_heap((172, 148, 108), 31), 12.2, 30.8, 0.0),
        (_heap((140, 136, 130), 32), 7.4, 31.4, 0.0),
        (_hut(), -11.3, 29.0, 0.0),
        (_toilet(), -6.4, 30.0, 0.0),
        (_cone(), -4.2, 28.3, 0.0),
        (_cone(), -1.4, 28.3, 0.0),
        (_cone(), 1.4, 28.3, 0.0),
        (_cone(), 4.2, 28.3, 0.0),
    ]
