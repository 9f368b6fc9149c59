"""arrow and feather: Arrow's IPC format, as a file with an index at its end or as a stream without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from async_img2ds.inputs.arrays import mapped
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

    def every_name(self, file: ListFile) -> list[str]:
        """Return the names of the file's columns."""
        return self.names(file, ())

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
        try:
            _validate(column)
        except pa.ArrowException as error:
            raise ValueError(f"column {name!r} is damaged: {error}") from None


_BYTES: Final = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


def _validate(column: pa.Array) -> None:
    if pa.types.is_dictionary(column.type):
        _validate(column.dictionary)
        pa.DictionaryArray.from_arrays(column.indices, column.dictionary)  # which looks at the indices
        return
    views = pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type)
    kind = column.type if views else mapped(column.type, lambda leaf: _BYTES.get(leaf, leaf))
    (column if kind == column.type else column.view(kind)).validate(full=True)


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
