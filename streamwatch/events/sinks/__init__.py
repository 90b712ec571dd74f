"""Where events go."""

from __future__ import annotations

from typing import Any, Protocol


class Sink(Protocol):
    """A receiver of event documents. One thread calls it; an event comes at least once, in order for each camera."""

    def write(self, document: dict[str, Any]) -> None:
        """Take one event; when this returns, the event is as safe as the sink can make it.

        Raises:
            OutputError: It was not taken; trying again may help.
        """
        ...

    def close(self) -> None:
        """No `write` follows. Idempotent."""
        ...
