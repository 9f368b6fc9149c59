"""The columns of the output, their order and types, and how samples fill them."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from async_img2ds.errors import ErrorClass
from async_img2ds.policy.schema import Columns, SampleTable
from async_img2ds.records import Encoded, Row, Sample, Status

if TYPE_CHECKING:
    from pathlib import Path

BOX = pa.struct([("x", pa.int8()), ("y", pa.list_(pa.float32()))])
LISTED = pa.table(
    {
        "tags": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
        "box": pa.array([{"x": 1, "y": [0.5]}, None, {"x": None, "y": []}], BOX),
        "price": pa.array([Decimal("1.10"), None, Decimal("-2.00")], pa.decimal128(10, 2)),
        "seen": pa.array([dt.date(2020, 2, 29), None, dt.date(1969, 1, 1)], pa.date32()),
        "taken": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None, None], pa.timestamp("us", "UTC")),
        "blob": pa.array([b"\x00\xff", None, b""], pa.binary()),
        "url": pa.array(["http://a/", "http://b/", None], pa.string()),
    }
)
FULL = Columns(exif=True, digest="sha256", image="jpg")


def success(index: int) -> Sample:
    encoded = Encoded(b"image", 256, 192, 640, 480, '{"Image Make": "x"}', "f00d")
    return Sample(Row(index, f"00000000{index}", f"http://{index}/"), Status.SUCCESS, encoded, None, None, 200, 1, 1234)


def failure(index: int, status: Status = Status.FAILED_TO_DOWNLOAD) -> Sample:
    row = Row(index, f"00000000{index}", None)
    return Sample(row, status, None, ErrorClass.HTTP_STATUS_4XX, "HTTP Error 404: Not Found", 404, 3, 0)


@pytest.mark.parametrize(
    ("columns", "between"),
    [
        pytest.param(Columns(exif=False, digest=None), [], id="plain"),
        pytest.param(Columns(exif=True, digest=None), [("exif", pa.string())], id="exif"),
        pytest.param(Columns(exif=False, digest="md5"), [("md5", pa.string())], id="hash"),
        pytest.param(Columns(exif=False, digest=None, image="webp"), [("webp", pa.binary())], id="image"),
        pytest.param(FULL, [("exif", pa.string()), ("sha256", pa.string()), ("jpg", pa.binary())], id="all"),
    ],
)
def test_columns_stand_in_their_order(columns: Columns, between: list[tuple[str, pa.DataType]]) -> None:
    """First what readers of such datasets know, in the order they know, then this program's own columns."""
    expected = [
        *(("key", pa.string()), ("status", pa.string()), ("error_message", pa.string())),
        *(("width", pa.int32()), ("height", pa.int32()), ("original_width", pa.int32())),
        ("original_height", pa.int32()),
        *between,
        *(("error_class", pa.string()), ("http_status", pa.int32()), ("attempts", pa.int32())),
        ("final_url", pa.string()),
        ("optout", pa.string()),
        ("tls_verified", pa.bool_()),
    ]

    assert [(field.name, field.type) for field in columns.fields()] == expected


def test_values_of_a_success_stand_under_their_columns() -> None:
    """Each value of a stored image is found under its name."""
    values = dict(zip((field.name for field in FULL.fields()), FULL.values(success(0)), strict=True))

    assert values == {
        "key": "000000000",
        "status": "success",
        "error_message": None,
        "width": 256,
        "height": 192,
        "original_width": 640,
        "original_height": 480,
        "exif": '{"Image Make": "x"}',
        "sha256": "f00d",
        "jpg": b"image",
        "error_class": None,
        "http_status": 200,
        "attempts": 1,
        "final_url": None,
        "optout": None,
        "tls_verified": None,
    }


@pytest.mark.parametrize("status", [Status.FAILED_TO_DOWNLOAD, Status.FAILED_TO_RESIZE])
def test_failure_has_no_values_but_its_reason(status: Status) -> None:
    """Of a row without an image the sizes, EXIF, hash and image are null."""
    values = dict(zip((field.name for field in FULL.fields()), FULL.values(failure(1, status)), strict=True))

    assert values == {
        "key": "000000001",
        "status": status.value,
        "error_message": "HTTP Error 404: Not Found",
        **dict.fromkeys(["width", "height", "original_width", "original_height", "exif", "sha256", "jpg"]),
        "error_class": "http_status_4xx",
        "http_status": 404,
        "attempts": 3,
        "final_url": None,
        "optout": None,
        "tls_verified": None,
    }


def test_texts_are_plain_strings() -> None:
    """Status and reason leave as strings, not as enumerations that some library would print by name."""
    values = [*FULL.values(failure(0)), *FULL.values(success(0))]

    assert {type(value) for value in values} == {str, int, bytes, type(None)}


def test_list_columns_come_first_and_keep_their_types() -> None:
    """The columns of the list stand before the others, typed as they were."""
    schema = SampleTable(LISTED, FULL).schema

    assert list(schema)[: LISTED.num_columns] == list(LISTED.schema)
    assert list(schema)[LISTED.num_columns :] == FULL.fields()


def test_rows_of_the_list_follow_their_samples() -> None:
    """Samples come in any order, each with the values of its own row."""
    table = SampleTable(LISTED, FULL)
    for sample in (success(2), failure(0), success(1)):
        table.add(sample)

    taken = table.to_arrow()

    assert taken.schema == table.schema
    assert taken.select(LISTED.column_names).to_pylist() == [LISTED.to_pylist()[index] for index in (2, 0, 1)]
    assert taken.column("key").to_pylist() == ["000000002", "000000000", "000000001"]
    assert taken.column("jpg").to_pylist() == [b"image", None, b"image"]
    assert taken.column("status").to_pylist() == ["success", "failed_to_download", "success"]


def test_chunked_list_is_read_across_its_chunks() -> None:
    """A list that came in several batches is one list."""
    chunked = pa.Table.from_batches([*LISTED.slice(0, 1).to_batches(), *LISTED.slice(1).to_batches()])
    table = SampleTable(chunked, Columns(exif=False, digest=None))
    for index in (2, 0):
        table.add(success(index))

    assert table.to_arrow().select(LISTED.column_names).to_pylist() == [LISTED.to_pylist()[index] for index in (2, 0)]


def test_fresh_table_has_the_columns_and_none_of_the_samples() -> None:
    """A writer goes on with one while another thread writes the full one."""
    table = SampleTable(LISTED, FULL)
    table.add(success(0))
    fresh = table.fresh()
    fresh.add(failure(1))

    assert (len(table), len(fresh)) == (1, 1)
    assert table.schema == fresh.schema
    assert table.to_arrow().column("key").to_pylist() == ["000000000"]
    assert fresh.to_arrow().column("key").to_pylist() == ["000000001"]


def test_no_samples_make_an_empty_table_of_the_same_columns() -> None:
    """A shard without rows has a metadata table all the same."""
    table = SampleTable(LISTED, FULL)
    taken = table.to_arrow()

    assert taken.num_rows == 0
    assert taken.schema == table.schema


def test_parquet_keeps_what_was_put_in(tmp_path: Path) -> None:
    """Lists, structures, decimals, dates and bytes of the list are the same when read back."""
    table = SampleTable(LISTED, FULL)
    for sample in (success(1), failure(0), success(2)):
        table.add(sample)
    taken = table.to_arrow()

    pq.write_table(taken, tmp_path / "00000.parquet")

    assert pq.read_table(tmp_path / "00000.parquet").to_pylist() == taken.to_pylist()


def test_record_is_ready_for_json_in_column_order() -> None:
    """One sample as a flat mapping: the list's values, then the columns without the image."""
    record = FULL.record(success(0), {"caption": "a cat", "url": "http://0/"})

    assert list(json.loads(json.dumps(record))) == [
        *("caption", "url", "key", "status", "error_message", "width", "height", "original_width", "original_height"),
        *("exif", "sha256", "error_class", "http_status", "attempts", "final_url"),
        *("optout", "tls_verified"),
    ]


def test_record_does_not_touch_the_values_it_was_given() -> None:
    """The list's own mapping is not added to."""
    listed = {"url": "http://0/"}
    FULL.record(success(0), listed)

    assert listed == {"url": "http://0/"}


def test_hash_that_is_verified_is_a_column_of_the_list() -> None:
    """It stands among the list's columns in the table, of what was received, and last in a sample's JSON."""
    columns = Columns(exif=False, digest="md5", digest_listed=True)
    listed = pa.table({"md5": [" F00D", "beef"], "url": ["http://0/", "http://1/"]})
    table = SampleTable(listed, columns)
    for sample in (success(0), failure(1)):
        table.add(sample)
    rows = table.to_arrow()

    assert rows.column_names[:3] == ["md5", "url", "key"]
    assert rows.column_names.count("md5") == 1
    assert rows["md5"].to_pylist() == ["f00d", None]
    record = columns.record(success(0), {"md5": "F00D", "url": "http://0/"})
    names = list(record)
    assert names[0] == "url"
    assert names.index("md5") == names.index("original_height") + 1
    assert record["md5"] == "f00d"
