"""A URL list → a lazy stream of shards.

Files are read as batches of rows and cut as the batches come, so memory does not grow with the list and work starts
before the list has been read. A column keeps its Arrow type on its way to the metadata.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from async_img2ds.errors import InputError, InputOutOfReach, OptionsError
from async_img2ds.inputs.arrays import mapped
from async_img2ds.inputs.columns import arranged, check_names, columns_of, missing
from async_img2ds.inputs.files import files_of, split_format
from async_img2ds.inputs.formats import FORMATS
from async_img2ds.inputs.joined import JoinedTypes, first_line
from async_img2ds.policy.markers import check_alike, digest_of_urls
from async_img2ds.policy.shards import cut, packed
from async_img2ds.policy.url_sets import SeenUrls
from async_img2ds.ranks import ALL
from async_img2ds.records import Shard
from async_img2ds.storage import in_a_line, is_out_of_reach

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.formats import Format
    from async_img2ds.inputs.streams import ListFile
    from async_img2ds.options import InputOptions
    from async_img2ds.policy.markers import Made
    from async_img2ds.ranks import Share

__all__ = ["UrlList"]

# Shards held back until a finished one behind them has been compared; each holds its rows, about a megabyte. A killed
# run leaves fewer gaps than that.
HELD_MAX: Final = 32


@dataclass(slots=True)
class UrlList:
    """The files of a URL list, in order.

    Attributes:
        files: the files.
        columns: what is read of them.
        rows_read: rows cut into shards so far, those skipped included.
        rows_skipped: rows left out because their shards were finished before.
        shards_skipped: how many shards these are.
        rows_known: rows left out because their URLs were known.
        rows_elsewhere: rows of shards that are other ranks'.

    """

    options: InputOptions
    files: list[ListFile]
    columns: tuple[Column, ...]
    rows_read: int = 0
    rows_skipped: int = 0
    shards_skipped: int = 0
    rows_known: int = 0
    rows_elsewhere: int = 0
    _bytes: int | None = None
    _bytes_before: int = 0
    _bytes_of_file: float = 0.0
    _rows_unpacked: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        sizes = [file.size for file in self.files]
        self._bytes = None if None in sizes else sum(size for size in sizes if size is not None)

    @classmethod
    def open(cls, options: InputOptions) -> UrlList:
        """Find the files and look at the columns of the first.

        Raises:
            InputError: there is nothing to read, or it cannot be read.
            OptionsError: a column that was asked for is not there.

        """
        found = cls(options, files_of(options), columns_of(options))
        found._check_columns(found.files[0])
        return found

    def shards(
        self,
        finished: Container[int] = (),
        made: Mapping[int, Made] | None = None,
        shape: Mapping[str, Any] | None = None,
        *,
        first_shard: int = 0,
        known: Container[str | None] = (),
        share: Share = ALL,
    ) -> Iterator[Shard]:
        """Yield the shards of *share* that are not in *finished*, all of the list numbered from *first_shard*.

        *made* says what some of the finished ones were made of, and *shape* which options theirs are to be like. Shards
        before one of these are held back until it has been compared, so that nothing is done for a wrong list.

        They are cut file by file, or from all files as from one, of the rows whose URL is not among *known*.

        Raises:
            InputError: a file cannot be read, or a finished shard was made of another list; shards yielded before are
                good.
            OptionsError: a finished shard was made with other options.

        """
        seen = SeenUrls() if self.options.dedupe else None
        left = dict(made or {})
        held: deque[Shard] = deque()
        for shard_id, table in enumerate(self._tables(known), first_shard):
            self.rows_read += table.num_rows
            repeats = seen.repeats_in(table.column("url").to_pylist()) if seen else frozenset()
            if shard_id in finished and (before := left.pop(shard_id, None)):
                check_alike(shard_id, before, shape or {})
                _check_same(shard_id, before, table)
                yield from held
                held.clear()
            if not share.has(shard_id):
                self.rows_elsewhere += table.num_rows
            elif shard_id in finished:
                self.shards_skipped += 1
                self.rows_skipped += table.num_rows
            else:
                typed = table if self.format.says_types else _with_types(table)
                held.append(Shard(shard_id, packed(typed), table.num_rows, repeats=repeats))
                if not left or len(held) > HELD_MAX:
                    yield held.popleft()
        yield from held
        self._ended = True

    def rows_expected(self) -> int | None:
        """Return how many rows there are to do, those skipped left out.

        Exact once the list is read, else from the share of bytes read. None while there is nothing to tell it from.
        """
        if self._ended:
            return self.rows_read - self.rows_skipped - self.rows_elsewhere
        read = (self._bytes_before + self._bytes_of_file) / self._bytes if self._bytes else 0
        ours = self.rows_read - self.rows_elsewhere
        if not (read and ours):
            return None
        # Of the rows that have been unpacked for these bytes, those that are in no shard yet are as many ours.
        return max(0, round(self._rows_unpacked / read * ours / self.rows_read) - self.rows_skipped)

    @property
    def format(self) -> Format:
        """How its files are read."""
        return FORMATS[split_format(self.options.input_format)[0]]

    def _tables(self, known: Container[str | None]) -> Iterator[pa.Table]:
        rows = self.options.number_sample_per_shard
        if not self.options.shard_across_files:
            for file in self.files:
                yield from cut(self._batches(file, known), rows)
            return
        try:
            yield from cut(self._joined(known), rows)
        except pa.ArrowException as error:
            raise InputError(
                f"url_list: rows of two files cannot be put into one shard: {first_line(error)}; {_APART}"
            ) from error

    def _joined(self, known: Container[str | None]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all files, a column's type at least as wide as it was before."""
        joined = JoinedTypes(_APART)
        for file in self.files:
            for batch in self._batches(file, known):
                joined.add(batch.schema, file)
                yield joined.fit(batch, file)

    def _batches(self, file: ListFile, known: Container[str | None]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of *file*, as the dataset has them, but those with a URL among *known*."""
        with self.reading(file):
            for batch, bytes_read in self.format.batches(file, self.columns):
                # Kept as a number, because whoever asks for progress may do so while the file is being closed.
                self._bytes_of_file = bytes_read
                rows = arranged(batch, self.columns)
                rows = self._without(known, rows) if known else rows
                self._rows_unpacked += rows.num_rows
                yield rows
        self._bytes_before += file.size or 0
        self._bytes_of_file = 0.0

    def _without(self, known: Container[str | None], rows: pa.RecordBatch) -> pa.RecordBatch:
        wanted = pa.array([url not in known for url in rows.column("url").to_pylist()], pa.bool_())
        left = rows.filter(wanted)
        self.rows_known += rows.num_rows - left.num_rows
        return left

    def check_all(self) -> None:
        """Look at the columns of every file, as :meth:`open` does at those of the first; raises what it raises."""
        for file in self.files[1:]:
            self._check_columns(file)

    def _check_columns(self, file: ListFile) -> None:
        with self.reading(file):
            names = self.format.names(file, self.columns)
            if names is None:
                return
            if column := missing(names, self.columns):
                raise OptionsError(
                    f"{column.flag}: the list has no column {column.source!r}; it has {', '.join(names)}"
                )
            check_names(names, self.columns)

    @contextmanager
    def reading(self, file: ListFile) -> Iterator[None]:
        """Say in words of ours, during the block, why *file* cannot be read."""
        try:
            yield
        except Exception as error:
            if is_out_of_reach(error):
                raise InputOutOfReach(f"url_list: {file.name} cannot be read now: {in_a_line(error)}") from error
            if isinstance(error, pa.ArrowException | OSError | ValueError):
                said = f"cannot be read as {self.options.input_format}: {first_line(error)}"
                raise InputError(f"url_list: {file.name} {said}") from error
            raise


def _check_same(shard_id: int, made: Made, table: pa.Table) -> None:
    if made.rows != table.num_rows:
        raise InputError(
            f"url_list: shard {shard_id} in the output folder was made of {made.rows} rows, and of this list it would "
            f"have {table.num_rows}: {_GO_ON}"
        )
    if made.urls not in (None, digest_of_urls(table.column("url"))):
        raise InputError(
            f"url_list: shard {shard_id} in the output folder was made of other URLs than this list has there: "
            f"{_GO_ON}; or leave finished shards as they are with --resume_anyway"
        )


_GO_ON = (
    "go on with the list and the number_sample_per_shard that it was begun with, take --incremental_mode extend_new "
    "for new rows only, or choose another folder"
)


_APART = "make the files agree, or leave out shard_across_files"


def _with_types(table: pa.Table) -> pa.Table:
    """Return *table* with columns of text where no value has said what they are of."""
    kinds = [mapped(inner.type, lambda kind: pa.string() if pa.types.is_null(kind) else kind) for inner in table.schema]
    return table.cast(pa.schema([inner.with_type(kind) for inner, kind in zip(table.schema, kinds, strict=True)]))
