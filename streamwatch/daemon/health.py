"""/metrics, /healthz and /readyz on a loopback port."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from streamwatch.errors import PortUnavailable
from streamwatch.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Tells what is wrong, in one line; None if nothing is."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d+)?")


_MOST_AT_ONCE = 32
"""Connections past these are closed: idle ones cost a thread each until they time out."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A restart must not wait for the old connections; a second daemon is still refused.
    allow_reuse_address = True
    request_queue_size = _MOST_AT_ONCE

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or said nothing is no news either."""
        error = sys.exception()
        log.debug("a request for metrics or health failed: %s: %s", type(error).__name__, error)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started that would give its place back
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _ServerIPv6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no news."""


class HealthServer:
    """Serves until closed, in a thread of its own."""

    def __init__(self, host: str, port: int, *, metrics: Metrics, healthy: Check, ready: Check) -> None:
        """Bind and serve.

        Raises:
            PortUnavailable: The address is taken or not this machine's.
        """
        self._metrics, self._healthy, self._ready = metrics, healthy, ready
        try:
            self._server = make_server(
                host,
                port,
                self._answer,
                server_class=_ServerIPv6 if ":" in host else _Server,
                handler_class=_QuietHandler,
            )
        except OSError as error:
            raise _unavailable(host, port, error) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, content_type, body = self._route(environ)
        start_response(
            status,
            [
                ("Content-Type", content_type),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ],
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _route(self, environ: dict[str, Any]) -> tuple[str, str, bytes]:
        text = "text/plain; charset=utf-8"
        # A web page that has its own name resolve to this machine (DNS rebinding) gives its own Host.
        if not _is_local(str(environ.get("HTTP_HOST", "localhost"))):
            return "421 Misdirected Request", text, b"this server answers to localhost only\n"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", text, b"only GET and HEAD\n"
        match environ.get("PATH_INFO"):
            case "/metrics":
                return "200 OK", CONTENT_TYPE, self._metrics.exposition()
            case "/healthz":
                return _checked(self._healthy(), text)
            case "/readyz":
                return _checked(self._ready(), text)
        return "404 Not Found", text, b"there are /metrics, /healthz and /readyz\n"


def _checked(problem: str | None, content_type: str) -> tuple[str, str, bytes]:
    if problem is None:
        return "200 OK", content_type, b"ok\n"
    return "503 Service Unavailable", content_type, (problem + "\n").encode()


def check_port(host: str, port: int) -> None:
    """See whether `HealthServer` could serve there, before what takes long.

    Raises:
        PortUnavailable: The address is taken or not this machine's.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()  # Linux lets two bind that reuse the address, but not two listen
    except OSError as error:
        raise _unavailable(host, port, error) from error


def _unavailable(host: str, port: int, error: OSError) -> PortUnavailable:
    return PortUnavailable(
        f"cannot serve metrics on {host}:{port}: {error.strerror or error}; choose another port with "
        "metrics.listen, or stop what holds this one"
    )


def _is_local(host: str) -> bool:
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return False
    name = match[1] or match[2]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
