"""Network cameras and video files, by PyAV: opening, and what is known at the end."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from streamwatch.clock import Clock
from streamwatch.errors import SourceError, SourceLost, SourceTimeout, SourceUnusable, UsageError
from streamwatch.imaging import MAX_PIXELS
from streamwatch.records import Frame
from streamwatch.sources.base import BaseSource
from streamwatch.sources.decoding import DecodeOption, DecodePolicy, key_intervals_fit
from streamwatch.sources.failures import ends_early, file_failure, network_failure, open_failure, unknown_host
from streamwatch.sources.reading import Reading
from streamwatch.sources.timeline import Timeline
from streamwatch.urls import is_live, local_path, redact, scheme_of, with_credentials

_PEEK_S = 30.0
_PEEK_PACKETS = 20_000
_NO_TIMES = 0x80  # AVFMT_NOTIMESTAMPS
_PROBED_KEY = 2
"""The first one always stands alone."""

# Measured with a camera simulator: first frame after 0.3 s rather than 1.9 s. `nobuffer` would throw away the first key
# frame.
_RTSP = {"fpsprobesize": "0", "analyzeduration": "200000"}

_TRANSPORTS = {"auto": {"rtsp_flags": "prefer_tcp"}, "tcp": {"rtsp_transport": "tcp"}, "udp": {"rtsp_transport": "udp"}}

# One picture rather than a stream: FFmpeg's names for what an address answers.
_STILLS = frozenset({"jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "jpegls_pipe", "j2k_pipe"})

# What a stream may lead FFmpeg to open: a file names no servers, an address names no files.
_ALLOWED = {
    "file": "file",
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "https": "http,https,httpproxy,tcp,tls,crypto",
    "rtsp": "rtsp,rtp,tcp,udp",
    "rtsps": "rtsp,rtsps,rtp,srtp,tcp,tls,udp",
    "udp": "udp,rtp",
}

# FFmpeg draws any text file as a terminal screen.
_NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf"})


class StreamSource(BaseSource):
    """One camera or file. `frames` opens it anew each time.

    What comes out: where everything is decoded, every frame; where key frames serve, the key frame nearest to each
    multiple of `every_s`. Damaged packets are counted and left out. `close` is felt between packets: at the latest when
    a read times out.
    """

    def __init__(
        self,
        url: str,
        *,
        every_s: float,
        clock: Clock,
        decode: DecodeOption = "auto",
        username: str | None = None,
        password: str | None = None,
        open_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        realtime: bool = False,
        hwaccel: str | None = None,
        transport: str = "auto",
    ) -> None:
        self.live = is_live(url)
        super().__init__(clock=clock, realtime=realtime and not self.live)
        self._every_s = every_s
        self._decode = decode
        self._hwaccel = _checked_hwaccel(hwaccel)
        self._timeouts_s = (open_timeout_s, read_timeout_s)
        scheme = scheme_of(url) or "file"
        self._path: Path | None = local_path(url) if scheme == "file" else None
        self._shown = str(self._path) if self._path else redact(url)
        # Without `file:` FFmpeg takes what stands before a colon in a file's name for a protocol.
        self._address = (
            f"file:{self._path}" if self._path else with_credentials(url, username=username, password=password)
        )
        self._url, self._username, self._password = url, username, password
        self._inner: BaseSource | None = None
        self._options = {"protocol_whitelist": _ALLOWED[scheme]}
        if scheme in {"rtsp", "rtsps"}:
            self._options |= _RTSP | _TRANSPORTS[transport]
        elif scheme == "udp":
            self._options |= {"overrun_nonfatal": "1", "fifo_size": "57344"}

    def frames(self) -> Iterator[Frame]:
        self._begin()
        if self._closed.is_set():
            return
        policy = self._policy()
        self.decode_mode = policy.mode
        opened_s = self._clock.monotonic_s()
        container = self._open()
        if self.live and container.format.name in _STILLS:
            container.close()
            if self._clock.monotonic_s() - opened_s >= self._timeouts_s[0]:
                raise SourceTimeout(
                    f"{self._shown} gave no whole picture within {self._timeouts_s[0]:g} s; is the camera up?"
                )
            yield from self._stills()
            return
        try:
            stream = _video_track(container, self._shown)
            if not self.live:
                self.announced_s, _ = _announced_s(container, stream)
                # Threads by frames are fastest, but hand a frame out only frames later; live streams keep threads by
                # slices.
                stream.codec_context.thread_type = "AUTO" if policy.mode == "all" else "SLICE"
                stream.codec_context.thread_count = 0 if policy.mode == "all" else 1
            else:
                # What is damaged is an error rather than a guess, and no picture takes gigabytes.
                stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
            reading = Reading(
                container,
                stream,
                policy=policy,
                every_s=self._every_s,
                live=self.live,
                clock=self._clock,
                closed=self._closed,
                shown=self._shown,
                read_timeout_s=self._timeouts_s[1],
            )
            for frame in reading.frames():
                self.decode_mode = policy.mode
                self.size = (frame.picture.width, frame.picture.height)
                self.duration_s = frame.pts_s
                self._pace(frame.pts_s)
                if self._closed.is_set():
                    return
                yield frame
            if not self.live and not self._closed.is_set():
                self._conclude(container, stream, reading)
        finally:
            container.close()

    def _stills(self) -> Iterator[Frame]:
        """The address answers one picture: ask for it again and again."""
        from streamwatch.sources.stills import StillSource

        source = StillSource(
            self._url,
            every_s=self._every_s,
            clock=self._clock,
            username=self._username,
            password=self._password,
            open_timeout_s=self._timeouts_s[0],
            read_timeout_s=self._timeouts_s[1],
        )
        self._inner = source
        try:
            if self._closed.is_set():
                return
            for frame in source.frames():
                self.size, self.duration_s = source.size, source.duration_s
                yield frame
        finally:
            self._inner = None

    def close(self) -> None:
        super().close()
        if (inner := self._inner) is not None:
            inner.close()

    def _conclude(self, container: InputContainer, stream: VideoStream, reading: Reading) -> None:
        """The file was read to its end: was that all of it?"""
        if self.duration_s is None:
            raise SourceUnusable(f"{self._shown} {_why_no_frames(reading, self._decode)}")
        begin_s, end_s = reading.timeline.begin_s or 0.0, reading.timeline.end_s
        self.duration_s = max(self.duration_s, end_s - begin_s)
        announced_s, tolerance_s = _announced_s(container, stream)
        if announced_s is not None and announced_s - self.duration_s > tolerance_s:
            self._notes.append(
                f"cut off: {announced_s:.1f} s were announced, only {self.duration_s:.1f} s are there; "
                "the rest was not judged"
            )
        elif reading.torn_tail or (self._path is not None and ends_early(self._path, container.format.name)):
            self._notes.append(f"cut off: the file ends in the middle of its data, after {self.duration_s:.1f} s")
        elif reading.stopped_by is not None:
            self._notes.append(f"reading stopped at {self.duration_s:.1f} s: {reading.stopped_by}")
        if container.format.flags & _NO_TIMES and reading.packets > 1:
            rate = reading.timeline.frames_per_s
            self._notes.append(f"the file holds no times: they are guessed at {rate:g} frames per second")
        if reading.damaged:
            self._notes.append(f"{reading.damaged} damaged packet{'s' if reading.damaged > 1 else ''} left out")

    def _open(self) -> InputContainer:
        failure = file_failure(self._path) if self._path is not None else None
        if failure is not None:
            raise failure
        started_s = self._clock.monotonic_s()
        error: SourceError
        try:
            return av.open(
                self._address,
                "r",
                options=dict(self._options),
                timeout=self._timeouts_s,
                hwaccel=HWAccel(self._hwaccel, allow_software_fallback=True) if self._hwaccel else None,
            )
        except (av.FFmpegError, OSError) as caught:
            if self._path is not None:
                error = open_failure(caught, self._path)
            else:
                error = network_failure(
                    caught,
                    shown=self._shown,
                    doing="opening",
                    waited_s=self._clock.monotonic_s() - started_s,
                    timeout_s=self._timeouts_s[0],
                )
                # FFmpeg calls a name that it cannot resolve an input/output error, like much else.
                if caught.errno == errno.EIO and (host := unknown_host(self._address)):
                    error = SourceLost(
                        f"{self._shown}: the host name {host} cannot be found; check it, and this machine's network"
                    )
        raise error

    def _policy(self) -> DecodePolicy:
        """With `auto`, look ahead into a file: do key frames come often enough, and can they be decoded alone?"""
        if self._path is None or self._decode != "auto":
            return DecodePolicy(every_s=self._every_s, decode=self._decode, starts_with="all")
        packets: list[tuple[float, bool]] = []
        keys = 0
        container = self._open()
        try:
            stream = _video_track(container, self._shown)
            timeline = Timeline(stream, live=False)
            for packet in container.demux(stream):
                if packet.size:
                    packets.append((timeline.packet_s(packet), packet.is_keyframe))
                    keys += packet.is_keyframe
                    if packet.is_keyframe and keys == _PROBED_KEY and not _stands_alone(stream, packet):
                        return DecodePolicy(every_s=self._every_s, decode="all", starts_with="all")
                if len(packets) >= _PEEK_PACKETS or (packets and packets[-1][0] - packets[0][0] > _PEEK_S):
                    break
        except (av.FFmpegError, OSError):
            pass  # reading meets it again, and says so
        finally:
            container.close()
        fits = key_intervals_fit(packets, every_s=self._every_s)
        return DecodePolicy(every_s=self._every_s, decode="auto", starts_with="keyframes" if fits else "all")


def _stands_alone(stream: VideoStream, packet: av.Packet[VideoStream]) -> bool:
    """False where a stream refreshes its picture bit by bit and calls the beginnings of that key frames."""
    decoder = stream.codec_context
    decoder.thread_count = 1
    pictures = decoder.decode(packet) + decoder.decode(None)
    return any(not picture.is_corrupt for picture in pictures)


def _video_track(container: InputContainer, shown: str) -> VideoStream:
    if container.format.name in _NOT_VIDEO:
        raise SourceUnusable(f"{shown} is a text file, expected a video")
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue  # the cover of a piece of music
        if stream.codec_context is None:
            raise SourceUnusable(f"{shown}: its video codec is unknown to this build of FFmpeg; convert it to H.264")
        return stream
    kinds = ", ".join(sorted({_kind(stream) for stream in container.streams})) or "nothing"
    raise SourceUnusable(f"{shown} has no video track (it holds: {kinds}), expected a video")


def _kind(stream: Stream) -> str:
    return "attached picture" if stream.disposition & Disposition.attached_pic else stream.type


def _announced_s(container: InputContainer, stream: VideoStream) -> tuple[float | None, float]:
    """(the length that the header promises for the track, how much less is still no cut)."""
    announced_s: float | None = None
    share = 0.02
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if stream.duration and stream.duration > 0 and stream.time_base:
        announced_s = float(stream.duration * stream.time_base)
    elif tag:
        announced_s = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    elif container.duration and container.duration > 0:
        announced_s = container.duration / av.time_base
        # The longest track's length: sound may well run on for a while after the pictures.
        share = 0.02 if len(container.streams) == 1 else 0.05
    tolerance_s = max(1.0 if share == 0.02 else 5.0, share * (announced_s or 0.0))
    return announced_s, tolerance_s


def _why_no_frames(reading: Reading, decode: DecodeOption) -> str:
    if not reading.packets:
        return "has a video track without frames; was the recording ever started?"
    if decode == "keyframes" and not reading.damaged:
        return "has no key frame that can be decoded alone; try `decode: all`"
    return f"holds no frame that can be decoded ({reading.packets} packets, all damaged)"


def _checked_hwaccel(name: str | None) -> str | None:
    if name is not None and name not in hwdevices_available():
        known = ", ".join(hwdevices_available()) or "none"
        raise UsageError(f"hardware decoding {name!r} is unknown here; this build of FFmpeg has: {known}")
    return name
