"""Metrics: every camera's series is there from the start, and Prometheus can read them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import streamwatch
from streamwatch.metrics import Metrics


def series(metrics: Metrics) -> dict[tuple[str, str | None], float]:
    """Values by name and camera."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(each.name, each.labels.get("camera")): each.value for family in families for each in family.samples}


def test_a_camera_that_never_answered_is_seen_to_be_down_and_its_counters_to_be_zero() -> None:
    # Given a camera that was only added
    metrics = Metrics()
    metrics.add_camera("yard")
    # When Prometheus scrapes
    values = series(metrics)
    # Then alerts and rates have something to start from
    for name in (
        "streamwatch_camera_up",
        "streamwatch_camera_offline",
        "streamwatch_frames_total",
        "streamwatch_samples_total",
        "streamwatch_embedded_total",
        "streamwatch_dropped_total",
        "streamwatch_events_total",
        "streamwatch_event_failures_total",
        "streamwatch_camera_losses_total",
        "streamwatch_remembered_states",
    ):
        assert values[name, "yard"] == 0
    # And no novelty or time is claimed that nobody measured
    assert ("streamwatch_novelty", "yard") not in values
    assert ("streamwatch_last_sample_timestamp_seconds", "yard") not in values


def test_two_daemons_in_one_process_do_not_share_numbers() -> None:
    first, second = Metrics(), Metrics()
    first.frames.labels("yard").inc(3)
    second.add_camera("yard")
    assert series(first)["streamwatch_frames_total", "yard"] == 3
    assert series(second)["streamwatch_frames_total", "yard"] == 0


def test_every_metric_has_a_help_text_and_a_name_of_ours() -> None:
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("streamwatch_")
        assert family.documentation


def test_the_table_of_metrics_in_the_documentation_names_each_of_them_and_no_other() -> None:
    # Given the metrics as Prometheus names them
    families = text_string_to_metric_families(Metrics().exposition().decode())
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    # Then the table has them all
    text = (Path(__file__).parents[1] / "docs/deploy.md").read_text("utf-8")
    rows = "".join(line for line in text.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(streamwatch_\w+)", rows)) == names


def test_nobody_else_imports_prometheus_client() -> None:
    importers = set()
    for path in Path(streamwatch.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "prometheus_client" for name in names):
                importers.add(path.name)
    assert importers == {"metrics.py"}
