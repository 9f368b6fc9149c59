"""A file of a list, opened: unpacked as it is read, and refused if its first bytes belie its format."""

from __future__ import annotations

import codecs
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ListFile", "Stream", "opened", "opened_indexed", "opened_text", "signature"]

# Enough for every signature below.
HEAD_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ListFile:
    """One file of a URL list.

    Attributes:
        fs: the fsspec file system it is in, and
        path: its path there.
        name: what to call it in messages.
        size: its size in bytes, None if that is not known.
        compression: what the option ``input_format`` says it is compressed by, if anything.
        found: whether a folder or a pattern led to it, rather than its own name.

    """

    fs: Any
    path: str
    name: str
    size: int | None
    compression: str | None = None
    found: bool = False

    @property
    def folder(self) -> str:
        """The path of the folder it is in."""
        return self.path.rpartition("/")[0]


@contextmanager
def opened(file: ListFile) -> Iterator[Stream]:
    """Open *file* as it is; it can be read by position where its file system can."""
    with _as_os_error():
        handle = file.fs.open(file.path, "rb")
    stream = Stream(handle)
    try:
        yield stream
    finally:
        stream.close()


@contextmanager
def opened_text(file: ListFile) -> Iterator[Stream]:
    """Open *file* to read its text from the beginning: unpacked if need be, and without a byte order mark.

    Raises:
        ValueError: it is no text, or not compressed as its format says.

    """
    with opened(file) as packed:
        found = signature(packed.head())
        if file.compression and found != file.compression:
            raise ValueError(_not_compressed(file.compression, found, packed.head()))
        if found in ("gzip", "zstd"):
            with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), found) as unpacked:
                yield _checked_text(Stream(unpacked, packed))
        else:
            yield _checked_text(packed)


@contextmanager
def opened_indexed(file: ListFile, kind: str) -> Iterator[Stream]:
    """Open *file*, which should be a *kind* of file that is read by position.

    Raises:
        ValueError: it is something else.

    """
    with opened(file) as stream:
        found = signature(stream.head())
        if found in ("gzip", "zstd"):
            raise ValueError(f"it is compressed by {found}, but must be read by position: unpack it")
        if found not in (kind, None):
            raise ValueError(ADVICE[found])
        stream.seek(0)
        yield stream


class Stream:
    """A file whose first bytes can be looked at, and that tells how much of it was read.

    What goes wrong in a file system is an OSError, whatever library raises it.
    """

    def __init__(self, file: Any, packed: Stream | None = None) -> None:  # noqa: ANN401  files have no common type
        """Read *file*, which is unpacked from *packed* if that is given."""
        self._file = file
        self._packed = packed
        self._ahead = b""
        self._bytes_read = 0

    @property
    def bytes_read(self) -> int:
        """How many bytes of the file, as it lies there, were read."""
        return self._bytes_read if self._packed is None else self._packed.bytes_read

    @property
    def closed(self) -> bool:
        """Whether it can no longer be read."""
        return bool(self._file.closed)

    def head(self) -> bytes:
        """Return the bytes that will be read next: sixteen, or all if they are fewer."""
        self._ahead += self._read(HEAD_BYTES - len(self._ahead))
        return self._ahead

    def skip(self, size: int) -> None:
        """Leave out *size* bytes of those that :meth:`head` returned."""
        self._ahead = self._ahead[size:]

    def read(self, size: int = -1) -> bytes:
        """Return the next *size* bytes; fewer only at the end of the file."""
        if size is None or size < 0:
            ahead, self._ahead = self._ahead, b""
            return ahead + self._read(-1)
        ahead, self._ahead = self._ahead[:size], self._ahead[size:]
        return ahead + self._read(size - len(ahead)) if ahead else self._read(size)

    def _read(self, size: int) -> bytes:
        pieces = []
        with _as_os_error():
            while size and (piece := self._file.read(size)):  # an HTTP answer comes in pieces
                pieces.append(piece)
                self._bytes_read += len(piece)
                size = size - len(piece) if size > 0 else size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place in the file."""
        self._ahead = b""
        with _as_os_error():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the place of what is read next."""
        return int(self._file.tell()) - len(self._ahead)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Make one kind of error of what the libraries behind fsspec raise, each its own."""
    try:
        yield
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def signature(head: bytes) -> str | None:
    """Return what a file that begins with *head* is, None if it may be text."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] in _SKIPPED:  # a frame to skip, as pzstd writes first
        return "zstd"
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":  # whose first three letters alone might be text
        return "bzip2"
    return next((kind for begins, kind in _SIGNATURES if head.startswith(begins)), None)


_SKIPPED: Final = range(0x50, 0x60)
_SIGNATURES: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),  # an IPC stream
    (b"FEA1", "feather-1"),
    (b"PK\x03\x04", "zip"),
    (b"\xfd7zXZ\0", "xz"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What to do about a file that is none of the format it was said to be.
ADVICE: Final = {
    "gzip": "it is compressed twice, by gzip: unpack it once with gunzip",
    "zstd": "it is compressed twice, by zstd: unpack it once with unzstd",
    "parquet": "it is a parquet file: --input_format parquet",
    "arrow": "it is an Arrow file: --input_format arrow",
    "feather-1": "it is a Feather file of version 1, which Arrow itself gives up: write it again with "
    "pandas.read_feather(…).to_parquet(…), then --input_format parquet",
    "zip": "it is a zip archive: name a file in it, as zip://urls.txt::archive.zip",
    "bzip2": "it is compressed by bzip2: unpack it with bunzip2, or compress it by gzip or zstd",
    "xz": "it is compressed by xz: unpack it with unxz, or compress it by gzip or zstd",
    "utf-16": "its text is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
}


def _checked_text(stream: Stream) -> Stream:
    head = stream.head()
    if found := signature(head):
        raise ValueError(ADVICE[found])
    if head.startswith(codecs.BOM_UTF8):
        stream.skip(len(codecs.BOM_UTF8))
    return stream


def _not_compressed(expected: str, found: str | None, head: bytes) -> str:
    if not head:
        return f"it is empty, and not even compressed by {expected}"
    if found in ("gzip", "zstd"):
        ending = "gz" if found == "gzip" else "zst"
        return f"it is compressed by {found}, not by {expected}: let --input_format end in .{ending}"
    if found:
        return ADVICE[found]
    return f"it is not compressed by {expected}: leave the last part of --input_format out"
