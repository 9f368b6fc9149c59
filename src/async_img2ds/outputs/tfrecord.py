"""tfrecord: one TFRecord file a shard, a tf.train.Example for each image, beside it the metadata table.

Written without TensorFlow. A file is a row of records: the length of the data, 8 bytes; its checksum, 4 bytes; the
data; and its checksum. All numbers are little-endian; checksums are CRC-32C, masked, because a CRC of data that
contains CRCs is weak.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import google_crc32c

from async_img2ds.outputs.example import ExampleEncoder
from async_img2ds.outputs.parquet import SideTable
from async_img2ds.storage import AppendFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.outputs.base import Output
    from async_img2ds.records import Sample

__all__ = ["DamagedRecord", "TFRecordWriter", "open_tfrecord", "record", "records_in"]

# More than any image and its metadata; a damaged length may be anything.
_RECORD_BYTES_MAX: Final = 2**30


async def open_tfrecord(output: Output) -> TFRecordWriter:
    """Return a writer of ``NNNNN.tfrecord`` and ``NNNNN.parquet``."""
    file = await AppendFile.open(output.attempt, f"{output.stem}.tfrecord")
    return TFRecordWriter(output, file, await SideTable.open(output), ExampleEncoder(output.extension, output.schema))


@dataclass(frozen=True, slots=True)
class TFRecordWriter:
    """Appends the image, caption and metadata of each success as one record."""

    output: Output
    file: AppendFile
    table: SideTable
    encoder: ExampleEncoder

    async def write(self, sample: Sample) -> None:
        """Add *sample* to the table and, if it has an image, to the records."""
        self.table.add(sample)
        if sample.encoded is None:
            return
        caption = self.output.caption(sample) if self.output.captions else None
        example = self.encoder.encode(sample.encoded.image, self.output.values(sample), caption)
        await self.file.append(*record(*example))

    async def finish(self) -> None:
        """Write what is left, and the table."""
        await self.file.finish()
        await self.table.finish()


def record(*pieces: bytes) -> tuple[bytes, ...]:
    """Return the record whose data is *pieces*, in pieces, so that a large one is not copied."""
    length = struct.pack("<Q", sum(map(len, pieces)))
    checksum = 0
    for piece in pieces:
        checksum = google_crc32c.extend(checksum, piece)
    return length + _masked(google_crc32c.value(length)), *pieces, _masked(checksum)


class DamagedRecord(ValueError):
    """What stands at a place of a file of records is no record."""


class _Readable(Protocol):
    def read(self, count: int, /) -> bytes:
        """Return the next *count* bytes, fewer at the end."""


def records_in(file: _Readable) -> Iterator[bytes]:
    """Yield the data of the records of *file*, whose checksums are right.

    Raises:
        DamagedRecord: one is cut off or damaged; what follows is not read.

    """
    number = 0
    while head := file.read(12):
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0  # noqa: PLR2004  a length and its checksum
        data = file.read(length) if length <= _RECORD_BYTES_MAX else b""
        if b"".join((head, data, file.read(4))) != b"".join(record(data)):
            raise DamagedRecord(f"is cut off or damaged at its record {number}")
        yield data
        number += 1


def _masked(checksum: int) -> bytes:
    rotated = checksum >> 15 | checksum << 17 & 0xFFFFFFFF
    return struct.pack("<I", rotated + 0xA282EAD8 & 0xFFFFFFFF)
