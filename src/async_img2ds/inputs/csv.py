"""csv and tsv: records below a header, values quoted where they must be, line breaks inside quotes."""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from async_img2ds.inputs.arrays import as_text
from async_img2ds.inputs.columns import check_names, sources
from async_img2ds.inputs.streams import opened_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.streams import ListFile, Stream

__all__ = ["CSV", "TSV"]

# One read of the text, and so about what is parsed at a time.
BLOCK_BYTES: Final = 4 * 2**20
# A longer record is no row of a list, but most often all that follows a quotation mark which is never closed.
RECORD_BYTES_MAX: Final = 16 * 2**20


class Csv:
    """Records whose values are set apart by a delimiter.

    The text is cut into blocks of whole records here, and Arrow parses block by block. Arrow's own stream of batches
    reads dozens of blocks ahead, in a thread that may still ask for the file when the interpreter ends; and to it a
    quotation mark that is never closed is closed by the end of the file, and the rows behind it are part of a value.
    """

    says_types: Final = False

    def __init__(self, delimiter: str) -> None:
        """Read values set apart by *delimiter*."""
        self._delimiter = delimiter
        # A value begins with a quotation mark, or has none that matters. Most lines have none at all: they are found
        # ten times faster by themselves. What is repeated is atomic: Python before 3.11.5 is wrong about possessive
        # repetition of anything that could be matched in two ways (CPython issue 106052).
        value = rf'(?:"(?>[^"]++|"")*+"|(?!"))[^{delimiter}\r\n]*+'
        record = rf'(?>[^"\r\n]*+[\r\n]|(?>{value}{delimiter})*+{value}[\r\n])'
        self._record = re.compile(record.encode())
        self._records = re.compile(rf"{record}*+".encode())

    def names(self, file: ListFile, _columns: Sequence[Column]) -> list[str]:
        """Return the names in the header."""
        with opened_text(file) as stream:
            names, _ = self._header(self._blocks(stream))
            return names

    def every_name(self, file: ListFile) -> list[str]:
        """Return the names in the header."""
        return self.names(file, ())

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the records, additional columns of the narrowest type that holds all their values in the file."""
        check_names(self.names(file, columns), columns)
        # What is wanted as text stays what was written, even if it looks like a number.
        texts = {column.source for column in columns if column.text}
        kept = {column.source for column in columns if not column.text}
        types = dict.fromkeys(kept & texts, pa.string())
        if kept - texts:
            types |= self._types(file, list(kept - texts))
        for batch, bytes_read in self._batches(file, sources(columns)):
            yield _typed(batch, types), bytes_read

    def _types(self, file: ListFile, names: list[str]) -> dict[str, pa.DataType]:
        """Return the narrowest type that holds every value of each column.

        A csv file does not say its types, and its first rows may mislead: a column may be empty for a million rows. So
        the columns are read through once before; a list without additional columns is not.
        """
        seen = {name: _Seen() for name in names}
        for batch, _ in self._batches(file, names):
            for name in names:
                seen[name].add(as_text(batch.column(name)))
        return {name: values.type() for name, values in seen.items()}

    def _batches(self, file: ListFile, wanted: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield the columns *wanted* as bytes, so that one caption in Latin-1 does not end the run."""
        convert = pa.csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.binary()))
        records = 0
        with opened_text(file) as stream:
            blocks = self._blocks(stream)
            names, rest = self._header(blocks)
            for block in itertools.chain([rest], blocks):
                if not block:
                    continue
                try:
                    table = self._parsed(block, names, convert)
                except pa.ArrowInvalid as error:
                    raise ValueError(_counted(str(error), records)) from error
                records += table.num_rows
                for batch in table.to_batches():
                    yield batch, stream.bytes_read

    def _blocks(self, stream: Stream) -> Iterator[bytes]:
        """Yield the text of *stream* in blocks of whole records."""
        rest = b""
        while block := stream.read(BLOCK_BYTES):
            rest += block
            if whole := self._whole(rest):
                yield rest[:whole]
                rest = rest[whole:]
            if len(rest) > RECORD_BYTES_MAX:
                raise ValueError(f"a record of more than {RECORD_BYTES_MAX // 2**20} MiB, or {_unclosed(rest)}")
        if rest:
            rest += b"\n"
            if self._whole(rest) < len(rest):
                raise ValueError(_unclosed(rest))
            yield rest

    def _whole(self, text: bytes) -> int:
        """Return how many bytes of *text* are whole records."""
        found = self._records.match(text)
        return found.end() if found else 0

    def _header(self, blocks: Iterator[bytes]) -> tuple[list[str], bytes]:
        """Return the names of the columns, and what is left of the first block."""
        for block in blocks:
            text = block.lstrip(b"\r\n")
            if header := self._record.match(text):
                table = self._parsed(header[0], None, None)
                return list(table.column_names), text[header.end() :]
        raise ValueError("Empty CSV file: it has no header")

    def _parsed(self, text: bytes, names: list[str] | None, convert: pa.csv.ConvertOptions | None) -> pa.Table:
        """Return the records of *text*; its first are the names if none are given."""
        return pa.csv.read_csv(
            pa.BufferReader(text),
            read_options=pa.csv.ReadOptions(column_names=names, block_size=len(text) + 1, use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=convert,
        )


def _unclosed(record: bytes) -> str:
    begins = record.lstrip(b"\r\n")[:60].decode("utf-8", "replace")
    return (
        f"a quotation mark that is never closed, in the record that begins with {begins!r}; "
        "one that belongs to a value is written twice, in a value within quotation marks"
    )


def _counted(said: str, before: int) -> str:
    """Return what Arrow *said* of a block, with the number that its record has in the file."""
    return re.sub(
        r"Row #(\d+)", lambda found: f"Record {before + int(found[1])} below the header", said.splitlines()[0]
    )


# Those that pyarrow itself tries, but for times of the day, which it does not cast from texts; and hashes of 64 bits,
# which it would round to fractions.
_TYPES: Final = (
    *(pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("s")),
    *(pa.timestamp("ns"), pa.timestamp("ns", "UTC")),
)


@functools.cache
def _nulls() -> pa.Array:
    """Return what pyarrow takes for a missing value."""
    return pa.array(pa.csv.ConvertOptions().null_values)


# A fraction holds whole numbers exactly up to 2**53, which has sixteen digits.
_LONG: Final = 16
_LONG_WHOLE: Final = rf"^[+-]?\d{{{_LONG},}}$"
# A number that is written so is a name, such as a post code, of which a number would not keep the zeros.
_ZEROS_BEFORE: Final = r"^[+-]?0[0-9]"


class _Seen:
    """What the values of a column have been so far."""

    def __init__(self) -> None:
        self._fitting = list(_TYPES)
        self._empty = True
        self._long = False
        self._zeros = False

    def add(self, texts: pa.Array) -> None:
        values = texts.filter(pc.invert(pc.is_in(texts, value_set=_nulls())))
        if not len(values):
            return
        self._empty = False
        for candidate in list(self._fitting):
            try:
                values.cast(candidate)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                self._fitting.remove(candidate)
        self._zeros = self._zeros or pc.any(pc.match_substring_regex(values, _ZEROS_BEFORE)).as_py()
        if not self._long and pc.max(pc.binary_length(values)).as_py() >= _LONG:
            self._long = pc.any(pc.match_substring_regex(values, _LONG_WHOLE)).as_py()

    def type(self) -> pa.DataType:
        """Return the narrowest type that holds them; null if there were none, text if no other does."""
        if self._empty:
            return pa.null()
        # Long whole numbers beside fractions are names rather than amounts, and would be rounded.
        kinds = (kind for kind in self._fitting if not (self._long and pa.types.is_floating(kind)))
        return next((kind for kind in kinds if not (self._zeros and _is_number(kind))), pa.string())


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _typed(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return *batch* with the columns that *types* names of these types."""
    arrays = [
        _of_type(as_text(column), types[name]) if name in types else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _of_type(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return texts
    if pa.types.is_null(kind):
        return pa.nulls(len(texts))
    return pc.if_else(pc.is_in(texts, value_set=_nulls()), pa.scalar(None, pa.string()), texts).cast(kind)


CSV: Final = Csv(",")
TSV: Final = Csv("\t")
