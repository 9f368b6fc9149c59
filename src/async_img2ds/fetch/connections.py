"""Connections: which one serves a request next, and how a new one is opened.

Knows sockets and TLS, and nothing of what is said over them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

import aiohappyeyeballs

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.resolver import ResolveError
from async_img2ds.policy.urls import is_address, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.fetch.resolver import Resolver
    from async_img2ds.nets import Proxy
    from async_img2ds.policy.urls import AddressPolicy, Target

__all__ = ["Connections", "Origin", "Tls", "Ways", "clean", "connect_failure", "is_local"]

# Idle connections are kept this long; servers commonly keep theirs 5 s (Apache) to 75 s
# (nginx), and reuse comes at once or not at all.
IDLE_S: Final = 5.0
# Idle connections kept at a time; each holds a descriptor and about 4 kB, under TLS 30 kB.
IDLE_MAX: Final = 512
# Of a name's addresses so many are tried; those of one that has thousands would take hours.
ADDRESSES_TRIED_MAX: Final = 8
# One host in two hundred has a certificate that is no good, by what img2dataset's users count.
UNTRUSTED_MAX: Final = 10_000
# What a proxy says before it leads on is a line or a few.
TUNNEL_HEAD_BYTES_MAX: Final = 16_384
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.\d (\d{3}) ?([^\r\n]*)\r\n")
# RFC 8305's "Connection Attempt Delay".
HAPPY_EYEBALLS_S: Final = 0.25


class Origin(NamedTuple):
    """Where a connection leads: what a name stands for may change, and TLS is agreed upon for one name."""

    scheme: str
    host: str
    port: int


class Talk(Protocol):
    """What is spoken over a connection, as far as it matters here.

    While *is_idle* nothing is expected. *is_verified* says that it is encrypted and the other end's certificate good.
    """

    is_idle: bool
    is_verified: bool

    @property
    def should_close(self) -> bool:
        """Whether it can serve no more: something was said that nobody had asked for, or somebody was cut short."""

    def is_connected(self) -> bool:
        """Whether the connection still stands."""

    def has_come(self) -> bool:
        """Whether something has come over it that nobody has looked at yet."""

    def abort(self) -> None:
        """Drop it at once."""


T = TypeVar("T", bound=Talk)


@dataclass(frozen=True, slots=True)
class Ways:
    """Where connections may lead: to *addresses*, if they are of *family*, through *proxy* if there is one."""

    addresses: AddressPolicy
    family: socket.AddressFamily = socket.AF_UNSPEC
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted: by *verifying* the other end's certificate, or *trusting* any.

    With both the second is for those whose certificate is no good.
    """

    verifying: ssl.SSLContext | None
    trusting: ssl.SSLContext | None = None


class Connections(Generic[T]):
    """Opens connections to what *ways* allow, and keeps those that are idle.

    A new one, over which *make* makes what is spoken, has *connect_s* seconds, and as many for *tls*. What is behind a
    proxy must be allowed, too. At most *idle_max* are kept, for *idle_s* seconds.
    """

    def __init__(
        self,
        make: Callable[[], Any],  # a T that is an asyncio.Protocol, for which there is no type
        resolver: Resolver,
        ways: Ways,
        tls: Tls,
        connect_s: float,
        *,
        idle_s: float = IDLE_S,
        idle_max: int = IDLE_MAX,
    ) -> None:
        """Begin with none."""
        self._make = make
        self._resolver = resolver
        self._addresses = ways.addresses
        self._family = ways.family
        self.proxy = ways.proxy
        self._tls = tls
        self._untrusted: set[Origin] = set()  # whose certificate is no good, of those that are talked to nevertheless
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._idle_max = idle_max
        self._loop = asyncio.get_running_loop()
        self._idle: dict[T, tuple[Origin, float]] = {}
        self._idle_by_origin: dict[Origin, dict[T, None]] = {}  # the longest idle first
        self._sweep: asyncio.TimerHandle | None = None
        self._opened = 0
        self.looking_up = 0  # who wait for the addresses of a host
        self._has_led_on = False  # the proxy; from then on what goes wrong behind it is not its own fault

    def origin(self, target: Target) -> Origin:
        """Return where connections for *target* lead; through a proxy all that is not encrypted goes one way."""
        if (relay := self.relay(target)) is not None:
            return Origin("proxy", relay.host, relay.port)
        return Origin(target.scheme, target.host, target.port)

    def relay(self, target: Target) -> Proxy | None:
        """Return the proxy that is to pass requests for *target* on, None if they go there by themselves."""
        return self.proxy if target.scheme == "http" else None

    def check_proxy(self, status: int, *, led_on: bool) -> None:
        """Take in the *status* by which the proxy answered, and whether it *led_on*.

        Raises:
            LocalFault: it does not know us; once it has led on, that is said by somebody behind it.

        """
        refused = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, *(() if led_on else (HTTPStatus.UNAUTHORIZED,)))
        if status in refused and not self._has_led_on:
            raise LocalFault("the proxy wants other credentials")
        self._has_led_on = self._has_led_on or led_on

    def check_relay(self) -> None:
        """Take in that the proxy did not answer.

        Raises:
            LocalFault: it never has, so that is its own fault and not that of the host behind it.

        """
        if not self._has_led_on:
            raise LocalFault("the proxy does not answer")

    def take_idle(self, origin: Origin) -> T | None:
        """Return the connection to *origin* that fell idle last, None if there is none that can serve again.

        One over which something has come since would give it to the next request for an answer.
        """
        while stack := self._idle_by_origin.get(origin):
            talk = next(reversed(stack))
            self._forget(talk)
            talk.is_idle = False
            if talk.is_connected() and not talk.should_close and not talk.has_come():
                return talk
            talk.abort()
        return None

    def give_back(self, origin: Origin, talk: T) -> None:
        """Keep a connection that nobody speaks over at the moment."""
        talk.is_idle = True
        self._idle[talk] = (origin, self._loop.time() + self._idle_s)
        self._idle_by_origin.setdefault(origin, {})[talk] = None
        if len(self._idle) > self._idle_max:
            self._drop(next(iter(self._idle)))
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._idle_s, self._drop_expired)

    async def admit(self, target: Target) -> None:
        """See that *target* may be asked for by way of a proxy, whose connections are there before it is looked up.

        Raises:
            FetchFailure: it may not, or has no address.
            LocalFault: this machine could not find out.

        """
        try:
            await self._infos(target)
        except OSError as error:
            raise connect_failure(error) from None

    async def open(self, target: Target) -> T:
        """Return a new connection to where *target* is.

        Raises:
            FetchFailure: there is no way there.
            LocalFault: this machine could not try.

        """
        try:
            return await self._encrypted(target)
        except ssl.SSLCertVerificationError as error:
            raise _certificate_failure(error) from None
        except ssl.SSLError as error:
            raise FetchFailure(ErrorClass.TLS_PROTOCOL, f"<urlopen error {clean(str(error))}>") from None
        except OSError as error:
            failure = connect_failure(error)
            if isinstance(failure, LocalFault):  # what is idle may hold just what is short
                self.drop_idle()
            raise failure from None

    async def _encrypted(self, target: Target) -> T:
        """Return a new connection to where *target* is; one that is not verified only if it need not be."""
        origin = Origin(target.scheme, target.host, target.port)
        verifying, trusting = self._tls.verifying, self._tls.trusting
        if verifying is not None and origin not in self._untrusted:
            try:
                talk = await self._new(target, verifying)
            except ssl.SSLCertVerificationError:
                if trusting is None:
                    raise
                if len(self._untrusted) >= UNTRUSTED_MAX:
                    self._untrusted.clear()
                self._untrusted.add(origin)
            else:
                talk.is_verified = target.scheme == "https"
                return talk
        assert trusting is not None
        return await self._new(target, trusting)

    async def _new(self, target: Target, context: ssl.SSLContext) -> T:
        if self.proxy is not None:
            return await self._through(self.proxy, target, context)
        return await self._connect(target, await self._infos(target), context)

    def drop_idle(self) -> None:
        """Drop those that nobody speaks over."""
        for talk in list(self._idle):
            self._drop(talk)

    def close(self) -> None:
        """Drop those that are idle, for good."""
        self.drop_idle()
        if self._sweep is not None:
            self._sweep.cancel()

    async def _infos(self, target: Target) -> list[aiohappyeyeballs.AddrInfoType]:
        """Return the addresses to try, each time beginning with another, so that all of a host's servers are asked."""
        if target.is_literal:
            family = _family_of(target.host)
            self._check(target.host, target.port)
            if self._family not in (socket.AF_UNSPEC, family):
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return [_info(family, target.host, target.port)]
        self.looking_up += 1
        try:
            found = await self._resolver.look_up(target.host)
        finally:
            self.looking_up -= 1
        if self.proxy is not None:  # which looks the name up by itself, so every address must do
            for _, address in found:
                self._check(address, target.port)
        allowed = [(kind, address) for kind, address in found if self._addresses.allows(address, target.port)]
        if not allowed:
            raise ResolveError(
                ErrorClass.ADDR_BLOCKED, f"{target.host} has no public address ({', '.join(a for _, a in found[:4])})"
            )
        self._opened += 1
        first = self._opened % len(allowed)
        tried = (allowed[first:] + allowed[:first])[:ADDRESSES_TRIED_MAX]
        return [_info(family, address, target.port) for family, address in tried]

    async def _connect(self, target: Target, infos: list[aiohappyeyeballs.AddrInfoType], context: ssl.SSLContext) -> T:
        talk: T
        family, *_, (address, *_) = infos[0]
        async with asyncio.timeout(self._connect_s):
            if target.scheme == "http" and len(infos) == 1 and family == socket.AF_INET:
                self._check(str(address), target.port)  # nothing to choose: the loop connects in half the time
                _, talk = await self._loop.create_connection(self._make, str(address), target.port)
                return talk
            connected = await aiohappyeyeballs.start_connection(
                infos, happy_eyeballs_delay=HAPPY_EYEBALLS_S, loop=self._loop, socket_factory=self._socket
            )
        return await self._spoken_over(connected, target, context)

    async def _spoken_over(self, connected: socket.socket, target: Target, context: ssl.SSLContext) -> T:
        """Return what is spoken over a new connection, once it is encrypted if it is to be."""
        talk: T
        if target.scheme == "http":
            _, talk = await self._loop.create_connection(self._make, sock=connected)
            return talk
        try:
            _, talk = await self._loop.create_connection(
                self._make,
                sock=connected,
                ssl=context,
                server_hostname=target.host.rstrip("."),
                ssl_handshake_timeout=self._connect_s,
            )
        except ConnectionAbortedError:  # by the loop, as it took too long
            words = "<urlopen error The handshake operation timed out>"
            raise FetchFailure(ErrorClass.TLS_TIMEOUT, words) from None
        return talk

    async def _through(self, proxy: Proxy, target: Target, context: ssl.SSLContext) -> T:
        """Return a connection to the proxy; for an encrypted target, one that it has led on to there."""
        try:
            async with asyncio.timeout(self._connect_s):
                connected = await self._reach(proxy)
        except OSError as error:  # whatever it is, it is no fault of the target's
            said = clean(str(error)) or "it does not answer"
            raise LocalFault(f"the proxy cannot be reached: {said}") from None
        if target.scheme == "https":
            try:
                async with asyncio.timeout(self._connect_s):
                    await self._tunnel(connected, proxy, target)
            except BaseException:
                connected.close()
                raise
        return await self._spoken_over(connected, target, context)

    async def _reach(self, proxy: Proxy) -> socket.socket:
        found: list[tuple[int, str]] = [(_family_of(proxy.host), proxy.host)]
        if not is_address(proxy.host):
            found = await self._resolver.look_up(proxy.host)
        infos = [_info(family, address, proxy.port) for family, address in found]
        return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=HAPPY_EYEBALLS_S, loop=self._loop)

    async def _tunnel(self, connected: socket.socket, proxy: Proxy, target: Target) -> None:
        """Have the proxy lead on to *target* (RFC 9110 9.3.6)."""
        authority = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
        asked = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{proxy.lines}\r\n"
        await self._loop.sock_sendall(connected, asked.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = await self._loop.sock_recv(connected, TUNNEL_HEAD_BYTES_MAX)
            head += chunk
            if not chunk or len(head) > TUNNEL_HEAD_BYTES_MAX:
                break
        found = _STATUS_LINE.match(head)
        if found is None:
            if self._has_led_on:  # it hung up on this one
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            raise LocalFault("the proxy does not speak HTTP")
        status, words = int(found[1]), found[2].decode("latin-1")
        led_on = 200 <= status < 300  # noqa: PLR2004  any 2xx (RFC 9110 9.3.6)
        self.check_proxy(status, led_on=led_on)
        if not led_on:
            late = status == HTTPStatus.GATEWAY_TIMEOUT
            kind = ErrorClass.CONNECT_TIMEOUT if late else ErrorClass.CONNECT_UNREACHABLE
            raise FetchFailure(kind, f"<urlopen error Tunnel connection failed: {clean(f'{status} {words}')}>")

    def _socket(self, info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
        """Return a socket for an address that may be connected to."""
        family, kind, proto, _, address = info
        if family == socket.AF_INET6:
            _check_route(address)
        self._check(str(address[0]), int(address[1]))
        return socket.socket(family, kind, proto)

    def _check(self, address: str, port: int) -> None:
        """Be the last gate: every connection, whatever led to it, passes here with the address it is about to use."""
        if not self._addresses.allows(address, port):
            raise ResolveError(ErrorClass.ADDR_BLOCKED, refused(address))

    def _forget(self, talk: T) -> None:
        origin, _ = self._idle.pop(talk)
        stack = self._idle_by_origin[origin]
        del stack[talk]
        if not stack:
            del self._idle_by_origin[origin]

    def _drop(self, talk: T) -> None:
        self._forget(talk)
        talk.abort()

    def _drop_expired(self) -> None:
        """Drop those that nobody has asked for, and come again when the next one has waited for its time."""
        self._sweep = None
        now = self._loop.time()
        for talk, (_, until) in list(self._idle.items()):  # the longest idle first
            if until > now:
                self._sweep = self._loop.call_at(until, self._drop_expired)
                return
            self._drop(talk)


def _family_of(literal: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in literal else socket.AF_INET


def _info(family: int, address: str, port: int) -> aiohappyeyeballs.AddrInfoType:
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


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


def connect_failure(error: OSError) -> FetchFailure | LocalFault:
    """Name what went wrong before there was a connection."""
    if isinstance(error, ResolveError):
        return (
            LocalFault(error.message) if error.error_class is None else FetchFailure(error.error_class, error.message)
        )
    if isinstance(error, TimeoutError) and error.errno is None:
        return FetchFailure(ErrorClass.CONNECT_TIMEOUT, "<urlopen error timed out>")
    # Where several addresses failed in different ways, aiohappyeyeballs gives their errnos in words only.
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    if _LOCAL_ERRNOS.intersection(numbers):  # one of the addresses could not be tried, so nothing is known of the host
        return LocalFault(clean(str(error)))
    for number, kind in _ERRNOS.items():
        if number in numbers:
            return FetchFailure(kind, f"<urlopen error [Errno {number}] {os.strerror(number)}>")
    said = clean(str(error)) or f"[Errno {errno.ECONNRESET}] {os.strerror(errno.ECONNRESET)}"  # asyncio's have no words
    return FetchFailure(ErrorClass.CONNECT_RESET, f"<urlopen error {said}>")


def is_local(error: BaseException) -> bool:
    """Whether an error is a shortage of this machine's own."""
    return isinstance(error, OSError) and error.errno in _LOCAL_ERRNOS


def _certificate_failure(error: ssl.SSLCertVerificationError) -> FetchFailure:
    kind = _CERTIFICATE_CODES.get(error.verify_code, ErrorClass.TLS_UNTRUSTED)
    return FetchFailure(kind, f"<urlopen error {clean(str(error))}>")


def clean(text: str) -> str:
    """Make text that others wrote fit for a column.

    One line, no control characters or lone surrogates, 200 characters at the most.
    """
    line = " ".join(re.sub("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).split())
    return line if len(line) <= 200 else line[:199] + "…"  # noqa: PLR2004  the length named above
