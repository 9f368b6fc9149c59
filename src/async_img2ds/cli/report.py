"""aimg2ds report: a dataset as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from async_img2ds import startup
from async_img2ds.cli.figures import size
from async_img2ds.cli.outcome import DEFECTIVE, INCOMPLETE, say, told_by_status
from async_img2ds.options import ReportOptions

if TYPE_CHECKING:
    from async_img2ds.page.report import DatasetReport

__all__ = ["report"]


def report(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Show a dataset as one HTML page that needs no network: counts, failures, hosts, pace, samples of images.

    A run may be writing to it; --watch serves the page and makes it anew meanwhile.
    """
    with told_by_status():
        options = ReportOptions(**words)
        startup.keep_pandas_out()
        from async_img2ds.page.report import run_report

        startup.settle()
        made = run_report(options, _say_where)
    say("ended" if options.watch else _in_words(made, options))
    if made.unread:
        raise typer.Exit(INCOMPLETE)
    if made.damaged:
        raise typer.Exit(DEFECTIVE)


def _say_where(address: str) -> None:
    say(f"{address}  for this machine alone, until Ctrl-C")


def _in_words(made: DatasetReport, options: ReportOptions) -> str:
    """Return where a page is, and what it tells."""
    share = f"{made.successes / made.rows:.1%}" if made.rows else "–"
    lines = [
        f"{made.path}  {size(made.bytes)}, made in {made.seconds:.1f} s",
        f"{made.successes:,} of {made.rows:,} images ({share}); shards: {made.shards:,} finished",
        f"samples: {made.rows_looked_at:,} rows in {made.shards_looked_at:,} of these, "
        f"{made.thumbnails:,} images shown",
    ]
    if made.is_in_use:
        lines.append("a run is writing to this folder: there will be more; --watch follows it")
    if options.open and not made.opened:
        lines.append("no browser could be opened here")
    lines += [f"DAMAGED: {name} {reason}" for name, reason in made.damaged.items()]
    lines += [f"NOT READ: {name} {reason}" for name, reason in made.unread.items()]
    return "\n".join(lines)
