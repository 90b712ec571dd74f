"""Lines of JSON in a file that others rotate, on disks that are full, after crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamwatch.errors import OutputError
from streamwatch.events.sinks.jsonl import JsonLinesSink


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_a_new_sink_keeps_the_lines_of_the_last_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    JsonLinesSink(path).write({"id": "1"})
    JsonLinesSink(path).write({"id": "2"})
    assert ids(path) == ["1", "2"]


def test_a_line_that_a_crash_cut_off_spoils_only_itself(tmp_path: Path) -> None:
    # Given a file whose last line was cut off
    path = tmp_path / "events.jsonl"
    path.write_text('{"id":"1"}\n{"id":"2","da')
    # When events follow
    sink = JsonLinesSink(path)
    sink.write({"id": "3"})
    sink.write({"id": "4"})
    # Then they stand in lines of their own
    assert path.read_text().splitlines() == ['{"id":"1"}', '{"id":"2","da', '{"id":"3"}', '{"id":"4"}']


def test_a_file_that_is_rotated_away_while_events_come_is_made_anew_and_no_event_is_lost(tmp_path: Path) -> None:
    # Given a sink that writes as fast as it can
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink(path)
    count = 300

    def write() -> None:
        for number in range(count):
            sink.write({"id": str(number)})

    writer = threading.Thread(target=write)
    writer.start()
    # When the file is renamed again and again
    rotated = 0
    while writer.is_alive():
        if path.exists():
            path.rename(tmp_path / f"rotated{rotated}")
            rotated += 1
    writer.join()
    # Then all files together hold each event once
    assert rotated > 1
    everything = [id for file in tmp_path.iterdir() for id in ids(file)]
    assert sorted(everything, key=int) == [str(number) for number in range(count)]


def test_a_file_that_cannot_be_opened_is_refused_when_the_sink_is_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*: Is a directory; choose another file with events\.jsonl"):
        JsonLinesSink(tmp_path)


def test_a_folder_that_vanishes_makes_an_output_error_and_the_next_event_is_written_once_it_is_back(
    tmp_path: Path,
) -> None:
    # Given a sink whose folder is moved away
    path = tmp_path / "logs" / "events.jsonl"
    sink = JsonLinesSink(path)
    path.parent.rename(tmp_path / "moved")
    # When an event comes, then it is refused
    with pytest.raises(OutputError, match=r"cannot write .*events\.jsonl"):
        sink.write({"id": "1"})
    # And once the folder is back, the next one is written
    path.parent.mkdir()
    sink.write({"id": "2"})
    assert ids(path) == ["2"]


def test_a_full_disk_makes_an_output_error(tmp_path: Path) -> None:
    # Given a file on a disk without room
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    sink = JsonLinesSink(path)
    # When an event comes, then the error names the file and the reason
    with pytest.raises(OutputError, match=r"cannot append to .*events\.jsonl: No space left on device"):
        sink.write({"id": "1"})


PRINT_TWO = """
import sys
from streamwatch.errors import OutputError
from streamwatch.events.sinks.jsonl import StandardOutputSink
sink = StandardOutputSink()
for number in "12":
    try:
        sink.write({"id": number})
    except OutputError as error:
        print(error, file=sys.stderr)
sink.close()
"""


def test_standard_output_on_a_full_disk_makes_an_output_error_and_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", PRINT_TWO], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr.count("cannot write to standard output: No space left on device") == 2
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_of_standard_output_that_went_away_makes_an_output_error_and_no_traceback() -> None:
    # Given a pipe that nobody reads
    reader, writer = os.pipe()
    os.close(reader)
    # When events are printed into it
    done = subprocess.run([sys.executable, "-c", PRINT_TWO], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    # Then each is refused, and the end is quiet
    assert done.stderr.count("cannot write to standard output: Broken pipe") == 2
    assert "Exception ignored" not in done.stderr
