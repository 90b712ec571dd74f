"""Real clips and weights that are not part of the project: tests that need them skip where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("STREAMWATCH_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared(name: str) -> Path:
    """The path of a shared test file, for example `data/clips/vtest.avi`; skips the test where it is absent."""
    path = _ROOT / name
    if not path.exists():
        if os.environ.get("CI") == "true" and _ROOT.exists():
            pytest.fail(f"{path} is missing although {_ROOT} exists")
        pytest.skip(f"{name} is not on this machine")
    return path
