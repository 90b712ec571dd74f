"""Where frames come from. `open_source` picks the implementation by URL; nothing here retries, samples or starts threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from streamwatch.records import Frame


class Source(Protocol):
    """One camera, file or folder, read by exactly one thread."""

    @property
    def live(self) -> bool:
        """True for cameras: their end is a loss. False for files and folders: their end is an end."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Open, then yield frames in presentation order; returning means a clean end (never of a live source).

        Raises:
            SourceLost: Reopening may help.
            SourceUnusable: Reopening cannot help.
        """
        ...

    def close(self) -> None:
        """Make `frames` return soon. Idempotent; any thread may call it."""
        ...
