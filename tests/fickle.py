"""A name server that says another address each time: what a real one cannot be made to do."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fickle_names"]


@contextmanager
def fickle_names(*addresses: str) -> Iterator[str]:
    """Answer each question for an IPv4 address of a name with the next of *addresses*, the last one over and over.

    None is to be kept for any time. Yields its own address and port.
    """
    turns: dict[bytes, Iterator[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while len(came := server.recvfrom(1500)) and came[0]:
                query, back = came
                end = query.index(b"\0", 12) + 5
                found = b""
                if query[end - 4 : end] == b"\0\1\0\1":  # A IN
                    fresh = itertools.chain(addresses, itertools.repeat(addresses[-1]))
                    address = next(turns.setdefault(query[12:end].lower(), fresh))
                    found = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address)
                head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(found), 0, 0)
                server.sendto(head + query[12:end] + found, back)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.sendto(b"", server.getsockname())
            thread.join()
