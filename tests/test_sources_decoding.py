from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamwatch.sampling import Sampler
from streamwatch.sources.base import DueTimes
from streamwatch.sources.decoding import Action, DecodeOption, DecodePolicy, key_intervals_fit


def packets(*, until_s: float, gop_s: float, start_s: float = 0.0, fps: int = 10) -> list[tuple[float, bool]]:
    """(seconds, is key) at ten frames a second."""
    gop = round(gop_s * fps)
    return [(start_s + index / fps, index % gop == 0) for index in range(round((until_s - start_s) * fps))]


def play(policy: DecodePolicy, steps: list[tuple[float, bool]]) -> list[Action]:
    return [policy.step(time_s, is_key=is_key) for time_s, is_key in steps]


def test_a_live_stream_is_decoded_in_full_until_its_key_interval_is_known() -> None:
    # Given a live camera with a key frame every 2 s
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="all")
    # When it plays
    actions = play(policy, packets(until_s=6, gop_s=2))
    # Then all is decoded up to the second key frame, and key frames only from there
    assert set(actions[:20]) == {Action.FEED}
    assert [index for index, action in enumerate(actions) if action is Action.ALONE] == [20, 40]
    assert set(actions[21:40]) == {Action.SKIP}


def test_key_frames_that_come_too_seldom_are_not_relied_on() -> None:
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="all")
    assert set(play(policy, packets(until_s=60, gop_s=2.1))) == {Action.FEED}


def test_a_key_interval_that_wanders_by_a_frame_still_counts() -> None:
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="all")
    play(policy, [(0.0, True), (2.03, True)])
    assert policy.mode == "keyframes"


def test_parameter_sets_marked_as_key_frames_prove_nothing() -> None:
    # Given a camera whose key frames, 10 s apart, come as two packets each
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="all")
    steps = [
        step for key_s in range(0, 60, 10) for step in ((key_s, True), (key_s + 0.001, True), (key_s + 5.0, False))
    ]
    # When / Then
    assert set(play(policy, steps)) == {Action.FEED}


def test_when_key_frames_stop_coming_everything_since_the_last_is_decoded() -> None:
    # Given key frames only, as looking ahead has found
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="keyframes")
    play(policy, packets(until_s=4.1, gop_s=2))
    # When no key frame comes any more
    actions = play(policy, [(4.1 + index / 10, False) for index in range(60)])
    # Then after one and a half periods without, the decoder catches up and goes on in full
    assert actions.index(Action.CATCH_UP) == 30
    assert set(actions[:30]) == {Action.SKIP}
    assert set(actions[31:]) == {Action.FEED}
    assert policy.mode == "all"


def test_after_a_disappointment_key_frames_have_to_prove_themselves_for_longer() -> None:
    # Given a camera that went from 2 s to no key frames
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="keyframes")
    play(policy, packets(until_s=4.1, gop_s=2))
    play(policy, [(4.1 + index / 10, False) for index in range(60)])
    # When they come back
    actions = play(policy, packets(start_s=12, until_s=20, gop_s=2))
    # Then one interval is no longer enough
    assert actions.index(Action.ALONE) == 40


def test_streams_without_real_key_frames_are_decoded_in_full_for_good() -> None:
    # Given a camera whose key packets hold no picture of their own
    policy = DecodePolicy(every_s=2.0, decode="auto", starts_with="keyframes")
    # When that is noticed
    policy.key_frames_are_empty()
    # Then they are never relied on again
    assert set(play(policy, packets(until_s=60, gop_s=1))) == {Action.FEED}


@pytest.mark.parametrize(("decode", "expected"), [("all", {Action.FEED}), ("keyframes", {Action.ALONE, Action.SKIP})])
def test_what_the_user_asks_for_is_never_changed(decode: DecodeOption, expected: set[Action]) -> None:
    policy = DecodePolicy(every_s=2.0, decode=decode, starts_with="all")
    assert set(play(policy, packets(until_s=100, gop_s=20) + packets(start_s=100, until_s=200, gop_s=0.5))) == expected


@pytest.mark.parametrize(
    ("steps", "fits"),
    [
        (packets(until_s=30, gop_s=2), True),
        (packets(until_s=30, gop_s=0.1), True),
        (packets(until_s=30, gop_s=2.2), False),
        (packets(until_s=30, gop_s=100), False),
        (packets(until_s=1, gop_s=100), True),
        (packets(until_s=10, gop_s=2) + [(10 + index / 10, False) for index in range(50)], False),
        ([(index / 10, False) for index in range(50)], False),
        ([(0.0, False), (5.0, True)], False),
        ([], False),
    ],
)
def test_looking_ahead_accepts_only_files_all_of_whose_intervals_fit(
    steps: list[tuple[float, bool]], fits: bool
) -> None:
    assert key_intervals_fit(steps, every_s=2.0) is fits


@given(share=st.floats(min_value=0.01, max_value=1.0))
def test_decoding_only_what_is_due_loses_the_sampler_nothing(share: float) -> None:
    # Given pictures at an even distance, and the sampler that would choose among all of them
    times_s = [index * 2.0 * share for index in range(300)]
    direct = Sampler(2.0)
    expected_s = [time_s for time_s in times_s if direct.take(time_s)]
    # When only those that are due are decoded, and a sampler sees only these
    due, sampler = DueTimes(2.0), Sampler(2.0)
    decoded_s = [time_s for time_s in times_s if due.wants(time_s)]
    # Then it takes the same ones, and hardly any was decoded for nothing
    assert [time_s for time_s in decoded_s if sampler.take(time_s)] == expected_s
    assert len(decoded_s) <= len(expected_s) + 1


def test_a_picture_that_could_not_be_decoded_is_replaced_by_the_next() -> None:
    # Given a due picture that gave nothing
    due = DueTimes(2.0)
    assert [due.wants(time_s) for time_s in (0.0, 0.5, 1.0, 1.5, 2.0)] == [True, False, False, False, True]
    due.missed()
    # When / Then
    assert [due.wants(time_s) for time_s in (2.5, 3.0, 3.5, 4.0)] == [True, False, False, True]
