"""A run of which only the fetching is left out: python benchmarks/driving.py LIST OUT --shard_rows 10.

The driver is the program's own: it reads the list, cuts and packs shards, hands them to workers, takes in what they
report, and shows it. The workers write the stats file of each shard, without its data, and do nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_img2ds import startup
from async_img2ds.distributors.base import ShardFeed, Stop
from async_img2ds.distributors.local import run_local
from async_img2ds.options import Options
from async_img2ds.plan import planned
from async_img2ds.policy.markers import SCHEMA_VERSION, Marker, digest_of_urls
from async_img2ds.policy.shards import Naming, rows_of
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Done, FileSum, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from async_img2ds.records import Report, Shard


@dataclass(frozen=True, slots=True)
class NullWork:
    """Marks shards as finished in the folder *out*, and fetches nothing."""

    out: str
    naming: Naming
    made_with: Mapping[str, Any]

    def __call__(self, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
        """Do *shards* one after the other."""
        for shard in shards:
            if stop.done():
                return
            tally = Tally(count=shard.row_count, successes=shard.row_count, body_bytes=10**9, image_bytes=10**8)
            tally.messages["success"] = shard.row_count
            stem = self.naming.shard(shard.id)
            files = {f"{stem}.tar": FileSum(10**8, "0" * 64), f"{stem}.parquet": FileSum(10**6, "0" * 64)}
            urls = digest_of_urls(rows_of(shard).column("url"))
            marker = Marker(tally, time.time(), 1.0, files, urls, self.made_with, SCHEMA_VERSION)
            (Path(self.out) / self.naming.stats(shard.id)).write_bytes(marker.to_json())
            emit(Done(os.getpid(), shard.id, tally, 1.0))


async def drive(options: Options) -> Totals:
    """Do what a run does between its plan and its report."""
    startup.settle()
    stop, totals = Stop(), Totals()
    naming = Naming(options.input.number_sample_per_shard, options.output.oom_shard_count)
    work = NullWork(options.output.output_folder, naming, options.shape())
    async with planned(options, stop) as plan:
        assert plan is not None
        feed = ShardFeed(plan.shards, 1)
        with show_progress("plain", plan.url_list.rows_expected) as display:

            def take_in(report: Report) -> None:
                totals.add(report)
                display.update(totals)

            try:
                await run_local(lambda processes, cores: work, feed, take_in, stop, options.run)  # noqa: ARG005
            finally:
                feed.close()
    assert feed.error is None
    return totals


def main() -> None:
    """Do the list that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url_list")
    parser.add_argument("output_folder")
    parser.add_argument("--shard_rows", type=int, default=10_000)
    parser.add_argument("--digits", type=int, default=6)
    asked = parser.parse_args()
    startup.begin()
    startup.keep_pandas_out()
    options = Options.of(
        url_list=asked.url_list,
        input_format="parquet",
        caption_col="caption",
        output_folder=asked.output_folder,
        output_format="webdataset",
        number_sample_per_shard=asked.shard_rows,
        oom_shard_count=asked.digits,
        processes_count=2,
    )
    totals = asyncio.run(drive(options))
    print(f"{totals.shards_done:,} shards, {totals.committed.count:,} rows")


if __name__ == "__main__":
    main()
