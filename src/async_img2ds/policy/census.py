"""Counts of what a long list has, in memory that does not grow with it: different values, repeats, the most frequent.

Up to half a million different values they are exact. Beyond, different values are counted by those whose hash ends in
so many zeros (Wegman's adaptive sampling; Flajolet, 1990): each of these is counted with all of its rows, so that the
share of repeats, which may be small, is as good as that of different ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["About", "Different", "Frequent", "Ranked"]

# Hashes held at a time, in some 100 bytes each. Between half and all of them are in use, so that the error of an
# estimate is a seventh to a fifth of a per cent.
HELD_MOST: Final = 2**19
# Of values that are counted by name, each of which takes some 200 bytes.
NAMED_MOST: Final = 2**18
# Standard errors on either side within which 95 of 100 estimates lie.
SIDES: Final = 1.96


@dataclass(frozen=True, slots=True)
class About:
    """A count; with a *margin* it is an estimate, from which the truth is further away in one of twenty cases."""

    count: int
    margin: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether it is no estimate."""
        return self.margin == 0


@dataclass(slots=True)
class Different:
    """How many different values there are, and how many rows have one that came before; values go by a hash."""

    held_most: int = HELD_MOST
    _rows_of: dict[int, int] = field(default_factory=dict)
    _zeros: int = 0
    _most: int = 1

    def add(self, hashes: Iterable[int]) -> int | None:
        """Take in the hashes of the next rows, of 64 bits; return that which has now come most often, if it is new."""
        rows_of, mask, leads = self._rows_of, (1 << self._zeros) - 1, None
        for value in hashes:
            if value & mask:
                continue
            if value not in rows_of:
                rows_of[value] = 1
                if len(rows_of) > self.held_most:
                    rows_of = self._halved()
                    mask = (1 << self._zeros) - 1
                continue
            rows_of[value] += 1
            if rows_of[value] > self._most:
                self._most, leads = rows_of[value], value
        return leads

    @property
    def most(self) -> int:
        """How often a value came at the most, of those that are held."""
        return self._most

    def different(self) -> About:
        """Return about how many different values there were."""
        each = 1 << self._zeros
        return _about(len(self._rows_of) * each, len(self._rows_of), each)

    def repeats(self) -> About:
        """Return about how many rows had a value that came before them."""
        each = 1 << self._zeros
        further = [rows - 1 for rows in self._rows_of.values()]
        return _about(sum(further) * each, sum(rows * rows for rows in further), each)

    def _halved(self) -> dict[int, int]:
        while len(self._rows_of) > self.held_most:
            self._zeros += 1
            mask = (1 << self._zeros) - 1
            self._rows_of = {value: rows for value, rows in self._rows_of.items() if not value & mask}
        return self._rows_of


def _about(count: int, squares: int, each: int) -> About:
    """Return a *count* of which each part held stands for so many; *squares* is the sum of those of what was held.

    Whether a value is held is decided by its hash, for each by itself, which makes the variance (Horvitz and Thompson).
    """
    return About(count, math.ceil(SIDES * math.sqrt(squares * (each - 1) * each)))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A value and how many *rows* it has; where the list was too long to count all, it may have some *missed* more."""

    value: str
    rows: int
    missed: int = 0


@dataclass(slots=True)
class Frequent:
    """Which values are the most frequent, and how many rows each has (lossy counting: Manku and Motwani, 2002)."""

    named_most: int = NAMED_MOST
    _rows_of: dict[str, int] = field(default_factory=dict)
    _missed_of: dict[str, int] = field(default_factory=dict)
    _dropped: int = 0

    def add(self, counted: Mapping[str, int]) -> None:
        """Take in how many rows the next values have."""
        for value, rows in counted.items():
            if value in self._rows_of:
                self._rows_of[value] += rows
            else:
                self._rows_of[value] = rows
                if self._dropped:
                    self._missed_of[value] = self._dropped
        if len(self._rows_of) > self.named_most:
            self._drop()

    def top(self, count: int) -> list[Ranked]:
        """Return the most frequent ones, the first with the most rows."""
        first = sorted(self._rows_of.items(), key=lambda item: (-item[1], item[0]))[:count]
        return [Ranked(value, rows, self._missed_of.get(value, 0)) for value, rows in first]

    def _drop(self) -> None:
        """Forget the rarer half, and how many rows any of them may have had."""
        by_rows = sorted(self._rows_of.values(), reverse=True)
        least = by_rows[self.named_most // 2]
        self._dropped = max(
            rows + self._missed_of.get(value, 0) for value, rows in self._rows_of.items() if rows <= least
        )
        self._rows_of = {value: rows for value, rows in self._rows_of.items() if rows > least}
        self._missed_of = {value: rows for value, rows in self._missed_of.items() if value in self._rows_of}
