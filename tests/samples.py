"""A shard of samples with every kind of column, successes and failures, and a way to write it in any format."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa

from async_img2ds.errors import ErrorClass, Trace
from async_img2ds.outputs.base import Output, open_writer
from async_img2ds.policy.schema import Columns
from async_img2ds.records import Encoded, Row, Sample, Status
from async_img2ds.storage import Attempt, LocalStore

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.storage import Store

CAPTIONS = ['猫 😀 "cat"', None, "", "two\nlines\0", "café"]
LISTED = pa.table(
    {
        "tags": pa.array([["a", "ä"], None, [], ["b"], ["c"]]),
        "box": pa.array([{"x": 1}, None, {"x": 3}, {"x": 4}, {"x": None}]),
        "price": pa.array([Decimal("1.50"), None, Decimal(0), Decimal(1), Decimal(2)], pa.decimal128(10, 2)),
        "day": pa.array([dt.date(2026, 1, 31), None, *[dt.date(1969, 12, 31)] * 3]),
        "at": pa.array([1, None, 2, 3, 4], pa.timestamp("ns", "Europe/Berlin")),
        "took": pa.array([1, None, 2, 3, 4], pa.duration("us")),
        "blob": pa.array([b"\xff\0", None, b"", b"x", b"y"]),
        "big": pa.array([2**64 - 1, None, 0, 1, 2], pa.uint64()),
        "score": pa.array([float("nan"), float("inf"), -float("inf"), 0.5, None]),
        "flag": pa.array([True, None, False, False, True]),
        "counts": pa.array([[1, None, -3], None, [], [], [5]], pa.list_(pa.int32())),
        "ratios": pa.array([[0.5, None], None, [], [], [1.0]], pa.large_list(pa.float64())),
        "boxes": pa.array([[[0.5, 1.0], []], None, [], [], [[0.0]]], pa.list_(pa.list_(pa.float32()))),
        "days": pa.array([[dt.date(2026, 1, 31), None], None, [], [], []], pa.list_(pa.date32())),
        "names": pa.array([[("en", "cat")], None, [], [], []], pa.map_(pa.string(), pa.string())),
        "label": pa.array(["a", None, "b", "a", "c"]).dictionary_encode(),
        "half": pa.array([0.25, None, 1.0, 2.0, 3.0], pa.float16()),
        "nothing": pa.nulls(5),
        "caption": pa.array(CAPTIONS),
        "url": pa.array(["http://h/0", "http://h/1", None, "http://h/3", "http://h/4"]),
    }
)
COLUMNS = Columns(exif=True, digest="sha256")


def success(index: int, image: bytes) -> Sample:
    encoded = Encoded(image, 256, 256, 640, 480, '{"Image Make": "ä"}', f"digest {index}")
    row = Row(index, f"00012000{index}", LISTED["url"][index].as_py())
    return Sample(row, Status.SUCCESS, encoded, None, None, 200, 1, 9, trace=Trace("X-Robots-Tag: noindex", index == 0))


def failure(index: int, status: Status, error_class: ErrorClass, message: str) -> Sample:
    row = Row(index, f"00012000{index}", LISTED["url"][index].as_py())
    return Sample(row, status, error_class=error_class, error_message=message, http_status=404, attempts=1)


# In the order of their completion, which is not that of the list.
SAMPLES = [
    success(3, b"x" * 512),
    failure(2, Status.FAILED_TO_DOWNLOAD, ErrorClass.URL_INVALID, "no URL"),
    success(0, b"\xff\xd8" + b"y" * 1500),
    failure(4, Status.FAILED_TO_RESIZE, ErrorClass.TOO_SMALL, "image too small"),
    success(1, b"z"),
]
SUCCESSES = {sample.row.key: sample for sample in SAMPLES if sample.encoded}
IMAGES = {key: sample.encoded.image for key, sample in SUCCESSES.items() if sample.encoded}


def write(
    output_format: str,
    folder: Path,
    samples: list[Sample] = SAMPLES,
    listed: pa.Table = LISTED,
    *,
    hf_image: bool = False,
    tar_index: bool = False,
    store: Store | None = None,
) -> Path:
    """Write *samples* as shard 12 into *folder*, or *store*, all at once as a worker may, and commit them."""
    store = store or LocalStore(folder)
    store.prepare()

    async def run() -> None:
        async with Attempt.open(store) as attempt:
            captions = "caption" in listed.column_names
            asked = {"hf_image": hf_image, "tar_index": tar_index}
            output = Output(attempt, "00012", listed, COLUMNS, "jpg", captions=captions, **asked)
            writer = await open_writer(output_format, output)
            async with asyncio.TaskGroup() as tasks:
                for sample in samples:
                    tasks.create_task(writer.write(sample))
            await writer.finish()
            await attempt.commit("00012_stats.json", b"{}")

    asyncio.run(run())
    store.close()
    return folder
