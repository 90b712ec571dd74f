"""Pictures of remembered states: when they are written, when they are held, what a disk that refuses costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamwatch.errors import OutputError
from streamwatch.events.files import make_folder, write_whole
from streamwatch.events.pictures import StatePictures
from streamwatch.imaging import ArrayPicture, load_picture
from tests.builders import BLUE, RED, picture

YARD = ArrayPicture(picture((RED, 10, 20), width=320, height=180))
OTHER = ArrayPicture(picture((BLUE, 90, 20), width=320, height=180))


def test_a_kept_picture_is_a_jpeg_of_full_size_named_by_its_state(tmp_path: Path) -> None:
    # Given a folder that does not exist yet
    pictures = StatePictures(tmp_path / "pictures" / "yard", quality=90)
    # When a picture is kept
    path = pictures.keep("s1", YARD)
    # Then it is there, at full size, and looks like the frame
    assert path == tmp_path / "pictures" / "yard" / "s1.jpg"
    assert pictures.path("s1") == path
    written = load_picture(path)
    assert (written.width, written.height) == (320, 180)
    assert np.abs(written.rgb().astype(int) - YARD.rgb()).mean() < 3
    # And no temporary file is left
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("quality", [50, 90, 100])
def test_every_quality_that_the_configuration_takes_can_be_written(tmp_path: Path, quality: int) -> None:
    assert StatePictures(tmp_path, quality=quality).keep("s1", YARD).stat().st_size > 0


def test_a_held_picture_gets_its_file_only_when_somebody_needs_it(tmp_path: Path) -> None:
    # Given a held picture
    pictures = StatePictures(tmp_path, quality=90)
    pictures.hold("s1", YARD)
    assert list(tmp_path.iterdir()) == []
    # When its path is asked for, twice, then it is written
    assert pictures.path("s1") == tmp_path / "s1.jpg"
    assert pictures.path("s1") == tmp_path / "s1.jpg"
    assert load_picture(tmp_path / "s1.jpg").width == 320


def test_a_forgotten_picture_that_was_only_held_is_gone_and_one_on_disk_stays(tmp_path: Path) -> None:
    pictures = StatePictures(tmp_path, quality=90)
    pictures.hold("held", YARD)
    pictures.keep("kept", OTHER)
    for state in ("held", "kept", "never there"):
        pictures.forget(state)
    assert pictures.path("held") is None
    assert pictures.path("kept") == tmp_path / "kept.jpg"


def test_a_picture_is_held_as_small_as_its_jpeg(tmp_path: Path) -> None:
    # Given a picture of 320 × 180, decoded 170 kB
    pictures = StatePictures(tmp_path, quality=90)
    # When it is held
    pictures.hold("s1", YARD)
    # Then it takes less than a tenth of that
    assert len(pictures._held["s1"]) < YARD.rgb().nbytes / 10


def test_a_discarded_picture_is_gone_from_disk_and_memory_and_no_other_is(tmp_path: Path) -> None:
    # Given pictures of two states on disk, and of one in memory
    pictures = StatePictures(tmp_path, quality=90)
    pictures.keep("s1", YARD)
    pictures.keep("s2", OTHER)
    pictures.hold("s3", YARD)
    # When one on disk, the one in memory and one that never was are discarded
    for state in ("s2", "s3", "never there"):
        pictures.discard(state)
    # Then only the other one's is left
    assert list(tmp_path.iterdir()) == [tmp_path / "s1.jpg"]
    assert pictures.path("s3") is None


def test_a_held_picture_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    # Given a held picture, and a folder that has become a file
    folder = tmp_path / "pictures"
    pictures = StatePictures(folder, quality=90)
    pictures.hold("s1", YARD)
    folder.rmdir()
    folder.write_text("in the way")
    # When it is needed, then the error names the file
    with pytest.raises(OutputError, match=r"cannot write .*s1\.jpg"):
        pictures.path("s1")
    # And once the folder is back, the picture is there still
    folder.unlink()
    folder.mkdir()
    assert pictures.path("s1") == folder / "s1.jpg"


def test_a_folder_that_cannot_be_made_is_refused_at_once_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write into .*choose another folder"):
        StatePictures(tmp_path / "file" / "pictures", quality=90)


def test_a_file_is_replaced_whole_and_stays_when_it_cannot_be(tmp_path: Path) -> None:
    # Given a file that was written
    path = tmp_path / "file"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    # When another is to replace a folder, which cannot be
    folder = tmp_path / "a folder"
    make_folder(folder)
    (folder / "full").write_bytes(b"x")
    with pytest.raises(OutputError, match="cannot write"):
        write_whole(folder, b"three")
    # Then what was there is there, and nothing else is
    assert path.read_bytes() == b"two"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a folder", "file"]
