"""The memory: what dedupe costs, who leaves, what is restored."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamwatch.change.distances import squared_distances
from streamwatch.change.memory import ABSENT, Memory
from tests.builders import unit

REGIONS, DIMENSIONS = 9, 16
ALL = np.ones(REGIONS, dtype=np.bool_)
NONE = np.zeros(REGIONS, dtype=np.bool_)


def memory(*, max_states: int = 100, epsilon_sq: float = 0.02) -> Memory:
    return Memory(regions=REGIONS, dimensions=DIMENSIONS, max_states=max_states, epsilon_sq=epsilon_sq)


def looks(seed: int) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).normal(size=(REGIONS, DIMENSIONS)))


def near(vectors: NDArray[np.float32], seed: int, distance: float) -> NDArray[np.float32]:
    """Vectors about this far away."""
    step = unit(np.random.default_rng(seed).normal(size=vectors.shape)) * distance
    return np.asarray(vectors + step, dtype=np.float32)


def remember(into: Memory, *seeds: int) -> None:
    for seed in seeds:
        into.add(looks(seed), id=f"s{seed}", known=ALL, made_s=float(seed))


def set_verdict(of: Memory, id: str, verdict: str) -> None:
    states = [replace(state, verdict=verdict) if state.id == id else state for state in of.states]
    of.restore(of.vectors, of.vector_regions, states)


def ids(of: Memory) -> list[str]:
    return [state.id for state in of.states]


def test_an_empty_memory_has_distances_to_nothing() -> None:
    assert memory().distances(looks(1)).shape == (0, REGIONS)


def test_distances_to_remembered_states_are_exact_but_for_half_precision() -> None:
    # Given five different states
    held = memory()
    remember(held, *range(5))
    # When a sample is measured
    sample = looks(99)
    # Then each distance is right to the rounding of numbers of 11 bits
    expected = np.stack([squared_distances(sample, looks(seed)) for seed in range(5)])
    assert np.abs(held.distances(sample) - expected).max() < 0.004


@given(st.integers(0, 2**31), st.floats(0.0, 0.5))
def test_dedupe_moves_no_distance_by_more_than_its_epsilon_allows(seed: int, apart: float) -> None:
    # Given a state, and a second one that may be near enough to share its vectors
    held = memory(epsilon_sq=0.02)
    first = looks(seed)
    second = near(first, seed + 1, apart)
    held.add(first, id="a", known=ALL, made_s=0)
    held.add(second, id="b", known=ALL, made_s=1)
    # When a sample is measured, then lengths (roots of the squares) are off by at most √ε and rounding
    sample = looks(seed + 2)
    measured, true = np.sqrt(held.distances(sample)[1]), np.sqrt(squared_distances(sample, second))
    assert np.abs(measured - true).max() <= np.sqrt(0.02) + 0.003


def test_distances_in_blocks_are_those_of_the_whole_memory_and_widen_no_more_than_a_block() -> None:
    # Given 60 states of which no two look alike, 6 MB in half precision
    regions, dimensions = 100, 512
    rng = np.random.default_rng(3)
    held = Memory(regions=regions, dimensions=dimensions, max_states=60)
    looks_then = unit(rng.normal(size=(60, regions, dimensions)))
    for number, vectors in enumerate(looks_then):
        held.add(vectors, id=str(number), known=np.ones(regions, dtype=np.bool_), made_s=number)
    sample = unit(rng.normal(size=(regions, dimensions)))
    # When a sample is measured
    tracemalloc.start()
    measured = held.distances(sample)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Then every distance is right, and what that took is a part of the memory
    expected = ((looks_then.astype(np.float16).astype(np.float64) - sample) ** 2).sum(axis=2)
    assert np.abs(measured - expected).max() < 1e-5
    assert peak_bytes < 4 << 20 < held.vectors.nbytes


def test_numbers_past_half_precision_are_kept_in_single_and_refused_in_half() -> None:
    # Given raw vectors with numbers that half precision does not hold
    raw = looks(1)
    raw[0, 0] = 70_000
    # When they join a memory of single precision, then they are known as they were, after a restart too
    single = Memory(regions=REGIONS, dimensions=DIMENSIONS, max_states=3, dtype=np.float32)
    single.add(raw, id="a", known=ALL, made_s=0)
    again = Memory(regions=REGIONS, dimensions=DIMENSIONS, max_states=3, dtype=np.float32)
    again.restore(single.vectors, single.vector_regions, single.states)
    assert (again.distances(raw) == 0).all()
    # And one of half precision takes neither them nor what is no number
    for wrong in (70_000, np.inf, np.nan):
        raw[0, 0] = wrong
        with pytest.raises(ValueError, match="float16 holds numbers up to 65504"):
            memory().add(raw, id="a", known=ALL, made_s=0)


def test_states_that_differ_in_one_region_share_all_other_vectors() -> None:
    # Given a state, and 50 more that differ in region 4 only
    held = memory()
    base = looks(0)
    held.add(base, id="base", known=ALL, made_s=0)
    for seed in range(1, 51):
        vectors = base.copy()
        vectors[4] = looks(seed)[4]
        held.add(vectors, id=f"s{seed}", known=ALL, made_s=seed)
    # When the stored vectors are counted, then there is one for each difference
    assert len(held.vectors) == REGIONS + 50
    assert (held.vector_regions == 4).sum() == 51


def test_a_state_refers_to_the_nearest_of_several_stored_vectors() -> None:
    # Given two stored looks of every region, 0.2 apart, and a third between them, nearer to the second
    held = memory(epsilon_sq=0.02)
    first = looks(0)
    second = near(first, 1, 0.2)
    held.add(first, id="a", known=ALL, made_s=0)
    held.add(second, id="b", known=ALL, made_s=1)
    third = np.asarray(first + 0.7 * (second - first), dtype=np.float32)
    # When it is added, then it shares the second's rows
    held.add(third, id="c", known=ALL, made_s=2)
    assert (held.states[2].rows == held.states[1].rows).all()


def test_the_least_recently_matched_pending_state_leaves_first() -> None:
    # Given a full memory of three, where the oldest was matched again
    held = memory(max_states=3)
    remember(held, 1, 2, 3)
    held.touch(0)
    # When one more comes
    leaving = held.add(looks(4), id="s4", known=ALL, made_s=4)
    # Then the one that was matched longest ago has left
    assert leaving is not None
    assert leaving.id == "s2"
    assert ids(held) == ["s1", "s3", "s4"]


def test_a_labelled_state_stays_while_a_pending_one_can_leave() -> None:
    # Given a full memory whose oldest states are labelled or not needed
    held = memory(max_states=3)
    remember(held, 1, 2, 3)
    set_verdict(held, "s1", "labelled")
    set_verdict(held, "s2", "not_needed")
    # When one more comes, then the newer pending one leaves, never the one that has just come
    leaving = held.add(looks(4), id="s4", known=ALL, made_s=4)
    assert leaving is not None
    assert leaving.id == "s3"


def test_a_memory_full_of_labelled_states_still_takes_new_ones() -> None:
    held = memory(max_states=2)
    remember(held, 1, 2)
    set_verdict(held, "s1", "labelled")
    set_verdict(held, "s2", "labelled")
    held.add(looks(3), id="s3", known=ALL, made_s=3)
    assert ids(held) == ["s2", "s3"]


def test_a_memory_of_one_state_keeps_the_newest() -> None:
    held = memory(max_states=1)
    remember(held, 1, 2, 3)
    assert ids(held) == ["s3"]
    assert len(held.vectors) == REGIONS


def test_vectors_leave_with_their_last_state_so_thousands_of_states_do_not_leak() -> None:
    # Given a memory of 20 states
    held = memory(max_states=20)
    # When 10,000 different ones pass through it
    for number in range(10_000):
        held.add(looks(number), id=f"s{number}", known=ALL, made_s=number)
        assert len(held.vectors) <= 21 * REGIONS
    # Then only the last 20 are there, and what they look like is still right
    assert ids(held) == [f"s{number}" for number in range(9_980, 10_000)]
    assert held.distances(looks(9_990))[10].max() < 0.001
    assert held.distances(looks(9_990))[11].max() > 0.5


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40))
def test_whatever_is_added_and_removed_every_row_is_used_and_belongs_to_its_region(
    steps: list[tuple[int, bool]],
) -> None:
    # Given a memory of five
    held = memory(max_states=5)
    # When states come and go in any order
    for number, (seed, removal) in enumerate(steps):
        if removal:
            held.remove(f"s{number - 1}")
        else:
            held.add(looks(seed), id=f"s{number}", known=looks(seed)[:, 0] > 0, made_s=number)
    # Then no vector is without a state, and no state looks at another region's vector
    rows = [state.rows for state in held.states]
    used = {int(row) for of_state in rows for row in of_state if row != ABSENT}
    assert used == set(range(len(held.vectors)))
    for of_state in rows:
        for region in np.flatnonzero(of_state != ABSENT):
            assert held.vector_regions[of_state[region]] == region


def test_regions_that_a_state_does_not_know_are_infinitely_far() -> None:
    # Given a state that knows the first three regions only
    held = memory()
    known = NONE.copy()
    known[:3] = True
    held.add(looks(1), id="s1", known=known, made_s=0)
    # When a sample is measured, then only those have a distance
    distances = held.distances(looks(2))[0]
    assert np.isfinite(distances).tolist() == known.tolist()
    assert held.known_regions().tolist() == known.tolist()
    assert len(held.vectors) == 3


def test_a_state_learns_what_it_did_not_know_and_keeps_what_it_did() -> None:
    # Given a state that knows the first three regions only
    held = memory()
    known = NONE.copy()
    known[:3] = True
    held.add(looks(1), id="s1", known=known, made_s=0)
    # When it is told what all regions look like in another sample
    held.learn(0, looks(2), regions=ALL)
    # Then the three are as they were, and the others are as in that sample
    distances = held.distances(looks(2))[0]
    assert distances[:3].min() > 0.3
    assert distances[3:].max() < 0.001
    assert held.known_regions().all()


def test_removing_a_state_that_is_not_there_changes_nothing() -> None:
    held = memory()
    remember(held, 1, 2)
    held.remove("nobody")
    assert ids(held) == ["s1", "s2"]
    assert len(held.vectors) == 2 * REGIONS


def test_a_restored_memory_measures_forgets_and_counts_as_the_one_that_was_saved() -> None:
    # Given a memory with matches behind it, and another filled from it
    held = memory(max_states=4)
    remember(held, 1, 2, 3, 4)
    held.touch(0)
    other = memory(max_states=4)
    other.restore(held.vectors, held.vector_regions, held.states)
    # When both are measured and get one more state
    assert (other.distances(looks(9)) == held.distances(looks(9))).all()
    other.touch(1)
    held.touch(1)
    first, second = (each.add(looks(5), id="s5", known=ALL, made_s=5) for each in (held, other))
    # Then the same state leaves
    assert first is not None
    assert second is not None
    assert first.id == second.id == "s3"


def test_a_memory_restored_into_a_smaller_one_keeps_those_matched_last() -> None:
    # Given five states, the first of them matched again, and a limit that was lowered to two
    held = memory()
    remember(held, 1, 2, 3, 4, 5)
    held.touch(0)
    smaller = memory(max_states=2)
    # When they are restored, then the limit holds at once
    smaller.restore(held.vectors, held.vector_regions, held.states)
    assert ids(smaller) == ["s1", "s5"]
    assert len(smaller.vectors) == 2 * REGIONS


def test_a_memory_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_states is 0"):
        memory(max_states=0)
