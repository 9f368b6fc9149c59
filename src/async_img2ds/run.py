"""download(options): open the list, subtract what is finished, have workers do the rest, add up."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from inspect import Signature
from operator import attrgetter
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.distributors.base import ShardFeed, Stop, distributor
from async_img2ds.errors import MissingExtraError, OptionsError, StorageError
from async_img2ds.existing import STARTS, clear
from async_img2ds.inputs import UrlList
from async_img2ds.options import Options, parameters
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Lost, RunReport
from async_img2ds.storage import file_system, open_store, protocols
from async_img2ds.wandb import tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from async_img2ds.distributors.base import Work, WorkFor
    from async_img2ds.progress import Display
    from async_img2ds.records import Report, Shard
    from async_img2ds.storage import Store

__all__ = ["Stop", "download", "download_async", "run"]

logger = logging.getLogger(__name__)


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
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run(checked))
    return _in_thread(checked)


# What inspect.signature looks for first, so that help() and notebooks show the options themselves.
vars(download)["__signature__"] = Signature(parameters(), return_annotation=RunReport)
vars(download_async)["__signature__"] = Signature(parameters(), return_annotation=RunReport)


async def run(options: Options, stop: Stop | None = None) -> RunReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    began = time.monotonic()
    stop = stop or Stop()
    async with tracking(options) as track:
        plan = await _planned(options, stop)
        feed = ShardFeed(plan.shards, options.run.max_shard_retry)
        totals = Totals()
        try:
            distribute = distributor(options.run.distributor)
            with show_progress(options.run.progress, plan.url_list.rows_expected) as display:
                emit = partial(_take_in, totals, display, track)
                await distribute(plan.work_for, feed, emit, stop, options.run)
        finally:
            feed.close()
            plan.store.close()
    if feed.error is not None:
        raise feed.error
    return _report(totals, plan.url_list, time.monotonic() - began, interrupted=stop.drain.is_set())


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done: the *shards* that are not finished, and the work that does them."""

    url_list: UrlList
    store: Store
    shards: Iterator[Shard]
    work_for: WorkFor


async def _planned(options: Options, stop: Stop) -> _Plan:
    """Plan in a thread. A plan that nobody waits for any more gives back what it took hold of."""
    thread = ThreadPoolExecutor(1, "plan")
    planning = thread.submit(_plan, options, stop)
    thread.shutdown(wait=False)
    try:
        return await asyncio.wrap_future(planning)
    except asyncio.CancelledError:
        planning.add_done_callback(_abandon)
        raise


def _abandon(planning: Future[_Plan]) -> None:
    if not planning.cancelled() and planning.exception() is None:
        planning.result().store.close()


def _plan(options: Options, stop: Stop) -> _Plan:
    """Open both ends and see what there is to do; whatever must be refused is refused before anything is created."""
    _check_image_library(options)
    _check_extras(options)
    from async_img2ds.worker.process import Machine, ShardWork  # imports the image library, which is there now

    _check_output_folder(options)
    url_list = UrlList.open(options.input)
    _check_apart(url_list, options)
    store = open_store(options.output.output_folder)
    try:
        store.prepare()
        start = STARTS[options.output.incremental_mode](store)
        shards = url_list.shards(start.finished, first_shard=start.first_shard, known=start.known)
        first = list(itertools.islice(shards, 1))  # a list that breaks before its first shard is refused
        if options.output.incremental_mode == "overwrite" and first:
            url_list.check_all()
            if stop.drain.is_set():  # nothing is deleted for a run that will not begin
                first, shards = [], iter(())
            else:
                clear(store)
    except OSError as error:
        store.close()
        raise StorageError(f"output_folder: {error}") from error
    except BaseException:
        store.close()
        raise
    if not url_list.rows_read:
        logger.warning("url_list: %s has no rows", ", ".join(options.input.url_list))

    def work_for(processes: int, threads: int) -> Work:
        return ShardWork(options, store, Machine(processes, threads))

    return _Plan(url_list, store, itertools.chain(first, shards), work_for)


def _take_in(totals: Totals, display: Display, track: Callable[[Report], None], report: Report) -> None:
    totals.add(report)
    display.update(totals)
    track(report)
    if isinstance(report, Lost) and report.traceback:
        logger.error("shard %d is lost:\n%s", report.shard_id, report.traceback)


def _check_image_library(options: Options) -> None:
    if importlib.util.find_spec("PIL") is None:
        raise OptionsError(
            "no image library is installed. Type one of these two lines:\n"
            "  pip install 'async-img2ds[simd]'     # pillow-simd: faster, compiled on this machine\n"
            "  pip install 'async-img2ds[pillow]'   # Pillow: ready to use"
        )
    from async_img2ds.images import codec

    if options.image.convert_to_srgb and not codec.converts_profiles():
        raise OptionsError(
            f"convert_to_srgb: {codec.library()} was built without littlecms; "
            "install its headers (apt-get install liblcms2-dev) and rebuild, or take the extra 'pillow'"
        )
    if missing := codec.missing_formats():
        if options.image.encode_format in missing:
            raise OptionsError(
                f"encode_format: {codec.library()} was built without {options.image.encode_format}; "
                "install its headers and rebuild, or take the extra 'pillow'"
            )
        logger.warning(
            "%s was built without %s: such images will fail as decode_unsupported", codec.library(), ", ".join(missing)
        )


# An option and a choice of it that needs more than the package's own dependencies → what is imported for it, and the
# extra that installs it. File systems say so themselves, when they are opened.
EXTRAS: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("output.output_format", "tfrecord"): ("google_crc32c", "tfrecord"),
    ("run.distributor", "pyspark"): ("pyspark", "spark"),
    ("run.distributor", "ray"): ("ray", "ray"),
}


def _check_extras(options: Options) -> None:
    for (option, choice), (module, extra) in EXTRAS.items():
        if attrgetter(option)(options) == choice and importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"{option.rpartition('.')[2]} {choice}", extra)


def _check_output_folder(options: Options) -> None:
    """Refuse to write where no worker could."""
    fs, _ = file_system(options.output.output_folder)
    if "memory" in protocols(fs):
        raise OptionsError("output_folder: memory:// is each process's own, and workers are others; choose a folder")


def _check_apart(url_list: UrlList, options: Options) -> None:
    """Refuse to write where lists are looked for, or over one: a dataset has files that would be taken for lists."""
    fs, path = file_system(options.output.output_folder)
    for file in url_list.files:
        folder, _, name = os.path.realpath(file.path).rpartition("/")
        if type(file.fs) is not type(fs) or os.path.realpath(path) not in (folder, os.path.realpath(file.folder)):
            continue
        if file.found:
            raise OptionsError(
                "output_folder is the folder of the list: the dataset's own files would be read as lists; "
                "choose another"
            )
        if name.partition(".")[0].isdigit():
            raise OptionsError(
                f"output_folder is the folder of the list, and a shard may be called {name}, too; choose another"
            )


def _report(totals: Totals, url_list: UrlList, seconds: float, *, interrupted: bool) -> RunReport:
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
        shards_skipped=url_list.shards_skipped,
        rows_known=url_list.rows_known,
        shards_lost=dict(totals.lost),
        seconds=seconds,
        interrupted=interrupted,
    )


def _in_thread(options: Options) -> RunReport:
    """Run in a loop of its own in another thread, because this one's loop is running."""
    outcome: Future[RunReport] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(run(options))

    def target() -> None:
        try:
            outcome.set_result(loop.run_until_complete(task))
        except BaseException as error:  # noqa: BLE001  carried over to the thread that waits
            outcome.set_exception(error)
        finally:
            loop.close()

    thread = Thread(target=target, name="async-img2ds")
    thread.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()
