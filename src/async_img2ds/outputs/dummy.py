"""dummy: nothing but the stats file, to measure everything before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_img2ds.outputs.base import Output
    from async_img2ds.records import Sample

__all__ = ["DummyWriter", "open_dummy"]


async def open_dummy(_output: Output) -> DummyWriter:
    """Return a writer that writes nothing."""
    return DummyWriter()


class DummyWriter:
    """Takes samples and forgets them."""

    async def write(self, sample: Sample) -> None:
        """Forget *sample*."""

    async def finish(self) -> None:
        """Have nothing to complete."""
