"""URLs that fail in the ways of the web, each by a name; and the servers behind them that nginx cannot be made to."""

from __future__ import annotations

import http.server
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trustme

import faulty
import origin as origin_server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from pathlib import Path

    from faulty import FaultyServer
    from origin import Origin

__all__ = ["FALTERING_TIMES", "add_faults", "serve_tls", "urls"]

# How often the server that falters does so before it answers.
FALTERING_TIMES: Final = 2


def urls(origin: Origin, faults: FaultyServer, tls_port: int) -> dict[str, str | None]:
    """Return the URLs by the name of what is wrong with them."""
    return {
        # as nginx answers
        "not found": origin.url("no-such-picture.jpg"),
        "gone": origin.url("gone"),
        "busy": origin.url("busy"),
        "rate limited": origin.url("limited"),
        "no content": origin.url("nocontent"),
        "empty": origin.url("empty"),
        "web page": origin.url("page.jpg"),
        "half a JPEG": origin.url("half-rocket.jpg"),
        "half a PNG": origin.url("half-chelsea.png"),
        "half a WebP": origin.url("half-chelsea.webp"),
        "plain text": origin.url("text.jpg"),
        "SVG": origin.url("drawing.svg"),
        "reserved": origin.url("reserved/chelsea.png"),
        "reserved for others": origin.url("others/chelsea.png"),
        "moved": origin.url("moved/chelsea.png"),
        "redirect loop": origin.url("loop"),
        "redirect to ftp": origin.url("elsewhere"),
        # as only a program made for it answers
        "forbidden": faults.url("forbidden"),
        "server error": faults.url("error-500"),
        "odd status": faults.url("odd-status"),
        "own words": faults.url("own-words"),
        "partial": faults.url("partial-picture"),
        "closed": faults.url("closed"),
        "reset": faults.url("reset"),
        "reset in the body": faults.url("reset-in-body"),
        "short body": faults.url("short"),
        "unfinished chunks": faults.url("unfinished-chunks"),
        "not HTTP": faults.url("not-http"),
        "silent": faults.url("silent"),
        "stalled": faults.url("stall"),
        "redirect without location": faults.url("no-location"),
        "reserved, by name": faults.url("robots-by-name"),
        "reserved, in capitals": faults.url("robots-in-capitals"),
        "reserved, behind others": faults.url("robots-behind-others"),
        "reserved, none": faults.url("robots-none"),
        "reserved, on the way": faults.url("robots-on-the-way-to-picture"),
        # that do not get so far
        "refused": f"http://127.0.0.1:{origin_server.free_port()}/x.jpg",
        "no such host": "http://no-such-host.invalid/x.jpg",
        "untrusted": f"https://127.0.0.1:{tls_port}/chelsea.png",
        "TLS where none is": origin.url("chelsea.png").replace("http://", "https://"),
        "no URL": "not a url",
        "empty URL": "",
        "null": None,
        "no host": "http:///x.jpg",
        "no port": "http://127.0.0.1:port/x.jpg",
        "data URL": "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
        "ftp": "ftp://127.0.0.1/x.jpg",
        "file": "file:///etc/hostname",
        "control character": origin.url("chel\x01sea.png"),
        # that need a kind eye
        "space": origin.url("size-200x150 copy.jpg"),
        "space at the end": origin.url("chelsea.png") + " ",
        "not ASCII": origin.url("größe.jpg"),
        "quoted": origin.url("gr%C3%B6%C3%9Fe.jpg"),
        "fragment": origin.url("chelsea.png#top"),
        "query": origin.url("chelsea.png?a=b&c=%20"),
        "capitals": origin.url("chelsea.png").replace("http://", "HTTP://"),
        "user and password": origin.url("chelsea.png").replace("http://", "http://user:word@"),
    }


def add_faults(picture: bytes) -> None:
    """Teach the misbehaving server a few faults more; *picture* is what it sends where it sends one."""
    ok, length = b"HTTP/1.1 200 OK\r\n", b"Content-Length: %d\r\n\r\n" % len(picture)
    for name, content in {
        "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "error-500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        "odd-status": b"HTTP/1.1 599 Network Connect Timeout Error\r\nContent-Length: 0\r\n\r\n",
        "own-words": b"HTTP/1.1 404 File not here, sorry\r\nContent-Length: 0\r\n\r\n",
        "partial-picture": b"HTTP/1.1 206 Partial Content\r\n" + length + picture,
        "robots-by-name": ok + b"X-Robots-Tag: img2dataset: noai\r\n" + length + picture,
        "robots-in-capitals": ok + b"X-Robots-Tag: NoAI\r\n" + length + picture,
        "robots-behind-others": ok + b"X-Robots-Tag: nofollow, noimageai\r\n" + length + picture,
        "robots-none": ok + b"X-Robots-Tag: none\r\n" + length + picture,
        "robots-on-the-way-to-picture": (
            b"HTTP/1.1 302 Found\r\nX-Robots-Tag: noai\r\nLocation: /picture\r\nContent-Length: 0\r\n\r\n"
        ),
        "picture": ok + length + picture,
        "robots-for-me": ok + b"X-Robots-Tag: mybot: noai\r\n" + length + picture,
        "robots-noml": ok + b"X-Robots-Tag: noml\r\n" + length + picture,
    }.items():
        _add(name, content)

    async def falter(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        agents = [head for path, head in zip(server.asked, server.headers, strict=True) if path == "falters"]
        times = sum(1 for head in agents if ("Firefox" in head) == ("Firefox" in agents[-1]))
        busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        await server.send(writer, busy if times <= FALTERING_TIMES else ok + length + picture)
        return False

    faulty.FAULTS["falters"] = falter


def _add(name: str, content: bytes) -> None:
    async def fault(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await server.send(writer, content)
        return False

    faulty.FAULTS[name] = fault


@contextmanager
def serve_tls(folder: Path) -> Iterator[int]:
    """Serve *folder* over TLS, with a certificate that nobody trusts; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]  # as the server calls it

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

        def setup(self) -> None:
            # In the thread of the connection, so that a handshake that fails does not hold up the others.
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            self.request.close()  # what the server closes is the socket inside

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """Say nothing: a client that does not trust us hangs up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
