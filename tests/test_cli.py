"""The command line itself: help, versions, exit codes that the documentation names, and the small commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import streamwatch
from streamwatch import errors
from tests.running import run
from tests.videos import write_video

COMMANDS = ("watch", "scan", "check-config", "doctor", "demo")
CONFIGS = Path(streamwatch.__file__).parent.parent / "configs"


def test_help_names_every_command_and_exit_code(tmp_path: Path) -> None:
    finished = run("--help", cwd=tmp_path)
    assert finished.code == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command}\b", finished.out, re.MULTILINE)
    # Then the codes of all errors that streamwatch raises are among those that it explains
    explained = {int(code) for code in re.findall(r"^  (\d+)  ", finished.out, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {kind.exit_code for kind in kinds if issubclass(kind, errors.StreamwatchError)} <= explained
    assert {0, 130} <= explained


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_shows_an_example_that_parses(tmp_path: Path, command: str) -> None:
    from streamwatch.cli import _parser

    finished = run(command, "--help", cwd=tmp_path)
    assert finished.code == 0
    example = finished.out.split("example:\n")[1].splitlines()[0].split()
    assert example[:2] == ["streamwatch", command]
    assert callable(_parser().parse_args(example[1:]).run)


def test_version_is_the_packages(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).out == f"streamwatch {streamwatch.__version__}\n"


def test_check_config_names_the_cameras(tmp_path: Path) -> None:
    finished = run("check-config", CONFIGS / "demo.yaml", cwd=tmp_path)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out == f"{CONFIGS / 'demo.yaml'}: fine; 1 camera: yard\n"
    finished = run("check-config", CONFIGS / "demo.yaml", "--json", cwd=tmp_path)
    assert finished.documents == [{"file": str(CONFIGS / "demo.yaml"), "ok": True, "cameras": ["yard"]}]


def test_doctor_says_what_would_not_work_and_its_exit_code_does_too(tmp_path: Path) -> None:
    # Given one camera that answers and one whose file is missing
    good = {"name": "good", "url": str(write_video(tmp_path / "good.mp4", frames=10))}
    missing = {"name": "missing", "url": str(tmp_path / "missing.mp4")}
    file = tmp_path / "site.yaml"
    common = {"data_dir": "data", "network": "lite0", "metrics": {"listen": None}}
    file.write_text(json.dumps({**common, "cameras": [good]}))
    # When only the good one is configured
    finished = run("doctor", "--config", file, cwd=tmp_path)
    # Then all is well
    assert finished.code == 0, finished.out
    assert "good" in finished.out
    # When both are
    file.write_text(json.dumps({**common, "cameras": [good, missing]}))
    finished = run("doctor", "--config", file, "--json", cwd=tmp_path)
    # Then the missing one is named, and the exit code tells scripts
    assert finished.code == 1, finished.out
    assert "Traceback" not in finished.err
    assert "missing.mp4: no such file" in json.dumps(json.loads(finished.out))
