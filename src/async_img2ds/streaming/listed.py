"""What a program has for a list → its rows, a piece at a time."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa

from async_img2ds.blocking import read_ahead
from async_img2ds.errors import InputError, OptionsError
from async_img2ds.inputs import UrlList
from async_img2ds.inputs.columns import arranged, bare, check_names, columns_of, missing, sources
from async_img2ds.inputs.shapes import text_of
from async_img2ds.options import INPUT_FORMATS
from async_img2ds.policy.shards import Naming, rows_of
from async_img2ds.policy.url_sets import SeenUrls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from async_img2ds.options import InputOptions

__all__ = ["Listed", "Piece", "check_listed", "is_of_files", "opened"]

# Whatever has rows: a path, URLs or mappings of columns in any (async) iterable, a table.
Listed = str | os.PathLike[str] | Iterable[Any] | AsyncIterable[Any]

_LISTED: Final = (str, os.PathLike, Iterable, AsyncIterable)
# Rows of a table, or of an iterable that has them ready, that are read before they are wanted.
PIECE_ROWS: Final = 1000
# As usual; a number with more digits is written with more.
SHARD_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a list, one after another.

    Attributes:
        columns: their values, by the names that the columns have in a dataset.
        key: the key of the row at a place.
        repeats: the places of rows whose URL the list has before, and that are not to be fetched because of it.

    """

    columns: Mapping[str, Sequence[Any]]
    key: Callable[[int], str]
    repeats: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.columns["url"])


def is_of_files(listed: Listed) -> bool:
    """Whether *listed* names files, rather than having the rows."""
    return isinstance(listed, str | os.PathLike)


def check_listed(listed: Listed | None, *, is_said_how: bool) -> None:
    """Refuse what is taken for a list by mistake: what has no rows, one row, or one URL.

    That of a file of URLs is told by its ending, or when it *is_said_how* it is to be read.

    Raises:
        OptionsError: it is such a thing.

    """
    if isinstance(listed, str) and listed.strip().lower().startswith(("http://", "https://")):
        ending = listed.partition("?")[0].rpartition("/")[2].partition(".")[2]
        if not is_said_how and ending not in INPUT_FORMATS:
            raise OptionsError(f"a text names a file of URLs; to fetch this one, give it in a list: [{listed!r}]")
    elif isinstance(listed, Mapping) and any(isinstance(value, str | None) for value in listed.values()):
        raise OptionsError("a mapping has a column of values under each name; one row is given in a list: [{…}]")
    elif isinstance(listed, bytes) or not (listed is None or isinstance(listed, _LISTED) or _is_table(listed)):
        kinds = "URLs or mappings in anything that can be gone through, a table, or a path"
        raise OptionsError(f"a list of URLs is {kinds}; got {type(listed).__name__}")


@asynccontextmanager
async def opened(listed: Listed | None, options: InputOptions) -> AsyncIterator[AsyncIterator[Piece]]:
    """Yield the rows of *listed*, or of the files that *options* name if it is None, in pieces as they come.

    What blocks is read in a thread, which is not waited for if it does not end. A generator is closed with the block.
    While rows are read there may be raised:
        InputError: they cannot be, or are no rows.
        OptionsError: a column that was asked for is not there.
    And whatever an iterable of the program's own raises.
    """
    if isinstance(listed, AsyncIterable):
        async with (
            aclosing(cast("AsyncGenerator[Any]", listed)) if hasattr(listed, "aclose") else nullcontext(),
            aclosing([row] async for row in listed) as single,
            aclosing(_gathered(single, options)) as pieces,
        ):
            yield pieces
        return
    if (table := _table_of(listed, options)) is not None:
        listed = None
    elif listed is not None:
        assert not isinstance(listed, str | os.PathLike)  # whose files the options name
        async with read_ahead(listed, PIECE_ROWS) as rows, aclosing(_gathered(rows, options)) as pieces:
            yield pieces
        return
    async with (
        read_ahead(_of_files(options) if table is None else _of_table(table, options), 1) as came,
        aclosing(piece async for several in came for piece in several) as pieces,
    ):
        yield pieces


def _of_files(options: InputOptions) -> Iterator[Piece]:
    naming = Naming(options.number_sample_per_shard, SHARD_DIGITS)
    for shard in UrlList.open(options).shards():
        yield Piece(rows_of(shard).to_pydict(), partial(naming.key, shard.id), shard.repeats)


def _table_of(listed: Any, options: InputOptions) -> Any:  # noqa: ANN401  pyarrow publishes no types
    """Return *listed* as what batches can be read of, None if it is no table."""
    if isinstance(listed, pa.Array | pa.ChunkedArray):
        return pa.table([listed], names=[options.url_col]).to_reader()
    if isinstance(listed, Mapping):
        try:
            return pa.table(dict(listed)).to_reader()
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InputError(f"the columns make no table: {error}") from error
    if hasattr(listed, "iloc") and hasattr(listed, "columns"):  # of pandas, whose index is not of interest
        _check_columns([str(name) for name in listed.columns], options)
        return pa.Table.from_pandas(listed[sources(columns_of(options))], preserve_index=False).to_reader()
    if _is_table(listed) and not hasattr(listed, "iloc"):  # else it is a column of pandas
        return pa.RecordBatchReader.from_stream(listed)
    return None


def _is_table(listed: object) -> bool:
    return hasattr(listed, "__arrow_c_stream__")


def _of_table(reader: Any, options: InputOptions) -> Iterator[Piece]:  # noqa: ANN401  as above
    columns = columns_of(options)
    _check_columns(reader.schema.names, options)
    try:
        check_names(reader.schema.names, columns)
        numbered = _Numbered(options)
        for batch in reader:
            wanted = batch.select(sources(columns))
            for start in range(0, wanted.num_rows, PIECE_ROWS):
                yield numbered.piece(arranged(wanted.slice(start, PIECE_ROWS), columns).to_pydict())
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"the table cannot be read: {error}") from error


def _check_columns(names: Sequence[str], options: InputOptions) -> None:
    if column := missing(names, columns_of(options)):
        raise OptionsError(f"{column.flag}: the table has no column {column.source!r}; it has {', '.join(names)}")


async def _gathered(rows: AsyncIterator[list[Any]], options: InputOptions) -> AsyncGenerator[Piece]:
    """Yield rows, each a URL or a mapping of columns, as they came together."""
    numbered = _Numbered(options)
    columns = columns_of(options)
    async for several in rows:
        mappings = [_mapping(row, options.url_col) for row in several]
        values: dict[str, list[Any]] = {}
        for column in columns:
            found = [row.get(column.source) for row in mappings]
            values[column.name] = [text_of(value) for value in found] if column.text else found
        values["url"] = [url and bare(url) for url in values["url"]]
        yield numbered.piece(values)


def _mapping(row: Any, url_col: str) -> Mapping[str, Any]:  # noqa: ANN401  whatever somebody's list has
    if isinstance(row, Mapping):
        return row
    if row is None or (isinstance(row, float) and math.isnan(row)):  # as pandas has what is missing
        return {}
    if isinstance(row, str):
        return {url_col: row}
    raise InputError(f"a row is a URL, or a mapping with the column {url_col!r}; got {str(row)[:100]!r}")


@dataclass(slots=True)
class _Numbered:
    """Gives rows their keys, as if they were of one file."""

    options: InputOptions
    _seen: SeenUrls | None = field(init=False)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self._seen = SeenUrls() if self.options.dedupe else None

    def piece(self, columns: Mapping[str, Sequence[Any]]) -> Piece:
        first, self._numbers = self._numbers, self._numbers + len(columns["url"])
        per_shard = self.options.number_sample_per_shard
        naming = Naming(per_shard, SHARD_DIGITS)
        repeats = self._seen.repeats_in(columns["url"]) if self._seen else frozenset[int]()
        return Piece(columns, lambda place: naming.key(*divmod(first + place, per_shard)), repeats)
