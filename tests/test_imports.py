"""What is loaded when, and which way imports point."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import streamwatch
from tests.running import environment

ROOT = Path(streamwatch.__file__).parent
HEAVY = ("torch", "av", "cv2", "timm", "scipy")

LEVELS = (
    ("__main__",),
    ("cli",),
    ("doctor",),
    ("daemon",),
    ("offline",),
    ("assembly", "checks"),
    ("pipeline", "prefetch"),
    ("metrics", "events"),
    ("sampling", "change", "embedding", "sources", "simulation"),
    ("imaging",),
    ("config",),
    ("durations", "records", "clock", "urls", "special_files"),
    ("errors",),
    ("__init__",),
)
"""From top to bottom: a module imports only from levels below its own, or from its own package."""

UPWARD: set[tuple[str, str]] = set()
"""The exceptions, each with its reason."""

ALLOWED_BESIDE: set[tuple[str, str]] = set()
"""Pairs of one level in which the first may import the second. A stage never imports its neighbour."""


def level_of(part: str) -> int:
    for level, parts in enumerate(LEVELS):
        if part in parts:
            return level
    pytest.fail(f"streamwatch.{part} has no place in the tree: give it one in LEVELS")


def imports() -> list[tuple[str, str]]:
    """(module, module) pairs within the package, without its name; also imports inside functions and for types."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} has a relative import"
                if node.module == "streamwatch":
                    found += [(module, name.name) for name in node.names if name.name != "__version__"]
                elif node.module and node.module.startswith("streamwatch."):
                    found.append((module, node.module.removeprefix("streamwatch.")))
            elif isinstance(node, ast.Import):
                found += [
                    (module, name.name.removeprefix("streamwatch."))
                    for name in node.names
                    if name.name.startswith("streamwatch.")
                ]
    return found


def test_imports_point_down_the_tree_and_no_stage_imports_its_neighbour() -> None:
    wrong = []
    for module, imported in imports():
        part, other = module.split(".")[0], imported.split(".")[0]
        if part == other or (module, other) in UPWARD or (part, other) in ALLOWED_BESIDE:
            continue
        if level_of(other) <= level_of(part):
            wrong.append(f"{module} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_every_exception_to_the_rule_is_still_needed() -> None:
    used = {(module, imported.split(".")[0]) for module, imported in imports()}
    assert used >= UPWARD
    assert {(module.split(".")[0], other) for module, other in used} >= ALLOWED_BESIDE


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("torch", ("embedding", "offline", "doctor")),
        ("av", ("sources", "simulation", "doctor")),
        ("cv2", ("imaging", "doctor")),
        ("prometheus_client", ("metrics",)),
        ("pydantic", ("config",)),
        ("yaml", ("config",)),
    ],
)
def test_a_library_is_used_by_its_owners_only(library: str, owners: tuple[str, ...]) -> None:
    users = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == library for name in names):
                users.add(path.relative_to(ROOT).with_suffix("").parts[0])
    assert users <= set(owners)


def loaded_by(code: str, *arguments: str, cwd: Path, exit_code: int = 0) -> tuple[set[str], float]:
    """(names of all modules that a program has loaded at its end, its CPU seconds)."""
    report = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}", *arguments],
        cwd=cwd,
        env=environment(cwd),
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == exit_code, done.stderr
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return set(json.loads(done.stderr.splitlines()[-1])), cpu_s


CLI = "from streamwatch.cli import main; sys.exit(main(sys.argv[1:]))"


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    modules, _ = loaded_by("import streamwatch", cwd=tmp_path)
    assert not modules & {*HEAVY, "numpy", "pydantic"}


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    modules, cpu_s = loaded_by(CLI, "--help", cwd=tmp_path)
    print(f"--help: {cpu_s:.2f} s of CPU")
    assert not modules & {*HEAVY, "numpy", "pydantic"}
    # A gross guard; bench/startup.py measures.
    assert cpu_s < 0.9


def test_check_config_loads_neither_torch_nor_a_video_library(tmp_path: Path) -> None:
    demo = ROOT.parent / "configs" / "demo.yaml"
    modules, cpu_s = loaded_by(CLI, "check-config", os.fspath(demo), cwd=tmp_path)
    print(f"check-config: {cpu_s:.2f} s of CPU")
    assert not modules & set(HEAVY)
    # A gross guard, as other programs may run beside it; bench/startup.py measures.
    assert cpu_s < 2.1


def test_a_scan_of_what_is_not_there_loads_neither_torch_nor_a_video_library(tmp_path: Path) -> None:
    modules, _ = loaded_by(CLI, "scan", "missing.mp4", cwd=tmp_path, exit_code=3)
    assert not modules & {"torch", "av", "timm"}
