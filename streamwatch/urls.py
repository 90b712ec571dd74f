"""What a camera's URL says: its kind, its credentials, and how it may be shown. No I/O, and nothing heavy to load."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "udp"})
SCHEMES = LIVE_SCHEMES | {"http", "https", "file"}

FILE_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".wmv", ".gif"})
"""An HTTP address that ends so is a file; any other is a stream that does not end."""

# Every value is hidden, since cameras name their passwords as they like (p=, pin=, code=); so is what stands without a
# key, which may be the rest of a password with a raw & in it.
_IN_QUERY = re.compile(r"([?#&;])([^=&;]*=)?+[^&;]+")
# What begins as URLs do, or with a user and a password, and yet has no ://. ./ before it makes a path of it.
_MISTYPED = re.compile(rf"(?:{'|'.join(sorted(SCHEMES))})(?:[:;]|//)|[^/:@]+:[^@]*@", re.IGNORECASE)
_CREDENTIALS = re.compile(r"[^/:@]+:[^@]*@(?:.*@)?", re.DOTALL)
# Some cameras put them into the path: /user=admin_password=…_channel=1.sdp
_IN_PATH = re.compile(r"([A-Za-z0-9.-]+=).+?(?=_[A-Za-z]+=|[&;/]|$)")


def scheme_of(url: str) -> str | None:
    """Lower case, as `rtsp`; None for paths and device numbers."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match.group(1).lower() if match else None


def is_mistyped(text: str) -> bool:
    """True for `rtsp//host/x`, `rtsp:/host/x` and `user:password@host/x`: meant as URLs, but taken for paths."""
    return "://" not in text and _MISTYPED.match(text) is not None


def is_device(url: str) -> bool:
    """A camera of this machine: `0`, `/dev/video0`."""
    return bool(re.fullmatch(r"\d{1,3}|/dev/video\d+|/dev/v4l/.+", url, re.ASCII))


def is_live(url: str) -> bool:
    """True for cameras and streams, which have no end of their own."""
    scheme = scheme_of(url)
    if scheme in {"http", "https"}:
        return Path(path_of(url)).suffix.lower() not in FILE_SUFFIXES
    return scheme in LIVE_SCHEMES or is_device(url)


def path_of(url: str) -> str:
    """A URL without its query and fragment, for what its end tells."""
    return re.split(r"[?#]", split_credentials(url)[0], maxsplit=1)[0]


def local_path(url: str) -> Path:
    """The path that a `file://` URL or a plain path names."""
    if scheme_of(url) == "file":
        return Path(unquote(re.sub(r"^(?i:file)://(?:localhost(?=/))?", "", url)))
    return Path(url)


def redact(text: str) -> str:
    """The URL as messages may show it: no user, no password, no values of its query; `rtsp://***@host/path?token=***`.

    All before the last `@` is hidden, since passwords that nobody percent-encoded may hold anything. A URL whose scheme
    is mistyped or absent hides no less; paths come out unchanged, unless they look like `user:password@host`.
    """
    if scheme_of(text) == "file":
        return text
    head, slashes, rest = text.partition("//")
    if not slashes:
        text = _CREDENTIALS.sub("***@", text, count=1)
        path, mark, query = text.partition("?")
        return path + _IN_QUERY.sub(r"\1\2***", mark + query) if "=" in query else text
    head += slashes
    hidden, at, rest = rest.rpartition("@")
    cut = re.search(r"[?#]", rest)
    place, query = (rest[: cut.start()], rest[cut.start() :]) if cut else (rest, "")
    authority, slash, path = place.partition("/")
    path, query = _IN_PATH.sub(r"\1***", path), _IN_QUERY.sub(r"\1\2***", query)
    return f"{head}{'***' if hidden else ''}{at}{authority}{slash}{path}{query}"


def split_credentials(url: str) -> tuple[str, str | None, str | None]:
    """(URL without credentials, user, password), the latter two decoded; None where the URL has none.

    Takes passwords that somebody forgot to percent-encode, as long as it stays clear where the host begins.
    """
    scheme = scheme_of(url)
    if scheme is None or scheme == "file":
        return url, None, None
    head, rest = url[: len(scheme) + 3], url[len(scheme) + 3 :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # What follows the credentials must look like a host; where it does not, the password holds a raw `/`, `?` or `#`.
    end = authority.rfind("@") if _is_host(authority.rpartition("@")[2]) else rest.rfind("@")
    if end < 0:
        return url, None, None
    user, colon, password = rest[:end].partition(":")
    return head + rest[end + 1 :], unquote(user), unquote(password) if colon else None


def with_credentials(url: str, *, username: str | None, password: str | None) -> str:
    """The URL to open: credentials percent-encoded; `username` and `password`, taken as they are, win over the URL's
    own.
    """
    bare, url_user, url_password = split_credentials(url)
    user = username if username is not None else url_user
    secret = password if password is not None else url_password
    if user is None and secret is None:
        return bare
    scheme = scheme_of(bare)
    if scheme is None:
        return bare
    userinfo = quote(user or "", safe="")
    if secret is not None:
        userinfo += ":" + quote(secret, safe="")
    return f"{bare[: len(scheme) + 3]}{userinfo}@{bare[len(scheme) + 3 :]}"


def _is_host(authority: str) -> bool:
    """`host`, `host:554` or `[::1]:554`, rather than the `user:pa` that a `/` in a password leaves."""
    return bool(re.fullmatch(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:]*)(?::\d{0,5})?", authority))
