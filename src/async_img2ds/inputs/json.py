"""json and jsonl: one document that holds the whole list, or one object a line."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from async_img2ds.inputs.columns import check_names, sources
from async_img2ds.inputs.lines import blocks_of_lines
from async_img2ds.inputs.shapes import Shape, array_of, text_of
from async_img2ds.inputs.streams import opened_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.streams import ListFile

__all__ = ["JSON", "JSONL"]

# The one format that is held whole. The largest known list in it, SBU captions, is 150 MB, and while such a document is
# read it takes 5 to 6 times its size (13 if it is all numbers): 1.5 GB at this bound.
DOCUMENT_BYTES_MAX: Final = 256 * 2**20
# Rows of a document passed on at a time.
BATCH_ROWS: Final = 16_384
# Names remembered for the message that says which there are.
NAMES_MAX: Final = 100
# Of rows with more names than that together, the names are data.
COLUMNS_MAX: Final = 1000

TO_LINES: Final = (
    "python -c \"import pandas; pandas.read_json('urls.json', convert_dates=False)"
    ".to_json('urls.jsonl', orient='records', lines=True)\""
)


class JsonLines:
    """An object a line; what a row does not have is null. Nothing is said of types."""

    says_types: Final = False

    def names(self, file: ListFile, columns: Sequence[Column]) -> list[str] | None:
        """Return names that rows have: read on until all *columns* were met, or the list ends."""
        wanted = set(sources(columns))
        names: dict[str, None] | None = None
        for rows, _ in _rows(file):
            names = names or {}
            for name in itertools.chain.from_iterable(rows):
                if name in wanted or len(names) < NAMES_MAX:
                    names[name] = None
            # Some columns begin late; but where thousands of rows have no URL, it is called otherwise.
            if wanted <= names.keys() or any(one.name == "url" and one.source not in names for one in columns):
                break
        return None if names is None else list(names)

    def every_name(self, file: ListFile) -> list[str] | None:
        """Return the names that any row has."""
        names: dict[str, None] | None = None
        for rows, _ in _rows(file):
            names = names or {}
            names |= dict.fromkeys(itertools.chain.from_iterable(rows))
            if len(names) > COLUMNS_MAX:
                raise ValueError(f"its rows have more than {COLUMNS_MAX} different names, which are no columns")
        return None if names is None else list(names)

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the rows, additional columns of the type that holds all their values in the file."""
        shapes = {column.source: Shape() for column in columns if not column.text}
        for rows, _ in _rows(file) if shapes else ():
            for name, shape in shapes.items():
                shape.add([row.get(name) for row in rows])
        kinds = {name: shape.type() for name, shape in shapes.items()}
        for rows, bytes_read in _rows(file):
            yield _batch({name: [row.get(name) for row in rows] for name in sources(columns)}, kinds), bytes_read


class JsonDocument:
    """One document: columns as lists or as objects by row, or a list of rows; as pandas writes and reads it."""

    says_types: Final = False

    def names(self, file: ListFile, _columns: Sequence[Column]) -> list[str] | None:
        """Return the names of the columns."""
        return list(_columns_of(_document(file)[0])) or None

    def every_name(self, file: ListFile) -> list[str] | None:
        """Return the names of the columns."""
        return self.names(file, ())

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the rows, in pieces."""
        document, bytes_read = _document(file)
        found = _columns_of(document)
        if not found:
            return
        check_names(list(found), columns)
        shapes = {column.source: Shape() for column in columns if not column.text}
        for name, shape in shapes.items():
            shape.add(found[name])
        whole = _batch(
            {name: found[name] for name in sources(columns)}, {name: one.type() for name, one in shapes.items()}
        )
        del document, found
        for start in range(0, whole.num_rows, BATCH_ROWS):
            yield whole.slice(start, BATCH_ROWS), bytes_read * min(1, (start + BATCH_ROWS) / whole.num_rows)


def _batch(values: Mapping[str, list[Any]], kinds: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return *values* by column, of its kind or, where it has none, as text."""
    arrays = [
        array_of(column, kinds[name]) if name in kinds else pa.array(map(text_of, column), pa.string())
        for name, column in values.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(values))


def _rows(file: ListFile) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Yield the rows of a jsonl file, many at a time, with how much of it was read. An empty line is no row."""
    number = 0
    with opened_text(file) as stream:
        for lines in blocks_of_lines(stream):
            rows = []
            for number, line in enumerate(lines, number + 1):  # noqa: B020  counts on from block to block
                if line and not line.isspace():
                    rows.append(_row(line, number))
            if rows:
                yield rows, stream.bytes_read


def _row(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = _parsed(line)
        if type(row) is dict:
            return row
        said = f"it is {line[:40]!r}"
    except ValueError as error:
        said = str(error)
    whole = number == 1 and line.lstrip()[:1] in (b"[", b"{")
    hint = "; if the file is one JSON document: --input_format json" if whole else ""
    raise ValueError(f'line {number} is no JSON object such as {{"url": "http://…"}}: {said}{hint}')


def _document(file: ListFile) -> tuple[Any, int]:
    """Return what a json file holds, and its size in bytes as it lies there."""
    with opened_text(file) as stream:
        text = stream.read(DOCUMENT_BYTES_MAX + 1)
        if len(text) > DOCUMENT_BYTES_MAX:
            raise ValueError(
                f"a document of more than {DOCUMENT_BYTES_MAX // 2**20} MiB would have to be held whole; "
                f"make lines of it, which are read as they come, for --input_format jsonl:\n  {TO_LINES}"
            )
        return _parsed_document(text), stream.bytes_read


def _parsed_document(text: bytes) -> Any:  # noqa: ANN401  any JSON value
    try:
        return _parsed(text)
    except ValueError as error:
        first, _, rest = text.partition(b"\n")
        if rest and _is_object(first):
            raise ValueError("each of its lines is a document: --input_format jsonl") from error
        raise


def _is_object(line: bytes) -> bool:
    try:
        return type(_parsed(line)) is dict
    except ValueError:
        return False


def _columns_of(document: Any) -> dict[str, list[Any]]:  # noqa: ANN401  any JSON value
    """Return the columns of *document*, whose values are in the order of the rows."""
    if type(document) is list and all(type(row) is dict for row in document):
        names = dict.fromkeys(itertools.chain.from_iterable(document))
        return {name: [row.get(name) for row in document] for name in names}
    if type(document) is dict and all(type(column) is list for column in document.values()):
        if len({len(column) for column in document.values()}) > 1:
            counts = ", ".join(f"{name} {len(column)}" for name, column in document.items())
            raise ValueError(f"its columns are of different lengths: {counts}")
        return document
    if type(document) is dict and all(type(column) is dict for column in document.values()):
        rows = dict.fromkeys(itertools.chain.from_iterable(document.values()))
        return {name: [column.get(row) for row in rows] for name, column in document.items()}
    raise ValueError('it is neither columns, {"url": [...]} or {"url": {"0": ...}}, nor a list of rows, [{"url": ...}]')


def _parsed(text: bytes) -> Any:  # noqa: ANN401  any JSON value
    """Return what *text* says. What is no JSON but common in files is read, too: NaN, Infinity, Latin-1."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return _readable(json.loads(text.decode("utf-8", "replace")))
        except RecursionError:
            raise ValueError("it is nested too deeply to be read") from None


def _readable(value: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return *value* with halves of surrogate pairs, which JSON can write and nobody else, as U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {_readable(name): _readable(item) for name, item in value.items()}
    return value


JSON: Final = JsonDocument()
JSONL: Final = JsonLines()
