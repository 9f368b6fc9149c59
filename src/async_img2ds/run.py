"""download(options): plan what is not finished, have workers do it, add up."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from inspect import Signature
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.blocking import waited_for
from async_img2ds.distributors.base import ShardFeed, Stop, distributor
from async_img2ds.errors import WorkerError
from async_img2ds.journal import drop_journals, journals_in
from async_img2ds.lists.partition import in_host_order
from async_img2ds.options import Options, parameters
from async_img2ds.plan import planned
from async_img2ds.preflight import check_installed
from async_img2ds.progress import Totals, show_progress
from async_img2ds.prometheus import serving_metrics
from async_img2ds.records import Done, Lost, RunReport
from async_img2ds.wandb import tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from async_img2ds.inputs import UrlList
    from async_img2ds.progress import Display
    from async_img2ds.ranks import Share
    from async_img2ds.records import Report
    from async_img2ds.storage import Store

__all__ = ["Stop", "download", "download_async", "run"]

logger = logging.getLogger(__name__)

_TORN: Final = "a replacement of its files was cut off; the same aimg2ds retry or purge does it again"


async def download_async(*values: Any, **options: Any) -> RunReport:  # noqa: ANN401  checked against their fields
    """Fetch the images of a URL list into a dataset.

    Takes the options of ``aimg2ds fetch`` as keywords, or by position in img2dataset's order; ``url_list`` is required.
    Cancelling the call drops the shards that are open and keeps those that are committed, so that the same call goes on
    where this one ended.

    Returns:
        What became of the rows. Failed rows are no exception: they are counted here and told apart in the metadata.

    Raises:
        OptionsError: an option cannot be used; nothing was started, created or deleted.
        InputError: the list cannot be read; shards committed before that was noticed are kept.
        WorkerError: worker processes cannot be kept running.

    """
    return await run(Options.of(*values, **options))


def download(*values: Any, **options: Any) -> RunReport:  # noqa: ANN401  checked against their fields
    """Do what :func:`download_async` does, and wait for it.

    From a script, a notebook, or inside a running event loop.
    """
    checked = Options.of(*values, **options)
    return waited_for(lambda: run(checked))


# What inspect.signature looks for first, so that help() and notebooks show the options themselves.
vars(download)["__signature__"] = Signature(parameters(), return_annotation=RunReport)
vars(download_async)["__signature__"] = Signature(parameters(), return_annotation=RunReport)


async def run(options: Options, stop: Stop | None = None) -> RunReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    began = time.monotonic()
    stop = stop or Stop()
    options = replace(options, run=options.run.placed(os.environ))
    check_installed(options)
    totals = Totals()
    listed = await in_host_order(options, stop)
    if listed is None:
        return _report(totals, None, time.monotonic() - began, interrupted=True)
    async with AsyncExitStack() as opened:
        figures = opened.enter_context(serving_metrics(options.run))
        track = await opened.enter_async_context(tracking(options))
        plan = await opened.enter_async_context(planned(listed, stop, options.settings()))
        if plan is None:
            return _report(totals, None, time.monotonic() - began, interrupted=True)
        feed = ShardFeed(plan.shards, options.run.max_shard_retry)
        try:
            distribute = distributor(options.run.distributor)
            expected, detailed = plan.url_list.rows_expected, options.run.verbose
            listeners = [track]
            if figures is not None:
                figures.rows_expected = expected
                listeners.append(figures.take)
            with show_progress(options.run.display, expected, detailed=detailed) as display:
                emit = partial(_take_in, totals, display, listeners)
                for shard_id in plan.torn:
                    emit(Lost(os.getpid(), shard_id, _TORN))
                with _adding_what_is_done(totals):
                    await distribute(plan.work_for, feed, emit, stop, options.run)
            if not (feed.error or totals.lost or stop.drain.is_set()):  # all is there; what lists of before left may go
                await asyncio.to_thread(_drop_journals, plan.store, options.run.share)
        finally:
            feed.close()
    if feed.error is not None:
        raise feed.error
    return _report(totals, plan.url_list, time.monotonic() - began, interrupted=stop.drain.is_set())


@contextmanager
def _adding_what_is_done(totals: Totals) -> Iterator[None]:
    """Have an error that ends the run say what is finished, too."""
    try:
        yield
    except WorkerError as error:
        if not totals.shards_done:
            raise
        done = f"{totals.shards_done} shards with {totals.committed.count} rows"
        raise WorkerError(f"{error}; {done} are finished, and the same command goes on") from error


def _drop_journals(store: Store, share: Share) -> None:
    drop_journals(store, [stem for stem in journals_in(store) if share.has(int(stem))])


def _take_in(totals: Totals, display: Display, tell: Sequence[Callable[[Report], None]], report: Report) -> None:
    totals.add(report)
    display.update(totals)
    for each in tell:
        each(report)
    if isinstance(report, Done):
        logger.info("shard %d is done: %d of %d images in %.1f s", *_of(report))
    if isinstance(report, Lost) and report.traceback:
        logger.error("shard %d is lost:\n%s", report.shard_id, report.traceback)


def _of(done: Done) -> tuple[int, int, int, float]:
    return done.shard_id, done.tally.successes, done.tally.count, done.seconds


def _report(totals: Totals, url_list: UrlList | None, seconds: float, *, interrupted: bool) -> RunReport:
    tally = totals.committed
    return RunReport(
        count=tally.count,
        successes=tally.successes,
        failed_to_download=tally.failed_to_download,
        failed_to_resize=tally.failed_to_resize,
        error_classes=dict(tally.error_classes.most_common()),
        bytes_received=tally.body_bytes,
        bytes_written=tally.image_bytes,
        shards_done=totals.shards_done,
        shards_skipped=url_list.shards_skipped if url_list else 0,
        rows_known=url_list.rows_known if url_list else 0,
        shards_lost=dict(totals.lost),
        limits=totals.limited_by(),
        stages=totals.stage_means(),
        seconds=seconds,
        interrupted=interrupted,
    )
