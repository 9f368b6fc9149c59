"""The samples of a shard in the order of their rows, whichever come first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_img2ds.outputs.base import ShardWriter
    from async_img2ds.records import Sample

__all__ = ["OrderedWriter"]


class OrderedWriter:
    """Hands samples on to *writer*, each when all before it have come; those that come early are held in memory.

    Those are a shard's at the most.
    """

    def __init__(self, writer: ShardWriter) -> None:
        """Begin with the first row."""
        self._writer = writer
        self._held: dict[int, Sample] = {}
        self._next = 0
        self._writing = asyncio.Lock()

    async def write(self, sample: Sample) -> None:
        """Take *sample*, and write all that have their turn with it."""
        self._held[sample.row.index] = sample
        async with self._writing:
            while (due := self._held.pop(self._next, None)) is not None:
                self._next += 1
                await self._writer.write(due)

    async def finish(self) -> None:
        """Complete the files."""
        assert not self._held, "a row has not come"
        await self._writer.finish()
