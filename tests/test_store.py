"""The data folder: memories that come back as they were, and what is said of those that cannot."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamwatch.change.memory import Memory
from streamwatch.embedding import EmbedderIdentity
from streamwatch.errors import OutputError, WeightsMismatch
from streamwatch.events.store import FolderStore
from streamwatch.records import Grid
from tests.builders import IDENTITY, unit

SMALL = replace(IDENTITY, grid=Grid(3, 3))
ALL = np.ones(9, dtype=np.bool_)


def empty(identity: EmbedderIdentity = SMALL) -> Memory:
    return Memory(regions=identity.grid.regions, dimensions=identity.dimensions, max_states=50)


def filled(states: int = 3) -> Memory:
    memory = empty()
    rng = np.random.default_rng(5)
    for number in range(states):
        known = ALL if number else rng.random(9) > 0.3
        memory.add(
            unit(rng.normal(size=(9, 4))),
            id=f"s{number}",
            known=known,
            made_s=number / 3,
            made_at=datetime(2026, 1, 1, 12, number, tzinfo=UTC) if number % 2 else None,
        )
    return memory


def test_a_saved_memory_comes_back_as_it_was(tmp_path: Path) -> None:
    # Given a memory with gaps, verdicts, times and matches
    memory = filled()
    memory.touch(1)
    memory.restore(
        memory.vectors, memory.vector_regions, [replace(memory.states[0], verdict="labelled"), *memory.states[1:]]
    )
    # When it is saved, and loaded by a later run
    FolderStore(tmp_path).save_memory("yard", memory, identity=SMALL)
    loaded = empty()
    assert FolderStore(tmp_path).load_memory("yard", loaded, identity=SMALL)
    # Then every state is the same, and distances are too
    for before, after in zip(memory.states, loaded.states, strict=True):
        assert (before.rows == after.rows).all()
        assert replace(before, rows=after.rows) == replace(after, rows=after.rows)
    sample = unit(np.random.default_rng(9).normal(size=(9, 4)))
    assert (loaded.distances(sample) == memory.distances(sample)).all()


def test_an_empty_memory_can_be_saved_too(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.save_memory("yard", empty(), identity=SMALL)
    assert store.load_memory("yard", empty(), identity=SMALL)


def test_a_camera_without_a_file_has_no_memory(tmp_path: Path) -> None:
    memory = empty()
    assert not FolderStore(tmp_path).load_memory("yard", memory, identity=SMALL)
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "vgg16", "layer": "conv4_3"}, "vgg16 conv4_3"),
        ({"weights_id": "sha256:ffff"}, "weights sha256:ffff"),
        ({"fit": "crop"}, "crop"),
        ({"grid": Grid(9, 1)}, "9×1 regions"),
        ({"unit_length": False}, "raw vectors"),
    ],
)
def test_a_memory_of_other_vectors_is_refused_and_both_are_named(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    # Given a memory that was written with one network
    store = FolderStore(tmp_path)
    store.save_memory("yard", filled(), identity=SMALL)
    kept = (tmp_path / "memory" / "yard.npz").read_bytes()
    other = replace(SMALL, **change)  # type: ignore[arg-type]
    # When it is loaded for another
    memory = empty(other)
    with pytest.raises(WeightsMismatch) as caught:
        store.load_memory("yard", memory, identity=other)
    # Then the message names the file, both, and what to do; the memory stays empty and the file as it was
    message = str(caught.value)
    assert "yard.npz was written with lite0 blocks.4.2, weights sha256:00000000grid4x16, squash, 3×3 regions" in message
    assert words in message.partition(", but ")[2]
    assert "delete the file" in message
    assert len(memory) == 0
    assert (tmp_path / "memory" / "yard.npz").read_bytes() == kept


def test_a_damaged_memory_is_one_clear_error_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    # Given a memory's file
    store = FolderStore(tmp_path)
    store.save_memory("yard", filled(), identity=SMALL)
    path = tmp_path / "memory" / "yard.npz"
    whole = path.read_bytes()
    rng = random.Random(7)
    refused = []
    for trial in range(1500):
        # When it is cut off, or some of its bytes are wrong
        data = bytearray(whole)
        if trial % 3 == 0:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.choice([1, 3, 20])):
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data))
        # Then it is loaded, or refused with the file's name and what to do; never anything else
        try:
            store.load_memory("yard", empty(), identity=SMALL)
        except OutputError as error:
            refused.append(str(error))
    assert len(refused) > 1000
    assert set(refused) == {f"{path} is damaged; delete it, and yard starts to remember afresh"}


@pytest.mark.parametrize(
    ("array", "wrong"),
    [
        ("rows", lambda rows: np.full_like(rows, 999)),
        ("rows", lambda rows: np.full_like(rows, -2)),
        ("rows", lambda rows: np.roll(rows, 1, axis=1)),
        ("rows", lambda rows: rows[:, :5]),
        ("rows", lambda rows: rows[:2]),
        ("rows", lambda rows: rows.astype(np.float64)),
        ("vectors", lambda vectors: vectors[:, :2]),
        ("vectors", lambda vectors: vectors[0]),
        ("vectors", lambda vectors: np.full_like(vectors, np.nan)),
        ("vectors", lambda vectors: np.full_like(vectors, np.inf)),
        ("vectors", lambda vectors: np.full(vectors.shape, 1e30)),
        ("vectors", lambda vectors: vectors.astype(np.complex64)),
        ("vector_regions", lambda regions: regions + 9),
        ("vector_regions", lambda regions: regions - 1),
        ("vector_regions", lambda regions: regions[1:]),
        ("vector_regions", lambda regions: regions[::-1]),
        ("header", lambda header: np.array(str(header).replace('"id": "s1"', '"id": "../../s1"'))),
        ("header", lambda header: np.array(str(header).replace('"id": "s1"', '"id": 1'))),
        ("header", lambda header: np.array(str(header).replace('"made_s": 0.0', '"made_s": NaN'))),
        ("header", lambda header: np.array(str(header).replace('"matched": 3', '"matched": "now"'))),
        ("header", lambda header: np.array(str(header).replace('"pending"', '"maybe"'))),
    ],
)
def test_an_archive_whose_numbers_cannot_be_a_memorys_is_damaged(
    tmp_path: Path, array: str, wrong: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    # Given a whole memory file of which one array is not what a memory writes
    store = FolderStore(tmp_path)
    store.save_memory("yard", filled(), identity=SMALL)
    path = tmp_path / "memory" / "yard.npz"
    with np.load(path) as saved:
        arrays = dict(saved)
    changed = wrong(arrays[array])
    assert changed.dtype != arrays[array].dtype or not np.array_equal(changed, arrays[array])
    np.savez(path, **{**arrays, array: changed})
    # When it is loaded, then it is called damaged, and the memory is as it was
    memory = empty()
    with pytest.raises(OutputError, match="is damaged; delete it, and yard starts to remember afresh"):
        store.load_memory("yard", memory, identity=SMALL)
    assert len(memory) == 0


def test_a_folder_or_a_pipe_in_a_memorys_place_is_damage_too(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    path = tmp_path / "memory" / "yard.npz"
    path.mkdir()
    with pytest.raises(OutputError, match="is damaged; delete it"):
        store.load_memory("yard", empty(), identity=SMALL)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(OutputError, match="is damaged; delete it"):
        store.load_memory("yard", empty(), identity=SMALL)


def test_a_file_that_is_no_archive_at_all_is_damaged(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for save in (lambda stream: np.save(stream, np.zeros(3)), lambda stream: stream.write(b"hello")):
        with (tmp_path / "memory" / "yard.npz").open("wb") as stream:
            save(stream)
        with pytest.raises(OutputError, match="damaged"):
            store.load_memory("yard", empty(), identity=SMALL)


def test_a_memory_from_a_later_version_is_refused_and_not_called_damaged(tmp_path: Path) -> None:
    # Given a file of a format that is not known yet
    store = FolderStore(tmp_path)
    path = tmp_path / "memory" / "yard.npz"
    header = np.array('{"format": 2, "identity": {"something": "else"}, "states": "elsewhere"}')
    np.savez(path, header=header, vectors=np.zeros(0), vector_regions=np.zeros(0), rows=np.zeros(0))
    # When it is loaded, then the message says so
    with pytest.raises(WeightsMismatch, match="was written with another version"):
        store.load_memory("yard", empty(), identity=SMALL)


SAVE_FOR_EVER = """
import sys
from pathlib import Path
from tests.test_store import SMALL, filled
from streamwatch.events.store import FolderStore
store, small, large = FolderStore(Path(sys.argv[1])), filled(1), filled(40)
print("ready", flush=True)
while True:
    store.save_memory("yard", small, identity=SMALL)
    store.save_memory("yard", large, identity=SMALL)
"""


def test_a_process_killed_while_it_saves_leaves_a_whole_memory(tmp_path: Path) -> None:
    # Given a folder, and a process that saves a memory of 1 and one of 40 states in turn
    rng = random.Random(3)
    seen = set()
    FolderStore(tmp_path).save_memory("yard", filled(1), identity=SMALL)
    for _ in range(20):
        # When it is killed at any moment
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        # Then one of the two is there
        memory = empty()
        assert FolderStore(tmp_path).load_memory("yard", memory, identity=SMALL)
        seen.add(len(memory))
    assert seen == {1, 40}


def test_the_networks_choice_is_kept_for_the_next_run(tmp_path: Path) -> None:
    assert FolderStore(tmp_path).network_choice() is None
    FolderStore(tmp_path).keep_network_choice(network="lite0", weights="embedded")
    assert FolderStore(tmp_path).network_choice() == {"network": "lite0", "weights": "embedded"}


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[]", b'{"network": 3}', b'{"network":"lite0","weights":5}', b"[" * 100_000, b"\xff\xfe"]
)
def test_a_choice_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, junk: bytes) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "network.json").write_bytes(junk)
    with pytest.raises(OutputError, match=r"network\.json .*delete it to choose the network afresh"):
        store.network_choice()


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write into .*/data"):
        FolderStore(tmp_path / "data")


def test_a_second_daemon_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    # Given a daemon that holds its data folder
    folder = tmp_path / "data"
    refused = pytest.raises(OutputError, match="in use by another streamwatch")

    # When another one wants it, then it is told so
    with FolderStore(folder).lock(), refused, FolderStore(folder).lock():
        pass

    # And once the first has stopped, the folder is free
    with FolderStore(folder).lock():
        pass


def test_a_lock_that_cannot_be_made_is_told_and_what_fails_under_it_keeps_its_own_error(tmp_path: Path) -> None:
    # Given a folder where the lock's file should be
    store = FolderStore(tmp_path)
    (tmp_path / "lock").mkdir()
    # Then the message names it
    with pytest.raises(OutputError, match=r"cannot lock .*lock: Is a directory; remove what is there"), store.lock():
        pass
    # And once it is gone, a pipe that would block while the lock is held is not taken for another daemon
    (tmp_path / "lock").rmdir()
    with pytest.raises(BlockingIOError), store.lock():
        raise BlockingIOError("a pipe is full")
