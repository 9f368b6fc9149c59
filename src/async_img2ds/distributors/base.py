"""What every distributor is, and how shards are handed out so that each is done once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from async_img2ds.blocking import DaemonThread, look_at
from async_img2ds.errors import WorkerError
from async_img2ds.records import Done, Lost, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from async_img2ds.options import RunOptions
    from async_img2ds.records import Report, Shard

__all__ = [
    "DISTRIBUTORS",
    "DOUBLING",
    "Distributor",
    "OpenShards",
    "ShardFeed",
    "Stop",
    "Work",
    "WorkFor",
    "distributor",
    "obeying",
]

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Work(Protocol):
    """Does shards until they end or *stop* is resolved; picklable, because it is sent to where it runs."""

    def __call__(self, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None], /) -> None:
        """Take *shards* one at a time and report on each with *emit*."""


class WorkFor(Protocol):
    """Makes the work; how many do it at a time, and on what, is known only where it is done."""

    def __call__(self, processes: int, cores: int) -> Work:
        """Return the work for each of *processes* places alike, which may use *cores* cores."""


class Distributor(Protocol):
    """Has the shards of *feed* done until it is empty, in as many places as *options* or the engine say."""

    async def __call__(
        self, work_for: WorkFor, feed: ShardFeed, emit: Callable[[Report], None], stop: Stop, options: RunOptions
    ) -> None:
        """Return when every shard is done or given up, or *stop* has been obeyed; pass all reports to *emit*.

        Raises:
            WorkerError: the work cannot be kept running.

        """


@dataclass(slots=True)
class Stop:
    """How a run is asked to end early: *drain* lets open shards finish, *now* drops them."""

    drain: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self) -> None:
        """Ask once to drain, twice to stop now."""
        (self.now if self.drain.is_set() else self.drain).set()


@asynccontextmanager
async def obeying(
    stop: Stop, feed: ShardFeed, grace_s: float, drop: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Obey *stop* during the block: no new shards, then a time of grace for the open ones, then *drop* them.

    Raises:
        WorkerError: as it was raised in the block, or in the task groups of the block.

    """

    async def obey() -> None:
        await stop.drain.wait()
        feed.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await stop.now.wait()
        await drop()

    try:
        async with asyncio.TaskGroup() as tasks:
            obedience = tasks.create_task(obey())
            yield
            obedience.cancel()
    except BaseExceptionGroup as group:
        known: BaseException | None = group.subgroup(WorkerError)
        while isinstance(known, BaseExceptionGroup):
            known = known.exceptions[0]
        if known is None:
            raise
        raise known from None


# A worker that is killed (by the system for memory, by a crash in a decoder, by hand) takes its open shards with it,
# most of which had no part in it. A shard that was open in SUSPECT_DEATHS of them is from then on given only to a
# worker that has nothing else, and given up when LONELY_DEATHS_MAX of those have died: one that kills its worker costs
# no other shard, and cannot keep a run going for ever.
SUSPECT_DEATHS: Final = 2
LONELY_DEATHS_MAX: Final = 3


class ShardFeed:
    """Hands out shards, and hands out again those that were lost; one for each run, shared by all its workers.

    Attributes:
        error: what ended the list before its end, if anything did; told when the shards before it are done.
        closed: whether nothing more is handed out.

    """

    def __init__(self, shards: Iterator[Shard], retries: int) -> None:
        """Take shards from *shards* as they are asked for; try one that failed *retries* times more."""
        self._shards = shards
        self._retries = retries
        self._again: deque[Shard] = deque()
        self._deaths: Counter[int] = Counter()
        self._lonely_deaths: Counter[int] = Counter()
        self._reading = asyncio.Lock()
        self._reader = DaemonThread("list")
        self._ended = False
        self._closing = asyncio.Event()
        self.error: BaseException | None = None
        self.closed = False

    async def next(self, *, alone: bool) -> Shard | None:
        """Return a shard to do, None if there is none now. The list is read in a thread, so the loop goes on.

        *alone* says that whoever asks has no other shard; a suspect is given to nobody else.
        """
        async with self._reading:
            shard = None if self.closed else self._taken_back(alone=alone)
            if shard is None and not self._ended and not self.closed:
                shard = await self._read()
            return None if self.closed else shard

    async def look_ahead(self, count: int) -> int:
        """Read on until *count* shards wait to be handed out, or the list ends; return how many do."""
        async with self._reading:
            while len(self._again) < count and not self._ended and not self.closed:
                if (shard := await self._read()) is not None:
                    self._again.append(shard)
            return len(self._again)

    def is_suspect(self, shard: Shard) -> bool:
        """Whether *shard* was open in so many deaths that it must be done alone."""
        return self._deaths[shard.id] >= SUSPECT_DEATHS

    def close(self) -> None:
        """Hand out nothing more."""
        self.closed = True
        self._closing.set()
        self._reader.shutdown(wait=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to hand out."""
        return self.closed or (self._ended and not self._again)

    def give_back(self, shard: Shard) -> None:
        """Take back a shard that was not begun."""
        self._again.append(shard)

    def absolve(self, shard: Shard) -> None:
        """Forget the deaths that *shard* was open in: it is known what they were over."""
        self._deaths.pop(shard.id, None)
        self._lonely_deaths.pop(shard.id, None)

    def failed(self, shard: Shard) -> bool:
        """Take back a shard that failed as a whole; return whether it will be tried again."""
        if shard.attempt >= self._retries:
            return False
        self._again.append(replace(shard, attempt=shard.attempt + 1))
        return True

    def orphaned(self, shard: Shard, *, alone: bool) -> bool:
        """Take back a shard whose worker died, *alone* if it had no other; return whether it will be tried again."""
        self._deaths[shard.id] += 1
        self._lonely_deaths[shard.id] += alone
        if self._lonely_deaths[shard.id] >= LONELY_DEATHS_MAX:
            return False
        self._again.append(shard)
        return True

    def _taken_back(self, *, alone: bool) -> Shard | None:
        for shard in self._again:
            if alone or not self.is_suspect(shard):
                self._again.remove(shard)
                return shard
        return None

    async def _read(self) -> Shard | None:
        reading = asyncio.get_running_loop().run_in_executor(self._reader, next, self._shards, None)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            reading.add_done_callback(look_at)
        if not reading.done():  # closed while a slow list is read: what it still yields is nobody's
            return None
        try:
            shard = reading.result()
        except Exception as error:  # noqa: BLE001  kept for the end of the run, when the shards before it are done
            self.error, self._ended = error, True
            return None
        self._ended = shard is None
        return shard


@dataclass(slots=True)
class OpenShards:
    """Shards that were handed out, until it is known what became of each."""

    feed: ShardFeed
    emit: Callable[[Report], None]
    _shards: dict[int, Shard] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, shard_id: int) -> bool:
        return shard_id in self._shards

    def __iter__(self) -> Iterator[int]:
        """Yield their numbers."""
        return iter(self._shards)

    def add(self, shard: Shard) -> None:
        """Have *shard* among them."""
        self._shards[shard.id] = shard

    def any_suspect(self) -> bool:
        """Whether one of them is to be done alone."""
        return any(map(self.feed.is_suspect, self._shards.values()))

    def settle(self, report: Report) -> None:
        """Take in what is said of one of them and pass it on; one that is lost is given back while it has tries."""
        match report:
            case Done(shard_id=shard_id):
                self._shards.pop(shard_id, None)
                self.emit(report)
            case Lost(shard_id=shard_id, ends="worker" | "run"):
                self._shards.pop(shard_id, None)
                if report.ends == "run":
                    self.feed.close()
                self.emit(report)
            case Lost(shard_id=shard_id):
                if self.feed.failed(self._shards.pop(shard_id)):
                    logger.warning("shard %d failed and will be tried again: %s", shard_id, report.reason)
                else:
                    self.emit(report)
            case Progress():
                self.emit(report)

    def give_back(self) -> None:
        """Give all back that are left: what ended the work had nothing to do with them."""
        for shard in self._shards.values():
            self.feed.absolve(shard)
            self.feed.give_back(shard)
        self._shards.clear()

    def orphan(self, shard_ids: Iterable[int], worker: int, cause: str) -> bool:
        """Give those back whose *worker* died over them; return whether any is given up instead."""
        orphans = [self._shards.pop(shard_id) for shard_id in shard_ids]
        given_up = [shard for shard in orphans if not self.feed.orphaned(shard, alone=len(orphans) == 1)]
        for shard in given_up:
            self.emit(Lost(worker, shard.id, f"its worker died again and again ({cause})"))
        return bool(given_up)


# The name of a distributor → its module and coroutine. Modules are imported when they are used: some need an engine.
DISTRIBUTORS: Final[Mapping[str, str]] = {
    "multiprocessing": "async_img2ds.distributors.local:run_local",
    "rank": "async_img2ds.distributors.local:run_local",
    "pyspark": "async_img2ds.distributors.spark:run_spark",
    "ray": "async_img2ds.distributors.ray:run_ray",
}

# Those that may have a shard done twice at a time: a worker that is slow, or not heard of, lives on beside another.
DOUBLING: Final = frozenset({"pyspark", "ray"})


def distributor(name: str) -> Distributor:
    """Return the distributor called *name*, a key of :data:`DISTRIBUTORS`."""
    module, _, function = DISTRIBUTORS[name].partition(":")
    return cast("Distributor", getattr(import_module(module), function))
