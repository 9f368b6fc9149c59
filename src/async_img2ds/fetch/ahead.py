"""Look names up before their rows start, so that none waits for it, and tell the pacer who shares an address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.fetch.resolver import ResolveError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Names", "look_ahead"]

# Now and then is enough: at a thousand rows a second, fifty new ones have come closer.
EVERY_S: Final = 0.05


class Ahead(Protocol):
    """Whoever knows which hosts come next."""

    def names_ahead(self) -> list[str]:
        """Return the names of hosts that come next, each once."""

    def locate(self, name: str, address: str) -> None:
        """Take note of the address of a host."""


class Names(Protocol):
    """Whoever knows addresses."""

    async def look_up(self, name: str) -> Sequence[tuple[int, str]]:
        """Return the addresses of *name* as (family, literal).

        Raises:
            ResolveError: it has none, or nobody could be asked.

        """


async def look_ahead(ahead: Ahead, names: Names) -> None:
    """Look up what comes next, until cancelled. A look-up that fails is left to the row that needs it."""

    async def look_up(name: str) -> None:
        try:
            [(_, address), *_] = await names.look_up(name)
        except (ResolveError, ValueError):
            return
        ahead.locate(name, address)

    async with asyncio.TaskGroup() as tasks:
        while True:
            for name in ahead.names_ahead():
                tasks.create_task(look_up(name))
            await asyncio.sleep(EVERY_S)
