"""One suite over every sink."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamwatch.events.sinks import Sink
from streamwatch.events.sinks.jsonl import JsonLinesSink, StandardOutputSink

Read = Callable[[], str]


@pytest.fixture(params=["file", "standard output"])
def sink_and_text(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[Sink, Read]:
    """A sink, and what it has written so far."""
    if request.param == "file":
        path = tmp_path / "new folder" / "events.jsonl"
        return JsonLinesSink(path), lambda: path.read_text("utf-8")
    printed: list[str] = []

    def read() -> str:
        printed.append(capsys.readouterr().out)
        return "".join(printed)

    return StandardOutputSink(), read


def documents(text: str) -> list[dict[str, Any]]:
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_sink_without_events_has_written_nothing(sink_and_text: tuple[Sink, Read]) -> None:
    _, text = sink_and_text
    assert text() == ""


def test_events_are_there_in_order_as_soon_as_write_returns(sink_and_text: tuple[Sink, Read]) -> None:
    # Given a sink
    sink, text = sink_and_text
    for number in range(20):
        # When an event is written
        sink.write({"id": f"s{number}", "data": {"number": number}})
        # Then it can be read, behind those before
        assert [document["id"] for document in documents(text())] == [f"s{n}" for n in range(number + 1)]


def test_any_sign_in_an_event_survives(sink_and_text: tuple[Sink, Read]) -> None:
    sink, text = sink_and_text
    document = {"id": "1", "data": {"after": 'Höfe/"場"\n\t\\ \u2028 \U0001f69a \udcff'}}
    sink.write(document)
    assert documents(text()) == [document]


def test_closing_twice_does_no_harm_and_loses_nothing(sink_and_text: tuple[Sink, Read]) -> None:
    sink, text = sink_and_text
    sink.write({"id": "1"})
    sink.close()
    sink.close()
    assert documents(text()) == [{"id": "1"}]
