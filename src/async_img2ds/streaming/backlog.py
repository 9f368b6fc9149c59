"""Samples that wait to be taken, and how many more may come."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backlog"]

T = TypeVar("T")


@dataclass(slots=True)
class Backlog(Generic[T]):
    """Samples between those who make them and the one who takes them, with all that is under way for it.

    Attributes:
        samples_max: how many may wait, those under way included.
        bytes_max: how many bytes these may have; those under way are taken to be as large as samples are on average.
        guess_bytes: how large one may be, before any is known.
        ordered: whether they are taken by their numbers, rather than as they come.
        taken: called whenever there may be more room.

    """

    samples_max: int
    bytes_max: int
    guess_bytes: int
    ordered: bool
    taken: Callable[[], None]
    _ready: deque[tuple[T, int]] = field(default_factory=deque)
    _early: dict[int, tuple[T | None, int]] = field(default_factory=dict)
    _next: int = 0
    _bytes: int = 0
    _count: int = 0
    _bytes_in_all: int = 0
    _has_come: asyncio.Event = field(default_factory=asyncio.Event)
    _has_ended: bool = False
    _error: BaseException | None = None

    def room(self, beside: int) -> int:
        """Return how many more samples may be made, with *beside* of them under way."""
        waiting = len(self._ready) + len(self._early)
        mean = max(1, (self._bytes_in_all + self.guess_bytes) // (self._count + 1))
        left = min(self.samples_max - waiting, (self.bytes_max - self._bytes) // mean) - beside
        # One that is larger than all that may wait comes by itself.
        return max(left, 0 if waiting + beside else 1)

    def put(self, number: int, sample: T | None, size: int) -> None:
        """Add the *sample* of row *number*, of *size* bytes; None is left out."""
        self._count += 1
        self._bytes += size
        self._bytes_in_all += size
        if not self.ordered:
            self._add(sample, size)
            return
        self._early[number] = (sample, size)
        while self._next in self._early:
            self._add(*self._early.pop(self._next))
            self._next += 1

    def end(self, error: BaseException | None) -> None:
        """Say that no more will come, and by what *error* if it is by one."""
        self._has_ended, self._error = True, error
        self._has_come.set()

    async def take(self) -> T:
        """Return the next sample.

        Raises:
            StopAsyncIteration: there is none any more.
            BaseException: likewise, by the error that :meth:`end` was told.

        """
        while not self._ready:
            if self._has_ended:
                raise self._error or StopAsyncIteration
            self._has_come.clear()
            await self._has_come.wait()
        sample, size = self._ready.popleft()
        self._bytes -= size
        self.taken()
        return sample

    def _add(self, sample: T | None, size: int) -> None:
        if sample is None:
            self._bytes -= size
        else:
            self._ready.append((sample, size))
            self._has_come.set()
