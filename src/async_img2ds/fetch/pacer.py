"""Start rows as their host and this process's window have room.

The async shell around :class:`~async_img2ds.policy.hosts.HostSchedule`. One pacer serves all shards that a process has
open, so the slow tail of one shard does not idle the others.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import FetchFailure
from async_img2ds.fetch.neighbours import Neighbours
from async_img2ds.policy import urls
from async_img2ds.policy.host import Outcome, Sign
from async_img2ds.policy.hosts import HostSchedule, Site

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from async_img2ds.policy.host import Manners
    from async_img2ds.policy.urls import Target
    from async_img2ds.records import Row

__all__ = ["Pacer", "PacerStatistics", "Turn"]

# Rows between two attempts hold no slot of the window, only a task each (about 4 kB);
# beyond this many, new rows wait for them.
LATE_MAX: Final = 4096
# URLs parsed in one go, so that opening a shard of 10,000 rows does not hold the loop for more than a few milliseconds.
PARSE_BATCH: Final = 256
# A row that has waited so long for its answer takes nothing but a connection, and is counted apart: on a rotten list
# the window would otherwise fill with those that nobody will answer. Answers of the living come sooner as a rule.
SILENT_S: Final = 1.0
# Requests under way at one address, over all processes: BUbiNG's second key beside the host, generous because a content
# network has thousands of hosts on one.
PER_ADDRESS_MAX: Final = 256

_UNTOLD: Final = Outcome(Sign.NOTHING)


@dataclass(frozen=True, slots=True)
class PacerStatistics:
    """How a pacer is doing.

    Rows that may be under way, rows that are, further ones whose hosts are silent, rows waiting for a host or a slot,
    rows between two attempts, bytes of bodies held, hosts set aside.
    """

    window: int
    in_flight: int
    silent: int
    waiting: int
    late: int
    held_bytes: int
    hosts_aside: int = 0


class Pacer:
    """A window of *in_flight_max* rows and *held_bytes_max* bytes of bodies over rows that wait per host.

    Rows that wait for a silent host are not counted, as long as there are no more than *connections_max* in all; by
    default, no more than the window has. *neighbours* are other processes that may ask the same hosts. *may_start* says
    beside how many rows under way, those of silent hosts included, another may start; :meth:`nudge` says that it may
    say otherwise now.
    """

    def __init__(  # noqa: PLR0913  by name, and half of them have a default
        self,
        *,
        in_flight_max: int,
        held_bytes_max: int,
        manners: Callable[[str], Manners],
        connections_max: int = 0,
        neighbours: Neighbours | None = None,
        per_address_max: int = PER_ADDRESS_MAX,
        parse: Callable[[str | None], Target] = urls.parse,
        may_start: Callable[[int], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty; read what rows have by *parse*, and tell the time by *clock*, in seconds."""
        self._parse = parse
        self._may_start = may_start
        self._neighbours = neighbours or Neighbours()
        self._schedule: HostSchedule[_Ticket] = HostSchedule(
            manners, per_address_max, self._neighbours.wait_s, _is_wanted
        )
        self._in_flight_max = in_flight_max
        self._connections_max = connections_max
        self._held_bytes_max = held_bytes_max
        self._clock = clock
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._paused_until = -math.inf
        self._in_flight = 0
        self._unheard: dict[Turn, float] = {}  # in the window, and since when; the longest first
        self._silent: set[Turn] = set()
        self._late = 0
        self._held: dict[Turn, int] = {}
        self._held_bytes = 0
        self._readers: dict[Turn, asyncio.Future[None]] = {}
        self._hungry = asyncio.Event()
        self._hungry.set()

    async def turns(self, rows: Iterable[Row]) -> AsyncGenerator[Turn]:
        """Yield a turn for each row as soon as it may start: not in the order of *rows*, but each exactly once.

        Rows whose URL cannot be asked for are yielded, too, and so are those whose host is given up; their failure
        comes from whoever fetches them.
        """
        granted: asyncio.Queue[Turn] = asyncio.Queue()
        tickets: list[_FirstTicket] = []
        try:
            for row in rows:
                ticket = _FirstTicket(Turn(self, row, self._target_of(row)), granted)
                tickets.append(ticket)
                if ticket.turn.target is None:
                    ticket.go()
                else:
                    ticket.turn.order = self._schedule.add(ticket.turn.site, ticket, self._clock())
                if len(tickets) % PARSE_BATCH == 0:
                    self._pump()
                    await asyncio.sleep(0)
                    while not granted.empty():
                        yield granted.get_nowait()
            self._pump()
            left = sum(not ticket.taken for ticket in tickets) + granted.qsize()
            while left:
                turn = await granted.get()
                left -= 1
                yield turn
        finally:
            for ticket in tickets:
                ticket.withdrawn = True
            while not granted.empty():
                granted.get_nowait().end()
            self._pump()

    def is_hungry(self) -> bool:
        """Whether there are too few rows waiting to keep the window full."""
        return self._hungry.is_set()

    async def wait_hungry(self) -> None:
        """Wait until there are too few rows waiting to keep the window full."""
        await self._hungry.wait()

    def statistics(self) -> PacerStatistics:
        """Return how things stand."""
        return PacerStatistics(
            self._in_flight_max,
            self._in_flight,
            len(self._silent),
            self._schedule.waiting,
            self._late,
            self._held_bytes,
            self._schedule.hosts_aside,
        )

    def resize(self, in_flight_max: int) -> None:
        """Have *in_flight_max* rows under way at most from now on; those beyond it go on to their end."""
        if in_flight_max != self._in_flight_max:
            self._in_flight_max = in_flight_max
            self._pump()

    def nudge(self) -> None:
        """Look whether something may start that was not to start before."""
        self._pump()

    def pause(self, seconds: float) -> None:
        """Start nothing for so long: this machine cannot fetch at the moment, whatever the row."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)
        self._pump()

    def names_ahead(self) -> list[str]:
        """Return the names of hosts, each once, whose rows come next; of two windows of them, as one is under way."""
        return [host for host in self._schedule.coming(2 * self._in_flight_max) if not urls.is_address(host)]

    def locate(self, name: str, address: str) -> None:
        """Take note of the address of a host, which it shares the room of."""
        self._schedule.locate(name, address)

    # What turns ask of their pacer.

    def leave_host(self, turn: Turn, outcome: Outcome) -> None:
        """Take the host's slot back from *turn*."""
        self._neighbours.end(turn.site.host, outcome.wanted_pause_s)
        self._schedule.end(turn.site, outcome, self._clock())
        self._pump()

    def leave_window(self, turn: Turn) -> None:
        """Take the window's slot back from *turn*, and what it held in bytes."""
        self.hear(turn)
        self._in_flight -= 1
        self._drop_bytes(turn)
        self._pump()

    def hear(self, turn: Turn) -> None:
        """Take note that *turn* has been answered, so that it counts again if it was silent before."""
        if self._unheard.pop(turn, None) is None and turn in self._silent:
            self._silent.remove(turn)
            self._in_flight += 1

    async def come_back(self, turn: Turn, delay_s: float) -> bool:
        """Queue *turn*, which has left host and window, for both again after *delay_s* seconds, at its old place.

        Returns:
            Whether it has both; if not, its host has been given up.

        """
        self._late += 1
        self._pump()
        ticket = _LaterTicket(turn, asyncio.get_running_loop().create_future())
        try:
            if delay_s:
                await asyncio.sleep(delay_s)
            self._schedule.add(turn.site, ticket, self._clock(), turn.order)
            self._pump()
            return await ticket.waiter
        finally:
            self._late -= 1
            self._pump()

    def is_aside(self, site: Site) -> bool:
        """Whether *site* is set aside."""
        return self._schedule.is_aside(site)

    def has_gap(self, host: str) -> bool:
        """Whether some time must pass between two requests to *host*."""
        return self._schedule.has_gap(host)

    def is_wanted(self, turn: Turn) -> bool:
        """Whether rows other than that of *turn* want its host."""
        return self._schedule.is_wanted(turn.site, besides=int(turn.at_host))

    def hold(self, turn: Turn, count: int) -> bool:
        """Count *count* more bytes as held; return whether *turn* may read on at once."""
        self._held[turn] = self._held.get(turn, 0) + count
        self._held_bytes += count
        return self._may_read(turn)

    async def wait_to_read(self, turn: Turn) -> None:
        """Wait until *turn* may read on."""
        while not self._may_read(turn):
            self._readers[turn] = asyncio.get_running_loop().create_future()
            try:
                await self._readers[turn]
            finally:
                self._readers.pop(turn, None)

    def _target_of(self, row: Row) -> Target | None:
        """Return what a row's URL asks for, None if nobody can be asked for it."""
        if row.withheld:
            return None
        try:
            return self._parse(row.url)
        except FetchFailure:
            return None

    def _pump(self) -> None:
        """Start what may start, and say whether more rows would be welcome."""
        starved = False
        now = self._clock()
        if now < self._paused_until:
            self._hungry.clear()
            self._set_alarm(self._paused_until)
            return
        while self._has_room(now) and not starved:
            if taken := self._schedule.take(now):
                self._grant(taken[1])
            else:
                starved = True  # all that wait, wait for their hosts
        for ticket in self._schedule.given_up():
            ticket.refuse()
        if (starved or self._schedule.waiting < self._in_flight_max) and self._late < LATE_MAX:
            self._hungry.set()
        else:
            self._hungry.clear()
        self._set_alarm(self._schedule.next_at() if starved else self._silent_at())

    def _has_room(self, now: float) -> bool:
        """Whether another row may start, once those that have been silent for long are out of the way."""
        if self._is_full():
            return False
        if self._in_flight < self._in_flight_max:
            return not self._silent or self._in_flight + len(self._silent) < self._under_way_max
        while (at := self._silent_at()) is not None and at <= now:
            turn = next(iter(self._unheard))
            del self._unheard[turn]
            self._silent.add(turn)
            self._in_flight -= 1
        return self._in_flight < self._in_flight_max

    def _is_full(self) -> bool:
        """Whether no row may start, however many have been silent for long."""
        if self._held_bytes > self._held_bytes_max:
            return True
        return self._may_start is not None and not self._may_start(self._in_flight + len(self._silent))

    @property
    def _under_way_max(self) -> int:
        return max(self._in_flight_max, self._connections_max)

    def _silent_at(self) -> float | None:
        """Return when the next row makes room by being silent, None if none can."""
        if self._is_full():  # what makes room then is bytes that are let go, or whoever takes samples
            return None
        if not self._unheard or self._in_flight + len(self._silent) >= self._under_way_max:
            return None
        return next(iter(self._unheard.values())) + SILENT_S

    def _grant(self, ticket: _Ticket) -> None:
        self._in_flight += 1
        self._unheard[ticket.turn] = self._clock()
        ticket.turn.at_host = ticket.turn.in_window = True
        ticket.go()

    def _set_alarm(self, at: float | None) -> None:
        """Have the pump run at *at*, when something can start by the mere passing of time."""
        if at is None or (self._alarm is not None and self._alarm_at <= at):
            return  # one that comes too soon, or for nothing, costs less than to set it anew each time
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._pump()

    def _may_read(self, turn: Turn) -> bool:
        """While too much is held only the oldest holder reads on, so that something always comes to its end."""
        return self._held_bytes <= self._held_bytes_max or next(iter(self._held)) is turn

    def _drop_bytes(self, turn: Turn) -> None:
        self._held_bytes -= self._held.pop(turn, 0)
        for reader, waiter in self._readers.items():
            if not waiter.done() and self._may_read(reader):
                waiter.set_result(None)


class Turn:
    """Leave for one row to start: a slot of its host until :meth:`leave_host`, and of the window until :meth:`end`.

    *at_host* and *in_window* say which it has, *order* its place among all; the pacer sets them. *is_refused* says that
    its host was given up before it came to it.
    """

    __slots__ = ("_pacer", "at_host", "in_window", "is_refused", "order", "row", "site", "target")

    def __init__(self, pacer: Pacer, row: Row, target: Target | None) -> None:
        """Made by the pacer only."""
        self._pacer = pacer
        self.row = row
        self.target = target
        # Where it waits; a row that nobody can be asked for needs no slot.
        self.site = _site_of(target) if target else Site("", 0)
        self.order = 0
        self.at_host = False
        self.in_window = False
        self.is_refused = False

    def heard(self) -> None:
        """Say that an answer has come."""
        self._pacer.hear(self)

    def leave_host(self, outcome: Outcome = _UNTOLD) -> None:
        """Give the host's slot back, and say how it did."""
        if self.at_host:
            self.at_host = False
            self._pacer.leave_host(self, outcome)

    def leave_window(self) -> None:
        """Give the window's slot back, and the bytes held."""
        if self.in_window:
            self.in_window = False
            self._pacer.leave_window(self)

    def end(self) -> None:
        """Give back what is still held."""
        try:
            self.leave_host()
        finally:
            self.leave_window()

    def end_with(self, _task: asyncio.Task[None]) -> None:
        """Be the done-callback of the task that this turn was given to."""
        self.end()

    def pause(self, seconds: float) -> None:
        """Have no row start for so long."""
        self._pacer.pause(seconds)

    def is_host_aside(self) -> bool:
        """Whether its host is set aside, as it does not answer."""
        return self._pacer.is_aside(self.site)

    def is_host_wanted(self) -> bool:
        """Whether its host is likely to be asked again soon: others want it, or a redirect led there."""
        return self._pacer.is_wanted(self) or self.target is None or self.site != _site_of(self.target)

    async def again(self, target: Target, delay_s: float) -> bool:
        """Give both slots back, wait *delay_s* seconds, and take both for *target* as soon as there is room.

        Returns:
            Whether it has them; if not, the host has been given up.

        """
        self.end()
        self.site = _site_of(target)
        return await self._pacer.come_back(self, delay_s)

    async def move(self, target: Target, outcome: Outcome) -> bool:
        """Go on at the host of *target*, after a request that ended with *outcome*.

        At once if it is the same and may be asked at any time, otherwise when there is room.

        Returns:
            Whether there is; if not, that host has been given up.

        """
        site = _site_of(target)
        if site == self.site and not self._pacer.has_gap(site.host):
            return True
        self.leave_host(outcome)
        self.leave_window()
        self.site = site
        return await self._pacer.come_back(self, 0.0)

    def hold(self, count: int) -> bool:
        """Count *count* bytes of the row's body as held in memory; return whether to read on at once."""
        return self._pacer.hold(self, count)

    async def wait_to_read(self) -> None:
        """Wait until less is held, or all that came before has ended."""
        await self._pacer.wait_to_read(self)


@dataclass(slots=True)
class _FirstTicket:
    """A turn in the queue of its host, and where to say that it may start."""

    turn: Turn
    granted: asyncio.Queue[Turn]
    taken: bool = False
    withdrawn: bool = False

    def is_wanted(self) -> bool:
        return not self.withdrawn

    def go(self) -> None:
        self.taken = True
        self.granted.put_nowait(self.turn)

    def refuse(self) -> None:
        if self.is_wanted():
            self.turn.is_refused = True
            self.go()


@dataclass(slots=True)
class _LaterTicket:
    """A turn that has been taken before, and the one who waits to go on with it."""

    turn: Turn
    waiter: asyncio.Future[bool]

    def is_wanted(self) -> bool:
        return not self.waiter.done()  # cancelled while it waited

    def go(self) -> None:
        self.waiter.set_result(True)

    def refuse(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(False)


_Ticket = _FirstTicket | _LaterTicket


def _is_wanted(ticket: _Ticket) -> bool:
    return ticket.is_wanted()


def _site_of(target: Target) -> Site:
    return Site(target.host.removesuffix("."), target.port)
