"""URL lists for tests: made in every format, and read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.inputs import UrlList
from async_img2ds.options import INPUT_FORMATS, InputOptions
from async_img2ds.policy.shards import rows_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FORMATS_WITH_COLUMNS",
    "as_arrow",
    "as_parquet",
    "as_stream",
    "encoded",
    "open_list",
    "packed",
    "read",
    "written",
    "zstd",
]

FORMATS_WITH_COLUMNS = [name for name in INPUT_FORMATS if not name.startswith("txt")]


def open_list(path: object, **options: object) -> UrlList:
    return UrlList.open(InputOptions(url_list=path, **options))  # type: ignore[arg-type]  # checked when constructed


def read(path: object, **options: object) -> pa.Table:
    """Return the rows of all shards of a list, joined."""
    return pa.concat_tables(rows_of(shard) for shard in open_list(path, **options).shards())


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def as_parquet(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def as_arrow(table: pa.Table, rows: int | None = None) -> bytes:
    """Return *table* as an IPC file of batches of *rows*."""
    return _as_ipc(table, rows, pa.ipc.new_file)


def as_stream(table: pa.Table, rows: int | None = None) -> bytes:
    """Return *table* as an IPC stream of batches of *rows*."""
    return _as_ipc(table, rows, pa.ipc.new_stream)


def _as_ipc(table: pa.Table, rows: int | None, begin: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with begin(sink, table.schema) as writer:
        writer.write_table(table, rows)
    return bytes(sink.getvalue())


def _as_delimited(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def encoded(rows: list[dict[str, Any]], input_format: str) -> bytes:
    """Return *rows* as a list in *input_format*, written by other libraries than those that read it where there are."""
    name, _, ending = input_format.partition(".")
    content = {
        "txt": lambda: "".join(f"{row['url']}\n" for row in rows).encode(),
        "csv": lambda: _as_delimited(rows, ","),
        "tsv": lambda: _as_delimited(rows, "\t"),
        "json": lambda: json.dumps(rows).encode(),
        "jsonl": lambda: "".join(f"{json.dumps(row)}\n" for row in rows).encode(),
        "parquet": lambda: as_parquet(pa.Table.from_pylist(rows)),
        "arrow": lambda: as_stream(pa.Table.from_pylist(rows)),
        "feather": lambda: as_arrow(pa.Table.from_pylist(rows)),
    }[name]()
    return packed(content, ending)


def packed(content: bytes, ending: str) -> bytes:
    """Return *content* compressed as the *ending* of a file's name says."""
    if ending == "gz":
        return gzip.compress(content, mtime=0)
    return zstd(content) if ending == "zst" else content


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))
