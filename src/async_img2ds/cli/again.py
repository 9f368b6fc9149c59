"""aimg2ds retry and purge: finished shards of which some rows are done again, or removed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from async_img2ds import startup
from async_img2ds.cli.figures import NAMED_MAX, not_done, reasons
from async_img2ds.cli.logs import end_in_json
from async_img2ds.cli.outcome import AGAIN, end, run_until_signalled, say, told_by_status
from async_img2ds.options import PurgeOptions, RetryOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from async_img2ds.dataset.purge import PurgeReport
    from async_img2ds.dataset.retry import RetryReport
    from async_img2ds.distributors.base import Stop

__all__ = ["purge", "retry"]

Later = TypeVar("Later", "RetryOptions", "PurgeOptions")
Changed = TypeVar("Changed", "RetryReport", "PurgeReport")


def retry(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Fetch failed rows of a finished dataset again, those that may have healed; the others stay as they are."""
    _do_again(words, RetryOptions.of, _run_retry, _healed, so_as="to go on")


async def _run_retry(options: RetryOptions, stop: Stop) -> RetryReport:
    from async_img2ds.dataset.retry import run_retry

    startup.settle()
    return await run_retry(options, stop)


def _healed(report: RetryReport, options: RetryOptions) -> str:
    """Return the end of a retry in words and figures."""
    lines = [
        f"{report.rows:,} failed rows fetched again in {report.seconds:.1f} s: {report.successes:,} have images now",
        f"shards: {report.shards_done} replaced" + (f", {len(report.shards_lost)} LOST" if report.shards_lost else ""),
    ]
    if report.error_classes:
        lines += [f"failed again: {report.rows - report.successes:,}", *reasons(report.error_classes)]
    lines += not_done(report.shards_lost)
    lines += [f"left alone: {count} shards {reason}" for reason, count in report.left_alone.items()]
    if report.rows_closed:
        lines.append(
            f"left alone: {report.rows_closed:,} failed rows that name files or objects; --allow_sources opens them, "
            "as it did for the fetch"
        )
    lines.append(f"dataset: {options.again.output_folder}")
    return "\n".join(lines)


def purge(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Remove images from a finished dataset on request, by host or URL; their rows stay, and say so."""
    _do_again(words, PurgeOptions.of, _run_purge, _removed, so_as="to remove the rest")


async def _run_purge(options: PurgeOptions, stop: Stop) -> PurgeReport:
    from async_img2ds.dataset.purge import run_purge

    startup.settle()
    return await run_purge(options, stop)


def _removed(report: PurgeReport, options: PurgeOptions) -> str:
    """Return the end of a removal in words and figures."""
    done = "their images are gone, and no fetch into this folder asks for them again"
    lines = [
        f"{report.rows:,} rows removed in {report.seconds:.1f} s" + (f": {done}" if report.rows else ""),
        f"shards: {report.shards_done} replaced" + (f", {len(report.shards_lost)} NOT" if report.shards_lost else ""),
    ]
    lines += not_done(report.shards_lost)
    if report.not_found:
        named = ", ".join(report.not_found[:NAMED_MAX]) + (" …" if len(report.not_found) > NAMED_MAX else "")
        lines.append(f"not found: {len(report.not_found):,} of those named, of which there is no row: {named}")
    if report.unfinished:
        lines.append(
            f"unfinished: {len(report.unfinished)} shards; what was there of them is gone, and a fetch that goes on "
            "makes them anew"
        )
    lines.append(f"dataset: {options.removal.output_folder}")
    return "\n".join(lines)


def _do_again(
    words: Mapping[str, Any],
    read: Callable[..., Later],
    run: Callable[[Later, Stop], Awaitable[Changed]],
    told: Callable[[Changed, Later], str],
    *,
    so_as: str,
) -> None:
    """Carry out a command that changes a dataset that is there: *read* its options, *run*, and print what is *told*."""
    with told_by_status():
        options = read(**words)
        report, signalled = asyncio.run(run_until_signalled(partial(run, options), options.run.grace_s, options.run))
    if options.run.log_format == "json":
        say(end_in_json(report))
    elif not options.run.quiet:
        say(told(report, options))
    if signalled and not options.run.is_terse:
        say(f"interrupted: {AGAIN} {so_as}", err=True)
    end(signalled, complete=report.complete)
