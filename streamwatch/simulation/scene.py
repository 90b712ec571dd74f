"""The yard as the camera sees it at any moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamwatch.imaging import load_cv2
from streamwatch.records import RGB, Box
from streamwatch.simulation.backdrop import Backdrop, make_backdrop
from streamwatch.simulation.camera import CameraEffects
from streamwatch.simulation.geometry import Projection
from streamwatch.simulation.models import crane_hook, model
from streamwatch.simulation.motion import Placed, deliveries, passers, resting_place
from streamwatch.simulation.people import render_person
from streamwatch.simulation.scenario import LastingObject, Scenario
from streamwatch.simulation.scenarios import default_scenario
from streamwatch.simulation.solids import Sprite, render_model
from streamwatch.simulation.truth import Truth, intervals_of

_CLOUD_SPEED = 0.0042
"""Of the picture's width in a second."""


@dataclass(frozen=True, kw_only=True)
class YardScene:
    """A construction yard before one fixed camera; everything follows from these settings.

    `render` may be called in any order and gives the same bytes for the same settings and time (other
    versions of OpenCV may round differently). The first call draws
    the still layers (about a second for 1280×720), which the scene then keeps. One thread at a time.
    """

    seed: int = 0
    """Seeds the ground, clouds, light and noise."""

    width: int = 1280
    height: int = 720
    fps: float = 10.0
    duration_s: float = 120.0
    scenario: Scenario | None = None
    """What happens; None for the demo's scenario over `duration_s`. A scenario brings its own duration."""

    def __post_init__(self) -> None:
        if self.width < 64 or self.height < 36 or self.width % 2 or self.height % 2:
            raise ValueError(f"the size is {self.width}×{self.height}, expected even numbers from 64×36 up")
        if not 0 < self.fps <= 240:
            raise ValueError(f"fps is {self.fps}, expected more than 0 and at most 240")
        if self.scenario is None:
            object.__setattr__(self, "scenario", default_scenario(duration_s=self.duration_s))
        object.__setattr__(self, "duration_s", self._plan.duration_s)

    @property
    def _plan(self) -> Scenario:
        assert self.scenario is not None
        return self.scenario

    @property
    def frame_count(self) -> int:
        """Frames in the whole clip, at least 1."""
        return max(1, round(self.duration_s * self.fps))

    @cached_property
    def projection(self) -> Projection:
        """How metres become pixels."""
        return Projection(width=self.width, height=self.height)

    @cached_property
    def truth(self) -> Truth:
        """When which state begins and ends, and where its objects show."""
        return Truth(
            intervals=intervals_of(self._plan), boxes={thing.name: self._box(thing) for thing in self._plan.lasting}
        )

    def render(self, t_s: float) -> RGB:
        """The camera's picture at a time, shape (height, width, 3), uint8; the caller may keep and change it."""
        picture = self.render_clean(t_s)
        return self._effects.apply(picture, t_s=t_s, frame=round(t_s * self.fps))

    def render_clean(self, t_s: float, *, without: frozenset[str] = frozenset(), passing: bool = True) -> RGB:
        """The picture before light, sway, noise and clock.

        Args:
            t_s: Seconds from the clip's start.
            without: Names of lasting objects to leave out, with their carriers.
            passing: False leaves out passers-by.
        """
        things = [thing for thing in self._plan.lasting if thing.name not in without]
        resting = tuple(thing for thing in things if thing.resting(t_s))
        picture = self._still(resting).copy()
        self._paint_sky(picture, t_s)
        moving: list[Placed] = []
        for thing in things:
            moving.extend(deliveries(thing, self.projection, t_s))
        if passing:
            moving.extend(passers(self._plan, self.projection, t_s))
        if moving:
            self._lay(picture, moving, resting)
        return picture

    def _lay(self, picture: RGB, moving: Iterable[Placed], resting: tuple[LastingObject, ...]) -> None:
        """Movers from far to near; what rests nearer than a mover is drawn over it again."""
        drawn = [(placed.z_m, sprite) for placed in moving if (sprite := self._sprite(placed)) is not None]
        drawn.sort(key=lambda item: -item[0])
        standing = sorted(resting, key=lambda thing: -thing.z_m)
        for _, sprite in drawn:
            sprite.cast(picture)
        behind: list[Sprite] = []
        queue = list(drawn)
        for thing in standing:
            while queue and queue[0][0] > thing.z_m:
                behind.append(queue.pop(0)[1])
                behind[-1].lay(picture)
            sprite = self._resting_sprite(thing)
            shadows = [other for _, other in queue]
            if sprite is not None and any(other.overlaps(sprite) for other in [*behind, *shadows]):
                sprite.lay(picture)
        for _, sprite in queue:
            sprite.lay(picture)

    def _sprite(self, placed: Placed) -> Sprite | None:
        if placed.kind == "person":
            return render_person(
                self.projection,
                x=placed.x_m,
                z=placed.z_m,
                walked_m=placed.walked_m,
                outfit=placed.colour,
                to_right=placed.to_right,
            )
        if placed.kind == "hook":
            return render_model(
                self.projection, crane_hook(), x=placed.x_m, z=placed.z_m, lift=placed.lift_m, shadow=False
            )
        return render_model(
            self.projection,
            model(placed.kind, placed.colour),
            x=placed.x_m,
            z=placed.z_m,
            yaw=placed.yaw,
            lift=placed.lift_m,
            scale=placed.scale,
        )

    @cached_property
    def _resting_sprites(self) -> dict[str, Sprite | None]:
        return {}

    def _resting_sprite(self, thing: LastingObject) -> Sprite | None:
        if thing.name not in self._resting_sprites:
            self._resting_sprites[thing.name] = self._sprite(resting_place(thing))
        return self._resting_sprites[thing.name]

    def _box(self, thing: LastingObject) -> Box:
        sprite = self._resting_sprite(thing)
        if sprite is None:
            return Box(0.0, 0.0, 0.0, 0.0)
        rows, columns = np.nonzero(sprite.keep[..., 0] < 128)
        left, top = sprite.left + int(columns.min()), sprite.top + int(rows.min())
        wide, tall = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
        return Box(left / self.width, top / self.height, wide / self.width, tall / self.height)

    @cached_property
    def _backdrop(self) -> Backdrop:
        return make_backdrop(self.projection, seed=self.seed)

    @cached_property
    def _effects(self) -> CameraEffects:
        return CameraEffects(width=self.width, height=self.height, light=self._plan.light, seed=self.seed)

    @cached_property
    def _stills(self) -> dict[frozenset[str], RGB]:
        return {}

    def _still(self, resting: tuple[LastingObject, ...]) -> RGB:
        """The backdrop with what rests in the yard; the last few combinations are kept."""
        key = frozenset(thing.name for thing in resting)
        if key not in self._stills:
            if len(self._stills) >= 4:
                self._stills.pop(next(iter(self._stills)))
            picture = self._backdrop.picture.copy()
            sprites = [self._resting_sprite(thing) for thing in sorted(resting, key=lambda thing: -thing.z_m)]
            for sprite in sprites:
                if sprite is not None:
                    sprite.cast(picture)
            for sprite in sprites:
                if sprite is not None:
                    sprite.lay(picture)
            self._stills[key] = picture
        return self._stills[key]

    def _paint_sky(self, picture: RGB, t_s: float) -> None:
        cv2 = load_cv2()
        sky, keep = self._backdrop.sky, self._backdrop.sky_keep
        at = (t_s * _CLOUD_SPEED * self.width) % (2 * self.width)
        whole, part = int(at), at - int(at)
        first, second = sky[:, whole : whole + self.width], sky[:, whole + 1 : whole + 1 + self.width]
        shown = cv2.addWeighted(first, 1 - part, second, part, 0)
        cv2.multiply(shown, keep, dst=shown, scale=1 / 255)
        area = picture[: keep.shape[0]]
        cv2.add(area, shown, dst=area)
