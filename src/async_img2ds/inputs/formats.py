"""The input formats by name, and what each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.inputs.arrow import ARROW
from async_img2ds.inputs.csv import CSV, TSV
from async_img2ds.inputs.json import JSON, JSONL
from async_img2ds.inputs.parquet import PARQUET
from async_img2ds.inputs.txt import TXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.streams import ListFile

__all__ = ["FORMATS", "Format"]


class Format(Protocol):
    """How files of one format are read. Raises ValueError, OSError or Arrow's errors for what cannot be read."""

    @property
    def says_types(self) -> bool:
        """Whether a file says the types of its columns; else a column without a value has none, and becomes text."""

    def names(self, file: ListFile, columns: Sequence[Column]) -> Sequence[str] | None:
        """Return the names of the file's columns, None if it has none; at least those that are among *columns*."""

    def every_name(self, file: ListFile) -> Sequence[str] | None:
        """Return the names of all columns that the file has anywhere, None if they have no names."""

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the file's rows, all of one schema, with the columns that *columns* take their values from.

        Beside each batch, how many bytes of the file were read for it and all before.
        """


FORMATS: Final[Mapping[str, Format]] = {
    "txt": TXT,
    "csv": CSV,
    "tsv": TSV,
    "json": JSON,
    "jsonl": JSONL,
    "parquet": PARQUET,
    "arrow": ARROW,
    "feather": ARROW,
}
