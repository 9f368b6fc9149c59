"""A page that is served to this machine alone, and made anew while somebody looks at it.

At the loopback address, for requests that name it: a site that has its name point there (DNS rebinding) is refused, and
so are other users of the machine, who do not know the part of the address that is drawn at random.
"""

from __future__ import annotations

import secrets
import threading
import time
import webbrowser
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import AsyncImg2dsError, OptionsError
from async_img2ds.page.rendering import policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.options import ReportOptions
    from async_img2ds.page.contents import Page

__all__ = ["Live", "Server", "serve"]

LOOPBACK: Final = "127.0.0.1"
# What a browser on this machine calls it; the port may be another one, if it comes through an SSH tunnel.
NAMES: Final = frozenset({LOOPBACK, "localhost"})
# A page is made for as long as it took to make the last, so many times over, at the earliest: a fifth of a core.
REST: Final = 4
SILENCE_S: Final = 30


@dataclass(slots=True)
class Live:
    """A page that *make* returns, and its *version*, which is another one each time it was made anew."""

    make: Callable[[], Page]
    every_s: float
    page: Page
    took_s: float = 0.0
    version: int = 1
    _at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> int:
        """Make the page anew in a thread of its own, if it is time for that; return the version that there is."""
        if time.monotonic() - self._at >= max(self.every_s, REST * self.took_s) and self._lock.acquire(blocking=False):
            threading.Thread(target=self._make, name="page", daemon=True).start()
        return self.version

    def _make(self) -> None:
        try:
            began = time.monotonic()
            with suppress(AsyncImg2dsError):  # the folder cannot be read just now; what there is stays
                self.page = self.make()
                self.version += 1
            self._at = time.monotonic()
            self.took_s = self._at - began
        finally:
            self._lock.release()


class Server(ThreadingHTTPServer):
    """Serves what *live* has at an address of which a part is drawn at random."""

    daemon_threads = True

    def __init__(self, port: int, live: Live) -> None:
        """Listen at *port* of the loopback address."""
        super().__init__((LOOPBACK, port), _Handler)
        self.live = live
        self.path = f"/{secrets.token_urlsafe(12)}/"
        self.address = f"http://{LOOPBACK}:{self.server_address[1]}{self.path}"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  as the base class has them
        """Say nothing of browsers that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SILENCE_S
    server_version = "aimg2ds"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page, or its version."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host") or ""
        path = self.path.partition("?")[0]
        if host.lower() not in NAMES:
            self._answer(HTTPStatus.FORBIDDEN, b"this is served to this machine alone, by its own name")
        elif path == self.server.path:
            self._answer(HTTPStatus.OK, self.server.live.page.content, "text/html")
        elif path == f"{self.server.path}version":
            self._answer(HTTPStatus.OK, str(self.server.live.refresh()).encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"nothing is here; take the whole address that was printed")

    do_HEAD = do_GET  # noqa: N815  named by the method

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": f"{policy(live=True)}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401  as the base class has them
        """Print no line for each request."""


def serve(options: ReportOptions, told: Callable[[str], None], make: Callable[[str], Page]) -> tuple[str, Page]:
    """Serve what *make* returns until Ctrl-C, and *told* where; return the address and the last page.

    Raises:
        OptionsError: the port is taken.

    """
    began = time.monotonic()
    live = Live(lambda: make("none"), options.every_s, make(options.progress))
    live.took_s = time.monotonic() - began
    try:
        server = Server(options.port, live)
    except OSError as error:
        raise OptionsError(
            f"port: {options.port} cannot be listened at ({error.strerror or error}); "
            "choose another --port, or 0 for any"
        ) from error
    with server, suppress(KeyboardInterrupt):
        told(server.address)
        if options.open:
            webbrowser.open(server.address)
        server.serve_forever(poll_interval=0.2)
    return server.address, live.page
