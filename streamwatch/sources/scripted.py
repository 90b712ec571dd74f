"""A source that plays what a test wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamwatch.clock import Clock, SystemClock
from streamwatch.errors import SourceLost
from streamwatch.imaging import ArrayPicture
from streamwatch.records import RGB, Frame
from streamwatch.sources.base import BaseSource


class ScriptedSource(BaseSource):
    """Frames as given; an exception among them is raised in its place. Reading again goes on where a generator stands,
    or begins a list anew; a live one that runs out is lost, as a camera is.
    """

    def __init__(
        self,
        script: Iterable[Frame | Exception],
        *,
        live: bool = False,
        realtime: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock or SystemClock(), realtime=realtime)
        self.live = live
        self._script = script

    @classmethod
    def of_arrays(cls, arrays: Iterable[RGB], *, every_s: float, live: bool = False) -> ScriptedSource:
        """One frame every `every_s` seconds."""
        frames = (
            Frame(pts_s=index * every_s, captured_at=None, picture=ArrayPicture(pixels))
            for index, pixels in enumerate(arrays)
        )
        return cls(list(frames), live=live)

    def frames(self) -> Iterator[Frame]:
        self._begin()
        for step in self._script:
            if self._closed.is_set():
                return
            if isinstance(step, Exception):
                raise step
            self._pace(step.pts_s)
            if self._closed.is_set():
                return
            self.size = (step.picture.width, step.picture.height)
            self.duration_s = step.pts_s
            yield step
        if self.live and not self._closed.is_set():
            raise SourceLost("the scripted camera has no more frames")
