"""One try at the files of a shard: all of them are published, the stats file last, or none."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING, Final, Self, TypeVar

from async_img2ds.errors import NoRoom, StorageError
from async_img2ds.storage.sums import sum_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from async_img2ds.records import FileSum
    from async_img2ds.storage.base import Store

__all__ = ["AppendFile", "Attempt"]

T = TypeVar("T")

# Bytes gathered before a write goes to the I/O thread: two thread hand-overs cost about
# 0.1 ms, so one for each 30 images or so.
APPEND_BYTES: Final = 2**20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Attempt:
    """One try at writing the files of a shard: all of them are published by :meth:`commit`, or none.

    There may be others at the same shard at the same time, in any process that can reach the store.

    Work that blocks goes through :meth:`run`, one call at a time, in a thread of the attempt's own.
    """

    def __init__(self, store: Store, thread: ThreadPoolExecutor) -> None:
        """Use :meth:`open`."""
        self._store = store
        self._thread = thread
        self._staged: list[str] = []
        self._files: list[IO[bytes]] = []
        self._last: list[Callable[[], None]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, store: Store) -> AsyncIterator[Self]:
        """Yield a new attempt; what it has not committed at the end of the block is removed."""
        thread = ThreadPoolExecutor(1, "shard-io")
        attempt = cls(store.apart(), thread)
        try:
            yield attempt
        finally:
            attempt._store.give_up()
            # Queued behind a write that may still be under way in the thread;
            # done even if the wait for it is cancelled.
            discarded = asyncio.get_running_loop().run_in_executor(thread, attempt._discard)
            thread.shutdown(wait=False)
            await asyncio.shield(discarded)

    async def stage(self, name: str) -> Path:
        """Return where on local disk to write the shard's file or folder *name*."""
        self._staged.append(name)
        return await self.run(self._store.stage, name)

    async def create(self, name: str) -> IO[bytes]:
        """Open the shard's file *name* for writing; it is closed with the attempt if not before."""
        path = await self.stage(name)
        return await self.run(self._create, path)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call *function* in the attempt's thread, behind all calls made before.

        Raises:
            NoRoom: the disk is full.
            StorageError: the file system refused for another reason.

        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except OSError as error:
            kind = NoRoom if error.errno in _FULL else StorageError
            raise kind(f"cannot write: {error}") from error

    async def sums(self) -> dict[str, FileSum]:
        """Return what was written of each file and folder staged so far, by name."""
        return await self.run(lambda: {name: sum_of(self._store.staged(name)) for name in self._staged})

    async def standing(self, marker: str) -> bytes:
        """Return what is in the file *marker* if another attempt has finished the shard; nothing if none has."""
        return await self.run(self._store.content, marker)

    async def commit(self, marker: str, content: bytes, base: str | None = None) -> bytes:
        """Publish all that was staged, then the file *marker*, whose presence says that the shard is finished.

        If it is finished already, and *marker* has the sha256 *base*, all of it is replaced.

        Returns:
            What stands in *marker* now: *content*, or what another attempt has put there before; then nothing is
            published.

        """
        return await self.run(self._publish, marker, content, base)

    async def each(self, values: Iterator[T], bytes_of: Callable[[T], int]) -> AsyncIterator[T]:
        """Yield *values*, which are made in the attempt's thread, some megabytes ahead."""
        while some := await self.run(_some_of, values, bytes_of):
            for value in some:
                yield value

    def at_end(self, function: Callable[[], None]) -> None:
        """Have *function* called in the attempt's thread when it has ended, however, and nothing is staged any more."""
        self._last.append(function)

    def _create(self, path: Path) -> IO[bytes]:
        file = path.open("xb")
        self._files.append(file)
        return file

    def _publish(self, marker: str, content: bytes, base: str | None) -> bytes:
        self._store.check()
        standing = self._store.content(marker)
        if (hashlib.sha256(standing).hexdigest() if standing else None) != base:
            return standing
        # Staged before anything is published, so that whoever publishes first takes this away, too.
        self._staged.append(marker)
        self._store.stage(marker).write_bytes(content)
        if base is not None:
            self._store.replace(self._staged)
            return self._counted(marker, content)
        for name in list(self._staged):
            self._store.check()
            if name == marker and (standing := self._store.content(marker)):  # a slow upload may have let another by
                return standing
            self._store.publish(name)
            self._staged.remove(name)
        return self._counted(marker, content)

    def _counted(self, marker: str, content: bytes) -> bytes:
        """Return what stands in *marker* after *content* was published: of two that come so far, one counts."""
        return (self._store.content(marker) if self._store.is_contested else b"") or content

    def _discard(self) -> None:
        # What was staged gives its room back first, which a file does that is closed.
        for file in self._files:
            with suppress(OSError):
                file.close()
        for name in self._staged:
            with suppress(OSError):
                self._store.discard(name)
        try:
            for function in self._last:
                with suppress(OSError):
                    function()
        finally:
            self._store.release()


class AppendFile:
    """A file of an attempt that grows at its end; writes reach the disk in megabytes, from the attempt's thread."""

    def __init__(self, attempt: Attempt, file: IO[bytes]) -> None:
        """Use :meth:`open`."""
        self._attempt = attempt
        self._file = file
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._flushing = asyncio.Lock()

    @classmethod
    async def open(cls, attempt: Attempt, name: str) -> Self:
        """Begin the file *name* of *attempt*."""
        return cls(attempt, await attempt.create(name))

    async def append(self, *pieces: bytes) -> None:
        """Add *pieces* as one: nothing that others append comes between them. Waits while the disk is behind."""
        self._pieces.extend(pieces)
        self._held_bytes += sum(map(len, pieces))
        if self._held_bytes >= APPEND_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """Write what is left, and close the file."""
        await self._flush()
        await self._attempt.run(self._file.close)

    async def _flush(self) -> None:
        async with self._flushing:
            pieces, self._pieces, self._held_bytes = self._pieces, [], 0
            await self._attempt.run(self._file.writelines, pieces)


def _some_of(values: Iterator[T], bytes_of: Callable[[T], int]) -> list[T]:
    """Return the next *values*, of a megabyte or so; none at the end."""
    some: list[T] = []
    size = 0
    for value in values:
        some.append(value)
        size += bytes_of(value)
        if size >= APPEND_BYTES:
            break
    return some
