"""The rows of a list of any length → its shards with hosts kept together, in three passes over local disk.

1. The list is read once, into temporary files, each row with the number of its host; how many rows each number has is
   counted.
2. Rows are dealt to shards (:mod:`async_img2ds.policy.dealing`), and written to a file for each group of consecutive
   ones.
3. Group by group is read, sorted, and passed on shard by shard. A group that is too large for memory is divided into
   smaller ones first.

So memory is bounded whatever the length of the list. Hosts are known by a hash: two that have the same are treated as
one, which holds for both whatever holds for one.
"""

from __future__ import annotations

import itertools
import math
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from async_img2ds.errors import InputError
from async_img2ds.inputs.arrays import encoded, mapped
from async_img2ds.inputs.hosts import hosts_of
from async_img2ds.inputs.joined import first_line, fitted
from async_img2ds.lists.temporary import RowWriter
from async_img2ds.policy.dealing import Dealing, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from async_img2ds.inputs.whole_list import WholeList
    from async_img2ds.lists.temporary import Disk, RowFile

__all__ = ["Group", "Numbers", "Passes", "Read", "UnwantedError", "numbers_for"]

T = TypeVar("T")

# Numbers that hosts may have: one for each so many bytes of the list, within these bounds, and as many where the size
# of the list is not known. Each takes 16 bytes of memory. A list of a billion rows has some ten million hosts.
_BYTES_PER_NUMBER: Final = 256
_NUMBERS_LEAST: Final = 2**20
_NUMBERS_MOST: Final = 2**25
_NUMBERS_UNSURE: Final = 2**22
# What is worked on at a time: what comes first. More rows have fewer hosts each.
_BLOCK_ROWS: Final = 2**17
_BLOCK_BYTES: Final = 2**26
# A group of shards that is sorted in memory, which takes about three times these bytes.
_GROUP_ROWS: Final = 2**18
_GROUP_BYTES: Final = 2**27
# Files written at a time: so many descriptors any system gives.
_FILES_MOST: Final = 128
# Temporary files that are removed as they are read have about this size, so that rows are not there twice for long.
_SPOOL_BYTES: Final = 2**28
# How much room is needed is judged when this part of the list was read.
_JUDGED_SHARE: Final = 0.01

# Beside the columns of the list rows have these two, in this order, behind them.
_HOST: Final = pa.field("host", pa.uint32())
_SHARD: Final = pa.field("shard", pa.uint32())


class UnwantedError(Exception):
    """Nobody waits for the outcome any more."""


def numbers_for(size: int | None) -> int:
    """Return how many numbers the hosts of a list of *size* bytes may have, a power of two."""
    if size is None:
        return _NUMBERS_UNSURE
    return 1 << min(max(size // _BYTES_PER_NUMBER, _NUMBERS_LEAST), _NUMBERS_MOST).bit_length() - 1


@dataclass(slots=True)
class Passes:
    """The passes over the list *listed*, by way of *disk*.

    Attributes:
        told: told what is done, and how many rows of it are done, now and then.
        is_wanted: whether anybody still waits for the outcome.
        rows: how many rows the list has, once it was read.
        hosts: about how many hosts they have, from how many numbers are taken.
        shards: how many shards they make.

    """

    listed: WholeList
    rows_per_shard: int
    disk: Disk
    told: Callable[[str, int], None]
    is_wanted: Callable[[], bool]
    rows: int = 0
    hosts: int = 0
    shards: int = 0
    _done: int = 0

    def read(self) -> Read:
        """Read the list, and count its hosts.

        Raises:
            InputError: it cannot be read.
            StorageError: the disk refused.
            UnwantedError: nobody waits any more.

        """
        sizes = [file.size for file in self.listed.files]
        numbers = Numbers(numbers_for(None if None in sizes else sum(size or 0 for size in sizes)))
        files = _Spool(self.disk)
        for block in _blocks(self.listed.batches(), lambda pair: pair[0]):
            self._step("reading", sum(batch.num_rows for batch, _ in block))
            hosts = numbers.of(pa.concat_arrays([urls for _, urls in block]))
            at = 0
            for batch, _ in block:
                files.write(pa.Table.from_batches([batch]), hosts.slice(at, batch.num_rows))
                at += batch.num_rows
            if (share := self.listed.share_read) and share > _JUDGED_SHARE:
                self.disk.check(self.disk.bytes_now / share)
        self.hosts = numbers.taken()
        dealing = Dealing(numbers.counts, self.rows_per_shard)
        self.rows, self.shards = dealing.rows, dealing.shards
        return Read(files.finish(), dealing)

    def deal(self, read: Read) -> list[Group]:
        """Deal the rows to shards; return the groups of these, in order. Raises what :meth:`read` does."""
        self._done = 0
        schema = _plain(self.listed.schema)
        groups = _Groups(self.disk, schema, range(self.shards), self._at_a_time())
        batches = itertools.chain.from_iterable(file.batches() for file in read.files)
        for block in _blocks(batches, lambda batch: batch):
            rows = _together([_fit(batch, schema) for batch in block])
            self._step("dealing", rows.num_rows)
            hosts = _last(rows)
            by_host = pc.array_sort_indices(hosts)
            groups.write(rows, by_host, _dealt(read.dealing, hosts.take(by_host)))
        return groups.finish()

    def in_order(self, groups: Iterable[Group]) -> Iterator[tuple[int, pa.Table]]:
        """Yield all shards, in order, each with its rows. Raises what :meth:`read` does."""
        self._done = 0
        for group in groups:
            yield from self._sorted(group)

    def _sorted(self, group: Group) -> Iterator[tuple[int, pa.Table]]:
        is_large = group.file.rows > _GROUP_ROWS or group.file.bytes > _GROUP_BYTES
        if is_large and len(group.shards) > 1:
            for part in self._divided(group):
                yield from self._sorted(part)
            return
        rows = _together(list(group.file.batches()))
        order = _order_of(_last(rows, 2), _last(rows))
        rows = rows.select(range(rows.num_columns - 2))
        at = 0
        for shard in group.shards:
            count = min(self.rows_per_shard, self.rows - shard * self.rows_per_shard)
            self._step("sorting", count)
            yield shard, _encoded(rows.take(order.slice(at, count)), self.listed.schema)
            at += count

    def _divided(self, group: Group) -> list[Group]:
        fit = len(group.shards) * _GROUP_BYTES // group.file.bytes
        parts = _Groups(self.disk, _plain(self.listed.schema), group.shards, max(1, min(self._at_a_time(), fit)))
        for block in _blocks(group.file.batches(), lambda batch: batch):
            self._step("dividing", 0)
            rows = _together(block)
            order = pa.array(range(rows.num_rows), pa.uint64())
            parts.write(rows.select(range(rows.num_columns - 1)), order, _last(rows))
        return parts.finish()

    def _at_a_time(self) -> int:
        """Return how many shards may be sorted at a time, going by their rows."""
        return max(1, _GROUP_ROWS // self.rows_per_shard)

    def _step(self, what: str, rows: int) -> None:
        if not self.is_wanted():
            raise UnwantedError
        self._done += rows
        self.told(what, self._done)


@dataclass(frozen=True, slots=True)
class Read:
    """A list that was read: its rows in *files*, and where they go."""

    files: list[RowFile]
    dealing: Dealing


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of consecutive *shards*, in a *file*."""

    shards: range
    file: RowFile


class Numbers:
    """The numbers of hosts, *size* of them; *counts* says of each how many rows have it so far."""

    def __init__(self, size: int) -> None:
        """Begin with no rows; *size* is a power of two."""
        self._size = size
        self.counts = array("Q", bytes(8 * size))

    def of(self, listed: pa.Array) -> pa.Array:
        """Return the numbers of the hosts of URLs, and count them."""
        hosts = hosts_of(listed).dictionary_encode(null_encoding="encode")
        numbers = array("I", map(self._number, hosts.dictionary.to_pylist()))
        found = _as_arrow(numbers, pa.uint32()).take(hosts.indices)
        for number, count in _runs(found):
            self.counts[number] += count
        return found

    def taken(self) -> int:
        """Return about how many hosts there were, from how many numbers none has (linear counting)."""
        free = self.counts.count(0)
        return round(-self._size * math.log(free / self._size)) if free else self._size

    def _number(self, host: str | None) -> int:
        digest = blake2b((host or "").encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") & self._size - 1


class _Spool:
    """Takes the rows of a list in its order, in files of some size, each of one schema."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._files: list[RowFile] = []
        self._writer: RowWriter | None = None

    def write(self, rows: pa.Table, hosts: pa.Array) -> None:
        plain = _plain(rows.schema)
        rows = (rows if rows.schema == plain else rows.cast(plain)).append_column(_HOST, hosts)
        writer = self._writer
        if writer is None or writer.schema != rows.schema or writer.bytes > _SPOOL_BYTES:
            self.finish()
            writer = self._writer = RowWriter(self._disk, rows.schema)
        writer.write(rows)

    def finish(self) -> list[RowFile]:
        if self._writer is not None and (file := self._writer.finish()):
            self._files.append(file)
        self._writer = None
        return self._files


class _Groups:
    """Takes rows of *shards*, and writes them to a file for each group of *at_a_time* of these, or of more."""

    def __init__(self, disk: Disk, schema: pa.Schema, shards: range, at_a_time: int) -> None:
        self._each = max(at_a_time, -(-len(shards) // _FILES_MOST))
        self._shards = shards
        schema = schema.append(_HOST).append(_SHARD)
        self._writers = [RowWriter(disk, schema) for _ in shards[:: self._each]]

    def write(self, rows: pa.Table, order: pa.Array, shards: pa.Array) -> None:
        """Take *rows*, which have their hosts; those at the places of *order* are of *shards*."""
        groups = pc.divide(pc.subtract(shards, pa.scalar(self._shards.start, pa.uint32())), self._each)
        by_group = pc.array_sort_indices(groups)
        rows = rows.take(order.take(by_group)).append_column(_SHARD, shards.take(by_group))
        at = 0
        for group, count in _runs(groups.take(by_group)):
            self._writers[group].write(rows.slice(at, count))
            at += count

    def finish(self) -> list[Group]:
        """Return the groups, in order."""
        files = [writer.finish() for writer in self._writers]
        spans = (self._shards[at : at + self._each] for at in range(0, len(self._shards), self._each))
        return [Group(shards, file) for shards, file in zip(spans, files, strict=True) if file is not None]


def _blocks(items: Iterable[T], batch_of: Callable[[T], pa.RecordBatch]) -> Iterator[list[T]]:
    """Yield *items* in lists whose batches have so many rows or bytes together that work on them is worth its while."""
    block: list[T] = []
    rows = size = 0
    for item in items:
        batch = batch_of(item)
        block.append(item)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _BLOCK_ROWS or size >= _BLOCK_BYTES:
            yield block
            block, rows, size = [], 0, 0
    if block:
        yield block


def _dealt(dealing: Dealing, hosts: pa.Array) -> pa.Array:
    """Return the shards of the next rows, which are of *hosts*, those of a host together."""
    shards = array("I")
    for host, count in _runs(hosts):
        for shard, dealt in dealing.deal(host, count):
            if dealt == 1:
                shards.append(shard)
            else:
                shards.extend(itertools.repeat(shard, dealt))
    return _as_arrow(shards, pa.uint32())


def _order_of(hosts: pa.Array, shards: pa.Array) -> pa.Array:
    """Return the order of rows by their shards, and in each by when they have their turn."""
    # Sorts that keep what is equal in its order, so that the rows of a host stay in that of the list.
    by_host = pc.sort_indices(pa.table([shards, hosts], names=["shard", "host"]), sort_keys=_ascending("shard", "host"))
    shards, hosts = shards.take(by_host), hosts.take(by_host)
    keys = pc.add(pc.multiply(shards.cast(pa.uint64()), pa.scalar(2**32, pa.uint64())), hosts.cast(pa.uint64()))
    when = _as_arrow(turns((key & 0xFFFF_FFFF, count) for key, count in _runs(keys)), pa.float64())
    by_turn = pc.sort_indices(pa.table([shards, when], names=["shard", "when"]), sort_keys=_ascending("shard", "when"))
    return by_host.take(by_turn)


def _ascending(*names: str) -> list[tuple[str, str]]:
    return [(name, "ascending") for name in names]


def _runs(numbers: pa.Array) -> Iterator[tuple[int, int]]:
    """Yield each of *numbers* once, in the order in which they come first, with how often it is there."""
    counted = pc.value_counts(numbers)
    return zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)


def _as_arrow(numbers: array[Any], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _together(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).combine_chunks()


def _last(rows: pa.Table, nth: int = 1) -> pa.Array:
    """Return the last column but for so many, which is one of ours."""
    column = rows.column(rows.num_columns - nth)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return *batch*, which has its hosts behind the columns of its file, with the columns of *schema* before them."""
    own = batch.num_columns - 1
    try:
        rows = fitted(batch.select(range(own)), schema)
    except pa.ArrowException as error:
        raise InputError(f"url_list: its files cannot be joined: {first_line(error)}; make them agree") from error
    return pa.RecordBatch.from_arrays([*rows.columns, batch.column(own)], schema=schema.append(_HOST))


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return *schema* with values in the place of dictionaries, each piece of which would carry a whole one."""
    return pa.schema([pa.field(one.name, mapped(one.type, _value_type)) for one in schema])


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _encoded(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return *rows* with the columns of *schema*, but for dictionaries inside of other types, which stay values."""
    for place, one in enumerate(schema):
        if pa.types.is_dictionary(one.type):
            try:
                rows = rows.set_column(place, one, encoded(rows.column(place).combine_chunks(), one.type))
            except pa.ArrowInvalid as error:
                raise InputError(
                    f"url_list: column {one.name!r} has more different values than its type, {one.type}, can tell "
                    "apart; give it a wider one"
                ) from error
    return rows
