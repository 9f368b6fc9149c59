"""Actors of Ray, one for each place: fed shard by shard, polled for what they have to say, and replaced when they die.

The only module that knows Ray.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import signal
import socket
import threading
import time
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
from async_img2ds.errors import OptionsError, WorkerError
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
# How often it is looked whether Ray is there, and for how long nothing is said of actors that wait for their resources.
WATCH_S: Final = 5.0
WAITING_S: Final = 60.0
# For how long a head node may be on its way up when it is looked for, and how long it may take to answer.
KNOCKING_S: Final = 30.0
CONNECTING_S: Final = 5.0
_HOST_AND_PORT: Final = re.compile(r"(?:ray://)?(?P<host>[^:/]+|\[[^\]]+\]):(?P<port>[0-9]+)")


async def run_ray(
    work_for: WorkFor, feed: ShardFeed, emit: Callable[[Report], None], stop: Stop, options: RunOptions
) -> None:
    """Have the shards of *feed* done in actors of the Ray cluster that this process is connected to.

    If it is connected to none, it is to the one that RAY_ADDRESS names or that ``ray start`` has left on this machine,
    and if there is none either, one is started here; what was begun is ended.

    Raises:
        OptionsError: an actor wants more than a Ray has that was started here.
        WorkerError: Ray cannot be reached or started, or is gone, or actors die before they ask for work.

    """
    if ray.is_initialized():
        await _run(work_for, feed, emit, stop, options, is_ours=False)
        return
    connect = partial(_connect, options.processes_count or usable_cores())
    async with begun(connect, ray.shutdown, stop.drain) as is_ours:
        if is_ours is not None:
            _take_sigterm_back()
            await _run(work_for, feed, emit, stop, options, is_ours=is_ours)


async def _run(
    work_for: WorkFor,
    feed: ShardFeed,
    emit: Callable[[Report], None],
    stop: Stop,
    options: RunOptions,
    *,
    is_ours: bool,
) -> None:
    has = ray.cluster_resources()
    if is_ours:
        _refuse_impossible(has, options)
    crew = Crew(partial(_started, count(1), _wanted(options)), feed, emit)
    async with obeying(stop, feed, options.grace_s, crew.drop), asyncio.TaskGroup() as tasks:
        places = await feed.look_ahead(options.processes_count or _room(has, options))
        watch = tasks.create_task(_watch(crew, options, is_ours=is_ours))
        await crew.run(work_for(processes=places, cores=math.ceil(options.ray_cpus)), places)
        watch.cancel()


def _refuse_impossible(has: Mapping[str, float], options: RunOptions) -> None:
    """Refuse what a Ray that *has* these resources never gives, where nobody adds a machine to it."""
    for name, amount in _takes(options).items():
        if amount > has.get(name, 0):
            option = "ray_cpus" if name == "CPU" else "ray_resources"
            raise OptionsError(
                f"{option}: an actor wants {amount:g} of {name}, and the Ray that was started here has "
                f"{has.get(name, 0):g}; ask for less, or name a cluster that has it by RAY_ADDRESS"
            )


async def _watch(crew: Crew, options: RunOptions, *, is_ours: bool) -> None:
    """See that Ray is there, as its calls wait for ever if it is not, and say what is waited for.

    Raises:
        WorkerError: a Ray of which this run is the only user has no machine any more; nobody would add one.

    """
    waited_s, tell_s = 0.0, WAITING_S
    while True:
        await asyncio.sleep(WATCH_S)
        waited_s = waited_s + WATCH_S if crew.waits else 0.0
        if is_ours and not await asyncio.to_thread(_has_node):
            raise WorkerError("Ray has ended in the midst of the run: its node on this machine is gone")
        if not waited_s:
            tell_s = WAITING_S
        elif waited_s >= tell_s:
            tell_s *= 2
            wanted = ", ".join(f"{amount:g} of {name}" for name, amount in _takes(options).items())
            has = await asyncio.to_thread(ray.cluster_resources)
            there = ", ".join(f"{has.get(name, 0):g} of {name}" for name in _takes(options))
            logger.warning(
                "no actor has begun for %.0f s: each wants %s, and the cluster has %s in all, which others may use, "
                "too; waiting",
                *(waited_s, wanted, there),
            )


def _has_node() -> bool:
    try:
        return any(node["Alive"] for node in ray.nodes())
    except (RayError, RuntimeError, OSError):  # as ray.nodes says that nobody is there to ask
        return False


def _room(has: Mapping[str, float], options: RunOptions) -> int:
    """Return how many actors a cluster takes that *has* these resources; one, which waits for more, if none."""
    return max(1, int(min(has.get(name, 0) / amount for name, amount in _takes(options).items())))


def _takes(options: RunOptions) -> dict[str, float]:
    """Return what an actor takes, as a cluster counts it."""
    return {"CPU": options.ray_cpus, **options.resources}


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
    """Connect to Ray, or start one here; return whether that was done."""
    _knock(os.environ.get("RAY_ADDRESS", ""))
    # Nobody has been asked whether Ray may report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR}
    try:
        try:
            ray.init(num_cpus=cpus, **quiet)
        except ValueError:  # there is a cluster, which knows its own
            ray.init(**quiet)
            return False
    except (RayError, OSError, RuntimeError, ValueError) as error:  # as ray.init says its many reasons
        raise WorkerError(f"cannot connect to Ray, nor start it here: {_sentence(error)}") from error
    return True


def _knock(address: str) -> None:
    """See that somebody listens at *address*, where Ray would knock for minutes, and say little of it.

    Raises:
        WorkerError: nobody does for KNOCKING_S.

    """
    found = _HOST_AND_PORT.fullmatch(address)
    if not found:
        return
    until, is_told = time.monotonic() + KNOCKING_S, False
    while True:
        try:
            socket.create_connection((found["host"].strip("[]"), int(found["port"])), CONNECTING_S).close()
        except OSError as error:
            if time.monotonic() > until:
                raise WorkerError(
                    f"cannot connect to Ray: nobody listens at {address} ({error.strerror or error}), which "
                    "RAY_ADDRESS names; say where its head node is, or unset it to have a Ray started here"
                ) from error
            if not is_told:
                logger.warning("nobody listens at %s, which RAY_ADDRESS names; knocking for %g s", address, KNOCKING_S)
                is_told = True
            time.sleep(1)
        else:
            return


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
