"""arrow and feather: Arrow's IPC format, as a file with an index at its end or as a stream without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from async_img2ds.inputs.columns import check_names, sources
from async_img2ds.inputs.streams import opened_indexed, signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.streams import ListFile, Stream

__all__ = ["ARROW"]

# Rows passed on at a time. A batch of the file is in memory while it is cut, and Polars may write a whole table as one.
BATCH_ROWS: Final = 16_384


class Arrow:
    """Tables that say the types of their columns, in either layout of the IPC format."""

    says_types: Final = True

    def names(self, file: ListFile, _columns: Sequence[Column]) -> list[str]:
        """Return the names of the file's columns."""
        with opened_indexed(file, "arrow") as stream:
            return list(_reader(stream, None).schema.names)

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the rows of the columns that are wanted."""
        names = self.names(file, columns)
        check_names(names, columns)
        wanted = pa.ipc.IpcReadOptions(included_fields=[names.index(name) for name in sources(columns)])
        with opened_indexed(file, "arrow") as stream:
            for batch, read in _batches(stream, wanted):
                _check_sound(batch)
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS), read


def _check_sound(batch: pa.RecordBatch) -> None:
    """Raise ValueError if *batch* is not what its types say: Arrow reads where offsets lead, outside its memory, too.

    Texts are only looked at as bytes, because one that is no UTF-8 can be mended.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(column.type)
        try:
            (column if as_bytes is None else column.view(as_bytes)).validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"column {name!r} is damaged: {error}") from None


def _reader(stream: Stream, options: Any) -> Any:  # noqa: ANN401  pyarrow publishes no types
    head = stream.head()
    stream.seek(0)
    if signature(head) != "arrow":
        raise ValueError("it is no Arrow file" if head else "it is empty, and no Arrow file")
    indexed = head.startswith(b"ARROW1")
    return (pa.ipc.open_file if indexed else pa.ipc.open_stream)(stream, options=options)


def _batches(stream: Stream, options: Any) -> Iterator[tuple[pa.RecordBatch, float]]:  # noqa: ANN401  as above
    reader = _reader(stream, options)
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        for batch in reader:
            yield batch, stream.bytes_read
        return
    size = stream.seek(0, 2)
    for place in range(reader.num_record_batches):
        yield reader.get_batch(place), size * (place + 1) / reader.num_record_batches


ARROW: Final = Arrow()
