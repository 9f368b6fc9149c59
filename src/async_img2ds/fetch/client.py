"""Ask one URL, once.

The only module that knows aiohttp: its exceptions become FetchFailure or LocalFault here and nowhere else.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import aiohttp
from aiohttp import abc, hdrs, http_exceptions
from yarl import URL

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.resolver import ResolveError, Resolver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.urls import AddressPolicy, Target

__all__ = ["Answer", "Client", "HttpClient"]

# Idle connections are kept this long; servers commonly keep theirs 5 s (Apache) to 75 s
# (nginx), and reuse comes at once or not at all.
KEEP_ALIVE_S: Final = 5.0
# Names are asked for again after this long. Image hosts move rarely; a run of days should notice.
DNS_CACHE_S: Final = 300
DNS_CACHE_ENTRIES: Final = 100_000
# Unread bodies up to this size are read to keep their connection; anything longer costs more than a new connection.
DRAIN_BYTES_MAX: Final = 16_384
# RFC 8305's "Connection Attempt Delay".
HAPPY_EYEBALLS_S: Final = 0.25


class Answer(Protocol):
    """An answer whose headers are here and whose body is not."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def reason(self) -> str:
        """The words beside it."""

    @property
    def content_length(self) -> int | None:
        """Bytes of body that the server announced."""

    def headers(self, name: str) -> list[str]:
        """Return the values of all header lines called *name*, in order."""

    def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes.

        Raises:
            FetchFailure: it broke off.

        """

    async def drain(self) -> None:
        """Read a short body to its end, so that the connection can serve again."""


class Client(Protocol):
    """Asks one URL, once.

    The seam at which tests put slow, broken and endless servers that no real one can be made into.
    """

    def get(self, target: Target) -> AbstractAsyncContextManager[Answer]:
        """Ask for *target*; leaving the block early drops the connection."""

    async def overdue(self, target: Target) -> FetchFailure | LocalFault | None:
        """Return what kept an attempt on *target* from even being made in its time, None if it was made."""


class HttpClient:
    """An aiohttp session with one resolver and one TLS context: one for each process."""

    def __init__(self, session: aiohttp.ClientSession, resolver: Resolver) -> None:
        """Use :meth:`open`."""
        self._session = session
        self._resolver = resolver

    @classmethod
    @asynccontextmanager
    async def open(cls, options: FetchOptions, addresses: AddressPolicy, user_agent: str) -> AsyncIterator[Self]:
        """Yield a client that connects to nothing but what *addresses* allows."""
        resolver = Resolver(options.dns_servers)
        connector = aiohttp.TCPConnector(
            limit=0,
            resolver=_CheckedResolver(resolver, addresses),
            ssl=False if options.ignore_ssl_certificate else ssl.create_default_context(),
            ttl_dns_cache=DNS_CACHE_S,
            dns_cache_max_size=DNS_CACHE_ENTRIES,
            keepalive_timeout=KEEP_ALIVE_S,
            happy_eyeballs_delay=HAPPY_EYEBALLS_S,
            socket_factory=_socket_factory(addresses),
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={hdrs.USER_AGENT: user_agent, hdrs.ACCEPT: "image/*,*/*;q=0.8", hdrs.ACCEPT_ENCODING: "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.timeout, sock_read=options.timeout),
            trust_env=False,
        ) as session:
            try:
                yield cls(session, resolver)
            finally:
                await resolver.close()

    def get(self, target: Target) -> _Request:
        """Ask for *target*, following no redirect.

        Entering the block raises:
            FetchFailure: no usable answer came.
            LocalFault: this machine could not ask.

        """
        return _Request(self._session, target)

    def looking_up(self) -> int:
        """Return how many names are being looked up."""
        return self._resolver.looking_up

    async def overdue(self, target: Target) -> FetchFailure | LocalFault | None:
        """Return what kept an attempt on *target* from even being made: its look-up, if that still goes on."""
        error = await self._resolver.overdue(target.host)
        return None if error is None else _connect_failure(error)


class _Request:
    """A request during whose block its answer is there. A class, as a generator costs several times as much."""

    __slots__ = ("_response", "_session", "_target")

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._target = target
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Answer:
        encrypted = self._target.scheme == "https"
        try:
            response = await self._session.get(URL(self._target.url, encoded=True), allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(error, before_headers=True, encrypted=encrypted) from None
        self._response = response
        return _HttpAnswer(response, encrypted=encrypted)

    async def __aexit__(self, *_: object) -> None:
        response = self._response
        if response is None:
            return
        if (
            not response.content.at_eof()
            and response.connection is not None
            and response.connection.transport is not None
        ):
            # A closed TLS connection goes on receiving for up to 30 s under uvloop
            # (uvloop issue 471); an aborted one does not.
            response.connection.transport.abort()
        response.close()


class _HttpAnswer:
    """An aiohttp response, as the rest of the program sees it."""

    __slots__ = ("_encrypted", "_response", "content_length", "reason", "status")

    def __init__(self, response: aiohttp.ClientResponse, *, encrypted: bool) -> None:
        self._response = response
        self._encrypted = encrypted
        self.status = response.status
        self.reason = response.reason or ""
        self.content_length = response.content_length

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getall(name, [])

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except aiohttp.ClientPayloadError as error:
            raise _body_failure(error, self._response.content.total_bytes, self.content_length) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(error, before_headers=False, encrypted=self._encrypted) from None

    async def drain(self) -> None:
        if self.content_length is not None and self.content_length <= DRAIN_BYTES_MAX:
            async for _ in self.chunks():
                pass


class _CheckedResolver(abc.AbstractResolver):
    """Our resolver in aiohttp's shape: names only, and of their addresses only those that may be connected to."""

    def __init__(self, resolver: Resolver, addresses: AddressPolicy) -> None:
        self._resolver = resolver
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[abc.ResolveResult]:
        found = await self._resolver.look_up(host)
        allowed = [(kind, address) for kind, address in found if self._addresses.allows(address, port)]
        if not allowed:
            raise ResolveError(
                ErrorClass.ADDR_BLOCKED, f"{host} has no public address ({', '.join(a for _, a in found[:4])})"
            )
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": kind,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for kind, address in allowed
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        await self._resolver.close()


def _socket_factory(addresses: AddressPolicy) -> aiohttp.SocketFactoryType:
    """Return the last gate: every connection, whatever led to it, asks here with the address it is about to use."""

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, proto, _, address = info
        if family == socket.AF_INET6:
            _check_route(address)
        if not addresses.allows(str(address[0]), int(address[1])):
            raise ResolveError(
                ErrorClass.ADDR_BLOCKED, f"{address[0]} is not a public address; --allow_net opens networks"
            )
        return socket.socket(family, kind, proto)

    return make


def _check_route(address: tuple[Any, ...]) -> None:
    """Raise OSError if this machine has no way to an IPv6 address: connecting would look like a shortage of ports.

    Connecting a datagram socket sends nothing; it only asks the routing table.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError as error:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)) from error


# Errors of this machine, whichever URL they happen to.
_LOCAL_ERRNOS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN}
)
# The most telling first: of a host's two addresses one may be refused, and the other
# unreachable because this machine has no IPv6.
_ERRNOS: Final = {
    errno.ECONNREFUSED: ErrorClass.CONNECT_REFUSED,
    errno.ECONNRESET: ErrorClass.CONNECT_RESET,
    errno.ETIMEDOUT: ErrorClass.CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: ErrorClass.CONNECT_UNREACHABLE,
    errno.EHOSTDOWN: ErrorClass.CONNECT_UNREACHABLE,
    errno.ENETUNREACH: ErrorClass.CONNECT_UNREACHABLE,
    errno.EAFNOSUPPORT: ErrorClass.CONNECT_UNREACHABLE,
    errno.EACCES: ErrorClass.CONNECT_UNREACHABLE,
    errno.EPERM: ErrorClass.CONNECT_UNREACHABLE,
}
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED and _HOSTNAME_MISMATCH (x509_vfy.h).
_CERTIFICATE_CODES: Final = {
    9: ErrorClass.TLS_EXPIRED,
    10: ErrorClass.TLS_EXPIRED,
    62: ErrorClass.TLS_HOSTNAME,
    64: ErrorClass.TLS_HOSTNAME,
}


def _failure(
    error: aiohttp.ClientError | OSError, *, before_headers: bool, encrypted: bool
) -> FetchFailure | LocalFault:
    """Return what aiohttp raised as a FetchFailure, or LocalFault where this machine is to blame."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return FetchFailure(ErrorClass.CONNECT_TIMEOUT, "<urlopen error timed out>")
    if isinstance(error, aiohttp.ServerTimeoutError):
        # Python's words differ between a socket and one under TLS, and img2dataset's users know both.
        return FetchFailure(ErrorClass.READ_TIMEOUT, "The read operation timed out" if encrypted else "timed out")
    for theirs, ours in _FAILURES:
        if isinstance(error, theirs):
            return ours(error)
    return _reset(error, before_headers=before_headers)


def _certificate_failure(error: aiohttp.ClientConnectorCertificateError) -> FetchFailure:
    cause = error.certificate_error
    code = getattr(cause, "verify_code", 0)
    return FetchFailure(_CERTIFICATE_CODES.get(code, ErrorClass.TLS_UNTRUSTED), f"<urlopen error {clean(str(cause))}>")


def _connect_failure(error: OSError) -> FetchFailure | LocalFault:
    """Name what went wrong before there was a connection."""
    if isinstance(error, ResolveError):
        return (
            LocalFault(error.message) if error.error_class is None else FetchFailure(error.error_class, error.message)
        )
    # Where several addresses failed in different ways, aiohappyeyeballs gives their errnos in words only.
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    if numbers and _LOCAL_ERRNOS.issuperset(numbers):
        return LocalFault(clean(str(error)))
    for number, kind in _ERRNOS.items():
        if number in numbers:
            return FetchFailure(kind, f"<urlopen error [Errno {number}] {os.strerror(number)}>")
    said = clean(str(error)) or f"[Errno {errno.ECONNRESET}] {os.strerror(errno.ECONNRESET)}"  # asyncio's have no words
    return FetchFailure(ErrorClass.CONNECT_RESET, f"<urlopen error {said}>")


def _body_failure(error: aiohttp.ClientPayloadError, received: int, announced: int | None) -> FetchFailure:
    """Name what broke a body off, of whose *announced* bytes *received* had come."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, http_exceptions.ContentEncodingError | http_exceptions.DecompressSizeError):
            return FetchFailure(ErrorClass.CONTENT_ENCODING, "body cannot be decoded from its Content-Encoding")
        if isinstance(cause, ConnectionResetError):
            return FetchFailure(ErrorClass.BODY_RESET, "[Errno 104] Connection reset by peer")
        if isinstance(cause, http_exceptions.TransferEncodingError) and "Not enough data" not in str(cause):
            return FetchFailure(ErrorClass.HTTP_MALFORMED, clean(str(cause)))
        cause = cause.__cause__
    if "content-encoding" in str(error).lower() or "decode" in str(error).lower():
        return FetchFailure(ErrorClass.CONTENT_ENCODING, "body cannot be decoded from its Content-Encoding")
    if "ConnectionResetError(" in str(error):  # as text only, behind what was missing
        return FetchFailure(ErrorClass.BODY_RESET, "[Errno 104] Connection reset by peer")
    missing = "" if announced is None else f", {announced - received} more expected"
    return FetchFailure(ErrorClass.BODY_TRUNCATED, f"IncompleteRead({received} bytes read{missing})")


def _malformed(error: aiohttp.ClientResponseError) -> FetchFailure:
    limited = "Got more than" in error.message or "too long" in error.message.lower()
    kind = ErrorClass.HTTP_HEADER_LIMIT if limited else ErrorClass.HTTP_MALFORMED
    return FetchFailure(kind, clean(error.message) or "malformed answer")


def _reset(error: aiohttp.ClientError | OSError, *, before_headers: bool) -> FetchFailure | LocalFault:
    """Name the end of a connection that nothing above explains."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _LOCAL_ERRNOS:
        return LocalFault(clean(str(error)))
    kind = ErrorClass.CONNECT_RESET if before_headers else ErrorClass.BODY_RESET
    return FetchFailure(
        kind, "[Errno 104] Connection reset by peer" if number == errno.ECONNRESET else clean(str(error))
    )


# Their exception → ours, the first that fits.
_FAILURES: Final[tuple[tuple[type[Exception], Callable[[Any], FetchFailure | LocalFault]], ...]] = (
    (aiohttp.ClientConnectorCertificateError, _certificate_failure),
    (
        aiohttp.ClientConnectorSSLError,
        lambda error: FetchFailure(ErrorClass.TLS_PROTOCOL, f"<urlopen error {clean(str(error.os_error))}>"),
    ),
    (aiohttp.ClientConnectorError, lambda error: _connect_failure(error.os_error)),
    (
        aiohttp.ServerDisconnectedError,
        lambda _: FetchFailure(ErrorClass.CONNECT_RESET, "Remote end closed connection without response"),
    ),
    (aiohttp.ClientResponseError, _malformed),
    (aiohttp.InvalidURL, lambda error: FetchFailure(ErrorClass.URL_INVALID, clean(str(error)))),
)


def clean(text: str) -> str:
    """Make text that others wrote fit for a column.

    One line, no control characters or lone surrogates, 200 characters at the most.
    """
    line = " ".join(re.sub("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).split())
    return line if len(line) <= 200 else line[:199] + "…"  # noqa: PLR2004  the length named above
