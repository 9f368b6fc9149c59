"""What a run will do: the list and the output folder opened, what is finished subtracted, the shards that are left."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_img2ds.errors import StorageError
from async_img2ds.existing import STARTS, checked, clear, sweep_journals
from async_img2ds.inputs import UrlList
from async_img2ds.preflight import check_apart, check_shared, host_rules
from async_img2ds.storage import open_store
from async_img2ds.worker.work import Machine, ShardWork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.distributors.base import Stop, Work, WorkFor
    from async_img2ds.options import Options
    from async_img2ds.records import Shard
    from async_img2ds.storage import Store

__all__ = ["Plan", "planned"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: the *shards* that are not finished, and the work that does them."""

    url_list: UrlList
    store: Store
    shards: Iterator[Shard]
    work_for: WorkFor


async def planned(options: Options, stop: Stop) -> Plan | None:
    """Plan in a thread; None if *stop* was asked for first.

    Looking at all of a list may take minutes. A plan that nobody waits for any more gives back what it took hold of,
    and its thread does not keep the program from ending.

    Raises:
        OptionsError: an option cannot be used; nothing was created or deleted.
        InputError: the list cannot be read up to its first shard.
        StorageError: the output folder cannot be used.

    """
    planning: Future[Plan] = Future()

    def target() -> None:
        if not planning.set_running_or_notify_cancel():
            return
        try:
            planning.set_result(_plan(options, stop))
        except BaseException as error:  # noqa: BLE001  carried over to whoever waits
            planning.set_exception(error)

    threading.Thread(target=target, name="plan", daemon=True).start()
    plan: asyncio.Future[Plan] = asyncio.wrap_future(planning)
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.drain.wait())
    taken = False
    try:
        futures: tuple[asyncio.Future[Any], ...] = (plan, stopped)
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        taken = plan.done()
        return plan.result() if taken else None
    finally:
        stopped.cancel()
        if not taken:
            plan.cancel()
            planning.add_done_callback(_give_back)


def _give_back(planning: Future[Plan]) -> None:
    if not planning.cancelled() and planning.exception() is None:
        planning.result().store.close()


def _plan(options: Options, stop: Stop) -> Plan:
    """Open both ends and see what there is to do; whatever can be refused is refused before anything is deleted."""
    check_shared(options.output.output_folder)
    rules = host_rules(options.fetch.hosts_file)
    url_list = UrlList.open(options.input)
    check_apart(url_list.files, options)
    store = open_store(options.output.output_folder)
    try:
        store.prepare()
        start = checked(STARTS[options.output.incremental_mode](store), options)
        shards = url_list.shards(
            start.finished, start.made, options.shape(), first_shard=start.first_shard, known=start.known
        )
        first = list(itertools.islice(shards, 1))  # a list that breaks before its first shard is refused
        sweep_journals(store, start, options.output.incremental_mode)
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
    if not url_list.rows_read and not url_list.rows_known:
        logger.warning("url_list: %s has no rows", ", ".join(options.input.url_list))

    def work_for(processes: int, cores: int) -> Work:
        return ShardWork(options, store, Machine(processes, cores), rules)

    return Plan(url_list, store, itertools.chain(first, shards), work_for)
