"""Rows in the order of the list: the same answers make the same files, whatever came first."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from async_img2ds import download
from async_img2ds.outputs.base import WRITERS
from async_img2ds.outputs.ordered import OrderedWriter
from async_img2ds.records import Row, Sample, Status

if TYPE_CHECKING:
    from pathlib import Path

    from origin import Origin

PATHS = ("rocket.jpg", "no-such.jpg", "coffee.png", "truncated.jpg", "chelsea.webp", "busy", "coins.gif", "page.jpg")


class Slow:
    """A writer that lets others run while it writes, now and then."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.written: list[int] = []
        self.is_finished = False

    async def write(self, sample: Sample) -> None:
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)
        self.written.append(sample.row.index)

    async def finish(self) -> None:
        self.is_finished = True


@pytest.mark.parametrize("seed", range(5))
def test_samples_are_written_in_the_order_of_their_rows(seed: int) -> None:
    """Each once, whoever comes first, and as soon as all before it are there."""
    chance = random.Random(seed)  # noqa: S311  the same in every run
    slow = Slow(chance)
    samples = [Sample(Row(index, str(index), None), Status.FAILED_TO_DOWNLOAD) for index in range(100)]

    async def run() -> None:
        writer = OrderedWriter(slow)
        await writer.write(samples[0])
        assert slow.written == [0]
        async with asyncio.TaskGroup() as tasks:
            for sample in chance.sample(samples[1:], k=99):
                tasks.create_task(writer.write(sample))
        await writer.finish()

    asyncio.run(run())
    assert slow.written == list(range(100))
    assert slow.is_finished


@pytest.mark.parametrize("output_format", sorted(set(WRITERS) - {"dummy"}))
def test_same_answers_make_the_same_bytes(origin: Origin, tmp_path: Path, output_format: str) -> None:
    """In every format, with one row under way or many, in one process or two."""
    urls = [origin.url(PATHS[number % len(PATHS)]) + f"?{number}" for number in range(60)]
    captions = [f"caption {number}" for number in range(60)]
    pq.write_table(pa.table({"url": urls, "caption": captions}), tmp_path / "urls.parquet")
    options: dict[str, Any] = {
        "url_list": tmp_path / "urls.parquet",
        "input_format": "parquet",
        "caption_col": "caption",
        "output_format": output_format,
        "number_sample_per_shard": 25,
        "ordered": True,
        "retries": 0,
        "allow_net": "127.0.0.0/8",
        "progress": "none",
    }
    download(**options, output_folder=tmp_path / "one", thread_count=1, processes_count=1)
    download(**options, output_folder=tmp_path / "many", thread_count=50, processes_count=2)
    one, many = (
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("[!.]*.*")
            if "stats" not in path.name
        }
        for folder in (tmp_path / "one", tmp_path / "many")
    )

    assert one == many
    assert len(pq.read_table(tmp_path / "one" / "00000.parquet")) == 25
    keys = pq.read_table(tmp_path / "one" / "00000.parquet").column("key").to_pylist()
    assert keys == sorted(keys)
