"""What a run will do: the list and the output folder opened, what is finished subtracted, the shards that are left."""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from async_img2ds.blocking import begun
from async_img2ds.distributors.base import DOUBLING
from async_img2ds.errors import StorageError, redacted
from async_img2ds.existing import STARTS, checked, clear, drop_manifest, keep_settings, removal_in, sweep_journals
from async_img2ds.inputs import UrlList
from async_img2ds.policy.markers import digest_of_options
from async_img2ds.preflight import check_apart, check_shared, host_rules
from async_img2ds.storage import open_store
from async_img2ds.worker.work import Machine, ShardWork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from async_img2ds.distributors.base import Stop, Work, WorkFor
    from async_img2ds.options import Options
    from async_img2ds.records import Shard
    from async_img2ds.storage import Store

__all__ = ["Plan", "planned"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: the *shards* that are not finished, and the work that does them.

    Of those that are *torn*, by number, the files are not what they should be, which only a retry puts right.
    """

    url_list: UrlList
    store: Store
    shards: Iterator[Shard]
    work_for: WorkFor
    torn: Sequence[int] = ()


@asynccontextmanager
async def planned(options: Options, stop: Stop, settings: str = "") -> AsyncIterator[Plan | None]:
    """Plan in a thread, and hold the output folder during the block; None if *stop* was asked for first.

    Looking at all of a list may take minutes. A plan that nobody waits for any more gives back what it took hold of,
    and its thread does not keep the program from ending.

    Raises:
        OptionsError: an option cannot be used; nothing was created or deleted.
        InputError: the list cannot be read up to its first shard.
        StorageError: the output folder cannot be used.

    """
    left = threading.Event()

    def is_wanted() -> bool:
        return not (left.is_set() or stop.drain.is_set())

    held = ExitStack()
    try:
        async with begun(partial(_plan, options, held, is_wanted, settings), held.close, stop.drain) as plan:
            yield plan
    finally:
        left.set()


def _plan(options: Options, held: ExitStack, is_wanted: Callable[[], bool], settings: str) -> Plan:
    """Open both ends and see what there is to do; whatever can be refused is refused before anything is deleted.

    What is taken hold of, *held* gives back. Nothing is deleted for a run that is not *is_wanted* any more. *settings*
    are left beside the dataset, if there are any and there is anything to do.
    """
    check_shared(options.output.output_folder)
    rules = host_rules(options.fetch.hosts_file)
    url_list = UrlList.open(options.input)
    check_apart(url_list.files, options.output.output_folder)
    share = replace(options.run.share, making=digest_of_options(options.shape()))
    store = open_store(options.output.output_folder, share, contested=options.run.distributor in DOUBLING)
    held.callback(store.close)
    try:
        store.prepare()
        start = checked(STARTS[options.output.incremental_mode](store), options)
        shards = url_list.shards(
            start.finished, start.made, options.shape(), first_shard=start.first_shard, known=start.known, share=share
        )
        first = list(itertools.islice(shards, 1))  # a list that breaks before its first shard is refused
        removal = removal_in(store)
        sweep_journals(store, start, options.output.incremental_mode, share)
        if options.output.incremental_mode == "overwrite" and first:
            url_list.check_all()
            store.check()  # looking at the list may have taken hours
            if is_wanted():
                drop_manifest(store)
                clear(store)
            else:
                first, shards = [], iter(())
        elif first and is_wanted():
            drop_manifest(store)
        if first and settings and share.rank == 0:
            keep_settings(store, settings)
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error
    if not url_list.rows_read and not url_list.rows_known:
        logger.warning("url_list: %s has no rows", redacted(", ".join(options.input.url_list)))

    def work_for(processes: int, cores: int) -> Work:
        return ShardWork(options, store, Machine(processes, cores), rules, removal)

    torn = [shard_id for shard_id in start.torn if share.has(shard_id)]
    return Plan(url_list, store, itertools.chain(first, shards), work_for, torn)
