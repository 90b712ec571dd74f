"""Where frames come from. `open_source` picks the implementation by URL; nothing here retries, samples or starts
threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, Protocol, get_args

from streamwatch.clock import Clock, SystemClock
from streamwatch.errors import SourceUnusable, UsageError
from streamwatch.records import Frame
from streamwatch.urls import SCHEMES, is_device, local_path, path_of, redact, scheme_of

DecodeOption = Literal["auto", "keyframes", "all"]
KindOption = Literal["auto", "still", "live-folder"]
TransportOption = Literal["auto", "tcp", "udp"]

_STILL_SUFFIXES = (".jpg", ".jpeg", ".png")


class Source(Protocol):
    """One camera, file or folder, read by exactly one thread."""

    @property
    def live(self) -> bool:
        """True for cameras: their end is a loss. False for files and folders: their end is an end."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Facts that the reader of a report must know: the file is cut off, packets were damaged. Complete after the
        end.
        """
        ...

    @property
    def duration_s(self) -> float | None:
        """Time of the last frame so far; after a file's end, with that frame's own length. None before the first
        frame.
        """
        ...

    @property
    def announced_s(self) -> float | None:
        """The length that a file's header promises, or a folder's number of pictures, which the end may belie. None
        before `frames` has opened it, where nothing is promised, and for live sources.
        """
        ...

    @property
    def decode_mode(self) -> str:
        """`keyframes` or `all`: what the decoder is doing now, or did last."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the last frame, in pixels; None before the first."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Open, then yield frames in presentation order; returning means a clean end (never of a live source).

        `pts_s` begins at 0 and rises. Calling it again opens the source anew, one call at a time; after `close` it
        yields nothing.

        Raises:
            SourceLost: Reopening may help.
            SourceUnusable: Reopening cannot help.
            MissingLibrary: The machine lacks what decoding needs.
        """
        ...

    def close(self) -> None:
        """Make `frames` return soon: between two packets, or when a read in progress times out. Idempotent; for good;
        any thread.
        """
        ...


def missing_file(url: str) -> SourceUnusable | None:
    """What is wrong where a path names nothing, seen without a video library; None where it may be opened."""
    if not url.strip():
        return SourceUnusable("a video's name is empty, expected a path or URL; is a variable of the shell not set?")
    if is_device(url) or scheme_of(url) not in {None, "file"}:
        return None
    path = local_path(url)
    try:
        return None if path.exists() else SourceUnusable(f"{redact(str(path))}: no such file; check the path")
    except (OSError, ValueError):
        return None  # opening it says more


def open_source(
    url: str,
    *,
    every_s: float,
    decode: DecodeOption = "auto",
    username: str | None = None,
    password: str | None = None,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 10.0,
    realtime: bool = False,
    hwaccel: str | None = None,
    kind: KindOption = "auto",
    transport: TransportOption = "auto",
    clock: Clock | None = None,
) -> Source:
    """The source that a URL names; it is opened by `frames`, not here.

    Args:
        url: rtsp://, rtsps://, http://, https://, udp:// or file://; a path of a video; a folder of pictures; `0` or
            /dev/video0.
        every_s: How often the caller wants a sample. A source may leave out frames that are not nearest to a multiple
            of it.
        decode: `auto` decodes key frames only while they come at least every `every_s`.
        username: With `password`, taken as they are (not percent-encoded); they win over what the URL holds.
        open_timeout_s: For network sources. A camera that goes silent is noticed within twice `read_timeout_s`.
        realtime: Play files and folders at their own speed rather than as fast as possible.
        hwaccel: FFmpeg's name of a hardware decoder (`cuda`, `vaapi`); falls back to software where the device is
            missing.
        kind: `still`: an HTTP address of one picture, fetched anew each `every_s`; `live-folder`: a folder that
            pictures are still written into. `auto` finds stills by what the address answers, and takes folders as they
            are now.
        transport: Of RTSP: over TCP, over UDP, or over UDP only where the camera refuses TCP.

    Raises:
        UsageError: An option that makes no sense.
        SourceUnusable: A URL of a kind that is not supported.
    """
    if not (math.isfinite(every_s) and every_s > 0):
        raise UsageError(f"the sampling period is {every_s} s, expected more than 0")
    if decode not in get_args(DecodeOption):
        raise UsageError(f"decode is {decode!r}, expected one of {', '.join(get_args(DecodeOption))}")
    if min(open_timeout_s, read_timeout_s) <= 0:
        raise UsageError(f"timeouts are {open_timeout_s} s and {read_timeout_s} s, expected more than 0")
    if kind not in get_args(KindOption):
        raise UsageError(f"kind is {kind!r}, expected one of {', '.join(get_args(KindOption))}")
    if transport not in get_args(TransportOption):
        raise UsageError(f"transport is {transport!r}, expected one of {', '.join(get_args(TransportOption))}")
    clock = clock or SystemClock()
    scheme = scheme_of(url)
    if scheme is not None and scheme not in SCHEMES:
        raise SourceUnusable(
            f"{redact(url)}: {scheme}:// is not supported, expected {', '.join(sorted(SCHEMES))} or a path"
        )
    if is_device(url):
        from streamwatch.sources.devices import DeviceSource

        return DeviceSource(url, every_s=every_s, clock=clock)
    if kind == "live-folder":
        if scheme not in {None, "file"}:
            raise SourceUnusable(f"{redact(url)} is no folder, which kind live-folder expects")
        from streamwatch.sources.live_folder import LiveFolderSource

        return LiveFolderSource(local_path(url), every_s=every_s, clock=clock)
    if kind == "still" and scheme not in {"http", "https"}:
        raise SourceUnusable(f"{redact(url)} is no http:// or https:// address, which kind still expects")
    if scheme in {"http", "https"} and (kind == "still" or path_of(url).lower().endswith(_STILL_SUFFIXES)):
        from streamwatch.sources.stills import StillSource

        return StillSource(
            url,
            every_s=every_s,
            clock=clock,
            username=username,
            password=password,
            open_timeout_s=open_timeout_s,
            read_timeout_s=read_timeout_s,
        )
    if scheme in {None, "file"} and local_path(url).is_dir():
        from streamwatch.sources.folder import FolderSource

        return FolderSource(local_path(url), every_s=every_s, clock=clock, realtime=realtime)
    from streamwatch.sources.stream import StreamSource

    return StreamSource(
        url,
        every_s=every_s,
        decode=decode,
        username=username,
        password=password,
        open_timeout_s=open_timeout_s,
        read_timeout_s=read_timeout_s,
        realtime=realtime,
        hwaccel=hwaccel,
        transport=transport,
        clock=clock,
    )
