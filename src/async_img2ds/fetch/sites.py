"""What a site says of all that is on it: its robots.txt and its tdmrep.json, each asked for once and remembered.

Each process asks by itself. What a site says holds for its scheme, host and port, wherever a redirect led.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.policy import robots, tdmrep, urls
from async_img2ds.policy.optout import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.fetch.client import Answer, Client
    from async_img2ds.policy.urls import Target

__all__ = ["SiteRules", "Sites"]

# RFC 9309 2.4: no longer than 24 hours.
FRESH_S: Final = 86_400.0
# A site that could not be asked is asked again after a while, by whichever row comes next.
FAILED_FRESH_S: Final = 300.0
# RFC 9309 2.3.1.2: at least five.
REDIRECTS_MAX: Final = 5
# Both files are small; whoever sends them more slowly cannot be asked.
ASK_S: Final = 10.0
# What is remembered comes to some 300 bytes a rule; a usual file has dozens of them.
RULES_KEPT_MAX: Final = 500_000
_SITE_WEIGHT: Final = 20
_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class SiteRules:
    """What a site says."""

    robots: robots.Robots = field(default_factory=robots.Robots)
    reservations: tdmrep.Reservations = field(default_factory=tdmrep.Reservations)

    def signals(self, target: Target) -> list[Signal]:
        """Return what its robots.txt says against *target*."""
        reserved = self.robots.reservation(target.path)
        return [Signal(ErrorClass.OPTOUT_ROBOTS, "robots.txt", reserved)] if reserved else []

    def reserves(self, target: Target) -> bool:
        """Whether its tdmrep.json reserves *target*, where the answer's headers say nothing of it."""
        return self.reservations.reserves(target.path)

    @property
    def weight(self) -> int:
        """How much of the memory it takes, in rules."""
        return _SITE_WEIGHT + len(self.robots) + len(self.reservations)


@dataclass(slots=True)
class _Site:
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    rules: SiteRules = field(default_factory=SiteRules)
    failure: FetchFailure | None = None
    until: float = 0.0


class Sites:
    """Asks sites by *client*, each file at most once a day; *check* refuses addresses that must not be asked."""

    def __init__(
        self, client: Client, check: Callable[[Target], None], clock: Callable[[], float], our_name: str | None = None
    ) -> None:
        """Know no site yet; *our_name* is a further name that robots.txt may mean us by."""
        self._client = client
        self._check = check
        self._clock = clock
        self._our_name = our_name
        self._sites: OrderedDict[tuple[str, str, int], _Site] = OrderedDict()
        self._weight = 0

    async def rules(self, target: Target) -> SiteRules:
        """Return what the site of *target* says.

        Raises:
            FetchFailure: it cannot be asked; of a robots.txt that cannot be had RFC 9309 says that it forbids all.
            LocalFault: this machine cannot ask.

        """
        origin = (target.scheme, target.host, target.port)
        site = self._sites.setdefault(origin, _Site())
        self._sites.move_to_end(origin)
        # Whoever comes first asks; if that row is given up, the next one does.
        async with site.asking:
            if site.until <= self._clock():
                await self._ask(site, target)
        if site.failure is not None:
            raise FetchFailure(site.failure.error_class, site.failure.message, http_status=site.failure.http_status)
        return site.rules

    async def _ask(self, site: _Site, target: Target) -> None:
        self._weight -= site.rules.weight if site.until else 0
        site.failure, fresh_s = None, FRESH_S
        site.rules = SiteRules()
        try:
            said = await self._content(target, "/robots.txt", robots.ROBOTS_BYTES_MAX)
            reserved = await self._content(target, "/.well-known/tdmrep.json", tdmrep.TDMREP_BYTES_MAX, must=False)
            site.rules = SiteRules(robots.parse(said, self._our_name), tdmrep.parse(reserved))
        except FetchFailure as failure:
            site.failure, fresh_s = failure, FAILED_FRESH_S
        site.until = self._clock() + fresh_s
        self._weight += site.rules.weight
        while self._weight > RULES_KEPT_MAX and len(self._sites) > 1:
            _, oldest = self._sites.popitem(last=False)  # the one that was longest not asked for
            self._weight -= oldest.rules.weight if oldest.until else 0

    async def _content(self, target: Target, path: str, most: int, *, must: bool = True) -> bytes:
        """Return the file at *path* of the site of *target*, as far as it is read; nothing if there is none.

        Raises:
            FetchFailure: it cannot be asked for, and *must* be.

        """
        asked = urls.parse(f"{target.scheme}://{target.authority}{path}")
        try:
            async with asyncio.timeout(ASK_S):
                for _ in range(1 + REDIRECTS_MAX):
                    self._check(asked)
                    async with self._client.get(asked, lambda: True) as answer:
                        if answer.status not in urls.REDIRECTS:
                            return await _read(answer, asked, most, must=must)
                        locations = answer.headers("Location")
                    try:
                        asked = urls.redirect(asked, locations[0] if locations else "")
                        self._check(asked)
                    except FetchFailure:  # to nowhere, or to where we do not go: there is none
                        return b""
        except TimeoutError:
            if must:
                raise _unreachable(f"{asked.url} took more than {ASK_S:g} s") from None
        except FetchFailure as failure:
            # A host that does not answer at all fails the row as it would have done without.
            if must and asked.host != target.host:
                raise _unreachable(f"{asked.url}: {failure.message}") from None
            if must:
                raise
        return b""


async def _read(answer: Answer, asked: Target, most: int, *, must: bool) -> bytes:
    if must and (answer.status == _TOO_MANY or answer.status >= 500):  # noqa: PLR2004  the class of server errors
        raise _unreachable(f"{asked.url}: HTTP Error {answer.status}", answer.status)
    if not 200 <= answer.status < 300:  # noqa: PLR2004  the class of what was sent
        return b""
    pieces: list[bytes] = []
    count = 0
    async with aclosing(answer.chunks()) as chunks:
        async for piece in chunks:
            pieces.append(piece)
            count += len(piece)
            if count > most:
                break
    return b"".join(pieces)[: most + 1]


def _unreachable(said: str, http_status: int | None = None) -> FetchFailure:
    message = f"{said}; a robots.txt that cannot be had forbids all (RFC 9309)"
    return FetchFailure(ErrorClass.ROBOTS_UNREACHABLE, message, http_status=http_status)
