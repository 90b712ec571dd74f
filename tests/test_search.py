"""Exact search in memory, and `streamwatch search` over it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from streamwatch.cli import main
from streamwatch.errors import UsageError
from streamwatch.imaging import encode_jpeg
from streamwatch.offline.coarse import CoarseCodes, coarse_works
from streamwatch.offline.gallery import Gallery
from streamwatch.offline.search import ExactSearch
from tests.pictures import random_picture
from tests.shared_data import shared


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", "cityblock", "correlation", "seuclidean"])
@pytest.mark.parametrize(("pictures", "queries", "top"), [(500, 7, 10), (40, 3, 40), (1, 1, 1)])
def test_results_are_those_of_scipy(metric: str, pictures: int, queries: int, top: int) -> None:
    # Given vectors that are no unit vectors
    gallery, asked = normal(pictures, 64) * 3 + 1, normal(queries, 64, seed=1) + 1
    # When the nearest are searched for
    found = ExactSearch(gallery).search(asked, top=top, metric=metric)
    # Then order and values are SciPy's
    matrix = cdist(asked, gallery, metric)
    order = np.argsort(matrix, axis=1, kind="stable")[:, :top]
    np.testing.assert_array_equal(found.positions, order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(matrix, order, 1), rtol=1e-5)


def test_order_is_exact_where_single_precision_products_cannot_tell() -> None:
    # Given vectors far from the origin and all but equal: ‖q‖² − 2q·g + ‖g‖² has lost every digit of their distances
    gallery = (1000 + 0.01 * normal(3000, 256)).astype(np.float32)
    asked = (1000 + 0.01 * normal(4, 256, seed=1)).astype(np.float32)
    matrix = cdist(asked, gallery, "sqeuclidean")
    naive = (gallery * gallery).sum(1) - 2 * asked @ gallery.T
    order = np.argsort(matrix, axis=1, kind="stable")[:, :10]
    assert (np.argsort(naive, axis=1)[:, :10] != order).any()  # the case is as hard as it is meant to be
    # Then the nearest are found all the same
    found = ExactSearch(gallery).search(asked, top=10)
    np.testing.assert_array_equal(found.positions, order)


@pytest.mark.skipif(not coarse_works(), reason="this processor has no fast 8-bit products")
@pytest.mark.parametrize("kind", ["normal", "clustered", "two values", "duplicates", "far away", "one that is huge"])
@pytest.mark.parametrize("top", [1, 10])
def test_codes_change_no_result(kind: str, top: int) -> None:
    # Given vectors of kinds that rounding to few bits may harm
    rng = np.random.default_rng(7)
    gallery, asked = normal(3000, 96), normal(20, 96, seed=1)
    if kind == "clustered":
        gallery, asked = (
            0.05 * part + normal(40, 96, seed=2)[rng.integers(40, size=len(part))] for part in (gallery, asked)
        )
    elif kind == "two values":
        gallery, asked = (np.where(part > 1, np.float32(1), np.float32(0.503)) for part in (gallery, asked))
    elif kind == "duplicates":
        gallery = np.tile(gallery[:100], (30, 1))
    elif kind == "far away":
        gallery, asked = gallery * np.float32(0.01) + 1000, asked * np.float32(0.01) + 1000
    elif kind == "one that is huge":
        gallery[1234] *= 1e4
    gallery, asked = gallery.astype(np.float32), asked.astype(np.float32)
    # When they are searched by codes
    search = ExactSearch(gallery)
    assert search.prepare()
    found = search.search(asked, top=top)
    # Then the result is SciPy's
    matrix = cdist(asked, gallery, "sqeuclidean")
    order = np.argsort(matrix, axis=1, kind="stable")[:, :top]
    np.testing.assert_array_equal(found.positions, order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(matrix, order, 1), rtol=1e-9)


@pytest.mark.skipif(not coarse_works(), reason="this processor has no fast 8-bit products")
def test_distances_by_codes_keep_their_bound_and_the_bound_is_not_idle() -> None:
    # Given codes of vectors of many lengths, and all distances
    gallery = normal(2000, 512) * np.random.default_rng(3).uniform(0.1, 3, (2000, 1)).astype(np.float32)
    asked = normal(50, 512, seed=4)
    scores, off, squares = CoarseCodes(torch.from_numpy(gallery)).scores(torch.from_numpy(asked))
    wrong = (scores + squares[:, None]).numpy() - cdist(asked, gallery, "sqeuclidean")
    # Then none is off by more than its bound, and some by a tenth of it
    assert (np.abs(wrong) <= off.numpy()[:, None]).all()
    assert (np.abs(wrong) >= 0.1 * off.numpy()[:, None]).any()


def test_ties_come_in_order_of_position_whatever_their_number() -> None:
    gallery = np.tile(normal(3, 16), (200, 1))
    found = ExactSearch(gallery).search(gallery[:3], top=12)
    np.testing.assert_array_equal(found.positions, [[start + 3 * n for n in range(12)] for start in range(3)])


def test_galleries_larger_than_a_block_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, asked = normal(1000, 32), normal(9, 32, seed=1)
    at_once = ExactSearch(gallery).search(asked, top=5)
    monkeypatch.setattr("streamwatch.offline.search._BLOCK_NUMBERS", 640)
    blocked = ExactSearch(gallery).search(asked, top=5)
    np.testing.assert_array_equal(blocked.positions, at_once.positions)
    np.testing.assert_array_equal(blocked.distances, at_once.distances)


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine", "cityblock"])
def test_a_picture_is_as_near_as_its_nearest_window(metric: str) -> None:
    # Given pictures of five windows each, in half precision
    gallery, asked = normal(300, 5, 24).astype(np.float16), normal(6, 24, seed=1)
    # When they are searched
    found = ExactSearch(gallery).search(asked, top=8, metric=metric)
    # Then each picture counts once, by its nearest window
    matrix = cdist(asked, gallery.reshape(-1, 24).astype(np.float32), metric).reshape(6, 300, 5)
    order = np.argsort(matrix.min(2), axis=1, kind="stable")[:, :8]
    np.testing.assert_array_equal(found.positions, order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(matrix.min(2), order, 1), rtol=1e-5)
    np.testing.assert_array_equal(found.windows, np.take_along_axis(matrix.argmin(2), order, 1))


def test_more_results_than_pictures_gives_all() -> None:
    assert ExactSearch(normal(4, 8)).search(normal(2, 8), top=10).positions.shape == (2, 4)
    assert ExactSearch(normal(0, 8)).search(normal(2, 8), top=10).positions.shape == (2, 0)


def test_cosine_distances_to_zeros_are_not_defined_and_come_last() -> None:
    gallery = normal(30, 8)
    gallery[3] = 0
    found = ExactSearch(gallery).search(normal(2, 8, seed=1), top=30, metric="cosine")
    assert (found.positions[:, -1] == 3).all()
    assert np.isnan(found.distances[:, -1]).all()
    assert np.isfinite(found.distances[:, :-1]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    broken = normal(20, 8)
    broken[13, 2] = bad
    with pytest.raises(UsageError, match="position 13 of the gallery holds NaN or infinity"):
        ExactSearch(broken)
    with pytest.raises(UsageError, match="query's vector holds NaN or infinity"):
        ExactSearch(normal(20, 8)).search(broken, top=1)


def test_queries_that_do_not_fit_are_refused() -> None:
    search = ExactSearch(normal(20, 8))
    with pytest.raises(UsageError, match=r"queries have shape \(2, 9\), expected \(queries, 8\)"):
        search.search(normal(2, 9), top=1)
    with pytest.raises(UsageError, match="expected at least 1"):
        search.search(normal(2, 8), top=0)
    with pytest.raises(UsageError, match="sqeuclidean"):
        search.search(normal(2, 8), top=1, metric="sqeuclidian")


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures, and a gallery of them with regional vectors."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "photos").mkdir()
    for seed in range(12):
        pixels = random_picture(seed, width=320, height=240).rgb()
        if seed == 5:  # something on its lower right that no other has
            pixels[105:, 140:] = np.where(np.indices((135, 180)).sum(0)[:, :, None] // 12 % 2, 250, (160, 20, 20))
        (folder / "photos" / f"{seed:02}.jpg").write_bytes(encode_jpeg(pixels, 95))
    gallery = str(folder / "g")
    assert main(["index", str(folder / "photos"), "--gallery", gallery, "--network", "lite0", "--regional"]) == 0
    return folder


def documents(capsys: pytest.CaptureFixture[str]) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_picture_finds_itself_first_and_others_leaves_it_out(
    indexed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # When two of the pictures are searched for
    asked = [str(indexed / "photos" / name) for name in ("03.jpg", "07.jpg")]
    assert main(["search", str(indexed / "g"), *asked, "--top", "5", "--json"]) == 0
    answers = documents(capsys)
    # Then each is its own nearest, at no distance
    assert [answer["results"][0]["path"] for answer in answers] == asked
    assert [answer["results"][0]["distance"] for answer in answers] == pytest.approx([0, 0], abs=1e-6)
    assert [[hit["rank"] for hit in answer["results"]] for answer in answers] == [[1, 2, 3, 4, 5]] * 2
    # And with --others the rest moves up
    assert main(["search", str(indexed / "g"), *asked, "--top", "4", "--json", "--others"]) == 0
    for with_itself, others in zip(answers, documents(capsys), strict=True):
        assert [hit["path"] for hit in others["results"]] == [hit["path"] for hit in with_itself["results"][1:]]
        assert [hit["rank"] for hit in others["results"]] == [1, 2, 3, 4]


def test_a_crop_is_found_in_its_place_by_regional_matching(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Given the crop that is the lower right of a picture
    picture = str(indexed / "photos" / "05.jpg")
    command = ["search", str(indexed / "g"), picture, "--box", "140,105,180,135", "--json", "--top", "12"]
    # When it is searched for, whole-frame and regional
    assert main(command) == 0
    whole = documents(capsys)[0]
    assert main([*command, "--regional"]) == 0
    regional = documents(capsys)[0]
    # Then regional matching brings its picture nearer, and says where it lies
    in_whole, in_regional = (
        next(hit for hit in answer["results"] if hit["path"] == picture) for answer in (whole, regional)
    )
    assert in_regional["rank"] == 1
    assert in_regional["distance"] < 0.95 * in_whole["distance"]
    assert in_whole["region"] is None
    region = in_regional["region"]
    assert region["x"] + region["width"] / 2 > 0.5
    assert region["y"] + region["height"] / 2 > 0.5


def test_more_results_than_the_gallery_has_is_said(indexed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(indexed / "g"), str(indexed / "photos" / "00.jpg"), "--top", "50", "--json"]) == 0
    answer = documents(capsys)[0]
    assert len(answer["results"]) == 12
    assert answer["notes"] == ["50 results were asked for; the gallery has 12, all that there are follow"]


def test_the_contact_sheet_needs_nothing_else_and_shows_everything(indexed: Path, tmp_path: Path) -> None:
    # Given a gallery whose picture 02 is no longer there, and a query whose name wants to be a script
    photos = indexed / "photos"
    query = tmp_path / "<script>alert(1)<script>.jpg"
    query.write_bytes((photos / "01.jpg").read_bytes())
    moved = (photos / "02.jpg").rename(tmp_path / "away.jpg")
    try:
        # When the sheet is written
        out = tmp_path / "sheets" / "sheet.html"
        command = ["search", str(indexed / "g"), str(query), "--box", "10,10,200,200", "--regional", "--top", "12"]
        assert main([*command, "--out", str(out)]) == 0
    finally:
        moved.rename(photos / "02.jpg")
    page = out.read_text()
    # Then query and results are in it, the missing one is said to be missing, and nothing comes from elsewhere
    assert page.count("<img ") == page.count('src="data:image/jpeg;base64,') == 12
    assert re.search(r"The picture \S*02\.jpg could not be read", page)
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing", "00.jpg"], 3, "does not exist; make one with `streamwatch index"),
        (["g", "missing.jpg"], 3, "no such file"),
        (["g", "00.jpg", "--box", "1,2,3"], 2, "expected x,y,width,height"),
        (["g", "00.jpg", "--box", "0,0,0,5"], 2, "expected x,y,width,height"),
        (["g", "00.jpg", "--box", "300,0,100,100"], 3, "does not lie in the picture, which has 320×240 pixels"),
        (["g", "00.jpg", "--top", "0"], 2, "--top is 0"),
        (["g", "00.jpg", "--metric", "hemming"], 2, "hemming"),
        (["g", "00.jpg", "--ann"], 2, "has no approximate index; build it with"),
        (["g", "00.jpg", "--ann", "--metric", "cityblock"], 2, "--ann knows the metrics"),
        (["g", "00.jpg", "--weights", "nowhere.safetensors"], 4, "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_message(
    indexed: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(indexed / "photos")
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["search", f"../{arguments[0]}", *arguments[1:]]) == code
    heard = capsys.readouterr()
    assert said in heard.err
    assert heard.err.count("streamwatch: ") == 1
    assert not heard.out


def test_a_query_that_cannot_be_read_does_not_stop_the_others(
    indexed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    good = str(indexed / "photos" / "04.jpg")
    assert main(["search", str(indexed / "g"), str(tmp_path / "empty.jpg"), good, "--json"]) == 3
    heard = capsys.readouterr()
    assert "is empty (0 bytes)" in heard.err
    assert [json.loads(line)["query"] for line in heard.out.splitlines()] == [good]


def test_an_empty_gallery_is_said_to_be_empty(
    indexed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Gallery.create(tmp_path / "e", Gallery.open(indexed / "g").identity)
    assert main(["search", str(tmp_path / "e"), str(indexed / "photos" / "00.jpg")]) == 2
    assert "is empty; add pictures" in capsys.readouterr().err


@pytest.mark.slow
def test_photos_of_the_same_class_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Given every third of 900 photos of ten classes
    photos = sorted(shared("data/images/corel1k/gallery").iterdir(), key=lambda path: int(path.stem))
    (tmp_path / "photos").mkdir()
    for path in photos[::3]:
        (tmp_path / "photos" / path.name).symlink_to(path)
    assert main(["index", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g"), "--network", "lite0"]) == 0
    capsys.readouterr()
    # When 25 others are searched for
    asked = sorted(shared("data/images/corel1k/queries").iterdir(), key=lambda path: int(path.stem))[::4]
    assert main(["search", str(tmp_path / "g"), *map(str, asked), "--json"]) == 0
    # Then most of the first ten are of the query's class; by chance it would be one in ten
    right = [
        int(Path(hit["path"]).stem) // 90 == int(Path(answer["query"]).stem) // 10
        for answer in documents(capsys)
        for hit in answer["results"]
    ]
    assert len(right) == 250
    assert np.mean(right) > 0.8
