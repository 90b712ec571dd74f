"""What a low-cost site camera does to the picture: light, vignette, sway, sensor noise and the burnt-in clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from streamwatch.imaging import load_cv2
from streamwatch.records import RGB
from streamwatch.simulation.geometry import Float, periodic_noise, shifted
from streamwatch.simulation.scenario import Light

CLOCK_START = datetime(2026, 5, 11, 9, 14, 37, tzinfo=UTC)
_UNITY = 128
_FIELDS = 5
_SLACK = 96


class CameraEffects:
    """The effects for one size and seed. A frame depends on its time and number only, never on what was asked before.

    The noise is picked from a few fields made in advance, each time another one at another offset: fresh normal
    draws for each frame would cost more than all the rest. Its deviation does not depend on brightness, as photon
    noise does not once a camera has applied its gamma curve.
    """

    def __init__(self, *, width: int, height: int, light: Light, seed: int) -> None:
        self._width, self._height, self._light, self._seed = width, height, light, seed
        rng = np.random.default_rng((seed, 0xCA3))
        self._phases = rng.uniform(0, 2 * math.pi, 8)
        coarse = periodic_noise(rng, size=(64, 256), cell=32, octaves=3)
        self._clouds = np.clip((coarse - 0.1) / 1.3, 0, 1).astype(np.float32)
        rows, columns = np.mgrid[0:36, 0:64].astype(np.float32)
        radius_sq = ((columns - 31.5) / 32) ** 2 + ((rows - 17.5) / 18) ** 2
        self._vignette = (1.12 - 0.12 * radius_sq).astype(np.float32)

    def apply(self, picture: RGB, *, t_s: float, frame: int) -> RGB:
        """The picture as the camera delivers it; the one given is used up."""
        cv2 = load_cv2()
        gain = cv2.resize(self._gain(t_s), (self._width, self._height), interpolation=cv2.INTER_LINEAR)
        cv2.multiply(picture, gain, dst=picture, scale=1 / _UNITY)
        picture = self._sway(picture, t_s, frame)
        self._add_noise(picture, frame)
        self._stamp(picture, t_s)
        return picture

    def _gain(self, t_s: float) -> NDArray[np.uint8]:
        light, phases = self._light, self._phases
        drift = 0.65 * math.sin(2 * math.pi * t_s / 97 + phases[0]) + 0.35 * math.sin(
            2 * math.pi * t_s / 37 + phases[1]
        )
        warm = light.tint * math.sin(2 * math.pi * t_s / 141 + phases[2])
        at = (t_s * 3.1 + phases[3] * 40) % self._clouds.shape[1]
        whole, part = int(at), at - int(at)
        columns = (np.arange(65) + whole) % self._clouds.shape[1]
        strip = self._clouds[4:40, columns]
        shade = strip[:, :64] * (1 - part) + strip[:, 1:] * part
        level = light.level * (1 + light.drift * drift)
        # The automatic exposure takes back half of what the clouds take away.
        level /= 1 - 0.5 * light.cloud_shadow * float(shade.mean())
        grey: Float = self._vignette * level * (1 - light.cloud_shadow * shade)
        gains = np.stack([grey * (1 + warm), grey, grey * (1 - warm)], axis=2) * _UNITY
        return np.clip(gains + 0.5, 0, 255).astype(np.uint8)

    def _sway(self, picture: RGB, t_s: float, frame: int) -> RGB:
        reach = self._light.shake_px * self._width / 1280
        jitter = np.random.default_rng((self._seed, 0x5A, frame)).normal(0, 0.15, 2)
        phases = self._phases
        across = reach * (math.sin(2 * math.pi * t_s / 2.3 + phases[4]) + jitter[0])
        down = 0.6 * reach * (math.sin(2 * math.pi * t_s / 1.7 + phases[5]) + jitter[1])
        return shifted(picture, across=float(across), down=float(down))

    @cached_property
    def _noise_fields(self) -> list[tuple[RGB, RGB]]:
        cv2 = load_cv2()
        rng = np.random.default_rng((self._seed, 0x015E))
        shape = (self._height + _SLACK, self._width + _SLACK)
        fields = []
        for _ in range(_FIELDS):
            grey = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 0.55)
            colour = cv2.GaussianBlur(rng.standard_normal((*shape, 3), np.float32), (0, 0), 0.9)
            field = grey[..., None] / grey.std() + 0.5 * colour / colour.std()
            field *= self._light.noise / field.std()
            whole = np.floor(field + rng.random(field.shape, np.float32)).clip(-100, 100)
            fields.append((whole.clip(0).astype(np.uint8), (-whole).clip(0).astype(np.uint8)))
        return fields

    def _add_noise(self, picture: RGB, frame: int) -> None:
        cv2 = load_cv2()
        rng = np.random.default_rng((self._seed, 0x4F, frame))
        brighter, darker = self._noise_fields[int(rng.integers(_FIELDS))]
        top, left = (int(v) for v in rng.integers(0, _SLACK, 2))
        area = (slice(top, top + self._height), slice(left, left + self._width))
        cv2.add(picture, brighter[area], dst=picture)
        cv2.subtract(picture, darker[area], dst=picture)

    def _stamp(self, picture: RGB, t_s: float) -> None:
        text = _clock_face(int(t_s), self._width)
        if text is None:
            return
        ink, keep = text
        height, width = ink.shape[:2]
        margin = max(1, self._width // 106)
        area = picture[margin : margin + height, margin : margin + width]
        if area.shape != ink.shape:
            return
        cv2 = load_cv2()
        cv2.multiply(area, keep, dst=area, scale=1 / 255)
        cv2.add(area, ink, dst=area)


@lru_cache(maxsize=4)
def _clock_face(second: int, width: int) -> tuple[RGB, RGB] | None:
    """White digits with a black rim: ink, and how much of the picture stays."""
    cv2 = load_cv2()
    scale = width / 1280 * 0.62
    if scale < 0.1:
        return None
    moment = CLOCK_START + timedelta(seconds=second)
    text = f"{moment:%Y-%m-%d %H:%M:%S}  CAM 03"
    font = cv2.FONT_HERSHEY_DUPLEX
    thick = max(1, round(width / 1280))
    (text_width, text_height), below = cv2.getTextSize(text, font, scale, thick)
    rim = thick + 2
    letters = np.zeros((text_height + below + 2 * rim, text_width + 2 * rim), np.uint8)
    cv2.putText(letters, text, (rim, text_height + rim), font, scale, 255, thick, cv2.LINE_AA)
    outline = cv2.GaussianBlur(cv2.dilate(letters, np.ones((3, 3), np.uint8)), (3, 3), 0)
    keep = cv2.cvtColor(255 - np.maximum(outline // 4 * 3, letters), cv2.COLOR_GRAY2RGB)
    ink = cv2.cvtColor(letters // 20 * 19, cv2.COLOR_GRAY2RGB)
    return ink, keep
