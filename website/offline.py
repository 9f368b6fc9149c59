"""What a page would make a browser ask other servers for by itself: nothing, where readers are left alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["asked_elsewhere"]

_ELSEWHERE: Final = r"(?P<{}>(?:https?:)?//[^\"'\s>);]+)"
# Links are followed by people, and the canonical address of a page by nobody.
_ASKED: Final = re.compile(
    "|".join(
        [
            r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=[\"']?" + _ELSEWHERE.format("source"),
            r"<link\b(?![^>]*rel=[\"']?canonical)[^>]*?\bhref=[\"']?" + _ELSEWHERE.format("link"),
            r"url\([\"']?" + _ELSEWHERE.format("style"),
            r"@import\s+[\"']" + _ELSEWHERE.format("imported"),
        ]
    )
)


def asked_elsewhere(page: str) -> Iterator[str]:
    """Yield the addresses at other servers that a *page*, a style sheet or a drawing is made of."""
    for found in _ASKED.finditer(page):
        yield next(address for address in found.groupdict().values() if address)
