"""Which queued item may start now, given what its host, and the address behind it, can bear.

Items wait per host and port, not in line: a host that can take no more at the moment holds up nobody else. Among those
that can, the item that came first goes first, each request that its host has under way counting as a few places further
back: so a list is worked through in about its own order, and a slow host at its head does not fill the window before
others have begun. What a single host can bear is decided in :mod:`async_img2ds.policy.host`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from async_img2ds.policy import urls
from async_img2ds.policy.host import Host, Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.policy.host import Manners, Outcome

__all__ = ["HostSchedule", "Site"]

# Hosts, and ports of them, remembered while nobody asks them, for what there is to know; about 300 bytes each.
REMEMBERED_MAX: Final = 50_000
# A host with 64 requests under way lets a thousand rows go before its next one.
PLACES_PER_REQUEST: Final = 16

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Site(NamedTuple):
    """A port of a host: what is there, or not, as a whole."""

    host: str
    port: int


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
class _Name(Generic[T]):
    """A host as a whole: its pace, the queues of its ports, and the address behind it, if that is known."""

    pace: Pace
    sites: dict[Site, _Queue[T]] = field(default_factory=dict)
    address: str = ""


@dataclass(slots=True)
class _Queue(Generic[T]):
    """Those who wait for a port of a host. What stands for it in a heap is good as long as *number* is what it says."""

    name: _Name[T]
    host: Host
    waiting: list[tuple[int, T]] = field(default_factory=list)
    since: float = 0.0
    place: _Place = _Place.OUT
    number: int = 0


@dataclass(slots=True)
class _Address:
    """What shares an address: how many hosts, requests under way, and those that wait for room."""

    hosts: int = 0
    active: int = 0
    at_door: deque[Site] = field(default_factory=deque)


class HostSchedule(Generic[T]):
    """Items by host and port. Hosts are treated as *manners* says; an address has *per_address_max* requests at most.

    Times are seconds on a clock that never goes back. Memory is that of the items waiting and active, and of what is
    remembered of hosts that were not well.
    """

    def __init__(
        self,
        manners: Callable[[str], Manners],
        per_address_max: int,
        leave: Callable[[str], float] = lambda _: 0.0,
        is_wanted: Callable[[T], bool] = lambda _: True,
    ) -> None:
        """Start empty.

        *leave* is asked for a host last before a request to it begins, and says after how many seconds to ask again,
        none if it may begin; *is_wanted* is asked of an item before its turn comes.
        """
        self._manners = manners
        self._leave = leave
        self._is_wanted = is_wanted
        self._per_address_max = per_address_max
        self._names: dict[str, _Name[T]] = {}
        self._queues: dict[Site, _Queue[T]] = {}
        self._paces: dict[str, Pace] = {}  # remembered, and so are
        self._hosts: dict[Site, Host] = {}
        self._addresses: dict[str, _Address] = {}
        self._line: list[tuple[int, Site, int]] = []
        self._clock: list[tuple[float, Site, int]] = []
        self._hurry: list[tuple[float, Site, int]] = []  # those set aside, and when there is something to do if all are
        self._unseen: list[tuple[int, str]] = []
        self._hopeless: list[T] = []
        self._added = 0
        self._gone = 0  # taken or given up, and not come again
        self._numbers = 0
        self._doors: dict[str, None] = {}
        self._waiting_aside = 0
        self.waiting = 0
        self.hosts_aside = 0

    def add(self, site: Site, item: T, now: float, order: int | None = None) -> int:
        """Queue *item* for *site*: behind all others, or at *order* if it has had its turn before.

        Returns:
            its place in the order.

        """
        if order is None:
            self._added += 1
            order = self._added
        else:
            self._gone -= 1
        queue = self._queues.get(site)
        if queue is None:
            queue = self._opened(site, order)
        if not queue.waiting:
            queue.since = now
        is_first = not queue.waiting or order < queue.waiting[0][0]
        heapq.heappush(queue.waiting, (order, item))
        self._count(queue, 1)
        if is_first or queue.place is _Place.OUT:
            self._put(site, queue, now)
        return order

    def take(self, now: float) -> tuple[Site, T] | None:
        """Hand out the next item that may start, with its site, and begin its request; None if all must wait."""
        while self._wake_first(self._clock, now):
            pass
        while self.is_urgent and self._wake_first(self._hurry, now):
            pass
        while self._line or self._let_in(now):
            _, site, number = heapq.heappop(self._line)
            queue = self._queues.get(site)
            if queue is None or queue.number != number:
                continue
            if not self._drop_unwanted(site, queue, now):
                continue
            if not self._may_start(queue, now):  # another port of the host has had its turn
                self._put(site, queue, now)
                continue
            if not self._has_room(queue.name.address):
                queue.place = _Place.DOOR
                self._addresses[queue.name.address].at_door.append(site)
                self._doors[queue.name.address] = None
                continue
            if wait_s := self._leave(site.host):
                self._put_on_clock(site, queue, now + wait_s, now, look_from=now + wait_s)
                continue
            return site, self._start(site, queue, now)
        return None

    def end(self, site: Site, outcome: Outcome, now: float) -> None:
        """Say how a request to *site* ended."""
        queue = self._queues[site]
        was_aside = queue.host.is_aside
        queue.host.end(outcome, now)
        if queue.host.is_aside != was_aside:
            self._turn_aside(queue, now)
        if address := queue.name.address:
            self._addresses[address].active -= 1
            self._open_door(address, now)
        for other_site, other in tuple(queue.name.sites.items()):
            if other is not queue and other.place is _Place.OUT:
                self._put(other_site, other, now)
        self._put(site, queue, now)

    def given_up(self) -> list[T]:
        """Hand out the items whose hosts are not worth waiting for any longer."""
        given_up, self._hopeless = self._hopeless, []
        return given_up

    def locate(self, host: str, address: str) -> None:
        """Say which address *host* has: hosts that share one share its room."""
        name = self._names.get(host)
        if name is not None and not name.address:
            name.address = address
            entry = self._addresses.setdefault(address, _Address())
            entry.hosts += 1
            entry.active += name.pace.active

    def coming(self, ahead: int) -> list[str]:
        """Return the hosts, each once, whose first item is among the next *ahead* to start by the order they came."""
        names = []
        while self._unseen and self._unseen[0][0] <= self._gone + ahead:
            _, name = heapq.heappop(self._unseen)
            if name in self._names:
                names.append(name)
        return names

    def next_at(self) -> float | None:
        """Return when an item can start by the mere passing of time, None if none can."""
        heaps = (self._clock, self._hurry) if self.is_urgent else (self._clock,)
        return min((at for heap in heaps if (at := self._first_in(heap)) is not None), default=None)

    def is_aside(self, site: Site) -> bool:
        """Whether *site* is set aside."""
        queue = self._queues.get(site)
        return queue is not None and queue.host.is_aside

    def has_gap(self, host: str) -> bool:
        """Whether some time must pass between two requests to *host*."""
        name = self._names.get(host)
        return (name.pace.gap_s if name is not None else self._manners(host).gap_s) > 0

    def is_wanted(self, site: Site, besides: int = 0) -> bool:
        """Whether anybody waits for *site*, or it has more requests under way than *besides*."""
        queue = self._queues.get(site)
        return queue is not None and (bool(queue.waiting) or queue.host.active > besides)

    @property
    def is_urgent(self) -> bool:
        """Whether there is nothing to do but to look after hosts that are set aside."""
        return bool(self._waiting_aside) and self.waiting == self._waiting_aside

    def _opened(self, site: Site, order: int) -> _Queue[T]:
        """Return a new queue, with what is remembered of its site."""
        name = self._names.get(site.host)
        if name is None:
            pace = self._paces.pop(site.host, None) or Pace(self._manners(site.host))
            name = self._names[site.host] = _Name(pace)
            heapq.heappush(self._unseen, (order, site.host))
            if urls.is_address(site.host):
                self.locate(site.host, site.host)
        host = self._hosts.pop(site, None) or Host(name.pace)
        host.pace = name.pace
        queue = self._queues[site] = name.sites[site] = _Queue(name, host)
        self.hosts_aside += host.is_aside
        return queue

    def _wake_first(self, heap: list[tuple[float, Site, int]], now: float) -> bool:
        """Put the first in *heap* anew if its time has come; return whether it had."""
        if (at := self._first_in(heap)) is None or at > now:
            return False
        _, site, _ = heapq.heappop(heap)
        self._put(site, self._queues[site], now)
        return True

    def _first_in(self, heap: list[tuple[float, Site, int]]) -> float | None:
        while heap:
            at, site, number = heap[0]
            queue = self._queues.get(site)
            if queue is not None and queue.number == number:
                return at
            heapq.heappop(heap)
        return None

    def _may_start(self, queue: _Queue[T], now: float) -> bool:
        return queue.host.has_room() and queue.host.may_start_at(urgent=self.is_urgent) <= now

    def _drop_unwanted(self, site: Site, queue: _Queue[T], now: float) -> bool:
        """Drop the first items that nobody wants any more; return whether the host is still to have its turn."""
        if self._is_wanted(queue.waiting[0][1]):
            return True
        while queue.waiting and not self._is_wanted(queue.waiting[0][1]):
            self._drop(queue, 0)
        self._put(site, queue, now)
        return False

    def _drop(self, queue: _Queue[T], at: int) -> T:
        """Take the first (0) or the last (-1) out of those who wait for a host."""
        _, item = queue.waiting.pop() if at else heapq.heappop(queue.waiting)
        self._count(queue, -1)
        self._gone += 1
        return item

    def _start(self, site: Site, queue: _Queue[T], now: float) -> T:
        if queue.host.is_aside:  # one from far behind finds out more than the neighbour of those that have failed
            while not self._is_wanted(queue.waiting[-1][1]):
                self._drop(queue, -1)
            item = self._drop(queue, -1)
        else:
            item = self._drop(queue, 0)
        queue.host.start(now, queue.since)
        if queue.name.address:
            self._addresses[queue.name.address].active += 1
        self._put(site, queue, now)
        return item

    def _count(self, queue: _Queue[T], items: int) -> None:
        """Count *items* more that wait for a host, and separately if it is set aside."""
        self.waiting += items
        if queue.host.is_aside:
            self._waiting_aside += items

    def _turn_aside(self, queue: _Queue[T], now: float) -> None:
        """Count those who wait for a host otherwise, as it has just been set aside, or is back."""
        if queue.host.is_aside:
            queue.since = now
            self.hosts_aside += 1
            self._waiting_aside += len(queue.waiting)
        else:
            self.hosts_aside -= 1
            self._waiting_aside -= len(queue.waiting)

    def _put(self, site: Site, queue: _Queue[T], now: float) -> None:
        """Put a host where it belongs now; one that nobody waits for and nobody asks is forgotten."""
        if queue.place is _Place.DOOR:
            return
        self._numbers += 1
        queue.number, queue.place = self._numbers, _Place.OUT
        urgent = self.is_urgent
        if queue.waiting and queue.host.is_hopeless(now, queue.since, urgent=urgent):
            self._give_up(queue)
        if not queue.waiting:
            if not queue.host.active:
                self._forget(site, queue)
        elif queue.host.has_room():
            at = queue.host.may_start_at(urgent=urgent)
            if at > now:
                self._put_on_clock(site, queue, at, now)
            else:
                queue.place = _Place.LINE
                order = queue.waiting[0][0] + PLACES_PER_REQUEST * queue.name.pace.active
                heapq.heappush(self._line, (order, site, queue.number))

    def _put_on_clock(self, site: Site, queue: _Queue[T], at: float, now: float, look_from: float = -math.inf) -> None:
        """Have a host wait until *at*, wherever it has been, or sooner if it is set aside and all others are, too.

        No look at it is taken before *look_from*.
        """
        self._numbers += 1
        queue.number, queue.place = self._numbers, _Place.CLOCK
        heapq.heappush(self._clock, (at, site, queue.number))
        if (hurried_at := self._hurried_at(queue, now, look_from)) < at:
            heapq.heappush(self._hurry, (hurried_at, site, queue.number))

    def _hurried_at(self, queue: _Queue[T], now: float, look_from: float) -> float:
        """Return when there is something to do about a host that is set aside if there is nothing else to do."""
        host = queue.host
        if not host.is_aside:
            return math.inf
        if host.is_hopeless(now, queue.since, urgent=True):
            return now
        look_at, hurried_from = max(look_from, host.may_start_at(urgent=True)), host.hurried_from()
        return min(look_at, hurried_from) if hurried_from > now else look_at

    def _give_up(self, queue: _Queue[T]) -> None:
        given_up, queue.waiting = sorted(queue.waiting, key=lambda entry: entry[0]), []
        self._hopeless += [item for _, item in given_up]
        self._gone += len(given_up)
        self._count(queue, -len(given_up))

    def _forget(self, site: Site, queue: _Queue[T]) -> None:
        """Drop what nobody waits for and nobody asks, but for what there is to remember of it."""
        del self._queues[site]
        self.hosts_aside -= queue.host.is_aside
        if not queue.host.is_plain:
            _remember(self._hosts, site, queue.host)
        name = queue.name
        del name.sites[site]
        if name.sites:
            return
        del self._names[site.host]
        if name.address:
            entry = self._addresses[name.address]
            entry.hosts -= 1
            if not entry.hosts:
                del self._addresses[name.address]
        if not name.pace.is_plain:
            _remember(self._paces, site.host, name.pace)

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
            site = at_door.popleft()
            queue = self._queues[site]
            queue.place = _Place.OUT
            self._put(site, queue, now)
            if queue.place is _Place.LINE:
                break
        if not at_door:
            self._doors.pop(address, None)


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    memory[key] = value
    if len(memory) > REMEMBERED_MAX:
        del memory[next(iter(memory))]
