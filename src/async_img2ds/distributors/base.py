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
# most of which had no part in it. A shard that was open in this many deaths is given up, so that one that kills its
# worker cannot keep a run going for ever.
DEATHS_MAX: Final = 5


class ShardFeed:
    """Hands out shards, and hands out again those that were lost; one for each run, shared by all its workers."""

    def __init__(self, shards: Iterator[Shard], retries: int) -> None:
        """Take shards from *shards* as they are asked for; try one that failed *retries* times more."""
        self._shards = shards
        self._retries = retries
        self._again: deque[Shard] = deque()
        self._deaths: Counter[int] = Counter()
        self._reading = asyncio.Lock()
        self._ended = False
        self.error: BaseException | None = None

    async def next(self) -> Shard | None:
        """Return a shard to do, None if there is none now. The list is read in a thread, so the loop goes on."""
        async with self._reading:
            if self._again:
                return self._again.popleft()
            if self._ended:
                return None
            try:
                with ThreadPoolExecutor(1, "list") as thread:
                    shard = await asyncio.get_running_loop().run_in_executor(thread, next, self._shards, None)
            except Exception as error:  # noqa: BLE001  told at the end of the run, when the shards read before it are done
                self.error, self._ended = error, True
                return None
            self._ended = shard is None
            return shard

    def close(self) -> None:
        """Hand out nothing more."""
        self._ended = True
        self._again.clear()
        self._retries = -1

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to hand out."""
        return self._ended and not self._again

    def failed(self, shard: Shard) -> bool:
        """Take back a shard that failed as a whole; return whether it will be tried again."""
        if shard.attempt >= self._retries:
            return False
        self._again.append(replace(shard, attempt=shard.attempt + 1))
        return True

    def orphaned(self, shard: Shard) -> bool:
        """Take back a shard whose worker died; return whether it will be tried again."""
        self._deaths[shard.id] += 1
        if self._retries < 0 or self._deaths[shard.id] >= DEATHS_MAX:
            return False
        self._again.append(shard)
        return True


DISTRIBUTORS: Final[Mapping[str, str]] = {"multiprocessing": "async_img2ds.distributors.local:run_local"}


def distributor(name: str) -> Distributor:
    """Return the distributor called *name*, a key of :data:`DISTRIBUTORS`."""
    module, _, function = DISTRIBUTORS[name].partition(":")
    return cast("Distributor", getattr(import_module(module), function))
