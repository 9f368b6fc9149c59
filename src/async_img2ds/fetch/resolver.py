"""Host names → addresses, with one aiodns resolver; tells a name that has none from a resolver that does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

import aiodns
import pycares
from aiodns import error as codes

from async_img2ds.errors import ErrorClass

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ResolveError", "Resolver"]

# Smokescreen allows 5 s a look-up; c-ares doubles its first wait on the second try, so 2 s and 2 tries make 6 s.
TIMEOUT_S: Final = 2.0
TRIES: Final = 2


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
_NOBODY_THERE: Final = frozenset({codes.ARES_ECONNREFUSED, codes.ARES_ENOMEM, codes.ARES_EFILE})


class Resolver:
    """Looks names up at *servers*, or at the system's if there are none. Close it when done."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        """Open one channel; must be called in a running loop."""
        self._dns = aiodns.DNSResolver(
            nameservers=list(servers) or None,
            timeout=TIMEOUT_S,
            tries=TRIES,
            flags=pycares.ARES_FLAG_NOSEARCH,  # names in URLs are absolute: no search domains of this machine
        )
        self._answers = 0
        self._pending: Counter[str] = Counter()

    async def close(self) -> None:
        """Cancel what is under way and free the channel."""
        await self._dns.close()

    @property
    def looking_up(self) -> int:
        """How many names are being looked up."""
        return len(self._pending)

    async def look_up(self, name: str) -> list[tuple[int, str]]:
        """Return the addresses of *name* as (family, literal), in the order of preference.

        Raises:
            ResolveError: there are none, or nobody could be asked.

        """
        if name.rstrip(".").endswith(".invalid"):  # never exists, and nobody is to be asked (RFC 6761 6.4)
            raise ResolveError(ErrorClass.DNS_NXDOMAIN, _UNKNOWN)
        self._pending[name] += 1  # one name may be looked up twice at a time, for two ports
        try:
            return await self._ask(name, self._answers)
        finally:
            self._pending[name] -= 1
            if not self._pending[name]:
                del self._pending[name]

    async def overdue(self, name: str) -> ResolveError | None:
        """Return what to think of a look-up of *name* that somebody cannot wait for; None if none is under way."""
        if name not in self._pending:
            return None
        if await self._is_alive():
            return ResolveError(*_FAILURES[codes.ARES_ETIMEOUT])
        return ResolveError(None, "no name server answers")

    async def _ask(self, name: str, answers_before: int) -> list[tuple[int, str]]:
        try:
            found = await self._dns.getaddrinfo(name, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            code = error.args[0] if error.args else None
            if code in _NOBODY_THERE:
                raise ResolveError(None, "no name server can be reached") from None
            if code == codes.ARES_ETIMEOUT and self._answers == answers_before and not await self._is_alive():
                raise ResolveError(None, "no name server answers") from None
            if code != codes.ARES_ETIMEOUT:
                self._answers += 1
            raise ResolveError(*_FAILURES.get(code, (ErrorClass.DNS_SERVFAIL, _TEMPORARY))) from None
        self._answers += 1
        return [(node.family, _literal(node.addr[0])) for node in found.nodes]

    async def _is_alive(self) -> bool:
        """Ask for the root's name servers, which any resolver has at hand: even an error is an answer."""
        try:
            await asyncio.wait_for(self._dns.query_dns(".", "NS"), 2 * TIMEOUT_S)
        except TimeoutError:
            return False
        except aiodns.error.DNSError as error:
            return bool(error.args) and error.args[0] not in (*_NOBODY_THERE, codes.ARES_ETIMEOUT)
        return True


def _literal(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address
