"""Pictures resized ahead of time, in the thread that decodes, while the network is busy with earlier ones."""

from __future__ import annotations

from streamwatch.embedding.fitting import fit_picture
from streamwatch.records import RGB, Picture


class Prefetched:
    """A picture that remembers the last size it was asked for. The whole picture is converted each time."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._size: tuple[int, int] | None = None
        self._resized: RGB | None = None

    @property
    def width(self) -> int:
        return self._picture.width

    @property
    def height(self) -> int:
        return self._picture.height

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        if width is None or height is None:
            return self._picture.rgb(width=width, height=height)
        if self._size != (width, height) or self._resized is None:
            self._size, self._resized = (width, height), self._picture.rgb(width=width, height=height)
        return self._resized.copy()


def prefetch(picture: Picture, *, fit: str, size_px: int) -> Prefetched:
    """The picture, resized already as `fit` will ask for it."""
    prefetched = Prefetched(picture)
    fit_picture(prefetched, fit=fit, size_px=size_px, border=(0, 0, 0))
    return prefetched
