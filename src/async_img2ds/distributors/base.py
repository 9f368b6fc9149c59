"""What every distributor is, and how shards are handed out so that each is done once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from async_img2ds.options import RunOptions
    from async_img2ds.records import Report, Shard

__all__ = ["DISTRIBUTORS", "Distributor", "ShardFeed", "Stop", "Work", "distributor"]

logger = logging.getLogger(__name__)


class Work(Protocol):
    """Does shards until they end or *stop* is resolved; picklable, because it is sent to where it runs."""

    def __call__(self, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None], /) -> None:
        """Take *shards* one at a time and report on each with *emit*."""


class Distributor(Protocol):
    """Runs *work* in *processes* places at a time until *feed* is empty, passing reports to *emit*."""

    async def __call__(
        self,
        work: Work,
        feed: ShardFeed,
        emit: Callable[[Report], None],
        processes: int,
        stop: Stop,
        options: RunOptions,
    ) -> None:
        """Return when every shard is done or given up, or *stop* has been obeyed."""


@dataclass(slots=True)
class Stop:
    """How a run is asked to end early: *drain* lets open shards finish, *now* drops them."""

    drain: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self) -> None:
        """Ask once to drain, twice to stop now."""
        (self.now if self.drain.is_set() else self.drain).set()


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
        self._reader = ThreadPoolExecutor(1, "list")
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
            reading.add_done_callback(_look_at)
        if not reading.done():  # closed while a slow list is read: what it still yields is nobody's
            return None
        try:
            shard = reading.result()
        except Exception as error:  # noqa: BLE001  kept for the end of the run, when the shards before it are done
            self.error, self._ended = error, True
            return None
        self._ended = shard is None
        return shard


def _look_at(reading: asyncio.Future[Shard | None]) -> None:
    """Have seen how a read ended that nobody waits for, or asyncio would complain of it."""
    if not reading.cancelled():
        reading.exception()


DISTRIBUTORS: Final[Mapping[str, str]] = {"multiprocessing": "async_img2ds.distributors.local:run_local"}


def distributor(name: str) -> Distributor:
    """Return the distributor called *name*, a key of :data:`DISTRIBUTORS`."""
    module, _, function = DISTRIBUTORS[name].partition(":")
    return cast("Distributor", getattr(import_module(module), function))
