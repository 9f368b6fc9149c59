"""What is asked to be removed from a dataset: whole hosts and single URLs. Text in, verdicts out.

A host stands for itself and for all names below it, at every port; an address for itself. A URL stands for itself
however it is quoted and whether with http or https, without its fragment; a query is part of it.
"""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote_to_bytes

from async_img2ds.errors import FetchFailure, OptionsError
from async_img2ds.policy import urls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Removal"]

# Where something is: the host, its port if that is neither scheme's own, and what is asked of it.
Place = tuple[str, int | None, bytes]

_USUAL_PORTS: Final = frozenset({80, 443})


@dataclass(frozen=True, slots=True)
class Removal:
    """What is asked to be removed: *hosts*, and *urls*, as :class:`~async_img2ds.policy.urls.Target` has them."""

    hosts: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    _places: Mapping[Place, str] = field(init=False)
    _hosts_of_places: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        places = {place: url for url in self.urls if (place := _place_of(url)) is not None}
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_hosts_of_places", frozenset(host for host, _, _ in places))

    @classmethod
    def parse(cls, *, hosts: Iterable[str], urls: Iterable[str]) -> Self:
        """Read the lines of a file of *hosts* and of one of *urls*; blank ones and those that begin with # say nothing.

        Raises:
            OptionsError: a line is neither; or nothing is named at all.

        """
        named = cls(
            frozenset(_host(number, line) for number, line in _numbered(hosts)),
            frozenset(_url(number, line) for number, line in _numbered(urls)),
        )
        if not named.named:
            raise OptionsError("hosts and urls name nothing to remove: all of their lines are blank or remarks")
        return named

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read what :attr:`text` has written; whatever else is there says nothing."""
        lines = [line.strip().partition(" ") for line in text.splitlines()]
        return cls(
            frozenset(what for kind, _, what in lines if kind == "host"),
            frozenset(what for kind, _, what in lines if kind == "url"),
        )

    @property
    def text(self) -> str:
        """What it is, a line for each."""
        lines = [*(f"host {host}" for host in sorted(self.hosts)), *(f"url {url}" for url in sorted(self.urls))]
        return "\n".join([_REMARK, *lines, ""])

    @property
    def named(self) -> frozenset[str]:
        """Its hosts and URLs."""
        return self.hosts | self.urls

    def plus(self, other: Removal) -> Removal:
        """Return what either means."""
        return Removal(self.hosts | other.hosts, self.urls | other.urls)

    def match(self, url: str | None) -> str | None:
        """Return which of those named means the image at *url*, None if none does; at what is no URL there is none."""
        if not self.hosts and not self.urls:
            return None
        scheme, _, rest = (url or "").partition("://")
        host = _host_in(scheme.strip().lower(), rest.partition("/")[0])
        if host is None:
            return None
        if (above := next((name for name in urls.with_those_above(host) if name in self.hosts), None)) is not None:
            return above
        place = _place_of(url) if host in self._hosts_of_places else None
        return None if place is None else self._places.get(place)


_REMARK: Final = (
    "# What was asked to be removed from this dataset (aimg2ds purge): no fetch into this folder asks for it."
)


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
        raise OptionsError(f"hosts: line {number}, {_shown(line)}, {said}") from None


def _url(number: int, line: str) -> str:
    if re.search(r"\s", line) is None:  # behind a blank there is a remark, which would become a part of it
        with suppress(FetchFailure):
            return urls.parse(line).url
    said = "is no http or https URL; write all of it and nothing else, such as https://example.org/a.jpg"
    raise OptionsError(f"urls: line {number}, {_shown(line)}, {said}")


def _shown(line: str) -> str:
    """Return what stands in a line, but for what may be a credential in it."""
    return repr(line[:100] if "@" not in line else f"…@{line.rpartition('@')[2][:100]}")


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
