"""The decision: what raises an event, when, how often, and what never does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamwatch.change.decision import _MAX_WINDOW, ChangeDecider, ChangeSettings
from streamwatch.change.memory import Memory
from streamwatch.records import Embedding, Grid
from tests.builders import (
    DIMENSIONS,
    GRID,
    THRESHOLD,
    Scenery,
    Watching,
    block,
    counting_ids,
    new_decider,
    new_memory,
    unit,
)

TRUCK = ("truck", block(4, 4, 3, 3))
CRATE = ("crate", block(10, 10))


def watching(**options: Any) -> tuple[Scenery, Watching]:
    """A camera that has seen its empty yard for ten samples."""
    scene = Scenery()
    watch = Watching(new_decider(**options))
    watch.see(*(scene.look() for _ in range(10)))
    return scene, watch


def regions_of(judgement: Any) -> set[int]:
    """Numbers of the regions that an event names."""
    return {
        round(region.box.y * GRID.rows) * GRID.columns + round(region.box.x * GRID.columns)
        for region in judgement.change.regions
    }


# --- What comes, stays, and goes


def test_the_first_state_joins_the_memory_without_an_event() -> None:
    # Given a new camera and six samples to confirm
    scene, watch = Scenery(), Watching(new_decider())
    # When it looks at a quiet scene
    judgements = watch.see(*(scene.look() for _ in range(8)))
    # Then the sixth sample is learned silently, and novelty is unknown until then
    assert [judgement.learned for judgement in judgements] == [None] * 5 + ["s1", None, None]
    assert all(math.isnan(judgement.novelty) for judgement in judgements[:6])
    assert all(0 <= judgement.novelty < THRESHOLD for judgement in judgements[6:])
    assert watch.event_times_s == []


def test_announce_first_makes_an_event_of_the_first_state_and_only_of_that() -> None:
    scene, watch = Scenery(), Watching(new_decider(announce_first=True))
    watch.see(*(scene.look() for _ in range(12)))
    assert watch.event_times_s == [5]
    change = watch.judgements[5].change
    assert change is not None
    assert (change.before, change.after, change.regions) == (None, "s1", ())


@pytest.mark.parametrize("seen", [1, 3, 5])
def test_what_is_gone_before_it_is_confirmed_is_never_announced(seen: int) -> None:
    # Given a camera that knows its empty yard
    scene, watch = watching()
    # When a truck stands there for fewer than six samples
    watch.see(*(scene.look(TRUCK) for _ in range(seen)), *(scene.look() for _ in range(10)))
    # Then there is no event, and nothing was remembered
    assert watch.event_times_s == []
    assert len(watch.decider.memory) == 1


def test_what_stays_is_announced_once_with_the_sample_that_confirms_it() -> None:
    # Given a camera that knows its empty yard
    scene, watch = watching()
    # When a truck comes and stays
    watch.see(*(scene.look(TRUCK) for _ in range(30)))
    # Then its sixth sample raises the only event, from the empty yard to a new state, at the truck's regions
    assert watch.event_times_s == [15]
    raised = watch.judgements[15]
    assert raised.change is not None
    assert (raised.change.before, raised.change.after) == ("s1", "s2")
    assert raised.learned == "s2"
    assert raised.novelty > raised.threshold
    assert regions_of(raised) == set(TRUCK[1])
    distances = [region.distance_sq for region in raised.change.regions]
    assert distances == sorted(distances, reverse=True)


def test_a_return_to_any_remembered_state_is_silent() -> None:
    # Given a yard, a truck in it, and a crate that came later
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK) for _ in range(10)), *(scene.look(TRUCK, CRATE) for _ in range(10)))
    assert len(watch.event_times_s) == 2
    # When all of them come again in any order
    for things in [(), (TRUCK,), (TRUCK, CRATE), (), (TRUCK, CRATE), (TRUCK,)]:
        watch.see(*(scene.look(*things) for _ in range(10)))
    # Then none is announced again
    assert len(watch.event_times_s) == 2


def test_known_parts_in_a_new_combination_are_known() -> None:
    # Given that the truck and the crate were each seen without the other
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK) for _ in range(10)), *(scene.look() for _ in range(10)))
    watch.see(*(scene.look(CRATE) for _ in range(10)), *(scene.look() for _ in range(10)))
    assert len(watch.event_times_s) == 2
    # When both stand there, then every region was seen that way before
    watch.see(*(scene.look(TRUCK, CRATE) for _ in range(10)))
    assert len(watch.event_times_s) == 2


def test_another_thing_in_a_known_place_is_new() -> None:
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK) for _ in range(10)), *(scene.look(("bus", TRUCK[1])) for _ in range(10)))
    assert watch.event_times_s == [15, 25]


def test_two_things_that_come_together_are_one_event_that_names_both() -> None:
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK, CRATE) for _ in range(12)))
    assert watch.event_times_s == [15]
    assert regions_of(watch.judgements[15]) == {*TRUCK[1], *CRATE[1]}


def test_slow_drift_that_ends_far_from_the_start_is_announced_by_its_distance_not_by_its_speed() -> None:
    # Given a wall whose look turns into another one over 200 samples, each hardly different from the one before
    scene, watch = watching()
    start, end = scene.look().vectors, scene.look(TRUCK).vectors
    samples = [Embedding(vectors=unit(start + (end - start) * share), grid=GRID) for share in np.linspace(0, 1, 200)]
    # When it is watched, then it is announced at least once, and not with each sample
    watch.see(*samples)
    assert 1 <= len(watch.event_times_s) <= 4


# --- Movers


def passers_by(name: str, count: int, *, row: int) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Something that moves one region a sample to the right."""
    return ((name, block(row, column % 12, 3, 2)) for column in range(count))


def test_people_who_never_stop_raise_nothing() -> None:
    scene, watch = watching()
    watch.see(*(scene.look(walker) for walker in passers_by("walker", 60, row=4)))
    assert watch.event_times_s == []


def test_a_moving_thing_that_touches_the_new_one_holds_the_event_up_until_it_leaves() -> None:
    # Given a truck that has stopped, and somebody who works at its side for 12 samples
    scene, watch = watching()
    at_its_side = block(4, 7, 3, 1)
    watch.see(*(scene.look(TRUCK, (f"worker {step}", at_its_side)) for step in range(12)))
    assert watch.event_times_s == []
    # When the worker has left, then the truck is announced as soon as the window holds nothing of him
    watch.see(*(scene.look(TRUCK) for _ in range(10)))
    assert len(watch.event_times_s) == 1
    assert 22 <= watch.event_times_s[0] <= 24
    assert regions_of(next(judgement for judgement in watch.judgements if judgement.change)) == set(TRUCK[1])


def test_a_moving_thing_elsewhere_holds_nothing_up() -> None:
    scene, watch = watching()
    walkers = passers_by("walker", 10, row=11)
    watch.see(*(scene.look(TRUCK, walker) for walker in walkers))
    assert watch.event_times_s == [15]
    assert regions_of(watch.judgements[15]) == set(TRUCK[1])


def test_a_region_that_moved_while_the_first_state_was_learned_is_learned_silently_once_still() -> None:
    # Given a camera that starts while somebody walks through its picture
    scene = Scenery()
    watch = Watching(new_decider())
    watch.see(*(scene.look(walker) for walker in passers_by("walker", 12, row=4)))
    # When the place is empty
    watch.see(*(scene.look() for _ in range(12)))
    # Then there was no event, and the whole picture is known
    assert watch.event_times_s == []
    assert watch.decider.memory.known_regions().all()
    # And then a truck there is a change
    watch.see(*(scene.look(TRUCK) for _ in range(8)))
    assert watch.event_times_s == [29]


def test_one_region_alone_flickers_and_raises_nothing() -> None:
    # Given that two touching regions must be new
    scene, watch = watching(min_regions=2)
    # When one region changes for good, and two that do not touch
    watch.see(*(scene.look(("lamp", [40])) for _ in range(15)))
    watch.see(*(scene.look(("lamp", [40]), ("lamp", [100])) for _ in range(15)))
    # Then nothing is raised
    assert watch.event_times_s == []
    # And then with a second one beside it, at a corner, it is
    watch.see(*(scene.look(("lamp", [40]), ("lamp", [40 + GRID.columns + 1])) for _ in range(10)))
    assert len(watch.event_times_s) == 1


def test_one_region_is_enough_where_the_settings_say_so() -> None:
    scene, watch = watching(min_regions=1)
    watch.see(*(scene.look(("lamp", [40])) for _ in range(8)))
    assert watch.event_times_s == [15]


# --- Threshold


def in_the_plane(distance_sq: float, *, grid: Grid) -> Embedding:
    """Unit vectors in a plane, this far from the first axis."""
    cosine = 1 - distance_sq / 2
    vectors = np.zeros((grid.regions, DIMENSIONS), dtype=np.float32)
    vectors[:, 0], vectors[:, 1] = cosine, math.sqrt(1 - cosine**2)
    return Embedding(vectors=vectors, grid=grid)


@pytest.mark.parametrize(("distance_sq", "events"), [(0.59, 0), (0.61, 1)])
def test_an_event_needs_a_distance_above_the_threshold(distance_sq: float, events: int) -> None:
    grid = Grid(2, 2)
    watch = Watching(new_decider(grid=grid, memory=new_memory(grid=grid)))
    watch.see(
        *(in_the_plane(0, grid=grid) for _ in range(8)), *(in_the_plane(distance_sq, grid=grid) for _ in range(8))
    )
    assert len(watch.event_times_s) == events


def test_a_distance_that_equals_the_threshold_is_none() -> None:
    # Given vectors whose distance is exactly 1 in any precision
    grid = Grid(1, 2)
    one, other = np.zeros((2, DIMENSIONS), np.float32), np.zeros((2, DIMENSIONS), np.float32)
    other[:, 0] = 1
    samples = [Embedding(vectors=one, grid=grid)] * 8 + [Embedding(vectors=other, grid=grid)] * 8
    for threshold, events in [(1.0, 0), (0.999, 1)]:
        # When it is judged by that very threshold, then it is not above it
        watch = Watching(new_decider(grid=grid, memory=new_memory(grid=grid), threshold=threshold))
        watch.see(*samples)
        assert len(watch.event_times_s) == events


def test_the_most_novel_group_gives_the_novelty_by_its_second_region() -> None:
    # Given that two regions must be new
    scene, watch = watching(min_regions=2)
    # When a truck stays, then the novelty is the second largest of the distances named
    watch.see(*(scene.look(TRUCK) for _ in range(6)))
    raised = watch.judgements[-1]
    assert raised.change is not None
    assert raised.novelty == raised.change.regions[1].distance_sq


# --- Cooldown


def test_cooldown_delays_an_event_but_does_not_lose_it() -> None:
    # Given a cooldown of a minute and a truck announced at 15 s
    scene, watch = watching(cooldown_s=60)
    watch.see(*(scene.look(TRUCK) for _ in range(10)))
    assert watch.event_times_s == [15]
    # When a crate comes at 20 s and stays
    watch.see(*(scene.look(TRUCK, CRATE) for _ in range(70)))
    # Then it is announced once, with the first sample after the minute
    assert watch.event_times_s == [15, 75]


def test_what_leaves_during_the_cooldown_is_not_announced() -> None:
    scene, watch = watching(cooldown_s=60)
    watch.see(*(scene.look(TRUCK) for _ in range(10)), *(scene.look(TRUCK, CRATE) for _ in range(20)))
    watch.see(*(scene.look(TRUCK) for _ in range(60)))
    assert watch.event_times_s == [15]


# --- Time


@pytest.mark.parametrize("every_s", [0.04, 0.1, 0.31, 0.5, 1.0, 2.0])
def test_confirm_in_seconds_needs_that_long_at_any_rate(every_s: float) -> None:
    # Given six seconds to confirm and a camera that knows its yard
    scene = Scenery()
    watch = Watching(new_decider(confirm_s=6.0), every_s=every_s)
    while watch.next_s < 15:
        watch.see(scene.look())
    # When a truck comes and stays
    came_s = watch.next_s
    while watch.next_s < 30:
        watch.see(scene.look(TRUCK))
    # Then it is announced six seconds later, within a sample (and a step of the thinned window)
    assert len(watch.event_times_s) == 1
    assert 6 - 1e-6 <= watch.event_times_s[0] - came_s <= 6 + 2 * every_s + 6 / _MAX_WINDOW


def test_confirm_in_seconds_never_means_fewer_than_three_samples() -> None:
    # Given five seconds to confirm and a sample every ten
    scene, watch = Scenery(), Watching(new_decider(confirm_s=5.0), every_s=10.0)
    watch.see(*(scene.look() for _ in range(5)))
    # When something is seen twice, then it is silent
    watch.see(scene.look(TRUCK), scene.look(TRUCK), scene.look(), scene.look(), scene.look())
    assert watch.event_times_s == []
    # And three times, it is an event
    watch.see(scene.look(TRUCK), scene.look(TRUCK), scene.look(TRUCK))
    assert watch.event_times_s == [120]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.499, 0.51, 0.75, 0.99, 1.01, 3.0])
def test_a_window_in_seconds_holds_a_bounded_number_of_samples_at_any_rate(share: float) -> None:
    # Given samples every so many steps of the window
    decider = new_decider(confirm_s=6.0, grid=Grid(1, 1), memory=new_memory(grid=Grid(1, 1)))
    scene = Scenery(grid=Grid(1, 1))
    every_s = share * 6.0 / _MAX_WINDOW
    longest = 0
    for number in range(int(20 / every_s)):
        # When they are judged for 20 s
        decider.judge(scene.look(), pts_s=number * every_s)
        longest = max(longest, len(decider._window))
    # Then the window never holds more than its docstring says, and enough to tell
    assert min(12, 6.0 / every_s) <= longest <= _MAX_WINDOW + 2


def test_time_that_goes_back_starts_the_trial_afresh_and_forgets_no_state() -> None:
    # Given a truck that was seen five times
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK) for _ in range(5)))
    # When the stream begins anew
    watch.next_s = 0.0
    judgements = watch.see(*(scene.look(TRUCK) for _ in range(6)))
    # Then six samples must agree again, and the yard is still known
    assert [judgement.change is not None for judgement in judgements] == [False] * 5 + [True]
    assert judgements[-1].change is not None
    assert judgements[-1].change.before == "s1"


def test_samples_before_and_after_an_interruption_do_not_confirm_each_other() -> None:
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK) for _ in range(5)))
    watch.decider.restart()
    watch.see(*(scene.look(TRUCK) for _ in range(5)))
    assert watch.event_times_s == []
    watch.see(scene.look(TRUCK))
    assert len(watch.event_times_s) == 1


# --- The paper's way


def test_recent_compares_with_the_last_frames_only_and_each_sample_joins_them() -> None:
    # Given whole frames, one sample to confirm, and three recent frames
    grid = Grid(1, 1)
    scene = Scenery(grid=grid)
    memory = new_memory(grid=grid, max_states=3)
    watch = Watching(new_decider(grid=grid, memory=memory, remember="recent", recent=3, confirm_samples=1))
    # When the scene changes, stays for five frames, and changes back
    watch.see(
        *(scene.look() for _ in range(5)), *(scene.look(TRUCK_FRAME) for _ in range(5)), scene.look(), scene.look()
    )
    # Then both the change and the way back are announced at once, each once, and the oldest frame leaves for each
    assert watch.event_times_s == [5, 10]
    assert [judgement.learned for judgement in watch.judgements] == [f"s{n}" for n in range(1, 13)]
    assert [judgement.forgotten for judgement in watch.judgements] == [None] * 3 + [f"s{n}" for n in range(1, 10)]
    assert len(memory) == 3
    change = watch.judgements[5].change
    assert change is not None
    assert change.before in {"s3", "s4", "s5"}
    assert change.regions[0].box.width == 1


TRUCK_FRAME = ("truck", [0])


def test_recent_announces_a_return_that_a_memory_of_states_does_not() -> None:
    # Given the same frames
    grid = Grid(1, 1)
    for remember, events in [("recent", 2), ("states", 1)]:
        scene = Scenery(grid=grid)
        memory = new_memory(grid=grid, max_states=3)
        # When they are judged either way
        watch = Watching(new_decider(grid=grid, memory=memory, remember=remember, recent=3, confirm_samples=1))
        watch.see(*(scene.look() for _ in range(5)), *(scene.look(TRUCK_FRAME) for _ in range(5)), scene.look())
        # Then only the short memory is surprised by what it saw before
        assert len(watch.event_times_s) == events


def test_recent_learns_nothing_new_while_it_cools_and_announces_it_afterwards() -> None:
    # Given recent frames, and a truck that was announced
    grid = Grid(1, 1)
    scene = Scenery(grid=grid)
    memory = new_memory(grid=grid, max_states=3)
    decider = new_decider(
        grid=grid, memory=memory, remember="recent", recent=3, confirm_samples=1, cooldown_s=10, min_regions=1
    )
    watch = Watching(decider)
    watch.see(*(scene.look() for _ in range(5)), *(scene.look(TRUCK_FRAME) for _ in range(3)))
    assert watch.event_times_s == [5]
    # When a bus stands there from 3 s after that
    judgements = watch.see(*(scene.look(("bus", [0])) for _ in range(10)))
    # Then it is learned by no sample until it may be announced, which happens once, and against the truck
    assert [judgement.learned is not None for judgement in judgements] == [False] * 7 + [True] * 3
    assert watch.event_times_s == [5, 15]
    change = judgements[7].change
    assert change is not None
    assert change.before in {"s6", "s7", "s8"}


# --- What is watched


def test_a_change_outside_the_watched_regions_is_silent_and_one_inside_is_not() -> None:
    # Given that the crate's corner is masked
    scene, watch = watching()
    watched = np.ones(GRID.regions, dtype=np.bool_)
    watched[list(CRATE[1])] = False
    watch.decider.watch(watched)
    # When the crate comes, then it is silent
    watch.see(*(scene.look(CRATE) for _ in range(15)))
    assert watch.event_times_s == []
    # And the truck beside it is announced, without the crate's regions
    watch.see(*(scene.look(CRATE, TRUCK) for _ in range(15)))
    assert watch.event_times_s == [30]
    assert regions_of(watch.judgements[30]) == set(TRUCK[1])


def test_a_thing_across_the_edge_of_a_mask_is_judged_by_its_watched_part() -> None:
    scene, watch = watching()
    watched = np.ones(GRID.regions, dtype=np.bool_)
    watched[list(block(4, 4, 3, 1))] = False
    watch.decider.watch(watched)
    watch.see(*(scene.look(TRUCK) for _ in range(8)))
    assert watch.event_times_s == [15]
    assert regions_of(watch.judgements[15]) == set(TRUCK[1]) - set(block(4, 4, 3, 1))


def test_a_single_watched_region_can_raise_an_event_alone() -> None:
    # Given a zone of one region, and two that must be new otherwise
    scene, watch = watching(min_regions=2)
    watched = np.zeros(GRID.regions, dtype=np.bool_)
    watched[TRUCK[1][0]] = True
    watch.decider.watch(watched)
    watch.see(*(scene.look(TRUCK) for _ in range(8)))
    assert watch.event_times_s == [15]


@pytest.mark.parametrize("remember", ["states", "recent"])
def test_a_camera_that_watches_nothing_never_fires(remember: str) -> None:
    scene = Scenery()
    decider = new_decider(remember=remember, memory=new_memory(max_states=4))
    decider.watch(np.zeros(GRID.regions, dtype=np.bool_))
    watch = Watching(decider)
    watch.see(*(scene.look() for _ in range(10)), *(scene.look(TRUCK) for _ in range(10)))
    assert watch.event_times_s == []
    assert all(judgement.novelty == 0 for judgement in watch.judgements[6:])


# --- The memory


def test_a_withdrawn_state_is_announced_again_with_the_next_sample() -> None:
    # Given an event that could not be kept, under a cooldown
    scene, watch = watching(cooldown_s=60)
    watch.see(*(scene.look(TRUCK) for _ in range(6)))
    assert watch.event_times_s == [15]
    watch.decider.withdraw("s2")
    # When the truck still stands there
    watch.see(*(scene.look(TRUCK) for _ in range(5)))
    # Then the next sample announces it, once, under a name of its own
    assert watch.event_times_s == [15, 16]
    assert watch.judgements[16].learned == "s3"
    assert [state.id for state in watch.decider.memory.states] == ["s1", "s3"]


def test_a_withdrawn_first_state_is_learned_again() -> None:
    scene, watch = Scenery(), Watching(new_decider())
    watch.see(*(scene.look() for _ in range(6)))
    watch.decider.withdraw("s1")
    judgements = watch.see(*(scene.look() for _ in range(3)))
    assert [judgement.learned for judgement in judgements] == ["s2", None, None]
    assert watch.event_times_s == []


def test_states_that_had_to_leave_for_a_withdrawn_one_are_back() -> None:
    # Given a full memory: the empty yard, the truck, and no room for more
    scene = Scenery()
    watch = Watching(new_decider(memory=new_memory(max_states=2)))
    watch.see(*(scene.look() for _ in range(10)), *(scene.look(TRUCK) for _ in range(10)))
    # When a full disk refuses the crate's event 20 times
    for _ in range(26):
        judgement = watch.see(scene.look(TRUCK, CRATE))[0]
        if judgement.learned:
            watch.decider.withdraw(judgement.learned)
    # Then yard and truck are still remembered
    assert [state.id for state in watch.decider.memory.states] == ["s1", "s2"]
    events = len(watch.event_times_s)
    watch.see(*(scene.look() for _ in range(10)), *(scene.look(TRUCK) for _ in range(10)))
    assert len(watch.event_times_s) == events


def test_the_state_that_leaves_a_full_memory_is_named_and_is_new_when_it_comes_again() -> None:
    # Given room for two states, and the yard matched before the truck came
    scene = Scenery()
    watch = Watching(new_decider(memory=new_memory(max_states=2)))
    watch.see(*(scene.look() for _ in range(10)), *(scene.look(TRUCK) for _ in range(10)))
    # When a bus takes the truck's place
    judgements = watch.see(*(scene.look(("bus", TRUCK[1])) for _ in range(10)))
    # Then the empty yard, which was matched longest ago, leaves
    assert [judgement.forgotten for judgement in judgements if judgement.learned] == ["s1"]
    assert len(watch.decider.memory) == 2


def test_a_state_that_was_seen_again_stays_longer_than_one_that_was_not() -> None:
    # Given room for two states, and a yard that is empty again after the truck
    scene = Scenery()
    watch = Watching(new_decider(memory=new_memory(max_states=2)))
    watch.see(*(scene.look() for _ in range(10)), *(scene.look(TRUCK) for _ in range(10)))
    watch.see(*(scene.look() for _ in range(10)))
    # When a bus comes, then the truck leaves the memory
    judgements = watch.see(*(scene.look(("bus", TRUCK[1])) for _ in range(10)))
    assert [judgement.forgotten for judgement in judgements if judgement.learned] == ["s2"]


def test_the_state_before_is_the_one_that_the_present_resembles_most() -> None:
    # Given the empty yard, a truck, and a bus elsewhere without the truck
    scene, watch = watching()
    bus = ("bus", block(0, 9, 4, 4))
    watch.see(*(scene.look(TRUCK) for _ in range(10)), *(scene.look(bus) for _ in range(10)))
    # When a crate comes to the truck, then the event shows the truck alone as what was before
    raised = next(each for each in watch.see(*(scene.look(TRUCK, CRATE) for _ in range(10))) if each.change)
    assert raised.change is not None
    assert raised.change.before == "s2"


def test_a_state_that_knows_few_regions_is_not_the_one_before_for_that() -> None:
    # Given a state that knows only two regions, and those as they look now, and one that knows the whole yard
    scene, watch = watching()
    few = np.zeros(GRID.regions, dtype=np.bool_)
    few[:2] = True
    watch.see(*(scene.look() for _ in range(6)))
    exact = scene.look().vectors
    watch.decider.memory.add(exact, id="few", known=few, made_s=0)
    scene_now = np.where(few[:, None], exact, scene.look(CRATE).vectors)
    # When something new comes
    judgements = watch.see(*(Embedding(vectors=scene_now, grid=GRID) for _ in range(6)))
    # Then what was before is the whole yard
    change = judgements[-1].change
    assert change is not None
    assert change.before == "s1"


def test_a_restarted_decider_knows_what_it_knew() -> None:
    # Given a memory of three states, taken over by a new decider
    scene, watch = watching()
    watch.see(*(scene.look(TRUCK) for _ in range(10)), *(scene.look(CRATE) for _ in range(10)))
    old = watch.decider.memory
    memory = new_memory()
    memory.restore(old.vectors, old.vector_regions, old.states)
    again = Watching(ChangeDecider(watch.decider.settings, memory, grid=GRID, new_id=counting_ids("t")))
    # When it sees them all
    for things in [(), (CRATE,), (TRUCK,), (TRUCK, CRATE)]:
        again.see(*(scene.look(*things) for _ in range(10)))
    # Then nothing is announced or learned, and only the first window is unjudged
    assert again.event_times_s == []
    assert [judgement.learned for judgement in again.judgements] == [None] * 40
    assert [math.isnan(judgement.novelty) for judgement in again.judgements] == [True] * 5 + [False] * 35
    # And something new still is
    again.see(*(scene.look(("bus", TRUCK[1])) for _ in range(10)))
    assert len(again.event_times_s) == 1


# --- Whatever comes


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(1, 9)), min_size=1, max_size=12),
    st.sampled_from(["states", "recent"]),
    st.integers(1, 7),
    st.sampled_from([None, 0.5, 3.0, 20.0]),
    st.integers(1, 4),
)
def test_whatever_is_seen_novelty_is_a_number_events_are_above_threshold_and_memory_is_bounded(
    story: list[tuple[str, int]], remember: str, confirm: int, confirm_s: float | None, max_states: int
) -> None:
    # Given any settings and any story of things that come and go
    grid = Grid(4, 4)
    scene = Scenery(grid=grid, noise=0.05)
    memory = new_memory(grid=grid, max_states=max_states)
    decider = new_decider(
        grid=grid, memory=memory, remember=remember, recent=max_states, confirm_samples=confirm, confirm_s=confirm_s
    )
    watch = Watching(decider)
    for name, samples in story:
        things = [(name, block(1, 1, grid=grid))] if name else []
        # When it is judged
        watch.see(*(scene.look(*things) for _ in range(samples)))
    # Then the rules hold
    judged = [judgement for judgement in watch.judgements if not math.isnan(judgement.novelty)]
    assert all(0 <= judgement.novelty < 5 for judgement in judged)
    for judgement in watch.judgements:
        if judgement.change:
            assert judgement.novelty > judgement.threshold
            assert judgement.learned == judgement.change.after
            assert judgement.change.before != judgement.change.after
            assert all(region.distance_sq > judgement.threshold for region in judgement.change.regions)
    assert len(memory) <= max_states
    first = next((index for index, judgement in enumerate(watch.judgements) if judgement.learned), None)
    if first is not None:
        assert not any(math.isnan(judgement.novelty) for judgement in watch.judgements[first + 1 :])


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 0.0}, {"threshold": float("nan")}, {"confirm_samples": 0}, {"min_regions": 0}, {"remember": "all"}],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|at least"):
        ChangeSettings(**{"threshold": THRESHOLD, **wrong})


def test_a_decider_works_on_a_memory_that_it_was_given() -> None:
    memory = Memory(regions=GRID.regions, dimensions=DIMENSIONS, max_states=7)
    assert new_decider(memory=memory).memory is memory


# --- Several changes at once

FAR_CRATE = ("far crate", block(11, 11, 2, 2))


def test_an_event_does_not_swallow_another_change_that_is_still_under_way() -> None:
    # Given a truck and, far from it, a crate on which somebody is still at work
    scene, watch = watching()
    busy = [("busy " + str(number), block(10, 11, 1, 2)) for number in range(8)]
    watch.see(*(scene.look(TRUCK, FAR_CRATE, at_work) for at_work in busy))
    # When he leaves and both stay
    watch.see(*(scene.look(TRUCK, FAR_CRATE) for _ in range(12)))
    # Then each has its event: the truck's did not take the unfinished crate into the memory
    first, second = (judgement for judgement in watch.judgements if judgement.change)
    assert regions_of(first) == set(TRUCK[1])
    assert regions_of(second) == set(FAR_CRATE[1])


def test_what_settles_right_after_an_event_close_to_it_is_the_same_change() -> None:
    # Given a truck that came, and two samples later something beside it, one region away
    scene, watch = watching()
    load = ("load", block(4, 8, 3, 2))
    watch.see(*(scene.look(TRUCK) for _ in range(2)))
    # When both stay
    watch.see(*(scene.look(TRUCK, load) for _ in range(20)))
    # Then one event is enough: its picture shows both
    assert len(watch.event_times_s) == 1
    # And a return to it stays silent
    watch.see(*(scene.look() for _ in range(10)))
    watch.see(*(scene.look(TRUCK, load) for _ in range(10)))
    assert len(watch.event_times_s) == 1


def test_people_who_keep_passing_a_new_thing_do_not_hold_up_its_event_for_ever() -> None:
    # Given a truck that came, and somebody always at its side
    scene, watch = watching()
    beside = [(f"passer {number}", block(7, 4, 1, 2)) for number in range(30)]
    # When that goes on for 30 samples
    watch.see(*(scene.look(TRUCK, passer) for passer in beside))
    # Then the truck waits, but no longer than two and a half times the six samples that confirm it
    assert len(watch.event_times_s) == 1
    assert 10 + 6 < watch.event_times_s[0] <= 10 + 2.5 * 6
    # And the event names the truck, not who passes
    (event,) = (judgement for judgement in watch.judgements if judgement.change)
    assert regions_of(event) == set(TRUCK[1])


def test_the_state_before_is_the_one_that_the_new_one_grew_out_of() -> None:
    # Given a yard, then a truck in it, learned while people moved about elsewhere
    scene, watch = watching()
    busy = [("busy " + str(number), block(10, 0, 4, 14)) for number in range(8)]
    watch.see(*(scene.look(TRUCK, somebody) for somebody in busy))
    # When a crate comes too
    watch.see(*(scene.look(TRUCK, CRATE) for _ in range(10)))
    first, second = (judgement.change for judgement in watch.judgements if judgement.change)
    # Then the picture before shows the truck, although that state knows nothing of where people moved
    assert first is not None
    assert second is not None
    assert second.before == first.after
