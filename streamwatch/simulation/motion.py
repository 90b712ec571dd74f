"""Where everything that moves is at a moment: passers-by, carriers and what they carry. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from streamwatch.simulation.geometry import Projection
from streamwatch.simulation.scenario import (
    CARRIERS,
    VEHICLES,
    LastingObject,
    Scenario,
    VehiclePass,
    Walker,
)

FORK_REACH_M = 1.75
"""From the middle of the forklift to the middle of what lies on its forks."""

_LOWERING_S = 1.1
_HOOK_LEAVES_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One thing at one moment."""

    kind: str
    """A model's kind, or `person`, or `hook`."""

    x_m: float
    z_m: float
    yaw: float = 0.0
    lift_m: float = 0.0
    scale: float = 1.0
    colour: int = 0
    walked_m: float = 0.0
    to_right: bool = True


def resting_place(thing: LastingObject) -> Placed:
    """A lasting object at its place."""
    return Placed(
        kind=thing.kind, x_m=thing.x_m, z_m=thing.z_m, yaw=_yaw(thing), scale=thing.scale, colour=thing.colour
    )


def _yaw(thing: LastingObject) -> float:
    if CARRIERS[thing.kind] == "crane":
        return 0.10
    return math.pi if thing.from_right else 0.0


def passers(scenario: Scenario, projection: Projection, t_s: float) -> Iterator[Placed]:
    """Everybody and everything that only crosses the view."""
    for walker in scenario.walkers:
        if (person := walker_at(walker, projection, t_s)) is not None:
            yield person
    for vehicle in scenario.vehicles:
        if (driven := vehicle_at(vehicle, projection, t_s)) is not None:
            yield driven


def walker_at(walker: Walker, projection: Projection, t_s: float) -> Placed | None:
    """A walker at a moment; None before and after the crossing."""
    reach = projection.half_width_m(max(walker.z_start_m, walker.z_end_m)) + 1.2
    elapsed = t_s - walker.starts_s
    length = math.hypot(2 * reach, walker.z_end_m - walker.z_start_m)
    walked = elapsed * walker.speed_mps
    if not 0 <= walked <= length:
        return None
    share = walked / length
    x = (-reach + 2 * reach * share) * (1 if walker.to_right else -1)
    z = walker.z_start_m + (walker.z_end_m - walker.z_start_m) * share
    return Placed(kind="person", x_m=x, z_m=z, colour=walker.outfit, walked_m=walked, to_right=walker.to_right)


def vehicle_at(vehicle: VehiclePass, projection: Projection, t_s: float) -> Placed | None:
    """A passing vehicle at a moment; None before and after the crossing."""
    reach = projection.half_width_m(vehicle.z_m) + VEHICLES[vehicle.kind]
    driven = (t_s - vehicle.starts_s) * vehicle.speed_mps
    if not 0 <= driven <= 2 * reach:
        return None
    x = (driven - reach) * (1 if vehicle.to_right else -1)
    yaw = 0.0 if vehicle.to_right else math.pi
    return Placed(kind=vehicle.kind, x_m=x, z_m=vehicle.z_m, yaw=yaw, colour=vehicle.colour)


def deliveries(thing: LastingObject, projection: Projection, t_s: float) -> Iterator[Placed]:
    """The object on its way and its carrier; nothing while it rests unattended or is away.

    Taking something away is its delivery run backwards.
    """
    for stay in thing.stays:
        yield from _delivery(thing, projection, t_s - stay.arrives_s)
        if stay.leaves_s is not None:
            yield from _delivery(thing, projection, stay.leaves_s - t_s)


def _delivery(thing: LastingObject, projection: Projection, since_rest_s: float) -> Iterator[Placed]:
    carrier = CARRIERS[thing.kind]
    travel = thing.transit_s
    if not -travel <= since_rest_s <= travel:
        return
    rest = resting_place(thing)
    side = 1.0 if thing.from_right else -1.0
    # Far enough that the whole thing and its carrier start out of the view.
    edge = projection.half_width_m(thing.z_m) + 5.5 - side * thing.x_m
    moving = since_rest_s < 0
    if carrier == "itself":
        if moving:
            away = edge * (-since_rest_s / travel) ** 1.6
            yield _moved(rest, x=rest.x_m + side * away)
    elif carrier == "crane":
        if moving:
            share = -since_rest_s / travel
            lift = _out_of_sight_m(thing, projection) * share**1.25
            sway = 0.12 * share * math.sin(2.2 * since_rest_s)
            yield _moved(rest, x=rest.x_m + sway, lift=lift)
            yield Placed(kind="hook", x_m=rest.x_m + sway, z_m=rest.z_m, lift_m=lift, scale=thing.scale)
        elif since_rest_s < _HOOK_LEAVES_S:
            lift = _out_of_sight_m(thing, projection) * (since_rest_s / _HOOK_LEAVES_S) ** 1.3
            yield Placed(kind="hook", x_m=rest.x_m, z_m=rest.z_m, lift_m=lift, scale=thing.scale)
    else:
        driving = travel - _LOWERING_S
        if moving:
            left = max(0.0, -since_rest_s - _LOWERING_S) / driving
            away = edge * left**1.4
            lift = 0.32 * min(1.0, -since_rest_s / _LOWERING_S)
            yield _moved(rest, x=rest.x_m + side * away, lift=lift)
        else:
            away = edge * (max(0.0, since_rest_s - 0.2) / (travel - 0.2)) ** 1.3
        # Wide loads lie across the forks: the truck stands further off.
        reach = FORK_REACH_M + (thing.scale - 1) * 0.6 + (0.95 if thing.kind == "pipes" else 0.0)
        yield Placed(kind="forklift", x_m=rest.x_m + side * (away + reach), z_m=rest.z_m, yaw=rest.yaw)


def _out_of_sight_m(thing: LastingObject, projection: Projection) -> float:
    return projection.height_m + projection.horizon_px / projection.px_per_m(thing.z_m + 1.5) + 1.0


def _moved(rest: Placed, *, x: float, lift: float = 0.0) -> Placed:
    return Placed(kind=rest.kind, x_m=x, z_m=rest.z_m, yaw=rest.yaw, lift_m=lift, scale=rest.scale, colour=rest.colour)
