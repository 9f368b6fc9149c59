"""Figures of a page → its HTML, by the template beside this module; the only jinja2 module.

What it shows comes from strangers: whatever a template inserts is escaped, and the page says of itself that nothing may
be run or loaded but the one style and the one script that it has.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["policy", "rendered"]


def rendered(told: Mapping[str, Any], *, live: bool) -> bytes:
    """Return a page of what is *told*; one that is *live* asks whoever has sent it for a newer one."""
    style, script = _asset("page.css"), _asset("page.js")
    text = (
        _environment()
        .get_template("page.html.jinja")
        .render(told, live=live, policy=policy(live=live), style=Markup(style), script=Markup(script))  # noqa: S704  files of ours
    )
    return text.encode(errors="replace")


def policy(*, live: bool) -> str:
    """Return the Content-Security-Policy of a page, as its ``meta`` says it and, if it is *live*, its server, too."""
    asked = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src '{_digest('page.js')}'; style-src '{_digest('page.css')}'; img-src data:; "
        f"connect-src {asked}; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("async_img2ds.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _asset(name: str) -> str:
    return files("async_img2ds.page").joinpath(name).read_text(encoding="utf-8")


def _digest(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}"
