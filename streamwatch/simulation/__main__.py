"""`python -m streamwatch.simulation OUT.mp4`: write a simulated clip and its truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streamwatch.errors import StreamwatchError
from streamwatch.simulation.clip import write_clip
from streamwatch.simulation.scenarios import default_scenario, random_scenario
from streamwatch.simulation.scene import YardScene

EXAMPLE = """example:
  python -m streamwatch.simulation yard.mp4 --seed 3 --seconds 120
  writes yard.mp4 and yard.truth.json, which says when each state of the yard begins and ends
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m streamwatch.simulation",
        description="Write a simulated clip of a construction yard, as a fixed camera would record it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT.mp4", help="the video to write; OUT.truth.json goes beside it")
    parser.add_argument("--seed", type=int, default=0, help="another ground, sky and noise for each number (default 0)")
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the clip (default 120)")
    parser.add_argument("--fps", type=float, default=10.0, help="frames a second (default 10)")
    parser.add_argument("--size", default="1280x720", metavar="WxH", help="pixels, even numbers (default 1280x720)")
    parser.add_argument("--gop", type=float, default=2.0, metavar="S", help="seconds between key frames (default 2)")
    parser.add_argument("--random", action="store_true", help="a random scenario of that seed instead of the demo's")
    parser.add_argument("--no-truth", action="store_true", help="write no OUT.truth.json")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        width, height = (int(part) for part in options.size.lower().split("x"))
        if options.random:
            scenario = random_scenario(options.seed, options.seconds)
        else:
            scenario = default_scenario(duration_s=options.seconds)
        scene = YardScene(seed=options.seed, width=width, height=height, fps=options.fps, scenario=scenario)
    except ValueError as error:
        parser.error(str(error))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task(f"writing {options.out.name}", total=scene.frame_count)
            truth = write_clip(
                options.out,
                scene,
                gop_s=options.gop,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
                truth_path=None if options.no_truth else options.out.with_suffix(".truth.json"),
            )
    except StreamwatchError as error:
        console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    for interval in truth.intervals:
        mark = "new" if interval.new else "known"
        print(
            f"{interval.start_s:7.1f} s – {interval.end_s:7.1f} s  {mark:5}  {', '.join(sorted(interval.state)) or '–'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
