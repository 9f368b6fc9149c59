"""Headers as people type them."""

from __future__ import annotations

import re
from typing import Final

from async_img2ds.errors import OptionsError

__all__ = ["check_header", "parse_header"]

# RFC 9110 5.1: a name is a token. A value is one line, here of printable characters.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Those by which one message is told from the next, or which ask for a part of an image.
_OURS: Final = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"),
        *("accept-encoding", "range", "if-range", "if-modified-since", "if-none-match", "proxy-authorization"),
    }
)


def parse_header(text: str) -> tuple[str, str]:
    """Read a header as it is typed, ``Name: value``.

    Raises:
        OptionsError: it is none, or one that the program itself sends; what it says does not repeat the value.

    """
    name, colon, value = text.partition(":")
    if not colon:
        raise OptionsError("header takes lines such as 'Accept-Language: de'; got one without a colon")
    return check_header(name.strip(), value.strip())


def check_header(name: str, value: object) -> tuple[str, str]:
    """Return a header that can be sent.

    Raises:
        OptionsError: it cannot, or the program itself sends it.

    """
    if name.lower() in _OURS:
        raise OptionsError(f"header: {name} is for the program itself to send")
    if not _NAME.fullmatch(name) or not isinstance(value, str) or not value.isprintable():
        raise OptionsError(f"header: {name!r} is no header name, or its value is not one line of printable text")
    return name, value
