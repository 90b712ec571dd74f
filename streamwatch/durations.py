"""Durations as people write them: `500ms`, `2s`, `1.5m`, `1h30m`, `7d`. The unit is always written."""

from __future__ import annotations

import re

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(text: str) -> float:
    """Seconds of a duration: one or more numbers, each with its unit (ms, s, m, h or d); `0` needs none.

    Raises:
        ValueError: The text is no duration; the message says what was expected, not what was got.
    """
    compact = re.sub(r"\s+", "", text)
    if compact == "0":
        return 0.0
    if _WHOLE.fullmatch(compact) is None:
        if re.fullmatch(r"\d+(\.\d+)?", compact):
            raise ValueError(f"expected a duration with its unit: write {compact}s for seconds (or ms, m, h, d)")
        raise ValueError("expected a duration such as 500ms, 2s, 5m, 1h30m or 1d")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(compact))


def format_duration(seconds: float) -> str:
    """A duration in its largest whole unit, as `parse_duration` reads it back: 90 is `90s`, 3600 is `1h`."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m"):
        if seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:.0f}{unit}"
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:g}s"
