"""The metadata table of a shard: what its rows say, and what may be wrong with them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.errors import ErrorClass
from async_img2ds.records import Defect, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.policy.markers import Marker

__all__ = ["ShardTable", "read_table"]

_NEEDED: Final = ("key", "status", "error_message")
_DIGESTS: Final = ("md5", "sha256", "sha512")
# Those that are looked at; images stay where they are.
_READ: Final = (*_NEEDED, "error_class", "http_status", "attempts", "width", "height", *_DIGESTS)
# What the HTTP status of a row of these classes is.
_STATUSES: Final = {
    ErrorClass.HTTP_STATUS_4XX: range(400, 500),
    ErrorClass.HTTP_STATUS_5XX: range(500, 600),
    ErrorClass.HTTP_RATE_LIMITED: range(429, 430),
}
_CLASSES: Final = frozenset(ErrorClass)
# What was made of C0, DEL and C1 characters cannot be shown, and may move a terminal's cursor.
# Ends of lines are none: what img2dataset and this program say of redirects without end has some.
_CONTROL: Final = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n")})


@dataclass(frozen=True, slots=True)
class ShardTable:
    """The rows of a shard by column, in the order of its table; columns that it does not have are None in each row.

    Attributes:
        schema: of all its columns.
        columns: the values of those that are looked at.

    """

    schema: pa.Schema
    columns: dict[str, list[Any]]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.columns["key"])

    def successes(self) -> list[str]:
        """Return the keys of the rows with an image, in order."""
        pairs = zip(self.columns["key"], self.columns["status"], strict=True)
        return [key for key, status in pairs if status == Status.SUCCESS]

    def images(self) -> dict[str, tuple[int | None, int | None, dict[str, str]]]:
        """Return by key what is said of the images: width, height, and digests of the bodies by their kind."""
        wanted = ("key", "status", "width", "height", *_DIGESTS)
        rows = zip(*(self.columns[name] for name in wanted), strict=True)
        return {
            key: (width, height, {kind: digest for kind, digest in zip(_DIGESTS, digests, strict=True) if digest})
            for key, status, width, height, *digests in rows
            if status == Status.SUCCESS
        }


def read_table(file: IO[bytes], name: str, stem: str, marker: Marker) -> Iterator[Defect | ShardTable]:
    """Yield what is wrong with the table in *file*, called *name*, of the shard *stem*; then the table, if it is one.

    Whether the rows are those that *marker* counts, each is there once, and says of itself what can be.
    """
    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            read = parquet.read(columns=[column for column in _READ if column in schema.names])
        values = {column: read.column(column).to_pylist() for column in read.column_names}
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:  # what Arrow says of damaged bytes
        yield Defect(name, f"cannot be read: {str(error).splitlines()[0]}")
        return
    if missing := [column for column in _NEEDED if column not in schema.names]:
        yield Defect(name, f"has no column {', '.join(missing)}")
        return
    blank = [None] * read.num_rows
    table = ShardTable(schema, columns := {column: values.get(column, blank) for column in _READ})
    yield from _keys(table, name, stem, marker.tally.count)
    yield from _counts(table, name, marker)
    has_classes = "error_class" in schema.names
    rows = zip(*(columns[column] for column in _READ[:6]), strict=True)
    for key, status, message, error_class, http_status, attempts in rows:
        told = message if marker.files is not None else None  # img2dataset's have line feeds
        for what in _row(status, told, error_class, http_status, attempts, has_classes=has_classes):
            yield Defect(name, what, key)
    yield table


def _keys(table: ShardTable, name: str, stem: str, count: int) -> Iterator[Defect]:
    """Say which of the keys 0 to *count* of the shard are missing, there twice, or none of its own."""
    seen: Counter[int] = Counter()
    for key in table.columns["key"]:
        place = _place(key, stem)
        if place is None or not 0 <= place < count:
            yield Defect(name, "is no key of this shard", str(key))
            continue
        seen[place] += 1
        if seen[place] == 2:  # noqa: PLR2004  said once
            yield Defect(name, "is there more than once", key)
    if table.rows != count:
        yield Defect(name, f"has {table.rows} rows, and the stats file counts {count}")
    if len(seen) < count:
        first = next(place for place in itertools.count() if place not in seen)
        yield Defect(name, f"lacks {count - len(seen)} of its rows, the first at place {first}")


def _place(key: object, stem: str) -> int | None:
    """Return which row of the shard *stem* a key is of: it is the shard's number, and digits of its row behind it."""
    if not (isinstance(key, str) and key.isascii() and key.isdigit()):
        return None
    row_digits = max(0, len(key) - len(stem))
    return int(key) - int(stem) * int(10**row_digits)


def _counts(table: ShardTable, name: str, marker: Marker) -> Iterator[Defect]:
    there = Counter(table.columns["status"])
    for status in Status:
        told = getattr(marker.tally, "successes" if status is Status.SUCCESS else status.value)
        if there[status.value] != told:
            yield Defect(name, f"has {there[status.value]} rows of status {status}, and the stats file counts {told}")
    if marker.files is not None:
        classes = Counter(kind for kind in table.columns["error_class"] if kind is not None)
        if classes != marker.tally.error_classes:
            yield Defect(name, "does not have the error classes that the stats file counts")


def _row(
    status: object, message: object, error_class: object, http_status: object, attempts: object, *, has_classes: bool
) -> Iterator[str]:
    """Say what is wrong with a row by itself."""
    if status not in tuple(Status):
        yield f"has the unknown status {status!r}"
        return
    failed = status != Status.SUCCESS
    if isinstance(message, str) and message.translate(_CONTROL) != message:
        yield "has control characters in its error_message"
    if not has_classes:
        return
    if failed != (error_class is not None):
        yield f"has status {status} and error_class {error_class}"
    elif failed and error_class not in _CLASSES:
        yield f"has the unknown error_class {error_class!r}"
    elif failed and http_status not in _STATUSES.get(ErrorClass(str(error_class)), (http_status,)):
        yield f"has error_class {error_class} and http_status {http_status}"
    if not isinstance(attempts, int) or attempts < 0:
        yield f"has {attempts} attempts"
