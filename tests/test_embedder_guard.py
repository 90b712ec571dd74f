"""The embedder's guard: memory that runs short for real, errors, a network that is built anew, and the limits of it."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamwatch.daemon.embedder_guard import GuardedEmbedder
from streamwatch.embedding import Embedder, load_embedder
from streamwatch.embedding.out_of_memory import is_out_of_memory, uses_gpu
from streamwatch.errors import EmbedderFailed, WeightsError, WeightsMismatch
from streamwatch.imaging import ArrayPicture
from streamwatch.metrics import Metrics
from streamwatch.records import Picture
from tests.builders import BLUE, IDENTITY, RED, ColourEmbedder, picture

PICTURES = [ArrayPicture(picture((RED, 20 * number, 48), (BLUE, 100, 15 * number))) for number in range(8)]


def run_out_of_memory() -> None:
    """For real, of the CPU's: an exbibyte."""
    torch.empty(1 << 60)


class Small(ColourEmbedder):
    """Has memory for so many pictures at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.asked: list[int] = []

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        self.asked.append(len(pictures))
        if len(pictures) > self.room:
            run_out_of_memory()
        return super().embed(pictures)


class Failing(ColourEmbedder):
    """Works so many times, then never again."""

    def __init__(self, works: int = 0, *, error: Callable[[], Exception] = lambda: RuntimeError("device lost")) -> None:
        super().__init__()
        self.works, self._error = works, error

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        if not self.works:
            raise self._error()
        self.works -= 1
        return super().embed(pictures)


class Bench:
    """A guard, and what it has built."""

    def __init__(self, first: Embedder, *later: Embedder, on_cpu: Sequence[Embedder] | None = None) -> None:
        self.metrics = Metrics()
        self.left, self.left_on_cpu = list(later), list(on_cpu or [])
        self.guard = GuardedEmbedder(
            first,
            rebuild=lambda: self.left.pop(0),
            rebuild_on_cpu=None if on_cpu is None else lambda: self.left_on_cpu.pop(0),
            metrics=self.metrics,
        )

    def fallbacks(self) -> dict[str, float]:
        names = ("batch", "cpu", "rebuilt")
        read = self.metrics.registry.get_sample_value
        return {name: read("streamwatch_embedder_fallbacks_total", {"to": name}) or 0 for name in names}

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


def expected(pictures: Sequence[Picture] = PICTURES) -> NDArray[np.float32]:
    return ColourEmbedder().embed(pictures)


def caught(action: Callable[[], Any]) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def test_memory_errors_are_told_from_others() -> None:
    assert is_out_of_memory(caught(run_out_of_memory))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(caught(lambda: bytearray(1 << 62)))
    assert not is_out_of_memory(caught(lambda: torch.zeros(2) @ torch.zeros(3)))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
    assert not uses_gpu(ColourEmbedder())


def test_a_network_that_works_is_left_alone() -> None:
    bench = Bench(ColourEmbedder())
    assert bench.guard.identity == IDENTITY
    assert bench.guard.batch_size == 8
    np.testing.assert_array_equal(bench.guard.embed(PICTURES), expected())
    assert bench.guard.embed([]).shape == (0, 196, 4)
    assert set(bench.fallbacks().values()) == {0}
    assert bench.value("streamwatch_embedder_batch_size") == 8


def test_out_of_memory_halves_the_batch_until_it_fits_and_remembers_that() -> None:
    # Given a network with room for three pictures
    small = Small(3)
    bench = Bench(small)
    # When it is given eight
    vectors = bench.guard.embed(PICTURES)
    # Then all are embedded, in parts of two
    np.testing.assert_array_equal(vectors, expected())
    assert small.asked == [8, 4, 2, 2, 2, 2]
    assert bench.fallbacks() == {"batch": 2, "cpu": 0, "rebuilt": 0}
    # and the next ones too, at once
    small.asked.clear()
    bench.guard.embed(PICTURES)
    assert small.asked == [2, 2, 2, 2]
    assert bench.value("streamwatch_embedder_batch_size") == 2
    assert bench.guard.batch_size == 8


def test_a_gpu_without_room_for_one_picture_gives_way_to_the_cpu() -> None:
    # Given a network on a GPU that others have filled up
    bench = Bench(Small(0), on_cpu=[ColourEmbedder()])
    # When pictures come
    vectors = bench.guard.embed(PICTURES)
    # Then they are embedded all the same, and that is seen
    np.testing.assert_array_equal(vectors, expected())
    assert bench.fallbacks() == {"batch": 3, "cpu": 1, "rebuilt": 0}
    assert bench.value("streamwatch_embedder_degraded") == 1
    assert bench.value("streamwatch_embedder_batch_size") == 8


def test_a_network_that_died_is_built_anew_and_given_the_same_pictures() -> None:
    # Given a network that works twice, and then its device is lost
    bench = Bench(Failing(2), ColourEmbedder())
    # When three batches come, then none is lost or wrong
    for _ in range(3):
        np.testing.assert_array_equal(bench.guard.embed(PICTURES), expected())
    assert bench.fallbacks() == {"batch": 0, "cpu": 0, "rebuilt": 1}


def test_vectors_of_another_shape_are_never_passed_on() -> None:
    class Odd(ColourEmbedder):
        def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
            return super().embed(pictures)[:, :, :2]

    bench = Bench(Odd(), ColourEmbedder())
    np.testing.assert_array_equal(bench.guard.embed(PICTURES), expected())
    assert bench.fallbacks()["rebuilt"] == 1


def test_three_failures_in_a_row_are_enough() -> None:
    # Given networks of which none works
    bench = Bench(Failing(), Failing(), Failing(), ColourEmbedder())
    # When pictures come, then the third failure is the last, with an exit code that systemd restarts
    with pytest.raises(
        EmbedderFailed, match="3 times in a row, also when built anew: RuntimeError: device lost"
    ) as told:
        bench.guard.embed(PICTURES)
    assert told.value.exit_code == WeightsError.exit_code == 4


def test_failures_that_are_far_apart_do_not_add_up() -> None:
    bench = Bench(*[Failing(1) for _ in range(10)])
    for _ in range(9):
        np.testing.assert_array_equal(bench.guard.embed(PICTURES), expected())
    assert bench.fallbacks()["rebuilt"] == 8


def test_a_network_that_cannot_be_built_again_counts_as_failing() -> None:
    bench = Bench(Failing())
    with pytest.raises(EmbedderFailed, match="3 times in a row"):
        bench.guard.embed(PICTURES)


def test_other_weights_than_at_the_start_are_refused() -> None:
    # Given a weights file that was replaced meanwhile
    bench = Bench(Failing(), ColourEmbedder(replace(IDENTITY, weights_id="sha256:ffffffffffffffff")))
    # When the network has to be built anew, then its vectors are not mixed with the old ones
    with pytest.raises(WeightsMismatch, match="the weights file has changed"):
        bench.guard.embed(PICTURES)


def test_nothing_holds_on_to_a_network_that_failed() -> None:
    # Given a network that fills memory and fails
    failing = Failing()
    gone = weakref.ref(failing)
    built: list[bool] = []

    def rebuild() -> Embedder:
        gc.collect()
        built.append(gone() is None)
        return ColourEmbedder()

    guard = GuardedEmbedder(failing, rebuild=rebuild, rebuild_on_cpu=None, metrics=Metrics())
    del failing
    # When it is built anew, then the old one is gone before that: there may be no room for two
    guard.embed(PICTURES)
    assert built == [True]


def test_the_real_network_is_built_anew_within_ten_seconds_and_gives_the_same_vectors() -> None:
    # Given the embedded network, whose first layer was lost
    def build() -> Embedder:
        return load_embedder(network="lite0", device="cpu")

    real: Any = build()
    wanted = real.embed(PICTURES)
    guard = GuardedEmbedder(real, rebuild=build, rebuild_on_cpu=None, metrics=Metrics())
    real._module = torch.nn.Conv2d(7, 1, 1)
    # When pictures come
    started_s = time.monotonic()
    found = guard.embed(PICTURES)
    # Then their vectors are as before
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # and it took seconds; four times the promise on a machine that does other things too
    assert time.monotonic() - started_s < 40
