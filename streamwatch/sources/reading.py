"""One pass over an open container: packets in, frames out."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from streamwatch.clock import Clock
from streamwatch.errors import SourceError, SourceLost
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
                yield frame
                if self._closed.is_set():
                    return
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
            if not packet.size:
                continue
            self.packets += 1
            if packet.is_corrupt and not self._live:
                torn += 1
                continue
            self.damaged += torn
            bad_reads = torn = 0
            yield packet, self._clock.monotonic_s()
        self.torn_tail = torn > 0

    def _decoded(self, packet: av.Packet[VideoStream], stream_s: float, arrived_s: float) -> Iterator[Frame]:
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
        return Frame(
            pts_s=time_s - self._first_s,
            captured_at=self._clock.now() if self._live else None,
            picture=VideoPicture(picture),
        )
