"""Telling systemd how the service is: READY=1, WATCHDOG=1, STOPPING=1 (sd_notify(3)). Does nothing outside systemd."""

from __future__ import annotations

import socket
from collections.abc import Mapping

_PATIENCE_S = 1.0
"""Where systemd does not read its socket, the message is given up rather than the service held up."""


class Notifier:
    """Sends states to the socket that systemd named."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        timeout_us = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(timeout_us) / 1e6 if timeout_us.isdecimal() and int(timeout_us) else None
        """Seconds of silence after which systemd kills the service; None without a watchdog."""

    def send(self, state: str) -> None:
        """Send a state such as READY=1. A systemd that does not listen is no reason to stop."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_PATIENCE_S)
                channel.sendto(state.encode(), self._address)
        except OSError:
            return
