"""aimg2ds partition: a list written anew, each host's URLs in few shards."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from async_img2ds.cli.outcome import AGAIN, end, run_until_signalled, say, told_by_status
from async_img2ds.options import PartitionOptions

if TYPE_CHECKING:
    from async_img2ds.distributors.base import Stop
    from async_img2ds.lists.partition import PartitionReport

__all__ = ["partition"]


def partition(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Write a list anew, each host's URLs in few shards far apart, for a fetch on many machines."""
    with told_by_status():
        options = PartitionOptions.of(**words)
        report, signalled = asyncio.run(run_until_signalled(partial(_run_partition, options), None))
    say(_rearranged(report, options))
    end(signalled, complete=not report.interrupted)


async def _run_partition(options: PartitionOptions, stop: Stop) -> PartitionReport:
    from async_img2ds.lists.partition import run_partition

    return await run_partition(options, stop)


def _rearranged(report: PartitionReport, options: PartitionOptions) -> str:
    """Return how a list was written anew in words and figures."""
    if report.interrupted:
        return f"interrupted: nothing is left of it; {AGAIN} to begin anew"
    lines = [
        f"{report.rows:,} rows of about {report.hosts:,} hosts in {report.shards:,} shards: {report.files:,} files, "
        f"{report.bytes_written / 1e6:,.1f} MB",
        "it was there already, and stays as it is"
        if report.is_old
        else f"written in {report.seconds:.1f} s, by way of {report.temporary_bytes / 1e6:,.1f} MB of temporary files",
        f"list: {options.output.output_folder}, to be read with --input_format parquet "
        f"--number_sample_per_shard {options.input.number_sample_per_shard} and the same columns",
    ]
    return "\n".join(lines)
