"""aimg2ds verify: whether a dataset is what was written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from async_img2ds import startup
from async_img2ds.cli.logs import begin_logging
from async_img2ds.cli.outcome import DEFECTIVE, INCOMPLETE, say, told_by_status
from async_img2ds.options import VerifyOptions

if TYPE_CHECKING:
    from async_img2ds.dataset.verify import VerifyReport

__all__ = ["verify"]


def verify(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Check a dataset: whether every finished shard is what was written, row by row and sample by sample."""
    with told_by_status():
        options = VerifyOptions(**words)
        report = asyncio.run(_run_verify(options))
    say(_findings(report))
    if report.unread:
        raise typer.Exit(INCOMPLETE)
    if not report.good:
        raise typer.Exit(DEFECTIVE)


async def _run_verify(options: VerifyOptions) -> VerifyReport:
    startup.keep_pandas_out()
    from async_img2ds.dataset.verify import run_verify

    startup.settle()
    begin_logging()
    return await run_verify(options)


def _findings(report: VerifyReport) -> str:
    """Return what is wrong with a dataset, a line for each."""
    lines = [str(defect) for defect in report.defects]
    lines += [f"unfinished: {what}" for what in report.unfinished]
    lines += [f"note: {what}" for what in (*report.strangers, *([report.manifest] if report.manifest else []))]
    lines += [f"NOT READ: {stem}: {reason}" for stem, reason in report.unread.items()]
    lines.append(
        f"{report.shards:,} shards, {report.rows:,} rows, {report.successes:,} images "
        f"checked in {report.seconds:.1f} s: " + ("good" if report.good else f"{len(report.defects):,} defects")
    )
    if report.set_back:
        lines.append(f"removed: shards {', '.join(report.set_back)}; the fetch that made them makes them again")
    elif report.defects:
        lines.append("--repair removes the shards that have defects, so that the fetch that made them makes them again")
    if report.unfinished:
        lines.append("unfinished: run the fetch again to go on")
    if report.is_in_use:
        lines.append("a run is writing to this folder; only what is finished was checked")
    return "\n".join(lines)
