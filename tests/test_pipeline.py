"""One camera's pipeline: regions and zones in the picture's own coordinates, pictures of events, disks that refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamwatch.change.decision import ChangeSettings
from streamwatch.change.memory import Memory
from streamwatch.embedding.fitting import fit_picture
from streamwatch.errors import OutputError
from streamwatch.events.pictures import StatePictures
from streamwatch.imaging import ArrayPicture, load_picture
from streamwatch.pipeline import CameraPipeline, Outcome, new_id
from streamwatch.prefetch import prefetch
from streamwatch.records import RGB, Frame
from tests.builders import BLUE, IDENTITY, RED, ColourEmbedder, counting_ids, frame, picture

SETTINGS = ChangeSettings(threshold=0.5, confirm_samples=3)


class Camera:
    """A pipeline with the embedder in front of it, one frame a second."""

    def __init__(
        self, folder: Path, *, settings: ChangeSettings = SETTINGS, fit: str = "squash", **options: Any
    ) -> None:
        self.identity = replace(IDENTITY, fit=fit)
        states = settings.recent if settings.remember == "recent" else 100
        self.memory = Memory(regions=196, dimensions=4, max_states=options.pop("max_states", states))
        self.pipeline = CameraPipeline(
            "yard",
            settings=settings,
            identity=self.identity,
            memory=self.memory,
            pictures=StatePictures(folder, quality=90),
            new_id=counting_ids(),
            **options,
        )
        self.next_s = 0.0
        self.frame_options: dict[str, Any] = {}

    def push(self, pixels: RGB) -> Outcome:
        taken = replace(frame(pixels, self.next_s), **self.frame_options)
        self.next_s += 1
        # What the network sees of the picture.
        fitted = fit_picture(taken.picture, fit=self.identity.fit, size_px=224, border=(128, 128, 128))
        vectors = ColourEmbedder(self.identity).embed([ArrayPicture(np.ascontiguousarray(fitted))])[0]
        return self.pipeline.push(taken, vectors)

    def see(self, pixels: RGB, times: int = 6) -> list[Outcome]:
        """The outcomes that raised an event."""
        return [outcome for outcome in (self.push(pixels) for _ in range(times)) if outcome.raised]


def test_the_first_state_gets_its_picture_and_no_event(tmp_path: Path) -> None:
    # Given a new camera
    camera = Camera(tmp_path)
    # When it has seen enough of its yard
    outcomes = [camera.push(picture()) for _ in range(4)]
    # Then the state is to be saved, its picture is there, and nothing is raised
    assert [outcome.memory_changed for outcome in outcomes] == [False, False, True, False]
    assert all(outcome.raised is None for outcome in outcomes)
    assert (tmp_path / "s1.jpg").exists()


def test_an_event_keeps_what_its_pictures_time_is(tmp_path: Path) -> None:
    # Given a camera that knows its yard
    camera = Camera(tmp_path)
    camera.see(picture())
    # When a red thing comes, in pictures that tell when they were taken
    camera.frame_options = {"captured_at": datetime(2026, 7, 1, tzinfo=UTC), "time_source": "exif"}
    (outcome,) = camera.see(picture((RED, 48, 96)))
    # Then the event tells what kind of time that is
    assert outcome.raised is not None
    assert outcome.raised.event.time_source == "exif"


def test_an_event_shows_what_was_there_before_and_what_is_there_now(tmp_path: Path) -> None:
    # Given a camera that knows its yard
    camera = Camera(tmp_path)
    camera.see(picture())
    # When a red thing comes to stay
    (outcome,) = camera.see(picture((RED, 48, 96)))
    raised = outcome.raised
    assert raised is not None
    # Then the event names camera, time and states, and its pictures show them
    assert outcome.memory_changed
    assert (raised.event.id, raised.event.camera, raised.event.pts_s) == ("s2", "yard", 8.0)
    assert (raised.event.before_state, raised.event.after_state) == ("s1", "s2")
    assert (raised.before, raised.after) == (tmp_path / "s1.jpg", tmp_path / "s2.jpg")
    assert raised.event.novelty > raised.event.threshold == 0.5
    before, after = (load_picture(path).rgb()[120, 72] for path in (tmp_path / "s1.jpg", tmp_path / "s2.jpg"))
    assert before.tolist() == pytest.approx([128, 128, 128], abs=8)
    assert after.tolist() == pytest.approx(RED, abs=12)


@pytest.mark.parametrize(
    ("fit", "width", "height"),
    [("squash", 640, 360), ("crop", 640, 360), ("crop", 360, 640), ("letterbox", 640, 360), ("letterbox", 360, 640)],
)
def test_regions_lie_on_the_changed_thing_in_the_picture_whatever_the_fit(
    tmp_path: Path, fit: str, width: int, height: int
) -> None:
    # Given a camera of any shape, and a blue thing of 96 × 96 pixels in its middle part
    camera = Camera(tmp_path, fit=fit)
    yard = picture(width=width, height=height)
    x, y = width // 2 - 20, height // 2 - 60
    thing = yard.copy()
    thing[y : y + 96, x : x + 96] = BLUE
    camera.see(yard)
    # When it comes to stay
    (outcome,) = camera.see(thing)
    # Then the regions, in fractions of the picture, lie where it is
    raised = outcome.raised
    assert raised is not None
    boxes = [region.box for region in raised.event.regions]
    left, right = min(box.x for box in boxes) * width, max(box.x + box.width for box in boxes) * width
    top, bottom = min(box.y for box in boxes) * height, max(box.y + box.height for box in boxes) * height
    # Regions that are covered by less than about half do not count.
    assert (left, right) == pytest.approx((x, x + 96), abs=36)
    assert (top, bottom) == pytest.approx((y, y + 96), abs=36)


def test_regions_of_a_letterbox_never_reach_out_of_the_picture(tmp_path: Path) -> None:
    # Given a wide picture in a letterbox, whose borders are part of what the network sees
    camera = Camera(tmp_path, fit="letterbox")
    camera.see(picture(width=640, height=360))
    # When the whole picture changes
    changed = np.full((360, 640, 3), RED, dtype=np.uint8)
    (outcome,) = camera.see(changed)
    assert outcome.raised is not None
    # Then each region is a box in the picture
    for region in outcome.raised.event.regions:
        box = region.box
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= 1 + 1e-9
        assert box.y + box.height <= 1 + 1e-9
        assert box.width > 0
        assert box.height > 0


@pytest.mark.parametrize("fit", ["squash", "crop", "letterbox"])
def test_a_zone_means_the_same_place_of_the_picture_whatever_the_fit(tmp_path: Path, fit: str) -> None:
    # Given a zone over the middle of the picture's left half, in a picture of 16:9
    def zoned(folder: str, **polygons: Any) -> Camera:
        camera = Camera(tmp_path / folder, fit=fit, **polygons)
        camera.see(picture(width=640, height=360))
        return camera

    zone = [(0.25, 0.25), (0.5, 0.25), (0.5, 0.75), (0.25, 0.75)]
    inside, outside = picture(width=640, height=360), picture(width=640, height=360)
    inside[130:230, 200:300] = RED
    outside[130:230, 370:470] = RED
    # When a thing comes inside or outside of it, then only the one inside is announced
    assert len(zoned("a", zones=[zone]).see(inside)) == 1
    assert zoned("b", zones=[zone]).see(outside) == []
    # And a mask over the same place does the opposite
    assert zoned("c", masks=[zone]).see(inside) == []
    assert len(zoned("d", masks=[zone]).see(outside)) == 1


def test_a_camera_that_changes_its_picture_size_has_its_zones_mapped_anew(tmp_path: Path) -> None:
    # Given a cropped camera with a zone at the left edge of the picture, which a wide picture hides from the network
    zone = [(0.0, 0.0), (0.2, 0.0), (0.2, 1.0), (0.0, 1.0)]
    camera = Camera(tmp_path, fit="crop", zones=[zone])
    wide = picture(width=640, height=360)
    camera.see(wide)
    thing = wide.copy()
    thing[:, :] = RED
    assert camera.see(thing) == []
    # When the camera is set to a square picture, then the zone is seen and watched
    camera.see(picture(width=360, height=360))
    assert len(camera.see(picture((RED, 10, 150), width=360, height=360))) == 1


def test_an_event_whose_picture_cannot_be_written_comes_again_with_the_next_sample(tmp_path: Path) -> None:
    # Given a camera that knows its yard, and a pictures' folder that has become a file
    folder = tmp_path / "pictures"
    camera = Camera(folder)
    camera.see(picture())
    aside = folder.rename(tmp_path / "aside")
    folder.write_text("in the way")
    # When a thing comes to stay, then each sample that would raise it fails and leaves nothing behind
    thing = picture((RED, 48, 96))
    failures = 0
    for _ in range(6):
        try:
            assert camera.push(thing).raised is None
        except OutputError:
            failures += 1
        assert [state.id for state in camera.memory.states] == ["s1"]
    assert failures == 4
    # And once the folder is back, the next sample raises it, once
    folder.unlink()
    aside.rename(folder)
    (outcome,) = camera.see(thing)
    assert outcome.raised is not None
    assert outcome.raised.before == folder / "s1.jpg"
    assert outcome.raised.after.exists()


def test_an_event_that_is_refused_again_and_again_keeps_its_id_and_leaves_no_pictures(tmp_path: Path) -> None:
    # Given a camera that knows its yard
    camera = Camera(tmp_path)
    camera.see(picture())
    thing = picture((RED, 48, 96))
    # When a thing comes to stay, and its event is refused ten times
    refused: list[str] = []
    for _ in range(13):
        raised = camera.push(thing).raised
        if raised is not None and len(refused) < 10:
            refused.append(raised.event.id)
            camera.pipeline.withdraw(raised.event.after_state)
            # Then only the yard's picture is left each time
            assert [path.name for path in tmp_path.iterdir()] == ["s1.jpg"]
    # And each try had the same id, the last one too
    assert refused == ["s2"] * 10
    assert [state.id for state in camera.memory.states] == ["s1", "s2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1.jpg", "s2.jpg"]


def test_an_id_is_not_kept_for_what_comes_after_the_refused_change_has_gone(tmp_path: Path) -> None:
    # Given a camera whose event was refused
    camera = Camera(tmp_path)
    camera.see(picture())
    (refused,) = (outcome.raised for outcome in camera.see(picture((RED, 48, 96)), 3))
    assert refused is not None
    camera.pipeline.withdraw(refused.event.after_state)
    # When the thing is gone, and something else comes, then that is another event
    camera.see(picture())
    (outcome,) = camera.see(picture((BLUE, 144, 32)))
    assert outcome.raised is not None
    assert outcome.raised.event.id != refused.event.id


def test_a_first_state_whose_picture_cannot_be_written_is_learned_later(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    camera = Camera(folder)
    folder.rmdir()
    folder.write_text("in the way")
    for _ in range(2):
        camera.push(picture())
    with pytest.raises(OutputError):
        camera.push(picture())
    assert len(camera.memory) == 0
    folder.unlink()
    folder.mkdir()
    assert camera.push(picture()).memory_changed
    assert len(camera.memory) == 1


def test_a_restart_forgets_the_samples_on_trial_only(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    camera.see(picture())
    thing = picture((RED, 48, 96))
    camera.see(thing, 2)
    camera.pipeline.restart()
    assert camera.see(thing, 2) == []
    assert len(camera.see(thing, 1)) == 1


# --- Recent frames, the paper's way


def test_recent_frames_get_files_only_for_events_and_the_rest_is_held_and_let_go(tmp_path: Path) -> None:
    # Given a camera that compares with its last four frames
    settings = ChangeSettings(threshold=0.5, confirm_samples=1, remember="recent", recent=4)
    camera = Camera(tmp_path, settings=settings)
    camera.see(picture(), 20)
    assert list(tmp_path.iterdir()) == []
    # When something comes
    outcomes = [camera.push(picture((RED, 48, 96))) for _ in range(10)]
    # Then its first frame is an event with both pictures on disk, and nothing else is
    assert [outcome.raised is not None for outcome in outcomes] == [True] + [False] * 9
    raised = outcomes[0].raised
    assert raised is not None
    assert raised.before is not None
    assert sorted(tmp_path.iterdir()) == sorted([raised.before, raised.after])
    # And there is nothing to save, and no more pictures are held than frames are compared
    assert not any(outcome.memory_changed for outcome in outcomes)
    assert len(camera.pipeline._pictures._held) <= 4


def test_the_picture_before_is_there_even_if_its_frame_leaves_with_this_very_event(tmp_path: Path) -> None:
    # Given a camera that compares with its last frame only
    settings = ChangeSettings(threshold=0.5, confirm_samples=1, remember="recent", recent=1)
    camera = Camera(tmp_path, settings=settings)
    camera.see(picture(), 3)
    # When something comes, then the frame that leaves is the picture before
    (outcome,) = camera.see(picture((RED, 48, 96)), 1)
    assert outcome.raised is not None
    assert outcome.judgement.forgotten == outcome.raised.event.before_state
    assert outcome.raised.before is not None
    assert outcome.raised.before.exists()


def test_a_held_picture_survives_a_disk_that_refuses_it_once(tmp_path: Path) -> None:
    # Given a camera of recent frames, and a folder that has become a file
    folder = tmp_path / "pictures"
    settings = ChangeSettings(threshold=0.5, confirm_samples=1, remember="recent", recent=4)
    camera = Camera(folder, settings=settings)
    camera.see(picture(), 5)
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises(OutputError):
        camera.push(picture((RED, 48, 96)))
    # When the folder is back, then the next sample raises the event with its picture before
    folder.unlink()
    folder.mkdir()
    (outcome,) = camera.see(picture((RED, 48, 96)), 1)
    assert outcome.raised is not None
    assert outcome.raised.before is not None


# --- Parts


class CountingPicture:
    """A picture that counts how often it is converted."""

    def __init__(self) -> None:
        self._inner = ArrayPicture(picture(width=640, height=360))
        self.asked: list[tuple[int | None, int | None]] = []

    @property
    def width(self) -> int:
        return self._inner.width

    @property
    def height(self) -> int:
        return self._inner.height

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        self.asked.append((width, height))
        return self._inner.rgb(width=width, height=height)


@pytest.mark.parametrize("fit", ["squash", "crop", "letterbox"])
def test_a_prefetched_picture_is_not_resized_again_for_the_network(fit: str) -> None:
    # Given a picture that was resized ahead of time
    counting = CountingPicture()
    ahead = prefetch(counting, fit=fit, size_px=224)
    assert len(counting.asked) == 1
    # When the network's thread fits it, then nothing is left to do, and the result is the same
    fitted = fit_picture(ahead, fit=fit, size_px=224, border=(0, 0, 0))
    assert len(counting.asked) == 1
    assert (fitted == fit_picture(CountingPicture(), fit=fit, size_px=224, border=(0, 0, 0))).all()
    # And whoever writes into it spoils nobody's picture
    fitted[:] = 0
    assert fit_picture(ahead, fit=fit, size_px=224, border=(0, 0, 0)).any()
    # And the whole picture is there at its own size
    assert ahead.rgb().shape == (360, 640, 3)


def test_names_of_states_differ_and_suit_a_file_name() -> None:
    names = {new_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.isalnum() for name in names)


def test_vectors_of_another_grid_are_refused(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with pytest.raises(ValueError, match=r"expected \(196, dimensions\)"):
        camera.pipeline.push(Frame(pts_s=0, captured_at=None, picture=ArrayPicture(picture())), np.zeros((49, 4), "f4"))


def test_a_pipeline_tells_how_many_regions_it_watches_and_that_the_fit_leaves_none(tmp_path: Path) -> None:
    # Given zones at the left edge, one of them masked away
    left = [(0.0, 0.0), (0.15, 0.0), (0.15, 1.0), (0.0, 1.0)]
    assert Camera(tmp_path, zones=[left]).pipeline.watched == 28
    assert Camera(tmp_path, zones=[left], masks=[left]).pipeline.watched == 0
    # When a wide picture is cropped
    camera = Camera(tmp_path, fit="crop", zones=[left])
    assert camera.pipeline.watched == 28
    camera.push(picture(width=448))
    # Then that edge is not seen
    assert camera.pipeline.watched == 0
