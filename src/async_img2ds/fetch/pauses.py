"""Pauses that hosts have asked for, known to all processes of a user on a machine: a small table in shared memory.

A host that says ``Retry-After`` says it to one process, and means all of them.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from async_img2ds.fetch.shared import open_shared, shared_path
from async_img2ds.policy.host import PAUSE_MOST_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Pauses"]

# Hosts that share an entry share their pauses: with a thousand that are paused, and there are seldom any, one in 260
# others waits for a minute at the most.
ENTRIES: Final = 2**18
ENTRY_BYTES: Final = 8


class Pauses:
    """Until when hosts are to be left alone. Use :meth:`open`."""

    def __init__(self, table: memoryview[float], clock: Callable[[], float] = time.time) -> None:
        """Read and write *table*, of Unix times; tell the time by *clock*."""
        self._table = table
        self._clock = clock

    @classmethod
    @contextmanager
    def open(cls, folder: Path | None = None) -> Iterator[Self | None]:
        """Yield what all processes share that use the same *folder*, by default that of temporary files.

        None where there is no such file to be had: then each process knows what it was told itself.
        """
        try:
            file = open_shared(shared_path("pauses", "table", folder))
            try:
                if os.fstat(file).st_size < ENTRIES * ENTRY_BYTES:
                    _fill(file, ENTRIES * ENTRY_BYTES)
                shared = mmap.mmap(file, ENTRIES * ENTRY_BYTES)
            finally:
                os.close(file)
        except OSError:
            yield None
            return
        with shared, memoryview(shared) as view, view.cast("d") as table:
            yield cls(table)

    def pause(self, host: str, seconds: float) -> None:
        """Have *host* left alone for so long."""
        until = self._clock() + min(seconds, PAUSE_MOST_S)
        if self.left_s(host) < seconds:
            self._table[_entry(host)] = until

    def left_s(self, host: str) -> float:
        """Return for how many seconds *host* is to be left alone yet.

        A pause that is too long for one was written by a clock that was wrong, and is none.
        """
        until = self._table[_entry(host)]
        if until == 0.0:
            return 0.0
        left_s = until - self._clock()
        return left_s if 0 < left_s <= PAUSE_MOST_S else 0.0


def _fill(file: int, size: int) -> None:
    """Give a file its size, and its place where that can be done: writing to a hole of a full disk kills."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _entry(host: str) -> int:
    return zlib.crc32(host.encode()) % ENTRIES
