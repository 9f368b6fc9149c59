"""Workers that are fed: each gets a shard when it asks for one, and one that dies is replaced.

What a worker is, a process here or an actor elsewhere, is its link's business; what it is given next, and what becomes
of the shards that it had, is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.distributors.base import OpenShards
from async_img2ds.errors import WorkerError
from async_img2ds.records import Done, Lost, Progress, Quarantine, Shard, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from async_img2ds.distributors.base import ShardFeed, Work
    from async_img2ds.errors import ErrorClass
    from async_img2ds.recorder import Decoding
    from async_img2ds.records import Report

__all__ = ["STOP_S", "Crew", "End", "Link", "Want", "asked_for"]

logger = logging.getLogger(__name__)

# Time for a worker that was told to stop at once to remove what it has half written, before it is killed.
STOP_S: Final = 2.0
# One that reports how it is doing does so twice a second; when it has not for so long, its loop is stuck for good.
WEDGED_S: Final = 120.0
WATCH_S: Final = 5.0
# Workers that die one after the other before they ask for work have a cause that the next one meets, too.
FAILED_STARTS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Want:
    """A worker has room for another shard."""


@dataclass(frozen=True, slots=True)
class End:
    """There are no more shards for this worker."""


class Link(Protocol):
    """A worker, as seen from where it is fed."""

    @property
    def number(self) -> int:
        """What its reports call it."""

    @property
    def starting_s(self) -> float:
        """How long it may take to begin, at the most."""

    @property
    def ending(self) -> str:
        """How it ended, in words."""

    @property
    def last_words(self) -> str:
        """What it said of it."""

    async def send(self, message: Shard | End) -> None:
        """Have it receive *message*; that it is dead is told by the end of its messages alone."""

    def messages(self) -> AsyncIterator[Want | Report]:
        """Yield what it says, until it has ended."""

    def hang_up(self) -> None:
        """Have it drop what it has open, and end."""

    def kill(self, *, stuck: bool = False) -> None:
        """End it at once; *stuck* says that it is because nothing was heard of it."""

    @property
    def ended_over(self) -> Sequence[tuple[Decoding, ErrorClass]]:
        """Over which images it may have ended, and how, where that can be told."""


def asked_for(tell: Callable[[Want], None], receive: Callable[[], Shard | None]) -> Iterator[Shard]:
    """Yield shards in a worker: each is asked for when it is wanted, and None ends them."""
    while True:
        tell(Want())
        shard = receive()
        if shard is None:
            return
        yield shard


class Culprits:
    """Images over which workers have ended: suspect after the first time, guilty after a time alone."""

    def __init__(self) -> None:
        """Know of none."""
        self.quarantine = Quarantine()

    def convict(self, ended_over: Sequence[tuple[Decoding, ErrorClass]]) -> bool:
        """Take in over which images a worker may have ended, and how; return whether that tells which it was."""
        suspected = self.quarantine
        alone = len(ended_over) == 1
        found: list[tuple[Decoding, ErrorClass]] = []
        for decoding, kind in ended_over:
            is_suspect = decoding.digest in suspected.suspects or decoding.key in suspected.suspect_keys
            if decoding.hung or (alone and is_suspect):
                found.append((decoding, kind))
                logger.warning(
                    "row %s ends workers (%s); it fails, and its bytes are not decoded again", decoding.key, kind
                )
        others = [decoding for decoding, kind in ended_over if (decoding, kind) not in found]
        self.quarantine = suspected.plus(
            Quarantine(
                frozenset(decoding.digest for decoding in others),
                frozenset(decoding.key for decoding in others),
                {decoding.digest: kind for decoding, kind in found},
                {decoding.key: kind for decoding, kind in found},
            )
        )
        return bool(found)


@dataclass(slots=True)
class Crew:
    """The workers of a run: *start* gives one, and has ended it when its block is left."""

    start: Callable[[Work], AbstractAsyncContextManager[Link]]
    feed: ShardFeed
    emit: Callable[[Report], None]
    _workers: list[_Worker] = field(default_factory=list)
    culprits: Culprits = field(default_factory=Culprits)
    _failed_starts: int = 0
    _stopped: bool = False

    async def run(self, work: Work, count: int) -> None:
        """Keep *count* workers going until there is nothing left to do."""
        async with asyncio.TaskGroup() as places:
            for _ in range(count):
                places.create_task(self._keep_one(work))

    @property
    def waits(self) -> bool:
        """Whether none of its workers has begun."""
        return bool(self._workers) and not any(worker.has_asked for worker in self._workers)

    async def drop(self) -> None:
        """Have every worker drop what it has open, and end those that do not."""
        self._stopped = True
        for worker in self._workers:
            worker.hang_up()
        await asyncio.sleep(STOP_S)
        for worker in self._workers:
            worker.link.kill()

    async def _keep_one(self, work: Work) -> None:
        """Keep one worker going as long as there is something to do."""
        # Its first shard is set aside before it is started, or workers that are up sooner would take it.
        while (first := await self.feed.next(alone=True)) is not None:
            async with self.start(work) as link:
                worker = _Worker(link, self.feed, self.emit, first, self.culprits)
                self._workers.append(worker)
                if self._stopped:  # while it was being started
                    worker.hang_up()
                try:
                    await worker.serve()
                finally:
                    self._workers.remove(worker)
            self._settle(worker)
            if worker.is_dismissed:
                return

    def _settle(self, worker: _Worker) -> None:
        """See how a worker ended, and what becomes of the shards that it had open."""
        link = worker.link
        self._failed_starts = 0 if worker.has_asked else self._failed_starts + 1
        if worker.hung_up:
            return
        if self._failed_starts >= FAILED_STARTS_MAX:
            raise WorkerError(f"workers end before they do any work ({link.ending}): {link.last_words}")
        if worker.first is not None:  # it was never given, so it had no part in this
            self.feed.give_back(worker.first)
        if orphans := list(worker.open):
            logger.warning("worker %d died (%s); %d open shards are done again", link.number, link.ending, len(orphans))
        if self.culprits.convict(link.ended_over):
            worker.open.give_back()  # they had no part in it, and it will not happen again
        worker.open.orphan(list(worker.open), link.number, link.ending)
        self.emit(Progress(link.number, Tally()))


class _Worker:
    """One worker, and what it is to be given."""

    def __init__(
        self, link: Link, feed: ShardFeed, emit: Callable[[Report], None], first: Shard, culprits: Culprits
    ) -> None:
        self.link = link
        self._culprits = culprits
        self.first: Shard | None = first
        self.open = OpenShards(feed, emit)
        self.has_asked = False
        self.is_dismissed = False
        self.hung_up = False
        self._feed = feed
        self._wants = False
        self._wanting = asyncio.Event()
        self._has_ended = False
        self._silent_s = 0.0
        self._reports = False

    async def serve(self) -> None:
        """Give it shards as it asks, and pass on its reports, until it ends."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch())
            # Beside, as a list may be slow: what the worker says is heeded meanwhile.
            tasks.create_task(self._give_what_it_wants())
            await self._heed()
            watch.cancel()
            self._has_ended = True
            self._wanting.set()

    async def _watch(self) -> None:
        """End it if it is stuck: nothing else would."""
        while self._silent_s < (WEDGED_S if self._reports else self.link.starting_s):
            await asyncio.sleep(WATCH_S)
            # Not by the clock, which goes on while this process and that one are stopped, as by Ctrl-Z.
            if self._reports or not self.has_asked:
                self._silent_s += WATCH_S
        logger.warning("worker %d has said nothing for %g s; it is ended", self.link.number, self._silent_s)
        self.link.kill(stuck=True)

    async def _heed(self) -> None:
        async for message in self.link.messages():
            self._silent_s = 0.0
            self._reports = self._reports or isinstance(message, Progress)
            match message:
                case Want():
                    self.has_asked = self._wants = True
                    self._wanting.set()
                case Done() | Lost():
                    self.open.settle(message)
                    self.is_dismissed = self.is_dismissed or (isinstance(message, Lost) and message.ends == "worker")
                    self._wanting.set()
                case Progress():
                    self.open.settle(message)

    def hang_up(self) -> None:
        self.hung_up = True
        self.link.hang_up()

    async def _give_what_it_wants(self) -> None:
        while not self._has_ended:
            await self._wanting.wait()
            self._wanting.clear()
            await self._give()

    async def _give(self) -> None:
        """Answer a wish for a shard, unless what it has open is to be done alone."""
        if self._has_ended or not self._wants or self.open.any_suspect():
            return
        self._wants = False
        shard, self.first = self.first, None
        if self._feed.closed or self.is_dismissed:
            shard = None
        elif shard is None:
            shard = await self._feed.next(alone=not self.open)
            if shard is not None and self._has_ended:
                self._feed.give_back(shard)
                return
        if shard is None:
            await self.link.send(End())
        else:
            self.open.add(shard)
            await self.link.send(replace(shard, quarantine=self._culprits.quarantine))
