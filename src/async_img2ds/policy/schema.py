"""The columns of the output in one place, and how samples fill them.

First the columns of the list (additional ones, caption, url), then img2dataset's in its
order and types, then this program's own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from async_img2ds.records import Sample

__all__ = ["PROVENANCE", "Columns", "SampleTable"]

# The columns, and fields of a trace, that there are on request; behind them comes body_bytes.
PROVENANCE: Final = ("fetched_at", "address", "content_type", "etag", "last_modified")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a dataset has beside those of its list.

    *exif*, the *digest*'s name, the *image* column's name, if any. Where hashes are verified, the digest's column is
    one of the list: *digest_listed*. With *provenance* those that say when and from whom each image came.
    """

    exif: bool
    digest: str | None
    image: str | None = None
    digest_listed: bool = False
    provenance: bool = False

    def fields(self) -> list[pa.Field]:
        """Return the columns in order, as Arrow fields."""
        return _fields(self)

    def _make_fields(self) -> list[pa.Field]:
        text, whole = pa.string(), pa.int32()
        sizes = [pa.field(name, whole) for name in ("width", "height", "original_width", "original_height")]
        return [
            *(pa.field(name, text) for name in ("key", "status", "error_message")),
            *sizes,
            *([pa.field("exif", text)] if self.exif else []),
            *([pa.field(self.digest, text)] if self._has_digest else []),
            *([pa.field(self.image, pa.binary())] if self.image else []),
            pa.field("error_class", text),
            pa.field("http_status", whole),
            pa.field("attempts", whole),
            pa.field("final_url", text),
            pa.field("optout", text),
            pa.field("tls_verified", pa.bool_()),
            *([pa.field(name, text) for name in PROVENANCE] if self.provenance else []),
            *([pa.field("body_bytes", pa.int64())] if self.provenance else []),
        ]

    def values(self, sample: Sample) -> list[Any]:
        """Return the values of *sample* in the order of :meth:`fields`."""
        encoded, trace = sample.encoded, sample.trace
        if encoded is None:
            made: list[Any] = [None] * (4 + self.exif + self._has_digest + bool(self.image))
        else:
            made = [encoded.width, encoded.height, encoded.original_width, encoded.original_height]
            made += [encoded.exif] if self.exif else []
            made += [encoded.digest] if self._has_digest else []
            made += [encoded.image] if self.image else []
        return [
            *(sample.row.key, str(sample.status), sample.error_message),
            *made,
            None if sample.error_class is None else str(sample.error_class),
            *(sample.http_status, sample.attempts, sample.final_url, trace.optout, trace.tls_verified),
            *([getattr(trace, name) for name in PROVENANCE] if self.provenance else ()),
            *([sample.body_bytes] if self.provenance else ()),
        ]

    def record(self, sample: Sample, listed: dict[str, Any]) -> dict[str, Any]:
        """Return *sample* as one flat mapping: *listed*, its values in the list, then its columns but for the image."""
        plain = self
        if self.image is not None or self.digest_listed:
            plain = replace(self, image=None, digest_listed=False)
            listed = {name: value for name, value in listed.items() if name != self.digest}
        return {**listed, **dict(zip(_names(plain), plain.values(sample), strict=True))}

    @property
    def _has_digest(self) -> bool:
        return self.digest is not None and not self.digest_listed


@functools.cache
def _fields(columns: Columns) -> list[pa.Field]:
    return columns._make_fields()  # noqa: SLF001  the cached half of fields()


@functools.cache
def _names(columns: Columns) -> tuple[str, ...]:
    return tuple(field.name for field in columns.fields())


@dataclass(slots=True)
class SampleTable:
    """Samples gathered in any order, to become one Arrow table.

    The list's columns go in by reference, the others by value.
    """

    listed: pa.Table
    columns: Columns
    _rows: list[int] = field(default_factory=list)
    _digests: list[str | None] = field(default_factory=list)
    _values: list[list[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._values = [[] for _ in self.columns.fields()]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table that :meth:`to_arrow` returns."""
        return pa.schema([*self.listed.schema, *self.columns.fields()])

    def add(self, sample: Sample) -> None:
        """Append one sample."""
        self._rows.append(sample.row.index)
        if self.columns.digest_listed:
            self._digests.append(sample.encoded.digest if sample.encoded else None)
        for column, value in zip(self._values, self.columns.values(sample), strict=True):
            column.append(value)

    def fresh(self) -> SampleTable:
        """Return an empty table of the same columns."""
        return SampleTable(self.listed, self.columns)

    def to_arrow(self) -> pa.Table:
        """Return the samples in the order they came."""
        arrays = [pa.array(values, f.type) for values, f in zip(self._values, self.columns.fields(), strict=True)]
        listed = self.listed.take(pa.array(self._rows, pa.int64()))
        if self.columns.digest_listed:  # what was received, where it was, in the column of what was expected
            at = listed.schema.get_field_index(str(self.columns.digest))
            listed = listed.set_column(
                at, listed.schema.field(at), pa.array(self._digests, pa.string()).cast(listed.schema.field(at).type)
            )
        return pa.Table.from_arrays([*listed.columns, *arrays], schema=self.schema)
