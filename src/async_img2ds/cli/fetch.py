"""aimg2ds fetch: the images of a URL list into a dataset."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from async_img2ds import startup
from async_img2ds.cli.figures import both_ways, failures
from async_img2ds.cli.logs import end_in_json
from async_img2ds.cli.outcome import AGAIN, end, run_until_signalled, say, told_by_status
from async_img2ds.flags import Flag, flags_of
from async_img2ds.options import GROUPS, Options

if TYPE_CHECKING:
    from async_img2ds.distributors.base import Stop
    from async_img2ds.records import RunReport

__all__ = ["fetch", "recipe_in_words"]

_GO_ON: Final = {
    "incremental": AGAIN,
    "overwrite": f"{AGAIN} with --incremental_mode incremental",
    "extend": f"{AGAIN} with --incremental_mode extend_new",
    "extend_new": AGAIN,
}


def fetch(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Fetch the images of a URL list into a dataset."""
    with told_by_status():
        options = Options.of(**words)
        options = replace(options, run=options.run.placed(os.environ))
        if options.input.recipe and not options.run.is_terse:
            say(recipe_in_words(options), err=True)
        if options.run.explain and not options.run.is_terse:
            say(_worst_case_in_words(options), err=True)
        run = options.run
        report, signalled = asyncio.run(run_until_signalled(partial(_run_fetch, options), run.grace_s, run))
    if run.log_format == "json":
        say(end_in_json(report))
    elif not run.quiet:
        say(_summary(report, options))
    if signalled and not run.is_terse:
        say(f"interrupted: {_GO_ON[options.output.incremental_mode]} to go on", err=True)
    end(signalled, complete=report.complete)


async def _run_fetch(options: Options, stop: Stop) -> RunReport:
    from async_img2ds.run import run

    startup.settle()
    return await run(options, stop)


def recipe_in_words(options: Options) -> str:
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
        + both_ways(report),
        f"shards: {report.shards_done} done"
        + ("" if options.run.share.is_all else f" by {options.run.share}")
        + (f", {report.shards_skipped} were done before" if report.shards_skipped else "")
        + (f", {len(report.shards_lost)} LOST" if report.shards_lost else "")
        + (f"; {report.rows_known:,} rows left out, their URLs were there" if report.rows_known else ""),
    ]
    lines += failures(report, rows)
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
