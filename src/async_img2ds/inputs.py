"""A URL list → a lazy stream of shards.

Files are read as batches of rows and cut as the batches come, so memory does not grow with the list and work starts
before the list has been read. A column keeps its Arrow type on its way to the metadata.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
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
# A csv row must fit in a block, whatever is quoted in it.
CSV_BLOCK_BYTES: Final = 16 * 2**20
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
    _bytes_of_file: float = 0.0
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
            self._bytes_of_file = 0.0
        self._ended = True

    def rows_expected(self) -> int | None:
        """Return how many rows there are to do, those skipped left out.

        Exact once the list is read, else from the share of bytes read. None while there is nothing to tell it from.
        """
        if self._ended:
            return self.rows_read - self.rows_skipped
        share = (self._bytes_before + self._bytes_of_file) / max(1, sum(self.sizes))
        return max(0, round(self.rows_read / share) - self.rows_skipped) if share > 0 and self.rows_read else None

    def _batches(self, file: str) -> Iterator[pa.RecordBatch]:
        try:
            with self.fs.open(file, "rb") as stream:
                for batch, bytes_read in FORMATS[self.options.input_format].batches(stream, self.options):
                    # Kept as a number, because whoever asks for progress may do so while the file is being closed.
                    self._bytes_of_file = bytes_read
                    yield batch
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"url_list: {file} cannot be read as {self.options.input_format}: {_words(error)}"
            ) from error

    def _check_columns(self) -> None:
        try:
            with self.fs.open(self.files[0], "rb") as stream:
                names = FORMATS[self.options.input_format].columns(stream)
            _check_twice(names or [], _wanted(self.options))
        except (pa.ArrowException, ValueError) as error:
            said = f"url_list: {self.files[0]} cannot be read as {self.options.input_format}: {_words(error)}"
            raise InputError(said) from error
        if names is not None:
            for name, flag in _wanted(self.options).items():
                if name not in names:
                    raise OptionsError(f"{flag}: the list has no column {name!r}; it has {', '.join(names)}")


def _wanted(options: InputOptions) -> dict[str, str]:
    """Return the columns to read, in the order of the metadata, each with the option that names it."""
    wanted = dict.fromkeys(options.carried_columns, "save_additional_columns")
    if options.bbox_col:
        wanted[options.bbox_col] = "bbox_col"
    if options.caption_col:
        wanted[options.caption_col] = "caption_col"
    wanted[options.url_col] = "url_col"
    return wanted


def _arranged(batch: pa.RecordBatch, options: InputOptions) -> pa.RecordBatch:
    """Return the columns of the metadata, in order and under their final names, from a batch as it was read."""
    fields = [(name, _checked(name, batch.column(name))) for name in options.carried_columns]
    if options.caption_col:
        fields.append(("caption", _as_text(batch.column(options.caption_col))))
    fields.append(("url", _as_text(batch.column(options.url_col))))
    return pa.RecordBatch.from_arrays([array for _, array in fields], names=[name for name, _ in fields])


def rows_of(shard: Shard) -> pa.Table:
    """Return the rows of *shard*: the list's columns under their final names, ``url`` last."""
    return pa.ipc.open_stream(shard.rows).read_all()


@dataclass(frozen=True, slots=True)
class _Format:
    """How files of one format are read.

    Attributes:
        columns: the names of a file's columns, None if they have none.
        batches: a file's rows, each batch with how many bytes of the file were read for it and all before.

    """

    columns: Callable[[Any], list[str] | None]
    batches: Callable[[Any, InputOptions], Iterator[tuple[pa.RecordBatch, float]]]


def _txt_columns(_stream: Any) -> None:  # noqa: ANN401  fsspec's files have no common type
    """A txt list has URLs only."""


def _txt_batches(stream: Any, _options: InputOptions) -> Iterator[tuple[pa.RecordBatch, float]]:  # noqa: ANN401
    """One line, one URL, whatever the line contains; only a final line break does not begin another."""
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
            yield _lines_to_batch(lines), stream.tell()
    if rest:
        yield _lines_to_batch([rest]), stream.tell()


def _lines_to_batch(lines: list[bytes]) -> pa.RecordBatch:
    # Bytes that are no UTF-8 become U+FFFD, which no URL may contain: such a line fails as a row of its own.
    urls = [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]
    return pa.RecordBatch.from_arrays([pa.array(urls, pa.string())], names=["url"])


def _csv_columns(stream: Any) -> list[str]:  # noqa: ANN401
    with _csv_reader(stream, None) as reader:
        return list(reader.schema.names)


def _csv_batches(stream: Any, options: InputOptions) -> Iterator[tuple[pa.RecordBatch, float]]:  # noqa: ANN401
    # Read as bytes and made text by _as_text, so that one caption in Latin-1 does not end the run.
    types = {name: pa.binary() for name in (options.url_col, options.caption_col) if name}
    types |= _csv_types(stream, options.carried_columns)
    convert = pa.csv.ConvertOptions(include_columns=list(_wanted(options)), column_types=types)
    with _csv_reader(stream, convert) as reader:
        for batch in reader:
            yield _arranged(_with_texts(batch, options.carried_columns), options), stream.tell()


def _with_texts(batch: pa.RecordBatch, names: tuple[str, ...]) -> pa.RecordBatch:
    """Make the columns *names* text that were read as bytes: a csv file has no bytes. The others are made so later."""
    for name in names:
        column = batch.column(name)
        if pa.types.is_binary(column.type):
            batch = batch.set_column(batch.schema.get_field_index(name), name, _as_text(column))
    return batch


def _csv_types(stream: Any, names: tuple[str, ...]) -> dict[str, pa.DataType]:  # noqa: ANN401
    """Return the narrowest type that holds every value of each column.

    A csv file does not say its types, and its first rows may mislead: a column may be empty for a million rows. So the
    columns are read through once before; a list without additional columns is not, and parquet says its types.
    """
    if not names:
        return {}
    candidates = {name: list(_CSV_TYPES) for name in names}
    convert = pa.csv.ConvertOptions(include_columns=list(names), column_types=dict.fromkeys(names, pa.binary()))
    with _csv_reader(pa.PythonFile(_KeptOpen(stream)), convert) as reader:
        for batch in reader:
            for name in names:
                _narrow(candidates[name], _as_text(batch.column(name)))
    stream.seek(0)
    return {name: fits[0] if len(fits) < len(_CSV_TYPES) and fits else pa.binary() for name, fits in candidates.items()}


def _narrow(candidates: list[pa.DataType], texts: pa.Array) -> None:
    """Drop from *candidates* the types that one of *texts* is not of."""
    values = texts.filter(pc.invert(pc.is_in(texts, value_set=_CSV_NULLS)))
    for candidate in list(candidates):
        try:
            values.cast(candidate)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            candidates.remove(candidate)


class _KeptOpen:
    """A file whose reader cannot close it."""

    closed = False

    def __init__(self, stream: Any) -> None:  # noqa: ANN401
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)

    def close(self) -> None:
        """Stay open."""


# In the order in which pyarrow itself tries them, and what it takes for a missing value in them.
_CSV_TYPES: Final = (pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("s"))
_CSV_NULLS: Final = pa.array(pa.csv.ConvertOptions().null_values)


def _csv_reader(stream: Any, convert: Any) -> Any:  # noqa: ANN401  pyarrow publishes no types
    return pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )


def _parquet_columns(stream: Any) -> list[str]:  # noqa: ANN401
    return list(pq.read_schema(stream).names)


def _parquet_batches(stream: Any, options: InputOptions) -> Iterator[tuple[pa.RecordBatch, float]]:  # noqa: ANN401
    file = pq.ParquetFile(stream, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
    _check_twice(file.schema_arrow.names, _wanted(options))
    missing = [name for name in _wanted(options) if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
    read = 0
    size = stream.seek(0, 2)
    for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=list(_wanted(options))):
        read += batch.num_rows
        yield _arranged(batch, options), size * read / max(1, file.metadata.num_rows)


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
    if pa.types.is_string_view(array.type):  # which Arrow cannot take rows from
        return _as_text(array.cast(pa.string()))
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return _as_text(array).cast(array.type)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"column {name!r} is damaged: {error}") from None
    return array


def _words(error: Exception) -> str:
    """Return the first line of *error*, and what to do about it where that is known."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "CSV conversion error" in said:
        said += "; a parquet list says its types"
    if "straddling" in said:
        said = f"a row of more than {CSV_BLOCK_BYTES // 2**20} MB, or a quotation mark that is never closed"
    return said


def _check_twice(names: list[str], wanted: Mapping[str, str]) -> None:
    for name, flag in wanted.items():
        if names.count(name) > 1:
            raise ValueError(f"it has two columns {name!r}, and {flag} means one; rename the other")


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
