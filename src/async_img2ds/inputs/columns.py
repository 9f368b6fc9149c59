"""Which columns of a list are read, and what they are called in the dataset: decided here alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from async_img2ds.inputs.arrays import as_text_of_its_type, storable
from async_img2ds.sources import CONTAINER_AT_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_img2ds.options import InputOptions

__all__ = ["Column", "arranged", "bare", "check_names", "columns_of", "missing", "sources", "without_credentials"]


# The beginning of a URL up to what stands before the host, of which the first part stays (RFC 3986 3.2.1).
_CREDENTIALS: Final = r"^(\s*[A-Za-z][A-Za-z0-9+.\-]*://)[^/?#]*@"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the list that goes into the dataset.

    Attributes:
        source: its name in the list.
        name: its name in the dataset.
        flag: the option that asks for it.
        text: whether its values become text; else they keep their type.

    """

    source: str
    name: str
    flag: str
    text: bool


def columns_of(options: InputOptions) -> tuple[Column, ...]:
    """Return the columns that *options* ask for, in the order in which the dataset has them."""
    return (
        *(Column(name, name, options.carrier_of(name), text=False) for name in options.carried_columns),
        *([Column(options.caption_col, "caption", "caption_col", text=True)] if options.caption_col else []),
        *([_hash_column(*options.verify_hash)] if options.verify_hash else []),
        Column(options.url_col, "url", "url_col", text=True),
    )


def _hash_column(source: str, kind: str) -> Column:
    return Column(source, kind, "verify_hash", text=True)


def sources(columns: Sequence[Column]) -> list[str]:
    """Return the names in the list of *columns*, each once."""
    return list(dict.fromkeys(column.source for column in columns))


def missing(names: Sequence[str], columns: Sequence[Column]) -> Column | None:
    """Return the first of *columns* that a file with the columns *names* does not have."""
    return next((column for column in columns if column.source not in names), None)


def check_names(names: Sequence[str], columns: Sequence[Column]) -> None:
    """Raise ValueError if a file with the columns *names* has one of *columns* not at all, or twice."""
    if column := missing(names, columns):
        raise ValueError(f"it has no column {column.source!r}; it has {', '.join(names)}")
    for column in columns:
        if list(names).count(column.source) > 1:
            raise ValueError(f"it has two columns {column.source!r}, and {column.flag} means one; rename the other")


def arranged(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    """Return *batch*, which has the columns of the list, as the dataset has them: in order, renamed, fit to be kept."""
    arrays = [
        as_text_of_its_type(batch.column(column.source))
        if column.text
        else storable(column.source, batch.column(column.source))
        for column in columns
    ]
    at = [column.name for column in columns].index("url")
    arrays[at] = without_credentials(arrays[at])
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def without_credentials(urls: pa.Array) -> pa.Array:
    """Return *urls* without names and passwords: they are never sent, so they need not be kept either."""
    if pa.types.is_dictionary(urls.type):
        return pa.DictionaryArray.from_arrays(urls.indices, without_credentials(urls.dictionary))
    if not pc.any(pc.match_substring(urls, "@")).as_py():
        return urls
    without = pc.replace_substring_regex(urls, _CREDENTIALS, r"\1")
    return pc.if_else(pc.match_substring_regex(urls, CONTAINER_AT_ACCOUNT), urls, without)


def bare(url: str) -> str:
    """Return one URL without name and password."""
    return re.sub(_CREDENTIALS, r"\1", url) if "@" in url and not re.match(CONTAINER_AT_ACCOUNT, url) else url
