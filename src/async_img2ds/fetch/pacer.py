"""Start rows as their host and this process's window have room.

The async shell around :class:`~async_img2ds.policy.hosts.HostSchedule`. One pacer serves all shards that a process has
open, so the slow tail of one shard does not idle the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import FetchFailure
from async_img2ds.policy import urls
from async_img2ds.policy.hosts import HostSchedule

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from async_img2ds.policy.urls import Target
    from async_img2ds.records import Row

__all__ = ["Pacer", "PacerStatistics", "Turn"]

# Rows between two attempts hold no slot of the window, only a task each (about 4 kB);
# beyond this many, new rows wait for them.
LATE_MAX: Final = 4096
# URLs parsed in one go, so that opening a shard of 10,000 rows does not hold the loop for more than a few milliseconds.
PARSE_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class PacerStatistics:
    """How a pacer is doing.

    Rows that may be under way, rows that are, rows waiting for a host or a slot, rows between two attempts, bytes of
    bodies held.
    """

    window: int
    in_flight: int
    waiting: int
    late: int
    held_bytes: int


class Pacer:
    """A window of *in_flight_max* rows and *held_bytes_max* bytes of bodies over rows that wait per host."""

    def __init__(self, *, in_flight_max: int, held_bytes_max: int, per_host_max: int) -> None:
        """Start empty."""
        self._schedule: HostSchedule[_Ticket] = HostSchedule(per_host_max)
        self._in_flight_max = in_flight_max
        self._held_bytes_max = held_bytes_max
        self._in_flight = 0
        self._late = 0
        self._returning: deque[tuple[Turn, asyncio.Future[None]]] = deque()
        self._held: dict[Turn, int] = {}
        self._held_bytes = 0
        self._readers: dict[Turn, asyncio.Future[None]] = {}
        self._hungry = asyncio.Event()
        self._hungry.set()

    async def turns(self, rows: Iterable[Row]) -> AsyncGenerator[Turn]:
        """Yield a turn for each row as soon as it may start: not in the order of *rows*, but each exactly once.

        Rows whose URL cannot be asked for are yielded, too; their failure comes from whoever fetches them.
        """
        granted: asyncio.Queue[Turn] = asyncio.Queue()
        tickets: list[_Ticket] = []
        try:
            for row in rows:
                ticket = _Ticket(Turn(self, row, _target_of(row)), granted)
                tickets.append(ticket)
                self._schedule.add(ticket.turn.host, ticket)
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

    async def wait_hungry(self) -> None:
        """Wait until there are too few rows waiting to keep the window full."""
        await self._hungry.wait()

    def statistics(self) -> PacerStatistics:
        """Return how things stand."""
        return PacerStatistics(
            self._in_flight_max, self._in_flight, self._schedule.waiting, self._late, self._held_bytes
        )

    def resize(self, in_flight_max: int) -> None:
        """Have *in_flight_max* rows under way at most from now on; those beyond it go on to their end."""
        if in_flight_max != self._in_flight_max:
            self._in_flight_max = in_flight_max
            self._pump()

    # What turns ask of their pacer.

    def leave_host(self, turn: Turn) -> None:
        """Take the host's slot back from *turn*."""
        self._schedule.release(turn.host)
        self._pump()

    def leave_window(self, turn: Turn) -> None:
        """Take the window's slot back from *turn*, and what it held in bytes."""
        self._in_flight -= 1
        self._drop_bytes(turn)
        self._pump()

    async def come_back(self, turn: Turn, delay_s: float) -> None:
        """Take the window's slot back from *turn*, and give it another after *delay_s* seconds, before any new row."""
        self._late += 1
        turn.leave_window()
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._late -= 1
            self._pump()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning.append((turn, waiter))
        self._pump()
        await waiter

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

    def _pump(self) -> None:
        """Start what may start, and say whether more rows would be welcome."""
        starved = False
        while self._in_flight < self._in_flight_max and self._held_bytes <= self._held_bytes_max and not starved:
            if self._returning:
                self._let_back(*self._returning.popleft())
            elif self._late >= LATE_MAX:
                break
            elif taken := self._schedule.take():
                self._grant(*taken)
            else:
                starved = True  # all that wait, wait for their hosts
        if starved or self._schedule.waiting < self._in_flight_max:
            self._hungry.set()
        else:
            self._hungry.clear()

    def _grant(self, host: str, ticket: _Ticket) -> None:
        ticket.taken = True
        if ticket.withdrawn:
            self._schedule.release(host)
            return
        self._in_flight += 1
        ticket.turn.at_host = ticket.turn.in_window = True
        ticket.granted.put_nowait(ticket.turn)

    def _let_back(self, turn: Turn, waiter: asyncio.Future[None]) -> None:
        if waiter.done():  # cancelled while it waited
            return
        self._in_flight += 1
        turn.in_window = True
        waiter.set_result(None)

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

    *at_host* and *in_window* say which it has; the pacer sets them.
    """

    __slots__ = ("_pacer", "at_host", "host", "in_window", "row", "target")

    def __init__(self, pacer: Pacer, row: Row, target: Target | None) -> None:
        """Made by the pacer only."""
        self._pacer = pacer
        self.row = row
        self.target = target
        # What it is paced under; rows that nobody can be asked for share the empty name.
        self.host = target.host.removesuffix(".") if target else ""
        self.at_host = False
        self.in_window = False

    def leave_host(self) -> None:
        """Give the host's slot back; the body is here."""
        if self.at_host:
            self.at_host = False
            self._pacer.leave_host(self)

    def end(self) -> None:
        """Give back what is still held."""
        self.leave_host()
        self.leave_window()

    def end_with(self, _task: asyncio.Task[None]) -> None:
        """Be the done-callback of the task that this turn was given to."""
        self.end()

    async def again(self, delay_s: float) -> None:
        """Give the window's slot back, wait *delay_s* seconds, and take one again as soon as there is room.

        The host's slot is kept: while some of its rows wait to try again, fewer others ask the same host.
        """
        await self._pacer.come_back(self, delay_s)

    def hold(self, count: int) -> bool:
        """Count *count* bytes of the row's body as held in memory; return whether to read on at once."""
        return self._pacer.hold(self, count)

    async def wait_to_read(self) -> None:
        """Wait until less is held, or all that came before has ended."""
        await self._pacer.wait_to_read(self)

    def leave_window(self) -> None:
        """Give the window's slot back, and the bytes held."""
        if self.in_window:
            self.in_window = False
            self._pacer.leave_window(self)


@dataclass(slots=True)
class _Ticket:
    """A turn in the queue of its host, and where to say that it may start."""

    turn: Turn
    granted: asyncio.Queue[Turn]
    taken: bool = False
    withdrawn: bool = False


def _target_of(row: Row) -> Target | None:
    """Return what a row's URL asks for, None if nobody can be asked for it."""
    try:
        return urls.parse(row.url)
    except FetchFailure:
        return None
