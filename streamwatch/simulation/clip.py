"""A scene as a real video file: H.264 in MP4, as a camera's recorder would have written it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from streamwatch.errors import OutputError, UsageError
from streamwatch.imaging import load_cv2
from streamwatch.simulation.scene import YardScene
from streamwatch.simulation.truth import Truth

if TYPE_CHECKING:
    from av.container import OutputContainer

Progress = Callable[[int, int], None]
"""Called after each frame with the frames written and the frames in all."""

_X264 = {"preset": "veryfast", "bf": "0", "sc_threshold": "0"}


def write_clip(
    path: str | Path,
    scene: YardScene,
    *,
    codec: str = "libx264",
    gop_s: float = 2.0,
    crf: int = 23,
    progress: Progress | None = None,
    truth_path: str | Path | None = None,
) -> Truth:
    """Render a scene and encode it: constant frame rate, time stamps from 0, a key frame every `gop_s`, no B-frames.

    The file appears under its name only when it is complete; an older file of that name is then replaced.

    Args:
        path: The MP4 file.
        scene: What to render, over its whole duration.
        codec: An encoder that FFmpeg knows and that takes yuv420p.
        gop_s: Seconds between key frames.
        crf: x264's constant rate factor; higher is smaller and worse.
        progress: Told about each frame.
        truth_path: Where to write the truth as JSON; None for nowhere.

    Returns:
        The scene's truth.

    Raises:
        OutputError: The folder or file cannot be written.
        UsageError: The encoder is unknown or refuses its options.
    """
    path = Path(path)
    if not gop_s > 0:
        raise UsageError(f"gop_s is {gop_s}, expected more than 0 seconds between key frames")
    _put(path, lambda partial: _encode(partial, scene, codec=codec, gop_s=gop_s, crf=crf, progress=progress))
    if truth_path is not None:
        document = scene.truth.to_json()
        _put(Path(truth_path), lambda partial: _write_text(partial, document))
    return scene.truth


def _put(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then give it its name."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}. Name a file in a folder that exists and is writable."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _encode(path: Path, scene: YardScene, *, codec: str, gop_s: float, crf: int, progress: Progress | None) -> None:
    import av

    # Before the encoder opens it: FFmpeg's own errors say less about folders than the system's.
    path.touch()
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            _write_frames(container, scene, codec=codec, gop_s=gop_s, crf=crf, progress=progress)
    except (av.codec.codec.UnknownCodecError, av.error.EncoderNotFoundError) as error:
        raise UsageError(
            f"the encoder {codec!r} is not in this FFmpeg, expected one such as libx264 or mpeg4"
        ) from error
    except av.error.ArgumentError as error:
        raise UsageError(
            f"the encoder {codec!r} refused its options (crf {crf}, {scene.fps:g} fps): {error}"
        ) from error


def _write_frames(
    container: OutputContainer, scene: YardScene, *, codec: str, gop_s: float, crf: int, progress: Progress | None
) -> None:
    import av

    cv2 = load_cv2()
    rate = Fraction(scene.fps).limit_denominator(1001)
    gop = max(1, round(gop_s * scene.fps))
    options = {**_X264, "crf": str(crf), "keyint_min": str(gop)} if codec == "libx264" else {"bf": "0"}
    if av.Codec(codec, "w").type != "video":
        raise UsageError(f"the encoder {codec!r} makes no video, expected one such as libx264 or mpeg4")
    stream = container.add_stream(codec, rate=rate, options={**options, "g": str(gop)})
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
    stream.time_base = stream.codec_context.time_base = 1 / rate
    # A fixed number: x264's output depends on it, and should not depend on how many cores there are.
    stream.codec_context.thread_count, stream.codec_context.thread_type = 2, "FRAME"
    # What OpenCV's conversion makes: BT.601 in the narrow range.
    stream.codec_context.colorspace = 6
    stream.codec_context.color_range = 1
    total = scene.frame_count
    for number in range(total):
        picture = scene.render(number / scene.fps)
        frame = av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
        frame.pts, frame.time_base = number, 1 / rate
        container.mux(stream.encode(frame))
        if progress is not None:
            progress(number + 1, total)
    container.mux(stream.encode())
