"""Pictures in memory: resizing (OpenCV), JPEG and image files (Pillow). Never `cv2.imread`: it returns a full-size
picture for a half-written file and knows no pixel cap.
"""

from __future__ import annotations

import io
import threading
import warnings
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from streamwatch.errors import MissingLibrary, SourceUnusable
from streamwatch.records import RGB
from streamwatch.special_files import special_kind

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded."""

MAX_FILE_BYTES = 512 * 1024 * 1024

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2", ".avif"}
)
"""Lower case; what `load_picture` is meant for."""

# Named one by one: Pillow would also start Ghostscript for an EPS file.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")

_opening = threading.Lock()


@cache
def load_cv2() -> Any:
    """The cv2 module.

    Raises:
        MissingLibrary: OpenCV or a system library that its wheel needs is absent; the message names the package to
            install.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingLibrary(_what_cv2_lacks(str(error))) from error
    return cv2


def _what_cv2_lacks(reason: str) -> str:
    other_way = (
        "or use the wheel that does without: `pip uninstall opencv-python`, then `pip install opencv-python-headless`"
    )
    if "libGL.so" in reason:
        return (
            "OpenCV needs the system library libGL.so.1, which this machine lacks. "
            f"Install Debian's libgl1 (`apt-get install libgl1`), {other_way}."
        )
    if "libgthread" in reason or "libglib" in reason:
        return (
            f"OpenCV needs the system library {reason.split(':', 1)[0]}, which this machine lacks. "
            f"Install Debian's libglib2.0-0 and libgl1 (`apt-get install libglib2.0-0 libgl1`), {other_way}."
        )
    return f"OpenCV cannot be loaded ({reason}). Install it with `pip install opencv-python-headless`."


class ArrayPicture:
    """A picture over an RGB array in memory. The array is kept, not copied: do not write to it afterwards."""

    def __init__(self, pixels: RGB, *, taken_at: datetime | None = None) -> None:
        _check_rgb(pixels)
        self._pixels = pixels
        self.taken_at = taken_at
        """When the camera says that it took the picture (EXIF; local time where that names no zone), in UTC; None where
        the file does not tell."""

    @property
    def width(self) -> int:
        return int(self._pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self._pixels.shape[0])

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        size = checked_size(width, height)
        if size is None or size == (self.width, self.height):
            return self._pixels.copy()
        return resize(self._pixels, width=size[0], height=size[1])


def checked_size(width: int | None, height: int | None) -> tuple[int, int] | None:
    """What `Picture.rgb` was asked for: (width, height), or None for the picture's own size."""
    if width is None and height is None:
        return None
    if width is None or height is None or width < 1 or height < 1:
        raise ValueError(f"got width={width} and height={height}, expected both (at least 1) or neither")
    return width, height


def resize(pixels: RGB, *, width: int, height: int) -> RGB:
    """An array of its own, shape (height, width, 3): averaged over areas where it shrinks, linear where it grows."""
    cv2 = load_cv2()
    # INTER_AREA averages only if no side grows, so a picture that shrinks one way and grows the other takes two steps.
    smaller = (min(width, pixels.shape[1]), min(height, pixels.shape[0]))
    resized = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def encode_jpeg(pixels: RGB, quality: int = 90) -> bytes:
    """A JPEG file of the picture; quality 1 to 100 (past 95 files grow, pictures hardly gain)."""
    _check_rgb(pixels)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}, expected 1 to 100")
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def decode_image(data: bytes) -> RGB:
    """The bytes of an image file as 8-bit RGB, turned as its EXIF says; transparency is laid over white; of many, the
    first.

    Raises:
        SourceUnusable: No image, a damaged one, or one of more than `MAX_PIXELS`.
    """
    return _decode(data, "the image").rgb()


def decode_small(data: bytes, *, side_px: int) -> tuple[RGB, int, int]:
    """As `decode_image`, for a picture that is then scaled to `side_px` or less: a large JPEG is decoded to a half, a
    quarter or an eighth, no side below `side_px`, in a fraction of the time.

    Returns:
        The pixels, and the whole upright picture's width and height.

    Raises:
        SourceUnusable: No image, a damaged one, or one of more than `MAX_PIXELS`.
    """
    picture, (width, height) = _decode_to(data, "the image", side_px=side_px)
    return picture.rgb(), width, height


def load_picture(path: Path | str) -> ArrayPicture:
    """An image file.

    Raises:
        SourceUnusable: The file is missing, unreadable, empty, no image, damaged or too large; the message says which.
    """
    path = Path(path)
    try:
        if kind := special_kind(path):
            raise SourceUnusable(f"{path} is {kind}, expected an image file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise SourceUnusable(f"{path} has {size} bytes, images of up to {MAX_FILE_BYTES} are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceUnusable(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise SourceUnusable(f"{path} is a folder, expected an image file") from None
    except OSError as error:
        raise SourceUnusable(f"{path} cannot be read: {error.strerror or error}") from None
    if not data:
        raise SourceUnusable(f"{path} is empty (0 bytes), expected an image; was it still being written?")
    return _decode(data, str(path))


def _decode(data: bytes, name: str) -> ArrayPicture:
    return _decode_to(data, name)[0]


def _decode_to(data: bytes, name: str, *, side_px: int | None = None) -> tuple[ArrayPicture, tuple[int, int]]:
    """A picture, and its whole width and height as it stands upright."""
    try:
        with _open(data) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise SourceUnusable(
                    f"{name} has {width}×{height} pixels, images of up to {MAX_PIXELS:,} are read; scale it down"
                )
            taken_at = _taken_at(image)
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            if side_px is not None:
                image.draft(image.mode, (side_px, side_px))  # does nothing but for JPEG
            upright = ImageOps.exif_transpose(image)
            picture = ArrayPicture(_to_rgb(upright), taken_at=taken_at)
            return picture, (height, width) if turned else (width, height)
    except Image.DecompressionBombError:
        raise SourceUnusable(f"{name} has far more than {MAX_PIXELS:,} pixels, the most that is read") from None
    except UnidentifiedImageError:
        raise SourceUnusable(f"{name} is no image of a known format ({', '.join(_FORMATS)})") from None
    # Pillow's readers let through whatever their parsing meets in a damaged file.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise SourceUnusable(f"{name} is damaged or cut off: {error}") from None


def _open(data: bytes) -> Image.Image:
    # Pillow warns from 89 Mpx on; ours is the cap that counts. The lock keeps the swapped warning filters consistent.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.init()
        return Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image).astype(np.float64)
        # 16-bit values; Pillow holds some of them in 32-bit modes. Floats are taken to be 0…1 unless they say
        # otherwise.
        scale = 255.0 if image.mode == "F" and grey.max(initial=0.0) <= 1.0 else 1.0 if image.mode == "F" else 1 / 257
        levels = np.clip(np.nan_to_num(grey) * scale + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(levels[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        paper = Image.new("RGBA", coloured.size, "white")
        image = Image.alpha_composite(paper, coloured)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _taken_at(image: Image.Image) -> datetime | None:
    try:
        details = image.getexif().get_ifd(ExifTags.IFD.Exif)
        text = str(details[ExifTags.Base.DateTimeOriginal]).strip("\0 ")
        offset = str(details.get(ExifTags.Base.OffsetTimeOriginal, "")).strip("\0 :")
        # EXIF means local time; cameras that do not say whose are taken to stand in this machine's zone.
        when = f"{text} {offset}".strip()
        return datetime.strptime(when, "%Y:%m:%d %H:%M:%S" + (" %z" if offset else "")).astimezone(UTC)
    except (KeyError, ValueError, SyntaxError, OSError, TypeError, OverflowError):
        return None


def _check_rgb(pixels: RGB) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"got an array of {pixels.dtype} with shape {pixels.shape}, expected uint8 (height, width, 3)")
