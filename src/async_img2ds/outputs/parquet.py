"""The metadata table that every format has beside it, and the format in which that table holds the images, too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from async_img2ds.outputs.huggingface import with_image_feature
from async_img2ds.policy.schema import SampleTable

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.outputs.base import Output
    from async_img2ds.records import Sample
    from async_img2ds.storage import Attempt

__all__ = ["ParquetWriter", "SideTable", "open_parquet"]

# A row group with images: large enough to read fast, and small beside what a process holds anyway. Of its open shards
# only the two or three that are being worked on hold one.
ROW_GROUP_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class SideTable:
    """``NNNNN.parquet`` beside the images: one row a sample, one row group a shard."""

    attempt: Attempt
    path: Path
    table: SampleTable

    @classmethod
    async def open(cls, output: Output) -> SideTable:
        """Begin the table of a shard."""
        path = await output.attempt.stage(f"{output.stem}.parquet")
        return cls(output.attempt, path, SampleTable(output.listed, output.columns))

    def add(self, sample: Sample) -> None:
        """Add one row."""
        self.table.add(sample)

    async def finish(self) -> None:
        """Write the file."""
        await self.attempt.run(_write_table, self.table, self.path)


async def open_parquet(output: Output) -> ParquetWriter:
    """Return a writer of ``NNNNN.parquet`` with the images in a binary column named like their extension."""
    path = await output.attempt.stage(f"{output.stem}.parquet")
    columns = replace(output.columns, image=output.extension)
    image = output.extension if output.hf_image else None
    return ParquetWriter(output.attempt, path, SampleTable(output.listed, columns), image)


@dataclass(slots=True)
class ParquetWriter:
    """Gathers samples and writes a row group whenever their images come to 16 MiB.

    Attributes:
        hf_image: the column to store as an Image of Hugging Face, if any.

    """

    attempt: Attempt
    path: Path
    table: SampleTable
    hf_image: str | None = None
    _file: Any = field(default=None, repr=False)
    _held_bytes: int = 0

    async def write(self, sample: Sample) -> None:
        """Add *sample*."""
        self.table.add(sample)
        self._held_bytes += len(sample.encoded.image) if sample.encoded else 0
        if self._held_bytes >= ROW_GROUP_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """Write what is left, and the footer."""
        await self._flush()
        await self.attempt.run(self._file.close)

    async def _flush(self) -> None:
        gathered, self.table, self._held_bytes = self.table, self.table.fresh(), 0
        await self.attempt.run(self._write, gathered)

    def _write(self, gathered: SampleTable) -> None:
        rows = gathered.to_arrow()
        if self.hf_image is not None:
            rows = with_image_feature(rows, self.hf_image)
        if self._file is None:
            self._file = pq.ParquetWriter(self.path, rows.schema, compression="snappy")
        if rows.num_rows:
            self._file.write_table(rows)


def _write_table(gathered: SampleTable, path: Path) -> None:
    pq.write_table(gathered.to_arrow(), path, compression="snappy")
