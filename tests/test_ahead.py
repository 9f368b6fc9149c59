"""Names are looked up before their rows start."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from async_img2ds.errors import ErrorClass
from async_img2ds.fetch.ahead import look_ahead
from async_img2ds.fetch.resolver import ResolveError


class Road:
    """Hosts that come next, in pieces, and what is known of them."""

    def __init__(self, *pieces: list[str]) -> None:
        self.pieces = deque(pieces)
        self.known: dict[str, str] = {}

    def names_ahead(self) -> list[str]:
        return self.pieces.popleft() if self.pieces else []

    def locate(self, name: str, address: str) -> None:
        self.known[name] = address


class Book:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def look_up(self, name: str) -> list[tuple[int, str]]:
        self.asked.append(name)
        await asyncio.sleep(0)
        if name.startswith("dead"):
            raise ResolveError(ErrorClass.DNS_NXDOMAIN, "no such name")
        return [(2, f"address of {name}"), (2, "another")]


def test_what_comes_is_looked_up_and_located() -> None:
    """One address each; a name that has none is left to its row."""
    road, book = Road(["a", "dead"], [], ["b"]), Book()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await look_ahead(road, book)

    asyncio.run(run())

    assert book.asked == ["a", "dead", "b"]
    assert road.known == {"a": "address of a", "b": "address of b"}
