"""Cameras that offer no stream, only their latest picture at an HTTP address: fetched anew each sampling period."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

import httpx

from streamwatch.clock import Clock
from streamwatch.errors import SourceError, SourceLost, SourceTimeout, SourceUnauthorized, SourceUnusable
from streamwatch.imaging import ArrayPicture, decode_image
from streamwatch.records import Frame
from streamwatch.sources.base import BaseSource
from streamwatch.urls import redact, split_credentials

MAX_BYTES = 64 * 1024 * 1024
"""Larger answers are refused while they come."""

_REDIRECTS = 3
_BAD_PICTURES = 3
"""So many damaged pictures in a row are a loss: the camera may need another connection."""


class StillSource(BaseSource):
    """One picture each `every_s`, over one connection that is kept; an unchanged one (by its ETag or date) is told as
    such by the server and comes out again.

    An answer is whole or is not taken: within `timeout_s`, at most `MAX_BYTES`, not cut short, a picture of a known
    format. Redirects are followed on the same host only. `captured_at` is the server's Last-Modified where it gives
    one, else arrival. `close` is felt at once.
    """

    def __init__(
        self,
        url: str,
        *,
        every_s: float,
        clock: Clock,
        username: str | None = None,
        password: str | None = None,
        open_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(clock=clock)
        self.live = True
        self._every_s = every_s
        self._shown = redact(url)
        self._url, url_user, url_password = split_credentials(url)
        self._user = username if username is not None else url_user
        self._password = (password if password is not None else url_password) or ""
        self._timeouts_s = (open_timeout_s, read_timeout_s)
        self._auth: httpx.Auth | None = None
        self._last: tuple[ArrayPicture, httpx.Headers] | None = None
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def frames(self) -> Iterator[Frame]:
        self._begin()
        self._auth = self._last = None
        if self._closed.is_set():
            return
        # A loop of its own, since only a task can be given one deadline for all: name, connection, headers and body.
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(
                trust_env=False,  # no credentials out of a .netrc, no proxy between a daemon and its cameras
                verify=ssl.create_default_context(),
                timeout=None,  # one deadline for all, below
                limits=httpx.Limits(max_connections=1),
                headers={"Accept": "image/*"},
            )
            try:
                yield from self._pictures(runner, client)
            finally:
                runner.run(client.aclose())

    def close(self) -> None:
        super().close()
        with self._lock:
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    def _pictures(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> Iterator[Frame]:
        first_s: float | None = None
        bad = 0
        while not self._closed.is_set():
            due_s = self._clock.monotonic_s() + self._every_s
            try:
                fetched = runner.run(self._cancellable(client, timeout_s=self._timeouts_s[0 if first_s is None else 1]))
            except _BadPicture as error:
                bad += 1
                lost = SourceLost(f"{self._shown}: {error}" + (f" ({bad} times in a row)" if bad > 1 else ""))
                if first_s is None or bad >= _BAD_PICTURES:
                    raise lost from None
            else:
                if fetched is None:
                    return
                bad = 0
                picture, headers = fetched
                arrived_s = self._clock.monotonic_s()
                first_s = arrived_s if first_s is None else first_s
                self.size, self.duration_s = (picture.width, picture.height), arrived_s - first_s
                written_at = _last_modified(headers)
                yield Frame(
                    pts_s=arrived_s - first_s,
                    captured_at=written_at or self._clock.now(),
                    picture=picture,
                    time_source="camera" if written_at else "arrival",
                )
            self._closed.wait(max(0.0, due_s - self._clock.monotonic_s()))

    async def _cancellable(
        self, client: httpx.AsyncClient, *, timeout_s: float
    ) -> tuple[ArrayPicture, httpx.Headers] | None:
        """The camera's picture; None where `close` came first."""
        task = asyncio.ensure_future(self._fetch_in(client, timeout_s=timeout_s))
        with self._lock:
            self._running = (asyncio.get_running_loop(), task)
        try:
            if self._closed.is_set():
                task.cancel()
            return await task
        except asyncio.CancelledError:
            if not self._closed.is_set():
                raise
            return None
        finally:
            with self._lock:
                self._running = None

    async def _fetch_in(self, client: httpx.AsyncClient, *, timeout_s: float) -> tuple[ArrayPicture, httpx.Headers]:
        failure: SourceError
        try:
            async with asyncio.timeout(timeout_s):
                return await self._fetch(client)
        except TimeoutError:
            failure = SourceTimeout(
                f"{self._shown} gave no whole picture within {timeout_s:g} s; is the camera up and reachable?"
            )
        # The library's words may hold the URL, so only their kind is passed on.
        except httpx.ConnectError as error:
            failure = SourceLost(f"{self._shown} {_why_no_connection(error)}")
        except httpx.RemoteProtocolError:
            failure = SourceLost(f"{self._shown} broke off its answer, or answered no HTTP; is it the right port?")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
            failure = SourceUnusable(f"{self._shown} is no address that can be asked; check the URL")
        except httpx.HTTPError as error:
            failure = SourceLost(f"{self._shown} was lost while reading ({type(error).__name__})")
        raise failure

    async def _fetch(self, client: httpx.AsyncClient) -> tuple[ArrayPicture, httpx.Headers]:
        url = httpx.URL(self._url)
        for _ in range(_REDIRECTS + 2):
            headers = {}
            if self._last is not None:
                known = self._last[1]
                pairs = (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified"))
                headers = {asked: known[told] for asked, told in pairs if told in known}
            async with client.stream("GET", url, headers=headers, auth=self._auth) as answer:
                if answer.status_code == 304 and self._last is not None:
                    return self._last
                if answer.status_code == 401 and self._auth is None and self._user is not None:
                    self._auth = self._chosen_auth(answer.headers.get_list("www-authenticate"))
                    continue
                if answer.is_redirect:
                    url = self._followed(url, answer.headers.get("location", ""))
                    continue
                self._check(answer.status_code)
                data = await self._body(answer)
                # Decoded here: nothing else runs in this loop.
                try:
                    self._last = ArrayPicture(decode_image(data)), answer.headers
                except SourceUnusable as error:
                    kind = answer.headers.get("content-type", "none")
                    raise _BadPicture(
                        f"the camera's answer is no picture: {error} (content type: {kind:.60})"
                    ) from None
                return self._last
        raise SourceLost(f"{self._shown} redirects in a circle; check the URL")

    async def _body(self, answer: httpx.Response) -> bytes:
        data = bytearray()
        async for piece in answer.aiter_bytes():
            data += piece
            if len(data) > MAX_BYTES:
                raise SourceLost(f"{self._shown} sends more than {MAX_BYTES >> 20} MB, expected one picture")
        if not data:
            raise _BadPicture("the camera's answer is empty (0 bytes), expected a picture")
        return bytes(data)

    def _chosen_auth(self, challenges: list[str]) -> httpx.Auth:
        if any(challenge.lower().startswith("digest") for challenge in challenges):
            return httpx.DigestAuth(self._user or "", self._password)
        return httpx.BasicAuth(self._user or "", self._password)

    def _followed(self, url: httpx.URL, location: str) -> httpx.URL:
        """Where a redirect leads, on the same host: the password is for no other, and a camera names no files."""
        target: httpx.URL | None = None
        with contextlib.suppress(httpx.InvalidURL, ValueError):
            target = httpx.URL(urljoin(str(url), location))
        if target is None or target.host != url.host or target.scheme not in {url.scheme, "https"}:
            shown = redact(str(target)) if target is not None else "an address that is none"
            raise SourceUnusable(f"{self._shown} leads to {shown:.200}; only the same host is followed, check the URL")
        return target

    def _check(self, status: int) -> None:
        if status in {401, 403}:
            raise SourceUnauthorized(f"{self._shown} refused the user name or password; check username and password")
        if status == 404:
            raise SourceUnusable(
                f"{self._shown}: the server answers but knows no such path (404); check the URL's path"
            )
        if status in {408, 425, 429}:
            raise SourceLost(f"{self._shown}: the server is asked too often ({status})")
        if 400 <= status < 500:
            raise SourceUnusable(f"{self._shown}: the server refused the request ({status}); check the URL")
        if status != 200:
            raise SourceLost(f"{self._shown}: the server failed ({status})")


class _BadPicture(Exception):
    """An answer that is no picture; the next may be one."""


def _why_no_connection(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                "has a certificate that this machine does not trust; add it to the system's store "
                "(SSL_CERT_FILE names another), or use http://"
            )
        if isinstance(cause, ConnectionRefusedError):
            return "refused the connection; is the camera up, and is the port right?"
        cause = cause.__cause__ or cause.__context__
    return "cannot be reached; check the host name and this machine's network"


def _last_modified(headers: httpx.Headers) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
