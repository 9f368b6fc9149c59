"""A server that nobody wants, which nginx cannot be: it never answers, or it resets connections; a process of its own.

``python rude_origin.py PORT HANGING RESETTING``, each some addresses with commas between, serves until it is ended.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import cast

import uvloop


def main() -> None:
    """Serve until the end of the process."""
    _, port, hanging, resetting = sys.argv
    uvloop.run(_serve(int(port), hanging.split(","), resetting.split(",")))


async def _serve(port: int, hanging: list[str], resetting: list[str]) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(asyncio.Protocol, address, port, backlog=4096) for address in hanging]
    servers += [await loop.create_server(_Resetting, address, port, backlog=4096) for address in resetting]
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.serve_forever())


class _Resetting(asyncio.Protocol):
    """A connection that is reset as soon as something comes over it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have its end be a reset."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are of no class of asyncio's
        # At once, and what is unsent is dropped.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def data_received(self, data: bytes) -> None:
        """End it."""
        if data:
            self._transport.abort()


if __name__ == "__main__":
    main()
