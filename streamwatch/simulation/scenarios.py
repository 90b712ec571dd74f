"""Scenarios to use: the demo's, and random ones for benches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamwatch.simulation.geometry import Projection
from streamwatch.simulation.scenario import (
    CARRIERS,
    TRANSIT_S,
    VEHICLES,
    LastingObject,
    Light,
    Scenario,
    Stay,
    VehiclePass,
    Walker,
)


def default_scenario(*, duration_s: float = 120.0) -> Scenario:
    """The demo's clip: bricks at 25 s, a van parks at 50 s and leaves at 75 s, a skip stands from 96 s on."""
    lasting = (
        LastingObject(name="bricks", kind="pallet", x_m=1.2, z_m=12.6, scale=1.25, stays=(Stay(arrives_s=25.0),)),
        LastingObject(name="van", kind="van", x_m=4.6, z_m=18.5, stays=(Stay(arrives_s=50.0, leaves_s=75.0),)),
        LastingObject(name="skip", kind="skip", x_m=-4.3, z_m=14.0, from_right=False, stays=(Stay(arrives_s=96.0),)),
    )
    return Scenario(
        duration_s=duration_s, lasting=lasting, walkers=_walkers(duration_s), vehicles=_vehicles(duration_s)
    )


def _walkers(duration_s: float) -> tuple[Walker, ...]:
    plan = (
        Walker(starts_s=0.5, z_start_m=16.5, z_end_m=16.0, outfit=0),
        Walker(starts_s=11.0, z_start_m=23.0, z_end_m=16.5, to_right=False, speed_mps=1.5, outfit=1),
        Walker(starts_s=12.2, z_start_m=24.0, z_end_m=17.5, to_right=False, speed_mps=1.5, outfit=2),
        Walker(starts_s=30.0, z_start_m=10.4, z_end_m=10.2, speed_mps=1.6, outfit=3),
        Walker(starts_s=41.0, z_start_m=27.0, z_end_m=24.0, speed_mps=1.3, outfit=0),
        Walker(starts_s=55.0, z_start_m=15.8, z_end_m=16.2, to_right=False, outfit=2),
        Walker(starts_s=66.0, z_start_m=10.2, z_end_m=10.6, to_right=False, speed_mps=1.8, outfit=1),
        Walker(starts_s=79.0, z_start_m=17.0, z_end_m=23.0, speed_mps=1.5, outfit=3),
        Walker(starts_s=98.0, z_start_m=16.6, z_end_m=17.0, to_right=False, outfit=0),
        Walker(starts_s=99.1, z_start_m=17.1, z_end_m=17.4, to_right=False, outfit=4),
        Walker(starts_s=108.0, z_start_m=10.2, z_end_m=10.4, speed_mps=1.7, outfit=2),
    )
    return tuple(walker for walker in plan if walker.starts_s < duration_s)


def _vehicles(duration_s: float) -> tuple[VehiclePass, ...]:
    plan = (
        VehiclePass(starts_s=7.0, kind="truck", z_m=22.5, speed_mps=6.0),
        VehiclePass(starts_s=33.5, kind="excavator", z_m=21.0, speed_mps=2.4, to_right=False),
        VehiclePass(starts_s=59.0, kind="pickup", z_m=25.0, speed_mps=6.5, colour=1),
        VehiclePass(starts_s=68.0, kind="truck", z_m=23.5, speed_mps=5.5, to_right=False, colour=1),
        VehiclePass(starts_s=103.0, kind="van", z_m=22.0, speed_mps=6.0, colour=2),
    )
    return tuple(vehicle for vehicle in plan if vehicle.starts_s < duration_s)


_FRONT = ((-4.3, 13.4), (0.6, 12.6), (4.6, 13.4))
_BACK = ((-5.6, 18.8), (0.4, 19.0), (6.2, 18.8))
"""Where `random_scenario` sets things down, (x, z) in metres: no two overlap on the ground."""

_JITTER_S = 2.0
_SEEN_M = {
    "pallet": (1.25, 1.5, _FRONT),
    "pipes": (3.0, 1.4, _FRONT),
    "skip": (3.7, 1.75, _FRONT),
    "van": (5.2, 2.7, _BACK),
    "pickup": (4.9, 2.2, _BACK),
    "container": (3.2, 2.8, _BACK),
}
"""Each kind's width and height as the camera sees it, in metres at scale 1, and where it may stand."""


def _scale(kind: str, z: float, *, frame_share: float) -> float:
    """The scale at which a thing's box covers a share of a 16:9 frame, within what looks like the thing."""
    wide, tall, _ = _SEEN_M[kind]
    focal = Projection(width=1280, height=720).focal
    share_at_1 = wide * tall * (focal / z) ** 2 * 16 / 9
    low, high = (0.85, 1.12) if CARRIERS[kind] == "itself" else (0.8, 1.7)
    return float(np.clip(np.sqrt(frame_share / share_at_1), low, high))


def _free(lasting: list[LastingObject]) -> list[tuple[str, tuple[float, float]]]:
    """Which kind may still go where: to a place that is empty and not hidden by what stands before it."""
    taken = {(thing.x_m, thing.z_m) for thing in lasting if thing.stays[-1].leaves_s is None}
    hidden = {behind for before, behind in zip(_FRONT, _BACK, strict=True) if before in taken}
    return [(kind, place) for kind in sorted(CARRIERS) for place in _SEEN_M[kind][2] if place not in taken | hidden]


def random_scenario(
    seed: int,
    duration_s: float,
    *,
    changes: int = 4,
    return_share: float = 0.3,
    settle_s: float = 12.0,
) -> Scenario:
    """A scenario drawn from a seed, for benches: other places, kinds, sizes, passers-by and light each time.

    Args:
        seed: The same seed gives the same scenario.
        duration_s: Length of the clip.
        changes: How many arrivals and departures are tried; as many fit as `settle_s` allows.
        return_share: The chance that a change takes something away again: to a state that was seen before, unless
            something else arrived in between.
        settle_s: The least time that the yard rests between two changes.
    """
    rng = np.random.default_rng((seed, 0x5CE7E))
    longest = max(TRANSIT_S.values())
    spacing = max(settle_s + 2 * longest + _JITTER_S, duration_s / (changes + 0.5))
    times = [float(spacing * (i + 0.6) + rng.uniform(0, _JITTER_S)) for i in range(changes)]
    times = [t for t in times if t + settle_s <= duration_s]
    lasting: list[LastingObject] = []
    standing: list[int] = []
    for at in times:
        free = _free(lasting)
        if standing and (not free or rng.random() < return_share):
            last = standing.pop()
            arrived = lasting[last].stays[0].arrives_s
            lasting[last] = replace(lasting[last], stays=(Stay(arrives_s=arrived, leaves_s=at),))
            continue
        kind, (x, z) = free[int(rng.integers(len(free)))]
        standing.append(len(lasting))
        lasting.append(
            LastingObject(
                name=f"{kind} {len(lasting) + 1}",
                kind=kind,
                x_m=x,
                z_m=z,
                from_right=x > 0,
                scale=_scale(kind, z, frame_share=float(rng.uniform(0.02, 0.08))),
                colour=int(rng.integers(3)),
                stays=(Stay(arrives_s=at),),
            )
        )

    walkers: list[Walker] = []
    start = float(rng.uniform(0, 4))
    while start < duration_s:
        z = float(rng.choice([10.3, 16.4, 24.0]))
        walkers.append(
            Walker(
                starts_s=start,
                z_start_m=z + rng.uniform(-0.3, 0.3),
                z_end_m=z + rng.uniform(-0.3, 0.3),
                to_right=bool(rng.random() < 0.5),
                speed_mps=float(rng.uniform(1.2, 1.8)),
                outfit=int(rng.integers(5)),
            )
        )
        start += float(rng.uniform(5, 14))
    vehicles: list[VehiclePass] = []
    start = float(rng.uniform(2, 10))
    while start < duration_s:
        kind = str(rng.choice(sorted(VEHICLES)))
        vehicles.append(
            VehiclePass(
                starts_s=start,
                kind=kind,
                z_m=float(rng.uniform(21.5, 26.0)),
                to_right=bool(rng.random() < 0.5),
                speed_mps=float(VEHICLES[kind] / rng.uniform(1.1, 1.8)),
                colour=int(rng.integers(3)),
            )
        )
        start += float(rng.uniform(14, 32))
    light = Light(
        level=float(rng.uniform(0.62, 1.12)),
        drift=float(rng.uniform(0.03, 0.12)),
        tint=float(rng.uniform(0.0, 0.04)),
        cloud_shadow=float(rng.uniform(0.05, 0.3)),
        noise=float(rng.uniform(1.5, 5.0)),
        shake_px=float(rng.uniform(0.1, 0.5)),
    )
    return Scenario(
        duration_s=duration_s, lasting=tuple(lasting), walkers=tuple(walkers), vehicles=tuple(vehicles), light=light
    )
