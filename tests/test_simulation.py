from __future__ import annotations

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamwatch.errors import OutputError, UsageError
from streamwatch.records import RGB, Box
from streamwatch.simulation import (
    LastingObject,
    Light,
    Scenario,
    Stay,
    VehiclePass,
    Walker,
    YardScene,
    default_scenario,
    random_scenario,
    write_clip,
)
from streamwatch.simulation.__main__ import main
from streamwatch.simulation.geometry import Projection, shifted
from streamwatch.simulation.motion import deliveries, vehicle_at, walker_at
from streamwatch.simulation.scenario import CARRIERS, VEHICLES


class Size(TypedDict):
    """Of a scene that draws fast."""

    width: int
    height: int


SMALL = Size(width=320, height=180)
EMPTY = Scenario(duration_s=4.0)
ONE_OF_EACH = [
    LastingObject(name=kind, kind=kind, x_m=0.5, z_m=13.0, stays=(Stay(arrives_s=10.0),)) for kind in sorted(CARRIERS)
]


@pytest.fixture(scope="module")
def yard() -> YardScene:
    return YardScene(**SMALL)


def inside(picture: NDArray[Any], box: Box) -> NDArray[Any]:
    height, width = picture.shape[:2]
    rows = slice(round(box.y * height), round((box.y + box.height) * height))
    return picture[rows, round(box.x * width) : round((box.x + box.width) * width)]


def difference(a: RGB, b: RGB) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.abs(a.astype(np.float64) - b.astype(np.float64)).mean(axis=2)
    return distance


def test_a_frame_has_the_size_and_type_asked_for(yard: YardScene) -> None:
    picture = yard.render(3.0)
    assert picture.shape == (180, 320, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 20  # neither empty nor flat


def test_equal_seeds_give_equal_bytes_in_whatever_order_frames_are_asked_for() -> None:
    # Given two scenes with the same settings
    one, other = YardScene(seed=5, **SMALL), YardScene(seed=5, **SMALL)
    times = [0.0, 24.0, 30.3, 61.0, 99.0]
    # When one is rendered forwards and the other backwards
    forwards = {t: one.render(t) for t in times}
    backwards = {t: other.render(t) for t in reversed(times)}
    # Then each pair of frames is the same, byte by byte
    for t in times:
        assert forwards[t].tobytes() == backwards[t].tobytes(), t


def test_a_caller_may_change_the_frame_it_got(yard: YardScene) -> None:
    first = yard.render(1.0)
    untouched = first.copy()
    first[:] = 0
    assert np.array_equal(yard.render(1.0), untouched)


def test_other_seeds_give_another_yard() -> None:
    a, b = (YardScene(seed=seed, scenario=EMPTY, **SMALL).render(1.0) for seed in (1, 2))
    assert difference(a, b).mean() > 3


def test_noise_differs_from_frame_to_frame() -> None:
    # Given a yard whose light and mast stand still
    still = Light(drift=0.0, tint=0.0, cloud_shadow=0.0, shake_px=0.0, noise=3.0)
    scene = YardScene(scenario=Scenario(duration_s=4.0, light=still), **SMALL)
    # When two successive frames are compared below the sky
    change = scene.render(1.0).astype(float)[90:] - scene.render(1.1).astype(float)[90:]
    # Then they differ by two draws of the noise that was asked for, and by nothing lasting
    assert change.std() == pytest.approx(3.0 * math.sqrt(2), rel=0.2)
    assert abs(change.mean()) < 0.2


def test_the_burnt_in_clock_changes_with_the_second() -> None:
    still = Light(drift=0.0, tint=0.0, cloud_shadow=0.0, shake_px=0.0, noise=0.0)
    scene = YardScene(width=640, height=360, scenario=Scenario(duration_s=4.0, light=still))
    corner = (slice(0, 24), slice(0, 160))
    within = difference(scene.render(1.1)[corner], scene.render(1.2)[corner]).max()
    across = difference(scene.render(1.2)[corner], scene.render(2.2)[corner]).max()
    assert within < 20
    assert across > 60


def test_the_demos_truth_has_three_new_states_and_one_return() -> None:
    truth = YardScene(**SMALL).truth
    states = [(interval.start_s, set(interval.state), interval.new) for interval in truth.intervals]
    assert states == [
        (0.0, set(), False),
        (25.0, {"bricks"}, True),
        (50.0, {"bricks", "van"}, True),
        (79.5, {"bricks"}, False),
        (96.0, {"bricks", "skip"}, True),
    ]
    assert [event.start_s for event in truth.expected_events()] == [25.0, 50.0, 96.0]
    assert truth.intervals[-1].end_s == 120.0
    assert truth.changed_boxes(truth.intervals[3]) == (truth.boxes["van"],)
    assert truth.changed_boxes(truth.intervals[0]) == ()


def test_the_demos_objects_cover_two_to_eight_per_cent_of_the_frame_and_lie_within_it() -> None:
    for name, box in YardScene(**SMALL).truth.boxes.items():
        assert 0.02 <= box.width * box.height <= 0.08, name
        assert min(box.x, box.y) >= 0, name
        assert max(box.x + box.width, box.y + box.height) <= 1, name


def test_a_clip_that_ends_before_anything_arrives_expects_no_event() -> None:
    truth = YardScene(duration_s=10.0, **SMALL).truth
    assert truth.expected_events() == ()
    assert len(truth.intervals) == 1


def test_two_objects_on_their_way_at_once_make_one_new_state() -> None:
    # Given two vans whose arrivals overlap
    lasting = tuple(
        LastingObject(name=f"van {i}", kind="van", x_m=4.0 * i - 2, z_m=13.0 + 5 * i, stays=(Stay(arrives_s=at),))
        for i, at in enumerate((20.0, 22.0))
    )
    # When the truth is worked out
    intervals = YardScene(scenario=Scenario(duration_s=40.0, lasting=lasting), **SMALL).truth.intervals
    # Then no state lies between them
    assert [(i.start_s, i.end_s, len(i.state), i.new) for i in intervals] == [(0, 15.5, 0, False), (22, 40, 2, True)]


@pytest.mark.parametrize("seed", range(12))
def test_random_scenarios_are_consistent(seed: int) -> None:
    # Given a scenario of a random seed
    scenario = random_scenario(seed, 240.0, changes=8)
    scene = YardScene(seed=seed, scenario=scenario, **SMALL)
    intervals = scene.truth.intervals
    # Then it changes, its intervals are ordered and long enough, and `new` means never seen before
    assert len(intervals) >= 6
    seen = {intervals[0].state}
    assert not intervals[0].new
    for before, after in pairwise(intervals):
        assert before.end_s < after.start_s < after.end_s
        assert after.end_s - after.start_s >= 12
        assert before.state != after.state
        assert after.new == (after.state not in seen)
        seen.add(after.state)
    assert scenario == random_scenario(seed, 240.0, changes=8)
    for name, box in scene.truth.boxes.items():
        assert 0.015 < box.width * box.height < 0.095, name


@pytest.mark.parametrize("seed", range(6))
def test_what_changes_in_a_random_scenario_is_not_hidden_by_what_stands_there(seed: int) -> None:
    scene = YardScene(seed=seed, scenario=random_scenario(seed, 180.0, changes=6), **SMALL)
    for before, after in pairwise(scene.truth.intervals):
        # When the yard is drawn just before and just after a change
        change = difference(
            scene.render_clean(before.end_s - 0.1, passing=False),
            scene.render_clean(after.start_s + 0.1, passing=False),
        )
        # Then a good part of the place looks different
        (box,) = scene.truth.changed_boxes(after)
        assert (inside(change, box) > 10).mean() > 0.3, after


def test_random_scenarios_of_different_seeds_differ() -> None:
    assert random_scenario(1, 120.0) != random_scenario(2, 120.0)


def test_some_random_scenarios_return_to_a_known_state() -> None:
    returns = [
        interval
        for seed in range(8)
        for interval in YardScene(scenario=random_scenario(seed, 240.0, changes=8), **SMALL).truth.intervals[1:]
        if not interval.new
    ]
    assert returns


def test_each_resting_object_shows_inside_its_box_and_nowhere_else(yard: YardScene) -> None:
    for interval in yard.truth.expected_events():
        at = (interval.start_s + interval.end_s) / 2
        for name in interval.state:
            # When the yard is drawn with and without the object
            box = yard.truth.boxes[name]
            change = difference(
                yard.render_clean(at, passing=False), yard.render_clean(at, without=frozenset({name}), passing=False)
            )
            # Then its box changes far more than noise would, and half the change at least lies inside it
            assert inside(change, box).mean() > 15, (name, at)
            assert inside(change, box).sum() > 0.5 * change.sum(), (name, at)


def test_within_a_state_pixels_differ_by_noise_and_light_only(yard: YardScene) -> None:
    # Given two moments of one state, and one of the next
    intervals = yard.truth.intervals
    early, late = intervals[1].start_s + 5.7, intervals[1].end_s - 0.5
    # Then before the camera's effects the ground is the same, byte by byte; an arrival changes it
    ground_early = yard.render_clean(early, passing=False)[70:]
    ground_late = yard.render_clean(late, passing=False)[70:]
    assert np.array_equal(ground_early, ground_late)
    assert not np.array_equal(ground_late, yard.render_clean(intervals[2].start_s + 1, passing=False)[70:])
    # And through the camera it differs by little
    through = difference(yard.render(early)[70:], yard.render(late)[70:])
    assert np.median(through) < 25


def test_a_return_brings_back_exactly_the_earlier_picture(yard: YardScene) -> None:
    first, again = yard.truth.intervals[1], yard.truth.intervals[3]
    assert first.state == again.state
    before = yard.render_clean(first.end_s - 0.2, passing=False)[70:]
    after = yard.render_clean(again.start_s + 0.2, passing=False)[70:]
    assert np.array_equal(before, after)


@pytest.mark.parametrize("thing", ONE_OF_EACH, ids=lambda thing: thing.kind)
def test_an_object_comes_from_outside_the_view_and_never_stands_on_its_way(thing: LastingObject) -> None:
    projection = Projection(**SMALL)
    # Given the moments of its arrival
    times = np.arange(10.0 - thing.transit_s, 10.0, 0.1)
    on_the_way = [next(iter(deliveries(thing, projection, float(t)))) for t in times]
    # Then it is not in the view at first, nor left unfinished at the end
    scene = YardScene(scenario=Scenario(duration_s=20.0, lasting=(thing,)), **SMALL)
    start = 10.0 - thing.transit_s + 1e-6
    bare = scene.render_clean(start, without=frozenset({thing.name}))
    assert difference(scene.render_clean(start), bare).max() < 12
    arriving, at_rest = scene.render_clean(10.0 - 1e-4), scene.render_clean(10.0 + 1e-4)
    assert difference(arriving, at_rest).mean() < 0.5
    # And it moves in every half second
    for one, other in zip(on_the_way, on_the_way[5:], strict=False):
        assert abs(one.x_m - other.x_m) + abs(one.lift_m - other.lift_m) > 0.05


@pytest.mark.parametrize("thing", ONE_OF_EACH, ids=lambda thing: thing.kind)
def test_an_object_that_leaves_is_there_at_its_last_moment_and_gone_at_the_end(thing: LastingObject) -> None:
    stay = Stay(arrives_s=-100.0, leaves_s=5.0)
    leaving = LastingObject(name="it", kind=thing.kind, x_m=0.5, z_m=13.0, stays=(stay,))
    scene = YardScene(scenario=Scenario(duration_s=20.0, lasting=(leaving,)), **SMALL)
    bare = scene.render_clean(5.0, without=frozenset({"it"}))
    assert inside(difference(scene.render_clean(5.0), bare), scene.truth.boxes["it"]).mean() > 10
    assert np.array_equal(
        scene.render_clean(5.0 + thing.transit_s + 0.1),
        scene.render_clean(5.0 + thing.transit_s + 0.1, without=frozenset({"it"})),
    )


def crossings() -> Iterator[tuple[str, list[float], float]]:
    projection = Projection(**SMALL)
    for scenario in (default_scenario(), *(random_scenario(seed, 120.0) for seed in range(4))):
        times = np.arange(0.0, scenario.duration_s + 40, 0.25)
        for walker in scenario.walkers:
            placed = [p for t in times if (p := walker_at(walker, projection, float(t)))]
            yield (
                f"walker at {walker.starts_s:.1f}",
                [p.x_m * projection.px_per_m(p.z_m) for p in placed],
                (0.6 * projection.px_per_m(walker.z_start_m)),
            )
        for vehicle in scenario.vehicles:
            placed = [p for t in times if (p := vehicle_at(vehicle, projection, float(t)))]
            yield (
                f"{vehicle.kind} at {vehicle.starts_s:.1f}",
                [p.x_m * projection.px_per_m(p.z_m) for p in placed],
                (VEHICLES[vehicle.kind] * projection.px_per_m(vehicle.z_m)),
            )


def test_passers_by_move_on_by_half_their_own_width_within_a_second_and_a_half() -> None:
    found = 0
    for name, across_px, width_px in crossings():
        # Each enters on one side and leaves on the other
        assert min(across_px) < -SMALL["width"] / 2, name
        assert max(across_px) > SMALL["width"] / 2, name
        for before, after in zip(across_px, across_px[6:], strict=False):
            assert abs(after - before) > width_px / 2, name
            found += 1
    assert found > 1000


def test_a_passer_by_is_seen_and_leaves_nothing_behind() -> None:
    scenario = Scenario(duration_s=30.0, walkers=(Walker(starts_s=0.0, z_start_m=14.0, z_end_m=14.0),))
    scene = YardScene(scenario=scenario, **SMALL)
    there = difference(scene.render_clean(6.0), scene.render_clean(6.0, passing=False))
    assert 100 < (there > 20).sum() < 3000
    assert np.array_equal(scene.render_clean(25.0), scene.render_clean(25.0, passing=False))


def test_a_passer_by_behind_a_resting_object_is_hidden_by_it() -> None:
    # Given a container, and a walker right behind it
    container = LastingObject(name="box", kind="container", x_m=0.0, z_m=13.0, stays=(Stay(arrives_s=-50.0),))
    behind = Walker(starts_s=0.0, z_start_m=16.0, z_end_m=16.0)
    scene = YardScene(scenario=Scenario(duration_s=30.0, lasting=(container,), walkers=(behind,)), **SMALL)
    crossing_s = (scene.projection.half_width_m(16.0) + 1.2) / behind.speed_mps
    change = difference(scene.render_clean(crossing_s), scene.render_clean(crossing_s, passing=False))
    # Then the middle of the container does not show the walker
    box = scene.truth.boxes["box"]
    middle = Box(box.x + 0.1 * box.width, box.y + 0.4 * box.height, 0.8 * box.width, 0.5 * box.height)
    assert inside(change, middle).max() < 6


def test_a_shift_by_whole_pixels_moves_the_picture_exactly(yard: YardScene) -> None:
    picture = yard.render(2.0)
    moved = shifted(picture, across=2.0, down=-1.0)
    assert np.array_equal(moved[:-1, 2:], picture[1:, :-2])
    half = shifted(picture, across=0.5, down=0.0).astype(float)
    wanted = (picture[:, 1:].astype(float) + picture[:, :-1]) / 2
    assert np.abs(half[:, 1:] - wanted).max() <= 1


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    folder = tmp_path_factory.mktemp("clip")
    calls: list[int] = []
    scene = YardScene(fps=5.0, scenario=Scenario(duration_s=5.0), **SMALL)
    write_clip(
        folder / "yard.mp4",
        scene,
        gop_s=2.0,
        progress=lambda done, total: calls.append(done if total == 25 else -1),
        truth_path=folder / "yard.truth.json",
    )
    return folder / "yard.mp4", calls


def test_a_clip_decodes_to_every_frame_with_right_times_and_key_frames(clip: tuple[Path, list[int]]) -> None:
    path, calls = clip
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(5)
        frames = list(container.decode(stream))
    assert [frame.time for frame in frames] == pytest.approx([number / 5 for number in range(25)])
    assert [number for number, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20]
    assert calls == list(range(1, 26))


def test_a_decoded_frame_looks_like_the_rendered_one(clip: tuple[Path, list[int]]) -> None:
    scene = YardScene(fps=5.0, scenario=Scenario(duration_s=5.0), **SMALL)
    with av.open(str(clip[0])) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in (0, 12, 24):
                shown = frame.to_ndarray(format="rgb24").astype(np.uint8)
                rendered = scene.render(number / 5)
                assert difference(shown, rendered).mean() < 8
                # Colours keep their balance: no swapped channels, no wrong matrix.
                means = shown.mean(axis=(0, 1)) - rendered.mean(axis=(0, 1))
                assert np.abs(means).max() < 3


def test_the_index_stands_at_the_head_of_the_file(clip: tuple[Path, list[int]]) -> None:
    data = clip[0].read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_nothing_but_the_clip_and_its_truth_is_left_in_the_folder(clip: tuple[Path, list[int]]) -> None:
    assert sorted(path.name for path in clip[0].parent.iterdir()) == ["yard.mp4", "yard.truth.json"]
    truth = json.loads((clip[0].parent / "yard.truth.json").read_text())
    assert truth == {"intervals": [{"start_s": 0.0, "end_s": 5.0, "state": [], "new": False}], "boxes": {}}


def test_a_clip_that_breaks_off_leaves_an_older_file_as_it_was(tmp_path: Path) -> None:
    # Given a file of that name
    path = tmp_path / "yard.mp4"
    path.write_bytes(b"older")

    # When writing breaks off in the middle
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clip(path, YardScene(scenario=EMPTY, **SMALL), progress=interrupt)
    # Then the older file is whole and nothing else is there
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no-such-folder"):
        write_clip(tmp_path / "no-such-folder" / "yard.mp4", YardScene(scenario=EMPTY, **SMALL))


def test_a_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "yard.mp4").mkdir()
    with pytest.raises(OutputError, match=r"yard\.mp4"):
        write_clip(tmp_path / "yard.mp4", YardScene(scenario=Scenario(duration_s=0.2), **SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["yard.mp4"]


@pytest.mark.parametrize("codec", ["no-such-codec", "aac"])
def test_an_encoder_that_makes_no_video_is_refused(tmp_path: Path, codec: str) -> None:
    with pytest.raises(UsageError, match=codec):
        write_clip(tmp_path / "yard.mp4", YardScene(scenario=EMPTY, **SMALL), codec=codec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"width": 321}, {"height": 20}, {"fps": 0.0}, {"duration_s": -1.0}])
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        YardScene(**options)  # type: ignore[arg-type]


def test_things_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no length"):
        Stay(arrives_s=5.0, leaves_s=5.0)
    with pytest.raises(ValueError, match="expected one of"):
        LastingObject(name="it", kind="elephant", x_m=0, z_m=12, stays=())
    with pytest.raises(ValueError, match="before it has left"):
        LastingObject(name="it", kind="van", x_m=0, z_m=12, stays=(Stay(arrives_s=5, leaves_s=9), Stay(arrives_s=12)))
    with pytest.raises(ValueError, match="nearly stands"):
        Walker(starts_s=0, z_start_m=12, z_end_m=12, speed_mps=0.2)
    with pytest.raises(ValueError, match="drive it faster"):
        VehiclePass(starts_s=0, kind="truck", z_m=22, speed_mps=1.0)
    twice = LastingObject(name="it", kind="van", x_m=0, z_m=12, stays=())
    with pytest.raises(ValueError, match="repeat"):
        Scenario(duration_s=10, lasting=(twice, twice))


def test_the_command_writes_a_clip_and_prints_its_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "yard.mp4"
    assert main([str(out), "--seconds", "1", "--fps", "4", "--size", "320x180", "--seed", "3"]) == 0
    assert "0.0 s –     1.0 s  known" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["yard.mp4", "yard.truth.json"]


def test_the_command_says_what_is_wrong_and_exits_as_the_error_tree_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "no" / "yard.mp4"), "--seconds", "1", "--size", "320x180"]) == OutputError.exit_code
    assert "cannot write" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "yard.mp4"), "--size", "huge"])
    assert "huge" in capsys.readouterr().err
