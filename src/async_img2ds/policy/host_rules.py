"""What is said of single hosts: whether and how often they are asked, and with which headers. Text in, values out.

A file of rules is TOML. Each table is called by a host name and holds for it and for all names below it; of several
that fit, the longest name counts, and nothing of the others::

    ["example.org"]
    max_per_host = 4
    crawl_delay = 0.5
    headers = { Referer = "https://example.org/" }

    ["example.net"]
    refuse = true
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import FetchFailure, OptionsError
from async_img2ds.headers import check_header
from async_img2ds.policy import urls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["NO_RULES", "HostRule", "HostRules"]


@dataclass(frozen=True, slots=True)
class HostRule:
    """What is said of a host; None where it is as for all. One that is to *refuse* is not asked for anything."""

    max_per_host: int | None = None
    max_rate_per_host: float | None = None
    crawl_delay: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refuse: bool = False


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
        rules: dict[str, HostRule] = {}
        for name, table in tables.items():
            if (host := _host(name)) in rules:
                raise OptionsError(f"hosts_file: {host} has two tables")
            rules[host] = _rule(name, table)
        return cls(rules)

    def of(self, host: str) -> HostRule:
        """Return the rule for *host*: its own, or that of the longest name above it."""
        if not self.rules:
            return _PLAIN
        return next((self.rules[name] for name in urls.with_those_above(host) if name in self.rules), _PLAIN)


NO_RULES: Final = HostRules()


def _host(name: str) -> str:
    """Return a name as hosts of URLs are called."""
    try:
        return urls.host_named(name)
    except FetchFailure:
        said = f"hosts_file: {name!r} is no host name; a table is called by one, without a port, such as"
        raise OptionsError(f'{said} ["example.org"]') from None


# Rule → its type, and the least and the largest value it takes.
_NUMBERS: Final[Mapping[str, tuple[type, float, float]]] = MappingProxyType(
    {
        "max_per_host": (int, 1, 10**6),
        "max_rate_per_host": (float, 0.001, 10**6),
        "crawl_delay": (float, 0, 86_400),
    }
)


def _rule(name: str, table: object) -> HostRule:
    if not isinstance(table, dict):
        raise OptionsError(f'hosts_file: {name!r} is no table; write ["{name}"] above its rules')
    _check_known(name, table, {*_NUMBERS, "headers", "refuse"})
    values: dict[str, Any] = {key: _number(name, key, table[key]) for key in _NUMBERS if key in table}
    headers = table.get("headers", {})
    if not isinstance(headers, dict):
        raise OptionsError(f'hosts_file: headers of {name} must be a table such as {{ Referer = "https://…" }}')
    if not isinstance(refuse := table.get("refuse", False), bool):
        raise OptionsError(f"hosts_file: refuse of {name} takes true or false; got {refuse!r}")
    return HostRule(**values, refuse=refuse, headers=dict(check_header(key, value) for key, value in headers.items()))


def _check_known(name: str, table: Mapping[str, object], known: Iterable[str]) -> None:
    if strange := sorted(set(table).difference(known)):
        if isinstance(table[strange[0]], dict):  # TOML reads a dot in a bare name so
            raise OptionsError(f'hosts_file: a name with a dot is written in quotes: ["{name}.{strange[0]}"]')
        raise OptionsError(f"hosts_file: {name} has {strange[0]!r}; there are {', '.join(sorted(known))}")


def _number(name: str, key: str, value: object) -> float:
    kind, least, most = _NUMBERS[key]
    accepted = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted) or not least <= value <= most:
        words = f"{'whole number' if kind is int else 'number'} of at least {least:g} and at most {most:g}"
        raise OptionsError(f"hosts_file: {key} of {name} takes a {words}; got {value!r}")
    return value
