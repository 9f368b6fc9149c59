"""What is said of single hosts: how often they are asked, and which headers they are sent. Text in, values out.

A file of rules is TOML. Each table is called by a host name and holds for it and for all names below it; of several
that fit, the longest name counts, and nothing of the others::

    ["example.org"]
    max_per_host = 4
    crawl_delay = 0.5
    headers = { Referer = "https://example.org/" }
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["NO_RULES", "HostRule", "HostRules", "parse_header"]

# RFC 9110 5.1: a name is a token. A value is one line, here of printable characters.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Those by which one message is told from the next, or which ask for a part of an image.
_OURS: Final = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"),
        *("accept-encoding", "range", "if-range", "if-modified-since", "if-none-match", "proxy-authorization"),
    }
)


@dataclass(frozen=True, slots=True)
class HostRule:
    """What is said of a host; None where it is as for all."""

    max_per_host: int | None = None
    max_rate_per_host: float | None = None
    crawl_delay: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_PLAIN: Final = HostRule()


@dataclass(frozen=True, slots=True)
class HostRules:
    """Rules by host name."""

    rules: Mapping[str, HostRule] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> HostRules:
        """Read a file of rules.

        Raises:
            OptionsError: it is not TOML, or says something that there is no rule for.

        """
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OptionsError(f"hosts_file: not TOML: {error}") from None
        return cls({_host(name): _rule(name, table) for name, table in tables.items()})

    def of(self, host: str) -> HostRule:
        """Return the rule for *host*: its own, or that of the longest name above it."""
        if not self.rules:
            return _PLAIN
        name = host.removesuffix(".")
        while name:
            if rule := self.rules.get(name):
                return rule
            name = name.partition(".")[2]
        return _PLAIN


NO_RULES: Final = HostRules()


def parse_header(text: str) -> tuple[str, str]:
    """Read a header as it is typed, ``Name: value``.

    Raises:
        OptionsError: it is none, or one that the program itself sends.

    """
    name, colon, value = text.partition(":")
    if not colon:
        raise OptionsError(f"header takes lines such as 'Accept-Language: de'; got {text!r}")
    return _header(name.strip(), value.strip())


def _header(name: str, value: object) -> tuple[str, str]:
    if name.lower() in _OURS:
        raise OptionsError(f"header: {name} is for the program itself to send")
    if not _NAME.fullmatch(name) or not isinstance(value, str) or not value.isprintable():
        raise OptionsError(f"header: {name!r} is no header name, or its value is not one line of printable text")
    return name, value


def _host(name: str) -> str:
    try:
        host = name.encode("idna").decode().lower() if not name.isascii() else name.lower()
    except UnicodeError:
        host = ""
    if not host or not re.fullmatch(r"[a-z0-9_.:-]+", host):
        raise OptionsError(f'hosts_file: {name!r} is no host name; a table is called by one, such as ["example.org"]')
    return host.strip(".")


# Rule → its type, and the least value it takes.
_NUMBERS: Final[Mapping[str, tuple[type, float]]] = MappingProxyType(
    {"max_per_host": (int, 1), "max_rate_per_host": (float, 0.001), "crawl_delay": (float, 0)}
)


def _rule(name: str, table: object) -> HostRule:
    if not isinstance(table, dict):
        raise OptionsError(f'hosts_file: {name!r} is no table; write ["{name}"] above its rules')
    _check_known(name, table, {*_NUMBERS, "headers"})
    values: dict[str, Any] = {key: _number(name, key, table[key]) for key in _NUMBERS if key in table}
    headers = table.get("headers", {})
    if not isinstance(headers, dict):
        raise OptionsError(f'hosts_file: headers of {name} must be a table such as {{ Referer = "https://…" }}')
    return HostRule(**values, headers=dict(_header(key, value) for key, value in headers.items()))


def _check_known(name: str, table: Mapping[str, object], known: Iterable[str]) -> None:
    if strange := sorted(set(table).difference(known)):
        raise OptionsError(f"hosts_file: {name} has {strange[0]!r}; there are {', '.join(sorted(known))}")


def _number(name: str, key: str, value: object) -> float:
    kind, least = _NUMBERS[key]
    accepted = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted) or not least <= value < math.inf:
        words = "whole number" if kind is int else "number"
        raise OptionsError(f"hosts_file: {key} of {name} takes a {words} of at least {least:g}; got {value!r}")
    return value
