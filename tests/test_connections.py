"""Connections: kept for the next request, and not for longer than they are of use."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.fetch.client import HttpClient
from async_img2ds.fetch.connections import Connections, Origin, Tls, Ways
from async_img2ds.fetch.resolver import Resolver
from async_img2ds.nets import parse_net
from async_img2ds.options import FetchOptions
from async_img2ds.policy.urls import AddressPolicy, Target, parse
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

LOOPBACK = AddressPolicy([parse_net("127.0.0.0/8"), parse_net("::1/128")])
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage"


def run(coroutine: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(asyncio.wait_for(coroutine, 30))


class Server:
    """Counts the connections made to it, those that were ended, and the requests on each."""

    def __init__(self, *, answers_each: int = 1000, answer: bytes = ANSWER, afterwards: bytes = b"") -> None:
        self.answers_each = answers_each
        self.afterwards = afterwards
        self.answer = answer
        self.port = 0
        self.requests: list[int] = []
        self.ended = asyncio.Semaphore(0)

    def target(self) -> Target:
        return parse(f"http://127.0.0.1:{self.port}/x.jpg")

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = len(self.requests)
        self.requests.append(0)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if self.requests[mine] == self.answers_each:
                    break
                self.requests[mine] += 1
                writer.write(self.answer)
                if self.afterwards:
                    await asyncio.sleep(0.01)
                    writer.write(self.afterwards)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.release()
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server, patience_s: float = 2) -> AsyncIterator[HttpClient]:
    """Yield a client beside a server that runs."""
    options = FetchOptions(timeout=patience_s)
    async with await asyncio.start_server(server.talk, "127.0.0.1", 0) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        async with HttpClient.open(options, LOOPBACK, "test") as client:
            yield client


async def fetch(client: HttpClient, target: Target) -> bytes:
    async with client.get(target) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


def test_connection_serves_the_next_request() -> None:
    """Requests one after the other share a connection."""

    async def check() -> None:
        server = Server()
        async with serving(server) as client:
            bodies = [await fetch(client, server.target()) for _ in range(3)]

            assert bodies == [b"image"] * 3
            assert server.requests == [3]

    run(check())


def test_connection_whose_body_is_left_unread_serves_no_more() -> None:
    """What was not read would be taken for the next answer."""

    async def check() -> None:
        server = Server(answer=ANSWER.replace(b"5", b"50"))
        async with serving(server) as client:
            for _ in range(2):
                async with client.get(server.target()) as answer:
                    assert answer.content_length == 50
                await server.ended.acquire()

            assert server.requests == [1, 1]

    run(check())


def test_server_that_ends_an_idle_connection_as_it_is_taken_is_asked_again() -> None:
    """No failure and no attempt: the row never knows."""

    async def check() -> None:
        server = Server(answers_each=1)
        async with serving(server) as client:
            bodies = [await fetch(client, server.target()) for _ in range(3)]

            assert bodies == [b"image"] * 3
            assert server.requests == [1, 1, 1]

    run(check())


def test_server_that_ends_every_new_connection_fails() -> None:
    """Asking again is for connections that have served before."""

    async def check() -> None:
        server = Server(answers_each=0)
        async with serving(server) as client:
            with pytest.raises(FetchFailure) as caught:
                await fetch(client, server.target())

        assert caught.value.error_class is ErrorClass.CONNECT_RESET
        assert server.requests == [0]

    run(check())


@pytest.mark.parametrize("length", [1, 20, len(ANSWER)])
def test_what_nobody_asked_for_is_nobodys_answer(length: int) -> None:
    """A server that goes on talking over an idle connection does not answer the next request with it, or begin to."""

    async def check() -> None:
        server = Server(afterwards=ANSWER.replace(b"image", b"stale")[:length])
        async with serving(server) as client:
            assert await fetch(client, server.target()) == b"image"
            await asyncio.sleep(0.05)

            assert await fetch(client, server.target()) == b"image"
            assert len(server.requests) == 2

    run(check())


def test_body_that_is_read_late_leaves_no_time_out_behind() -> None:
    """Reading was paused when it ended; the connection may serve again or not, but nobody fails over it."""

    async def check() -> None:
        big = b"x" * 600_000
        server = Server(answer=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(big), big))
        async with serving(server, patience_s=0.3) as client:
            async with client.get(server.target()) as answer:
                await asyncio.sleep(0.1)
                assert len(b"".join([chunk async for chunk in answer.chunks()])) == len(big)
            await asyncio.sleep(0.6)

            assert await fetch(client, server.target()) == big

    run(check())


class Line(asyncio.Protocol):
    """Says nothing."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    should_close = False
    is_idle = False
    is_verified = False

    def is_connected(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def has_come(self) -> bool:
        return False

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


@asynccontextmanager
async def connections(server: Server, *, idle_s: float = 60, idle_max: int = 10) -> AsyncIterator[Connections[Line]]:
    async with (
        await asyncio.start_server(server.talk, "127.0.0.1", 0) as listener,
        Resolver.open() as resolver,
    ):
        server.port = listener.sockets[0].getsockname()[1]
        lines: list[Line] = []

        def line() -> Line:
            lines.append(Line())
            return lines[-1]

        opened: Connections[Line] = Connections(
            line, resolver, Ways(LOOPBACK), Tls(ssl.create_default_context()), 2, idle_s=idle_s, idle_max=idle_max
        )
        try:
            yield opened
        finally:
            opened.close()
            for each in lines:
                each.abort()  # those that were taken


def origin(server: Server) -> Origin:
    return Origin("http", "127.0.0.1", server.port)


def test_idle_connection_is_dropped_after_its_time() -> None:
    """Nobody has asked for it: the server gets its end, and we the descriptor."""

    async def check() -> None:
        server = Server()
        async with connections(server, idle_s=0.05) as opened:
            for _ in range(3):
                opened.give_back(origin(server), await opened.open(server.target()))
            for _ in range(3):
                await server.ended.acquire()

            assert opened.take_idle(origin(server)) is None

    run(check())


def test_beyond_the_most_the_longest_idle_goes() -> None:
    """Ten thousand hosts are not ten thousand open connections."""

    async def check() -> None:
        server = Server()
        async with connections(server, idle_max=2) as opened:
            lines = [await opened.open(server.target()) for _ in range(3)]
            for line in lines:
                opened.give_back(origin(server), line)
            await server.ended.acquire()

            assert [opened.take_idle(origin(server)) for _ in range(3)] == [lines[2], lines[1], None]

    run(check())


def test_connection_that_the_server_has_ended_is_not_handed_out() -> None:
    """Of several that are idle the next one that stands is taken."""

    async def check() -> None:
        server = Server()
        async with connections(server) as opened:
            first, second = [await opened.open(server.target()) for _ in range(2)]
            opened.give_back(origin(server), first)
            opened.give_back(origin(server), second)
            second.abort()

            assert opened.take_idle(origin(server)) is first

    run(check())


def test_origins_do_not_share_connections() -> None:
    """A name is not its neighbour on the same address."""

    async def check() -> None:
        server = Server()
        async with connections(server) as opened:
            opened.give_back(origin(server), await opened.open(server.target()))

            assert opened.take_idle(Origin("https", "127.0.0.1", server.port)) is None
            assert opened.take_idle(Origin("http", "localhost", server.port)) is None

    run(check())
