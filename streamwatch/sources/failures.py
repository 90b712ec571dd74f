"""PyAV's exceptions as ours. Their texts hold the whole URL, password included, so nothing of them is passed on but the
kind.

Build the error inside `except`, raise it after: an exception raised inside would carry PyAV's along as its context.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import av

from streamwatch.errors import SourceError, SourceLost, SourceTimeout, SourceUnauthorized, SourceUnusable
from streamwatch.special_files import special_kind


def network_failure(error: BaseException, *, shown: str, doing: str, waited_s: float, timeout_s: float) -> SourceError:
    """What a camera or server did. `shown` is the redacted URL; `doing` is "opening" or "reading"."""
    if isinstance(error, (av.HTTPUnauthorizedError, av.HTTPForbiddenError)):
        return SourceUnauthorized(f"{shown} refused the user name or password; check username and password")
    if isinstance(error, av.HTTPNotFoundError):
        return SourceUnusable(f"{shown}: the server answers but knows no such path (404); check the URL's path")
    if isinstance(error, av.HTTPTooManyRequestsError):
        return SourceLost(f"{shown}: the server is asked too often (429)")
    if isinstance(error, (av.HTTPClientError, av.HTTPBadRequestError, av.HTTPOtherClientError)):
        return SourceUnusable(f"{shown}: the server refused the request (4xx); check the URL")
    if isinstance(error, av.HTTPServerError):
        return SourceLost(f"{shown}: the server failed (5xx)")
    if isinstance(error, (av.ProtocolNotFoundError, av.DecoderNotFoundError, av.DemuxerNotFoundError)):
        return SourceUnusable(f"{shown}: its protocol or codec is unknown to this build of FFmpeg")
    # An open that waits in vain ends as invalid data, so the time that it took decides.
    if isinstance(error, (av.ExitError, TimeoutError)) or waited_s >= 0.95 * timeout_s:
        return SourceTimeout(f"{shown} sent nothing for {timeout_s:g} s while {doing}; is the camera up and reachable?")
    if isinstance(error, ConnectionRefusedError):
        return SourceLost(f"{shown} refused the connection; is the camera up, and is the port right?")
    if isinstance(error, av.InvalidDataError):
        return SourceLost(f"{shown} answered, but not with video that can be read; check the URL's path and port")
    # FFmpeg's words for the error number, which hold no URL.
    reason = error.strerror if isinstance(error, (av.FFmpegError, OSError)) and error.strerror else "no reason given"
    return SourceLost(f"{shown} was lost while {doing} ({reason})")


def unknown_host(url: str) -> str | None:
    """The host that a URL names, if no address is known for it; asks the system's resolver."""
    try:
        host = urlsplit(url).hostname
        if host:
            socket.getaddrinfo(host, None)
    except socket.gaierror:
        return host
    except ValueError:  # no URL, or a name that cannot be one
        pass
    return None


def file_failure(path: Path) -> SourceUnusable | None:
    """What is wrong with a file before any video library looks at it; None if nothing is."""
    try:
        if not path.exists():
            return SourceUnusable(f"{path}: no such file; check the path")
        if path.is_dir():
            return SourceUnusable(f"{path} is a folder, expected a video file")
        if kind := special_kind(path):
            return SourceUnusable(f"{path} is {kind}, expected a video file")
        with path.open("rb") as file:
            if not file.read(1):
                return SourceUnusable(f"{path} is empty (0 bytes), expected a video")
            if _lacks_index(file):
                return SourceUnusable(
                    f"{path} has no index (moov): the recording was not finished, or the file is cut off. "
                    "Copy it again, or repair it with a tool that rebuilds the index"
                )
    except OSError as error:
        return SourceUnusable(f"{path} cannot be read: {error.strerror or 'input/output error'}")
    return None


def open_failure(error: BaseException, path: Path) -> SourceUnusable:
    """Why a file that exists could not be opened as video."""
    if isinstance(error, (av.DecoderNotFoundError, av.DemuxerNotFoundError)):
        return SourceUnusable(f"{path}: its codec or format is unknown to this build of FFmpeg; convert it to H.264")
    return SourceUnusable(f"{path} is no video that can be read, expected MP4, MKV, AVI, MPEG-TS or the like")


def _lacks_index(file: BinaryIO) -> bool:
    """True for an MP4 or QuickTime file without a whole moov box: recorders write it last."""
    file.seek(0, os.SEEK_END)
    end = file.tell()
    place = 0
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if place == 0 and kind not in {b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"}:
            return False
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if kind in {b"moov", b"meta"} and (size == 0 or place + size <= end):
            return False
        if size < 8:
            break
        place += size
    return place > 0


def ends_early(path: Path, format_name: str) -> bool:
    """True if the file itself shows that bytes are missing at its end, in formats that tell."""
    try:
        size = path.stat().st_size
        if format_name == "avi":
            with path.open("rb") as file:
                head = file.read(8)
            return head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > size
        return format_name == "mpegts" and all(size % packet for packet in (188, 192, 204))
    except OSError:
        return False
