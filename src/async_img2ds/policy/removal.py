"""What is asked to be removed from a dataset: whole hosts and single URLs. Text in, verdicts out.

A host stands for itself and for all names below it, at every port; an address for itself. A URL stands for itself
however it is quoted and whether with http or https, without its fragment; a query is part of it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote_to_bytes

from async_img2ds.errors import FetchFailure, OptionsError
from async_img2ds.policy import urls

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Removal"]

# Where something is: the host, its port if that is neither scheme's own, and what is asked of it.
Place = tuple[str, int | None, bytes]

_USUAL_PORTS: Final = frozenset({80, 443})


@dataclass(frozen=True, slots=True)
class Removal:
    """What is asked to be removed; hosts as :class:`~async_img2ds.policy.urls.Target` has them, without a last dot."""

    hosts: frozenset[str]
    places: frozenset[Place]
    _hosts_of_places: frozenset[str]

    @classmethod
    def parse(cls, *, hosts: Iterable[str], urls: Iterable[str]) -> Self:
        """Read the lines of a file of *hosts* and of one of *urls*; blank ones and those that begin with # say nothing.

        Raises:
            OptionsError: a line is neither; or nothing is named at all.

        """
        named = frozenset(_host(number, line) for number, line in _numbered(hosts))
        places = frozenset(_place_named(number, line) for number, line in _numbered(urls))
        if not named and not places:
            raise OptionsError("hosts and urls name nothing to remove: all of their lines are blank or remarks")
        return cls(named, places, frozenset(host for host, _, _ in places))

    def means(self, url: str | None) -> bool:
        """Whether the image at *url* is to be removed; what is no URL of the web has none."""
        scheme, _, rest = (url or "").partition("://")
        host = _host_in(scheme, rest.partition("/")[0])
        if host is None:
            return False
        if self._means_host(host):
            return True
        return host in self._hosts_of_places and _place_of(url) in self.places

    def _means_host(self, host: str) -> bool:
        if urls.is_address(host):
            return host in self.hosts
        while host and host not in self.hosts:
            host = host.partition(".")[2]
        return bool(host)


def _numbered(lines: Iterable[str]) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        text = line.removeprefix("\ufeff").strip()
        if text and not text.startswith("#"):
            yield number, text


def _host(number: int, line: str) -> str:
    try:
        return urls.host_named(line)
    except FetchFailure:
        said = "is no host name or address; write it without scheme, port and path, such as example.org"
        raise OptionsError(f"hosts: line {number}, {line[:100]!r}, {said}") from None


def _place_named(number: int, line: str) -> Place:
    place = _place_of(line)
    if place is None:
        said = "is no http or https URL; write all of it, such as https://example.org/a.jpg"
        raise OptionsError(f"urls: line {number}, {line[:100]!r}, {said}")
    return place


def _place_of(url: str | None) -> Place | None:
    try:
        target = urls.parse(url)
    except FetchFailure:
        return None
    port = None if target.port in _USUAL_PORTS else target.port
    return target.host.removesuffix("."), port, unquote_to_bytes(target.path)


# A name that stands there as it is sent, as nearly all do; to read a whole URL takes twenty times as long.
_PLAIN: Final = re.compile(r"(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}")


def _host_in(scheme: str, authority: str) -> str | None:
    return authority if scheme in {"http", "https"} and _PLAIN.fullmatch(authority) else _read_host(scheme, authority)


@functools.lru_cache(maxsize=65_536)
def _read_host(scheme: str, authority: str) -> str | None:
    try:
        return urls.parse(f"{scheme}://{authority}/").host.removesuffix(".")
    except FetchFailure:
        return None
