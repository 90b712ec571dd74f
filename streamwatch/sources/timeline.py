"""Seconds out of a stream's time stamps, which may be missing, start anywhere, run in decoding order, or jump."""

from __future__ import annotations

import av
from av.video.stream import VideoStream

_DISORDER_S = 1.0
"""Smaller steps back are B-frames and rounding; larger ones mean that the stamps began anew."""

_LEAP_S = 10.0
"""A live stream whose stamps leap by so much more than the clock has had them set; files may hold such gaps."""

# Formats without stamps of their own: FFmpeg counts 25 frames a second whatever the camera does.
_STAMPLESS = frozenset({"mpjpeg", "mjpeg"})


class Timeline:
    """One for each pass over a stream. Packet times and frame times have the same zero only by chance: do not mix
    them.
    """

    def __init__(self, stream: VideoStream, *, live: bool) -> None:
        self._tick_s = float(stream.time_base or 0)
        rate = stream.average_rate or stream.guessed_rate or 25
        self._spacing_s = 1 / float(rate) if rate else 0.04
        self._live = live
        self._stamped = self._tick_s > 0 and not (live and stream.container.format.name in _STAMPLESS)
        self._packet_s: float | None = None
        self._arrival_s = 0.0
        self._packet_offset_s = 0.0
        self._frame_s: float | None = None
        self._frame_offset_s = 0.0
        self.begin_s: float | None = None
        self.end_s = 0.0
        """With `begin_s`: from the first packet's picture to the end of the last one's, as far as packets were seen."""

    @property
    def frames_per_s(self) -> float:
        """What is taken for the frame rate where stamps are missing."""
        return 1 / self._spacing_s

    def packet_s(self, packet: av.Packet[VideoStream], *, arrival_s: float = 0.0) -> float:
        """The packet's time; near enough to rising in decoding order, and it never jumps."""
        # Key frames are compared with key frames by when they are shown; the others, out of order, by when they are
        # decoded.
        first, second = (packet.pts, packet.dts) if packet.is_keyframe else (packet.dts, packet.pts)
        stamp = first if first is not None else second
        last_s = self._packet_s
        waited_s = arrival_s - self._arrival_s if self._live else self._spacing_s
        self._arrival_s = arrival_s
        if stamp is None or not self._stamped:
            time_s = 0.0 if last_s is None else last_s + waited_s
            if stamp is not None:
                self._packet_offset_s = time_s - stamp * self._tick_s
        else:
            time_s = stamp * self._tick_s + self._packet_offset_s
            if last_s is not None and (
                time_s < last_s - _DISORDER_S or (self._live and time_s > last_s + waited_s + _LEAP_S)
            ):
                self._packet_offset_s += last_s + waited_s - time_s
                time_s = last_s + waited_s
        self._packet_s = time_s
        shown = packet.pts if packet.pts is not None and self._stamped else None
        shown_s = time_s if shown is None else shown * self._tick_s + self._packet_offset_s
        length_s = packet.duration * self._tick_s if packet.duration and self._stamped else self._spacing_s
        self.begin_s = shown_s if self.begin_s is None else min(self.begin_s, shown_s)
        self.end_s = max(self.end_s, shown_s + length_s)
        return time_s

    def frame_s(self, frame: av.VideoFrame, *, packet_s: float | None = None) -> float:
        """A decoded frame's time in a file, strictly rising; `packet_s` where it is known to come from that packet."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        last_s = self._frame_s
        if stamp is None or not self._stamped:
            counted_s = 0.0 if last_s is None else last_s + self._spacing_s
            time_s = counted_s if packet_s is None else max(counted_s, packet_s)
        else:
            time_s = stamp * self._tick_s + self._frame_offset_s
            if last_s is not None and time_s <= last_s:
                again_s = last_s + (self._spacing_s if time_s < last_s - _DISORDER_S else max(self._tick_s, 1e-6))
                self._frame_offset_s += again_s - time_s if time_s < last_s - _DISORDER_S else 0.0
                time_s = again_s
        self._frame_s = time_s
        return time_s
