"""Galleries on disk: what is appended is there, what does not belong is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from streamwatch.cli import main
from streamwatch.errors import OutputError, SourceUnusable, UsageError, WeightsMismatch
from streamwatch.offline.gallery import ANN_LEAST_ROWS, Gallery
from streamwatch.offline.gallery_records import GalleryIdentity, GalleryRow, PixelBox
from streamwatch.records import Grid

IDENTITY = GalleryIdentity(
    network="lite0",
    layer="features",
    weights_id="sha256:0123456789abcdef",
    fit="squash",
    pooling="mean",
    unit_length=True,
    dimensions=32,
    grid=Grid(7, 7),
)


def rows(count: int, *, first: int = 0, box: PixelBox | None = None) -> list[GalleryRow]:
    return [
        GalleryRow(content_hash=f"{n:064x}", path=f"/photos/{n}.jpg", width=640, height=480, box=box)
        for n in range(first, first + count)
    ]


def vectors(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, IDENTITY.dimensions)).astype(np.float32)


def test_what_was_appended_is_there_when_the_gallery_is_opened_again(tmp_path: Path) -> None:
    # Given a gallery filled in two transactions, one of them of crops
    gallery = Gallery.create(tmp_path / "g", IDENTITY, weights="/weights/own.safetensors")
    whole, crops = rows(5), rows(2, box=PixelBox(3, 4, 50, 60))
    with gallery.writing():
        gallery.append(whole, vectors(5))
        gallery.append(crops, vectors(2, seed=1))
    # When it is opened
    opened = Gallery.open(tmp_path / "g")
    # Then everything is as it was, in order
    assert (opened.identity, opened.weights, len(opened)) == (IDENTITY, "/weights/own.safetensors", 7)
    np.testing.assert_array_equal(opened.load(), np.concatenate((vectors(5), vectors(2, seed=1))))
    assert opened.rows([6, 0, 4]) == [crops[1], whole[0], whole[4]]
    # And a crop is another row than the picture that it is of
    assert opened.ids() == {row.id for row in whole + crops}
    assert len(opened.ids()) == 7
    assert opened.rows_of(whole[1].content_hash) == 2


def test_half_precision_halves_the_bytes_and_regions_come_back_in_their_shape(tmp_path: Path) -> None:
    # Given galleries of single and half precision, and one with regional vectors
    count, regional = 2000, dataclasses.replace(IDENTITY, scales=2, windows=5)
    regions = np.random.default_rng(2).normal(size=(count, 5, 32)).astype(np.float16)
    sizes = {}
    for name, identity, extra in (
        ("single", IDENTITY, None),
        ("half", dataclasses.replace(IDENTITY, half=True), None),
        ("regional", regional, regions),
    ):
        gallery = Gallery.create(tmp_path / name, identity)
        before = _bytes(tmp_path / name)
        with gallery.writing():
            gallery.append(rows(count), vectors(count), extra)
        sizes[name] = _bytes(tmp_path / name) - before
    # Then half precision saves two bytes a number
    assert sizes["single"] - sizes["half"] == pytest.approx(count * 32 * 2, rel=0.05)
    np.testing.assert_allclose(Gallery.open(tmp_path / "half").load(), vectors(count), rtol=1e-3, atol=1e-4)
    # And regions are what was given
    np.testing.assert_array_equal(Gallery.open(tmp_path / "regional").load(regional=True), regions)
    # And a gallery without them says how to get some
    with pytest.raises(UsageError, match="no regional vectors; index the pictures into a new gallery with --regional"):
        Gallery.open(tmp_path / "single").load(regional=True)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.lance"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused_and_nothing_is_stored(tmp_path: Path, bad: float) -> None:
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    given = vectors(3)
    given[1, 7] = bad
    with gallery.writing(), pytest.raises(UsageError, match=r"the vector of /photos/1\.jpg holds NaN or infinity"):
        gallery.append(rows(3), given)
    assert len(Gallery.open(tmp_path / "g")) == 0


def test_vectors_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", dataclasses.replace(IDENTITY, half=True))
    with gallery.writing(), pytest.raises(UsageError, match="too large for half precision; leave --half out"):
        gallery.append(rows(3), vectors(3) * 1e6)


def test_a_second_writer_is_kept_out_and_a_reader_is_not(tmp_path: Path) -> None:
    # Given a gallery that is being written
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    with gallery.writing():
        gallery.append(rows(1), vectors(1))
        # When another process wants to write too
        code = (
            "import sys, pathlib\n"
            "from streamwatch.offline.gallery import Gallery\n"
            "gallery = Gallery.open(pathlib.Path(sys.argv[1]))\n"
            "print(len(gallery))\n"
            "with gallery.writing(): pass\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "g")], capture_output=True, text=True)
    # Then it may read, and no more
    assert done.stdout == "1\n"
    assert "another `streamwatch index` is writing" in done.stderr
    # And when the first is done, there is room again
    with Gallery.open(tmp_path / "g").writing():
        pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights_id": "sha256:ffffffffffffffff"}, "sha256:ffffffffffffffff"),
        ({"network": "vgg16"}, "vgg16"),
        ({"layer": "pooled"}, "pooled"),
        ({"pooling": "gem"}, "gem"),
        ({"unit_length": False}, "raw"),
        ({"fit": "crop"}, "crop"),
    ],
)
def test_galleries_of_other_weights_are_refused_and_both_are_named(change: dict[str, object], named: str) -> None:
    other = dataclasses.replace(IDENTITY, **change)  # type: ignore[arg-type]
    with pytest.raises(WeightsMismatch) as refusal:
        IDENTITY.check_comparable(other, mine="the gallery g", others="the query")
    assert named in str(refusal.value)
    assert IDENTITY.describe() in str(refusal.value)


def test_how_a_gallery_is_stored_does_not_matter_for_comparing() -> None:
    IDENTITY.check_comparable(
        dataclasses.replace(IDENTITY, half=True, scales=3, windows=14), mine="the gallery", others="the query"
    )


def test_what_is_no_gallery_is_refused(tmp_path: Path) -> None:
    # Given nothing, a folder of something else, another Lance dataset, one of a later format, and a damaged gallery
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("x")
    lance.write_dataset(pa.table({"a": [1, 2]}), str(tmp_path / "other"))
    metadata = {"streamwatch": json.dumps({"format": 99, "identity": {}, "weights": None})}
    lance.write_dataset(pa.table({"a": [1]}).replace_schema_metadata(metadata), str(tmp_path / "later"))
    Gallery.create(tmp_path / "damaged", IDENTITY)
    for manifest in (tmp_path / "damaged" / "_versions").iterdir():
        manifest.write_bytes(manifest.read_bytes()[:40])
    # Then each is refused in one message that says what it is
    for name, said in {
        "nothing": "does not exist; make one with `streamwatch index",
        "folder": "is no gallery",
        "other": "none of streamwatch's",
        "later": "of format 99, this streamwatch reads 1",
        "damaged": "damaged",
    }.items():
        with pytest.raises(SourceUnusable, match=said):
            Gallery.open(tmp_path / name)
    # And nothing is made where something is
    with pytest.raises(OutputError, match="is there already and is no gallery"):
        Gallery.create(tmp_path / "folder", IDENTITY)


def test_a_damaged_data_file_ends_in_one_message(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    with gallery.writing():
        gallery.append(rows(200), vectors(200))
    for path in (tmp_path / "g" / "data").iterdir():
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SourceUnusable, match="cannot be read, it may be damaged"):
        Gallery.open(tmp_path / "g").load()


def test_many_small_transactions_are_put_together_and_lose_nothing(tmp_path: Path) -> None:
    # Given a gallery of seventy transactions
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    with gallery.writing():
        for number in range(70):
            gallery.append(rows(2, first=2 * number), vectors(2, seed=number))
        # When it is tidied
        gallery.tidy()
    # Then it has few files, and the same rows in the same order
    opened = Gallery.open(tmp_path / "g")
    assert len(lance.dataset(str(tmp_path / "g")).get_fragments()) < 5
    assert [row.path for row in opened.rows(range(140))] == [f"/photos/{n}.jpg" for n in range(140)]
    np.testing.assert_array_equal(opened.load(), np.concatenate([vectors(2, seed=n) for n in range(70)]))


def test_file_names_that_are_not_utf8_are_kept_readable(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    broken = dataclasses.replace(rows(1)[0], path=b"/photos/caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    with gallery.writing():
        gallery.append([broken], vectors(1))
    assert Gallery.open(tmp_path / "g").rows([0])[0].path == "/photos/caf\\udce9.jpg"


def test_the_approximate_index_is_refused_for_few_pictures(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    with gallery.writing():
        gallery.append(rows(10), vectors(10))
        with pytest.raises(UsageError, match=f"has 10 pictures; an approximate index is for {ANN_LEAST_ROWS} or more"):
            gallery.build_ann()


def test_the_approximate_index_finds_nearly_what_exact_search_finds_and_sees_later_rows(tmp_path: Path) -> None:
    # Given a gallery of clustered vectors with an approximate index
    rng = np.random.default_rng(5)
    count = ANN_LEAST_ROWS
    centres = rng.normal(size=(100, 32)).astype(np.float32)
    stored = (centres[rng.integers(100, size=count)] + 0.5 * rng.normal(size=(count, 32))).astype(np.float32)
    gallery = Gallery.create(tmp_path / "g", IDENTITY)
    with gallery.writing():
        gallery.append(rows(count), stored)
        gallery.build_ann()
        # And a row that came after it
        late = stored[:1] + 10
        gallery.append(rows(1, first=count), late)
    opened = Gallery.open(tmp_path / "g")
    assert opened.ann_rows == count
    # When it is searched
    hits = 0
    for query in stored[:20] + 0.01:
        exact = ((stored.astype(np.float64) - query) ** 2).sum(1)
        found, distances = opened.ann_search(query, top=10, probes=20, refine=10)
        names = {f"/photos/{n}.jpg" for n in np.argsort(exact)[:10]}
        hits += len(names & {row.path for row in found})
        # Then distances are exact and in order
        np.testing.assert_allclose(distances, [exact[int(row.path[8:-4])] for row in found], rtol=1e-4, atol=1e-4)
        assert (np.diff(distances) >= 0).all()
    # And nearly all of the nearest are found, the late row too
    assert hits / 200 >= 0.95
    assert opened.ann_search(late[0], top=1, probes=1, refine=1)[0][0].path == f"/photos/{count}.jpg"


def test_without_pylance_the_message_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine without pylance
    monkeypatch.setitem(sys.modules, "lance", None)
    (tmp_path / "photos").mkdir()
    # When a gallery is made or searched
    for command in (
        ["index", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g")],
        ["search", str(tmp_path / "g"), "a.jpg"],
    ):
        code = main(command)
        # Then the extra is named, and nothing is left behind
        assert code == 6
        assert "pip install 'streamwatch[gallery]'" in capsys.readouterr().err
    assert not (tmp_path / "g").exists()
