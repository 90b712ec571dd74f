"""Ground and sky, painted from noise that lies on planes in the world."""

from __future__ import annotations

import numpy as np

from streamwatch.imaging import load_cv2
from streamwatch.records import RGB
from streamwatch.simulation.geometry import Float, Projection, ground_noise, periodic_noise
from streamwatch.simulation.solids import Colour


def _mix(base: Float, share: Float, colour: Colour) -> Float:
    return base + (np.array(colour, np.float32) - base) * np.clip(share, 0, 1)[..., None]


def _smooth(values: Float, low: float, high: float) -> Float:
    """0 below low, 1 above high, a soft step between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    step: Float = (share * share * (3 - 2 * share)).astype(np.float32)
    return step


def paint_ground(projection: Projection, rng: np.random.Generator) -> RGB:
    """The yard's floor: gravel, mud, the haul road, tyre tracks, puddles, the field behind; black above the horizon."""
    x, z = projection.ground()
    per_m = np.where(np.isfinite(z), projection.focal_px / z, 0).astype(np.float32)

    def octave(wavelength_m: float) -> Float:
        return ground_noise(rng, x, z, wavelength_m=wavelength_m, px_per_m=per_m)

    broad, middle, small = octave(11.0) + 0.6 * octave(5.0), octave(2.2), octave(0.8)
    fine, grit, stones = octave(0.3), octave(0.11), octave(0.06)
    picture: Float = np.broadcast_to(np.array([147, 138, 122], np.float32), (*x.shape, 3)).copy()
    picture = _mix(picture, 0.75 * _smooth(broad + 0.35 * middle + 0.2 * small, -0.1, 1.4), (116, 100, 80))
    picture = _mix(picture, 0.55 * _smooth(-broad + 0.3 * small, 0.7, 2.0), (168, 162, 150))
    # The haul road: packed, greyer, with worn edges.
    edge = 0.35 * middle + 0.2 * small
    road = _smooth(z + edge, 20.3, 20.9) * (1 - _smooth(z + edge, 27.2, 27.9))
    picture = _mix(picture, 0.8 * road, (136, 132, 124))
    ruts: Float = np.zeros_like(x)
    for lane in (21.6, 23.3, 24.6, 26.2):
        ruts += np.exp(-(((z + 0.15 * broad - lane) / 0.22) ** 2))
    for bend, start, spread in ((-0.035, -3.4, 1.55), (0.028, 2.2, 1.6), (0.006, 6.4, 1.5)):
        middle_x = start + bend * (z - 9) ** 2 + 0.08 * broad
        fading = (1 - _smooth(z, 19.5, 21.5)) * np.clip(0.8 + 0.3 * small, 0, 1)
        for side in (-0.5, 0.5):
            offset = np.where(np.isfinite(z), x - middle_x - side * spread, 99.0)
            tread = 0.75 + 0.25 * np.sin(np.where(np.isfinite(z), z, 0) * 34 + offset * 6) * np.clip(
                per_m / 60 - 0.6, 0, 1
            )
            ruts += fading * tread * np.exp(-((offset / 0.17) ** 2))
    picture = _mix(picture, 0.65 * np.clip(ruts, 0, 1), (94, 80, 64))
    # A concrete apron before the hut.
    apron = (
        _smooth(x, -15.2, -15.0) * (1 - _smooth(x, -7.4, -7.2)) * _smooth(z, 25.2, 25.35) * (1 - _smooth(z, 31, 31.2))
    )
    picture = _mix(picture, 0.85 * apron, (170, 168, 162))
    picture = _mix(picture, _smooth(z + 0.9 * middle, 32.2, 34.5), (118, 122, 84))
    picture = _mix(picture, 0.6 * _smooth(z, 45, 160), (150, 158, 140))
    tone: Float = 1 + 0.055 * broad + 0.05 * middle + 0.05 * small + 0.03 * fine + 0.06 * grit + 0.09 * stones
    chips: Float = _smooth(stones + 0.6 * grit, 1.7, 2.3) * (1 - road)
    picture = (picture * np.clip(tone, 0.5, 1.5)[..., None]).astype(np.float32)
    picture = _mix(picture, 0.35 * chips, (206, 200, 188))
    for px, pz, width, depth in (
        (-1.6, 16.6, 1.5, 0.8),
        (3.1, 10.6, 1.0, 0.45),
        (-6.4, 21.9, 1.3, 0.5),
        (8.2, 17.4, 1.6, 0.7),
    ):
        away = np.sqrt(((x - px) / width) ** 2 + ((np.where(np.isfinite(z), z, 1e3) - pz) / depth) ** 2)
        away = away + 0.16 * middle + 0.12 * small
        picture = _mix(picture, 0.6 * (1 - _smooth(away, 0.9, 1.35)), (88, 76, 62))
        picture = _mix(picture, 0.82 * (1 - _smooth(away, 0.72, 0.86)), (172, 180, 188))
    picture[: int(projection.horizon_px)] = 0
    return np.clip(picture, 0, 255).astype(np.uint8)


def paint_sky(projection: Projection, rng: np.random.Generator, rows: int) -> RGB:
    """Clouds over blue, `rows` high, three pictures wide and a pixel more; the last picture repeats the first."""
    cv2 = load_cv2()
    width = projection.width * 2
    noise = periodic_noise(rng, size=(512, 1024), cell=128, octaves=6)
    # Clouds lie on a plane overhead: they crowd towards the horizon.
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    lines = np.broadcast_to(430 * down**0.75, (rows, width))
    columns = np.broadcast_to(np.arange(width, dtype=np.float32) * (1024 / width), (rows, width))
    wrapped = np.pad(noise, ((0, 2), (0, 2)), mode="wrap")
    cover = cv2.remap(wrapped, np.ascontiguousarray(columns), np.ascontiguousarray(lines), cv2.INTER_LINEAR)
    sky: Float = (
        np.array([128, 160, 196], np.float32) * (1 - down[..., None])
        + np.array([206, 215, 222], np.float32) * (down[..., None])
    )
    sky = np.broadcast_to(sky, (rows, width, 3)).copy()
    body = _smooth(cover, -0.35, 1.1) * (0.92 - 0.35 * down)
    sky = _mix(sky, body, (238, 239, 240))
    shaded = _smooth(np.roll(cover, -max(1, rows // 24), axis=0), 0.5, 2.2)
    sky = _mix(sky, 0.45 * shaded * (1 - 0.5 * down), (176, 182, 190))
    once = np.clip(sky, 0, 255).astype(np.uint8)
    return np.concatenate([once, once[:, : projection.width + 1]], axis=1)
