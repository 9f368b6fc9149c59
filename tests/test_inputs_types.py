"""Types of additional columns: kept from the list to the metadata, and made into JSON that anyone can read."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_img2ds.errors import InputError
from async_img2ds.inputs import lines as text_lines
from async_img2ds.inputs import shapes
from async_img2ds.inputs.shapes import Shape, array_of
from async_img2ds.outputs.base import Output, open_writer
from async_img2ds.outputs.json_values import json_values
from async_img2ds.policy.schema import Columns
from async_img2ds.policy.shards import rows_of
from async_img2ds.records import Encoded, Row, Sample, Status
from async_img2ds.storage import Attempt, LocalStore
from lists import as_arrow, as_stream, open_list, read, written

if TYPE_CHECKING:
    from pathlib import Path

AT = dt.datetime(2026, 1, 31, 23, 59, 58, 7000, tzinfo=dt.UTC)
DAY = dt.date(2026, 1, 31)
TIME = dt.time(1, 2, 3, 4000)

# A type → a value of it, and that value in JSON. In a column a null and the value again come behind it.
KEPT: dict[pa.DataType, tuple[Any, Any]] = {
    pa.bool_(): (True, True),
    pa.int8(): (-1, -1),
    pa.uint64(): (2**64 - 1, 2**64 - 1),
    pa.float32(): (0.5, 0.5),
    pa.float64(): (math.nan, None),
    pa.decimal128(5, 2): (Decimal("1.50"), "1.50"),
    pa.decimal256(50, 2): (Decimal("-0.01"), "-0.01"),
    pa.date32(): (DAY, "2026-01-31"),
    pa.time32("ms"): (TIME, "01:02:03.004"),
    pa.time64("us"): (TIME, "01:02:03.004000"),
    pa.timestamp("ms"): (AT.replace(tzinfo=None), "2026-01-31T23:59:58.007"),
    pa.timestamp("us", "Europe/Berlin"): (AT, "2026-01-31T23:59:58.007000+00:00"),
    pa.timestamp("ns"): (AT.replace(tzinfo=None), "2026-01-31T23:59:58.007000000"),
    pa.timestamp("ns", "UTC"): (AT, "2026-01-31T23:59:58.007000000+00:00"),
    pa.duration("ms"): (dt.timedelta(seconds=1.5), 1.5),
    pa.duration("ns"): (dt.timedelta(days=-1), -86400.0),
    pa.binary(): (b"\xff\0", "/wA="),
    pa.large_binary(): (b"", ""),
    pa.binary(2): (b"ab", "YWI="),
    pa.string(): ("ä", "ä"),
    pa.large_string(): ("", ""),
    pa.dictionary(pa.int32(), pa.string()): ("a", "a"),
    pa.list_(pa.string()): (["a", None], ["a", None]),
    pa.large_list(pa.float64()): ([math.inf, 1.0], [None, 1.0]),
    pa.list_(pa.int8(), 2): ([1, 2], [1, 2]),  # before Arrow 24: a plain list
    pa.list_(pa.list_(pa.timestamp("ns"))): ([[AT.replace(tzinfo=None)], []], [["2026-01-31T23:59:58.007000000"], []]),
    pa.struct([("a", pa.decimal128(5, 2)), ("b", pa.list_(pa.date32()))]): (
        {"a": Decimal(1), "b": [DAY]},
        {"a": "1.00", "b": ["2026-01-31"]},
    ),
    pa.struct([("a", pa.struct([("b", pa.binary())]))]): ({"a": {"b": b"x"}}, {"a": {"b": "eA=="}}),
    pa.map_(pa.string(), pa.int64()): ([("a", 1), ("b", None)], {"a": 1, "b": None}),
    pa.map_(pa.int8(), pa.list_(pa.date32())): ([(1, [DAY])], {"1": ["2026-01-31"]}),
    pa.list_(pa.map_(pa.string(), pa.string())): ([[("a", "b")], []], [{"a": "b"}, {}]),
    pa.null(): (None, None),
    pa.uuid(): (b"0123456789abcdef", "30313233-3435-3637-3839-616263646566"),
    pa.json_(): ('{"a": 1}', '{"a": 1}'),
    pa.float16(): (1.5, 1.5),
    pa.decimal32(5, 2): (Decimal(2), "2.00"),
}


def column_of(kind: pa.DataType, value: Any) -> pa.Array:
    """Return the value, a null and the value again as a column of *kind*."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array([value, None, value], kind.storage_type))
    if pa.types.is_float16(kind):
        return pa.array([value, None, value], pa.float32()).cast(kind)
    return pa.array([value, None, value], kind)


def stored_as(column: pa.Array) -> pa.DataType:
    """Return its type, or a plain list for one of a fixed length if this version of Arrow cannot write nulls in it."""
    kind = column.type
    try:
        pq.write_table(pa.table({"x": column}), pa.BufferOutputStream())
    except pa.ArrowNotImplementedError:
        assert pa.types.is_fixed_size_list(kind)
        return pa.list_(kind.value_field)
    return kind


def dataset_of(listed: pa.Table, folder: Path) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Store an image for each row of *listed*; return the metadata and the JSON of each, read back."""
    store = LocalStore(folder)
    store.prepare()

    async def run() -> None:
        async with Attempt.open(store) as attempt:
            output = Output(attempt, "00000", listed, Columns(exif=False, digest=None), "jpg", captions=False)
            writer = await open_writer("files", output)
            for index in range(listed.num_rows):
                encoded = Encoded(b"x", 1, 1, 1, 1, None, None)
                await writer.write(Sample(Row(index, f"{index}", None), Status.SUCCESS, encoded))
            await writer.finish()
            await attempt.commit("00000_stats.json", b"{}")

    asyncio.run(run())
    store.close()
    records = [json.loads((folder / "00000" / f"{index}.json").read_bytes()) for index in range(listed.num_rows)]
    return pq.read_table(folder / "00000.parquet"), records


@pytest.mark.parametrize(("kind", "example"), KEPT.items(), ids=map(str, KEPT))
def test_column_keeps_its_type_up_to_the_metadata(tmp_path: Path, kind: pa.DataType, example: tuple[Any, Any]) -> None:
    """From an Arrow list, through a shard and the rows that a writer takes, into Parquet and into strict JSON."""
    value, in_json = example
    column = column_of(kind, value)
    table = pa.table({"x": column, "url": ["a", "b", "c"]})
    path = written(tmp_path / "list", as_stream(table))
    listed = read(path, input_format="arrow", save_additional_columns=["x"])
    metadata, records = dataset_of(listed, tmp_path / "out")

    assert listed.schema.field("x").type == stored_as(column)
    assert str(metadata.column("x").to_pylist()) == str(table.column("x").to_pylist())
    assert metadata.schema.field("x").type == stored_as(column)
    assert [record["x"] for record in records] == [in_json, None, in_json]


def run_end_encoded(values: list[Any]) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(values) + 1), pa.int32()), pa.array(values))


def union_of(values: pa.Array, others: pa.Array) -> pa.Array:
    return pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [values, others])


LONG = "longer than twelve bytes"
# Columns of types that rows cannot be taken from, or that Parquet does not know → the type they become, and values.
REPLACED = {
    "string-view": (pa.array(["a", None, LONG], pa.string_view()), pa.string(), ["a", None, LONG]),
    "binary-view": (pa.array([b"a", None, b"\xff"], pa.binary_view()), pa.binary(), [b"a", None, b"\xff"]),
    "list-of-views": (pa.array([["a", LONG], None, []], pa.list_(pa.string_view())), None, [["a", LONG], None, []]),
    "struct-of-views": (
        pa.array([{"a": "b"}, None, {"a": LONG}], pa.struct([("a", pa.string_view())])),
        pa.struct([("a", pa.string())]),
        [{"a": "b"}, None, {"a": LONG}],
    ),
    "map-of-views": (
        pa.array([[("a", LONG)], None, []], pa.map_(pa.string_view(), pa.string_view())),
        pa.map_(pa.string(), pa.string()),
        [[("a", LONG)], None, []],
    ),
    "list-view": (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), pa.list_(pa.int8()), [[1], None, [2, 3]]),
    "large-list-view": (
        pa.array([[1], None, []], pa.large_list_view(pa.int8())),
        pa.large_list(pa.int8()),
        [[1], None, []],
    ),
    "runs": (run_end_encoded(["a", None, "b"]), pa.string(), ["a", None, "b"]),
    "dictionary-of-lists": (
        pa.DictionaryArray.from_arrays(pa.array([0, None, 1]), pa.array([["a"], ["b"]])),
        pa.list_(pa.string()),
        [["a"], None, ["b"]],
    ),
    "null-in-a-dictionary": (
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), pa.array(["a", None, "b"])),
        pa.dictionary(pa.int8(), pa.string()),
        ["a", None, "b"],
    ),
    "union": (
        union_of(pa.array([1, 2, 3]), pa.array([["x"], ["y"], ["z"]])),
        pa.string(),
        ["1", '["y"]', "3"],
    ),
    "interval": (pa.array([(1, 2, 3), None, (0, 0, 0)], pa.month_day_nano_interval()), pa.string(), None),
    "no-fields": (pa.array([{}, None, {}], pa.struct([])), pa.string(), ["{}", None, "{}"]),
    "list-of-no-fields": (pa.array([[{}], None, []], pa.list_(pa.struct([]))), None, [["{}"], None, []]),
}


@pytest.mark.parametrize(("column", "kind", "values"), REPLACED.values(), ids=REPLACED)
@pytest.mark.parametrize("encode", [as_arrow, as_stream], ids=["file", "stream"])
def test_column_that_could_not_be_stored_becomes_the_nearest_that_can(
    tmp_path: Path, column: pa.Array, kind: pa.DataType | None, values: list[Any] | None, encode: Any
) -> None:
    """Before the start, and not as the loss of every shard at its end."""
    path = written(tmp_path / "list", encode(pa.table({"x": column, "url": ["a", "b", "c"]})))
    listed = read(path, input_format="arrow", save_additional_columns=["x"])
    metadata, records = dataset_of(listed, tmp_path / "out")

    assert kind is None or listed.schema.field("x").type == kind
    assert values is None or metadata.column("x").to_pylist() == values
    assert (records[0]["x"] is None, records[1]["x"] is None) == (False, column[1].as_py() is None)


BAD = pa.array([b"caf\xe9", None, b"tea"]).view(pa.string())
DAMAGED = {
    "string": BAD,
    "large-string": pa.array([b"caf\xe9", None, b"tea"], pa.large_binary()).view(pa.large_string()),
    "list": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), BAD),
    "struct": pa.StructArray.from_arrays([BAD], ["a"]),
    "dictionary": pa.DictionaryArray.from_arrays(pa.array([0, None, 1], pa.int8()), BAD.drop_null()),
}


@pytest.mark.parametrize("column", DAMAGED.values(), ids=DAMAGED)
def test_text_that_is_no_utf_8_becomes_readable_wherever_it_is(tmp_path: Path, column: pa.Array) -> None:
    """Other tools write any bytes into what is typed as text; the type of the column stays."""
    path = written(tmp_path / "list", as_stream(pa.table({"x": column, "url": ["a", "b", "c"]})))
    listed = read(path, input_format="arrow", save_additional_columns=["x"])
    _, records = dataset_of(listed, tmp_path / "out")

    assert listed.schema.field("x").type == pa.table({"x": column}).schema.field("x").type
    assert "caf\ufffd" in json.dumps(records[0]["x"], ensure_ascii=False)
    assert "tea" in json.dumps(records[2]["x"])


def test_column_with_offsets_that_lead_astray_is_refused(tmp_path: Path) -> None:
    """A column that is damaged beyond its texts ends the run with its name, not with a crash of a worker."""
    broken = pa.ListArray.from_buffers(
        pa.list_(pa.int64()),
        3,
        [None, pa.py_buffer(b"\0\0\0\0\xff\0\0\0\x01\0\0\0\x02\0\0\0")],
        children=[pa.array([1, 2])],
    )
    path = written(tmp_path / "list", as_stream(pa.table({"x": broken, "url": ["a", "b", "c"]})))

    with pytest.raises(InputError, match="list cannot be read as arrow"):
        read(path, input_format="arrow", save_additional_columns=["x"])


def test_shard_carries_only_what_its_rows_use_of_a_dictionary(tmp_path: Path) -> None:
    """A column of a million different texts, stored as a dictionary, does not travel whole with every shard."""
    texts = pa.array([f"text {number}" for number in range(100_000)]).dictionary_encode()
    path = written(tmp_path / "list", as_arrow(pa.table({"x": texts, "url": ["a"] * len(texts)})))
    found = open_list(path, input_format="arrow", save_additional_columns=["x"], number_sample_per_shard=50_000)
    shard = next(found.shards())
    listed = rows_of(shard)

    assert listed.schema.field("x").type == texts.type
    assert listed.column("x").to_pylist() == [f"text {number}" for number in range(50_000)]
    assert max(len(chunk.dictionary) for chunk in listed.column("x").chunks) <= 16_384


# ---- of JSON, which does not say its types

FOUND: dict[str, tuple[list[Any], pa.DataType, list[Any]]] = {
    "nothing": ([None, None], pa.null(), [None, None]),
    "truths": ([True, None], pa.bool_(), [True, None]),
    "whole": ([1, -1], pa.int64(), [1, -1]),
    "64-bits": ([1, 2**64 - 1], pa.uint64(), [1, 2**64 - 1]),
    "64-bits-and-negative": ([-1, 2**64 - 1], pa.string(), ["-1", str(2**64 - 1)]),
    "fractions": ([1, 0.5], pa.float64(), [1.0, 0.5]),
    "fractions-and-what-they-would-round": ([2**53 + 1, 0.5], pa.string(), [str(2**53 + 1), "0.5"]),
    "text": (["a", None], pa.string(), ["a", None]),
    "text-and-numbers": (["a", 1, 0.5, True], pa.string(), ["a", "1", "0.5", "true"]),
    "truths-and-numbers": ([True, 1], pa.string(), ["true", "1"]),
    "dates-are-text": (["2026-01-31", "2026-01-31T00:00:00"], pa.string(), ["2026-01-31", "2026-01-31T00:00:00"]),
    "lists": ([[1], [0.5, None], [], None], pa.list_(pa.float64()), [[1.0], [0.5, None], [], None]),
    "lists-of-nothing": ([[], [None]], pa.list_(pa.null()), [[], [None]]),
    "lists-of-anything": ([[1], ["a", {"b": None}]], pa.list_(pa.string()), [["1"], ["a", '{"b":null}']]),
    "lists-and-texts": ([["a"], "a"], pa.string(), ['["a"]', "a"]),
    "objects": (
        [{"a": 1}, {"b": [1], "a": 0.5}, None],
        pa.struct([("a", pa.float64()), ("b", pa.list_(pa.int64()))]),
        [{"a": 1.0, "b": None}, {"a": 0.5, "b": [1]}, None],
    ),
    "objects-with-anything": (
        [{"a": 1}, {"a": {"b": "ä"}}],
        pa.struct([("a", pa.string())]),
        [{"a": "1"}, {"a": '{"b":"ä"}'}],
    ),
    "objects-without-a-field": ([{}, None], pa.string(), ["{}", None]),
    "objects-and-lists": ([{"a": 1}, [1]], pa.string(), ['{"a":1}', "[1]"]),
}


@pytest.mark.parametrize(("values", "kind", "stored"), FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("at_once", [1, 100], ids=["one-by-one", "at-once"])
def test_json_values_get_the_type_that_holds_them_all(
    values: list[Any], kind: pa.DataType, stored: list[Any], at_once: int
) -> None:
    """However they come; what has no type in common is text, and nothing is rounded."""
    shape = Shape()
    for start in range(0, len(values), at_once):
        shape.add(values[start : start + at_once])

    assert shape.type() == kind
    assert array_of(values, kind).to_pylist() == stored


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=12), st.integers(1, 12))
@settings(deadline=None)
def test_any_json_value_is_kept(values: list[Any], at_once: int) -> None:
    """Text that is no JSON's own is the JSON of what was there; a row has a value if it had one."""
    shape = Shape()
    for start in range(0, len(values), at_once):
        shape.add(values[start : start + at_once])
    stored = array_of(values, shape.type())

    assert [value is None for value in stored.to_pylist()] == [value is None for value in values]
    for value, kept in zip(values, stored.to_pylist(), strict=True):
        assert same(value, kept)


def same(value: Any, kept: Any) -> bool:
    """Whether *kept* is what *value* may become."""
    if isinstance(kept, str) and not isinstance(value, str):
        return same(value, json.loads(kept))
    if isinstance(value, dict) and isinstance(kept, dict):
        # A field that the object does not have, but others do, is null.
        return value.keys() <= kept.keys() and all(same(value.get(name), item) for name, item in kept.items())
    if isinstance(value, list) and isinstance(kept, list):
        return len(value) == len(kept) and all(map(same, value, kept))
    return bool(value == kept)


def test_objects_whose_names_are_data_become_text(tmp_path: Path) -> None:
    """Else each name would be a field of every row: 300 here, millions in a long list."""
    lines = [json.dumps({"url": "a", "x": {"in": {f"n{number}": 1}}}) for number in range(300)]
    path = written(tmp_path / "list", "\n".join(lines).encode())
    table = read(path, input_format="jsonl", save_additional_columns=["x"])

    assert table.schema.field("x").type == pa.string()
    assert [json.loads(text) for text in table.column("x").to_pylist()] == [
        {"in": {f"n{number}": 1}} for number in range(300)
    ]


def test_deep_nesting_becomes_text(tmp_path: Path) -> None:
    """Lists in lists in lists are kept, at some depth as the JSON that they were."""
    deep = json.loads("[" * 200 + "1" + "]" * 200)
    path = written(tmp_path / "list", json.dumps({"url": "a", "x": deep}).encode())
    [value] = read(path, input_format="jsonl", save_additional_columns=["x"]).column("x").to_pylist()
    depth = 0
    while isinstance(value, list):
        [value] = value
        depth += 1

    assert depth == shapes.DEPTH_MAX
    assert json.loads(value) == json.loads("[" * (200 - depth) + "1" + "]" * (200 - depth))


def test_jsonl_column_is_of_the_type_that_holds_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first rows do not decide, however long the list, nor do the blocks in which it is read."""
    monkeypatch.setattr(text_lines, "BLOCK_BYTES", 1000)
    values: list[Any] = [None, 1, 0.5]
    rows = [{"url": "a", "x": values[number // 200], "o": {"a": values[number // 200]}} for number in range(600)]
    path = written(tmp_path / "list", "\n".join(map(json.dumps, rows)).encode())
    found = open_list(path, input_format="jsonl", save_additional_columns=["x", "o"], number_sample_per_shard=100)
    schemas = [rows_of(shard).schema for shard in found.shards()]

    assert (
        schemas == [pa.schema([("x", pa.float64()), ("o", pa.struct([("a", pa.float64())])), ("url", pa.string())])] * 6
    )


@pytest.mark.parametrize("input_format", ["csv", "jsonl", "json"])
def test_column_without_a_value_is_text(tmp_path: Path, input_format: str) -> None:
    """Where a format does not say types; many readers of Parquet know no column of nothing."""
    content = {
        "csv": b"url,x,y\na,,\n",
        "jsonl": b'{"url": "a", "x": null, "y": [null]}\n',
        "json": b'[{"url": "a", "x": null, "y": [null]}]',
    }[input_format]
    path = written(tmp_path / "list", content)
    listed = read(path, input_format=input_format, save_additional_columns=["x", "y"])

    assert listed.schema.field("x").type == pa.string()
    assert listed.schema.field("y").type == (pa.string() if input_format == "csv" else pa.list_(pa.string()))
    assert listed.column("x").to_pylist() == [None]


def test_json_values_of_sliced_chunks_are_those_of_their_rows() -> None:
    """Lists, objects and maps of a part of a column, wherever it begins."""
    column = pa.array([[{"a": [1]}], None, [{"a": []}, None], []] * 3)
    pairs = pa.array([[("a", 1)], None, [], [("b", 2), ("c", 3)]] * 3, pa.map_(pa.string(), pa.int8()))
    parts = [(5, 3), (0, 4), (11, 1), (2, 0)]

    assert json_values(pa.chunked_array([column.slice(*part) for part in parts])) == [
        value for start, count in parts for value in column.to_pylist()[start : start + count]
    ]
    assert json_values(pa.chunked_array([pairs.slice(*part) for part in parts])) == [
        None if value is None else dict(value)
        for start, count in parts
        for value in pairs.to_pylist()[start : start + count]
    ]
