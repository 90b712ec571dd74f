"""A decoded video frame as a picture: converted when somebody asks, straight from the decoder's planes."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from streamwatch.imaging import checked_size, resize
from streamwatch.records import RGB

# Without the two accuracy flags swscale comes out 1 to 2 levels too dark, which would look like a change of light.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class VideoPicture:
    """A picture over a decoder's frame; outlives the decoder. Holds the frame's planes (1.5 bytes a pixel) until it is
    let go.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame
        self._quarter_turns = round(frame.rotation / 90) % 4

    @property
    def width(self) -> int:
        return self._frame.height if self._quarter_turns % 2 else self._frame.width

    @property
    def height(self) -> int:
        return self._frame.width if self._quarter_turns % 2 else self._frame.height

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        size = checked_size(width, height) or (self.width, self.height)
        across, down = size[::-1] if self._quarter_turns % 2 else size
        pixels = self._converted(across, down)
        if self._quarter_turns:
            pixels = np.rot90(pixels, self._quarter_turns)
        return np.ascontiguousarray(pixels)

    def _converted(self, width: int, height: int) -> RGB:
        shrinks = width <= self._frame.width and height <= self._frame.height
        how = (Interpolation.AREA if shrinks else Interpolation.BILINEAR) | _EXACT
        try:
            # A reformatter for each call: VideoFrame.reformat keeps one in the frame, and two threads in it wait for
            # ever.
            scaled = VideoReformatter().reformat(
                self._frame, width=width, height=height, format="rgb24", interpolation=int(how), threads=1
            )
        except (av.FFmpegError, ValueError):
            # swscale refuses extreme ratios.
            full = VideoReformatter().reformat(self._frame, format="rgb24", interpolation=int(how), threads=1)
            return resize(np.asarray(full.to_ndarray(), dtype=np.uint8), width=width, height=height)
        return np.array(scaled.to_ndarray(), dtype=np.uint8)
