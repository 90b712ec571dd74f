"""The systemd unit as systemd itself judges it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from streamwatch.errors import ConfigError, MissingLibrary

UNIT = Path(__file__).resolve().parents[1] / "systemd/streamwatch.service"
MAX_EXPOSURE = 1.5


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy whose program exists on this machine; everything else is as shipped."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is missing; .ci/run installs Debian's systemd")
        pytest.skip("systemd-analyze is not on this machine")
    copy = tmp_path / UNIT.name
    text, replaced = re.subn(
        r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text(encoding="utf-8")
    )
    assert replaced == 1
    copy.write_text(text, encoding="utf-8")
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_has_nothing_to_say_against_the_unit(installed: Path) -> None:
    # When systemd verifies it
    verdict = analyze("verify", installed)
    # Then it exits 0 and is silent: unknown keys and bad values are only ever printed
    assert (verdict.returncode, verdict.stderr) == (0, "")


def test_the_check_would_find_a_misspelt_key(installed: Path) -> None:
    installed.write_text(installed.read_text(encoding="utf-8").replace("ProtectSystem=", "ProtectSystemm="))
    assert "ProtectSystemm" in analyze("verify", installed).stderr


def test_the_exposure_stays_low(installed: Path) -> None:
    verdict = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:.0f}", "--no-pager", installed)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_the_unit_fits_the_daemon() -> None:
    # Given the settings as written
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith(("#", "["))]
    # Then readiness, watchdog and restarts are what the daemon speaks
    for setting in (
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=30",
        "TimeoutStopSec=10",
        "Restart=on-failure",
        f"RestartPreventExitStatus={ConfigError.exit_code} {MissingLibrary.exit_code}",
        "RestartSec=5",
        "StartLimitIntervalSec=10min",
        "StartLimitBurst=20",
        "ExecStart=/opt/streamwatch/venv/bin/streamwatch watch --config /etc/streamwatch/site.yaml",
    ):
        assert setting in settings
    # And nothing is there that was seen to break torch or the start
    assert not [line for line in settings if line.startswith(("MemoryDenyWriteExecute", "ProcSubset"))]
    assert "SupplementaryGroups=render" not in settings


def test_a_daemon_that_fails_at_each_start_is_given_up() -> None:
    # Given a start every RestartSec at best
    lines = dict(
        line.split("=", 1) for line in UNIT.read_text(encoding="utf-8").splitlines() if re.match(r"\w+=", line)
    )
    assert lines["StartLimitIntervalSec"] == "10min"
    # Then the burst is used up within the interval, though a start takes seconds
    assert int(lines["StartLimitBurst"]) * (int(lines["RestartSec"]) + 20) < 600


def test_the_unit_and_the_documentation_install_the_same_way() -> None:
    documented = (UNIT.parents[1] / "docs/deploy.md").read_text(encoding="utf-8")
    for text in (documented, UNIT.read_text(encoding="utf-8")):
        assert "/opt/streamwatch/venv/bin/pip install ." in text
        assert "pip install streamwatch" not in text
