"""Search results as one HTML file that needs nothing else: pictures of the queries and of what was found."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from markupsafe import Markup
from PIL import Image, ImageDraw

from streamwatch import __version__
from streamwatch.errors import SourceUnusable
from streamwatch.events.files import write_whole
from streamwatch.imaging import load_picture
from streamwatch.offline import output, pages
from streamwatch.offline.annotate import AMBER
from streamwatch.offline.gallery_records import GalleryIdentity, GalleryRow, PixelBox
from streamwatch.records import Box

_WIDTH_PX = 360
_JPEG_QUALITY = 82
_BLUE = (60, 150, 255)
_DARK = (16, 16, 20)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One result."""

    rank: int
    distance: float
    row: GalleryRow
    region: Box | None = None
    """The window that was nearest, in fractions of the whole picture; None for whole-frame matching."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was found for one query, nearest first."""

    query: str
    box: PixelBox | None
    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class About:
    """What was searched, and how."""

    gallery: str
    pictures: int
    matching: str
    metric: str
    identity: GalleryIdentity


@dataclass(frozen=True)
class _Picture:
    uri: str
    width: int
    height: int


def write_contact_sheet(
    answers: Sequence[Answer], about: About, path: Path, *, generated_at: datetime | None = None
) -> None:
    """Write the page, replacing a file of that name in one step.

    Crops are outlined in amber, the nearest window of regional matching in blue. A picture that is no longer where it
    was indexed is said to be unreadable in its place.

    Raises:
        OutputError: The file cannot be written.
    """
    css = pages.style_sheet("scan_report.css", "contact_sheet.css")
    environment = pages.environment()
    environment.filters["short"] = output.short_number
    page = environment.get_template("contact_sheet.html.j2").render(
        answers=answers,
        about=about,
        generated_at=generated_at,
        css=Markup(css),
        csp=pages.content_security_policy(css),
        draw=_drawn,
        version=__version__,
    )
    write_whole(path, page.encode("utf-8", "backslashreplace"))


def _drawn(path: str, box: PixelBox | None, region: Box | None, row: GalleryRow | None) -> _Picture | None:
    try:
        pixels = load_picture(path).rgb()
    except (SourceUnusable, MemoryError):
        return None
    height, width = pixels.shape[:2]
    if row is not None and (width, height) != (row.width, row.height):
        return None  # Another picture lies there by now.
    image = Image.fromarray(pixels)
    image.thumbnail((_WIDTH_PX, 4 * _WIDTH_PX))
    if box is not None:
        _outline(image, Box(box.x / width, box.y / height, box.width / width, box.height / height), AMBER)
    if region is not None:
        _outline(image, region, _BLUE)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return _Picture(uri, image.width, image.height)


def _outline(image: Image.Image, box: Box, colour: tuple[int, int, int]) -> None:
    left, top = round(box.x * image.width), round(box.y * image.height)
    right = max(left + 1, round((box.x + box.width) * image.width) - 1)
    bottom = max(top + 1, round((box.y + box.height) * image.height) - 1)
    draw = ImageDraw.Draw(image)
    # A dark line under the coloured one: it stands out on light and on dark pictures.
    draw.rectangle((left, top, right, bottom), outline=_DARK, width=5)
    inner = (left + 1, top + 1, max(left + 1, right - 1), max(top + 1, bottom - 1))
    draw.rectangle(inner, outline=colour, width=3)
