"""Telling systemd, over its own kind of socket."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamwatch.daemon.systemd import Notifier


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Socket paths have room for about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="sw") as folder:
        yield Path(folder) / "notify"


def test_states_arrive_at_a_socket_with_a_path(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(short_path))
        systemd.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(short_path)})
        notifier.send("READY=1\nSTATUS=watching 2 cameras")
        notifier.send("WATCHDOG=1")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=watching 2 cameras"
        assert systemd.recv(1000) == b"WATCHDOG=1"


def test_states_arrive_at_an_abstract_socket() -> None:
    name = f"streamwatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name)
        systemd.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).send("READY=1")
        assert systemd.recv(1000) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_socket_nothing_happens(environ: dict[str, str]) -> None:
    Notifier(environ).send("READY=1")


def test_a_systemd_that_does_not_read_holds_the_service_up_for_a_second_at_most(short_path: Path) -> None:
    # Given a socket that nobody reads, filled to the brim
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(short_path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.sendto(b"noise", str(short_path))
        # When a state is sent, then it is given up
        started_s = time.monotonic()
        Notifier({"NOTIFY_SOCKET": str(short_path)}).send("READY=1")
        assert time.monotonic() - started_s < 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("30000000", 30.0), ("500000", 0.5), ("0", None), ("", None), ("-5", None), ("soon", None)]
)
def test_the_watchdogs_time_is_read_in_microseconds(text: str, seconds: float | None) -> None:
    assert Notifier({"WATCHDOG_USEC": text}).watchdog_s == seconds
    assert Notifier({}).watchdog_s is None
