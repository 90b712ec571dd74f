"""What the benches share: rounds in turn, CPU seconds of a child, cached inputs, and how figures are shown."""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"
"""Clips, weights and vectors that are made once."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure that the project promises, and whether this run kept it."""

    name: str
    value: float
    target: float
    at_most: bool = True
    """False where the target is a least value."""

    @property
    def ok(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(kw_only=True)
class Outcome:
    """All that a bench found."""

    bench: str
    claim: str
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    """For --json only."""


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every bench has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny form: shows that it works, its figures tell nothing"
    )
    return parser


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print the figures as a table, or as one JSON object."""
    if as_json:
        document = {
            "bench": outcome.bench,
            "claim": outcome.claim,
            "settings": outcome.settings,
            "rows": outcome.rows,
            "checks": [
                {"name": c.name, "value": c.value, "target": c.target, "at_most": c.at_most, "ok": c.ok}
                for c in outcome.checks
            ],
            "notes": outcome.notes,
            **outcome.details,
        }
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title=outcome.claim, title_justify="left", title_style="bold")
    columns = list(dict.fromkeys(key for row in outcome.rows for key in row))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in outcome.rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(table)
    for check in outcome.checks:
        sign = "≤" if check.at_most else "≥"
        verdict = "[green]kept[/]" if check.ok else "[red]missed[/]"
        console.print(f"{check.name}: {_cell(check.value)}, target {sign} {check.target:g}: {verdict}", highlight=False)
    console.print(
        "settings: " + ", ".join(f"{key} {value}" for key, value in outcome.settings.items()), highlight=False
    )
    for note in outcome.notes:
        console.print(note, markup=False, highlight=False)


def say(text: str) -> None:
    """Tell how far a bench is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def rounds_in_turn(work: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each piece of work in each round: first round of all, then second round of all, …

    A machine that slows down for a while then slows all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            gc.collect()
            started_s = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started_s)
    return taken


def child_cpu_s(command: Sequence[str]) -> float:
    """CPU seconds, user and system, of a command and its children; its output is thrown away.

    Raises:
        RuntimeError: It failed.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it once more
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime


def middle(values: Sequence[float], *, digits: int = 3) -> float:
    """The median, rounded for people."""
    return round(median(values), digits)


def code_key(*folders: str, extra: object = ()) -> str:
    """A short hash of source folders and settings: what was cached from other code or settings is not used."""
    digest = hashlib.sha256(repr(extra).encode())
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def yard_still_clip(*, duration_s: float, fps: int = 25, gop: int = 50, size: tuple[int, int] = (1920, 1080)) -> Path:
    """An H.264 file of the simulated yard at rest: texture, noise, nothing that moves; 4 Mbit/s in 1080p. Made once."""
    import av
    import numpy as np

    from streamwatch.simulation import Scenario, YardScene

    width, height = size
    path = BUILD / f"still-{width}x{height}-{fps}fps-gop{gop}-{duration_s:g}s.mp4"
    if path.exists():
        return path
    BUILD.mkdir(parents=True, exist_ok=True)
    say(f"making {path.name}")
    scene = YardScene(seed=1, width=width, height=height, fps=fps, scenario=Scenario(duration_s=1.0))
    still = scene.render_clean(0.0).astype(np.int16)
    rng = np.random.default_rng(1)
    noisy = [
        np.clip(still + rng.normal(0, 3.0, still.shape).astype(np.int16), 0, 255).astype(np.uint8) for _ in range(12)
    ]
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = round(
            4e6 * width * height / (1920 * 1080)
        )  # a camera's, which noise takes up where nothing moves
        stream.options = {"preset": "veryfast", "bf": "0", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
        pictures = [av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p") for pixels in noisy]
        for number in range(round(duration_s * fps)):
            # In an order of no short period, so that the encoder cannot copy an older frame of the same noise.
            picture = pictures[(number * 5 + number // 12) % len(pictures)]
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    partial.replace(path)
    return path


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
