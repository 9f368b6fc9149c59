"""A URL list as it is, all its columns with their names and types: for whoever makes another list of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from async_img2ds.inputs.arrays import as_text, mapped, storable
from async_img2ds.inputs.columns import Column, sources, without_credentials
from async_img2ds.inputs.joined import JoinedTypes
from async_img2ds.inputs.url_list import UrlList

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from async_img2ds.inputs.streams import ListFile
    from async_img2ds.options import InputOptions

__all__ = ["WholeList"]


@dataclass(slots=True)
class WholeList:
    """The files of a list, whose rows are read as one.

    A column that a file has not is null there; one whose type differs from file to file gets a type that holds the
    values of all. Where a format says no types, what the options ask for as text stays text, and all else gets the
    narrowest type that holds it, as in a dataset; that is text if files have numbers and words.

    Attributes:
        every: whether all columns are read, or those that the options ask for.
        share_read: what part of their bytes was read so far, None while that cannot be told.

    """

    _list: UrlList
    every: bool
    _joined: JoinedTypes
    share_read: float | None = None

    @classmethod
    def open(cls, options: InputOptions, *, every: bool = True) -> Self:
        """Find the files and look at the columns of the first.

        Without *every*, only those columns are read that *options* ask for, and URLs without names and passwords.

        Raises:
            InputError: there is nothing to read, or it cannot be read.
            OptionsError: a column that was asked for is not there.

        """
        found = UrlList.open(options)
        return cls(found, every, JoinedTypes("make the files agree", in_words=not found.format.says_types))

    @property
    def files(self) -> list[ListFile]:
        """The files, in order."""
        return self._list.files

    @property
    def schema(self) -> pa.Schema:
        """The columns of all that was read."""
        joined = self._joined.schema
        if not len(joined):  # no row was there
            return pa.schema([pa.field(name, pa.string()) for name in sources(self._list.columns)])
        if self._list.format.says_types:
            return joined
        return pa.schema([pa.field(one.name, mapped(one.type, _text_for_null)) for one in joined])

    def names(self) -> Sequence[str] | None:
        """Return the names of the first file's columns, None if they have none.

        Of jsonl they are those of its first rows.

        Raises:
            InputError: it cannot be read.

        """
        first = self.files[0]
        with self._list.reading(first):
            return self._list.format.names(first, self._list.columns)

    def batches(self) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        """Yield the rows, beside them their URLs as text; each batch has the columns of its file.

        Raises:
            InputError: a file cannot be read, or joined to those before.

        """
        options, sizes = self._list.options, [file.size for file in self.files]
        whole = None if None in sizes else sum(size for size in sizes if size is not None)
        before = 0
        for file in self.files:
            with self._list.reading(file):
                columns = self._columns(file)
                for batch, bytes_read in self._list.format.batches(file, columns):
                    self.share_read = min(1.0, (before + bytes_read) / whole) if whole else None
                    kept = self._kept(batch, sources(columns))
                    self._joined.add(kept.schema, file)
                    yield kept, as_text(batch.column(options.url_col))
            before += file.size or 0

    def _columns(self, file: ListFile) -> list[Column]:
        """Return what is read of *file*: what the options ask for, and all else, in the order of the file."""
        asked = list(self._list.columns)
        names = self._list.format.every_name(file)
        if names is None or not self.every:
            return asked
        places = {name: place for place, name in enumerate(names)}
        others = [Column(name, name, "partition", text=False) for name in names if name not in sources(asked)]
        return sorted([*asked, *others], key=lambda column: places.get(column.source, -1))

    def _kept(self, batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
        """Return *batch* with its columns of types that can be kept."""
        kept = {name: self._storable(name, batch.column(name)) for name in names}
        if not self.every and [one.source for one in self._list.columns].count(self._list.options.url_col) == 1:
            urls = kept[self._list.options.url_col]
            kept[self._list.options.url_col] = without_credentials(as_text(urls))
        return pa.RecordBatch.from_arrays(list(kept.values()), names=names)

    def _storable(self, name: str, array: pa.Array) -> pa.Array:
        # Text of a csv file is read as bytes.
        is_raw = pa.types.is_binary(array.type) and not self._list.format.says_types
        return as_text(array) if is_raw else storable(name, array)


def _text_for_null(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_null(kind) else kind
