"""One worker process: one loop, one client, one thread pool, and as many open shards as keep its window full."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import random
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import AsyncImg2dsError
from async_img2ds.fetch.ahead import look_ahead
from async_img2ds.fetch.client import HttpClient
from async_img2ds.fetch.connections import IDLE_MAX
from async_img2ds.fetch.fetcher import Fetcher, user_agent
from async_img2ds.fetch.neighbours import Neighbours
from async_img2ds.fetch.pacer import PER_ADDRESS_MAX, Pacer
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer
from async_img2ds.nets import parse_net
from async_img2ds.policy.host import Manners
from async_img2ds.policy.host_rules import NO_RULES
from async_img2ds.policy.shards import Naming
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.policy.window import IN_FLIGHT_LEAST, IN_FLIGHT_MOST, Window, next_window
from async_img2ds.records import Done, Lost, Progress, Tally
from async_img2ds.worker.gauge import Gauge, Stages
from async_img2ds.worker.pool import Pool
from async_img2ds.worker.shard import ShardRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.host_rules import HostRule, HostRules
    from async_img2ds.records import Report, Shard
    from async_img2ds.worker.work import ShardWork

__all__ = ["loop_factory", "work"]

logger = logging.getLogger(__name__)

# A shard is opened before the one before it has ended, so that slow rows at its end do not idle the core. With
# shards of the default size four cover the tail of a minute's time-outs; small shards may be more, up to a
# number of open files that any system allows.
OPEN_ROWS_MAX: Final = 40_000
OPEN_SHARDS_MAX: Final = 64
# So many rows that wait for their hosts say that hosts are the limit; then the next shard is opened after so many
# seconds for each so many rows that are open.
HOST_BOUND_ROWS: Final = 256
HOST_BOUND_S: Final = 1.0
HOST_BOUND_PER_ROWS: Final = 10_000
LOOK_S: Final = 0.1
PROGRESS_S: Final = 0.5
# Descriptors for everything but connections: libraries, the loop, open shards and look-ups.
DESCRIPTORS_RESERVED: Final = 200
# More is never asked for: some systems have a million, and look at all of them when a process is started.
DESCRIPTORS_ENOUGH: Final = 65_536


def work(task: ShardWork, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Do *shards* until they end, as :meth:`ShardWork.__call__` says it."""
    codec.prepare()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_work(task, shards, emit, stop))


async def _work(task: ShardWork, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    options, fetch = task.options, task.options.fetch
    addresses = AddressPolicy(map(parse_net, fetch.allow_net))
    room = _room_for_connections()
    most = _at_most(fetch.thread_count or IN_FLIGHT_MOST, room)
    window = Window(most if fetch.thread_count else min(most, IN_FLIGHT_LEAST))
    share = _Share(fetch, task.host_rules, task.machine.processes)
    agent = user_agent(importlib.metadata.version("async-img2ds"), fetch)
    transformer = Transformer(options.image, bool(options.input.verify_hash))
    with share.neighbours() as neighbours, Pool.open(transformer, task.machine.threads) as pool:
        pacer = Pacer(
            in_flight_max=window.size,
            connections_max=most,
            held_bytes_max=fetch.in_flight_bytes_max,
            manners=share.manners,
            neighbours=neighbours,
            per_address_max=max(1, PER_ADDRESS_MAX // task.machine.processes),
        )
        idle_max = min(IDLE_MAX, room)  # the room is for those that are in use, and as many are left for the others
        async with HttpClient.open(fetch, addresses, agent, task.host_rules, idle_max) as client:
            stages = Stages()
            runner = ShardRunner(
                pacer=pacer,
                fetcher=Fetcher(client, fetch, addresses, random.random, transformer.may_take),
                transform=lambda content, row: pool.submit(content, row.boxes, row.digest),
                stages=stages,
                store=task.store,
                input=options.input,
                image=options.image,
                output=options.output,
                naming=Naming(options.input.number_sample_per_shard, options.output.oom_shard_count),
                made_with=options.shape(),
            )
            gauge = Gauge(stages, task.machine.cores, client.looking_up)
            worker = _Worker(runner, pacer, client, gauge, window, None if fetch.thread_count else most, emit)
            await worker.run(shards, stop)


@dataclass(frozen=True, slots=True)
class _Share:
    """What one of *processes* alike may ask of a host, of what *fetch* and *rules* allow all of them."""

    fetch: FetchOptions
    rules: HostRules
    processes: int

    def manners(self, host: str) -> Manners:
        """Return how *host* is treated by this process."""
        rule = self.rules.of(host)
        rate = rule.max_rate_per_host or self.fetch.max_rate_per_host
        delay_s = self.fetch.crawl_delay if rule.crawl_delay is None else rule.crawl_delay
        gap_s = max(delay_s, 1 / rate if rate else 0.0)
        return Manners(max(1, self._at_once(rule) // self.processes), gap_s * self.processes)

    def permits(self, host: str) -> int | None:
        """Return how many may ask *host* at a time, None if that is one in each process at least."""
        at_once = self._at_once(self.rules.of(host))
        return at_once if at_once < self.processes else None

    def neighbours(self) -> AbstractContextManager[Neighbours]:
        """Return what opens the others, with permits if any host needs them."""
        at_once = min(map(self._at_once, (NO_RULES.of(""), *self.rules.rules.values())))
        return Neighbours.open(self.permits if at_once < self.processes else None)

    def _at_once(self, rule: HostRule) -> int:
        return rule.max_per_host or self.fetch.max_per_host


@dataclass(slots=True)
class _Worker:
    """The open shards of a process, and what is said of them.

    *window* says how many rows are under way, and *in_flight_most* how many may become so by themselves, None where the
    number was given.
    """

    runner: ShardRunner
    pacer: Pacer
    client: HttpClient
    gauge: Gauge
    window: Window
    in_flight_most: int | None
    emit: Callable[[Report], None]
    _open: dict[int, tuple[Shard, Tally]] = field(default_factory=dict)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, shards: Iterator[Shard], stop: Future[None]) -> None:
        """Open shards as there is room until they end and all are closed, or until *stop*."""
        work = asyncio.ensure_future(self._run_all(shards))
        stopped = asyncio.wrap_future(stop)
        await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def _run_all(self, shards: Iterator[Shard]) -> None:
        loop = asyncio.get_running_loop()
        feeder = ThreadPoolExecutor(1, "shards")
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._report_progress()),
                tasks.create_task(look_ahead(self.pacer, self.client)),
            ]
            async with asyncio.TaskGroup() as opened:
                while True:
                    await self._wait_for_room()
                    shard = await loop.run_in_executor(feeder, next, shards, None)
                    if shard is None:
                        break
                    tally = Tally()
                    self._open[shard.id] = (shard, tally)
                    opened.create_task(self._run_shard(shard, tally))
            for task in beside:
                task.cancel()
        feeder.shutdown(wait=False)

    async def _wait_for_room(self) -> None:
        """Wait until another shard would have rows to start and memory to be open in."""
        while True:
            await self.pacer.wait_hungry()
            await self._hold_back()
            rows = self._rows_open()
            if len(self._open) < 2 or (len(self._open) < OPEN_SHARDS_MAX and rows < OPEN_ROWS_MAX):  # noqa: PLR2004  one whose tail runs, one that fills the window
                return
            self._closed.clear()
            await self._closed.wait()

    async def _hold_back(self) -> None:
        """Wait a while if only their hosts hold the rows back.

        Other shards may help, but not at once and not without end: one that is opened here early is one that another
        worker does not get.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + HOST_BOUND_S * self._rows_open() / HOST_BOUND_PER_ROWS
        while self.pacer.statistics().waiting >= HOST_BOUND_ROWS and (left_s := until - loop.time()) > 0:  # noqa: ASYNC110  a look is enough
            await asyncio.sleep(min(left_s, LOOK_S))

    def _rows_open(self) -> int:
        return sum(shard.row_count for shard, _ in self._open.values())

    async def _run_shard(self, shard: Shard, tally: Tally) -> None:
        """Run one shard and report how it ended; whatever happens in it ends with it."""
        try:
            counts, seconds = await self.runner.run(shard, tally)
        except Exception as error:  # noqa: BLE001  one shard's end is not the others'; it is reported with its traceback
            del self._open[shard.id]
            self.emit(_lost(shard, error))
        else:
            del self._open[shard.id]
            self.gauge.look(self.pacer.statistics())
            self.emit(Done(os.getpid(), shard.id, counts.condensed(), seconds, self.gauge.take()))
        finally:
            self._closed.set()
            self._emit_progress()

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            sight = self.gauge.look(self.pacer.statistics())
            if self.in_flight_most is not None:
                self.window = next_window(self.window, sight, self.in_flight_most)
                self.pacer.resize(self.window.size)
            self._emit_progress()

    def _emit_progress(self) -> None:
        total = Tally()
        for _, tally in self._open.values():
            total.merge(tally)
        pacer = self.pacer.statistics()
        self.emit(Progress(os.getpid(), total, pacer.in_flight + pacer.silent))


def _lost(shard: Shard, error: Exception) -> Lost:
    """Say why a shard was lost; with the traceback only if it is by none of the errors that are raised on purpose."""
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):  # its first says what the group does not
        first = first.exceptions[0]
    story = "" if isinstance(first, AsyncImg2dsError) else "".join(traceback.format_exception(error))
    return Lost(os.getpid(), shard.id, f"{type(first).__name__}: {first}", story)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return how workers make their event loop: uvloop's, None for asyncio's own where there is no uvloop."""
    try:
        import uvloop
    except ImportError:  # on Windows
        return None
    return uvloop.new_event_loop


def _room_for_connections() -> int:
    """Raise this process's limit of open files as far as it may; return how many connections it leaves room for.

    As many again may be idle.
    """
    try:
        import resource
    except ImportError:  # on Windows, where sockets have no such limit
        return IN_FLIGHT_MOST + IDLE_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS_ENOUGH:
        soft = DESCRIPTORS_ENOUGH if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_ENOUGH)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = DESCRIPTORS_ENOUGH
    return max(1, (soft - DESCRIPTORS_RESERVED) // 2)


def _at_most(wanted: int, room: int) -> int:
    """Return how many rows may be under way, of those *wanted*, and say it if there is not *room* for all."""
    if room < wanted:
        logger.warning("ulimit -n leaves room for %d URLs under way at a time in this process, not %d", room, wanted)
    return min(wanted, room)
