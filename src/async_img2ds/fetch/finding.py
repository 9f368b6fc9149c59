"""A question about this machine that many rows have at the same time, and that is answered once for all of them."""

from __future__ import annotations

import asyncio
import math
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
        self._began = -math.inf
        self._until = -math.inf

    async def get(self, since: float) -> bool:
        """Return what was found a moment ago, but not before *since*, or is found now.

        One who gives up takes nothing from the others.
        """
        while True:
            if self._task is None or (self._task.done() and (self._clock() > self._until or self._began < since)):
                self._began = self._clock()
                self._task = asyncio.create_task(self._find())
            began = self._began
            found = await asyncio.shield(self._task)
            if began >= since:
                return found

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
