"""What a path may name beside a file and a folder. Reading a named pipe waits for ever, and /dev/zero has no end."""

from __future__ import annotations

import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def special_kind(path: Path) -> str | None:
    """`a named pipe`, `a socket`, …; None for files and folders.

    Raises:
        OSError: There is nothing of that name, or it cannot be looked at.
    """
    return _KINDS.get(stat.S_IFMT(path.stat().st_mode))
