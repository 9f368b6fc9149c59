"""A server that does what no real one can be made to: each path is a fault, written as the bytes that are sent."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_OK = b"HTTP/1.1 200 OK\r\n"
# What was under way together comes within it.
SAME_MOMENT_S = 0.2
JPEG = b"\xff\xd8\xff" + bytes(97)


class FaultyServer:
    """Listens on loopback until the end of :func:`serve`; knows what it was asked for and what it sent."""

    def __init__(self) -> None:
        """Count from nothing."""
        self.port = 0
        self.asked: list[str] = []
        self.headers: list[str] = []
        self.asked_at: list[float] = []
        self.refused_at: list[float] = []
        self.sent_bytes = 0
        self.hang_ups = 0

    def url(self, fault: str) -> str:
        """Return the URL of a fault."""
        return f"http://127.0.0.1:{self.port}/{fault}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, as often as its fault allows."""
        try:
            # Cancelled is what is under way when the server ends; asyncio's streams would complain of it.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    path = head.split(" ")[1].lstrip("/").partition("?")[0]
                    self.asked.append(path)
                    self.asked_at.append(time.monotonic())
                    self.headers.append(head)
                    if not await FAULTS[path](self, reader, writer):
                        break
        finally:
            writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def send(self, writer: asyncio.StreamWriter, content: bytes) -> None:
        """Send and count."""
        try:
            writer.write(content)
            await writer.drain()
        except ConnectionError:
            self.hang_ups += 1
            raise
        self.sent_bytes += len(content)


FAULTS: dict[str, Callable[[FaultyServer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]] = {}


def _says(name: str, content: bytes, *, stays: bool = False) -> None:
    async def fault(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await server.send(writer, content)
        return stays

    FAULTS[name] = fault


_says("fine", _OK + b"Content-Length: 100\r\n\r\n" + JPEG, stays=True)
_says("short", _OK + b"Content-Length: 1000\r\n\r\n" + JPEG)
_says("unfinished-chunks", _OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + JPEG + b"\r\n")
_says("bad-chunks", _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + JPEG)
_says("not-http", b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
_says("huge-header", _OK + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n")
_says("announced-huge", _OK + b"Content-Length: 107374182400\r\n\r\n" + JPEG)
_says("two-lengths", _OK + b"Content-Length: 100\r\nContent-Length: 90\r\n\r\n" + JPEG)
_says("bad-gzip", _OK + b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n" + JPEG)
_says("moved-to-silence", b"HTTP/1.1 302 Found\r\nLocation: /silent\r\nContent-Length: 0\r\n\r\n", stays=True)
_says("no-location", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", stays=True)
_says("partial", b"HTTP/1.1 206 Partial Content\r\nContent-Length: 100\r\n\r\n" + JPEG, stays=True)
_says("odd-header", _OK + b"X-Odd: \xff\xfe\r\nContent-Length: 100\r\n\r\n" + JPEG, stays=True)
_says("two-robots", _OK + b"X-Robots-Tag: all\r\nX-Robots-Tag: NoAI\r\nContent-Length: 50000000\r\n\r\n" + JPEG)
_says(
    "robots-on-the-way",
    b"HTTP/1.1 302 Found\r\nX-Robots-Tag: noai\r\nLocation: /fine\r\nContent-Length: 0\r\n\r\n",
    stays=True,
)
_says("short-404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\ngone")
_says("reserved-503", b"HTTP/1.1 503 Busy\r\nX-Robots-Tag: noindex\r\nContent-Length: 0\r\n\r\n", stays=True)
_says("surplus", _OK + b"Content-Length: 100\r\n\r\n" + JPEG + b"  <!-- made in 0.1 s -->\n", stays=True)
_says("two-answers", 2 * (_OK + b"Content-Length: 100\r\n\r\n" + JPEG), stays=True)
_says(
    "eight-hints", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 8 + _OK + b"Content-Length: 100\r\n\r\n" + JPEG
)
_says("nine-hints", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9 + _OK + b"Content-Length: 100\r\n\r\n" + JPEG)
_says("many-headers", _OK + b"X: x\r\n" * 1000 + b"Content-Length: 100\r\n\r\n" + JPEG)
_says("brotli", _OK + b"Content-Encoding: br\r\nContent-Length: 100\r\n\r\n" + JPEG)
_says("compress", _OK + b"Content-Encoding: compress\r\nContent-Length: 100\r\n\r\n" + bytes(100))
_says("lying-coding", _OK + b"Content-Encoding: none\r\nContent-Length: 100\r\n\r\n" + JPEG)
_says("cookies", _OK + b"Set-Cookie: a=b\r\nContent-Length: 100\r\n\r\n" + JPEG, stays=True)


async def _close(_server: FaultyServer, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
    return False


async def _reset(_server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.transport.abort()
    return False


async def _reset_in_body(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Content-Length: 1000000\r\n\r\n" + JPEG)
    await asyncio.sleep(0.05)  # let it be read: a reset overtakes what is still in the kernel
    handle: socket.socket = writer.get_extra_info("socket")
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by RST
    writer.transport.abort()
    return False


async def _silent(_server: FaultyServer, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
    await reader.read(1)  # until the client hangs up
    return False


async def _stall(server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Content-Length: 1000\r\n\r\n" + JPEG)
    await reader.read(1)
    return False


async def _stalled_404(server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\ngone")
    await reader.read(1)
    return False


async def _late_bad_chunk(server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + JPEG + b"\r\n")
    await asyncio.sleep(0.05)
    await server.send(writer, b"zz\r\n")
    await reader.read(1)
    return False


async def _late_surplus(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Content-Length: 100\r\n\r\n" + JPEG[:50])
    await asyncio.sleep(0.05)
    await server.send(writer, JPEG[50:] + b"and more")
    return True


async def _answers_twice(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Content-Length: 100\r\n\r\n" + JPEG)
    await asyncio.sleep(0.02)
    await server.send(writer, _OK + b"Content-Length: 3\r\n\r\nsly")
    return True


async def _endless(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await server.send(writer, b"10000\r\n" + bytes(65_536) + b"\r\n")


async def _drip(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Content-Length: 1000000\r\n\r\n")
    while True:
        await server.send(writer, b"x")
        await asyncio.sleep(0.05)


async def _half_closes(server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send all of a body and no more, ever, but listen on: as S3 does."""
    await server.send(writer, _OK + b"Content-Length: 2000000\r\n\r\n" + JPEG + bytes(1_999_900))
    writer.write_eof()
    await reader.read(1)
    return False


async def _endless_page(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, _OK + b"Content-Type: image/jpeg\r\n\r\n<!DOCTYPE html>")
    while True:
        await server.send(writer, bytes(65_536))


async def _pausing(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Ask for two seconds of patience at the fifth request, and at those that come with it."""
    if server.asked.count("pausing") >= 5 and (
        not server.refused_at or time.monotonic() < server.refused_at[0] + SAME_MOMENT_S
    ):
        server.refused_at.append(time.monotonic())
        await server.send(writer, b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")
    else:
        await server.send(writer, _OK + b"Content-Length: 100\r\n\r\n" + JPEG)
    return True


async def _heals(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    times = server.asked.count("heals")
    words = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    await server.send(writer, words if times <= 2 else _OK + b"Content-Length: 100\r\n\r\n" + JPEG)
    return True


FAULTS |= {
    "half-closes": _half_closes,
    "endless-page": _endless_page,
    "pausing": _pausing,
    "closed": _close,
    "reset": _reset,
    "reset-in-body": _reset_in_body,
    "silent": _silent,
    "stall": _stall,
    "stalled-404": _stalled_404,
    "endless": _endless,
    "late-bad-chunk": _late_bad_chunk,
    "late-surplus": _late_surplus,
    "answers-twice": _answers_twice,
    "drip": _drip,
    "heals": _heals,
}


@contextmanager
def serve() -> Iterator[FaultyServer]:
    """Run the server in a thread of its own until the end of the block."""
    faulty = FaultyServer()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stopping = asyncio.Event()

    async def listen() -> None:
        server = await asyncio.start_server(faulty.answer, "127.0.0.1", 0)
        faulty.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stopping.wait()
        server.close()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        for task in answering:
            task.cancel()
        if answering:
            await asyncio.wait(answering, timeout=1)
        await asyncio.sleep(0)  # what they have closed is closed then

    thread = threading.Thread(target=loop.run_until_complete, args=(listen(),))
    thread.start()
    ready.wait()
    try:
        yield faulty
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
