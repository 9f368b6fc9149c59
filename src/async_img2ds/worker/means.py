"""What a process works with: all that it knows of the world, opened and closed together."""

from __future__ import annotations

import importlib.metadata
import logging
import random
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.fetch.ahead import Names
from async_img2ds.fetch.client import Client, HttpClient
from async_img2ds.fetch.connections import IDLE_MAX
from async_img2ds.fetch.fetcher import user_agent
from async_img2ds.fetch.neighbours import Neighbours
from async_img2ds.fetch.sources import SourceReader
from async_img2ds.nets import parse_net
from async_img2ds.policy.host import Manners
from async_img2ds.policy.host_rules import NO_RULES
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.policy.window import IN_FLIGHT_MOST
from async_img2ds.worker.pool import Pool
from async_img2ds.worker.room import disk_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from async_img2ds.images.transform import Transformer
    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.host_rules import HostRule, HostRules
    from async_img2ds.records import Encoded, Row
    from async_img2ds.worker.guard import Guard
    from async_img2ds.worker.room import DiskUsage

__all__ = ["Means", "Share", "Web", "raise_file_limit", "room_for_connections", "room_within"]

logger = logging.getLogger(__name__)

# Descriptors for everything but connections: libraries, the loop, open shards and look-ups.
DESCRIPTORS_RESERVED: Final = 200
# More is never asked for: some systems have a million, and look at all of them when a process is started.
DESCRIPTORS_ENOUGH: Final = 65_536


class Web(Client, Names, Protocol):
    """Asks URLs, looks names up, and knows how many requests wait for that."""

    def looking_up(self) -> int:
        """Return how many requests wait for the addresses of their hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a process works with, and so the seam at which a test gives it another world.

    Attributes:
        client: asks URLs.
        reader: reads what is not on the web, None if nothing of that is allowed.
        addresses: says which of them may be asked.
        neighbours: the other processes of this machine.
        connections_max: how many connections there is room for.
        transform: makes an image of the body of a row.
        may_be_image: whether the first bytes of a body may become one.
        guard: sees that decoding ends, None where nothing is decoded.
        give_up: has what a thread decodes fail, and another thread in its place.
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
    give_up: Callable[[int, Exception], None] | None = None
    reader: Client | None = None
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic
    cpu_clock: Callable[[], float] = time.process_time
    disk_usage: Callable[[Path], DiskUsage] = disk_usage

    @classmethod
    @asynccontextmanager
    async def open(
        cls, share: Share, transformer: Transformer, threads: int, connections_max: int, guard: Guard | None = None
    ) -> AsyncIterator[Means]:
        """Yield those of a process that asks within its *share*, and makes images with *transformer* in *threads*."""
        fetch = share.fetch
        addresses = AddressPolicy(map(parse_net, fetch.allow_net))
        agent = user_agent(importlib.metadata.version("async-img2ds"), fetch)
        idle_max = min(IDLE_MAX, connections_max)  # the room is for those in use, and as many are left for the others
        with share.neighbours() as neighbours:
            async with (
                Pool.open(transformer, threads) as pool,
                HttpClient.open(fetch, addresses, agent, share.rules, idle_max) as client,
                SourceReader.open(fetch) as reader,
            ):
                yield cls(
                    client=client,
                    reader=reader,
                    addresses=addresses,
                    neighbours=neighbours,
                    connections_max=connections_max,
                    transform=lambda content, row: pool.submit(content, row.boxes, row.digest, row.key),
                    guard=guard,
                    give_up=pool.give_up,
                    may_be_image=transformer.may_take,
                )


@dataclass(frozen=True, slots=True)
class Share:
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


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as it may, and as far as it is of use."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS_ENOUGH:
        soft = DESCRIPTORS_ENOUGH if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_ENOUGH)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def room_for_connections(wanted: int | None) -> int:
    """Return how many connections this process's limit of open files leaves room for; as many again may be idle.

    If that is less than so many as are *wanted*, it is said.
    """
    try:
        import resource
    except ImportError:  # on Windows, where sockets have no such limit
        return IN_FLIGHT_MOST + IDLE_MAX
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = DESCRIPTORS_ENOUGH
    room = room_within(soft)
    if room < (wanted or 0):
        logger.warning("ulimit -n leaves room for %d URLs under way at a time in this process, not %d", room, wanted)
    return room


def room_within(descriptors: int) -> int:
    """Return how many connections may be in use in a process that may have so many *descriptors*."""
    return max(1, (min(descriptors, DESCRIPTORS_ENOUGH) - DESCRIPTORS_RESERVED) // 2)
