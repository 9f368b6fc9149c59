"""Host names → addresses, with one aiodns resolver and one memory of its answers.

Tells a name that has no address from a resolver that does not answer.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import aiodns
import pycares
from aiodns import error as codes

from async_img2ds.errors import ErrorClass
from async_img2ds.fetch.finding import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["FAMILIES", "ResolveError", "Resolver"]

# The option ip_version → the addresses that are asked for.
FAMILIES: Final = {"any": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}
# Smokescreen allows 5 s a look-up; c-ares doubles its first wait on the second try, so 2 s and 2 tries make 6 s.
TIMEOUT_S: Final = 2.0
TRIES: Final = 2
# An answer is kept as long as its TTL says, but through a burst of requests even where that is nothing (browsers keep
# answers for a minute whatever their TTL), and not for so long that a run of days misses a move.
KEPT_LEAST_S: Final = 60.0
KEPT_MOST_S: Final = 600.0
# That a name does not exist is kept for as long as BUbiNG keeps it (Boldi et al., 2014).
KEPT_MISSING_S: Final = 60.0
# Names kept, of about 300 bytes each.
KEPT_NAMES_MAX: Final = 100_000
# Queries under way: at first, at the least after time-outs, and at the most. A router at home drops packets long before
# a name server does. A core makes 250 images a second, for which 96 are enough while answers take a third of a second;
# with more, answers wait for this process's own turn, and c-ares asks again after a quarter of a second.
QUERIES_FIRST: Final = 64
QUERIES_LEAST: Final = 8
QUERIES_MOST: Final = 96
# If more than this share of queries times out, of so many lately, they are too many.
LOST_MOST: Final = 0.5
LOST_WEIGHT: Final = 1 / 32
# So long after an outage name servers may still say of a name what they have said of it then: unbound keeps failures
# for 5 s (RFC 9520 allows 1 s to 5 min).
LINGERS_S: Final = 10.0
# What was found out about the name servers holds for as long as this.
ALIVE_FRESH_S: Final = 1.0


class ResolveError(OSError):
    """A look-up failed. *error_class* is None when the resolver is to blame and the name may well be good."""

    def __init__(self, error_class: ErrorClass | None, message: str) -> None:
        """Keep the reason beside its text."""
        super().__init__(message)
        self.error_class = error_class
        self.message = message


# c-ares's codes → ours; the messages are those that Python's own look-up gives, as img2dataset's users know them.
_UNKNOWN: Final = "<urlopen error [Errno -2] Name or service not known>"
_TEMPORARY: Final = "<urlopen error [Errno -3] Temporary failure in name resolution>"
_NO_ADDRESS: Final = "<urlopen error [Errno -5] No address associated with hostname>"
_FAILURES: Final = {
    codes.ARES_ENOTFOUND: (ErrorClass.DNS_NXDOMAIN, _UNKNOWN),
    codes.ARES_ENONAME: (ErrorClass.DNS_NXDOMAIN, _UNKNOWN),
    codes.ARES_EBADNAME: (ErrorClass.URL_INVALID, _UNKNOWN),
    codes.ARES_ENODATA: (ErrorClass.DNS_NODATA, _NO_ADDRESS),
    codes.ARES_ETIMEOUT: (ErrorClass.DNS_TIMEOUT, _TEMPORARY),
}
# What a name server says of a name; anything else it says of itself, or of those it asked.
_OF_THE_NAME: Final = frozenset({codes.ARES_ENOTFOUND, codes.ARES_ENONAME, codes.ARES_EBADNAME, codes.ARES_ENODATA})
_MISSING: Final = frozenset({ErrorClass.DNS_NXDOMAIN, ErrorClass.DNS_NODATA, ErrorClass.URL_INVALID})
_NOBODY_THERE: Final = frozenset({codes.ARES_ECONNREFUSED, codes.ARES_ENOMEM, codes.ARES_EFILE})
# How it looks if they are not there, or are cut off from all others.
_CUT_OFF: Final = _NOBODY_THERE | {codes.ARES_ESERVFAIL, codes.ARES_ETIMEOUT}


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is known of a name, until *until* on the clock: its addresses as (family, literal), or why it has none."""

    until: float
    addresses: list[tuple[int, str]]
    error: ResolveError | None = None


class Resolver:
    """Looks names up at the servers given, or at the system's; each at most once at a time, and once while it is kept.

    Use :meth:`open`.
    """

    def __init__(
        self, dns: aiodns.DNSResolver, clock: Callable[[], float], family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> None:
        """Ask *dns* for addresses of *family*, any by default, and tell the time by *clock*, in seconds."""
        self._dns = dns
        self._family = family
        self._clock = clock
        self._dead_at = -math.inf
        self._asked: set[str] = set()
        self._answered: deque[str] = deque(maxlen=3)
        self._queries = _Window(clock)
        self._is_alive = Finding(self._find_out, ALIVE_FRESH_S, clock)
        self._kept: dict[str, _Kept] = {}
        self._pending: dict[str, asyncio.Task[_Kept]] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, servers: Sequence[str] = (), family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> AsyncIterator[Self]:
        """Yield a resolver; look-ups end with the block."""
        dns = aiodns.DNSResolver(
            nameservers=list(servers) or None,
            timeout=TIMEOUT_S,
            tries=TRIES,
            flags=pycares.ARES_FLAG_NOSEARCH,  # names in URLs are absolute: no search domains of this machine
        )
        resolver = cls(dns, time.monotonic, family)
        try:
            yield resolver
        finally:
            for task in resolver._pending.values():
                task.cancel()
            await asyncio.gather(*resolver._pending.values(), return_exceptions=True)
            await resolver._is_alive.close()
            await dns.close()

    async def look_up(self, name: str) -> list[tuple[int, str]]:
        """Return the addresses of *name* as (family, literal), in the order of preference.

        Raises:
            ResolveError: there are none, or nobody could be asked.

        """
        if name.rstrip(".").endswith(".invalid"):  # never exists, and nobody is to be asked (RFC 6761 6.4)
            raise ResolveError(ErrorClass.DNS_NXDOMAIN, _UNKNOWN)
        kept = self._kept.get(name)
        if kept is None or kept.until <= self._clock():
            if name not in self._pending:
                self._pending[name] = asyncio.create_task(self._find(name))
            kept = await asyncio.shield(self._pending[name])  # others may wait for it, too
        if kept.error is not None:
            raise ResolveError(kept.error.error_class, kept.error.message)
        return kept.addresses

    async def overdue(self, name: str) -> ResolveError | None:
        """Return what to think of a look-up of *name* that somebody cannot wait for; None if none is under way."""
        if name not in self._pending:
            return None
        if name not in self._asked:
            return ResolveError(None, "more names wait to be looked up than name servers answer for")
        if await self._is_alive.get(self._clock() - ALIVE_FRESH_S):
            return ResolveError(*_FAILURES[codes.ARES_ETIMEOUT])
        return ResolveError(None, "no name server answers")

    async def _find(self, name: str) -> _Kept:
        """Return what there is to know of *name*, and keep it if it is worth keeping."""
        try:
            try:
                addresses, kept_s = await self._ask(name)
                found = _Kept(self._clock() + kept_s, addresses)
            except ResolveError as error:
                found = _Kept(self._clock() + KEPT_MISSING_S, [], error.with_traceback(None))
            if found.error is None or found.error.error_class in _MISSING:
                self._kept.pop(name, None)
                self._kept[name] = found
                if len(self._kept) > KEPT_NAMES_MAX:
                    del self._kept[next(iter(self._kept))]
            return found
        finally:
            del self._pending[name]

    async def _ask(self, name: str) -> tuple[list[tuple[int, str]], float]:
        """Return the addresses of *name*, and for how many seconds to keep them."""
        began = self._clock()
        found = await self._addresses(name, self._family)
        if found == codes.ARES_ENODATA and self._family == socket.AF_UNSPEC:
            # c-ares says so, too, if one family has none and the other's query failed, as in the moment of an outage.
            found = await self._addresses(name, socket.AF_INET)
        if not isinstance(found, int):
            self._answered.append(name)
            ttl_s = min((node.ttl for node in found.nodes), default=0)
            addresses = [(node.family, _literal(node.addr[0])) for node in found.nodes]
            return addresses, min(max(ttl_s, KEPT_LEAST_S), KEPT_MOST_S)
        if found in _NOBODY_THERE:
            raise ResolveError(None, "no name server can be reached")
        # Nor is it the name's fault if they were dead for a part of the time, or just before.
        was_dead = self._dead_at >= began - LINGERS_S
        if found not in _OF_THE_NAME and (was_dead or not await self._is_alive.get(began)):
            raise ResolveError(None, "no name server answers")
        raise ResolveError(*_FAILURES.get(found, (ErrorClass.DNS_SERVFAIL, _TEMPORARY)))

    async def _addresses(self, name: str, family: socket.AddressFamily) -> pycares.AddrInfoResult | int:
        """Return what was found of *name*, or the code of why nothing was."""
        await self._queries.enter()
        self._asked.add(name)
        code = None
        try:
            return await self._dns.getaddrinfo(name, family=family, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            code = _code_in(error)
            return code
        finally:
            self._asked.discard(name)
            self._queries.leave(timed_out=code == codes.ARES_ETIMEOUT)

    async def _find_out(self) -> bool:
        """Return whether names can be looked up at all.

        Ask below names that had addresses lately for one that nobody has asked for: even that it is none will do.

        Name servers keep what they have heard, so an old name would say nothing about those that they ask. Before there
        is any such name, ask for the root's name servers, which any resolver that can ask others has at hand.
        """
        asked = [self._is_found(f"{secrets.token_hex(4)}.{name}") for name in self._answered]
        tasks = [asyncio.create_task(each) for each in asked or [self._is_root_known()]]
        try:
            for answer in asyncio.as_completed(tasks):
                if await answer:
                    return True
        finally:
            for task in tasks:
                task.cancel()
        self._dead_at = self._clock()
        return False

    async def _is_found(self, name: str) -> bool:
        return await self._code_of(name, "A") in (None, *_OF_THE_NAME)

    async def _is_root_known(self) -> bool:
        return await self._code_of(".", "NS") not in _CUT_OFF

    async def _code_of(self, name: str, kind: str) -> int | None:
        """Return how a query for *name* ends, None if it ends well."""
        try:
            await asyncio.wait_for(self._dns.query_dns(name, kind), 2 * TIMEOUT_S)
        except TimeoutError:
            return int(codes.ARES_ETIMEOUT)
        except aiodns.error.DNSError as error:
            return _code_in(error)
        return None


class _Window:
    """Queries under way at a time: more while they are answered, half as many when most are not.

    A few that are not say something of the names alone: of a list a tenth may have servers that are gone.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._most = float(QUERIES_FIRST)
        self._halved_at: float | None = None
        self._lost = 0.0  # share of late
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        if self._under_way < int(self._most) and not self._waiting:
            self._under_way += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._let_in()  # those before it may have been cancelled
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled at once
                self._under_way -= 1
                self._let_in()
            raise

    def leave(self, *, timed_out: bool) -> None:
        self._under_way -= 1
        self._lost += LOST_WEIGHT * (timed_out - self._lost)
        now = self._clock()
        if not timed_out:
            self._most = min(float(QUERIES_MOST), self._most + (1 if self._halved_at is None else 1 / self._most))
        elif self._lost > LOST_MOST and (self._halved_at is None or now - self._halved_at > TIMEOUT_S):
            self._halved_at = now  # those that were under way together time out together
            self._most = max(float(QUERIES_LEAST), self._most / 2)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._under_way < int(self._most):
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)


def _code_in(error: aiodns.error.DNSError) -> int:
    return int(error.args[0]) if error.args else int(codes.ARES_ESERVFAIL)


def _literal(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address
