"""parquet: the columns that are wanted, a row group in small pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from async_img2ds.inputs.columns import check_names, sources
from async_img2ds.inputs.streams import opened_indexed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.streams import ListFile

__all__ = ["PARQUET"]

# Rows decoded at a time: a few megabytes of URLs and captions.
BATCH_ROWS: Final = 16_384
# What column chunks are read through, so that a row group is never held whole.
BUFFER_BYTES: Final = 2**20


class Parquet:
    """Tables that say the types of their columns."""

    says_types: Final = True

    def names(self, file: ListFile, _columns: Sequence[Column]) -> list[str]:
        """Return the names of the file's columns."""
        with opened_indexed(file, "parquet") as stream:
            return list(pq.read_schema(stream).names)

    def every_name(self, file: ListFile) -> list[str]:
        """Return the names of the file's columns."""
        return self.names(file, ())

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the rows of the columns that are wanted."""
        with opened_indexed(file, "parquet") as stream:
            reader = pq.ParquetFile(stream, buffer_size=BUFFER_BYTES, pre_buffer=False)
            check_names(reader.schema_arrow.names, columns)
            size = stream.seek(0, 2)
            rows = 0
            # In this thread: one of Arrow's that still reads when the interpreter ends would abort it.
            for batch in reader.iter_batches(batch_size=BATCH_ROWS, columns=sources(columns), use_threads=False):
                rows += batch.num_rows
                yield batch, size * rows / max(1, reader.metadata.num_rows)


PARQUET: Final = Parquet()
