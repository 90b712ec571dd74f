"""Metrics and health over real HTTP."""

from __future__ import annotations

import http.client
import logging
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from streamwatch.daemon.health import HealthServer
from streamwatch.errors import PortUnavailable
from streamwatch.metrics import Metrics
from tests.builders import eventually


class Problems:
    """What the service says of itself."""

    healthy: str | None = None
    ready: str | None = None


@pytest.fixture
def problems() -> Problems:
    return Problems()


@pytest.fixture
def server(problems: Problems) -> Iterator[HealthServer]:
    metrics = Metrics()
    metrics.add_camera("yard")
    server = HealthServer(
        "127.0.0.1", 0, metrics=metrics, healthy=lambda: problems.healthy, ready=lambda: problems.ready
    )
    yield server
    server.close()


def ask(
    server: HealthServer, path: str, *, method: str = "GET", host: str | None = None, to: str = "127.0.0.1"
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(to, server.port, timeout=5)
    connection.request(method, path, headers={"Host": host} if host is not None else {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body, {name.lower(): value for name, value in response.getheaders()}


def test_metrics_are_served_as_prometheus_reads_them(server: HealthServer) -> None:
    status, body, headers = ask(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b'streamwatch_camera_up{camera="yard"} 0.0' in body


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz?verbose=1"])
def test_a_service_that_is_well_says_ok(server: HealthServer, path: str) -> None:
    status, body, headers = ask(server, path)
    assert (status, body) == (200, b"ok\n")
    assert headers["cache-control"] == "no-store"


def test_a_service_that_is_not_well_says_why_on_the_page_that_asks(server: HealthServer, problems: Problems) -> None:
    problems.ready = "stopping"
    assert ask(server, "/readyz")[:2] == (503, b"stopping\n")
    assert ask(server, "/healthz")[0] == 200
    problems.healthy = "the worker failed: MemoryError"
    assert ask(server, "/healthz")[:2] == (503, b"the worker failed: MemoryError\n")
    problems.ready = problems.healthy = None
    assert ask(server, "/readyz")[0] == 200


def test_head_gives_the_headers_of_get_and_no_body(server: HealthServer) -> None:
    status, body, headers = ask(server, "/healthz", method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == "3"


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/config"])
def test_other_paths_are_not_found_and_the_right_ones_are_named(server: HealthServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 404
    assert b"/metrics, /healthz and /readyz" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_reading_is_allowed(server: HealthServer, method: str) -> None:
    assert ask(server, "/metrics", method=method)[0] == 405


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:9108", "127.0.0.1", "127.0.0.1:9108", "127.3.2.1:80", "[::1]:9108", "[::1]"]
)
def test_this_machines_own_names_are_answered(server: HealthServer, host: str) -> None:
    assert ask(server, "/healthz", host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9108",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1:9108",
        "[2001:db8::1]:9108",
        "[::1].evil.example",
        "localhost:9108:evil",
        "127.1@evil.example",
        ":9108",
        "",
    ],
)
def test_a_page_elsewhere_that_has_its_name_resolve_to_this_machine_learns_nothing(
    server: HealthServer, host: str
) -> None:
    for path in ("/metrics", "/healthz", "/nothing"):
        status, body, _ = ask(server, path, host=host)
        assert status == 421
        assert b"streamwatch" not in body


def test_a_client_of_http_1_0_without_host_is_answered(server: HealthServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in connection.makefile("rb").read()


def test_a_server_on_the_other_kind_of_address_works_too(problems: Problems) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        server = HealthServer("::1", 0, metrics=Metrics(), healthy=lambda: None, ready=lambda: None)
    except PortUnavailable as error:
        if "Cannot assign" in str(error) or "not supported" in str(error):
            pytest.skip("this machine has no IPv6 loopback")
        raise
    try:
        assert ask(server, "/healthz", to="::1")[0] == 200
    finally:
        server.close()


def test_a_port_in_use_is_named_with_what_to_do(server: HealthServer) -> None:
    with pytest.raises(PortUnavailable) as caught:
        HealthServer("127.0.0.1", server.port, metrics=Metrics(), healthy=lambda: None, ready=lambda: None)
    message = str(caught.value)
    assert f"cannot serve metrics on 127.0.0.1:{server.port}: Address already in use" in message
    assert "metrics.listen" in message


def test_a_port_is_free_again_as_soon_as_the_server_is_closed() -> None:
    first = HealthServer("127.0.0.1", 0, metrics=Metrics(), healthy=lambda: None, ready=lambda: None)
    assert ask(first, "/healthz")[0] == 200
    first.close()
    second = HealthServer("127.0.0.1", first.port, metrics=Metrics(), healthy=lambda: None, ready=lambda: None)
    assert ask(second, "/healthz")[0] == 200
    second.close()


def test_clients_that_break_off_or_talk_nonsense_harm_nobody_and_print_nothing(
    server: HealthServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Given clients that reset the connection in the middle of a request, or send no HTTP
    caplog.set_level(logging.DEBUG)
    for _ in range(3):
        broken = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        broken.sendall(b"GET /metr")
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.close()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        connection.settimeout(5)
        connection.recv(1000)
    # When others ask, then they are answered
    assert ask(server, "/healthz")[0] == 200
    assert eventually(lambda: any("failed" in record.message for record in caplog.records))
    # And nothing stands on the terminal
    assert capfd.readouterr().err == ""


def test_idle_clients_cost_a_bounded_number_of_threads_and_a_line_each(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given clients that connect and say nothing, more than are served at once
    caplog.set_level(logging.DEBUG, logger="streamwatch.daemon.health")
    monkeypatch.setattr("streamwatch.daemon.health._QuietHandler.timeout", 1.0)
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(40)]
    # When those past the limit have been closed
    assert idle[-1].recv(1) == b""
    # Then there is a thread for each of the others only
    assert threading.active_count() - before <= 32
    # And each is told in one line when it has timed out, and the server answers again
    assert eventually(lambda: len(caplog.records) >= 32)
    assert all("\n" not in record.getMessage() and record.exc_info is None for record in caplog.records)
    assert eventually(lambda: threading.active_count() <= before)
    assert ask(server, "/healthz")[0] == 200
    for connection in idle:
        connection.close()
