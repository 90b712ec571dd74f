"""Pictures into a gallery: `streamwatch index`, on good pictures, odd ones, broken ones, and when it is killed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from streamwatch.cli import main
from streamwatch.embedding import EmbedderIdentity
from streamwatch.errors import SourceUnusable, UsageError, WeightsInvalid
from streamwatch.imaging import ArrayPicture, encode_jpeg
from streamwatch.offline.features import FeatureExtractor, windows_of
from streamwatch.offline.gallery import Gallery
from streamwatch.offline.gallery_records import PixelBox
from streamwatch.offline.indexing import index
from streamwatch.offline.picture_lists import Item, find_images, parse_box, read_boxes
from streamwatch.records import Grid, Picture
from tests.pictures import random_picture
from tests.running import COMMAND, environment, wait_for

GRID = Grid(7, 7)
"""Of the layer."""


class MapEmbedder:
    """A real embedder without a network: the raw mean colours of a grid."""

    def __init__(self, *, grid: Grid = GRID, broken: bool = False, takes_s: float = 0.0) -> None:
        self.identity = EmbedderIdentity(
            network="lite0",
            layer="features",
            weights_id="sha256:0000000000000000",
            fit="squash",
            unit_length=False,
            grid=grid,
            dimensions=3,
        )
        self.broken, self.takes_s = broken, takes_s
        self.seen = 0
        self.interrupt_after: int | None = None

    @property
    def batch_size(self) -> int:
        return 8

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        time.sleep(self.takes_s * len(pictures))
        self.seen += len(pictures)
        if self.interrupt_after is not None and self.seen > self.interrupt_after:
            raise KeyboardInterrupt
        if self.broken and self.seen > 40:
            raise WeightsInvalid("numbers that are not finite")
        grid, cell = self.identity.grid, 224 // self.identity.grid.rows
        pixels = np.stack([picture.rgb(width=224, height=224) for picture in pictures]).astype(np.float32)
        maps = pixels.reshape(len(pixels), grid.rows, cell, grid.columns, cell, 3).mean(axis=(2, 4))
        return np.ascontiguousarray(maps.reshape(len(pixels), grid.regions, 3))


def extractor(embedder: MapEmbedder | None = None, **options: object) -> FeatureExtractor:
    return FeatureExtractor(embedder or MapEmbedder(), **{"pooling": "flat", "unit_length": False, **options})  # type: ignore[arg-type]


def write_photos(folder: Path, count: int, *, first: int = 0) -> list[Path]:
    """Pictures of one colour each, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(first, first + count):
        pixels = np.full((24, 32, 3), (number % 250, number // 250 * 20, 90), np.uint8)
        paths.append(folder / f"{number:04}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def run_index(gallery: Gallery, items: Sequence[Item], features: FeatureExtractor, **options: object):  # type: ignore[no-untyped-def]
    with gallery.writing():
        return index(items, gallery, features, **options)  # type: ignore[arg-type]


def test_every_picture_gets_its_own_vector(tmp_path: Path) -> None:
    # Given more pictures than fit a batch, each of one colour
    paths = write_photos(tmp_path / "photos", 75)
    features = extractor()
    gallery = Gallery.create(tmp_path / "g", features.identity)
    heard: list[int] = []
    # When they are indexed by several threads
    summary = run_index(gallery, [Item(path) for path in paths], features, workers=4, progress=heard.append)
    # Then every row's vector is its picture's colour
    assert (summary.asked, summary.added, summary.known, summary.problems) == (75, 75, 0, [])
    opened = Gallery.open(tmp_path / "g")
    for row, vector in zip(opened.rows(range(75)), opened.load(), strict=True):
        number = int(Path(row.path).stem)
        np.testing.assert_allclose(vector.reshape(49, 3), [(number % 250, 0, 90)] * 49, atol=0.01)
        assert (row.width, row.height, row.box) == (32, 24, None)
    # And progress only went forward, to the end
    assert heard == sorted(heard)
    assert heard[-1] == 75


def test_what_the_gallery_has_is_known_by_content_whatever_its_name(tmp_path: Path) -> None:
    # Given a gallery of ten pictures
    paths = write_photos(tmp_path / "photos", 10)
    embedder = MapEmbedder()
    features = extractor(embedder)
    gallery = Gallery.create(tmp_path / "g", features.identity)
    run_index(gallery, [Item(path) for path in paths], features)
    # When the same come under other names, one of them twice, with two that are new
    copies = [tmp_path / "copies" / f"c{n}.png" for n in range(10)]
    (tmp_path / "copies").mkdir()
    for source, copy in zip(paths, copies, strict=True):
        copy.write_bytes(source.read_bytes())
    new = write_photos(tmp_path / "copies", 2, first=100)
    (tmp_path / "copies" / "twice.png").write_bytes(new[0].read_bytes())
    summary = run_index(gallery, [Item(path) for path in find_images([tmp_path / "copies"])], features)
    # Then only the new ones go through the network
    assert (summary.asked, summary.added, summary.known) == (13, 2, 11)
    assert embedder.seen == 12
    assert len(Gallery.open(tmp_path / "g")) == 12


def test_an_interrupt_keeps_what_is_done_and_the_next_run_adds_the_rest(tmp_path: Path) -> None:
    # Given a run that is interrupted
    items = [Item(path) for path in write_photos(tmp_path / "photos", 100)]
    embedder = MapEmbedder()
    embedder.interrupt_after = 50
    features = extractor(embedder)
    gallery = Gallery.create(tmp_path / "g", features.identity)
    first = run_index(gallery, items, features)
    # Then it says so, and has kept whole batches
    assert first.interrupted
    assert 0 < first.added <= 50
    assert len(Gallery.open(tmp_path / "g")) == first.added
    # And the next one adds what is missing and nothing twice
    embedder.interrupt_after = None
    second = run_index(gallery, items, features)
    assert (second.added, second.known, second.interrupted) == (100 - first.added, first.added, False)
    opened = Gallery.open(tmp_path / "g")
    assert sorted(row.path for row in opened.rows(range(len(opened)))) == [str(item.path) for item in items]


def test_numbers_that_are_not_finite_end_the_run_and_keep_what_was_good(tmp_path: Path) -> None:
    items = [Item(path) for path in write_photos(tmp_path / "photos", 64)]
    features = extractor(MapEmbedder(broken=True))
    gallery = Gallery.create(tmp_path / "g", features.identity)
    with pytest.raises(WeightsInvalid):
        run_index(gallery, items, features)
    assert len(Gallery.open(tmp_path / "g")) == 32


def test_reading_runs_beside_the_network(tmp_path: Path) -> None:
    # Given pictures that take long to read, and a network that takes as long
    pixels = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(24):
        pixels[0, 0] = number
        (folder / f"{number}.jpg").write_bytes(encode_jpeg(pixels, 90))
    paths = find_images([folder])
    started_s = time.monotonic()
    for path in paths:
        ArrayPicture(np.asarray(Image.open(path).convert("RGB"))).rgb(width=224, height=224)
    read_s = time.monotonic() - started_s
    features = extractor(MapEmbedder(takes_s=read_s / 24))
    gallery = Gallery.create(tmp_path / "g", features.identity)
    # When they are indexed
    summary = run_index(gallery, [Item(path) for path in paths], features, chunk=4, workers=2)
    # Then it takes clearly less than one after the other
    assert summary.elapsed_s < 1.8 * read_s


def test_odd_pictures_are_indexed_and_broken_ones_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given pictures of many kinds, and files that are none
    monkeypatch.setenv("COLUMNS", "400")
    photos = tmp_path / "photos" / "sub"
    photos.mkdir(parents=True)
    base = Image.fromarray(random_picture(1, width=90, height=60).rgb())
    base.convert("CMYK").save(photos / "cmyk.jpg")
    Image.fromarray((np.arange(5400, dtype=np.uint16) * 12).reshape(60, 90)).save(photos / "sixteen.png")
    base.save(photos / "animated.gif", save_all=True, append_images=[base.rotate(90)])
    base.quantize(16).save(photos / "palette.PNG")
    turned = Image.Exif()
    turned[0x0112] = 6
    base.save(photos / "turned.jpg", exif=turned)
    whole = io.BytesIO()
    base.save(whole, "JPEG")
    (photos / "cut.jpg").write_bytes(whole.getvalue()[:-400])
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no picture")
    Image.new("1", (11_000, 11_000)).save(photos / "huge.png")
    (photos / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (photos / "notes.txt").write_text("not asked for")
    # When the folder is indexed
    code = main(["index", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g"), "--network", "lite0", "--json"])
    heard = capsys.readouterr()
    summary = json.loads(heard.out)
    # Then the odd ones are in the gallery, upright
    assert (code, summary["asked"], summary["added"]) == (0, 10, 5)
    opened = Gallery.open(tmp_path / "g")
    sizes = {Path(row.path).name: (row.width, row.height) for row in opened.rows(range(5))}
    assert sizes == {
        "animated.gif": (90, 60),
        "cmyk.jpg": (90, 60),
        "palette.PNG": (90, 60),
        "sixteen.png": (90, 60),
        "turned.jpg": (60, 90),
    }
    # And each broken one is named with its reason
    reasons = {Path(problem["path"]).name: problem["reason"] for problem in summary["problems"]}
    for name, said in {
        "cut.jpg": "damaged or cut off",
        "empty.jpg": "is empty (0 bytes)",
        "text.png": "no image of a known format",
        "huge.png": "11000×11000 pixels",
        "dangling.jpg": "no such file",
    }.items():
        assert said in reasons.pop(name)
        assert name in heard.err
    assert not reasons


def test_pictures_of_which_none_can_be_read_end_in_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert main(["index", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g"), "--network", "lite0"]) == 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_in_the_middle_and_run_again_loses_and_doubles_nothing(
    tmp_path: Path, how: signal.Signals
) -> None:
    # Given 400 pictures and a run over them that stores few a transaction
    paths = write_photos(tmp_path / "photos", 400)
    gallery = tmp_path / "g"
    command = [
        *COMMAND,
        "index",
        "photos",
        "--gallery",
        "g",
        "--network",
        "lite0",
        "--layer",
        "blocks.4.2",
        "--flush",
        "8",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    # When it is killed after some of them
    wait_for(lambda: Gallery.exists(gallery) and len(Gallery.open(gallery)) > 0, "the first transactions")
    process.send_signal(how)
    out, _ = process.communicate(timeout=60)
    stored = len(Gallery.open(gallery))
    assert 0 < stored < 400
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted: run it again to go on" in out
    # And it is run again
    done = subprocess.run(
        [*command[:-1], "512", "--json"], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    # Then it adds the rest, and every picture is there once
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["added"], summary["known"], summary["rows"]) == (400 - stored, stored, 400)
    opened = Gallery.open(gallery)
    assert sorted(row.path for row in opened.rows(range(400))) == [str(path) for path in paths]
    assert len(opened.ids()) == 400


def test_crops_of_a_csv_are_indexed_beside_whole_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Given two pictures and a CSV as a spreadsheet writes it: byte order mark, semicolons, one row twice, bad rows
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        (photos / name).write_bytes(encode_jpeg(random_picture(seed, width=200, height=100).rgb()))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(
        "\ufeffpath; x;y;width;height;label\n"
        "photos/a.jpg;10;20;50;40;crane\n"
        "photos/b.jpg;0;0;200;100;all\n"
        "photos/a.jpg;10;20;50;40;again\n"
        "photos/a.jpg;180;0;50;50;outside\n"
        "photos/a.jpg;ten;0;50;50;no number\n"
        "photos/a.jpg;-1;0;50;50;below\n"
        "photos/gone.jpg;0;0;5;5;missing\n"
        ";0;0;5;5;nameless\n",
        encoding="utf-8",
    )
    # When folder and crops are indexed
    gallery = str(tmp_path / "g")
    assert (
        main(["index", str(photos), "--boxes", str(boxes), "--gallery", gallery, "--network", "lite0", "--json"]) == 0
    )
    summary = json.loads(capsys.readouterr().out)
    # Then both pictures and both crops are there
    opened = Gallery.open(tmp_path / "g")
    found = {(Path(row.path).name, row.box) for row in opened.rows(range(len(opened)))}
    assert found == {
        ("a.jpg", None),
        ("b.jpg", None),
        ("a.jpg", PixelBox(10, 20, 50, 40)),
        ("b.jpg", PixelBox(0, 0, 200, 100)),
    }
    # And every bad row is named
    reasons = " | ".join(f"{problem['path']}: {problem['reason']}" for problem in summary["problems"])
    for said in ("180,0,50,50 does not lie in the picture", "x is 'ten'", "line 7", "gone.jpg", "path is empty"):
        assert said in reasons
    assert len(summary["problems"]) == 5
    # And a crop has other vectors than its whole picture, the whole as a crop the same
    by_row = dict(zip([(Path(r.path).name, r.box is None) for r in opened.rows(range(4))], opened.load(), strict=True))
    assert ((by_row["a.jpg", True] - by_row["a.jpg", False]) ** 2).sum() > 0.05
    np.testing.assert_allclose(by_row["b.jpg", True], by_row["b.jpg", False], atol=1e-5)
    # And a second run knows all of them
    assert main(["index", str(photos), "--boxes", str(boxes), "--gallery", gallery, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lacks the columns path, x, y, width, height"),
        (b"path,x,y,width\na.jpg,1,2,3\n", "lacks the columns height: its first line names path, x, y, width"),
        (b"path,x,y,width,height\ncaf\xe9.jpg,1,2,3,4\n", "is not UTF-8 text"),
    ],
)
def test_a_csv_that_is_none_of_boxes_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "boxes.csv").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_boxes(tmp_path / "boxes.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_boxes(tmp_path / "missing.csv")


def test_a_gallery_is_added_to_as_it_was_made_and_other_wishes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a gallery of Lite0's 14×14 layer, maxima at raw length
    monkeypatch.setenv("COLUMNS", "400")
    write_photos(tmp_path / "photos", 2)
    command = ["index", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g")]
    made = ["--network", "lite0", "--layer", "blocks.4.2", "--pooling", "max", "--raw"]
    assert main([*command, *made]) == 0
    # When more is added without saying any of that
    write_photos(tmp_path / "photos", 2, first=2)
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    # Then it is made in the same way
    summary = json.loads(capsys.readouterr().out)
    assert (summary["added"], summary["rows"], summary["identity"]["dimensions"]) == (2, 4, 112)
    # And what would make other vectors is refused, both named
    for wish, code in (
        (["--network", "vgg16"], 4),
        (["--layer", "features"], 4),
        (["--pooling", "gem"], 4),
        (["--fit", "crop"], 4),
        (["--half"], 2),
        (["--regional"], 2),
    ):
        assert main([*command, *wish]) == code
        said = capsys.readouterr().err
        assert wish[-1] in said
        if code == 4:
            assert "lite0 blocks.4.2, max, raw, squash, 112 numbers, weights sha256:" in said


def test_other_weights_of_the_same_network_are_refused_and_both_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a gallery that was made with weights other than the embedded ones
    monkeypatch.setenv("COLUMNS", "600")
    write_photos(tmp_path / "photos", 1)
    command = ["index", str(tmp_path / "photos"), "--gallery", str(tmp_path / "g")]
    assert main([*command, "--network", "lite0"]) == 0
    other = dataclasses.replace(Gallery.open(tmp_path / "g").identity, weights_id="sha256:feedfeedfeedfeed")
    Gallery.create(tmp_path / "other", other)
    # When pictures are to be added or searched for with the embedded ones
    capsys.readouterr()
    assert main([*command[:-1], str(tmp_path / "other")]) == 4
    # Then that is refused
    said = capsys.readouterr().err
    assert "sha256:feedfeedfeedfeed" in said
    assert Gallery.open(tmp_path / "g").identity.weights_id in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "there is nothing to index"),
        (["nowhere"], 3, "nowhere does not exist"),
        (["empty"], 3, "there are no images in empty"),
        (["photos", "--batch", "0"], 2, "--batch is 0"),
        (["photos", "--flush", "0"], 2, "--flush is 0"),
        (["photos", "--pooling", "median"], 2, "expected one of mean, max, gem, rmac, flat"),
        (["photos", "--layer", "pooled", "--regional"], 2, "try --layer features"),
        (["photos", "--pooling", "flat", "--regional"], 2, "regional vectors cannot be flat"),
        (["photos", "--network", "lite9"], 4, "lite9"),
        (["--ann"], 3, "does not exist; make one"),
    ],
)
def test_what_cannot_be_indexed_is_refused_in_one_message_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "empty").mkdir()
    write_photos(tmp_path / "photos", 1)
    if "--network" not in arguments:
        arguments = [*arguments, "--network", "lite0"]
    assert main(["index", *arguments, "--gallery", "g"]) == code
    heard = capsys.readouterr()
    assert said in heard.err
    assert heard.err.count("streamwatch: ") == 1
    assert not (tmp_path / "g").exists()


def test_pooling_over_windows_is_what_its_name_says() -> None:
    # Given raw regions
    raw = np.abs(np.random.default_rng(3).normal(size=(2, 49, 3))).astype(np.float32)

    class Fixed(MapEmbedder):
        def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
            return raw

    pooled = {name: extractor(Fixed(), pooling=name, scales=2).extract([]).vectors for name in ("mean", "max", "gem")}
    # Then each pooling gives its formula's value
    np.testing.assert_allclose(pooled["mean"], raw.mean(1), rtol=1e-5)
    np.testing.assert_allclose(pooled["max"], raw.max(1), rtol=1e-6)
    np.testing.assert_allclose(pooled["gem"], (raw.astype(np.float64) ** 3).mean(1) ** (1 / 3), rtol=1e-5)
    np.testing.assert_array_equal(extractor(Fixed(), pooling="flat").extract([]).vectors, raw.reshape(2, -1))
    # And unit length scales vectors and windows alike
    features = extractor(Fixed(), pooling="mean", unit_length=True, scales=3).extract([])
    assert features.regions is not None
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features.regions, axis=2), 1, rtol=1e-6)
    # And the first window is the whole
    np.testing.assert_allclose(features.regions[:, 0], features.vectors, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "gem", "rmac", "flat"])
def test_every_pooling_of_a_real_network_makes_a_gallery_that_finds_its_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pooling: str
) -> None:
    # Given three pictures
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        (photos / f"{seed}.jpg").write_bytes(encode_jpeg(random_picture(seed, width=1000, height=700).rgb()))
    # When they are indexed with that pooling, and one of them searched for
    gallery = str(tmp_path / "g")
    assert main(["index", str(photos), "--gallery", gallery, "--network", "lite0", "--pooling", pooling]) == 0
    capsys.readouterr()
    assert main(["search", gallery, str(photos / "1.jpg"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["results"][0]
    # Then it is found, at no distance, and known in its whole size
    assert (Path(first["path"]).name, first["distance"]) == ("1.jpg", pytest.approx(0, abs=1e-6))
    row = Gallery.open(tmp_path / "g").rows([0])[0]
    assert (row.width, row.height) == (1000, 700)


def test_windows_of_every_scale_cover_the_grid_and_lie_in_it() -> None:
    windows = windows_of(Grid(14, 14), 3)
    assert len(windows) == 1 + 4 + 9
    for side, count in ((14, 1), (9, 4), (7, 9)):
        chosen = [window for window in windows if window.bottom - window.top == side]
        assert len(chosen) == count
        covered = np.zeros((14, 14), bool)
        for window in chosen:
            assert min(window.top, window.left) >= 0
            assert max(window.bottom, window.right) <= 14
            covered[window.top : window.bottom, window.left : window.right] = True
        assert covered.all()
    assert windows_of(Grid(7, 7), 0) == ()


def test_boxes_are_read_as_people_write_them() -> None:
    assert parse_box("40, 25,300,200") == PixelBox(40, 25, 300, 200)
    for text in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "0,0,0,5", "nan,0,1,1", "1e99,0,1,1"):
        with pytest.raises(UsageError, match="expected x,y,width,height in pixels"):
            parse_box(text)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "photos" / "locked"
    folder.mkdir(parents=True)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(locked: Path) -> None:
    with pytest.raises(SourceUnusable, match=r"locked cannot be read: Permission denied"):
        find_images([locked.parent])


def test_folders_are_walked_in_order_and_files_counted_once(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a/1.JPG", "a/z/3.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path / "b", tmp_path, tmp_path / "a" / "1.JPG"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/2.jpg", "a/1.JPG", "a/z/3.png"]
