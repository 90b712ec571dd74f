"""From the configuration to the decision's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamwatch.assembly import change_settings, new_memory
from streamwatch.config import ChangeConfig
from streamwatch.embedding import EmbedderIdentity
from streamwatch.embedding.networks import LITE0_BLOCKS_4_2_THRESHOLD
from streamwatch.errors import UsageError
from streamwatch.records import Grid
from tests.builders import IDENTITY, unit

FRAME = replace(IDENTITY, grid=Grid(1, 1))
FC7 = EmbedderIdentity(
    network="vgg16",
    layer="fc7",
    weights_id="sha256:0",
    fit="squash",
    unit_length=False,
    grid=Grid(1, 1),
    dimensions=4096,
)


def change(**keys: Any) -> ChangeConfig:
    return ChangeConfig.model_validate(keys)


def test_without_a_threshold_the_layers_own_is_taken_for_vectors_that_it_was_measured_on() -> None:
    assert change_settings(change(), IDENTITY).threshold == LITE0_BLOCKS_4_2_THRESHOLD
    assert change_settings(change(threshold=0.3), IDENTITY).threshold == 0.3


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (FRAME, "lite0 blocks.4.2 with 1×1 regions:"),
        (replace(IDENTITY, unit_length=False), "14×14 regions of raw vectors:"),
        (FC7, "vgg16 fc7 with 1×1 regions of raw vectors:"),
    ],
)
def test_vectors_that_no_threshold_was_measured_on_need_one(identity: EmbedderIdentity, words: str) -> None:
    for build in (change_settings, new_memory):
        with pytest.raises(UsageError) as caught:
            build(change(), identity)
        assert words in str(caught.value)
        assert "change.threshold" in str(caught.value)
        assert "--threshold" in str(caught.value)
    assert change_settings(change(threshold=2000), identity).threshold == 2000


def test_the_keys_of_the_configuration_become_the_settings() -> None:
    settings = change_settings(
        change(confirm=4, cooldown="5m", announce_first=True, remember="recent", recent=9), IDENTITY
    )
    assert (settings.confirm_samples, settings.confirm_s) == (4, None)
    assert (settings.cooldown_s, settings.announce_first) == (300, True)
    assert (settings.remember, settings.recent) == ("recent", 9)
    assert change_settings(change(confirm="30s"), IDENTITY).confirm_s == 30


def test_the_papers_way_is_one_region_the_last_sample_and_recent_frames() -> None:
    settings = change_settings(change(method="paper", threshold=1500), FC7)
    assert (settings.confirm_samples, settings.remember, settings.min_regions) == (1, "recent", 1)


def test_a_memory_holds_what_is_compared() -> None:
    assert new_memory(change(max_states=70, recent=5), IDENTITY).max_states == 70
    recent = new_memory(change(max_states=70, remember="recent", recent=5), IDENTITY)
    assert (recent.max_states, recent.regions, recent.dimensions) == (5, 196, 4)


@pytest.mark.parametrize("threshold", [0.002, 0.6, 900.0])
def test_what_is_new_by_any_threshold_is_known_once_it_is_remembered(threshold: float) -> None:
    # Given a state, and one that is just beyond the threshold from it
    memory = new_memory(change(threshold=threshold), IDENTITY)
    known = np.ones(196, dtype=np.bool_)
    first = unit(np.ones((196, 4))) * 2
    second = (first + np.sqrt(1.1 * threshold) * unit(np.tile([1.0, -1, 1, -1], (196, 1)))).astype(np.float32)
    memory.add(first, id="a", known=known, made_s=0)
    assert memory.distances(second).min() > threshold
    # When it is remembered too, then it is no longer new
    memory.add(second, id="b", known=known, made_s=1)
    assert memory.distances(second).min(axis=0).max() < 0.1 * threshold


def test_recent_frames_are_kept_as_they_were_and_raw_numbers_in_single_precision() -> None:
    # Given raw vectors that differ little for their threshold, with numbers past half precision
    memory = new_memory(change(threshold=2000, remember="recent"), FC7)
    known = np.ones(1, dtype=np.bool_)
    vectors = np.full((1, 4096), 70_000, dtype=np.float32)
    # When two are remembered, then neither stands for the other, and nothing is infinite
    for step in range(2):
        vectors[0, 0] += step
        memory.add(vectors, id=str(step), known=known, made_s=step)
    assert memory.distances(vectors).tolist() == [[1], [0]]
    # And states of the same vectors share them
    states = new_memory(change(threshold=2000), FC7)
    assert states.epsilon_sq == 40
    assert states.dtype == np.float32
    assert new_memory(change(), IDENTITY).dtype == np.float16
