"""One file by HTTP: resumed, hash-checked, renamed into place when whole. Two processes at once share one download."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from streamwatch import __version__
from streamwatch.errors import OutputError, WeightsMissing

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are there, and the bytes in all (None if the server does not say)."""

_CHUNK_BYTES = 1 << 18
_ATTEMPTS = 4
"""Attempts in a row that may bring nothing new; one that brought bytes starts the count again."""


class _Damaged(Exception):
    """The whole file came and has the wrong hash."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
    timeout_s: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring `url` to `target`, unless a file that fits is there by now.

    While it runs the bytes are in `target` + `.part`; what an interrupted download left there is gone on with, if the
    server still has the same file. A file of the wrong hash is removed and never becomes `target`.

    Args:
        url: http or https.
        target: Where the file goes; its folder is made.
        sha256: Hex digits that its SHA-256 begins with.
        progress: Hears of the bytes as they come; None draws a bar where stderr is a terminal.
        timeout_s: Patience with a silent server.
        sleep: Waits between attempts.

    Raises:
        WeightsMissing: It cannot be had; the message names the URL, the file and the folder to put it into.
        OutputError: The folder cannot be written.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise WeightsMissing(f"{url} is no http or https address; {_by_hand(target, sha256)}")
    part = target.with_name(target.name + ".part")
    with _writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.with_name(target.name + ".lock")), _bar(progress) as hear:
        if target.is_file() and _sha256(target).startswith(sha256):
            return  # Another process brought it while this one waited for the lock.
        log.info("downloading %s to %s", url, target)
        resumed = part.exists() and part.stat().st_size > 0
        try:
            try:
                _fetch(url, part, sha256, hear, timeout_s, sleep)
            except _Damaged:
                _discard(part)
                if not resumed:
                    raise
                # The piece from an earlier run may be what is wrong: once more, from the first byte.
                _fetch(url, part, sha256, hear, timeout_s, sleep)
        except _Damaged as error:
            _discard(part)
            raise WeightsMissing(
                f"what {url} sent has SHA-256 {error}, expected one beginning with {sha256}; it was removed unread. "
                f"Try again later, or {_by_hand(target, sha256)}"
            ) from None
        except urllib.error.HTTPError as error:
            raise WeightsMissing(f"{url} answered {error.code} {error.reason}; {_by_hand(target, sha256)}") from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise WeightsMissing(
                f"{url} could not be downloaded: {reason or type(error).__name__}. "
                f"Try again (what has come so far is kept), or {_by_hand(target, sha256)}"
            ) from None
        with _writing(target.parent):
            os.replace(part, target)
            _discard(part)
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _by_hand(target: Path, sha256: str) -> str:
    return f"bring the file {target.name} (its SHA-256 begins with {sha256}) and put it into {target.parent}"


def _fetch(
    url: str, part: Path, sha256: str, progress: Progress, timeout_s: float, sleep: Callable[[float], None]
) -> None:
    """Fill `part` up, over several connections if they break."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _one_connection(url, part, progress, timeout_s)
            break
        except urllib.error.HTTPError as error:
            error.close()  # It holds the connection.
            if error.code == 416 and before:  # Nothing lies behind what is here: it is all of the file, or another one.
                if _sha256(part).startswith(sha256):
                    return
                _discard(part)
                continue
            if error.code < 500 and error.code not in (408, 429):
                raise
            failures += 1
            if failures >= _ATTEMPTS:
                raise
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            failures = failures + 1 if not part.exists() or part.stat().st_size <= before else 1
            if failures >= _ATTEMPTS:
                raise
            log.info("%s: %s; going on", url, error)
        sleep(0.5 * 2**failures)
    got = _sha256(part)
    if not got.startswith(sha256):
        raise _Damaged(got)


def _one_connection(url: str, part: Path, progress: Progress, timeout_s: float) -> None:
    """Ask for what is missing and write it; raises when the connection ends early."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"streamwatch/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag := _read_etag(part):
            headers["If-Range"] = etag  # A server whose file has changed then sends all of it.
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        if not (have and response.status == 206 and _begins_at(response.headers.get("Content-Range", ""), have)):
            if response.status != 200:
                _discard(part)  # A piece that was not asked for: the next attempt asks for all.
                raise http.client.HTTPException(f"a piece came that does not join byte {have}")
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with _writing(part.parent), part.open("ab" if have else "wb") as file:
            if not have:
                _write_etag(part, response.headers.get("ETag"))
            try:
                _copy(response, file, part.name.removesuffix(".part"), have, total, progress)
            finally:
                file.flush()
                os.fsync(file.fileno())


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], name: str, have: int, total: int | None, progress: Progress
) -> None:
    progress(name, have, total)
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        have += len(chunk)
        progress(name, have, total)
    # read() with a size returns short at a cut instead of raising.
    if total is not None and have < total:
        raise http.client.HTTPException(f"the connection ended at byte {have} of {total}")


def _begins_at(content_range: str, start: int) -> bool:
    found = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", content_range.strip())
    return found is not None and int(found[1]) == start


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _read_etag(part: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        etag = _etag_file(part).read_text("ascii")
        if re.fullmatch(r'"[!#-~]*"', etag):  # A strong one: weak ones may not stand in If-Range.
            return etag
    return None


def _write_etag(part: Path, etag: str | None) -> None:
    _etag_file(part).unlink(missing_ok=True)
    if etag and etag.isascii():
        _etag_file(part).write_text(etag, "ascii")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Failures to write become OutputError; those of the network, which are OSErrors too, pass."""
    try:
        yield
    except OSError as error:
        disk = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR)
        if error.errno in (*disk, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.EIO):
            raise OutputError(
                f"weights cannot be written to {folder}: {error.strerror}; free it, or set XDG_CACHE_HOME to a folder "
                "that can be written"
            ) from None
        raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until no other process downloads the same file. The lock goes with its process, however that ends."""
    with _writing(path.parent):
        file = path.open("ab")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _bar(progress: Progress | None) -> Iterator[Progress]:
    if progress is not None:
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("weights", total=None)

        def hear(name: str, done: int, total: int | None) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield hear
