"""Actors of Ray, one for each place: fed shard by shard, polled for what they have to say, and replaced when they die.

The only module that knows Ray.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import traceback
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.exceptions import RayError

from async_img2ds.blocking import begun
from async_img2ds.distributors.base import obeying
from async_img2ds.distributors.crew import Crew, End, Want, asked_for
from async_img2ds.distributors.local import usable_cores
from async_img2ds.errors import WorkerError
from async_img2ds.records import Shard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from async_img2ds.distributors.base import ShardFeed, Stop, Work, WorkFor
    from async_img2ds.options import RunOptions
    from async_img2ds.records import Report

__all__ = ["run_ray"]

logger = logging.getLogger(__name__)

# Calls that an actor takes at a time: one that waits for something to say, one that brings a shard or the end, and one
# that tells it to drop what it has.
ACTOR_CALLS_MAX: Final = 3


async def run_ray(
    work_for: WorkFor, feed: ShardFeed, emit: Callable[[Report], None], stop: Stop, options: RunOptions
) -> None:
    """Have the shards of *feed* done in actors of the Ray cluster that this process is connected to.

    If it is connected to none, it is to the one that RAY_ADDRESS names or that ``ray start`` has left on this machine,
    and if there is none either, one is started here; what was begun is ended.

    Raises:
        WorkerError: Ray cannot be reached or started, or actors die before they ask for work.

    """
    if ray.is_initialized():
        await _run(work_for, feed, emit, stop, options)
        return
    connect = partial(_connect, options.processes_count or usable_cores())
    async with begun(connect, ray.shutdown, stop.drain) as connected:
        if connected is not None:
            _take_sigterm_back()
            await _run(work_for, feed, emit, stop, options)


async def _run(
    work_for: WorkFor, feed: ShardFeed, emit: Callable[[Report], None], stop: Stop, options: RunOptions
) -> None:
    crew = Crew(partial(_started, count(1), _wanted(options)), feed, emit)
    async with obeying(stop, feed, options.grace_s, crew.drop):
        places = await feed.look_ahead(options.processes_count or _room(ray.cluster_resources(), options))
        await crew.run(work_for(processes=places, cores=math.ceil(options.ray_cpus)), places)


def _room(has: Mapping[str, float], options: RunOptions) -> int:
    """Return how many actors a cluster takes that *has* these resources; one, which waits for more, if none."""
    takes = {"CPU": options.ray_cpus, **options.resources}
    return max(1, int(min(has.get(name, 0) / amount for name, amount in takes.items())))


def _wanted(options: RunOptions) -> dict[str, Any]:
    """Return how Ray is asked for an actor."""
    resources = options.resources
    return {
        "num_cpus": options.ray_cpus,
        "memory": resources.pop("memory", None),
        "resources": resources or None,
        "scheduling_strategy": options.ray_placement.upper(),
        "max_restarts": 0,
        "max_concurrency": ACTOR_CALLS_MAX,
    }


def _connect(cpus: int) -> bool:
    """Connect to Ray; return that it has been done."""
    # Nobody has been asked whether Ray may report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR}
    try:
        try:
            ray.init(num_cpus=cpus, **quiet)
        except ValueError:  # there is a cluster, which knows its own
            ray.init(**quiet)
    except (RayError, OSError, RuntimeError, ValueError) as error:  # as ray.init says its many reasons
        raise WorkerError(f"cannot connect to Ray, nor start it here: {_sentence(error)}") from error
    return True


def _take_sigterm_back() -> None:
    """Have SIGTERM mean what it did before Ray, whose handler aborts the process three seconds after it."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
        signal.siginterrupt(signal.SIGTERM, False)  # as asyncio has it


@asynccontextmanager
async def _started(numbers: Iterator[int], wanted: dict[str, Any], work: Work) -> AsyncIterator[_Actor]:
    """Start one actor, as it is *wanted*, and see that it has ended."""
    remote = ray.remote(**wanted)(ShardActor)
    actor = _Actor(next(numbers), remote.remote(work))
    try:
        yield actor
    finally:
        actor.kill()


class _Actor:
    """One actor, as its driver sees it."""

    def __init__(self, number: int, handle: Any) -> None:  # noqa: ANN401  made by Ray
        self.number = number
        self.ending = "it was stopped"
        self.last_words = "it said nothing"
        self.ended_over = ()  # other machines do not tell
        self._handle = handle
        # It may stand in the cluster's queue, or wait for a machine that is being started.
        self.starting_s = math.inf

    async def send(self, message: Shard | End) -> None:
        try:
            await self._handle.receive.remote(message)
        except RayError:  # it is dead, which whoever waits for what it says notices, or would wait for this for ever
            self.kill()

    async def messages(self) -> AsyncIterator[Any]:
        try:
            while True:
                for message in await self._handle.said.remote():
                    if isinstance(message, _Ended):
                        self.ending = "its work ended"
                        self.last_words = " | ".join(message.story.splitlines()) or self.last_words
                        return
                    # It is known there by the number of its process, which on other machines others have, too.
                    yield message if isinstance(message, Want) else replace(message, worker=self.number)
        except RayError as error:
            self.ending, self.last_words = type(error).__name__, _sentence(error)

    def hang_up(self) -> None:
        """Have it drop what it has open and end."""
        self._handle.drop.remote()

    def kill(self, *, stuck: bool = False) -> None:  # noqa: ARG002  as links have it
        """End it at once."""
        with suppress(RayError):  # it is dead, or Ray is
            ray.kill(self._handle)


@dataclass(frozen=True, slots=True)
class _Ended:
    """The work has ended: by itself, or as *story* tells."""

    story: str = ""


class ShardActor:
    """What an actor is: a thread that works, and calls that bring shards to it and reports from it."""

    def __init__(self, work: Work) -> None:
        self._inbox: SimpleQueue[Shard | None] = SimpleQueue()
        self._outbox: SimpleQueue[object] = SimpleQueue()
        self._dropped: Future[None] = Future()
        threading.Thread(target=self._run, args=(work,), name="work", daemon=True).start()

    def receive(self, message: Shard | End) -> None:
        """Take in a shard, or that there are no more."""
        self._inbox.put(message if isinstance(message, Shard) else None)

    def said(self) -> list[object]:
        """Wait for something to say, and return all that there is."""
        messages = [self._outbox.get()]
        with suppress(Empty):
            while True:
                messages.append(self._outbox.get_nowait())
        return messages

    def drop(self) -> None:
        """Drop what is open."""
        self._dropped.set_result(None)
        self._inbox.put(None)

    def _run(self, work: Work) -> None:
        try:
            work(asked_for(self._outbox.put, self._inbox.get), self._outbox.put, self._dropped)
        except BaseException:  # noqa: BLE001  told to the driver, which replaces the actor
            self._outbox.put(_Ended(traceback.format_exc()))
        else:
            self._outbox.put(_Ended())


def _sentence(error: Exception) -> str:
    """Return what matters of an error of Ray: its last line, before the advice that follows it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(" Some common causes include")[0] if lines else type(error).__name__
