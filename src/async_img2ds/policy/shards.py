"""How a list is cut into shards, and how shards and samples are named.

The rules are img2dataset's, so that a dataset begun with one tool can be finished with the other: shards are cut
per input file (unless one stream is made of all), the last of a file is short, numbers run on from file to file, and a
sample's key is its shard's number followed by its place in the shard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from async_img2ds.records import Shard

__all__ = ["DATA_ENDINGS", "INDEX_ENDING", "SAMPLE_ENDINGS", "Naming", "cut", "packed", "rows_of"]


def cut(batches: Iterable[pa.RecordBatch], rows_per_shard: int) -> Iterator[pa.Table]:
    """Yield the rows of *batches* as tables of *rows_per_shard* rows.

    The last one is short; no row is in two, none left out. Where types of columns change from one batch to another, a
    table of both has the wider ones.

    Raises:
        pa.ArrowException: such batches have no types in common.

    """
    held: list[pa.RecordBatch] = []
    held_rows = 0
    for batch in batches:
        rest = batch
        while held_rows + rest.num_rows >= rows_per_shard:
            taken = rows_per_shard - held_rows
            yield _together([*held, rest.slice(0, taken)])
            rest = rest.slice(taken)
            held, held_rows = [], 0
        if rest.num_rows:
            held.append(rest)
            held_rows += rest.num_rows
    if held:
        yield _together(held)


def _together(batches: list[pa.RecordBatch]) -> pa.Table:
    if all(batch.schema == batches[0].schema for batch in batches):
        return pa.Table.from_batches(batches)
    return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive")


def packed(table: pa.Table) -> bytes:
    """Return *table* as a shard carries it: an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def rows_of(shard: Shard) -> pa.Table:
    """Return the rows of *shard*: the list's columns under their final names, ``url`` last."""
    return pa.ipc.open_stream(shard.rows).read_all()


# The endings of a shard's files beside its marker, and of the files of a sample where these lie in a folder.
DATA_ENDINGS: Final = frozenset({"tar", "parquet", "tfrecord"})
# What says where the members of a shard's tar lie, if that was asked for; by itself such a name tells nothing.
INDEX_ENDING: Final = "json"
SAMPLE_ENDINGS: Final = frozenset({"jpg", "png", "webp", "json", "txt"})
_STATS_NAME: Final = re.compile(r"(\d+)_stats\.json")


@dataclass(frozen=True, slots=True)
class Naming:
    """The names of shards and samples, given rows per shard and digits of a shard number."""

    rows_per_shard: int
    shard_digits: int

    @property
    def row_digits(self) -> int:
        """Digits of a key that count rows: enough for the last row of a full shard."""
        return len(str(self.rows_per_shard - 1)) if self.rows_per_shard > 1 else 0

    def shard(self, shard_id: int) -> str:
        """The stem of a shard's files, such as ``00012``."""
        return f"{shard_id:0{self.shard_digits}d}"

    def is_shard(self, stem: str) -> bool:
        """Whether *stem* is what the files of some shard are called."""
        return stem.isascii() and stem.isdigit() and stem == self.shard(int(stem))

    def key(self, shard_id: int, index: int) -> str:
        """The key of the row at *index* of a shard, such as ``000120345``."""
        return f"{shard_id * 10**self.row_digits + index:0{self.shard_digits + self.row_digits}d}"

    def stats(self, shard_id: int) -> str:
        """The name of the file that marks a shard as finished."""
        return f"{self.shard(shard_id)}_stats.json"

    @staticmethod
    def finished_shard(name: str) -> int | None:
        """The number of the shard that the file *name* marks as finished, None for any other file."""
        found = _STATS_NAME.fullmatch(name)
        return int(found[1]) if found else None
