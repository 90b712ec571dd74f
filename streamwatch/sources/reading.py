"""One pass over an open container: packets in, frames out."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from streamwatch.clock import Clock
from streamwatch.errors import SourceError, SourceLost, SourceTimeout
from streamwatch.records import Frame
from streamwatch.sources.base import DueTimes
from streamwatch.sources.decoding import Action, DecodePolicy
from streamwatch.sources.failures import network_failure
from streamwatch.sources.pictures import VideoPicture
from streamwatch.sources.timeline import Timeline

_BACKLOG_BYTES = 8 * 1024 * 1024
"""Packets kept since the last key frame, in case no other comes; past it, full decoding waits for the next key
frame.
"""

_FIRST_KEY_S = 10.0
"""How long a live stream that was joined half-way may take to its first key frame; decoding before it gives grey
pictures.
"""

_MAX_BAD_READS = 16
_TICK_S = 1e-6
_EMPTY_KEY_FRAMES = 3

_WRONG_CLOCK = timedelta(days=1)
"""A camera whose clock is off by more has never had it set: then the time of arrival says more."""

_Arrived = tuple["av.Packet[VideoStream]", float]


class Reading:
    """Reads one video track to its end. Its attributes are facts so far; one thread."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        policy: DecodePolicy,
        every_s: float,
        live: bool,
        clock: Clock,
        closed: threading.Event,
        shown: str,
        read_timeout_s: float,
    ) -> None:
        self._container = container
        self._stream = stream
        self._decoder = stream.codec_context
        self._policy = policy
        self._due = DueTimes(every_s)
        self._live = live
        self._clock = clock
        self._closed = closed
        self._shown = shown
        self._read_timeout_s = read_timeout_s
        self.timeline = Timeline(stream, live=live)
        self.damaged = 0
        """Packets and frames that were left out."""
        self.packets = 0
        self.torn_tail = False
        """The last packet is incomplete."""
        self.stopped_by: str | None = None
        """Why a file could not be read to its end."""
        self._first_s: float | None = None
        self._last_s = -math.inf
        self._last_pts: int | None = None
        self._backlog: list[_Arrived] | None = None
        self._backlog_bytes = 0
        self._awaits_key = False
        self._key_by_s: float | None = None
        self._empty_keys = 0
        self._hopeless: tuple[float, int, int] | None = None
        """(time of the last picture, packets then, damaged ones then), on the clock."""
        self._camera_offset_s: float | None = None
        """The camera's wall clock less the stream's time, by RTCP's sender reports."""
        self._tick_s = float(stream.time_base or 0)
        self._codec = stream.codec_context.name

    def frames(self) -> Iterator[Frame]:
        """Every frame that the policy has decoded; ends with the container or with `closed`.

        Raises:
            SourceLost: A live stream broke or ended.
        """
        self._awaits_key = self._live
        arrived_s = 0.0
        for packet, arrived_s in self._arrivals():
            stream_s = self.timeline.packet_s(packet, arrival_s=arrived_s)
            for frame in self._decoded(packet, stream_s, arrived_s):
                self._hopeless = None
                yield frame
                if self._closed.is_set():
                    return
            if self._live:
                self._check_hope(arrived_s)
        if self._closed.is_set():
            return
        for picture in self._decode(None):
            yield self._frame(picture, arrived_s)
        if self._live:
            raise SourceLost(f"{self._shown} ended the stream")

    def _arrivals(self) -> Iterator[_Arrived]:
        bad_reads = torn = 0
        packets = self._container.demux(self._stream)
        while not self._closed.is_set():
            waits_since_s = self._clock.monotonic_s()
            failure: SourceError | None = None
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.FFmpegError, OSError) as error:
                if self._closed.is_set():
                    return
                if self._live:
                    failure = network_failure(
                        error,
                        shown=self._shown,
                        doing="reading",
                        waited_s=self._clock.monotonic_s() - waits_since_s,
                        timeout_s=self._read_timeout_s,
                    )
                elif isinstance(error, av.InvalidDataError) and bad_reads < _MAX_BAD_READS:
                    bad_reads += 1
                    self.damaged += 1
                    packets = self._container.demux(self._stream)  # the old iterator ended with its exception
                    continue
                else:
                    self.stopped_by = "the file is damaged there" if bad_reads else "it cannot be read further"
                    break
            if failure is not None:
                raise failure
            waited_s = self._clock.monotonic_s() - waits_since_s
            if self._live and waited_s >= self._read_timeout_s:
                # FFmpeg meets its timeout by handing out what it had kept back, and would wait a second time.
                raise SourceTimeout(
                    f"{self._shown} sent nothing for {self._read_timeout_s:g} s while reading; "
                    "is the camera up and reachable?"
                )
            if not packet.size:
                continue
            self.packets += 1
            if packet.is_corrupt and not self._live:
                torn += 1
                continue
            self._note_camera_time(packet)
            self.damaged += torn
            bad_reads = torn = 0
            yield packet, self._clock.monotonic_s()
        self.torn_tail = torn > 0

    def _decoded(self, packet: av.Packet[VideoStream], stream_s: float, arrived_s: float) -> Iterator[Frame]:
        if self._live and (packet.is_corrupt or (self._codec == "mjpeg" and not _is_whole_jpeg(packet))):
            self._hurt()
            return
        if not self._may_begin(packet, stream_s):
            return
        before = self._policy.mode
        action = self._policy.step(stream_s, is_key=packet.is_keyframe)
        self._keep(packet, arrived_s)
        if action is Action.ALONE:
            if before == "all":
                for picture in self._drained():
                    yield self._frame(picture, arrived_s)
            if not self._due.wants(arrived_s if self._live else stream_s):
                return
            pictures = self._decode(packet) + self._drained()
            self._empty_keys = 0 if pictures else self._empty_keys + 1
            if not pictures:
                self._due.missed()
            if self._empty_keys >= _EMPTY_KEY_FRAMES:
                self._policy.key_frames_are_empty()
            for picture in pictures:
                yield self._frame(picture, arrived_s, packet_s=stream_s)
        elif action is Action.FEED:
            for picture in self._decode(packet):
                yield self._frame(picture, arrived_s)
        elif action is Action.CATCH_UP:
            backlog, self._backlog = self._backlog, None
            self._awaits_key = backlog is None
            for kept, kept_at_s in backlog or ():
                for picture in self._decode(kept):
                    if self._last_pts is None or picture.pts is None or picture.pts > self._last_pts:
                        yield self._frame(picture, kept_at_s)

    def _may_begin(self, packet: av.Packet[VideoStream], stream_s: float) -> bool:
        """False while the decoder lacks a key frame to begin with."""
        if self._awaits_key:
            if self._key_by_s is None:
                self._key_by_s = stream_s + _FIRST_KEY_S
            if packet.is_keyframe or stream_s > self._key_by_s:
                self._awaits_key, self._key_by_s = False, None
        return not self._awaits_key

    def _check_hope(self, now_s: float) -> None:
        """Packets are signs of life, but not where for the whole timeout most of them were damaged."""
        if self._hopeless is None:
            self._hopeless = (now_s, self.packets, self.damaged)
        since_s, packets, damaged = self._hopeless
        if now_s - since_s >= self._read_timeout_s and 2 * (self.damaged - damaged) > self.packets - packets:
            raise SourceLost(
                f"{self._shown} sends data, but no whole picture for {self._read_timeout_s:g} s; "
                "is its network too weak, or its encoder stuck?"
            )

    def _hurt(self) -> None:
        """Something of a live stream is missing: all that refers to it is smeared, up to the next key frame."""
        self.damaged += 1
        self._backlog, self._backlog_bytes = None, 0
        if not self._awaits_key:
            self._awaits_key, self._key_by_s = True, None
            self._decoder.flush_buffers()

    def _keep(self, packet: av.Packet[VideoStream], arrived_s: float) -> None:
        if self._policy.mode == "keyframes" and packet.is_keyframe:
            self._backlog, self._backlog_bytes = [], 0
        if self._backlog is not None:
            self._backlog.append((packet, arrived_s))
            self._backlog_bytes += packet.size
            if self._backlog_bytes > _BACKLOG_BYTES:
                self._backlog = None

    def _decode(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        try:
            pictures = self._decoder.decode(packet)
        except av.EOFError:
            return []
        except (av.FFmpegError, OSError):
            if self._live and packet is not None:
                self._hurt()
            else:
                self.damaged += 1
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        self.damaged += len(pictures) - len(whole)
        return whole

    def _drained(self) -> list[av.VideoFrame]:
        pictures = self._decode(None)
        self._decoder.flush_buffers()
        return pictures

    def _frame(self, picture: av.VideoFrame, arrived_s: float, *, packet_s: float | None = None) -> Frame:
        if self._live:
            time_s = max(arrived_s, self._last_s + _TICK_S)  # a drained decoder gives several pictures at once
        else:
            time_s = self.timeline.frame_s(picture, packet_s=packet_s)
        if self._first_s is None:
            self._first_s = time_s
        self._last_s = time_s
        self._last_pts = picture.pts
        arrived_at = self._clock.now() if self._live else None
        sent_at = self._sent_at(picture, arrived_at) if arrived_at else None
        return Frame(
            pts_s=time_s - self._first_s,
            captured_at=sent_at or arrived_at,
            picture=VideoPicture(picture),
            time_source="camera" if sent_at else "arrival",
        )

    def _note_camera_time(self, packet: av.Packet[VideoStream]) -> None:
        """FFmpeg hangs the sender's wall clock on each RTP packet once the first sender report has come."""
        if not self._live or packet.pts is None or not packet.has_sidedata("prft"):
            return
        data = bytes(packet.get_sidedata("prft"))  # AVProducerReferenceTime: int64 microseconds, int flags
        if len(data) >= 8:
            self._camera_offset_s = struct.unpack_from("=q", data)[0] / 1e6 - packet.pts * self._tick_s

    def _sent_at(self, picture: av.VideoFrame, arrived_at: datetime) -> datetime | None:
        if self._camera_offset_s is None or picture.pts is None:
            return None
        try:
            sent_at = datetime.fromtimestamp(self._camera_offset_s + picture.pts * self._tick_s, UTC)
        except (ValueError, OverflowError, OSError):
            return None
        return sent_at if abs(sent_at - arrived_at) <= _WRONG_CLOCK else None


def _is_whole_jpeg(packet: av.Packet[VideoStream]) -> bool:
    """FFmpeg decodes half a JPEG too, and says nothing. A whole one ends with its end marker, padding aside."""
    return bytes(memoryview(packet)[-64:]).rstrip(b"\0\r\n").endswith(b"\xff\xd9")
