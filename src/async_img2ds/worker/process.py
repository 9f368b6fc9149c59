"""One worker process: one loop, one client, one thread pool, and as many open shards as keep its window full."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from async_img2ds.errors import AsyncImg2dsError, NoRoom, TakenOver, first_of
from async_img2ds.fetch.ahead import look_ahead
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer
from async_img2ds.policy.shards import Naming
from async_img2ds.policy.window import IN_FLIGHT_MOST
from async_img2ds.recorder import HUNG_STATUS, recorder
from async_img2ds.records import Done, Lost, Progress, Tally
from async_img2ds.storage import LocalStore
from async_img2ds.worker.guard import Guard, cpu_seconds
from async_img2ds.worker.means import Means, Share, raise_file_limit, room_for_connections
from async_img2ds.worker.room import PATIENCE_S, DiskRoom
from async_img2ds.worker.shard import ShardRunner
from async_img2ds.worker.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from async_img2ds.recorder import Recorder
    from async_img2ds.records import Report, Shard
    from async_img2ds.worker.guard import Overdue
    from async_img2ds.worker.work import ShardWork

__all__ = ["Worker", "loop_factory", "share_of", "work"]

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


def work(task: ShardWork, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Do *shards* until they end, as :meth:`ShardWork.__call__` says it."""
    codec.prepare()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_work(task, shards, emit, stop))


async def _work(task: ShardWork, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    raise_file_limit()
    guard = Guard(recorder(), cpu_seconds)
    transformer = Transformer(task.options.image, bool(task.options.input.verify_hash), guard.decoding)
    room = room_for_connections(task.options.fetch.thread_count or IN_FLIGHT_MOST)
    async with Means.open(share_of(task), transformer, task.machine.threads, room, guard) as means:
        await Worker.of(task, means, emit).run(shards, stop)


def share_of(task: ShardWork) -> Share:
    """Return the share of each process that does *task*."""
    return Share(task.options.fetch, task.host_rules, task.machine.processes)


def _keeps_journals(task: ShardWork) -> bool:
    output, distributor = task.options.output, task.options.run.distributor
    if output.resume_within_shard is not None:
        return output.resume_within_shard
    here = isinstance(task.store, LocalStore) and distributor == "multiprocessing"
    return here and output.output_format != "dummy"  # which is there to write nothing


@dataclass(slots=True)
class Worker:
    """The open shards of a process, and what is said of them."""

    runner: ShardRunner
    workshop: Workshop
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
        options = task.options
        workshop = Workshop.of(
            means,
            share_of(task),
            options.input,
            cores=task.machine.cores,
            keeps_provenance=options.output.provenance,
            removal=task.removal,
        )
        runner = ShardRunner(
            pacer=workshop.pacer,
            rows=workshop.rows,
            store=task.store,
            image=options.image,
            output=options.output,
            naming=Naming(options.input.number_sample_per_shard, options.output.oom_shard_count),
            keeps_journals=_keeps_journals(task),
            made_with=options.shape(),
            asked_with=hashlib.sha256(repr((options.fetch, task.host_rules)).encode()).digest(),
        )
        room = DiskRoom(task.store.disk(), means.disk_usage, workshop.pacer.pause)
        return cls(runner, workshop, emit, room, means.guard)

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
                tasks.create_task(look_ahead(self.workshop.pacer, self.workshop.client)),
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
            await self.workshop.pacer.wait_hungry()
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
        while self.workshop.pacer.statistics().waiting >= HOST_BOUND_ROWS and (left_s := until - loop.time()) > 0:  # noqa: ASYNC110  a look is enough
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
            gauge = self.workshop.gauge
            gauge.look(self.workshop.pacer.statistics())
            self.emit(Done(os.getpid(), shard.id, counts.condensed(), seconds, gauge.take()))
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
                    if not isinstance(first_of(error), NoRoom) or self._given_up:
                        raise
                    if pause_s is None:
                        self._given_up = True
                        raise
                    logger.warning("shard %d is begun anew as soon as there is room: %s", shard.id, first_of(error))
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
            self.workshop.look()
            self._emit_progress()
            if self.guard is not None and (overdue := self.guard.look()) is not None:
                _give_up(self.guard.recorder, overdue)

    def _emit_progress(self) -> None:
        total = Tally()
        for _, tally in self._open.values():
            total.merge(tally)
        pacer = self.workshop.pacer.statistics()
        self.emit(Progress(os.getpid(), total, self.workshop.gauge.load(pacer)))


def _give_up(flight: Recorder, overdue: Overdue) -> NoReturn:
    """End this process, as nothing less ends a decoder; whoever watches it finds out over which image."""
    logger.error("decoding %s has taken %s; this worker ends over it", overdue.key, overdue.said)
    flight.hung(overdue.place)
    os._exit(HUNG_STATUS)


def _lost(shard: Shard, error: Exception, *, out_of_room: bool) -> Lost:
    """Say why a shard was lost; with the traceback only if it is by none of the errors that are raised on purpose."""
    if out_of_room:
        return Lost(os.getpid(), shard.id, f"there was no room on the disk for {PATIENCE_S:g} s", ends="worker")
    first = first_of(error)
    story = "" if isinstance(first, AsyncImg2dsError) else "".join(traceback.format_exception(error))
    said = f"{type(first).__name__}: {first}"
    return Lost(os.getpid(), shard.id, said, story, _ends(first))


def _ends(error: BaseException) -> Literal["shard", "worker", "run"]:
    """Return what ends with a shard that was lost by *error*: what would not fare better."""
    if isinstance(error, TakenOver):
        return "run"
    return "worker" if isinstance(error, NoRoom) else "shard"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return how workers make their event loop: uvloop's, None for asyncio's own where there is no uvloop."""
    try:
        import uvloop
    except ImportError:  # on Windows
        return None
    return uvloop.new_event_loop
