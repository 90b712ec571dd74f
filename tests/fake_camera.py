"""A camera that misbehaves on demand, in a process of its own: HTTP MJPEG, HTTP MPEG-TS, JPEG stills, RTSP handshakes.

    python -m tests.fake_camera --behaviour flap:3 --seed 1      prints "ready PORT"

    http://127.0.0.1:PORT/CAMERA/mjpeg     multipart/x-mixed-replace
    http://127.0.0.1:PORT/CAMERA/ts        video/mp2t, H.264, a key frame each second
    http://127.0.0.1:PORT/CAMERA/still     image/jpeg, with ETag and Last-Modified
    rtsp://127.0.0.1:PORT/CAMERA/rtsp      a handshake that goes wrong; it never plays
    http://127.0.0.1:PORT/control?behaviour=hang:5000&camera=CAMERA      changes one camera; without `camera`, all
    http://127.0.0.1:PORT/count            JSON: connections for each camera

CAMERA is any name: one server is as many cameras as are asked for. A changed behaviour holds for connections that are
open already, too. It ends when its standard input does, so that it never outlives its test.

Behaviours, `name` or `name:number`:

    good               what a good camera does
    silent             accepts, reads the request, never answers
    refuse             accepts and closes
    stop:N             closes after N frames (5)
    flap:N             the same after N frames (3), all of them at once
    hang:N             sends N bytes of the body (5000), then nothing; the connection stays open
    drip:N             sends N bytes a second (200)
    garbage            random bytes for a body, for ever
    truncated          each JPEG is cut in half; of MPEG-TS one packet in eight is missing
    switch:N           another resolution after N frames (5), and back after as many more, …
    frozen             the same picture for ever, to the last bit
    black              black pictures
    grey:N             the first N frames (5) of a connection are grey, as after a bad join
    headers            an answer whose headers never end
    redirect-self      302 to the same camera's /good path
    redirect-host      302 to another host (localhost instead of 127.0.0.1)
    redirect-file      302 to file:///etc/passwd
    redirect-loop      302 to itself
    huge               a Content-Length of 10 TB, and a body that goes on
    type               a Content-Type of text/html over the same body
    page               an HTML page
    zero               an empty body
    bomb               a small PNG of 30,000 × 30,000 pixels (stills)
    still-moves        stills whose every answer has a new ETag although asked with the old one (else 304)
    status:N           that HTTP or RTSP status (500)
    basic, digest      asks for the user and password given with --user and --password, then is good
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import io
import json
import random
import re
import signal
import subprocess
import sys
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import av
import numpy as np
from PIL import Image

from tests.videos import numbered

ROOT = Path(__file__).resolve().parents[1]
SIZE, OTHER_SIZE = (96, 64), (48, 32)
FRAMES = 100
"""Pictures of one round; then it begins again."""

DEFAULTS = {"stop": 5, "flap": 3, "hang": 5000, "drip": 200, "switch": 5, "grey": 5, "status": 500}
_REASONS = {401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
_BOUNDARY = b"frameboundary"


class FakeCamera:
    """The server in a process of its own, for `with`."""

    def __init__(
        self,
        behaviour: str = "good",
        *,
        seed: int = 0,
        fps: float = 25.0,
        port: int = 0,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "tests.fake_camera", "--behaviour", behaviour, "--seed", str(seed)]
        self._command += ["--fps", str(fps), "--port", str(port)]
        if user is not None:
            self._command += ["--user", user, "--password", password or ""]
        self.port = port
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> FakeCamera:
        """Returns once it accepts connections; again after `stop`, on the same port."""
        command = [*self._command[:-1], self._command[-1]]
        command[command.index("--port") + 1] = str(self.port)
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), "the fake camera did not start"
        self.port = int(line.split()[1])
        return self

    def stop(self) -> None:
        """Let it vanish; its connections are reset."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and are even accepted, but nothing comes."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def behave(self, behaviour: str, *, camera: str | None = None) -> None:
        """Change one camera's behaviour, or that of all."""
        asked = f"behaviour={quote(behaviour)}" + (f"&camera={quote(camera)}" if camera else "")
        self._ask(f"/control?{asked}")

    def connections(self, camera: str = "cam") -> int:
        """How many it has accepted for that camera so far."""
        return int(json.loads(self._ask("/count")).get(camera, 0))

    def url(self, kind: str, *, camera: str = "cam") -> str:
        """`kind` is mjpeg, ts, still or rtsp."""
        return f"{'rtsp' if kind == 'rtsp' else 'http'}://127.0.0.1:{self.port}/{camera}/{kind}"

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def __enter__(self) -> FakeCamera:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass
class Film:
    """The pictures, encoded once."""

    seed: int
    fps: float
    jpegs: dict[str, list[bytes]] = field(default_factory=dict)
    clips: dict[str, list[tuple[bytes, bool]]] = field(default_factory=dict)
    extradata: dict[str, Any] = field(default_factory=dict)

    def pictures(self, look: str) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        """`look` is a size, or black, grey, frozen."""
        noise = np.random.default_rng(self.seed)
        width, height = OTHER_SIZE if look == "other" else SIZE
        for index in range(FRAMES):
            if look in {"black", "grey"}:
                yield np.full((height, width, 3), 0 if look == "black" else 128, dtype=np.uint8)
            else:
                plain = numbered(7 if look == "frozen" else index, width=width, height=height).astype(np.int16)
                grain = noise.integers(-6, 7, plain.shape) if look != "frozen" else 0
                yield np.clip(plain * 0.8 + 25 + grain, 0, 255).astype(np.uint8)

    def jpeg(self, look: str, index: int) -> bytes:
        if look not in self.jpegs:
            made = []
            for pixels in self.pictures(look):
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "JPEG", quality=85)
                made.append(out.getvalue())
            self.jpegs[look] = made
        return self.jpegs[look][index % FRAMES]

    def packet(self, look: str, index: int) -> tuple[bytes, bool]:
        """H.264 in Annex B, and whether it is a key frame."""
        if look not in self.clips:
            size = OTHER_SIZE if look == "other" else SIZE
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.gop_size = 25
            encoder.options = {"preset": "veryfast", "tune": "zerolatency", "bf": "0", "sc_threshold": "0"}
            packets = []
            for pixels in self.pictures(look):
                packets += encoder.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
            packets += encoder.encode(None)
            self.clips[look] = [(bytes(packet), packet.is_keyframe) for packet in packets]
        return self.clips[look][index % FRAMES]


class _TransportStream:
    """MPEG-TS of packets, one at a time."""

    def __init__(self, fps: float) -> None:
        self._out = io.BytesIO()
        self._container = av.open(_Sink(self._out), "w", format="mpegts", options={"flush_packets": "1"})
        stream = self._container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        self._stream, self._fps, self._count = stream, fps, 0

    def add(self, data: bytes, is_key: bool) -> bytes:
        packet = av.Packet(data)
        packet.stream = self._stream
        packet.time_base = Fraction(1, 90_000)
        packet.pts = packet.dts = round(self._count * 90_000 / self._fps)
        packet.is_keyframe = is_key
        self._count += 1
        self._container.mux_one(packet)
        made = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return made


class _Sink:
    """A file that cannot seek."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        return self._out.write(data)


class Server:
    """All cameras of one process."""

    def __init__(self, film: Film, *, behaviour: str, user: str | None, password: str | None) -> None:
        self._film = film
        self._behaviour = behaviour
        self._own: dict[str, str] = {}
        self._random = random.Random(film.seed)
        self._login = (user or "cam", password or "")
        self._counts: Counter[str] = Counter()

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=512)
        print("ready", server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.read)

    def _now(self, camera: str) -> tuple[str, int]:
        name, _, number = self._own.get(camera, self._behaviour).partition(":")
        return name, int(number) if number else DEFAULTS.get(name, 0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._request(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """True if another may come over the same connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, version = [*lines[0].split(" "), "", ""][:3]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        url = urlsplit(target)
        if url.path in {"/control", "/count"}:
            if url.path == "/control":
                asked = parse_qs(url.query)
                if "camera" in asked:
                    self._own[asked["camera"][0]] = asked["behaviour"][0]
                else:
                    self._own, self._behaviour = {}, asked["behaviour"][0]
            await _answer(writer, 200, json.dumps(self._counts).encode(), {"Content-Type": "application/json"})
            return False
        parts = [part for part in url.path.split("/") if part] or ["cam"]
        camera, kind = parts[0], parts[1] if len(parts) > 1 else ""
        if method in {"GET", "OPTIONS"}:
            self._counts[camera] += 1
        call = _Call(camera=camera, kind=kind, method=method, target=target, headers=headers, version=version)
        if parts[-1] == "good":
            self._own[camera] = "good"
        return await self._behave(call, writer)

    async def _behave(self, call: _Call, writer: asyncio.StreamWriter) -> bool:
        name, number = self._now(call.camera)
        rtsp = call.version.startswith("RTSP")
        if name == "refuse":
            return False
        if name == "silent":
            return await _for_ever()
        if rtsp and call.method == "OPTIONS" and name not in {"garbage", "headers", "hang", "drip", "stop", "flap"}:
            await _answer(writer, 200, b"", {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"}, call=call)
            return True
        if name == "headers":
            writer.write(f"{'RTSP/1.0' if rtsp else 'HTTP/1.1'} 200 OK\r\n".encode())
            while True:
                writer.write(b"".join(b"X-Noise-%d: %s\r\n" % (place, b"x" * 900) for place in range(64)))
                await writer.drain()
                await asyncio.sleep(0.005)
        if name.startswith("redirect-"):
            place = f"127.0.0.1:{writer.get_extra_info('sockname')[1]}"
            scheme = "rtsp" if rtsp else "http"
            where = {
                "redirect-self": f"{scheme}://{place}/{call.camera}/{call.kind}/good",
                "redirect-host": f"{scheme}://localhost:{place.split(':')[1]}/other/{call.kind}/good",
                "redirect-file": "file:///etc/passwd",
                "redirect-loop": f"{scheme}://{place}{urlsplit(call.target).path}",
            }[name]
            await _answer(writer, 302, b"", {"Location": where}, call=call)
            return not rtsp
        if name == "status":
            await _answer(writer, number, b"no", {"Retry-After": "1"}, call=call)
            return False
        if name in {"basic", "digest"} and not self._knows(call, name):
            asks = 'Basic realm="x"' if name == "basic" else 'Digest realm="x", nonce="abc", qop="auth", algorithm=MD5'
            await _answer(writer, 401, b"", {"WWW-Authenticate": asks}, call=call)
            return True
        if rtsp:
            return await self._rtsp(call, writer, name)
        if name == "page":
            await _answer(writer, 200, b"<html><body>Log in, please</body></html>" * 50, {"Content-Type": "text/html"})
            return False
        if call.kind.startswith("still"):
            return await self._still(call, writer, name, number)
        return await self._stream(call, writer, name)

    async def _rtsp(self, call: _Call, writer: asyncio.StreamWriter, name: str) -> bool:
        if name == "garbage":
            while True:
                writer.write(self._random.randbytes(1000))
                await writer.drain()
                await asyncio.sleep(0.02)
        if name == "hang":  # half an answer
            writer.write(b"RTSP/1.0 200 O")
            await writer.drain()
            return await _for_ever()
        if name == "drip":
            for place in range(10**9):
                writer.write(b"RTSP/1.0 200 OK\r\nX: "[place : place + 1] or b"y")
                await writer.drain()
                await asyncio.sleep(0.05)
        if name in {"stop", "flap"}:
            return False
        if name == "huge":
            writer.write(
                b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 10737418240\r\n\r\n"
            )
            while True:
                writer.write(b"a=x\r\n" * 1000)
                await writer.drain()
                await asyncio.sleep(0.005)
        await _answer(writer, 404, b"", {}, call=call)
        return False

    async def _still(self, call: _Call, writer: asyncio.StreamWriter, name: str, number: int) -> bool:
        index = self._counts[call.camera]
        look = name if name in {"black", "frozen"} else "main"
        if name == "grey":
            look = "grey" if index <= number else "main"
        if name == "switch":
            look = "other" if index // number % 2 else "main"
        body = self._film.jpeg(look, index)
        if name == "bomb":
            body = _bomb()
        if name == "truncated":
            body = body[: len(body) // 2]
        if name == "garbage":
            body = self._random.randbytes(3000)
        if name == "zero":
            body = b""
        tag = f'"{zlib.crc32(body):x}"'
        fresh = {
            "Content-Type": "text/html" if name == "type" else "image/jpeg",
            "ETag": tag,
            "Last-Modified": "Mon, 23 Nov 2026 03:00:00 GMT",
            "Connection": "keep-alive",
        }
        if call.headers.get("if-none-match") == tag and name != "still-moves":
            await _answer(writer, 304, None, fresh)
            return True
        if name in {"hang", "huge", "stop", "drip", "flap"}:
            length = 10 * 2**40 if name == "huge" else len(body)
            fresh["Content-Length"] = str(length)
            await _head(writer, 200, fresh)
            if name == "hang":
                writer.write(body[: min(number, len(body) - 10)])
                await writer.drain()
                return await _for_ever()
            if name == "drip":
                await self._drip(writer, body, number)
                return True
            writer.write(body[: len(body) // 2])
            while name == "huge":
                writer.write(bytes(65536))
                await writer.drain()
            await writer.drain()
            return False
        await _answer(writer, 200, body, fresh)
        return True

    async def _drip(self, writer: asyncio.StreamWriter, data: bytes, bytes_per_s: int) -> None:
        step = max(1, bytes_per_s // 20)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            await asyncio.sleep(step / bytes_per_s)

    async def _stream(self, call: _Call, writer: asyncio.StreamWriter, name: str) -> bool:
        film, ts = self._film, call.kind == "ts"
        kind = "video/mp2t" if ts else f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        headers = {"Content-Type": "text/html" if name == "type" else kind, "Connection": "close"}
        if name == "huge":
            headers["Content-Length"] = str(10 * 2**40)
        await _head(writer, 200, headers)
        if name == "zero":
            return False
        muxer = _TransportStream(film.fps) if ts else None
        sent = began = 0
        last_look = ""
        for index in range(10**9):
            name, number = self._now(call.camera)  # it may have been changed meanwhile
            if name == "refuse" or (name in {"stop", "flap"} and index >= number):
                return False
            if name == "garbage":
                piece = self._random.randbytes(1316)
            else:
                look = name if name in {"black", "frozen"} else "main"
                if name == "grey" and index < number:
                    look = "grey"
                if name == "switch" and index // number % 2:
                    look = "other"
                if muxer is not None:
                    if look != last_look:  # a new encoder begins with a key frame
                        last_look, began = look, index
                    piece = muxer.add(*film.packet(look, index - began))
                    if name == "truncated":
                        cells = [piece[start : start + 188] for start in range(0, len(piece), 188)]
                        piece = b"".join(cell for cell in cells if self._random.random() > 1 / 8)
                else:
                    jpeg = film.jpeg(look, index)
                    jpeg = jpeg[: len(jpeg) // 2] if name == "truncated" else jpeg
                    piece = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (
                        _BOUNDARY,
                        len(jpeg),
                        jpeg,
                    )
            if name == "hang" and sent + len(piece) > number:
                writer.write(piece[: max(0, number - sent)])
                await writer.drain()
                return await _for_ever()
            sent += len(piece)
            if name == "drip":
                await self._drip(writer, piece, number)
                continue
            writer.write(piece)
            await writer.drain()
            if name != "flap":
                await asyncio.sleep(1 / film.fps)
        return False

    def _knows(self, call: _Call, name: str) -> bool:
        given = call.headers.get("authorization", "")
        user, password = self._login
        if name == "basic":
            return given == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        parts = {key: value.strip('"') for key, value in re.findall(r'(\w+)=("[^"]*"|[^\s,]+)', given)}
        ours = _md5(f"{user}:x:{password}")
        asked = _md5(f"{call.method}:{parts.get('uri', '')}")
        middle = f"abc:{parts['nc']}:{parts['cnonce']}:auth" if "nc" in parts else "abc"
        return given.startswith("Digest") and parts.get("response") == _md5(f"{ours}:{middle}:{asked}")


@dataclass(frozen=True, kw_only=True)
class _Call:
    camera: str
    kind: str
    method: str
    target: str
    headers: dict[str, str]
    version: str


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


async def _for_ever() -> bool:
    await asyncio.sleep(10**6)
    return False


async def _head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], *, rtsp: bool = False) -> None:
    reason = _REASONS.get(status, "OK" if status < 300 else "Other")
    lines = [f"{'RTSP/1.0' if rtsp else 'HTTP/1.1'} {status} {reason}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()


async def _answer(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes | None,
    headers: dict[str, str],
    *,
    call: _Call | None = None,
) -> None:
    rtsp = call is not None and call.version.startswith("RTSP")
    more = {"CSeq": call.headers.get("cseq", "1")} if call is not None and rtsp else {}
    length = {} if body is None else {"Content-Length": str(len(body))}
    await _head(writer, status, {**headers, **more, **length}, rtsp=rtsp)
    writer.write(body or b"")
    await writer.drain()


def _bomb() -> bytes:
    """A PNG that says 30,000 × 30,000 and is a few hundred kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = (30_000).to_bytes(4, "big")
    body = zlib.compress(bytes(1_000_000), 9)
    header = chunk(b"IHDR", side + side + b"\x08\x02\x00\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behaviour", default="good")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()
    film = Film(seed=options.seed, fps=options.fps)
    film.jpeg("main", 0)
    film.packet("main", 0)
    server = Server(film, behaviour=options.behaviour, user=options.user, password=options.password)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(server, options.port))


async def _run(server: Server, port: int) -> None:
    await server.serve(port)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


if __name__ == "__main__":
    main()
