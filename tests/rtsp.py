"""An RTSP camera for tests: the shared simulator in a process of its own. Skips where it or GStreamer is absent."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.shared_data import shared


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def rtsp_camera(
    video: Path, *, user: str | None = None, password: str | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(`127.0.0.1:port/cam`, the server process); the MP4 is looped for ever."""
    simulator = shared("tools/rtspsim.py")
    python = Path("/usr/bin/python3")
    needs = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not python.exists() or subprocess.run([python, "-c", needs], capture_output=True, check=False).returncode:
        pytest.skip("GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) is not on this machine")
    port = free_port()
    login = ["--user", user, "--password", password or ""] if user is not None else []
    command = [str(python), str(simulator), str(port), *login, f"cam={video}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("ready"), "the simulator did not start"
        yield f"127.0.0.1:{port}/cam", server
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
