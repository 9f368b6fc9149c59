"""A server that thinks before every answer, which nginx cannot; a process of its own.

``python slow_origin.py PORT SECONDS FOLDER ADDRESS…`` serves the files of FOLDER until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop


def main() -> None:
    """Serve until the end of the process."""
    _, port, seconds, folder, *addresses = sys.argv
    files = {f"/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
    uvloop.run(_serve(int(port), float(seconds), files, addresses))


async def _serve(port: int, seconds: float, files: dict[str, bytes], addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: _Connection(seconds, files), address, port, backlog=4096)
        for address in addresses
    ]
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.serve_forever())


class _Connection(asyncio.Protocol):
    """One connection: answers each GET in turn, *seconds* after it came."""

    def __init__(self, seconds: float, files: dict[str, bytes]) -> None:
        self._seconds = seconds
        self._files = files
        self._read = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to answer on."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        """Answer every request whose end has come."""
        *requests, self._read = (self._read + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].split(b"?")[0].decode()
            asyncio.get_running_loop().call_later(self._seconds, self._answer, path)

    def _answer(self, path: str) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        body = self._files.get(path, b"")
        status = b"200 OK" if path in self._files else b"404 Not Found"
        self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)


if __name__ == "__main__":
    main()
