"""The command line: typer commands made from the options' own declarations, and the outcome as an exit status.

0  every row of the list is accounted for in a committed shard; all that was to be done again, or removed, was
1  a dataset that was checked has defects or is not finished, one that was added up has stats files that are damaged
2  the request was refused: an option or the list
3  the run ended with lost shards, internal errors, or workers that would not run
130, 143  interrupted by Ctrl-C or SIGTERM; the same command goes on
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import shlex
import signal
import sys
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO, TypeVar, cast

import typer
from typer.core import TyperCommand

from async_img2ds import startup
from async_img2ds.errors import AsyncImg2dsError, InputError, OptionsError
from async_img2ds.flags import Flag, flags_of
from async_img2ds.options import (
    GROUPS,
    PARTITION_GROUPS,
    POSITIONAL,
    PURGE_GROUPS,
    RETRY_GROUPS,
    ManifestOptions,
    Options,
    PartitionOptions,
    PurgeOptions,
    PushOptions,
    RetryOptions,
    SummaryOptions,
    VerifyOptions,
    flags,
    later_flags,
    partition_flags,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from async_img2ds.dataset.manifest import ManifestReport
    from async_img2ds.dataset.purge import PurgeReport
    from async_img2ds.dataset.push import PushReport
    from async_img2ds.dataset.retry import RetryReport
    from async_img2ds.dataset.summary import Summary
    from async_img2ds.dataset.verify import VerifyReport
    from async_img2ds.distributors.base import Stop
    from async_img2ds.lists.partition import PartitionReport
    from async_img2ds.records import RunReport

__all__ = ["app", "main"]

T = TypeVar("T")
Later = TypeVar("Later", "RetryOptions", "PurgeOptions")
Changed = TypeVar("Changed", "RetryReport", "PurgeReport")

logger = logging.getLogger(__name__)

DEFECTIVE: Final = 1
REFUSED: Final = 2
INCOMPLETE: Final = 3
# Of lists that may be long.
NAMED_MAX: Final = 10
# For amounts of at least ten of them.
_UNITS: Final = (("TB", 1e12), ("GB", 1e9))

app = typer.Typer(
    name="aimg2ds",
    help="Turn lists of image URLs into image datasets ready for machine learning.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line of this process."""
    startup.begin()
    try:
        app(prog_name="aimg2ds")
    except KeyboardInterrupt:  # before there was a run to stop
        sys.exit(128 + signal.SIGINT)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush_or_forget(stream)


def _flush_or_forget(stream: TextIO | None) -> None:
    """Have the interpreter end with our exit status even if *stream* cannot take its last words."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:  # as Python's "Note on SIGPIPE" advises, or it would fail again at the end, with status 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show_version(asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if asked:
        from importlib.metadata import version

        typer.echo(f"aimg2ds {version('async-img2ds')}")
        raise typer.Exit


@app.callback()
def _aimg2ds(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take what is said before a command."""


@contextmanager
def _told_by_status() -> Iterator[None]:
    """Say in a line what a command cannot do, and end with the status for it."""
    try:
        yield
    except (OptionsError, InputError) as error:
        typer.echo(f"aimg2ds: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    except AsyncImg2dsError as error:
        typer.echo(f"aimg2ds: {error}", err=True)
        raise typer.Exit(INCOMPLETE) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None


def _fetch(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Fetch the images of a URL list into a dataset."""
    with _told_by_status():
        options = Options.of(**_given(words, tuple(flags())))
        options = replace(options, run=options.run.placed(os.environ))
        if options.input.recipe:
            typer.echo(_recipe_in_words(options), err=True)
        if options.run.explain:
            typer.echo(_worst_case_in_words(options), err=True)
        report, signalled = asyncio.run(_run_until_signalled(partial(_run_fetch, options), options.run.grace_s))
    with suppress(OSError):  # a reader that has gone, or a full disk behind a pipe, does not undo the work
        typer.echo(_summary(report, options))
        if signalled:
            typer.echo(f"interrupted: {_GO_ON[options.output.incremental_mode]} to go on", err=True)
    _end(signalled, complete=report.complete)


async def _run_fetch(options: Options, stop: Stop) -> RunReport:
    from async_img2ds.run import run

    startup.settle()
    return await run(options, stop)


def _retry(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Fetch failed rows of a finished dataset again, those that may have healed; the others stay as they are."""
    _do_again(words, RETRY_GROUPS, RetryOptions.of, _run_retry, _healed, so_as="to go on")


async def _run_retry(options: RetryOptions, stop: Stop) -> RetryReport:
    from async_img2ds.dataset.retry import run_retry

    startup.settle()
    return await run_retry(options, stop)


def _do_again(
    words: Mapping[str, Any],
    groups: Mapping[str, type],
    read: Callable[..., Later],
    run: Callable[[Later, Stop], Awaitable[Changed]],
    told: Callable[[Changed, Later], str],
    *,
    so_as: str,
) -> None:
    """Carry out a command that changes a dataset that is there: *read* its options, *run*, and print what is *told*."""
    allowed = tuple(flag for group in groups.values() for flag in later_flags(group))
    with _told_by_status():
        options = read(**_given(words, allowed))
        report, signalled = asyncio.run(_run_until_signalled(partial(run, options), options.run.grace_s))
    with suppress(OSError):
        typer.echo(told(report, options))
        if signalled:
            typer.echo(f"interrupted: {_AGAIN} {so_as}", err=True)
    _end(signalled, complete=report.complete)


def _healed(report: RetryReport, options: RetryOptions) -> str:
    """Return the end of a retry in words and figures."""
    lines = [
        f"{report.rows:,} failed rows fetched again in {report.seconds:.1f} s: {report.successes:,} have images now",
        f"shards: {report.shards_done} replaced" + (f", {len(report.shards_lost)} LOST" if report.shards_lost else ""),
    ]
    if report.error_classes:
        lines += [f"failed again: {report.rows - report.successes:,}", *_reasons(report.error_classes)]
    lines += _not_done(report.shards_lost)
    lines += [f"left alone: {count} shards {reason}" for reason, count in report.left_alone.items()]
    lines.append(f"dataset: {options.again.output_folder}")
    return "\n".join(lines)


def _purge(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Remove images from a finished dataset on request, by host or URL; their rows stay, and say so."""
    _do_again(words, PURGE_GROUPS, PurgeOptions.of, _run_purge, _removed, so_as="to remove the rest")


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
    lines += _not_done(report.shards_lost)
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


def _not_done(shards_lost: Mapping[int, str]) -> list[str]:
    lost = list(shards_lost.items())[:NAMED_MAX]
    return [f"  shard {shard_id} is not done: {reason}" for shard_id, reason in lost]


def _end(signalled: int, *, complete: bool) -> None:
    """End with the status of a command that was *signalled*, or of one that has or has not done all it meant to."""
    if signalled:
        raise typer.Exit(128 + signalled)
    if not complete:
        raise typer.Exit(INCOMPLETE)


def _bytes(report: RunReport | Summary) -> str:
    return f"{_size(report.bytes_received)} received, {_size(report.bytes_written)} of images written"


def _size(count: int) -> str:
    unit, bytes_in = next((each for each in _UNITS if count >= 10 * each[1]), ("MB", 1e6))
    return f"{count / bytes_in:,.1f} {unit}"


def _failures(report: RunReport | Summary, rows: int) -> list[str]:
    """Return how many of *rows* failed, and why; nothing if none has."""
    if not (failed := rows - report.successes):
        return []
    how = f"{report.failed_to_download:,} not downloaded, {report.failed_to_resize:,} not made into an image"
    lines = [f"failed: {failed:,} ({how})"]
    if untold := failed - sum(report.error_classes.values()):  # of img2dataset's shards
        lines.append(f"  of {untold:,} the stats files have no error_class")
    return lines + (_reasons(report.error_classes) if report.error_classes else [])


def _reasons(error_classes: Mapping[str, int]) -> list[str]:
    from async_img2ds.hints import HINTS

    hints = {str(name): hint for name, hint in HINTS.items()}  # other versions may know other reasons
    width = max(map(len, error_classes))
    told = [f"  {name:<{width}}  {count:>9,}  {hints.get(name, '')}" for name, count in error_classes.items()]
    return [line.rstrip() for line in told]


async def _run_until_signalled(run: Callable[[Stop], Awaitable[T]], grace_s: float | None) -> tuple[T, int]:
    """Run; the first SIGINT or SIGTERM drains, the second drops what is open, or is not cleared up yet.

    Return what *run* returns and the signal, 0 for none.
    """
    startup.keep_pandas_out()
    from async_img2ds.distributors.base import Stop

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = Stop()
    received: list[int] = []
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # on Windows, where Ctrl-C ends the run at once
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _heed, number, received, stop, grace_s)
    return await run(stop), received[0] if received else 0


def _heed(number: int, received: list[int], stop: Stop, grace_s: float | None) -> None:
    received.append(number)
    stop.ask()
    if len(received) == 1 and grace_s is not None:
        logger.warning("stopping: open shards get %g s to finish; once more to drop them now", grace_s)


def _verify(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Check a dataset: whether every finished shard is what was written, row by row and sample by sample."""
    with _told_by_status():
        options = VerifyOptions(**{name: word for name, word in words.items() if word is not None})
        report = asyncio.run(_run_verify(options))
    with suppress(OSError):
        typer.echo(_findings(report))
    if report.unread:
        raise typer.Exit(INCOMPLETE)
    if not report.good:
        raise typer.Exit(DEFECTIVE)


async def _run_verify(options: VerifyOptions) -> VerifyReport:
    startup.keep_pandas_out()
    from async_img2ds.dataset.verify import run_verify

    startup.settle()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
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


def _summarize(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Add up a dataset from its stats files, whoever wrote them; a run may be writing to it."""
    with _told_by_status():
        options = SummaryOptions(**{name: word for name, word in words.items() if word is not None})
        startup.keep_pandas_out()
        from async_img2ds.dataset.summary import run_summary

        startup.settle()
        report = run_summary(options)
    with suppress(OSError):
        typer.echo(_as_json(report) if options.json else _added_up(report, options.output_folder))
    if report.unread:
        raise typer.Exit(INCOMPLETE)
    if report.damaged:
        raise typer.Exit(DEFECTIVE)


def _as_json(report: Summary) -> str:
    """Return a summary as one JSON object."""
    return json.dumps({**asdict(report), "share": report.share}, ensure_ascii=False)


def _added_up(report: Summary, folder: str) -> str:
    """Return a summary in words and figures."""
    runs = _runs(report.missing_first, report.missing)
    missing = f"{report.missing:,} below the highest are not there: {runs}"
    lines = [
        f"{report.successes:,} of {report.rows:,} images ({report.share:.1%}), {_bytes(report)}",
        f"shards: {report.shards:,} finished" + (f"; {missing}" if report.missing else ""),
        *_failures(report, report.rows),
    ]
    if report.began is not None and report.ended is not None:
        lines.append(f"the first was begun at {_moment(report.began)}, the last finished at {_moment(report.ended)}")
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
        lines.append(f"  {one.shards:,} with {different}: {_runs(one.numbers, one.shards)}")
    return lines


def _runs(numbers: Sequence[tuple[int, int]], count: int) -> str:
    """Return runs of numbers in words, of which there may be more: they are *count* in all."""
    told = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in numbers)
    return told + (" …" if sum(last - first + 1 for first, last in numbers) < count else "")


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # whatever a damaged file says
        return str(seconds)


def _list_files(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Write down what a dataset has: a manifest, sums that sha256sum checks, and the index of its tars for wids."""
    with _told_by_status():
        options = ManifestOptions(**{name: word for name, word in words.items() if word is not None})
        startup.keep_pandas_out()
        from async_img2ds.dataset.manifest import run_manifest

        startup.settle()
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        report = run_manifest(options)
    with suppress(OSError):
        typer.echo(_listed(report, options.output_folder))


def _listed(report: ManifestReport, folder: str) -> str:
    """Return what was written down, in words and figures."""
    lines = [
        f"{report.shards:,} shards, {report.rows:,} rows, {report.successes:,} images in {report.files:,} files and "
        f"folders of {_size(report.bytes)}, in {report.seconds:.1f} s"
    ]
    if report.indexed:
        lines.append(f"indexes of {report.indexed:,} tars made")
    if report.missing:
        lines.append(f"{report.missing:,} shards below the highest are not there, or not finished, and not in it")
    if report.folders_unlisted:
        lines.append(
            f"the samples of {report.folders_unlisted:,} folders are not in _sha256sums.txt, as the stats files have "
            "one sum for all of a folder; --compute reads them"
        )
    return "\n".join([*lines, f"written: {', '.join(report.written)}", f"dataset: {folder}"])


def _partition(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Write a list anew, each host's URLs in few shards far apart, for a fetch on many machines."""
    allowed = tuple(flag for group in PARTITION_GROUPS.values() for flag in partition_flags(group))
    with _told_by_status():
        options = PartitionOptions.of(**_given(words, allowed))
        report, signalled = asyncio.run(_run_until_signalled(partial(_run_partition, options), None))
    with suppress(OSError):
        typer.echo(_rearranged(report, options))
    _end(signalled, complete=not report.interrupted)


async def _run_partition(options: PartitionOptions, stop: Stop) -> PartitionReport:
    from async_img2ds.lists.partition import run_partition

    return await run_partition(options, stop)


def _rearranged(report: PartitionReport, options: PartitionOptions) -> str:
    """Return how a list was written anew in words and figures."""
    if report.interrupted:
        return f"interrupted: nothing is left of it; {_AGAIN} to begin anew"
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


def _push(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Put a finished dataset on the Hugging Face Hub, with a card; what is there already is not sent again."""
    with _told_by_status():
        options = PushOptions(**{name: word for name, word in words.items() if word is not None})
        startup.keep_pandas_out()
        from async_img2ds.dataset.push import run_push

        startup.settle()
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        report = run_push(options)
    with suppress(OSError):
        typer.echo(_pushed(report))


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
        f"{_size(report.bytes_sent)} sent in {report.commits} commits and {report.seconds:.1f} s, "
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


_AGAIN: Final = "run the same command again"
_GO_ON: Final = {
    "incremental": _AGAIN,
    "overwrite": f"{_AGAIN} with --incremental_mode incremental",
    "extend": f"{_AGAIN} with --incremental_mode extend_new",
    "extend_new": _AGAIN,
}


def _recipe_in_words(options: Options) -> str:
    """Return what a recipe stands for, as it would be typed, with what was given beside it in its place."""
    from async_img2ds.recipes import RECIPES

    name = str(options.input.recipe)
    values = {flag.name: getattr(getattr(options, group), flag.name) for group, flag in _grouped_flags()}
    words = (values[option] for option in RECIPES[name])
    said = (json.dumps(word) if isinstance(word, tuple) else str(word) for word in words)
    return f"{name}: " + " ".join(
        f"--{option} {shlex.quote(word)}" for option, word in zip(RECIPES[name], said, strict=True)
    )


def _grouped_flags() -> list[tuple[str, Flag]]:
    return [(name, flag) for name, group in GROUPS.items() for flag in flags_of(group)]


def _summary(report: RunReport, options: Options) -> str:
    """Return the end of a run in words and figures."""
    rows = report.count
    lines = [
        f"{report.successes:,} of {rows:,} images in {report.seconds:.1f} s ({report.images_per_second:.0f} images/s), "
        + _bytes(report),
        f"shards: {report.shards_done} done"
        + ("" if options.run.share.is_all else f" by {options.run.share}")
        + (f", {report.shards_skipped} were done before" if report.shards_skipped else "")
        + (f", {len(report.shards_lost)} LOST" if report.shards_lost else "")
        + (f"; {report.rows_known:,} rows left out, their URLs were there" if report.rows_known else ""),
    ]
    lines += _failures(report, rows)
    lines += [f"  shard {shard_id}: {reason}" for shard_id, reason in list(report.shards_lost.items())[:10]]
    lines += _limits_in_words(report, explain=options.run.explain)
    lines.append(f"dataset: {options.output.output_folder}")
    return "\n".join(lines)


# A limit of less than a tenth of the time is no news, nor is that a list has an end, unless it is asked for.
TOLD_SHARE: Final = 0.1


def _limits_in_words(report: RunReport, *, explain: bool) -> list[str]:
    """Return what the run waited for, and if that is to be explained, what would make it faster."""
    from async_img2ds.hints import FASTER
    from async_img2ds.policy.limits import Limit

    if explain:
        lines = [f"  {limit:<17}  {share:>4.0%}  {FASTER[limit]}" for limit, share in report.limits.items()]
        spent = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in report.stages.items())
        return ["limited by, and faster with:", *lines, f"a row was on average: {spent}"] if lines else []
    told = [
        f"{limit} {share:.0%}"
        for limit, share in report.limits.items()
        if share >= TOLD_SHARE and limit != str(Limit.LIST)
    ]
    return [f"limited by: {', '.join(told)} of the time"] if told else []


def _worst_case_in_words(options: Options) -> str:
    """Return how long a million URLs take if all of them are as slow as they may be."""
    from async_img2ds.distributors.local import usable_cores
    from async_img2ds.policy.limits import worst_case_s
    from async_img2ds.policy.window import IN_FLIGHT_LEAST

    rows, row_s = 10**6, options.fetch.row_deadline_s
    processes = options.run.processes_count or usable_cores()
    under_way = processes * (options.fetch.thread_count or IN_FLIGHT_LEAST)
    fetch = options.fetch
    each_s = max(fetch.crawl_delay, 1 / fetch.max_rate_per_host if fetch.max_rate_per_host else 0.0)
    hours = worst_case_s(rows, under_way, row_s, each_s * (1 + fetch.retries)) / 3600
    on_one = f", and all be on one host, which is asked every {each_s:g} s" if each_s else ""
    return (
        f"by its time limits a million URLs take {hours:,.0f} h at the most: were each to use up its {row_s:g} s "
        f"(--row_timeout_s), {under_way} at a time in {processes} processes{on_one}. Pauses that hosts ask for, a "
        "minute for each attempt at the most, come on top"
    )


_TRUTHS: Final = frozenset({"true", "false", "1", "0", "yes", "no"})


@dataclass(frozen=True, slots=True)
class _Spelling:
    """The ways in which the options of a command may be typed: its *flags*, and *order*, those that need no name.

    The first of these, which it cannot do without, are its arguments.
    """

    flags: tuple[Flag, ...]
    order: tuple[str, ...]

    def in_one_spelling(self, words: list[str]) -> list[str]:
        """Bring the ways in which people type options to one: flags as ``--name=value``, then the argument.

        Python Fire reads img2dataset's command line: a name with ``_`` or ``-`` behind one dash or two, its value
        behind ``=`` or as the next word, a switch bare, with a value, or as ``--noname``; words that belong to no flag
        are the options in the order of the function's parameters that no flag names.
        """
        spelled: list[str] = []
        alone: list[str] = []
        named: set[str] = set()
        rest = deque(words)
        while rest:
            word = rest.popleft()
            found = self._flag_in(word)
            if word == "--":
                alone += rest
                break
            if found is None:
                (spelled if word.startswith("-") else alone).append(word)
                continue
            flag, value = found
            if value is None and flag.kind is bool:
                value = rest.popleft() if rest and rest[0].lower() in _TRUTHS else "True"
            elif value is None and rest and self._flag_in(rest[0]) is None:
                value = rest.popleft()
            named.add(flag.name)
            spelled.append(f"--{flag.name}={value or ''}")
        left = [name for name in self.order if name not in named]
        spelled += [f"--{name}={word}" for name, word in zip(left, alone, strict=False)]
        # The arguments are flags, too, where people come from.
        required = {flag.name for flag in self.flags if flag.required}
        as_flags = [f"--{name}=" for name in self.order if name in required]
        said = [[word.removeprefix(flag) for word in spelled if word.startswith(flag)][-1:] for flag in as_flags]
        arguments = [word for words in takewhile(bool, said) for word in words]
        flags_only = [word for word in spelled if not word.startswith(tuple(as_flags))]
        return [*flags_only, *(["--", *arguments] if arguments else []), *alone[len(left) :]]

    def _flag_in(self, word: str) -> tuple[Flag, str | None] | None:
        """Return the flag that *word* names and its value if there is one in it; None if it names none."""
        if not word.startswith("-"):
            return None
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        for flag in self.flags:
            if name in (flag.name, flag.also):
                return flag, value if equals else None
            if name == f"no{flag.name}" and flag.kind is bool and not equals:
                return flag, "False"
        return None


def _given(words: Mapping[str, Any], known: Iterable[Flag]) -> dict[str, object]:
    """Return what was said of the *known* flags."""
    said = {flag: words[flag.name] for flag in known}
    return {flag.name: _joined(flag, word) for flag, word in said.items() if word is not None and word != []}


def _joined(flag: Flag, word: str | list[str]) -> object:
    """Make one list of a repeated list option: each time it may hold one item or several.

    None, said alone, stays None: for some options that is not the empty list but "as usual".
    """
    if isinstance(word, str):
        return word
    lists = [cast("tuple[str, ...] | None", flag.accept(part)) for part in word]
    return None if lists == [None] else [item for items in lists for item in items or ()]


def _add_command(
    name: str, function: Callable[..., None], groups: Mapping[type, Iterable[Flag]], order: tuple[str, ...]
) -> None:
    """Have *function* called by *name*, with options of these *groups*, of which those in *order* need no name."""
    in_groups = [(group, flag) for group, of_group in groups.items() for flag in of_group]
    parameters = [_parameter(flag, _panel(group)) for group, flag in in_groups]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect.signature looks for first
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    spelling = _Spelling(tuple(flag for _, flag in in_groups), order)

    class Spelled(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  typer's own copy of click's Context
            return super().parse_args(ctx, spelling.in_one_spelling(args))

    app.command(name, cls=Spelled)(function)


def _parameter(flag: Flag, panel: str) -> inspect.Parameter:
    # All values arrive as words, which the options read themselves: one place that knows what is accepted and says so.
    kind = list[str] if flag.kind is tuple and not flag.required else str
    if flag.required:
        made: Any = typer.Argument(help=flag.help, show_default=False, metavar=flag.name.upper())
        return inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, made])
    names = [f"--{flag.name}", *([f"--{flag.also}"] if flag.also else [])]
    made = typer.Option(
        *names,
        help=flag.help + _default_in_words(flag),
        show_default=False,
        metavar=_metavar(flag),
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, made]
    )


def _panel(group: type) -> str:
    return (group.__doc__ or "").rstrip(".")


def _default_in_words(flag: Flag) -> str:
    if flag.default is None or isinstance(flag.default, tuple):  # its help says it, if there is anything to say
        return ""
    return f" Default: {flag.default:g}." if isinstance(flag.default, float) else f" Default: {flag.default}."


def _metavar(flag: Flag) -> str:
    if flag.choices and flag.kind is not tuple:
        return "|".join(flag.choices)
    return {str: "TEXT", int: "N", float: "NUMBER", bool: "BOOL", tuple: "LIST"}[flag.kind]


_add_command("fetch", _fetch, {group: flags_of(group) for group in GROUPS.values()}, POSITIONAL)
_add_command("retry", _retry, {group: later_flags(group) for group in RETRY_GROUPS.values()}, ("output_folder",))
_add_command("purge", _purge, {group: later_flags(group) for group in PURGE_GROUPS.values()}, ("output_folder",))
_add_command(
    "partition",
    _partition,
    {group: partition_flags(group) for group in PARTITION_GROUPS.values()},
    ("url_list", "output_folder"),
)
_add_command("verify", _verify, {VerifyOptions: flags_of(VerifyOptions)}, ("output_folder",))
_add_command("summary", _summarize, {SummaryOptions: flags_of(SummaryOptions)}, ("output_folder",))
_add_command("manifest", _list_files, {ManifestOptions: flags_of(ManifestOptions)}, ("output_folder",))
_add_command("push", _push, {PushOptions: flags_of(PushOptions)}, ("output_folder", "destination"))
