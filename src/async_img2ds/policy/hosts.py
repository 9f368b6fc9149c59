"""Which queued item may start now, given what its host, and the address behind it, can bear.

Items wait per host, not in line: a host that can take no more at the moment holds up nobody else. Among hosts that can,
the item that came first goes first, each request that its host has under way counting as a few places further back: so
a list is worked through in about its own order, and a slow host at its head does not fill the window before others
have begun. What a single host can bear is decided in :mod:`async_img2ds.policy.host`.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from async_img2ds.policy import urls
from async_img2ds.policy.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.policy.host import Manners, Outcome

__all__ = ["HostSchedule"]

# Hosts remembered while nobody asks them, for what there is to know of them; about 300 bytes each.
REMEMBERED_MAX: Final = 50_000
# When others have all that may be asked of a host, this is looked at again after so long.
ASK_AGAIN_S: Final = 0.05
# A host with 64 requests under way lets a thousand rows go before its next one.
PLACES_PER_REQUEST: Final = 16

T = TypeVar("T")


class _Place(Enum):
    """Where a host stands."""

    OUT = auto()
    """Nothing of it can start before something else ends."""
    LINE = auto()
    """Its first item can start."""
    CLOCK = auto()
    """Its first item can start at a certain time."""
    DOOR = auto()
    """Its address has no room."""


@dataclass(slots=True)
class _Queue(Generic[T]):
    """Those who wait for a host. An entry in the line or on the clock is good as long as *number* is what it says."""

    host: Host
    waiting: list[tuple[int, T]] = field(default_factory=list)
    since: float = 0.0
    place: _Place = _Place.OUT
    number: int = 0
    address: str = ""


@dataclass(slots=True)
class _Address:
    """What shares an address: how many hosts, requests under way, and hosts that wait for room."""

    hosts: int = 0
    active: int = 0
    at_door: deque[str] = field(default_factory=deque)


class HostSchedule(Generic[T]):
    """Items by host. Each host is treated as *manners* says, and every address has *per_address_max* requests at most.

    Times are seconds on a clock that never goes back. Memory is that of the items waiting and active, and of what is
    remembered of hosts that were not well.
    """

    def __init__(
        self,
        manners: Callable[[str], Manners],
        per_address_max: int,
        may_ask: Callable[[str], bool] = lambda _: True,
        is_wanted: Callable[[T], bool] = lambda _: True,
    ) -> None:
        """Start empty.

        *may_ask* is asked of a host last before a request to it begins, *is_wanted* of an item before its turn comes.
        """
        self._manners = manners
        self._may_ask = may_ask
        self._is_wanted = is_wanted
        self._per_address_max = per_address_max
        self._queues: dict[str, _Queue[T]] = {}
        self._remembered: dict[str, Host] = {}
        self._addresses: dict[str, _Address] = {}
        self._line: list[tuple[int, str, int]] = []
        self._clock: list[tuple[float, str, int]] = []
        self._unseen: deque[tuple[int, str]] = deque()
        self._hopeless: list[T] = []
        self._added = 0
        self._gone = 0  # taken or given up, and not come again
        self._numbers = 0
        self._doors: dict[str, None] = {}
        self._aside: dict[str, None] = {}  # hosts that are, and for which somebody waits
        self._waiting_aside = 0
        self._was_urgent = False
        self.waiting = 0

    def add(self, name: str, item: T, now: float, order: int | None = None) -> int:
        """Queue *item* for the host *name*: behind all others, or at *order* if it has had its turn before.

        Returns:
            its place in the order.

        """
        if order is None:
            self._added += 1
            order = self._added
        else:
            self._gone -= 1
        queue = self._queues.get(name)
        if queue is None:
            host = self._remembered.pop(name) if name in self._remembered else Host(self._manners(name))
            queue = self._queues[name] = _Queue(host)
            if urls.is_address(name):
                self.locate(name, name)
            self._unseen.append((order, name))
        if not queue.waiting:
            queue.since = now
        is_first = not queue.waiting or order < queue.waiting[0][0]
        heapq.heappush(queue.waiting, (order, item))
        self._count(name, queue, 1)
        if is_first or queue.place is _Place.OUT:
            self._put(name, queue, now)
        return order

    def take(self, now: float) -> tuple[str, T] | None:
        """Hand out the next item that may start, with its host, and begin its request; None if all must wait."""
        while self._clock and self._clock[0][0] <= now:
            _, name, number = heapq.heappop(self._clock)
            queue = self._queues.get(name)
            if queue is not None and queue.number == number:
                self._put(name, queue, now)
        if self.is_urgent and not self._was_urgent:
            for name in list(self._aside):
                self._put(name, self._queues[name], now)
        self._was_urgent = self.is_urgent
        while self._line or self._let_in(now):
            _, name, number = heapq.heappop(self._line)
            queue = self._queues.get(name)
            if queue is None or queue.number != number:
                continue
            if not self._drop_unwanted(name, queue, now):
                continue
            if not self._has_room(queue.address):
                queue.place = _Place.DOOR
                self._addresses[queue.address].at_door.append(name)
                self._doors[queue.address] = None
                continue
            if not self._may_ask(name):
                self._put_on_clock(name, queue, now + ASK_AGAIN_S)
                continue
            return name, self._start(name, queue, now)
        return None

    def end(self, name: str, outcome: Outcome, now: float) -> None:
        """Say how a request to the host *name* ended."""
        queue = self._queues[name]
        was_aside = queue.host.is_aside
        queue.host.end(outcome, now)
        if queue.host.is_aside != was_aside:
            self._turn_aside(name, queue, now)
        if queue.address:
            self._addresses[queue.address].active -= 1
            self._open_door(queue.address, now)
        if queue.waiting:
            self._put(name, queue, now)
        elif not queue.host.active:
            self._forget(name, queue)

    def given_up(self) -> list[T]:
        """Hand out the items whose hosts are not worth waiting for any longer."""
        given_up, self._hopeless = self._hopeless, []
        return given_up

    def locate(self, name: str, address: str) -> None:
        """Say which address the host *name* has: hosts that share one share its room."""
        queue = self._queues.get(name)
        if queue is not None and not queue.address:
            queue.address = address
            entry = self._addresses.setdefault(address, _Address())
            entry.hosts += 1
            entry.active += queue.host.active

    def coming(self, ahead: int) -> list[str]:
        """Return the hosts, each once, whose first item is among the next *ahead* to start by the order they came."""
        names = []
        while self._unseen and self._unseen[0][0] <= self._gone + ahead:
            _, name = self._unseen.popleft()
            if name in self._queues:
                names.append(name)
        return names

    def next_at(self) -> float | None:
        """Return when an item can start by the mere passing of time, None if none can."""
        while self._clock:
            at, name, number = self._clock[0]
            queue = self._queues.get(name)
            if queue is not None and queue.number == number:
                return at
            heapq.heappop(self._clock)
        return None

    def is_aside(self, name: str) -> bool:
        """Whether the host *name* is set aside."""
        queue = self._queues.get(name)
        return queue is not None and queue.host.is_aside

    def has_gap(self, name: str) -> bool:
        """Whether some time must pass between two requests to the host *name*."""
        queue = self._queues.get(name)
        return queue.host.gap_s > 0 if queue is not None else self._manners(name).gap_s > 0

    def is_wanted(self, name: str, besides: int = 0) -> bool:
        """Whether anybody waits for the host *name*, or it has more requests under way than *besides*."""
        queue = self._queues.get(name)
        return queue is not None and (bool(queue.waiting) or queue.host.active > besides)

    @property
    def is_urgent(self) -> bool:
        """Whether there is nothing to do but to look after hosts that are set aside."""
        return bool(self._waiting_aside) and self.waiting == self._waiting_aside

    def _drop_unwanted(self, name: str, queue: _Queue[T], now: float) -> bool:
        """Drop the first items that nobody wants any more; return whether the host is still to have its turn."""
        if self._is_wanted(queue.waiting[0][1]):
            return True
        while queue.waiting and not self._is_wanted(queue.waiting[0][1]):
            heapq.heappop(queue.waiting)
            self._count(name, queue, -1)
            self._gone += 1
        self._put(name, queue, now)
        if not queue.waiting and not queue.host.active:
            self._forget(name, queue)
        return False

    def _start(self, name: str, queue: _Queue[T], now: float) -> T:
        _, item = heapq.heappop(queue.waiting)
        self._count(name, queue, -1)
        self._gone += 1
        queue.host.start(now, queue.since)
        if queue.address:
            self._addresses[queue.address].active += 1
        self._put(name, queue, now)
        return item

    def _count(self, name: str, queue: _Queue[T], items: int) -> None:
        """Count *items* more that wait for a host, and separately if it is set aside."""
        self.waiting += items
        if queue.host.is_aside:
            self._waiting_aside += items
            self._note_aside(name, queue)

    def _turn_aside(self, name: str, queue: _Queue[T], now: float) -> None:
        """Count those who wait for a host otherwise, as it has just been set aside, or is back."""
        if queue.host.is_aside:
            queue.since = now
            self._waiting_aside += len(queue.waiting)
        else:
            self._waiting_aside -= len(queue.waiting)
        self._note_aside(name, queue)
        self._was_urgent = False  # what has been put before may be put otherwise now

    def _note_aside(self, name: str, queue: _Queue[T]) -> None:
        if queue.host.is_aside and queue.waiting:
            self._aside[name] = None
        else:
            self._aside.pop(name, None)

    def _put(self, name: str, queue: _Queue[T], now: float) -> None:
        """Put a host where it belongs now."""
        if queue.place is _Place.DOOR:
            return
        self._numbers += 1
        queue.number = self._numbers
        queue.place = _Place.OUT
        if not queue.waiting:
            return
        urgent = self.is_urgent
        if queue.host.is_hopeless(now, queue.since, urgent=urgent):
            self._give_up(name, queue)
        elif queue.host.has_room():
            at = queue.host.may_start_at(urgent=urgent)
            if at > now:
                self._put_on_clock(name, queue, at)
            else:
                queue.place = _Place.LINE
                order = queue.waiting[0][0] + PLACES_PER_REQUEST * queue.host.active
                heapq.heappush(self._line, (order, name, queue.number))

    def _put_on_clock(self, name: str, queue: _Queue[T], at: float) -> None:
        """Have a host wait until *at*, wherever it has been."""
        self._numbers += 1
        queue.number, queue.place = self._numbers, _Place.CLOCK
        heapq.heappush(self._clock, (at, name, queue.number))

    def _give_up(self, name: str, queue: _Queue[T]) -> None:
        given_up, queue.waiting = sorted(queue.waiting, key=lambda entry: entry[0]), []
        self._hopeless += [item for _, item in given_up]
        self._gone += len(given_up)
        self._count(name, queue, -len(given_up))
        if not queue.host.active:
            self._forget(name, queue)

    def _forget(self, name: str, queue: _Queue[T]) -> None:
        """Drop a host that nobody waits for and nobody asks, but for what there is to remember of it."""
        del self._queues[name]
        if queue.address:
            entry = self._addresses[queue.address]
            entry.hosts -= 1
            if not entry.hosts:
                del self._addresses[queue.address]
        if not queue.host.is_plain:
            self._remembered[name] = queue.host
            if len(self._remembered) > REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]

    def _has_room(self, address: str) -> bool:
        return not address or self._addresses[address].active < self._per_address_max

    def _let_in(self, now: float) -> bool:
        """Open every door behind which there is room; return whether anybody stands in line now."""
        for address in list(self._doors):
            self._open_door(address, now)
        return bool(self._line)

    def _open_door(self, address: str, now: float) -> None:
        """If an address has room, let one host that waits for it go on that can start at once."""
        at_door = self._addresses[address].at_door
        while at_door and self._has_room(address):
            name = at_door.popleft()
            queue = self._queues[name]
            queue.place = _Place.OUT
            self._put(name, queue, now)
            if queue.place is _Place.LINE:
                break
        if not at_door:
            self._doors.pop(address, None)
