"""Which queued item may start now, given how busy its host is.

Items wait per host, not in line: a host at its limit holds up nobody else. Hosts that have both an item and room take turns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["HostSchedule"]

T = TypeVar("T")


@dataclass(slots=True)
class _Host(Generic[T]):
    waiting: deque[T] = field(default_factory=deque)
    active: int = 0
    in_turn: bool = False


class HostSchedule(Generic[T]):
    """Items by host, at most *per_host_max* of one host active at a time. Memory is that of the items waiting and active."""

    def __init__(self, per_host_max: int) -> None:
        """Start empty."""
        self._per_host_max = per_host_max
        self._hosts: dict[str, _Host[T]] = {}
        self._turns: deque[str] = deque()
        self.waiting = 0

    def add(self, host: str, item: T, *, first: bool = False) -> None:
        """Queue *item* behind those of its host, or before them if it was here *first*."""
        entry = self._hosts.setdefault(host, _Host())
        (entry.waiting.appendleft if first else entry.waiting.append)(item)
        self.waiting += 1
        self._take_turn(host, entry)

    def take(self) -> tuple[str, T] | None:
        """Hand out the next item that may start, with its host, and count it as active; None if all must wait."""
        if not self._turns:
            return None
        host = self._turns.popleft()
        entry = self._hosts[host]
        entry.in_turn = False
        item = entry.waiting.popleft()
        entry.active += 1
        self.waiting -= 1
        self._take_turn(host, entry)
        return host, item

    def release(self, host: str) -> None:
        """Say that an active item of *host* has ended."""
        entry = self._hosts[host]
        entry.active -= 1
        if not entry.active and not entry.waiting:
            del self._hosts[host]
        else:
            self._take_turn(host, entry)

    def _take_turn(self, host: str, entry: _Host[T]) -> None:
        if entry.waiting and entry.active < self._per_host_max and not entry.in_turn:
            entry.in_turn = True
            self._turns.append(host)
