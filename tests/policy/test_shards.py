"""How a list is cut into shards, and what shards, samples and stats files are called."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_img2ds.policy.shards import Naming, cut

if TYPE_CHECKING:
    from collections.abc import Iterator


def batches_of(sizes: list[int]) -> list[pa.RecordBatch]:
    """Batches of the given sizes, whose rows are numbered through."""
    numbers = itertools.count()
    return [pa.record_batch({"n": pa.array(itertools.islice(numbers, size), pa.int64())}) for size in sizes]


@given(sizes=st.lists(st.integers(0, 40), max_size=12), rows_per_shard=st.integers(1, 50))
@settings(deadline=None)
def test_no_row_is_lost_doubled_or_moved(sizes: list[int], rows_per_shard: int) -> None:
    """However the rows come, the shards hold each of them once and in order."""
    tables = list(cut(batches_of(sizes), rows_per_shard))

    assert [row for table in tables for row in table.column("n").to_pylist()] == list(range(sum(sizes)))


@given(sizes=st.lists(st.integers(0, 40), max_size=12), rows_per_shard=st.integers(1, 50))
@settings(deadline=None)
def test_all_shards_but_the_last_are_full(sizes: list[int], rows_per_shard: int) -> None:
    """Only the last shard of a file is short, none is empty, and their number can be told from the rows alone."""
    lengths = [table.num_rows for table in cut(batches_of(sizes), rows_per_shard)]

    assert all(length == rows_per_shard for length in lengths[:-1])
    assert all(0 < length <= rows_per_shard for length in lengths)
    assert len(lengths) == -(-sum(sizes) // rows_per_shard)


def test_a_shard_is_yielded_before_the_next_batch_is_read() -> None:
    """A list need not be read to its end for work to start."""
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for place, batch in enumerate(batches_of([5, 5, 5])):
            read.append(place)
            yield batch

    first = next(cut(batches(), 4))

    assert first.num_rows == 4
    assert read == [0]


def test_cutting_keeps_columns_and_types() -> None:
    """A column keeps its Arrow type in every shard."""
    schema = pa.schema([("tags", pa.list_(pa.string())), ("score", pa.float32()), ("url", pa.string())])
    batch = pa.record_batch([[["a"], None, []], [0.5, None, 2.0], ["x", "y", None]], schema=schema)

    tables = list(cut([batch], 2))

    assert [table.schema for table in tables] == [schema, schema]


def test_shard_of_batches_of_two_types_has_the_wider() -> None:
    """Where files follow each other, their last and first rows may share a shard."""
    batches = [pa.record_batch({"n": pa.array([1, 2])}), pa.record_batch({"n": pa.array([0.5, 1.5])})]
    tables = list(cut(batches, 3))

    assert [table.schema.field("n").type for table in tables] == [pa.float64(), pa.float64()]
    assert [table.column("n").to_pylist() for table in tables] == [[1.0, 2.0, 0.5], [1.5]]


@pytest.mark.parametrize(
    ("rows_per_shard", "shard_digits", "shard_id", "index", "key"),
    [
        pytest.param(1, 5, 12, 0, "00012", id="one row a shard adds no digit"),
        pytest.param(2, 5, 12, 1, "000121", id="two rows"),
        pytest.param(10, 5, 3, 9, "000039", id="ten rows add one digit"),
        pytest.param(11, 5, 3, 10, "0000310", id="eleven rows add two"),
        pytest.param(1000, 5, 0, 0, "00000000", id="first row of all"),
        pytest.param(1000, 5, 7, 999, "00007999", id="thousand rows add three digits"),
        pytest.param(1001, 5, 7, 1000, "000071000", id="one more adds four"),
        pytest.param(10000, 5, 1, 5, "000010005", id="the default"),
        pytest.param(10000, 6, 1, 5, "0000010005", id="six shard digits"),
        pytest.param(10000, 8, 694047, 9999, "006940479999", id="eight shard digits"),
        pytest.param(10000, 3, 12345, 6, "123450006", id="a number too long for its digits gets longer"),
        pytest.param(10000, 0, 0, 5, "0005", id="no shard digits, first shard"),
        pytest.param(1, 0, 0, 0, "0", id="no digits at all"),
    ],
)
def test_key_is_number_then_place(rows_per_shard: int, shard_digits: int, shard_id: int, index: int, key: str) -> None:
    """A key is the shard's number followed by the row's place in it, each padded."""
    assert Naming(rows_per_shard, shard_digits).key(shard_id, index) == key


@given(rows_per_shard=st.integers(1, 10**6), shard_digits=st.integers(0, 8), data=st.data())
def test_no_two_rows_share_a_key(rows_per_shard: int, shard_digits: int, data: st.DataObject) -> None:
    """Keys of different rows differ, even beyond the digits that were planned for."""
    naming = Naming(rows_per_shard, shard_digits)
    rows = st.tuples(st.integers(0, 10**6), st.integers(0, rows_per_shard - 1))
    one, other = data.draw(rows), data.draw(rows)

    assert (int(naming.key(*one)) == int(naming.key(*other))) == (one == other)


@pytest.mark.parametrize(
    ("digits", "shard_id", "stem"),
    [(5, 0, "00000"), (5, 12, "00012"), (5, 123456, "123456"), (0, 7, "7"), (20, 1, "00000000000000000001")],
)
def test_shard_name_is_its_padded_number(digits: int, shard_id: int, stem: str) -> None:
    """Names sort as numbers do, as long as the digits suffice."""
    naming = Naming(10_000, digits)

    assert naming.shard(shard_id) == stem
    assert naming.stats(shard_id) == f"{stem}_stats.json"


@given(shard_id=st.integers(0, 10**9), digits=st.integers(0, 20))
def test_stats_name_tells_its_shard(shard_id: int, digits: int) -> None:
    """What ``stats`` calls a shard's last file, ``finished_shard`` understands."""
    assert Naming.finished_shard(Naming(10_000, digits).stats(shard_id)) == shard_id


@pytest.mark.parametrize(
    "name",
    [
        *("", "_stats.json", "stats.json", "00001.json", "00001.tar", "00001.parquet", "00001_stats.jsonl"),
        "00001_stats.json.tmp",
        *(".00001_stats.json", "a00001_stats.json", "-1_stats.json", "0x1_stats.json", "00001_stats_json"),
        *("00001_stats.json\n", "1/00001_stats.json"),
    ],
)
def test_foreign_names_finish_nothing(name: str) -> None:
    """A file that is no shard's stats file says nothing about a shard."""
    assert Naming.finished_shard(name) is None
