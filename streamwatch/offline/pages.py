"""What every HTML page that streamwatch writes has in common: escaped templates, and a policy that obeys no script."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import jinja2

from streamwatch.offline.output import count_of, printable

_TEMPLATES = Path(__file__).parent / "templates"


def environment() -> jinja2.Environment:
    """Where pages' templates come from; a page adds filters and globals of its own."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["safe_text"] = printable
    pages.globals["count_of"] = count_of
    return pages


def style_sheet(*names: str) -> str:
    """The style sheets of these names, one after the other."""
    return "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def content_security_policy(css: str) -> str:
    """The policy of a page with this one style sheet and embedded pictures."""
    # The one style sheet is named by its hash: neither a style nor a script that got in by a name would be obeyed.
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
