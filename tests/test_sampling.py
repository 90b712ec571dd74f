from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamwatch.sampling import Sampler

PERIODS = st.floats(min_value=0.05, max_value=600)


def taken(every_s: float, times_s: list[float]) -> list[float]:
    sampler = Sampler(every_s)
    return [time_s for time_s in times_s if sampler.take(time_s)]


def rising(gaps_s: list[float]) -> list[float]:
    times_s = [0.0]
    for gap_s in gaps_s:
        times_s.append(times_s[-1] + gap_s)
    return times_s


@given(every_s=PERIODS, share=st.floats(min_value=0.01, max_value=1.0), start_s=st.floats(min_value=0, max_value=1e5))
def test_of_evenly_spaced_frames_the_nearest_to_each_due_time_is_taken(
    every_s: float, share: float, start_s: float
) -> None:
    # Given frames at an even distance, no longer than the period
    spacing_s = every_s * share
    times_s = [start_s + index * spacing_s for index in range(200)]
    # When they are sampled
    samples_s = taken(every_s, times_s)
    # Then there is one for each due time, at most half a frame away
    due_s = [start_s + slot * every_s for slot in range(len(samples_s))]
    assert all(
        abs(sample_s - at_s) <= spacing_s / 2 + 1e-6 * every_s + 1e-9 * start_s
        for sample_s, at_s in zip(samples_s, due_s, strict=True)
    )
    assert len(samples_s) >= math.floor((times_s[-1] - start_s) / every_s)


@given(every_s=PERIODS, gaps=st.lists(st.floats(min_value=1e-3, max_value=20), max_size=200))
def test_whatever_the_frame_rate_there_are_never_more_samples_than_due_times(every_s: float, gaps: list[float]) -> None:
    # Given frames at any rising times, gaps of many periods among them
    times_s = rising([gap * every_s for gap in gaps])
    # When they are sampled
    samples_s = taken(every_s, times_s)
    # Then the first is among them, and there are no more than due times, the last of which may come half a period early
    assert samples_s[0] == 0.0
    assert len(samples_s) <= (times_s[-1] + every_s / 2) / every_s + 1 + 1e-6
    # And of three in a row, none of the due times is served twice
    for first_s, third_s in zip(samples_s, samples_s[2:], strict=False):
        assert third_s - first_s >= 0.5 * every_s * (1 - 1e-6)


@given(every_s=PERIODS, gaps=st.lists(st.floats(min_value=1e-3, max_value=20), min_size=1, max_size=100))
def test_no_stretch_of_frames_goes_unsampled_for_two_periods(every_s: float, gaps: list[float]) -> None:
    # Given frames at any rising times
    times_s = rising([gap * every_s for gap in gaps])
    samples_s = set(taken(every_s, times_s))
    # When a frame comes two periods or more after the last sample
    last_s = 0.0
    for time_s in times_s:
        # Then it is taken
        if time_s - last_s >= 2 * every_s:
            assert time_s in samples_s
        if time_s in samples_s:
            last_s = time_s


def test_a_key_frame_that_comes_a_little_early_counts() -> None:
    # Given key frames every 1.99 s and a period of 2 s
    times_s = [index * 1.99 for index in range(20)]
    # When / Then all are samples, until they have run ahead by half a period
    assert taken(2.0, times_s) == times_s


def test_a_gap_takes_its_due_times_with_it() -> None:
    # Given 25 frames a second, and 20 s without any
    before_s = [index / 25 for index in range(100)]
    after_s = [25.1 + index / 25 for index in range(100)]
    # When they are sampled every 2 s
    samples_s = taken(2.0, before_s + after_s)
    # Then the first frame after the gap is taken, and the next at the next due time
    assert samples_s[:2] == [0.0, 2.0]
    assert samples_s[2:] == pytest.approx([25.1, 26.0, 28.0], abs=0.021)


def test_time_that_goes_backwards_begins_a_new_grid() -> None:
    # Given a stream that begins anew at 0.5 s
    sampler = Sampler(1.0)
    assert [sampler.take(time_s) for time_s in (10.0, 10.5, 11.0)] == [True, False, True]
    # When / Then its first frame is taken, and the grid counts from there
    assert [sampler.take(time_s) for time_s in (0.5, 0.7, 1.0, 1.5, 2.0, 2.5)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_a_repeated_time_stamp_is_no_second_sample() -> None:
    # Given / When / Then
    assert taken(1.0, [0.0, 0.0, 0.5, 1.0, 1.0, 2.0]) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("every_s", [0.0, -1.0, math.nan, math.inf])
def test_a_period_must_be_a_time(every_s: float) -> None:
    with pytest.raises(ValueError, match="every_s"):
        Sampler(every_s)


def test_a_time_stamp_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="pts_s"):
        Sampler(1.0).take(math.nan)
