"""Ask one URL, once.

The only module that knows aiohttp, of which the part that speaks HTTP over a connection is used; a session of it
would cost two to three times as much a request. Its exceptions become FetchFailure or LocalFault here and nowhere else.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, Self

import aiohttp
from aiohttp import hdrs, http_exceptions
from aiohttp.client_proto import ResponseHandler

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.connections import IDLE_MAX, Connections, Tls, Ways, clean, connect_failure, is_local
from async_img2ds.fetch.resolver import FAMILIES, Resolver
from async_img2ds.fetch.uplink import Uplink
from async_img2ds.headers import parse_header
from async_img2ds.nets import parse_proxy
from async_img2ds.policy.host_rules import NO_RULES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from aiohttp.http import RawResponseMessage

    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.host_rules import HostRules
    from async_img2ds.policy.urls import AddressPolicy, Target

__all__ = ["Answer", "Client", "HttpClient"]

# Unread bodies up to this size are read to keep their connection; anything longer costs more than a new connection.
DRAIN_BYTES_MAX: Final = 16_384
# Reading pauses when twice this waits unread. uvloop hands over up to 256,000 at a time, so half a megabyte may wait;
# to pause and resume reading after each of them would cost two calls of the system.
READ_BUFFER_BYTES: Final = 131_072
# Of 100 (Continue) and 103 (Early Hints) an honest server sends one or two.
INTERIMS_MAX: Final = 8
_HEAD_END: Final = b"\r\n\r\n"
# Where in Linux's struct tcp_info tcpi_unacked ends, which counts the segments that were sent and not acknowledged.
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_UNACKED_END: Final = 28


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

    @property
    def latency_s(self) -> float:
        """Seconds from the request, once it was connected, to these headers."""

    @property
    def address(self) -> str | None:
        """Who sent it: the server's address, or the proxy's."""

    @property
    def tls_verified(self) -> bool | None:
        """Whether the certificate of who sent it was verified; None if nothing was encrypted."""

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

    def get(self, target: Target, keep: Callable[[], bool]) -> AbstractAsyncContextManager[Answer]:
        """Ask for *target*; leaving the block early drops the connection, and so does an answer of False by *keep*."""

    async def overdue(self, target: Target, failure: FetchFailure, took_s: float) -> FetchFailure | LocalFault:
        """Return what to think of an attempt on *target* that used up its *took_s* seconds: *failure*, if it was made.

        What may have kept it from being made is a look-up, or the network of this machine.
        """


class _Talk(ResponseHandler):
    """HTTP over a connection that takes nothing for an answer while none is expected, and no more than was announced.

    Servers that send more than their Content-Length says, such as scripts that end with a few blanks too many, have
    sent the image by then; the parser, given both at once, would see a second answer that is none, and drop the first.
    """

    is_idle = False
    is_verified = False
    was_reset = False
    _interims = 0
    _is_in_head = False
    _head_came = b""
    _left: int | None = None
    _may_be_early = False

    def expect(self, *, is_first: bool) -> None:
        """Take what comes for an answer, to the first request over this connection or to a later one."""
        self._interims, self._is_in_head, self._head_came, self._left = 0, True, b"", None
        self._may_be_early = not is_first

    def has_come(self) -> bool:
        handle = self.transport.get_extra_info("socket") if self.transport is not None else None
        if handle is None or not hasattr(select, "poll"):  # not on Windows
            return False
        look = select.poll()
        look.register(handle.fileno(), select.POLLIN)
        return len(look.poll(0)) > 0

    def connection_lost(self, exc: BaseException | None) -> None:
        self.was_reset = exc is not None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_idle:
            self.force_close()
            return
        if self._may_be_early:
            self._may_be_early = False
            if self.transport is not None and _is_unheard(self.transport):
                self.set_exception(aiohttp.ServerDisconnectedError())
        body = self._behind_heads(data) if self._is_in_head and data else data
        if self.exception() is not None or (data and not body):
            return
        if self._left is not None:
            if len(body) > self._left:
                body = body[: self._left]
                self._should_close = True
                if not body:
                    return
            self._left -= len(body)
        super().data_received(body)

    def _behind_heads(self, data: bytes) -> bytes:
        """Hand on the heads of answers that end in *data*, each by itself, and return what is behind them."""
        while self._is_in_head and self.exception() is None:
            came = self._head_came + data
            if (end := came.find(_HEAD_END)) < 0:
                self._head_came = came[1 - len(_HEAD_END) :]  # its end may come in pieces
                break
            cut = end + len(_HEAD_END) - len(self._head_came)
            head, data, self._head_came = data[:cut], data[cut:], b""
            super().data_received(head)
            if not data:
                break
        return data

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Take in the head of an answer, whose body is to come."""
        message, _ = data
        if _is_interim(message.code):
            self._interims += 1
            if self._interims > INTERIMS_MAX:
                self.set_exception(http_exceptions.BadHttpMessage(f"more than {INTERIMS_MAX} interim answers"))
                return
        else:
            self._is_in_head = False
            announced = "" if message.chunked else message.headers.get(hdrs.CONTENT_LENGTH, "")
            self._left = int(announced) if announced.isdecimal() else None
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Fail what is waited for: the head of an answer, or what is left of a body, which would not hear of it."""
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(exc, *cause)


def _is_unheard(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end's system has not yet acknowledged what was sent: so what has come is no answer to it."""
    handle = transport.get_extra_info("socket")
    if _TCP_INFO is None or handle is None:
        return False
    told: bytes = handle.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _UNACKED_END)
    return told[_UNACKED_END - 4 :] != bytes(4)


def _is_interim(status: int) -> bool:
    """Whether another answer to the same request follows one with that *status*."""
    return 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS  # noqa: PLR2004  RFC 9110 15.2


@dataclass(frozen=True, slots=True)
class _Means:
    """What every request is made with.

    *heads* has the lines that tell who asks, *timeout* the seconds of silence that are borne.
    """

    connections: Connections[_Talk]
    uplink: Uplink
    heads: _Heads
    timeout: float


class _Heads:
    """The lines of a request that are the same for all URLs of a host, given those of every host and rules."""

    def __init__(self, headers: Mapping[str, str], rules: HostRules) -> None:
        self._headers = headers
        self._rules = rules
        self._plain = _lines(headers)

    def of(self, host: str) -> str:
        special = self._rules.of(host).headers
        return _lines(_merged(self._headers, special)) if special else self._plain


def _merged(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* with *others*, which take the place of those of the same name, however it is spelled."""
    merged = {name.lower(): (name, value) for name, value in (*headers.items(), *others.items())}
    return dict(merged.values())


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


class HttpClient:
    """Speaks HTTP/1.1 with one resolver and one TLS context: one for each process. Use :meth:`open`."""

    def __init__(self, means: _Means, resolver: Resolver) -> None:
        """Ask with *means*, and look names up with *resolver*."""
        self._means = means
        self._resolver = resolver

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        options: FetchOptions,
        addresses: AddressPolicy,
        user_agent: str,
        rules: HostRules = NO_RULES,
        idle_max: int = IDLE_MAX,
    ) -> AsyncIterator[Self]:
        """Yield a client that connects to nothing but what *addresses* allows, and asks each host as *rules* say.

        At most *idle_max* connections are kept while nobody speaks over them.
        """
        loop = asyncio.get_running_loop()
        headers: dict[str, str] = {
            hdrs.USER_AGENT: user_agent,
            hdrs.ACCEPT: "image/*,*/*;q=0.8",
            hdrs.ACCEPT_ENCODING: "identity",
        }
        heads = _Heads(_merged(headers, dict(map(parse_header, options.header))), rules)
        family = FAMILIES[options.ip_version]
        proxy = None if options.proxy is None else parse_proxy(options.proxy)
        async with Resolver.open(options.dns_servers, family) as resolver:
            connections: Connections[_Talk] = Connections(
                lambda: _Talk(loop),
                resolver,
                Ways(addresses, family, proxy),
                _tls(options.tls_mode),
                connect_s=options.timeout,
                idle_max=idle_max,
            )
            uplink = Uplink(loop.time)
            try:
                yield cls(_Means(connections, uplink, heads, options.timeout), resolver)
            finally:
                connections.close()
                await uplink.close()

    def get(self, target: Target, keep: Callable[[], bool] = lambda: True) -> _Request:
        """Ask for *target*, following no redirect; *keep* says at the end whether its connection will be of use.

        Entering the block raises:
            FetchFailure: no usable answer came.
            LocalFault: this machine could not ask.

        """
        return _Request(self._means, target, keep)

    async def look_up(self, name: str) -> list[tuple[int, str]]:
        """Return the addresses of *name* as (family, literal).

        Raises:
            ResolveError: it has none, or nobody could be asked.

        """
        return await self._resolver.look_up(name)

    def looking_up(self) -> int:
        """Return how many requests wait for the addresses of their hosts."""
        return self._means.connections.looking_up

    async def overdue(self, target: Target, failure: FetchFailure, took_s: float) -> FetchFailure | LocalFault:
        """Return what to think of an attempt on *target* that used up its *took_s* seconds: *failure*, if it was made.

        A look-up may still go on, or nothing at all can be reached.
        """
        error = await self._resolver.overdue(target.host)
        if error is not None:
            return connect_failure(error)
        return await self._means.uplink.judge(failure, self._means.uplink.now() - took_s)


def _tls(mode: str) -> Tls:
    """Return how connections are encrypted in one of the modes of the option ``tls``."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    verifying = ssl.create_default_context()
    for context in (trusting, verifying):
        context.set_alpn_protocols(["http/1.1"])
    return Tls(None if mode == "off" else verifying, None if mode == "verify" else trusting)


class _Request:
    """A request during whose block its answer is there. A class, as a generator costs several times as much."""

    __slots__ = ("_asked_at", "_keep", "_means", "_origin", "_relay", "_talk", "_target")

    def __init__(self, means: _Means, target: Target, keep: Callable[[], bool]) -> None:
        self._means = means
        self._keep = keep
        self._target = target
        self._origin = means.connections.origin(target)
        self._relay = means.connections.relay(target)
        self._talk: _Talk | None = None
        self._asked_at = 0.0

    async def __aenter__(self) -> Answer:
        uplink = self._means.uplink
        began = uplink.now()
        try:
            message, body = await self._answered()
        except (FetchFailure, LocalFault) as failure:
            raise await uplink.judge(failure, began) from None
        uplink.heard()
        encrypted = self._target.scheme == "https"
        latency_s = uplink.now() - self._asked_at
        return _HttpAnswer(message, body, self._talk, uplink, latency_s=latency_s, encrypted=encrypted)

    async def _answered(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        connections = self._means.connections
        if connections.proxy is not None:
            await connections.admit(self._target)
        while True:
            talk = connections.take_idle(self._origin)
            is_new = talk is None
            if talk is None:
                talk = await connections.open(self._target)
                self._means.uplink.reached(*_peer(talk))
            self._talk = talk
            try:
                answered = await self._ask(talk, is_new=is_new)
                if self._relay is not None:
                    connections.check_proxy(answered[0].code, led_on=True)
                return answered  # noqa: TRY300  what is checked is part of asking
            except BaseException as error:
                talk.abort()
                # A server may end an idle connection in the moment in which it is taken: that is no attempt.
                if not is_new and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
                    continue
                if isinstance(error, aiohttp.ClientError | http_exceptions.HttpProcessingError | OSError):
                    if self._relay is not None:
                        connections.check_relay()
                    encrypted = self._target.scheme == "https"
                    raise _failure(error, before_headers=True, encrypted=encrypted) from None
                raise

    async def _ask(self, talk: _Talk, *, is_new: bool) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        """Send the request; return the head of the answer to it, and its body to come."""
        if talk.transport is None:
            raise aiohttp.ServerDisconnectedError
        _, _, rest = self._target.url.partition("://")
        authority, slash, path = rest.partition("/")
        asked, told = f"{slash}{path}", ""
        if self._relay is not None:  # RFC 9112 3.2.2
            asked, told = self._target.url, self._relay.lines
        talk.set_response_params(
            read_until_eof=True, read_timeout=self._means.timeout, read_bufsize=READ_BUFFER_BYTES, auto_decompress=True
        )
        head = self._means.heads.of(self._target.host)
        talk.transport.write(f"GET {asked} HTTP/1.1\r\nHost: {authority}\r\n{head}{told}\r\n".encode())
        self._asked_at = self._means.uplink.now()
        talk.expect(is_first=is_new)
        talk.start_timeout()
        message, body = await talk.read()
        while _is_interim(message.code):
            message, body = await talk.read()
        return message, body

    async def __aexit__(self, *_: object) -> None:
        talk = self._talk
        if talk is None:
            return
        if talk.should_close or not talk.is_connected() or not self._keep():
            # What is unread would come in for up to 30 s after a mere close under TLS (uvloop issue 471).
            talk.abort()
        else:
            self._means.connections.give_back(self._origin, talk)


class _HttpAnswer:
    """An answer, as the rest of the program sees it."""

    __slots__ = (
        "_body",
        "_encrypted",
        "_headers",
        "_is_chunked",
        "_talk",
        "_uplink",
        "content_length",
        "latency_s",
        "reason",
        "status",
    )

    def __init__(
        self,
        message: RawResponseMessage,
        body: aiohttp.StreamReader,
        talk: _Talk | None,
        uplink: Uplink,
        *,
        latency_s: float,
        encrypted: bool,
    ) -> None:
        self._body = body
        self._talk = talk
        self._uplink = uplink
        self._is_chunked = message.chunked
        self._headers = message.headers
        self._encrypted = encrypted
        self.latency_s = latency_s
        self.status = message.code
        self.reason = message.reason
        announced = message.headers.get(hdrs.CONTENT_LENGTH, "")
        self.content_length = int(announced) if announced.isdecimal() else None

    @property
    def address(self) -> str | None:
        return _peer(self._talk)[0] or None if self._talk is not None else None

    @property
    def tls_verified(self) -> bool | None:
        return self._talk.is_verified if self._talk is not None and self._encrypted else None

    def headers(self, name: str) -> list[str]:
        return self._headers.getall(name, [])

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                waits_since = self._uplink.now()
                if not (chunk := await self._body.readany()):
                    break
                yield chunk
            # A body that nothing but the end of its connection ends is only whole if that is a proper one.
            is_open = self.content_length is None and not self._is_chunked
            if is_open and self._talk is not None and self._talk.was_reset:
                raise FetchFailure(ErrorClass.BODY_RESET, "[Errno 104] Connection reset by peer")
        except aiohttp.ClientPayloadError as error:
            raise _body_failure(error, self._body.total_bytes, self.content_length) from None
        except (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as error:
            failure = _failure(error, before_headers=False, encrypted=self._encrypted)
            raise await self._uplink.judge(failure, waits_since) from None

    async def drain(self) -> None:
        if self.content_length is not None and self.content_length <= DRAIN_BYTES_MAX:
            async for _ in self.chunks():
                pass


def _peer(talk: _Talk) -> tuple[str, int]:
    """Return the address and port at the other end."""
    peer = talk.transport.get_extra_info("peername") if talk.transport is not None else None
    return (str(peer[0]), int(peer[1])) if peer else ("", 0)


def _failure(error: Exception, *, before_headers: bool, encrypted: bool) -> FetchFailure | LocalFault:
    """Return what aiohttp raised as a FetchFailure, or LocalFault where this machine is to blame."""
    if isinstance(error, aiohttp.ServerTimeoutError):
        # Python's words differ between a socket and one under TLS, and img2dataset's users know both.
        return FetchFailure(ErrorClass.READ_TIMEOUT, "The read operation timed out" if encrypted else "timed out")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return FetchFailure(ErrorClass.CONNECT_RESET, "Remote end closed connection without response")
    if isinstance(error, http_exceptions.HttpProcessingError):
        return _malformed(error.message)
    if is_local(error):
        return LocalFault(clean(str(error)))
    # The end of a connection that nothing above explains.
    was_reset = isinstance(error, OSError) and error.errno == errno.ECONNRESET
    kind = ErrorClass.CONNECT_RESET if before_headers else ErrorClass.BODY_RESET
    return FetchFailure(kind, "[Errno 104] Connection reset by peer" if was_reset else clean(str(error)))


def _malformed(words: str) -> FetchFailure:
    if "content-encoding" in words:
        return FetchFailure(ErrorClass.CONTENT_ENCODING, "compressed, and not in a way that can be undone here")
    limited = any(said in words for said in ("Got more than", "too long", "Too many headers"))
    kind = ErrorClass.HTTP_HEADER_LIMIT if limited else ErrorClass.HTTP_MALFORMED
    return FetchFailure(kind, clean(words) or "malformed answer")


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
