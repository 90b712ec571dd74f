"""What stands in the yard and drives through it: each a model of a few painted solids, in metres."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from streamwatch.simulation.solids import Colour, Model, Paint, Part, block, darker, extruded

GLASS: Colour = (46, 58, 68)
TYRE: Colour = (32, 32, 33)
STEEL: Colour = (120, 122, 124)
_LIVERIES: dict[str, tuple[Colour, ...]] = {
    "van": ((226, 227, 224), (158, 166, 170), (44, 84, 140)),
    "pickup": ((176, 52, 40), (208, 208, 202), (62, 74, 66)),
    "truck": ((214, 120, 34), (38, 104, 152), (196, 196, 190)),
    "excavator": ((226, 164, 30), (222, 112, 32), (206, 184, 60)),
    "forklift": ((214, 148, 24), (190, 52, 38), (70, 130, 70)),
    "skip": ((206, 160, 30), (44, 92, 150), (58, 120, 74)),
    "container": ((44, 92, 138), (150, 62, 44), (86, 116, 92)),
    "pallet": ((158, 78, 58), (142, 84, 66), (172, 164, 152)),
    "pipes": ((198, 98, 42), (92, 104, 112), (60, 96, 150)),
}


@cache
def model(kind: str, colour: int = 0) -> Model:
    """The model of a kind of vehicle or object in one of its liveries."""
    liveries = _LIVERIES[kind]
    return _MAKERS[kind](liveries[colour % len(liveries)])


@cache
def crane_hook() -> Model:
    """What a load hangs from: a rope from above, the hook block, and slings to both ends of the load."""
    rope: Colour = (44, 44, 46)
    slings = [
        extruded(sling, half_width=0.02, colours=[rope])
        for sling in (
            [(-1.62, 1.2), (-1.56, 1.2), (0.03, 3.3), (-0.03, 3.3)],
            [(1.56, 1.2), (1.62, 1.2), (0.03, 3.3), (-0.03, 3.3)],
        )
    ]
    return (
        block((-0.03, 0.03), (3.6, 16.0), half_width=0.03, colour=rope),
        *slings,
        block((-0.15, 0.15), (3.2, 3.65), half_width=0.14, colour=(206, 160, 36)),
    )


def _wheel(paint: Paint, x: float, radius: float) -> None:
    paint.disc(x, radius, radius + 0.07, (24, 24, 25))
    paint.disc(x, radius, radius, TYRE)
    paint.disc(x, radius, radius * 0.58, (134, 136, 138))
    paint.disc(x, radius, radius * 0.22, (70, 70, 72))


def _underside(x: tuple[float, float], half_width: float, height: float) -> Part:
    return block(x, (0.16, height), half_width=half_width, colour=(26, 26, 27))


def _van(colour: Colour) -> Model:
    roof, nose = 2.36, 2.62
    profile = [(-2.6, 0.36), (nose, 0.36), (nose, 0.86), (2.42, 1.16), (1.72, 1.42), (1.02, 2.24), (0.8, roof)]
    profile += [(-2.5, roof), (-2.6, 2.2)]
    side = Paint((-2.7, 2.7), (0.0, 2.4))
    side.polygon(profile, colour)
    side.polygon([(0.42, 1.36), (1.58, 1.36), (1.0, 2.12), (0.42, 2.12)], GLASS)
    side.polygon([(0.5, 1.95), (1.1, 1.95), (1.0, 2.08), (0.5, 2.08)], (88, 102, 112))
    side.rectangle(-2.6, 0.36, nose, 0.58, darker(colour, 0.42))
    side.line([(0.34, 0.6), (0.34, 2.2)], darker(colour, 0.72), width=0.025)
    side.line([(-0.98, 0.6), (-0.98, 2.2)], darker(colour, 0.72), width=0.025)
    side.line([(-2.55, 1.26), (2.3, 1.26)], darker(colour, 0.84), width=0.03)
    side.rectangle(0.12, 1.16, 0.26, 1.21, (40, 40, 40))
    side.rectangle(-2.1, 1.5, -0.3, 1.78, (38, 92, 156))
    side.rectangle(-2.0, 1.58, -0.7, 1.62, (230, 232, 232))
    side.rectangle(-2.0, 1.68, -1.2, 1.71, (230, 232, 232))
    side.rectangle(2.3, 0.86, 2.6, 1.04, (236, 232, 210))
    side.rectangle(-2.6, 1.0, -2.5, 1.5, (170, 34, 28))
    for x in (-1.62, 1.7):
        _wheel(side, x, 0.36)
    side.weather(seed=1)
    back = Paint((-1.0, 1.0), (0.36, 2.2))
    back.rectangle(-1, 0.36, 1, 2.2, colour)
    back.rectangle(-0.9, 1.4, -0.08, 2.05, GLASS)
    back.rectangle(0.08, 1.4, 0.9, 2.05, GLASS)
    back.line([(0, 0.5), (0, 2.2)], darker(colour, 0.6))
    back.rectangle(-0.3, 0.8, 0.3, 0.94, (230, 214, 90))
    front = Paint((-1.0, 1.0), (0.36, 0.86))
    front.rectangle(-1, 0.36, 1, 0.86, darker(colour, 0.5))
    front.rectangle(-0.5, 0.55, 0.5, 0.78, (30, 30, 31))
    colours = [(30, 30, 31), colour, colour, colour, GLASS, colour, colour, colour, colour]
    body = extruded(profile, half_width=0.98, colours=colours, side=side, edge_paint={8: back, 1: front})
    return (_underside((-2.4, 2.4), 0.85, 0.5), body)


def _pickup(colour: Colour) -> Model:
    profile = [(-2.45, 0.42), (2.45, 0.42), (2.45, 0.92), (1.1, 1.08), (0.62, 1.72), (-0.62, 1.74), (-0.78, 1.04)]
    profile += [(-2.45, 1.04)]
    side = Paint((-2.5, 2.5), (0.0, 1.8))
    side.polygon(profile, colour)
    side.polygon([(-0.55, 1.12), (0.96, 1.12), (0.56, 1.6), (-0.52, 1.62)], GLASS)
    side.line([(0.12, 0.5), (0.12, 1.65)], colour, width=0.07)
    side.line([(-0.7, 0.5), (-0.7, 1.05)], darker(colour, 0.6), width=0.03)
    side.rectangle(-2.45, 0.42, 2.45, 0.54, (50, 50, 51))
    side.rectangle(2.2, 0.74, 2.45, 0.9, (236, 232, 210))
    for x in (-1.5, 1.5):
        _wheel(side, x, 0.38)
    side.weather(seed=2, dirt=0.6)
    bed = darker(colour, 0.45)
    colours = [(30, 30, 31), darker(colour, 0.8), colour, GLASS, colour, GLASS, bed, darker(colour, 0.85)]
    return (_underside((-2.2, 2.2), 0.8, 0.55), extruded(profile, half_width=0.9, colours=colours, side=side))


def _truck(colour: Colour) -> Model:
    cab_profile = [(1.7, 0.55), (3.6, 0.55), (3.6, 1.5), (3.36, 2.75), (1.7, 2.8)]
    cab = Paint((1.6, 3.7), (0.0, 2.85))
    cab.polygon(cab_profile, colour)
    cab.polygon([(2.15, 1.62), (3.42, 1.62), (3.24, 2.5), (2.15, 2.52)], GLASS)
    cab.line([(2.05, 0.7), (2.05, 2.6)], darker(colour, 0.65), width=0.03)
    cab.rectangle(1.7, 0.55, 3.6, 0.75, (44, 44, 45))
    cab.rectangle(3.42, 0.85, 3.6, 1.05, (236, 232, 210))
    _wheel(cab, 2.85, 0.48)
    cab.weather(seed=3, dirt=0.5)
    tipper_profile = [(-3.6, 1.05), (1.45, 1.05), (1.5, 2.3), (-3.5, 2.2)]
    tipper = Paint((-3.7, 1.6), (0.0, 2.4))
    tipper.rectangle(-3.4, 0.72, 1.6, 1.05, (40, 40, 41))
    tub = (112, 110, 104)
    tipper.polygon(tipper_profile, tub)
    for x in np.linspace(-3.3, 1.3, 8):
        tipper.line([(float(x), 1.08), (float(x), 2.2)], darker(tub, 0.74), width=0.07)
    tipper.line([(-3.5, 2.17), (1.5, 2.27)], darker(tub, 1.2), width=0.06)
    for x in (-2.6, -1.5):
        _wheel(tipper, x, 0.48)
    tipper.weather(seed=4, dirt=0.7, rough=0.08)
    load = _gravel((-1.25, 1.25), (-2.5, 2.5), base=(150, 136, 112), seed=5)
    return (
        _underside((-3.4, 3.4), 0.95, 0.8),
        extruded(tipper_profile, half_width=1.22, colours=[TYRE, tub, tub, tub], side=tipper, edge_paint={2: load}),
        extruded(cab_profile, half_width=1.2, colours=[TYRE, colour, GLASS, colour, darker(colour, 0.8)], side=cab),
    )


def _gravel(x: tuple[float, float], y: tuple[float, float], *, base: Colour, seed: int) -> Paint:
    paint = Paint(x, y, px_per_m=40)
    paint.rectangle(x[0] - 1, y[0] - 1, x[1] + 1, y[1] + 1, base)
    rng = np.random.default_rng(seed)
    for _ in range(260):
        at = (float(rng.uniform(*x)), float(rng.uniform(*y)))
        paint.disc(*at, float(rng.uniform(0.03, 0.11)), darker(base, float(rng.uniform(0.6, 1.25))))
    return paint


def _excavator(colour: Colour) -> Model:
    tracks = [
        extruded(
            [(-1.25, 0.02), (1.25, 0.02), (1.5, 0.3), (1.25, 0.58), (-1.25, 0.58), (-1.5, 0.3)],
            half_width=0.24,
            offset_z=side,
            colours=[TYRE],
            side=_track_paint(),
        )
        for side in (0.72, -0.72)
    ]
    house_profile = [(-1.5, 0.72), (0.85, 0.72), (0.85, 1.1), (-0.1, 1.45), (-1.2, 1.5), (-1.5, 1.2)]
    house = Paint((-1.6, 0.95), (0.7, 1.55))
    house.polygon(house_profile, colour)
    house.rectangle(-1.42, 0.86, -0.9, 1.2, darker(colour, 0.3))
    house.weather(seed=6, dirt=0.3)
    cab_profile = [(-0.1, 0.72), (0.95, 0.72), (0.95, 1.3), (0.7, 2.2), (-0.1, 2.2)]
    cab = Paint((-0.2, 1.0), (0.7, 2.25))
    cab.polygon(cab_profile, colour)
    cab.polygon([(0.02, 1.25), (0.84, 1.25), (0.62, 2.1), (0.02, 2.1)], GLASS)
    boom = [(0.8, 0.85), (1.1, 0.95), (2.0, 2.35), (2.6, 2.42), (2.58, 2.62), (1.85, 2.6)]
    arm = [(2.55, 2.62), (2.4, 2.4), (2.62, 0.85), (2.8, 0.85)]
    bucket = [(2.3, 0.7), (2.85, 0.45), (3.0, 0.95), (2.55, 1.0)]
    arm_colour = darker(colour, 0.92)
    return (
        tracks[0],
        extruded(house_profile, half_width=0.92, colours=[colour], side=house),
        extruded(boom, half_width=0.14, colours=[arm_colour], offset_z=-0.1),
        extruded(arm[::-1], half_width=0.1, colours=[arm_colour], offset_z=-0.1),
        extruded(bucket, half_width=0.32, colours=[(72, 70, 66)], offset_z=-0.1),
        extruded(cab_profile, half_width=0.42, colours=[colour, GLASS, GLASS, colour], side=cab, offset_z=0.42),
        tracks[1],
    )


def _track_paint() -> Paint:
    paint = Paint((-1.55, 1.55), (0.0, 0.6))
    paint.polygon([(-1.25, 0.02), (1.25, 0.02), (1.5, 0.3), (1.25, 0.58), (-1.25, 0.58), (-1.5, 0.3)], (44, 43, 42))
    paint.polygon([(-1.2, 0.12), (1.2, 0.12), (1.35, 0.3), (1.2, 0.48), (-1.2, 0.48), (-1.35, 0.3)], (24, 24, 24))
    for x in np.linspace(-1.15, 1.15, 6):
        paint.disc(float(x), 0.28, 0.17, (92, 88, 80))
    paint.weather(seed=7, dirt=0.8)
    return paint


def _forklift(colour: Colour) -> Model:
    profile = [(-1.15, 0.28), (0.95, 0.28), (0.95, 0.85), (0.35, 0.95), (-0.9, 1.12), (-1.15, 0.9)]
    side = Paint((-1.3, 1.2), (0.0, 1.2))
    side.polygon(profile, colour)
    side.polygon([(-1.15, 0.28), (-0.75, 0.28), (-0.75, 1.05), (-1.15, 0.9)], (56, 56, 58))
    _wheel(side, 0.62, 0.33)
    _wheel(side, -0.72, 0.27)
    side.weather(seed=8)
    black: Colour = (40, 40, 42)
    roll_cage = Paint((-1.0, 1.0), (0.9, 2.2))
    roll_cage.line([(-0.85, 1.0), (-0.6, 2.12), (0.45, 2.12), (0.62, 0.95)], black, width=0.08)
    roll_cage.rectangle(-0.55, 1.0, -0.25, 1.55, (36, 36, 38))
    roll_cage.rectangle(-0.35, 1.15, -0.02, 1.65, (232, 120, 30))
    roll_cage.disc(-0.16, 1.8, 0.13, (232, 214, 60))
    mast = [block((1.0, 1.14), (0.08, 2.35), half_width=0.05, colour=(66, 66, 68), offset_z=z) for z in (0.38, -0.38)]
    forks = [block((1.14, 2.2), (0.06, 0.12), half_width=0.06, colour=black, offset_z=z) for z in (0.3, -0.3)]
    cage = extruded(
        [(-0.6, 2.1), (0.45, 2.1), (0.45, 2.16), (-0.6, 2.16)], half_width=0.5, colours=[black], side=roll_cage
    )
    return (mast[0], forks[0], extruded(profile, half_width=0.55, colours=[black, colour], side=side), cage,
            mast[1], forks[1])  # fmt: skip


def _pallet(colour: Colour) -> Model:
    wood: Colour = (176, 142, 98)
    deck = Paint((-0.62, 0.62), (0.0, 0.16))
    deck.rectangle(-0.62, 0.12, 0.62, 0.16, wood)
    deck.rectangle(-0.62, 0.0, 0.62, 0.025, wood)
    deck.rectangle(-0.6, 0.02, 0.6, 0.12, (38, 30, 22))
    for x in (-0.6, -0.06, 0.48):
        deck.rectangle(x, 0.02, x + 0.12, 0.12, darker(wood, 0.8))
    bricks = _bricks((-0.58, 0.58), (0.16, 1.16), colour, seed=9)
    top = _bricks((-0.58, 0.58), (-0.58, 0.58), darker(colour, 1.08), seed=10)
    for paint in (bricks, top):
        for x in (-0.26, 0.26):
            paint.line([(x, -1), (x, 2)], (34, 34, 36), width=0.025)
    return (
        block((-0.62, 0.62), (0.0, 0.16), half_width=0.62, colour=wood, side=deck, end=deck),
        block((-0.58, 0.58), (0.16, 1.16), half_width=0.58, colour=colour, side=bricks, end=bricks, top=top),
    )


def _bricks(x: tuple[float, float], y: tuple[float, float], colour: Colour, *, seed: int) -> Paint:
    rng = np.random.default_rng(seed)
    paint = Paint(x, y, px_per_m=110)
    paint.rectangle(x[0] - 1, y[0] - 1, x[1] + 1, y[1] + 1, darker(colour, 0.5))
    row_height, length = 0.1, 0.232
    for row in range(math.ceil((y[1] - y[0]) / row_height)):
        start = x[0] - (length / 2 if row % 2 else 0.0)
        for column in range(math.ceil((x[1] - x[0]) / length) + 1):
            x0, y0 = start + column * length, y[0] + row * row_height
            tone = darker(colour, float(rng.uniform(0.78, 1.2)))
            paint.rectangle(x0 + 0.008, y0 + 0.008, x0 + length - 0.008, y0 + row_height - 0.008, tone)
    paint.weather(seed=seed, dirt=0.15, rough=0.06)
    return paint


def _pipes(colour: Colour) -> Model:
    radius, length = 0.2, 1.5
    height = radius * 2 + 0.346 * 2
    side = Paint((-length, length), (0.0, height), px_per_m=60)
    for row in range(3):
        y = radius + 0.346 * row
        side.rectangle(-length, y - radius, length, y + radius, darker(colour, 0.7))
        side.rectangle(-length, y - radius * 0.55, length, y + radius * 0.75, colour)
        side.rectangle(-length, y + 0.06, length, y + 0.12, darker(colour, 1.25))
    side.weather(seed=11, dirt=0.3)
    end = Paint((-0.6, 0.6), (0.0, height), px_per_m=110)
    for row, count in enumerate((3, 2, 1)):
        for number in range(count):
            across, up = (number - (count - 1) / 2) * radius * 2, radius + 0.346 * row
            end.disc(across, up, radius, colour)
            end.disc(across, up, radius * 0.82, (28, 24, 22))
    profile = [(-length, 0.0), (length, 0.0), (length, height), (-length, height)]
    lid = Paint((-0.2, 0.2), (-length, length))
    lid.rectangle(-0.2, -length, 0.2, length, darker(colour, 1.2))
    return (extruded(profile, half_width=0.5, colours=[colour], side=side, edge_paint={1: end, 3: end, 2: lid}),)


def _skip(colour: Colour) -> Model:
    profile = [(-1.25, 0.1), (1.25, 0.1), (1.85, 0.95), (1.85, 1.4), (-1.85, 1.4), (-1.85, 0.95)]
    side = Paint((-1.9, 1.9), (0.0, 1.42))
    side.polygon(profile, colour)
    side.rectangle(-1.2, 0.0, -0.9, 0.12, TYRE)
    side.rectangle(0.9, 0.0, 1.2, 0.12, TYRE)
    side.rectangle(-1.85, 1.3, 1.85, 1.4, darker(colour, 1.12))
    for x in (-1.1, -0.4, 0.4, 1.1):
        side.polygon([(x - 0.06, 0.12), (x + 0.06, 0.12), (x + 0.09, 1.3), (x - 0.03, 1.3)], darker(colour, 0.72))
    side.disc(-1.6, 1.1, 0.09, STEEL)
    side.disc(1.6, 1.1, 0.09, STEEL)
    side.rectangle(-0.3, 0.6, 0.3, 0.92, (232, 230, 222))
    side.rectangle(-0.22, 0.72, 0.22, 0.8, (40, 40, 40))
    side.weather(seed=12, dirt=0.5, rough=0.08)
    rubble = _gravel((-0.9, 0.9), (-1.85, 1.85), base=(146, 128, 112), seed=13)
    for seed, tone in ((14, (170, 130, 84)), (15, (96, 92, 88)), (16, (196, 190, 180))):
        rng = np.random.default_rng(seed)
        for _ in range(4):
            x, y, turn = rng.uniform(-0.6, 0.6), rng.uniform(-1.5, 1.5), rng.uniform(0, 3)
            rubble.line([(x, y), (x + 0.5 * math.cos(turn), y + 0.5 * math.sin(turn))], tone, width=0.1)
    dark = darker(colour, 0.5)
    colours = [dark, darker(colour, 0.8), colour, dark, colour, darker(colour, 0.8)]
    return (extruded(profile, half_width=0.88, colours=colours, side=side, edge_paint={3: rubble}),)


def _container(colour: Colour) -> Model:
    return (
        block(
            (-1.5, 1.5),
            (0.0, 2.2),
            half_width=1.05,
            colour=colour,
            side=corrugated((-1.5, 1.5), (0.0, 2.2), colour, seed=17),
            end=corrugated((-1.05, 1.05), (0.0, 2.2), colour, seed=18),
        ),
    )


def corrugated(x: tuple[float, float], y: tuple[float, float], colour: Colour, *, seed: int) -> Paint:
    """A steel wall with upright folds and a frame."""
    paint = Paint(x, y, px_per_m=60)
    paint.rectangle(x[0] - 1, y[0] - 1, x[1] + 1, y[1] + 1, colour)
    at = x[0]
    while at < x[1]:
        paint.rectangle(at, y[0], at + 0.1, y[1], darker(colour, 0.78))
        paint.rectangle(at + 0.1, y[0], at + 0.13, y[1], darker(colour, 1.16))
        at += 0.26
    for y0 in (y[0], y[1] - 0.12):
        paint.rectangle(x[0], y0, x[1], y0 + 0.12, darker(colour, 0.86))
    for x0 in (x[0], x[1] - 0.1):
        paint.rectangle(x0, y[0], x0 + 0.1, y[1], darker(colour, 0.86))
    paint.weather(seed=seed, dirt=0.35, rough=0.06)
    return paint


_MAKERS: dict[str, Callable[[Colour], Model]] = {
    "van": _van,
    "pickup": _pickup,
    "truck": _truck,
    "excavator": _excavator,
    "forklift": _forklift,
    "skip": _skip,
    "container": _container,
    "pallet": _pallet,
    "pipes": _pipes,
}
