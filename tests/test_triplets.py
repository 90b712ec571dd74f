"""Lists of triplets: what spreadsheets and people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamwatch.errors import SourceUnusable, UsageError
from streamwatch.offline.triplets import read_triplets, thinned, without_images
from tests.shared_data import shared

HEADER = "query,positive,negative,class\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files a.png … h.png; they are never opened."""
    for name in "abcdefgh":
        (tmp_path / f"{name}.png").write_bytes(b"")
    return tmp_path


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_list_is_read_with_its_classes(folder: Path) -> None:
    # Given a list in which an image serves twice
    path = written(folder, HEADER + "a.png,b.png,c.png,crane\nd.png,a.png,e.png,truck\n")
    # When it is read
    triplets = read_triplets(path)
    # Then images are counted once, in the order in which they come
    assert triplets.names == ("a.png", "b.png", "c.png", "d.png", "e.png")
    assert triplets.index.tolist() == [[0, 1, 2], [3, 0, 4]]
    assert triplets.classes == ("crane", "truck")
    assert triplets.rows == (2, 3)
    assert triplets.skipped == ()
    assert triplets.images[0] == folder / "a.png"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffquery,positive,negative\na.png,b.png,c.png\n",
        "query;positive;negative\r\na.png;b.png;c.png\r\n",
        "query\tpositive\tnegative\na.png\tb.png\tc.png\n",
        'Query , "Positive",NEGATIVE\n"a.png", b.png ,c.png\n\n',
        "note,negative,positive,query\nhello,c.png,b.png,a.png",
    ],
    ids=["byte order mark", "semicolons", "tabs", "quotes and spaces", "another order and more columns"],
)
def test_what_spreadsheets_write_is_understood(folder: Path, text: str) -> None:
    triplets = read_triplets(written(folder, text))
    assert [triplets.names[image] for image in triplets.index[0]] == ["a.png", "b.png", "c.png"]
    assert triplets.classes is None


def test_utf_16_is_understood(folder: Path) -> None:
    assert len(read_triplets(written(folder, (HEADER + "a.png,b.png,c.png,x\n").encode("utf-16")))) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,b.png,missing.png,x", "there is no file missing.png"),
        ("a.png,a.png,c.png,x", "query and positive are the same image"),
        ("a.png,b.png,./a.png,x", "query and negative are the same image"),
        ("a.png,b.png,b.png,x", "positive and negative are the same image"),
        ("f.png,g.png,h.png,x", "the same triplet as row 2"),
        ("a.png,b.png", "no negative is given"),
        ("a.png,,c.png,x", "no positive is given"),
        ("a.png,.,c.png,x", "there is no file ."),
    ],
)
def test_a_row_that_is_no_triplet_is_left_out_and_said(folder: Path, row: str, reason: str) -> None:
    triplets = read_triplets(written(folder, f"{HEADER}f.png,g.png,h.png,y\n{row}\nd.png,e.png,f.png,y\n"))
    assert triplets.rows == (2, 4)
    assert [each.row for each in triplets.skipped] == [3]
    assert reason in triplets.skipped[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a first row that names the columns query, positive, negative"),
        ("query,positiv,negative\n", r"no column 'positive' \(did you mean 'positiv'\?\)"),
        ("a.png,b.png,c.png\n", "no column 'query'"),
        ("query,query,positive,negative\n", "two columns 'query'"),
        (HEADER, "no usable triplet"),
        (HEADER + "x.png,y.png,z.png,x\n", r"no usable triplet \(1 rows were skipped; row 2: there is no file x.png"),
    ],
)
def test_a_list_without_triplets_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_triplets(written(folder, text))


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"query,positive,negative\n\xff.png", "not UTF-8"), (b"PK\x03\x04\0\0query", "zero bytes")],
)
def test_what_is_no_text_is_refused(folder: Path, data: bytes, message: str) -> None:
    with pytest.raises(SourceUnusable, match=message):
        read_triplets(written(folder, data))


def test_a_missing_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match="no such file"):
        read_triplets(tmp_path / "none.csv")


def test_paths_may_be_relative_to_another_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = written(tmp_path_factory.mktemp("lists"), HEADER + "a.png,b.png,c.png,x\n")
    assert len(read_triplets(elsewhere, root=folder)) == 1
    with pytest.raises(UsageError, match="no usable triplet"):
        read_triplets(elsewhere)


def test_a_quick_look_takes_triplets_from_the_whole_list(folder: Path) -> None:
    rows = "".join(f"{q}.png,{p}.png,{n}.png,x\n" for q, p, n in ("abc", "bcd", "cde", "def", "efg"))
    triplets = thinned(read_triplets(written(folder, HEADER + rows)), 2)
    assert triplets.rows == (2, 6)
    assert [[triplets.names[image][0] for image in row] for row in triplets.index] == [list("abc"), list("efg")]
    assert len(triplets.images) == 6
    with pytest.raises(UsageError, match="expected at least 1"):
        thinned(triplets, 0)


def test_triplets_of_damaged_images_are_left_out(folder: Path) -> None:
    triplets = read_triplets(written(folder, HEADER + "a.png,b.png,c.png,x\nd.png,e.png,f.png,y\n"))
    kept = without_images(triplets, {1: "b.png is damaged"})
    assert kept.rows == (3,)
    assert kept.classes == ("y",)
    assert [(each.row, each.reason) for each in kept.skipped] == [(2, "b.png is damaged")]
    with pytest.raises(UsageError, match="no triplet is left"):
        without_images(kept, {0: "d.png is damaged"})


def test_the_list_of_wang_et_al_is_read_whole() -> None:
    triplets = read_triplets(shared("data/triplets/wang2014/triplets.csv"))
    assert (len(triplets), len(triplets.images), triplets.skipped) == (2461, 7383, ())
    assert triplets.classes is not None
    assert len(set(triplets.classes)) == 570
