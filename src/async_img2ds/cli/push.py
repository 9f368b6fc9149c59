"""aimg2ds push: a finished dataset put on the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from async_img2ds import startup
from async_img2ds.cli.figures import NAMED_MAX, size
from async_img2ds.cli.logs import begin_logging
from async_img2ds.cli.outcome import say, told_by_status
from async_img2ds.options import PushOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_img2ds.dataset.push import PushReport

__all__ = ["push"]


def push(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Put a finished dataset on the Hugging Face Hub, with a card; what is there already is not sent again."""
    with told_by_status():
        options = PushOptions(**words)
        startup.keep_pandas_out()
        from async_img2ds.dataset.push import run_push

        startup.settle()
        begin_logging()
        report = run_push(options)
    say(_pushed(report))


# What became of a card → what is said of it.
_CARDS: Final = {
    "written": "its card was written",
    "renewed": "its card was renewed between the marks",
    "the same": "its card is as it was",
    "left": "its card (README.md) is somebody's own and stays; two lines in it, <!-- aimg2ds: begin --> and "
    "<!-- aimg2ds: end -->, would have what this program tells written between them",
}


def _pushed(report: PushReport) -> str:
    """Return what was put on the Hub, in words and figures."""
    lines = [
        f"{report.shards:,} shards, {report.rows:,} rows, {report.successes:,} images: {report.files_sent:,} files of "
        f"{size(report.bytes_sent)} sent in {report.commits} commits and {report.seconds:.1f} s, "
        f"{report.files_there:,} files were there",
        _CARDS[report.card],
    ]
    if report.unfinished:
        lines.append(f"not finished, and not there: {_some(report.unfinished)}")
    if report.strays:
        lines.append(
            f"files of shards that this dataset has not were deleted: {_some(report.strays)}"
            if report.pruned
            else f"on the Hub are files of shards that this dataset has not (--prune deletes): {_some(report.strays)}"
        )
    return "\n".join([*lines, f"dataset: {report.url}"])


def _some(named: Sequence[str]) -> str:
    return "; ".join(named[:NAMED_MAX]) + (f"; and {len(named) - NAMED_MAX:,} more" if len(named) > NAMED_MAX else "")
