"""A construction yard made by code: a realistic fixed-camera clip with exact truth, for the demo, tests and benches.

    scene = YardScene(seed=3)                    # the demo's scenario, 1280×720, 10 fps, 120 s
    truth = write_clip("yard.mp4", scene)        # real H.264
    truth.expected_events()                      # when which new state begins

The scenario is data (`scenario`, `scenarios`), its truth follows from it (`truth`), where things are at a moment is
arithmetic (`motion`), and `scene` draws it: still layers (`backdrop`), sprites (`solids`, `models`, `people`), camera
(`camera`). `python -m streamwatch.simulation OUT.mp4` writes a clip.
"""

from __future__ import annotations

from streamwatch.simulation.clip import write_clip
from streamwatch.simulation.scenario import LastingObject, Light, Scenario, Stay, VehiclePass, Walker
from streamwatch.simulation.scenarios import default_scenario, random_scenario
from streamwatch.simulation.scene import YardScene
from streamwatch.simulation.truth import StateInterval, Truth

__all__ = [
    "LastingObject",
    "Light",
    "Scenario",
    "StateInterval",
    "Stay",
    "Truth",
    "VehiclePass",
    "Walker",
    "YardScene",
    "default_scenario",
    "random_scenario",
    "write_clip",
]
