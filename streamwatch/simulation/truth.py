"""When which state of the yard begins and ends: the ground truth, worked out from the scenario alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

from streamwatch.records import Box
from streamwatch.simulation.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class StateInterval:
    """A time in which every lasting object is either at rest or out of the view."""

    start_s: float
    """From here on the state is complete and at rest."""

    end_s: float
    """Here something starts to arrive or leave, or the clip ends."""

    state: frozenset[str]
    """Names of the objects at rest."""

    new: bool
    """Whether a label is needed: False for the first state and for any combination that was there before."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a detector should find in a clip."""

    intervals: tuple[StateInterval, ...]
    """In order, with gaps where things are on their way."""

    boxes: Mapping[str, Box]
    """Where each lasting object shows while it rests, its shadow not counted."""

    def expected_events(self) -> tuple[StateInterval, ...]:
        """The intervals that deserve an event each."""
        return tuple(interval for interval in self.intervals if interval.new)

    def changed_boxes(self, interval: StateInterval) -> tuple[Box, ...]:
        """Where an interval differs from the interval before it; empty for the first."""
        at = self.intervals.index(interval)
        before = self.intervals[at - 1].state if at else interval.state
        return tuple(self.boxes[name] for name in sorted(before ^ interval.state))

    def to_json(self) -> str:
        """The truth as a JSON document, times in seconds of the clip, boxes as fractions of the picture."""
        document = {
            "intervals": [
                {"start_s": i.start_s, "end_s": i.end_s, "state": sorted(i.state), "new": i.new} for i in self.intervals
            ],
            "boxes": {name: asdict(box) for name, box in self.boxes.items()},
        }
        return json.dumps(document, indent=2) + "\n"


def intervals_of(scenario: Scenario) -> tuple[StateInterval, ...]:
    """The states of a scenario in order, those of no length left out."""
    moving: list[tuple[float, float]] = []
    for thing in scenario.lasting:
        for stay in thing.stays:
            moving.append((stay.arrives_s - thing.transit_s, stay.arrives_s))
            if stay.leaves_s is not None:
                moving.append((stay.leaves_s, stay.leaves_s + thing.transit_s))
    edges = {0.0, scenario.duration_s}
    edges.update(edge for span in moving for edge in span if 0 < edge < scenario.duration_s)
    times = sorted(edges)
    found: list[StateInterval] = []
    seen: set[frozenset[str]] = set()
    for start, end in pairwise(times):
        middle = (start + end) / 2
        if any(begin < middle < finish for begin, finish in moving if math.isfinite(begin)):
            continue
        state = frozenset(thing.name for thing in scenario.lasting if thing.resting(middle))
        if found and found[-1].state == state and found[-1].end_s == start:
            found[-1] = StateInterval(start_s=found[-1].start_s, end_s=end, state=state, new=found[-1].new)
            continue
        found.append(StateInterval(start_s=start, end_s=end, state=state, new=bool(seen) and state not in seen))
        seen.add(state)
    return tuple(found)
