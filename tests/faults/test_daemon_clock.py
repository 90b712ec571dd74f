"""The real daemon, while somebody sets the machine's clock: libfaketime steps the wall clock that it sees."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamwatch.simulation import LastingObject, Scenario, Stay, YardScene, write_clip
from tests.rtsp import rtsp_camera
from tests.running import watching

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture
def faketime() -> Path:
    """The library that stands before the C library's clocks."""
    for folder in Path("/usr/lib").glob("*/faketime"):
        if (folder / "libfaketimeMT.so.1").exists():
            return folder / "libfaketimeMT.so.1"
    if os.environ.get("CI") == "true":
        pytest.fail("libfaketime is missing: .ci/run installs it")
    pytest.skip("libfaketime is not on this machine (Debian: libfaketime)")


@pytest.fixture
def skip_comes(tmp_path: Path) -> Path:
    """A yard without a skip for 13 s, its delivery by crane, and 12 s with it."""
    skip = LastingObject(name="skip", kind="skip", x_m=-2.0, z_m=13.0, stays=(Stay(arrives_s=20.0),), scale=1.3)
    scenario = Scenario(duration_s=32.0, lasting=(skip,))
    path = tmp_path / "skip.mp4"
    write_clip(path, YardScene(seed=2, width=320, height=180, fps=5.0, scenario=scenario), gop_s=1.0)
    return path


def test_a_clock_that_is_set_by_an_hour_restarts_nothing_and_repeats_and_loses_no_event(
    tmp_path: Path, faketime: Path, skip_comes: Path
) -> None:
    # Given a daemon that announces each state, and a camera that shows a yard and then a skip in it, over and over
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    env = {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with rtsp_camera(skip_comes) as (address, _):
        camera = {"name": "gate", "url": f"rtsp://{address}", "every": "500ms", "offline_after": "8s"}
        settings = {"cameras": [camera], "change": {"announce_first": True}}
        with watching(tmp_path, settings, **env) as daemon:
            daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=1)
            # When the clock is set every few seconds, forward, back, and right again, while both states come twice
            for step in (0, 3600, -3600, 0, -3600, 3600, -3600, 3600, 0, -3600, 0):
                offset.write_text(f"{step:+d}\n")
                before = daemon.metric("streamwatch_embedded_total", "gate") or 0
                daemon.wait_for_metric("streamwatch_embedded_total", "gate", at_least=before + 12)
                # Then the daemon sees the other time
                told_s = daemon.metric("streamwatch_last_sample_timestamp_seconds", "gate") or 0
                assert abs(told_s - datetime.now(UTC).timestamp() - step) < 60
            # and has announced each state once
            assert [event["type"] for event in daemon.events()] == ["streamwatch.label_needed"] * 2
            # and the camera was never lost, nor thought to be
            assert daemon.metric("streamwatch_camera_losses_total", "gate") == 0
            assert "offline" not in daemon.log
            assert daemon.stop()[0] == 0
