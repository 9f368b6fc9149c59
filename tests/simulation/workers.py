"""Workers that live in the loop of a simulation, as the crew of a run sees them: started, fed, hung up on, killed.

Of a worker everything is the program's own but the hosts that it asks, the images that it makes, and the pipe to its
parent.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
from collections import Counter, deque
from concurrent.futures import Future
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.distributors.crew import STOP_S, asked_for
from async_img2ds.errors import ErrorClass, TransformFailure
from async_img2ds.fetch.neighbours import Neighbours
from async_img2ds.fetch.pauses import ENTRIES, Pauses
from async_img2ds.fetch.permits import Permits
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.records import Done, Encoded, Lost, Shard
from async_img2ds.storage import LocalStore
from async_img2ds.worker.means import Means
from async_img2ds.worker.process import Worker, share_of
from async_img2ds.worker.work import ShardWork
from virtual_loop import PROCESS, Killed, Process, run_in
from world import SimClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from async_img2ds.distributors.base import Work
    from async_img2ds.distributors.crew import End
    from async_img2ds.records import Row
    from async_img2ds.worker.means import Share
    from world import World

__all__ = ["Machine", "SimStore"]

PIPE_S: Final = 0.001
IMAGE_S: Final = 0.004
# A shard whose worker dies alone with it so often is given up; so often only what is poisonous may kill it.
DEATHS_MOST: Final = 2
MOMENTS_IN_THREADS: Final = frozenset({"stage", "publish", "published"})


class _SimPermits(Permits):
    """Permits whose locks are in a table of the machine, as all processes of the simulation are one to the system."""

    def __init__(self, process: Process, locks: dict[int, Process], share: Share, world: World) -> None:
        super().__init__(-1, share.permits, world.loop.time)
        self._process = process
        self._locks = locks

    def _lock(self, byte: int) -> bool:
        return self._locks.setdefault(byte, self._process) is self._process

    def _unlock(self, byte: int) -> None:
        if self._locks.get(byte) is self._process:
            del self._locks[byte]


class SimStore(LocalStore):
    """A folder on a disk that is full or fails now and then, and during whose use one may die."""

    def __init__(self, root: Path, world: World) -> None:
        super().__init__(root)
        self._world = world
        self._numbers = Counter[str]()

    def apart(self) -> SimStore:
        self._numbers["apart"] += 1
        store = super().apart()
        store._own = f"{self._numbers['apart']:08x}"
        return store

    def stage(self, name: str) -> Path:
        self._world.event(f"stage {name}")
        self._world.at_moment("stage")
        number, self._numbers["stage"] = self._numbers["stage"], self._numbers["stage"] + 1
        if number in self._world.script.full:
            self._world.event(f"no room for {name}")
            code = errno.ENOSPC if number % 2 else errno.EIO
            raise OSError(code, os.strerror(code))
        return super().stage(name)

    def publish(self, name: str) -> None:
        self._world.at_moment("publish")
        super().publish(name)
        self._world.event(f"published {name}")
        self._world.at_moment("published")


class Machine:
    """What workers of a run have in common: pauses, permits, and somebody who kills them as the script says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pauses = memoryview(bytearray(8 * ENTRIES)).cast("d")
        self._locks: dict[int, Process] = {}
        self._deaths = Counter[int]()
        self._moments = Counter[str]()
        self._kills = list(world.script.kills)
        self.links: list[SimLink] = []
        world.at_moment = self._at_moment

    @asynccontextmanager
    async def start(self, work: Work) -> AsyncIterator[SimLink]:
        """Start one worker, and see that it has ended."""
        assert isinstance(work, ShardWork)
        link = SimLink(self._world, self, len(self.links) + 1)
        self.links.append(link)
        self._world.event(f"start {link.process}")
        link.begin(work)
        try:
            yield link
        finally:
            await link.end()

    def neighbours(self, process: Process, share: Share) -> Neighbours:
        most = [self._world.script.options["max_per_host"]]
        most += [rule.max_per_host or most[0] for rule in self._world.rules.rules.values()]
        needs_permits = min(most) < self._world.processes
        permits = _SimPermits(process, self._locks, share, self._world) if needs_permits else None
        return Neighbours(permits, Pauses(self._pauses, self._world.unix_time))

    def forget(self, process: Process) -> None:
        """Take back what a dead process held, as the system does."""
        self._world.forget(process)
        for byte in [byte for byte, holder in self._locks.items() if holder is process]:
            del self._locks[byte]

    def died(self, link: SimLink) -> None:
        self._deaths.update(link.open)

    def locks_left(self) -> int:
        return len(self._locks)

    def _at_moment(self, moment: str) -> None:
        """Kill whoever is at a moment that the script names, unless it would be the end of a shard."""
        process = PROCESS.get()
        self._moments[moment] += 1
        due = (moment, self._moments[moment])
        if due not in self._kills or process is None or not process.alive:
            return
        link = next(link for link in self.links if link.process is process)
        if any(self._deaths[shard] >= DEATHS_MOST for shard in link.open):
            return
        self._kills.remove(due)
        self._world.counts["kills"] += 1
        if moment in MOMENTS_IN_THREADS:
            link.die("killed by SIGKILL")
            raise Killed
        self._world.loop.call_soon(link.die, "killed by SIGKILL", context=contextvars.Context())


class SimLink:
    """One worker, as its parent sees it."""

    def __init__(self, world: World, machine: Machine, number: int) -> None:
        self.number = number
        self.ending = ""
        self.last_words = "nothing"
        self.starting_s = 600.0
        self.open: set[int] = set()
        self.process = Process(f"worker {number}")
        self.was_killed = False
        self._world = world
        self._machine = machine
        self._ended = asyncio.Event()
        self._pipe: deque[Any] = deque()
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        self._inbox: deque[Shard | None] = deque()
        self._awaited: asyncio.Future[Shard | None] | None = None
        self._gone: Future[None] = Future()
        self._cpu_s = 0.0

    # What its parent does.

    def begin(self, work: ShardWork) -> None:
        run_in(self.process, self._world.loop, self._live(work))

    async def send(self, message: Shard | End) -> None:
        if isinstance(message, Shard):
            self.open.add(message.id)
        self._world.loop.call_later(PIPE_S, self._take_in, message if isinstance(message, Shard) else None)

    async def messages(self) -> AsyncIterator[Any]:
        while (message := await self._said.get()) is not None:
            if isinstance(message, Done | Lost):
                self.open.discard(message.shard_id)
                self._world.event(f"heard {type(message).__name__} of {message.shard_id}")
            yield message

    def hang_up(self) -> None:
        if self.process.alive and not self._gone.done():
            self._world.event(f"hang up on {self.process}")
            self._gone.set_result(None)
            self._take_in(None)
            self._world.loop.call_later(STOP_S, self.die, "exit status 1")

    ended_over = ()

    def kill(self, *, stuck: bool = False) -> None:  # noqa: ARG002  as links have it
        self.die("killed by SIGKILL")

    async def end(self) -> None:
        self.hang_up()
        try:
            async with asyncio.timeout(STOP_S):
                await self._ended.wait()
        except TimeoutError:
            self.kill()

    # What becomes of it.

    def die(self, ending: str) -> None:
        """Be dead from now on."""
        if not self.process.alive:
            return
        self._world.event(f"end of {self.process}: {ending}")
        self.was_killed = ending != "exit status 0"
        self._machine.died(self)
        self._world.loop.kill(self.process)
        self._machine.forget(self.process)
        self.ending = ending
        self._emit(None)  # behind all that it has said
        self._ended.set()

    def _emit(self, message: object) -> None:
        """Say *message*: what is in the pipe arrives, whatever becomes of whoever said it."""
        self._pipe.append(message)
        self._world.loop.call_later(PIPE_S, self._deliver, context=contextvars.Context())
        if isinstance(message, Done):
            self._world.event(f"report {message.shard_id}")
            self._world.at_moment("report")

    def _deliver(self) -> None:
        self._said.put_nowait(self._pipe.popleft())

    def _take_in(self, shard: Shard | None) -> None:
        if not self.process.alive:
            return
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(shard)
        else:
            self._inbox.append(shard)

    def _receive(self) -> Any:
        """Return the next shard, or a future of it, which is what blocks a thread here."""
        if self._inbox:
            return self._inbox.popleft()
        self._awaited = self._world.loop.create_future()
        return self._awaited

    # What it does itself.

    async def _live(self, work: ShardWork) -> None:
        script, world = self._world.script, self._world
        hangs_s = script.starts.get(self.number, 0.5)
        await asyncio.sleep(hangs_s)
        if not hangs_s:
            world.loop.call_soon(self.die, "exit status 1", context=contextvars.Context())
            return
        client = SimClient(world, self.process)
        worker = Worker.of(work, self._means(work, client), self._emit)
        try:
            await worker.run(asked_for(self._emit, self._receive), self._gone)
        except Exception as error:  # noqa: BLE001  nothing but a defect comes this way
            world.breach(f"{self.process} broke: {error!r}")
        await client.uplink.close()
        await asyncio.sleep(0)
        self._look_at_the_end(worker)
        world.loop.call_soon(self.die, "exit status 0", context=contextvars.Context())

    def _means(self, work: ShardWork, client: SimClient) -> Means:
        world = self._world
        threads = asyncio.Semaphore(work.machine.threads)

        async def transform(content: bytes, row: Row) -> Encoded:
            async with threads:
                await asyncio.sleep(IMAGE_S)
                self._cpu_s += IMAGE_S
            if row.url is not None and row.url == world.script.poison:
                world.counts["poisoned"] += 1
                world.loop.call_soon(self.die, "killed by SIGSEGV", context=contextvars.Context())
                await world.loop.create_future()
            if b"/broken-" in content:
                raise TransformFailure(ErrorClass.DECODE_ERROR, "cannot identify image file")
            return Encoded(content, 1, 1, 1, 1, "{}", None)

        return Means(
            client=client,
            addresses=AddressPolicy(),
            neighbours=self._machine.neighbours(self.process, share_of(work)),
            connections_max=300,
            transform=transform,
            may_be_image=lambda _: True,
            jitter=Random(f"jitter {world.script.seed} {self.number}").random,
            clock=world.loop.time,
            cpu_clock=lambda: self._cpu_s,
        )

    def _look_at_the_end(self, worker: Worker) -> None:
        """See that a worker that has ended holds nothing any more."""
        told = worker.workshop.pacer.statistics()
        if told.in_flight or told.silent or told.late or told.held_bytes:
            self._world.breach(f"{self.process} has ended and holds {told}")
        for site, queue in worker.workshop.pacer._schedule._queues.items():
            # Those of a shard that was dropped are forgotten when the turn of their host comes.
            wanted = [ticket for _, ticket in queue.waiting if ticket.is_wanted()]
            if wanted or queue.host.active or queue.name.pace.active:
                self._world.breach(
                    f"{self.process} has ended with {len(wanted)} waiting, {queue.host.active} at {site}"
                )
        left = [task for task in self._world.loop.tasks_of(self.process) if task is not asyncio.current_task()]
        if left:
            self._world.breach(f"{self.process} has ended and left {len(left)} tasks: {left[0]!r}")
        stages = worker.workshop.rows.stages
        if stages.fetching.rows or stages.transforming.rows or stages.writing.rows:
            self._world.breach(f"{self.process} has ended with rows in its stages")
