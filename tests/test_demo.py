"""`streamwatch demo`, as `make demo` runs it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import streamwatch
from streamwatch.simulation import YardScene
from tests.running import Finished, complaint, run

CONFIGS = Path(streamwatch.__file__).parent.parent / "configs"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(CONFIGS, folder / "configs")
    # What an earlier demo may have left behind has no part in this one: it would keep it silent.
    memory = folder / "demo-out" / "data" / "memory" / "yard.npz"
    memory.parent.mkdir(parents=True)
    memory.write_bytes(b"from an earlier demo, killed half-way")
    (folder / "demo-out" / "data" / "events.jsonl").write_text('{"from": "an earlier demo"}\n')
    return folder, run("demo", cwd=folder, timeout_s=280)


def test_the_demo_finds_exactly_the_new_states_of_its_yard(demo: tuple[Path, Finished]) -> None:
    folder, finished = demo
    assert finished.code == 0, finished.err
    # Given the yard's own truth
    expected = YardScene(seed=0).truth.expected_events()
    # Then there is one event in each new state, on disk and as a printed line
    lines = (folder / "demo-out" / "data" / "events.jsonl").read_text().splitlines()
    times_s = [json.loads(line)["data"]["time_s"] for line in lines]
    assert len(times_s) == len(expected), times_s
    for time_s, state in zip(times_s, expected, strict=True):
        assert state.start_s <= time_s <= state.end_s
    assert len(re.findall(r"^  \d:\d\d:\d\d\.\d  new label needed: ", finished.out, re.MULTILINE)) == len(expected)


def test_the_demo_ends_by_naming_its_report(demo: tuple[Path, Finished]) -> None:
    folder, finished = demo
    assert finished.out.splitlines()[-1] == "report: demo-out/report.html"
    assert finished.err == ""
    report = (folder / "demo-out" / "report.html").read_text()
    # Then the report stands alone: pictures are in it, and nothing is loaded from elsewhere
    assert report.count("data:image/jpeg;base64,") >= 6
    assert not re.search(r"""(src|href)=["']?(https?:|//|\.\.?/|/)""", report)
    assert "<script src" not in report


def test_every_event_names_pictures_that_exist(demo: tuple[Path, Finished]) -> None:
    folder, _ = demo
    for line in (folder / "demo-out" / "data" / "events.jsonl").read_text().splitlines():
        data = json.loads(line)["data"]
        assert (folder / data["before"]).is_file()
        assert (folder / data["after"]).is_file()


def test_a_configuration_that_is_no_demo_is_refused_before_it_overwrites_a_file(tmp_path: Path) -> None:
    # Given a site's configuration with a camera
    site = {"data_dir": "data", "cameras": [{"name": "gate", "url": "rtsp://192.0.2.1/gate"}]}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    said = complaint(run("demo", "--config", "site.yaml", cwd=tmp_path), code=2)
    assert "is no demo" in said
    assert not (tmp_path / "data").exists()
