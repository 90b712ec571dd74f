"""`streamwatch demo`, as `make demo` runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import streamwatch
from streamwatch.config import load_config
from streamwatch.daemon.demo import PACKAGED
from streamwatch.daemon.made_files import MARKER
from streamwatch.events.store import FolderStore
from streamwatch.simulation import YardScene
from tests.running import Finished, complaint, run

CONFIGS = Path(streamwatch.__file__).parent.parent / "configs"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    folder = tmp_path_factory.mktemp("demo")
    # Given what an earlier demo noted as its own
    (folder / "demo-out").mkdir()
    (folder / "demo-out" / MARKER).write_text(json.dumps(["yard.mp4", "report.html", "data"]))
    # What an earlier demo may have left behind has no part in this one: it would keep it silent.
    memory = folder / "demo-out" / "data" / "memory" / "yard.npz"
    memory.parent.mkdir(parents=True)
    memory.write_bytes(b"from an earlier demo, killed half-way")
    (folder / "demo-out" / "data" / "events.jsonl").write_text('{"from": "an earlier demo"}\n')
    return folder, run("demo", cwd=folder, timeout_s=280)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_demo_ends_by_naming_its_report(demo: tuple[Path, Finished]) -> None:
    folder, finished = demo
    assert finished.out.splitlines()[-1] == "report: demo-out/report.html"
    assert finished.err == ""
    report = (folder / "demo-out" / "report.html").read_text()
    # Then the report stands alone: pictures are in it, and nothing is loaded from elsewhere
    assert report.count("data:image/jpeg;base64,") >= 6
    assert not re.search(r"""(src|href)=["']?(https?:|//|\.\.?/|/)""", report)
    assert "<script src" not in report


@pytest.mark.slow
def test_every_event_names_pictures_that_exist(demo: tuple[Path, Finished]) -> None:
    folder, _ = demo
    for line in (folder / "demo-out" / "data" / "events.jsonl").read_text().splitlines():
        data = json.loads(line)["data"]
        assert (folder / data["before"]).is_file()
        assert (folder / data["after"]).is_file()


@pytest.mark.slow
def test_the_next_demo_may_replace_what_this_one_made(demo: tuple[Path, Finished]) -> None:
    folder, _ = demo
    assert {"yard.mp4", "report.html", "data"} <= set(json.loads((folder / "demo-out" / MARKER).read_text()))


def test_the_packaged_configuration_is_the_checkouts_from_the_current_folder(tmp_path: Path) -> None:
    # Given the packaged copy, read in the folder above configs/
    root = CONFIGS.parent.resolve()
    packaged = load_config(PACKAGED, environ={}, folder=root).model_dump()
    shipped = load_config(CONFIGS / "demo.yaml", environ={}).model_dump()
    # Then they differ in nothing but the way to the same paths
    for each in (packaged, shipped):
        each["data_dir"] = each["data_dir"].resolve()
        each["cameras"][0]["url"] = Path(each["cameras"][0]["url"]).resolve()
    assert packaged == shipped
    assert packaged["data_dir"] == root / "demo-out" / "data"


@pytest.mark.parametrize("url", ["rtsp://192.0.2.1/gate", "http://192.0.2.1/gate.mp4", "file:///srv/gate.mp4", "a.avi"])
def test_a_configuration_that_is_no_demo_is_refused_before_it_overwrites_a_file(tmp_path: Path, url: str) -> None:
    # Given a site's configuration with a camera
    site = {"data_dir": "data", "cameras": [{"name": "gate", "url": url}]}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    said = complaint(run("demo", "--config", "site.yaml", cwd=tmp_path), code=2)
    assert "is no demo" in said
    assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]


@pytest.mark.parametrize("kept", ["monday.mp4", "report.html", "data/memory/gate.npz", "events.jsonl"])
def test_what_no_demo_made_is_neither_overwritten_nor_deleted(tmp_path: Path, kept: str) -> None:
    # Given a configuration of one file to watch, and something that is there of what a demo writes
    site = {
        "data_dir": "data",
        "events": {"jsonl": "../events.jsonl"},
        "cameras": [{"name": "gate", "url": "monday.mp4"}],
    }
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    precious = tmp_path / kept
    precious.parent.mkdir(parents=True, exist_ok=True)
    precious.write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))
    # When
    said = complaint(run("demo", "--config", "site.yaml", cwd=tmp_path), code=2)
    # Then the message names it, and all is as it was
    assert f"{kept.split('/')[0]} is there already and was not made by the demo" in said
    assert precious.read_bytes() == b"precious"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_recording_put_in_the_place_of_the_demos_clip_by_a_link_is_kept(tmp_path: Path) -> None:
    # Given a folder in which a demo was, and a link where its clip was
    recording = tmp_path / "monday.mp4"
    recording.write_bytes(b"precious")
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / MARKER).write_text(json.dumps(["yard.mp4", "report.html", "data"]))
    (tmp_path / "demo-out" / "yard.mp4").symlink_to(recording)
    said = complaint(run("demo", cwd=tmp_path), code=2)
    assert "demo-out/yard.mp4 is there already" in said
    assert recording.read_bytes() == b"precious"


def test_a_demo_beside_one_that_runs_changes_nothing(tmp_path: Path) -> None:
    # Given the files of a demo, whose data folder another process holds
    out = tmp_path / "demo-out"
    out.mkdir()
    (out / MARKER).write_text(json.dumps(["yard.mp4", "report.html", "data"]))
    (out / "yard.mp4").write_bytes(b"being watched")
    store = FolderStore(out / "data")
    (out / "data" / "events.jsonl").write_text("being written")
    with store.lock():
        said = complaint(run("demo", cwd=tmp_path), code=5)
    # Then neither clip nor events are touched
    assert "in use by another streamwatch" in said
    assert (out / "yard.mp4").read_bytes() == b"being watched"
    assert (out / "data" / "events.jsonl").read_text() == "being written"
