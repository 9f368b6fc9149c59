"""Rows in files on local disk, written once, read once, and removed as they are read."""

from __future__ import annotations

import errno
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from async_img2ds.errors import NoRoom, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Disk", "RowFile", "RowWriter"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Fast enough not to be felt, and URLs take half of the room.
_COMPRESSION: Final = "lz4"
_PIECE_BYTES: Final = 2**23


@dataclass(slots=True)
class Disk:
    """What lies in *folder*, in bytes: now, and at the most so far."""

    folder: Path
    bytes_now: int = 0
    bytes_most: int = 0
    _files: int = 0

    def count(self, size: int) -> None:
        """Take in that *size* bytes more lie there, or fewer."""
        self.bytes_now += size
        self.bytes_most = max(self.bytes_most, self.bytes_now)

    def new_path(self) -> Path:
        """Return where to write another file."""
        self._files += 1
        return self.folder / f"{self._files:06d}.arrows"

    def check(self, expected: float) -> None:
        """See that there is room for all that is *expected* to lie there.

        Raises:
            NoRoom: there is not.

        """
        with self.used():
            free = shutil.disk_usage(self.folder).free
        if expected - self.bytes_now > free:
            raise NoRoom(
                f"temp_folder: rearranging this list takes about {expected / 1e9:,.1f} GB of temporary files, and "
                f"the disk of {self.folder.parent} has room for {free / 1e9:,.1f} GB more; {_ELSEWHERE}"
            )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Tell what goes wrong on this disk during the block.

        Raises:
            NoRoom: it is full.
            StorageError: it refused for another reason.

        """
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom(f"temp_folder: the disk of {self.folder.parent} is full; {_ELSEWHERE}") from error
            raise StorageError(f"temp_folder: cannot use {self.folder.parent}: {error}") from error


_ELSEWHERE: Final = "name a folder on a larger one: --temp_folder FOLDER"


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows: how many, and how many bytes they have in memory."""

    disk: Disk
    path: Path
    rows: int
    bytes: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield its rows in the order they were written, and remove it."""
        with self.disk.used():
            size = self.path.stat().st_size
            with pa.OSFile(str(self.path), "rb") as source, pa.ipc.open_stream(source) as reader:
                yield from reader
            self.path.unlink()
        self.disk.count(-size)


@dataclass(slots=True)
class RowWriter:
    """Writes a file of rows on *disk*."""

    disk: Disk
    schema: pa.Schema
    rows: int = 0
    bytes: int = 0
    _path: Path | None = None
    _written: int = 0
    _open: ExitStack = field(default_factory=ExitStack)
    _sink: pa.OSFile = None
    _stream: pa.RecordBatchWriter = None

    def write(self, rows: pa.Table) -> None:
        """Append *rows*."""
        with self.disk.used():
            if self._path is None:
                self._path = self.disk.new_path()
                options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
                self._sink = self._open.enter_context(pa.OSFile(str(self._path), "wb"))
                self._stream = self._open.enter_context(pa.ipc.new_stream(self._sink, self.schema, options=options))
            # In pieces, one of which is in memory when they are read.
            pieces = max(1, rows.nbytes // _PIECE_BYTES)
            self._stream.write_table(rows, max_chunksize=max(1, rows.num_rows // pieces))
            self._count(self._sink.tell())
        self.rows += rows.num_rows
        self.bytes += rows.nbytes

    def finish(self) -> RowFile | None:
        """Return what was written; nothing if that was nothing."""
        if self._path is None:
            return None
        with self.disk.used():
            self._open.close()
            self._count(self._path.stat().st_size)
        return RowFile(self.disk, self._path, self.rows, self.bytes)

    def _count(self, written: int) -> None:
        self.disk.count(written - self._written)
        self._written = written
