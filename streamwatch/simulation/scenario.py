"""What happens in the yard, as data: who passes, what arrives and stays, and how the light behaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

CARRIERS = {
    "pallet": "forklift",
    "pipes": "forklift",
    "van": "itself",
    "pickup": "itself",
    "skip": "crane",
    "container": "crane",
}
"""Each kind of lasting object, and what brings it."""

TRANSIT_S = {"forklift": 5.4, "itself": 4.5, "crane": 7.0}
"""How long an object moves within the view before it is at rest; the same when it leaves."""

VEHICLES = {"truck": 7.2, "van": 5.2, "pickup": 4.9, "excavator": 4.4, "forklift": 3.6}
"""Vehicles that may pass, and their length in metres."""


@dataclass(frozen=True, kw_only=True)
class Stay:
    """One time that an object is at its place."""

    arrives_s: float
    """From this instant the object is at rest; it has been on its way for `TRANSIT_S` before."""

    leaves_s: float | None = None
    """At this instant it starts to move; None if it outlasts the clip. An `arrives_s` of −inf has always been there."""

    def __post_init__(self) -> None:
        if self.leaves_s is not None and self.leaves_s <= self.arrives_s:
            raise ValueError(f"a stay from {self.arrives_s} s to {self.leaves_s} s has no length")


@dataclass(frozen=True, kw_only=True)
class LastingObject:
    """Something that is set down at one place and rests there. The same thing at another place is another object."""

    name: str
    kind: str
    """A key of `CARRIERS`."""

    x_m: float
    z_m: float
    stays: tuple[Stay, ...]
    from_right: bool = True
    """Which side of the view its carrier comes from."""

    scale: float = 1.0
    colour: int = 0
    """Which of the kind's liveries."""

    def __post_init__(self) -> None:
        if self.kind not in CARRIERS:
            raise ValueError(f"object {self.name} is a {self.kind!r}, expected one of {', '.join(CARRIERS)}")
        for earlier, later in pairwise(self.stays):
            if earlier.leaves_s is None or later.arrives_s - self.transit_s < earlier.leaves_s + self.transit_s:
                raise ValueError(f"object {self.name} returns before it has left: {earlier} then {later}")

    @property
    def transit_s(self) -> float:
        """Seconds of movement before rest and after it."""
        return TRANSIT_S[CARRIERS[self.kind]]

    def resting(self, t_s: float) -> bool:
        """Whether it stands still at its place."""
        return any(s.arrives_s <= t_s <= (math.inf if s.leaves_s is None else s.leaves_s) for s in self.stays)


@dataclass(frozen=True, kw_only=True)
class Walker:
    """A person who crosses the view in a straight line at a steady pace and never stops."""

    starts_s: float
    z_start_m: float
    z_end_m: float
    to_right: bool = True
    speed_mps: float = 1.4
    outfit: int = 0

    def __post_init__(self) -> None:
        if self.speed_mps < 0.8:
            raise ValueError(f"a walker at {self.speed_mps} m/s nearly stands, expected at least 0.8")


@dataclass(frozen=True, kw_only=True)
class VehiclePass:
    """A vehicle that crosses the view at one depth and a steady speed."""

    starts_s: float
    kind: str
    """A key of `VEHICLES`."""

    z_m: float
    to_right: bool = True
    speed_mps: float = 5.0
    colour: int = 0

    def __post_init__(self) -> None:
        if self.kind not in VEHICLES:
            raise ValueError(f"the vehicle {self.kind!r} is unknown, expected one of {', '.join(VEHICLES)}")
        if self.speed_mps * 2.5 < VEHICLES[self.kind]:
            raise ValueError(
                f"a {self.kind} at {self.speed_mps} m/s hides one place for more than 2.5 s: drive it faster"
            )


@dataclass(frozen=True, kw_only=True)
class Light:
    """How bright the yard is and how that drifts."""

    level: float = 1.0
    """Exposure, 1 is an ordinary day."""

    drift: float = 0.07
    """Amplitude of the slow gain drift."""

    tint: float = 0.02
    """Amplitude of the slow drift between warm and cold."""

    cloud_shadow: float = 0.20
    """How much darker the middle of a cloud's shadow is."""

    noise: float = 2.0
    """Standard deviation of the sensor's noise, in grey levels of 255."""

    shake_px: float = 0.25
    """Amplitude of the mast's sway in pixels of a 1280-wide picture."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """All that happens in one clip."""

    duration_s: float
    lasting: tuple[LastingObject, ...] = ()
    walkers: tuple[Walker, ...] = ()
    vehicles: tuple[VehiclePass, ...] = ()
    light: Light = field(default_factory=Light)

    def __post_init__(self) -> None:
        if not self.duration_s > 0:
            raise ValueError(f"duration_s is {self.duration_s}, expected more than 0")
        names = [thing.name for thing in self.lasting]
        if len(set(names)) != len(names):
            raise ValueError(f"names of lasting objects repeat: {', '.join(sorted(names))}")
