"""Which queued item may start now, given how busy its host is.

Items wait per host, not in line: a host at its limit holds up nobody else. Among hosts with room the item that came
first goes first, so that nothing starves and a list is worked through in about its own order.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["HostSchedule"]

T = TypeVar("T")


@dataclass(slots=True)
class _Host(Generic[T]):
    waiting: deque[tuple[int, T]] = field(default_factory=deque)
    active: int = 0
    in_line: bool = False


class HostSchedule(Generic[T]):
    """Items by host, at most *per_host_max* of one host active at a time.

    Memory is that of the items waiting and active.
    """

    def __init__(self, per_host_max: int) -> None:
        """Start empty."""
        self._per_host_max = per_host_max
        self._hosts: dict[str, _Host[T]] = {}
        self._line: list[tuple[int, str]] = []
        self._added = 0
        self.waiting = 0

    def add(self, host: str, item: T) -> None:
        """Queue *item* behind all others."""
        self._added += 1
        self.waiting += 1
        entry = self._hosts.setdefault(host, _Host())
        entry.waiting.append((self._added, item))
        self._queue(host, entry)

    def take(self) -> tuple[str, T] | None:
        """Hand out the next item that may start, with its host, and count it as active; None if all must wait."""
        if not self._line:
            return None
        _, host = heapq.heappop(self._line)
        entry = self._hosts[host]
        entry.in_line = False
        _, item = entry.waiting.popleft()
        entry.active += 1
        self.waiting -= 1
        self._queue(host, entry)
        return host, item

    def release(self, host: str) -> None:
        """Say that an active item of *host* has ended."""
        entry = self._hosts[host]
        entry.active -= 1
        if not entry.active and not entry.waiting:
            del self._hosts[host]
        else:
            self._queue(host, entry)

    def _queue(self, host: str, entry: _Host[T]) -> None:
        """Put *host* in line for its oldest item, if it has one and room."""
        if entry.waiting and entry.active < self._per_host_max and not entry.in_line:
            entry.in_line = True
            heapq.heappush(self._line, (entry.waiting[0][0], host))
