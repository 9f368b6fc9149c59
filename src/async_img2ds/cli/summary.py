"""aimg2ds summary: a dataset added up."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from async_img2ds import startup
from async_img2ds.cli.figures import both_ways, failures, moment, runs
from async_img2ds.cli.outcome import DEFECTIVE, INCOMPLETE, say, told_by_status
from async_img2ds.options import SummaryOptions

if TYPE_CHECKING:
    from async_img2ds.dataset.summary import Summary

__all__ = ["summarize"]


def summarize(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Add up a dataset from its stats files, whoever wrote them; a run may be writing to it."""
    with told_by_status():
        options = SummaryOptions(**words)
        startup.keep_pandas_out()
        from async_img2ds.dataset.summary import run_summary

        startup.settle()
        report = run_summary(options)
    say(_as_json(report) if options.json else _added_up(report, options.output_folder))
    if report.unread:
        raise typer.Exit(INCOMPLETE)
    if report.damaged:
        raise typer.Exit(DEFECTIVE)


def _as_json(report: Summary) -> str:
    """Return a summary as one JSON object."""
    return json.dumps({**asdict(report), "share": report.share}, ensure_ascii=False)


def _added_up(report: Summary, folder: str) -> str:
    """Return a summary in words and figures."""
    absent = runs(report.missing_first, report.missing)
    missing = f"{report.missing:,} below the highest are not there: {absent}"
    lines = [
        f"{report.successes:,} of {report.rows:,} images ({report.share:.1%}), {both_ways(report)}",
        f"shards: {report.shards:,} finished" + (f"; {missing}" if report.missing else ""),
        *failures(report, report.rows),
    ]
    if report.began is not None and report.ended is not None:
        lines.append(f"the first was begun at {moment(report.began)}, the last finished at {moment(report.ended)}")
    lines += _options_apart(report)
    lines += [f"DAMAGED: {name} {reason}" for name, reason in report.damaged.items()]
    lines += [f"NOT READ: {name} {reason}" for name, reason in report.unread.items()]
    lines += [f"note: {report.manifest}"] if report.manifest else []
    if report.is_in_use:
        lines.append("a run is writing to this folder; what is finished was added up")
    lines.append(f"dataset: {folder}")
    return "\n".join(lines)


def _options_apart(report: Summary) -> list[str]:
    """Return which shards were made with other options than most, if any were."""
    if len(report.made_with) < 2:  # noqa: PLR2004  two are apart
        return []
    most, *others = report.made_with
    lines = [f"made with {len(report.made_with)} sets of options: {most.shards:,} shards with the same, and"]
    for one in others:
        different = "; ".join(one.differences(most))
        lines.append(f"  {one.shards:,} with {different}: {runs(one.numbers, one.shards)}")
    return lines
