"""Small real videos, encoded on the spot, whose every frame says which one it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

from streamwatch.records import RGB

_BITS = 12
_TIME_BASE = Fraction(1, 1000)


def numbered(index: int, *, width: int = 96, height: int = 64) -> RGB:
    """A picture that carries its number: twelve bars, black or white, the highest bit first."""
    bars = [255 if index >> bit & 1 else 0 for bit in reversed(range(_BITS))]
    row = np.repeat(np.array(bars, dtype=np.uint8), -(-width // _BITS))[:width]
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def number_of(pixels: RGB) -> int:
    """The number that a picture carries, after any encoding and scaling."""
    step = pixels.shape[1] / _BITS
    levels = [pixels[:, int((place + 0.3) * step) : int((place + 0.7) * step) + 1].mean() for place in range(_BITS)]
    return sum(1 << (_BITS - 1 - place) for place, level in enumerate(levels) if level > 127)


def write_video(
    path: Path | str,
    *,
    frames: int = 50,
    fps: float = 25.0,
    gop: int = 50,
    keys: Collection[int] = (),
    times_s: Sequence[float] | None = None,
    size: tuple[int, int] = (96, 64),
    bframes: int = 0,
    codec: str = "libx264",
    container: str | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames 0, 1, 2, … of `numbered`; returns the path.

    `keys` names frames that are made key frames beside those of the GOP; `times_s`, one for each frame, makes the frame
    rate vary.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            stream.gop_size = gop
            stream.options = {
                "preset": "veryfast",
                "bf": str(bframes),
                "keyint_min": str(gop),
                "sc_threshold": "0",
                "forced-idr": "1",
                **(codec_options or {}),
            }
        if times_s is not None:
            stream.codec_context.time_base = _TIME_BASE
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(index, width=size[0], height=size[1]), format="rgb24")
            if times_s is None:
                frame.pts, frame.time_base = index, 1 / Fraction(fps).limit_denominator(1001)
            else:
                frame.pts, frame.time_base = round(times_s[index] / _TIME_BASE), _TIME_BASE
            if index in keys:
                frame.pict_type = PictureType.I
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return Path(path)


def cut(path: Path, *, share: float = 0.5) -> Path:
    """Keep only the beginning of a file, as a full disk or a broken copy does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
