"""Room on the disk that shards are written to: nothing is fetched while there is too little of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.blocking import DaemonThread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["DiskRoom", "DiskUsage", "disk_usage", "least_room"]

logger = logging.getLogger(__name__)

# What the bodies that a process holds by default, and the images made of them, may come to before they are written.
LEAST_BYTES: Final = 256 * 2**20
# Of a small disk that would be all, so no more than this share of it.
LEAST_SHARE: Final = 0.05
LOOK_S: Final = 1.0
# Files take an entry each of those that some file systems have a number of.
LEAST_ENTRIES: Final = 10_000
# As long as for anything else that this machine is short of.
PATIENCE_S: Final = 3600.0
SAY_AGAIN_S: Final = 600.0


def least_room(whole_bytes: int) -> float:
    """Return how many bytes must be free, of a disk of *whole_bytes*, for anything to be fetched."""
    return min(LEAST_BYTES, LEAST_SHARE * whole_bytes)


class DiskUsage(Protocol):
    """The room on a disk in bytes, as :func:`shutil.disk_usage` has it."""

    @property
    def total(self) -> int:
        """All of it."""

    @property
    def free(self) -> int:
        """What is left for this user."""


@dataclass(frozen=True, slots=True)
class _Usage:
    total: int
    free: int


def disk_usage(folder: Path) -> DiskUsage:
    """Return what :func:`shutil.disk_usage` does; nothing is free where there are hardly any entries for files left."""
    usage = shutil.disk_usage(folder)
    if hasattr(os, "statvfs"):
        told = os.statvfs(folder)
        if told.f_files and told.f_favail < min(LEAST_ENTRIES, LEAST_SHARE * told.f_files):
            return _Usage(usage.total, 0)
    return usage


@dataclass(slots=True)
class DiskRoom:
    """Looks at the disk of *folder* by *usage*; while there is too little room, *pause* keeps rows from starting."""

    folder: Path
    usage: Callable[[Path], DiskUsage]
    pause: Callable[[float], None]
    _short_since: float | None = None
    _is_short: bool = False
    _said_at: float = 0.0
    _wanted: float = 0.0
    _enough: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: DaemonThread = field(default_factory=lambda: DaemonThread("room"))

    async def watch(self) -> None:
        """Look now and then; return when there has been too little room for an hour."""
        loop = asyncio.get_running_loop()
        while self._short_since is None or loop.time() - self._short_since < PATIENCE_S:
            await asyncio.sleep(LOOK_S)
            try:
                usage = await loop.run_in_executor(self._thread, self._look)
            except OSError:  # what cannot be asked is told by the next write
                self._enough.set()
            else:
                self._take_in(usage.free, least_room(usage.total), loop.time())
        self._short_since, self._wanted = None, 0.0

    def _look(self) -> DiskUsage:
        folder = self.folder
        while not folder.exists() and folder != folder.parent:  # it is made when the first shard is begun
            folder = folder.parent
        return self.usage(folder)

    async def wait_for(self, count: int) -> None:
        """Wait until there is room for *count* bytes more, some time at least: they have not been taken before."""
        self._wanted = max(self._wanted, count)
        self._enough.clear()
        await self._enough.wait()

    def _take_in(self, free: int, least: float, now: float) -> None:
        # Once it was too little there must be twice as much, or it would stop and go.
        needed = 2 * least if self._is_short else least
        # Not only for what a shard did not get, as others may be done with what there is.
        self._is_short = free < needed
        if free >= needed + self._wanted:
            if self._short_since is not None:
                logger.warning("there is room again in %s; going on", self.folder)
            self._short_since, self._wanted = None, 0.0
            self._enough.set()
            return
        if self._short_since is None:
            self._short_since, self._said_at = now, -SAY_AGAIN_S
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            logger.warning(
                "disk full: %s has %.0f MB left of the %.0f MB that are needed; %s waits for room",
                self.folder,
                free / 1e6,
                (least + self._wanted) / 1e6,
                "everything" if self._is_short else "a shard",
            )
        if self._is_short:
            self.pause(2 * LOOK_S)
