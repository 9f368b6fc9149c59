"""One worker process: one loop, one client, one thread pool, and as many open shards as keep its window full."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import logging
import os
import random
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Protocol

from async_img2ds.errors import AsyncImg2dsError, NoRoom, TakenOver
from async_img2ds.fetch.ahead import Names, look_ahead
from async_img2ds.fetch.client import Client, HttpClient
from async_img2ds.fetch.connections import IDLE_MAX
from async_img2ds.fetch.fetcher import Complaints, Fetcher, user_agent
from async_img2ds.fetch.neighbours import Neighbours
from async_img2ds.fetch.pacer import PER_ADDRESS_MAX, Pacer
from async_img2ds.fetch.sources import SourceReader
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer
from async_img2ds.nets import parse_net
from async_img2ds.policy.host import Manners
from async_img2ds.policy.host_rules import NO_RULES
from async_img2ds.policy.shards import Naming
from async_img2ds.policy.sources import Sources
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.policy.window import IN_FLIGHT_LEAST, IN_FLIGHT_MOST, Window, next_window
from async_img2ds.recorder import HUNG_STATUS, recorder
from async_img2ds.records import Done, Lost, Progress, Tally
from async_img2ds.sources import parse_source
from async_img2ds.storage import LocalStore
from async_img2ds.worker.gauge import Gauge, Stages
from async_img2ds.worker.guard import Guard, cpu_seconds
from async_img2ds.worker.pool import Pool
from async_img2ds.worker.room import PATIENCE_S, DiskRoom, disk_usage
from async_img2ds.worker.shard import ShardRunner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.host_rules import HostRule, HostRules
    from async_img2ds.recorder import Recorder
    from async_img2ds.records import Encoded, Report, Row, Shard
    from async_img2ds.worker.guard import Overdue
    from async_img2ds.worker.room import DiskUsage
    from async_img2ds.worker.work import ShardWork

__all__ = ["Means", "Share", "Web", "Worker", "loop_factory", "work"]

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
# What a shard over which the disk was full waits at least before each further run: others may have taken the room that
# was seen, and there may be a quota, which says of no room beforehand.
ROOM_PAUSES_S: Final = (1, 2, 4, 8)
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
    agent = user_agent(importlib.metadata.version("async-img2ds"), fetch)
    guard = Guard(recorder(), cpu_seconds)
    transformer = Transformer(options.image, bool(options.input.verify_hash), guard.decoding)
    with Share.of(task).neighbours() as neighbours, Pool.open(transformer, task.machine.threads) as pool:
        idle_max = min(IDLE_MAX, room)  # the room is for those that are in use, and as many are left for the others
        async with (
            HttpClient.open(fetch, addresses, agent, task.host_rules, idle_max) as client,
            SourceReader.open(fetch) as reader,
        ):
            means = Means(
                client=client,
                reader=reader,
                addresses=addresses,
                neighbours=neighbours,
                connections_max=room,
                transform=lambda content, row: pool.submit(content, row.boxes, row.digest, row.key),
                guard=guard,
                may_be_image=transformer.may_take,
            )
            await Worker.of(task, means, emit).run(shards, stop)


class Web(Client, Names, Protocol):
    """Asks URLs, looks names up, and knows how many requests wait for that."""

    def looking_up(self) -> int:
        """Return how many requests wait for the addresses of their hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a worker works with: all that it knows of the world, and so the seam at which a test gives it another one.

    Attributes:
        client: asks URLs.
        reader: reads what is not on the web, None if nothing of that is allowed.
        addresses: says which of them may be asked.
        neighbours: the other processes of this machine.
        connections_max: how many connections there is room for.
        transform: makes an image of the body of a row.
        may_be_image: whether the first bytes of a body may become one.
        guard: sees that decoding ends, None where nothing is decoded.
        jitter: draws from [0, 1).
        clock: seconds that never go back.
        cpu_clock: seconds of CPU that this process has used.
        disk_usage: the room on the disk of a folder, in bytes.

    """

    client: Web
    addresses: AddressPolicy
    neighbours: Neighbours
    connections_max: int
    transform: Callable[[bytes, Row], Awaitable[Encoded]]
    may_be_image: Callable[[bytes], bool]
    guard: Guard | None = None
    reader: Client | None = None
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic
    cpu_clock: Callable[[], float] = time.process_time
    disk_usage: Callable[[Path], DiskUsage] = disk_usage


def _keeps_journals(task: ShardWork) -> bool:
    output, distributor = task.options.output, task.options.run.distributor
    if output.resume_within_shard is not None:
        return output.resume_within_shard
    here = isinstance(task.store, LocalStore) and distributor == "multiprocessing"
    return here and output.output_format != "dummy"  # which is there to write nothing


@dataclass(frozen=True, slots=True)
class Share:
    """What one of *processes* alike may ask of a host, of what *fetch* and *rules* allow all of them."""

    fetch: FetchOptions
    rules: HostRules
    processes: int

    @classmethod
    def of(cls, task: ShardWork) -> Share:
        """Return that of each process that does *task*."""
        return cls(task.options.fetch, task.host_rules, task.machine.processes)

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
class Worker:
    """The open shards of a process, and what is said of them.

    *window* says how many rows are under way, and *in_flight_most* how many may become so by themselves, None where the
    number was given.
    """

    runner: ShardRunner
    pacer: Pacer
    client: Web
    gauge: Gauge
    window: Window
    in_flight_most: int | None
    emit: Callable[[Report], None]
    room: DiskRoom
    guard: Guard | None = None
    _open: dict[int, tuple[Shard, Tally]] = field(default_factory=dict)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)
    _patience: set[asyncio.Timeout] = field(default_factory=set)
    _narrow: asyncio.Lock = field(default_factory=asyncio.Lock)
    _given_up: bool = False

    @classmethod
    def of(cls, task: ShardWork, means: Means, emit: Callable[[Report], None]) -> Worker:
        """Return one that does *task* with *means*, and reports to *emit*."""
        options, fetch = task.options, task.options.fetch
        most = _at_most(fetch.thread_count or IN_FLIGHT_MOST, means.connections_max)
        window = Window(most if fetch.thread_count else min(most, IN_FLIGHT_LEAST))
        sources = Sources(map(parse_source, fetch.allow_sources))
        pacer = Pacer(
            in_flight_max=window.size,
            connections_max=most,
            held_bytes_max=fetch.in_flight_bytes_max,
            manners=Share.of(task).manners,
            neighbours=means.neighbours,
            per_address_max=max(1, PER_ADDRESS_MAX // task.machine.processes),
            parse=sources.parse,
            clock=means.clock,
        )
        fetcher = Fetcher(
            means.client,
            fetch,
            means.addresses,
            means.jitter,
            means.may_be_image,
            complaints=Complaints(means.clock),
            clock=means.clock,
            keeps_provenance=options.output.provenance,
            host_rules=task.host_rules,
            removal=task.removal,
            sources=sources,
            reader=means.reader,
        )
        stages = Stages.by(means.clock)
        runner = ShardRunner(
            pacer=pacer,
            fetcher=fetcher,
            transform=means.transform,
            stages=stages,
            store=task.store,
            input=options.input,
            image=options.image,
            output=options.output,
            naming=Naming(options.input.number_sample_per_shard, options.output.oom_shard_count),
            keeps_journals=_keeps_journals(task),
            made_with=options.shape(),
            asked_with=hashlib.sha256(repr((fetch, task.host_rules)).encode()).digest(),
        )
        gauge = Gauge(stages, task.machine.cores, means.client.looking_up, means.clock, means.cpu_clock)
        room = DiskRoom(task.store.disk(), means.disk_usage, pacer.pause)
        by_itself = None if fetch.thread_count else most
        return cls(runner, pacer, means.client, gauge, window, by_itself, emit, room, means.guard)

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
        self._emit_progress()  # from here on silence means that it is stuck
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._report_progress()),
                tasks.create_task(look_ahead(self.pacer, self.client)),
                tasks.create_task(self._watch_room()),
            ]
            async with asyncio.TaskGroup() as opened:
                while True:
                    await self._wait_for_room()
                    if self._given_up:  # for want of room; no other shard would fare better here
                        break
                    shard = await loop.run_in_executor(feeder, next, shards, None)
                    if shard is None:
                        break
                    if self.guard is not None:
                        self.guard.learn(shard.quarantine)
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
        return sum(len(shard.again.rows) if shard.again else shard.row_count for shard, _ in self._open.values())

    async def _run_shard(self, shard: Shard, tally: Tally) -> None:
        """Run one shard and report how it ended; whatever happens in it ends with it."""
        patience = asyncio.timeout(None)
        try:
            async with patience:
                self._patience.add(patience)
                counts, seconds = await self._run_in_room(shard, tally)
        except Exception as error:  # noqa: BLE001  one shard's end is not the others'; it is reported with its traceback
            del self._open[shard.id]
            self.emit(_lost(shard, error, out_of_room=patience.expired()))
        else:
            del self._open[shard.id]
            self.gauge.look(self.pacer.statistics())
            self.emit(Done(os.getpid(), shard.id, counts.condensed(), seconds, self.gauge.take()))
        finally:
            self._patience.discard(patience)
            self._closed.set()
            self._emit_progress()

    async def _run_in_room(self, shard: Shard, tally: Tally) -> tuple[Tally, float]:
        """Run one shard; if the disk is full, again as soon as there is room for what it had, one after another."""
        async with AsyncExitStack() as turn:
            for number, pause_s in enumerate((*ROOM_PAUSES_S, None)):
                try:
                    return await self.runner.run(shard, tally)
                except Exception as error:
                    if not isinstance(_first_of(error), NoRoom) or self._given_up:
                        raise
                    if pause_s is None:
                        self._given_up = True
                        raise
                    logger.warning("shard %d is begun anew as soon as there is room: %s", shard.id, _first_of(error))
                if number == 0:
                    await turn.enter_async_context(self._narrow)
                await asyncio.sleep(pause_s)
                await self.room.wait_for(tally.image_bytes)
                tally = Tally()
                self._open[shard.id] = (shard, tally)
        raise AssertionError("the last run ends it either way")

    async def _watch_room(self) -> None:
        """Look after the room on the disk; when there has been none for too long, give up what is open."""
        while True:
            await self.room.watch()
            self._given_up = True
            for patience in self._patience:
                patience.reschedule(asyncio.get_running_loop().time())

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            sight = self.gauge.look(self.pacer.statistics())
            if self.in_flight_most is not None:
                self.window = next_window(self.window, sight, self.in_flight_most)
                self.pacer.resize(self.window.size)
            self._emit_progress()
            if self.guard is not None and (overdue := self.guard.look()) is not None:
                _give_up(self.guard.recorder, overdue)

    def _emit_progress(self) -> None:
        total = Tally()
        for _, tally in self._open.values():
            total.merge(tally)
        pacer = self.pacer.statistics()
        self.emit(Progress(os.getpid(), total, self.gauge.load(pacer)))


def _give_up(flight: Recorder, overdue: Overdue) -> NoReturn:
    """End this process, as nothing less ends a decoder; whoever watches it finds out over which image."""
    logger.error("decoding %s has taken %s; this worker ends over it", overdue.key, overdue.said)
    flight.hung(overdue.place)
    os._exit(HUNG_STATUS)


def _lost(shard: Shard, error: Exception, *, out_of_room: bool) -> Lost:
    """Say why a shard was lost; with the traceback only if it is by none of the errors that are raised on purpose."""
    if out_of_room:
        return Lost(os.getpid(), shard.id, f"there was no room on the disk for {PATIENCE_S:g} s", ends="worker")
    first = _first_of(error)
    story = "" if isinstance(first, AsyncImg2dsError) else "".join(traceback.format_exception(error))
    said = f"{type(first).__name__}: {first}"
    return Lost(os.getpid(), shard.id, said, story, _ends(first))


def _ends(error: BaseException) -> Literal["shard", "worker", "run"]:
    """Return what ends with a shard that was lost by *error*: what would not fare better."""
    if isinstance(error, TakenOver):
        return "run"
    return "worker" if isinstance(error, NoRoom) else "shard"


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):  # its first says what the group does not
        error = error.exceptions[0]
    return error


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
    return room_within(soft)


def room_within(descriptors: int) -> int:
    """Return how many connections may be in use in a process that may have so many *descriptors*."""
    return max(1, (min(descriptors, DESCRIPTORS_ENOUGH) - DESCRIPTORS_RESERVED) // 2)


def _at_most(wanted: int, room: int) -> int:
    """Return how many rows may be under way, of those *wanted*, and say it if there is not *room* for all."""
    if room < wanted:
        logger.warning("ulimit -n leaves room for %d URLs under way at a time in this process, not %d", room, wanted)
    return min(wanted, room)
