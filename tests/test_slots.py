"""Slots between cameras and network: what is dropped, what waits, who comes next."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from streamwatch.daemon.slots import Slots
from streamwatch.records import Frame
from tests.builders import eventually, frame, picture

PIXELS = picture(width=2, height=2)


def sample(number: float) -> Frame:
    return frame(PIXELS, number)


def numbers(taken: list[tuple[str, Frame, int]]) -> list[tuple[str, float]]:
    return [(camera, each.pts_s) for camera, each, _ in taken]


def test_a_live_camera_keeps_its_newest_sample_and_says_what_it_dropped() -> None:
    # Given a live camera
    slots = Slots()
    slots.add("yard", live=True)
    # When three samples come before the network is free
    dropped = [slots.put("yard", sample(number), epoch=1) for number in range(3)]
    # Then the newest is taken, and two were counted as dropped
    assert dropped == [0, 1, 1]
    assert numbers(slots.take(8, timeout_s=0)) == [("yard", 2)]
    assert slots.empty()


def test_a_files_reader_waits_when_its_slot_is_full_and_loses_nothing() -> None:
    # Given a file's slot of four
    slots = Slots(file_bound=4)
    slots.add("clip", live=False)
    # When its reader offers 50 samples
    reader = threading.Thread(target=lambda: [slots.put("clip", sample(n), epoch=1) for n in range(50)])
    reader.start()
    # Then it waits after four, and all arrive in order
    time.sleep(0.1)
    assert reader.is_alive()
    assert len(slots._slots["clip"].waiting) == 4
    taken: list[tuple[str, float]] = []
    while len(taken) < 50:
        batch = slots.take(3, timeout_s=5)
        assert 1 <= len(batch) <= 3
        taken += numbers(batch)
    reader.join(5)
    assert taken == [("clip", n) for n in range(50)]


def test_a_batch_holds_one_sample_of_each_camera_before_a_second_of_any() -> None:
    # Given a greedy file with eight samples and three live cameras with one each
    slots = Slots()
    slots.add("clip", live=False)
    for number in range(8):
        slots.put("clip", sample(number), epoch=1)
    for camera in "abc":
        slots.add(camera, live=True)
        slots.put(camera, sample(100), epoch=1)
    # When batches are taken
    first, second = slots.take(4, timeout_s=0), slots.take(4, timeout_s=0)
    # Then the first holds one of each, the second the file's rest in order
    assert numbers(first) == [("clip", 0), ("a", 100), ("b", 100), ("c", 100)]
    assert numbers(second) == [("clip", n) for n in (1, 2, 3, 4)]


def test_no_camera_starves_when_batches_are_smaller_than_the_number_of_cameras() -> None:
    # Given ten cameras that always have a sample, and batches of three
    slots = Slots()
    cameras = [f"c{number}" for number in range(10)]
    for camera in cameras:
        slots.add(camera, live=True)
    counted: Counter[str] = Counter()
    for number in range(100):
        for camera in cameras:
            slots.put(camera, sample(number), epoch=1)
        # When 100 batches are taken
        counted.update(camera for camera, _, _ in slots.take(3, timeout_s=0))
    # Then all came equally often
    assert set(counted.values()) == {30}


def test_take_waits_for_a_sample_and_gives_up_after_its_timeout() -> None:
    slots = Slots()
    slots.add("yard", live=True)
    started_s = time.monotonic()
    assert slots.take(8, timeout_s=0.1) == []
    assert 0.09 < time.monotonic() - started_s < 2
    # And a sample that comes while it waits ends the wait
    threading.Timer(0.05, lambda: slots.put("yard", sample(1), epoch=7)).start()
    (taken,) = slots.take(8, timeout_s=10)
    assert (taken[0], taken[1].pts_s, taken[2]) == ("yard", 1, 7)


def test_close_lets_everybody_go_now_and_later() -> None:
    # Given a reader that waits at a full slot, and a network that waits at empty ones
    full, bare = Slots(file_bound=1), Slots()
    full.add("clip", live=False)
    bare.add("yard", live=True)
    full.put("clip", sample(0), epoch=1)
    blocked = [
        threading.Thread(target=lambda: full.put("clip", sample(1), epoch=1)),
        threading.Thread(target=lambda: bare.take(8, timeout_s=60)),
    ]
    for thread in blocked:
        thread.start()
    time.sleep(0.05)
    # When both are closed
    assert full.close() == {"clip": 1}
    assert bare.close() == {}
    # Then nobody waits any longer, nor ever again
    assert eventually(lambda: not any(thread.is_alive() for thread in blocked))
    assert full.put("clip", sample(2), epoch=1) == 1  # itself: no sample is lost uncounted
    assert full.take(8, timeout_s=60) == []


def test_whatever_threads_do_each_sample_is_taken_dropped_or_waiting() -> None:
    # Given three live cameras and two files, each with a thread that offers 500 samples, and one that takes
    slots = Slots(file_bound=5)
    cameras = {"a": True, "b": True, "c": True, "x": False, "y": False}
    for camera, live in cameras.items():
        slots.add(camera, live=live)
    dropped: Counter[str] = Counter()
    taken: dict[str, list[float]] = {camera: [] for camera in cameras}
    done = threading.Event()

    def offer(camera: str) -> None:
        for number in range(500):
            dropped[camera] += slots.put(camera, sample(number), epoch=1)

    def take() -> None:
        rng = random.Random(1)
        while not done.is_set() or not slots.empty():
            for camera, each, _ in slots.take(rng.randrange(1, 9), timeout_s=0.01):
                taken[camera].append(each.pts_s)

    readers = [threading.Thread(target=offer, args=(camera,)) for camera in cameras]
    worker = threading.Thread(target=take)
    for thread in [*readers, worker]:
        thread.start()
    for thread in readers:
        thread.join(60)
    done.set()
    worker.join(60)
    # When all is over, then the numbers add up for each, order was kept, and files lost nothing
    for camera, live in cameras.items():
        assert len(taken[camera]) + dropped[camera] == 500
        assert taken[camera] == sorted(set(taken[camera]))
        assert taken[camera][-1] == 499
        assert live or dropped[camera] == 0


def test_files_can_be_let_go_while_cameras_are_still_taken() -> None:
    # Given a file's full place, on which its reader waits, and a camera's
    slots = Slots(file_bound=2)
    slots.add("gate", live=True)
    slots.add("clip", live=False)
    slots.put("gate", sample(0), epoch=1)
    for number in range(2):
        slots.put("clip", sample(number), epoch=1)
    waiting = threading.Thread(target=lambda: slots.put("clip", sample(2), epoch=1))
    waiting.start()
    # When files are let go
    assert slots.close_files() == {"clip": 2}
    # Then nobody waits any more, the camera's sample is there, and the file's are not, later ones neither
    waiting.join(5)
    assert not waiting.is_alive()
    assert slots.put("clip", sample(3), epoch=1) == 1
    assert [camera for camera, _, _ in slots.take(8, timeout_s=0)] == ["gate"]
    assert slots.put("gate", sample(1), epoch=1) == 0
    assert [camera for camera, _, _ in slots.take(8, timeout_s=0)] == ["gate"]


def test_a_camera_that_is_removed_leaves_nothing_and_its_waiting_reader_goes_on() -> None:
    # Given a full file's place on which its reader waits, and another camera's
    slots = Slots(file_bound=1)
    slots.add("clip", live=False)
    slots.add("gate", live=True)
    slots.put("clip", sample(0), epoch=1)
    waiting = threading.Thread(target=lambda: slots.put("clip", sample(1), epoch=1))
    waiting.start()
    # When the file's is removed
    slots.remove("clip")
    # Then its reader waits no more, nothing of it is left, and the other camera's goes on
    waiting.join(5)
    assert not waiting.is_alive()
    assert slots.empty()
    assert slots.put("clip", sample(2), epoch=1) == 1
    slots.put("gate", sample(3), epoch=1)
    assert numbers(slots.take(8, timeout_s=0)) == [("gate", 3)]


def test_a_camera_of_the_same_name_takes_nothing_from_its_predecessors_reader() -> None:
    # Given a camera that was removed and added again, with other settings
    slots = Slots()
    slots.add("gate", live=True)
    slots.put("gate", sample(0), epoch=4)
    slots.remove("gate")
    slots.add("gate", live=True, first_epoch=5)
    slots.put("gate", sample(1), epoch=6)
    # When the old reader comes back from the network with one more picture
    assert slots.put("gate", sample(2), epoch=4) == 1
    # Then the new one's sample is not displaced
    assert numbers(slots.take(8, timeout_s=0)) == [("gate", 1)]
