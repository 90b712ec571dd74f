"""Every bench runs and says what it measured. Never how fast: that is the machine's."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHES = ("daemon_memory", "decision", "scan", "startup")


def run(bench: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / f"{bench}.py"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("bench", BENCHES)
def test_a_bench_says_what_it_measures(bench: str) -> None:
    # When
    done = run(bench, "--help")

    # Then
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
    assert "--json" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES)
def test_a_bench_in_its_quick_form_gives_figures_as_json(bench: str) -> None:
    # When
    done = run(bench, "--quick", "--json")

    # Then
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["bench"] == bench
    assert document["claim"]
    assert document["settings"]
    assert document["rows"]
    for check in document["checks"]:
        assert math.isfinite(check["value"])
        assert check["ok"] == (
            check["value"] <= check["target"] if check["at_most"] else check["value"] >= check["target"]
        )


@pytest.mark.slow
def test_the_bench_of_decisions_counts_every_method_on_the_same_new_states() -> None:
    # When
    done = run("decision", "--quick", "--json")

    # Then
    document: dict[str, Any] = json.loads(done.stdout)
    assert len(document["rows"]) >= 8
    assert document["rows"][0]["method"] == "ours, shipped threshold"
    assert {row["found"].split(" of ")[1] for row in document["rows"]} == {"1"}
    assert all(0 <= row["F1"] <= 1 and row["false"] >= 0 for row in document["rows"])


def test_the_list_of_benches_names_each_one() -> None:
    # Given
    text = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")

    # Then
    files = {path.name for path in (ROOT / "bench").glob("[a-z]*.py")}
    assert {name for name in files if f"| {name} |" in text} == files
