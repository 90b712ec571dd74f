from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streamwatch.errors import SourceUnusable
from streamwatch.imaging import MAX_PIXELS, ArrayPicture, decode_image, encode_jpeg, load_picture
from streamwatch.records import RGB


def noise(height: int, width: int, seed: int = 0) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def test_shrinking_averages_over_areas() -> None:
    # Given noise
    pixels = noise(64, 96)
    # When it is shrunk four times
    small = ArrayPicture(pixels).rgb(width=24, height=16)
    # Then each pixel is the mean of its area
    means = pixels.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("size", [(200, 100), (200, 10), (10, 200), (1, 1), (96, 64)])
def test_any_size_can_be_asked_for_and_keeps_the_brightness(size: tuple[int, int]) -> None:
    # Given a picture
    pixels = noise(64, 96)
    # When it is grown, shrunk, or both
    resized = ArrayPicture(pixels).rgb(width=size[0], height=size[1])
    # Then it has that size and the same mean
    assert resized.shape == (size[1], size[0], 3)
    assert resized.mean() == pytest.approx(pixels.mean(), abs=3)


def test_each_call_returns_an_array_of_its_own() -> None:
    # Given a picture
    picture = ArrayPicture(noise(8, 8))
    first = picture.rgb()
    # When somebody writes into what they got
    first[:] = 0
    # Then the picture is what it was
    assert picture.rgb().any()


def test_half_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        ArrayPicture(noise(8, 8)).rgb(width=4)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_only_rgb_arrays_make_a_picture(pixels: RGB) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        ArrayPicture(pixels)


def test_a_jpeg_comes_back_nearly_as_it_was() -> None:
    # Given a smooth picture
    pixels = np.ascontiguousarray(np.broadcast_to(np.arange(96, dtype=np.uint8)[None, :, None] * 2, (64, 96, 3)))
    # When it is encoded and decoded
    back = decode_image(encode_jpeg(pixels, 95))
    # Then it differs by little
    assert np.abs(back.astype(int) - pixels).max() <= 4


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("L", (5, 4), 200), "PNG"),
        (Image.new("1", (5, 4), 1), "PNG"),
        (Image.new("RGB", (5, 4), (200, 200, 200)).quantize(8), "PNG"),
        (Image.new("RGB", (5, 4), (200, 200, 200)).quantize(8), "GIF"),
        (Image.new("CMYK", (5, 4), (55, 55, 55, 0)), "JPEG"),
        (Image.new("CMYK", (5, 4), (55, 55, 55, 0)), "TIFF"),
        (Image.new("RGBA", (5, 4), (200, 200, 200, 255)), "PNG"),
        (Image.new("RGBA", (5, 4), (145, 145, 145, 128)), "PNG"),
        (Image.new("LA", (5, 4), (200, 255)), "PNG"),
        (Image.fromarray(np.full((4, 5), 200 * 257, np.uint16)), "PNG"),
        (Image.fromarray(np.full((4, 5), 200 * 257, np.uint16)), "TIFF"),
        (Image.fromarray(np.full((4, 5), 200 / 255, np.float32)), "TIFF"),
    ],
)
def test_every_kind_of_image_comes_out_as_plain_rgb(image: Image.Image, kind: str) -> None:
    # Given a light grey image of some kind, transparent ones over white
    # When it is decoded
    pixels = decode_image(encoded(image, kind))
    # Then it is 8-bit RGB of that grey
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 5, 3)
    expected = 255 if image.mode == "1" else 200
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_a_picture_taken_upright_is_turned_and_tells_its_time(tmp_path: Path) -> None:
    # Given a JPEG whose EXIF says: turn me by 90°, taken at noon in Berlin
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x9003: "2026:07:01 12:00:00", 0x9011: "+02:00"})
    path = tmp_path / "upright.jpg"
    image.save(path, exif=exif)
    # When it is loaded
    picture = load_picture(path)
    # Then it stands upright, its former left side up
    assert (picture.width, picture.height) == (20, 40)
    assert picture.rgb()[:18].mean() > 240
    assert picture.rgb()[22:].mean() < 15
    assert picture.taken_at == datetime(2026, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("offset", [None, "   :  ", "", "\0"])
def test_a_camera_that_names_no_zone_stands_in_that_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: str | None
) -> None:
    # Given a machine in New York, and a picture that says noon in July without a zone
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2026:07:01 12:00:00", **({} if offset is None else {0x9011: offset})})
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", exif=exif)
    try:
        # When it is loaded, then it was four hours later in UTC
        assert load_picture(tmp_path / "a.jpg").taken_at == datetime(2026, 7, 1, 16, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    # Given a small PNG file of a huge white sheet
    side = int(MAX_PIXELS**0.5) + 1
    for size in ((side, side), (2 * side, side)):
        data = encoded(Image.new("1", size, 1), "PNG")
        assert len(data) < 100_000
        # When / Then
        with pytest.raises(SourceUnusable, match="pixels"):
            decode_image(data)


def test_a_half_written_jpeg_is_refused() -> None:
    # Given a JPEG that was cut off
    data = encode_jpeg(noise(200, 200))
    # When / Then
    with pytest.raises(SourceUnusable, match="cut off"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data", [b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(SourceUnusable, match=r"no image|damaged"):
        decode_image(data)


def test_each_way_a_file_can_be_wrong_has_a_message_of_its_own(tmp_path: Path) -> None:
    # Given a missing file, a folder, an empty file, a text
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    for name, words in {
        "missing.png": "no such file",
        ".": "is a folder",
        "empty.png": "is empty",
        "text.png": "no image",
    }.items():
        # When / Then
        with pytest.raises(SourceUnusable, match=words):
            load_picture(tmp_path / name)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", ["libgl1", "opencv-python-headless"]),
        ("libgthread-2.0.so.0: cannot open shared object file", ["libglib2.0-0", "libgl1", "opencv-python-headless"]),
        ("No module named 'cv2.typing'", ["pip install opencv-python-headless"]),
    ],
)
def test_a_missing_system_library_is_named_with_the_package_that_has_it(
    tmp_path: Path, reason: str, words: list[str]
) -> None:
    # Given a cv2 that fails to load as it does on a machine without that library
    (tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r})\n")
    code = """
from streamwatch.imaging import load_cv2
try:
    load_cv2()
except Exception as error:
    print(type(error).__name__, error)
"""
    # When it is asked for, in a process of its own
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
        capture_output=True,
        text=True,
        check=True,
    )
    # Then one line says what to install
    assert done.stdout.startswith("MissingLibrary ")
    assert len(done.stdout.splitlines()) == 1
    for word in words:
        assert word in done.stdout
