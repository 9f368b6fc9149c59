"""A question about this machine that many rows have at the same time, and that is answered once for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Finding"]


class Finding:
    """Finds out by *find_out* when asked, at most once at a time; what was found holds for *fresh_s* seconds."""

    def __init__(
        self, find_out: Callable[[], Coroutine[None, None, bool]], fresh_s: float, clock: Callable[[], float]
    ) -> None:
        """Know nothing yet; tell the time by *clock*, in seconds."""
        self._find_out = find_out
        self._fresh_s = fresh_s
        self._clock = clock
        self._task: asyncio.Task[bool] | None = None
        self._until = -1.0

    async def get(self) -> bool:
        """Return what was found a moment ago, or is found now; one who gives up takes nothing from the others."""
        if self._task is None or (self._task.done() and self._clock() > self._until):
            self._task = asyncio.create_task(self._find())
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _find(self) -> bool:
        try:
            return await self._find_out()
        finally:
            self._until = self._clock() + self._fresh_s
