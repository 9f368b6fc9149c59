"""A URL list → a lazy stream of shards.

Files are read as batches of rows and cut as the batches come, so memory does not grow with the list and work starts
before the list has been read. A column keeps its Arrow type on its way to the metadata.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from async_img2ds.errors import InputError, OptionsError
from async_img2ds.policy.shards import cut
from async_img2ds.records import Shard
from async_img2ds.storage import file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from async_img2ds.options import InputOptions

__all__ = ["FORMATS", "UrlList", "rows_of"]

# One read of a text file. Lines longer than LINE_BYTES_MAX mean that the file is no list of URLs.
BLOCK_BYTES: Final = 4 * 2**20
LINE_BYTES_MAX: Final = 16 * 2**20
# Rows decoded at a time from a parquet file: a few megabytes of URLs and captions.
PARQUET_BATCH_ROWS: Final = 16_384
# What parquet column chunks are read through, so that a row group is never held whole.
PARQUET_BUFFER_BYTES: Final = 2**20


@dataclass(slots=True)
class UrlList:
    """The files of a URL list, in order.

    Attributes:
        files: their paths in *fs*, sorted.
        sizes: their sizes in bytes.
        rows_read: rows cut into shards so far, those skipped included.
        rows_skipped: rows left out because their shards were finished before.
        shards_skipped: how many shards these are.

    """

    options: InputOptions
    fs: Any
    files: list[str]
    sizes: list[int]
    rows_read: int = 0
    rows_skipped: int = 0
    shards_skipped: int = 0
    _bytes_before: int = 0
    _position: Callable[[], float] = field(default=lambda: 0.0)
    _ended: bool = False

    @classmethod
    def open(cls, options: InputOptions) -> UrlList:
        """Find the files and look at the columns of the first.

        Raises:
            InputError: there is nothing to read, or it cannot be read.
            OptionsError: a column that was asked for is not there.

        """
        fs, path = file_system(options.url_list)
        try:
            if fs.isdir(path):
                entries = fs.ls(path, detail=True)
                ending = f".{options.input_format}"
                files = sorted(
                    entry["name"] for entry in entries if entry["type"] == "file" and entry["name"].endswith(ending)
                )
                if not files:
                    raise InputError(
                        f"url_list: no file ending in .{options.input_format} in the folder {options.url_list}; "
                        "input_format says which ending"
                    )
            elif fs.exists(path):
                files = [path]
            else:
                raise InputError(f"url_list: {options.url_list} does not exist")
            found = cls(options, fs, files, [int(fs.size(file) or 0) for file in files])
            found._check_columns()
        except OSError as error:
            raise InputError(f"url_list: {options.url_list} cannot be read: {error}") from error
        return found

    def shards(self, finished: Container[int] = ()) -> Iterator[Shard]:
        """Yield the shards of the list that are not in *finished*, cut file by file and numbered through.

        Raises:
            InputError: a file cannot be read; shards yielded before are good.

        """
        shard_id = 0
        for file, size in zip(self.files, self.sizes, strict=True):
            for table in cut(self._batches(file), self.options.number_sample_per_shard):
                self.rows_read += table.num_rows
                if shard_id in finished:
                    self.shards_skipped += 1
                    self.rows_skipped += table.num_rows
                else:
                    yield Shard(shard_id, _to_ipc(table), table.num_rows)
                shard_id += 1
            self._bytes_before += size
            self._position = lambda: 0.0
        self._ended = True

    def rows_expected(self) -> int | None:
        """Return how many rows there are to do, those skipped left out.

        Exact once the list is read, else from the share of bytes read. None while there is nothing to tell it from.
        """
        if self._ended:
            return self.rows_read - self.rows_skipped
        share = (self._bytes_before + self._position()) / max(1, sum(self.sizes))
        return max(0, round(self.rows_read / share) - self.rows_skipped) if share > 0 and self.rows_read else None

    def _batches(self, file: str) -> Iterator[pa.RecordBatch]:
        try:
            with self.fs.open(file, "rb") as stream:
                yield from FORMATS[self.options.input_format].batches(stream, self)
        except (pa.ArrowException, OSError, ValueError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"url_list: {file} cannot be read as {self.options.input_format}: {said}") from error

    def _check_columns(self) -> None:
        try:
            with self.fs.open(self.files[0], "rb") as stream:
                names = FORMATS[self.options.input_format].columns(stream)
            _check_twice(names or [], self._wanted())
        except (pa.ArrowException, ValueError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"url_list: {self.files[0]} cannot be read as {self.options.input_format}: {said}"
            ) from error
        if names is not None:
            for name, flag in self._wanted().items():
                if name not in names:
                    raise OptionsError(f"{flag}: the list has no column {name!r}; it has {', '.join(names)}")

    def _wanted(self) -> dict[str, str]:
        """Return the columns to read, in the order of the metadata, each with the option that names it."""
        options = self.options
        wanted = dict.fromkeys(options.save_additional_columns, "save_additional_columns")
        if options.caption_col:
            wanted[options.caption_col] = "caption_col"
        wanted[options.url_col] = "url_col"
        return wanted

    def arrange(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns of the metadata, in order and under their final names, from a batch as it was read."""
        options = self.options
        fields = [(name, _checked(name, batch.column(name))) for name in options.save_additional_columns]
        if options.caption_col:
            fields.append(("caption", _as_text(batch.column(options.caption_col))))
        fields.append(("url", _as_text(batch.column(options.url_col))))
        return pa.RecordBatch.from_arrays([array for _, array in fields], names=[name for name, _ in fields])

    def follow(self, position: Callable[[], float]) -> None:
        """Use *position*, bytes of the current file that are read, for :meth:`rows_expected`."""
        self._position = position


def rows_of(shard: Shard) -> pa.Table:
    """Return the rows of *shard*: the list's columns under their final names, ``url`` last."""
    return pa.ipc.open_stream(shard.rows).read_all()


@dataclass(frozen=True, slots=True)
class _Format:
    """How files of one format are read: their *columns* (None if they have no names), and their rows as *batches*."""

    columns: Callable[[Any], list[str] | None]
    batches: Callable[[Any, UrlList], Iterator[pa.RecordBatch]]


def _txt_columns(_stream: Any) -> None:  # noqa: ANN401  fsspec's files have no common type
    """A txt list has URLs only."""


def _txt_batches(stream: Any, url_list: UrlList) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    """One line, one URL, whatever the line contains; only a final line break does not begin another."""
    url_list.follow(stream.tell)
    rest = b""
    first = True
    while block := stream.read(BLOCK_BYTES):
        if first:
            block = block.removeprefix(codecs.BOM_UTF8)
            first = False
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes; is this a list with one URL a line?")
        if lines:
            yield _lines_to_batch(lines)
    if rest:
        yield _lines_to_batch([rest])


def _lines_to_batch(lines: list[bytes]) -> pa.RecordBatch:
    # Bytes that are no UTF-8 become U+FFFD, which no URL may contain: such a line fails as a row of its own.
    urls = [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]
    return pa.RecordBatch.from_arrays([pa.array(urls, pa.string())], names=["url"])


def _csv_columns(stream: Any) -> list[str]:  # noqa: ANN401
    with _csv_reader(stream, None) as reader:
        return list(reader.schema.names)


def _csv_batches(stream: Any, url_list: UrlList) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    options = url_list.options
    # Read as bytes and made text by _as_text, so that one caption in Latin-1 does not end the run.
    texts = {name: pa.binary() for name in (options.url_col, options.caption_col) if name}
    convert = pa.csv.ConvertOptions(include_columns=list(url_list._wanted()), column_types=texts)  # noqa: SLF001
    url_list.follow(stream.tell)
    with _csv_reader(stream, convert) as reader:
        for batch in reader:
            # An additional column of which a value is no UTF-8 is read as bytes; it was written as text.
            columns = [_as_text(column) if pa.types.is_binary(column.type) else column for column in batch.columns]
            yield url_list.arrange(pa.RecordBatch.from_arrays(columns, names=batch.schema.names))


def _csv_reader(stream: Any, convert: Any) -> Any:  # noqa: ANN401  pyarrow publishes no types
    return pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )


def _parquet_columns(stream: Any) -> list[str]:  # noqa: ANN401
    return list(pq.read_schema(stream).names)


def _parquet_batches(stream: Any, url_list: UrlList) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    file = pq.ParquetFile(stream, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
    _check_twice(file.schema_arrow.names, url_list._wanted())  # noqa: SLF001
    missing = [name for name in url_list._wanted() if name not in file.schema_arrow.names]  # noqa: SLF001
    if missing:
        raise ValueError(f"no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
    read = 0
    size = stream.seek(0, 2)
    url_list.follow(lambda: size * read / max(1, file.metadata.num_rows))
    for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=list(url_list._wanted())):  # noqa: SLF001
        read += batch.num_rows
        yield url_list.arrange(batch)


FORMATS: Final[Mapping[str, _Format]] = {
    "txt": _Format(_txt_columns, _txt_batches),
    "csv": _Format(_csv_columns, _csv_batches),
    "parquet": _Format(_parquet_columns, _parquet_batches),
}


def _as_text(array: pa.Array) -> pa.Array:
    """Return a column of URLs or captions as text, bytes that are no UTF-8 as U+FFFD."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        # Parquet's texts are not checked when they are read, and one bad byte would later cost the whole shard.
        array = array.cast(pa.binary())
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_decoded(value) for value in array.to_pylist()], pa.string())


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).decode("utf-8", "replace")


def _checked(name: str, array: pa.Array) -> pa.Array:
    """Return an additional column with its type, once it is known to hold what its type says."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return _as_text(array).cast(array.type)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"column {name!r} is damaged: {error}") from None
    return array


def _check_twice(names: list[str], wanted: Mapping[str, str]) -> None:
    for name, flag in wanted.items():
        if names.count(name) > 1:
            raise ValueError(f"it has two columns {name!r}, and {flag} means one; rename the other")


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
