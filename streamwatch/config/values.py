"""The kinds of value that keys take: durations, polygons, addresses, paths. A refusal says what was expected."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from streamwatch.durations import format_duration, parse_duration
from streamwatch.urls import SCHEMES, is_mistyped


def folder_of(info: ValidationInfo) -> Path:
    """The folder that relative paths start from: the configuration file's own."""
    return Path((info.context or {}).get("folder", "."))


def _resolve_path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("expected a path")
    return _absolute(value, info)


def _absolute(path: str, info: ValidationInfo) -> Path:
    """Without `..`, and with symbolic links as they are."""
    return Path(os.path.normpath(folder_of(info) / Path(path).expanduser()))


FilePath = Annotated[Path, BeforeValidator(_resolve_path)]
"""Relative to the configuration file's folder; `~` is the user's home."""


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]


def duration(*, least: str, most: str) -> Callable[[object], float]:
    """A validator for durations within limits, in seconds."""
    least_s, most_s = parse_duration(least), parse_duration(most)

    def check(value: object) -> float:
        seconds = _seconds(value)
        if not least_s <= seconds <= most_s:
            raise ValueError(f"expected a duration from {least} to {most}")
        return seconds

    return check


def _seconds(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"expected a duration with its unit: write {value}s for seconds (or ms, m, h, d)")
    raise ValueError("expected a duration such as 500ms, 2s, 5m, 1h30m or 1d")


@dataclass(frozen=True, kw_only=True)
class Persistence:
    """How long a change must be seen before it counts: both hold."""

    min_samples: int
    """At least 1."""

    min_s: float = 0.0
    """Seconds of stream; 0 where only the samples count."""

    def __str__(self) -> str:
        return format_duration(self.min_s) if self.min_s else f"{self.min_samples} samples"


MIN_SAMPLES_OF_A_DURATION = 3
"""A `confirm` in seconds never means fewer samples: one or two cannot tell a state from a passer-by."""


def _persistence(value: object) -> Persistence:
    if isinstance(value, Persistence):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value.strip()):
        value = int(value)  # from ${VAR}
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 1000:
            raise ValueError("expected 1 to 1000 samples")
        return Persistence(min_samples=value)
    if not isinstance(value, str):
        raise ValueError("expected a whole number of samples, or a duration such as 30s")
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise ValueError("expected a whole number of samples, or a duration such as 30s") from None
    if not 0 < seconds <= 86400:
        raise ValueError("expected a duration over 0s and up to 1d")
    return Persistence(min_samples=MIN_SAMPLES_OF_A_DURATION, min_s=seconds)


Confirm = Annotated[Persistence, BeforeValidator(_persistence)]


def _point(value: object) -> tuple[float, float]:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise ValueError("expected a point [x, y]")
    x, y = (float(n) for n in numbers)
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError("expected x and y from 0 to 1: fractions of the picture's width and height, not pixels")
    return x, y


def _polygon(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError("expected a polygon: a list of three or more points [x, y]")
    if len(value) < 3:
        raise ValueError(f"expected three or more points [x, y], there are {len(value)}")
    return value


def _has_area(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    following = (*points[1:], points[0])
    twice_area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True))
    if math.isclose(twice_area, 0, abs_tol=1e-9):
        raise ValueError("the polygon has no area: expected points that are not all on one line")
    return points


Point = Annotated[tuple[float, float], BeforeValidator(_point)]
Polygon = Annotated[tuple[Point, ...], BeforeValidator(_polygon), AfterValidator(_has_area)]


@dataclass(frozen=True, kw_only=True)
class ListenAddress:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listen(value: object) -> ListenAddress | None:
    if value is None or isinstance(value, ListenAddress):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]\s]+)):(\d{1,5})", value) if isinstance(value, str) else None
    if match is None or int(match[3]) > 65535:
        raise ValueError("expected an address and a port such as 127.0.0.1:9108, or null for none")
    host = match[1] or match[2]
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            "expected a loopback address (127.0.0.1, [::1] or localhost): these pages ask for no password, so only "
            "this machine may read them; for others, put a reverse proxy with a login before it"
        )
    return ListenAddress(host=host, port=int(match[3]))


Listen = Annotated[ListenAddress | None, BeforeValidator(_listen)]


def check_url(value: object, info: ValidationInfo) -> str:
    """A camera's URL as sources open it: URLs as they are, paths made absolute, a USB index as its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("expected a URL, a path, or a USB camera's index")
    value = value.strip()
    if re.fullmatch(r"-?\d+", value):
        if not 0 <= int(value) <= 255:
            raise ValueError("expected a USB camera's index from 0 to 255")
        return str(int(value))
    scheme, separator, rest = value.partition("://")
    if not separator:
        if is_mistyped(value):
            raise ValueError(
                "looks like a URL without ://; expected one such as rtsp://192.0.2.10:554/stream1, or a path (with ./ "
                "before it where it only looks like a URL)"
            )
        return str(_absolute(value, info))
    if scheme.lower() not in SCHEMES:
        raise ValueError(f"expected a URL that starts with one of {', '.join(sorted(SCHEMES))}, or a path")
    if "@" in rest.partition("/")[0]:
        raise ValueError("a user stands in the URL and in username, password or password_file: keep one of them")
    try:
        parts = urlsplit(value)
        reachable = parts.scheme == "file" or bool(parts.netloc)
        _ = parts.port
    except ValueError:
        reachable = False
    if not reachable:
        raise ValueError("expected a URL with a host, such as rtsp://192.0.2.10:554/stream1")
    if parts.scheme == "file" and parts.path.startswith("/"):
        parts = parts._replace(path=os.path.normpath(parts.path))
    return urlunsplit(parts)


def is_network_url(url: str) -> bool:
    """True where a user name and password can be asked for."""
    return "://" in url and not url.lower().startswith("file:")


def read_password(path: Path) -> str:
    """A password file's text without the one newline that editors put at its end.

    Raises:
        ValueError: The file cannot be read, or holds no single line of text.
    """
    try:
        with path.open("rb") as file:
            text = file.read(4097).decode("utf-8")
    except OSError as error:
        raise ValueError(
            f"cannot read the password file {path}: {error.strerror}; expected a file that holds the password"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"the password file {path} is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text or len(text) > 4096:
        raise ValueError(
            f"the password file {path} holds {'nothing' if not text else 'more than a line'}; expected one line"
        )
    return text


def weights_name(value: Any, info: ValidationInfo) -> Any:
    """A path made absolute where the text looks like one; else a name, as it is. `#sha256=HEX` may follow either."""
    if not isinstance(value, str):
        return value
    name, mark, digits = value.partition("#sha256=")
    if not name.strip() or (mark and not re.fullmatch(r"[0-9a-fA-F]{64}", digits)):
        raise ValueError("expected a name or a path; where #sha256= follows, 64 hex digits after it")
    if "/" in name or Path(name).suffix.lower() in {".safetensors", ".pth", ".pt"}:
        name = str(_resolve_path(name, info))
    return name + mark + digits
