"""Which rows of a stream of any length are in a random sample of so many: each with the same chance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Draws"]

_JUST_BELOW_ONE: Final = math.nextafter(1.0, 0.0)


@dataclass(slots=True)
class Draws:
    """Says of the next rows which are drawn, and whose place each takes (algorithm L: Li, 1994).

    *chance* returns numbers from 0 up to, but not, 1; it is asked only for what is drawn.
    """

    size: int
    chance: Callable[[], float]
    _seen: int = 0
    _next: int = 0
    _threshold: float = field(default=1.0)

    def take(self, rows: int) -> list[tuple[int, int]]:
        """Return which of the next *rows* are drawn, by position among them, each with its place in the sample."""
        drawn = []
        end = self._seen + rows
        while self._next < end and self.size:
            full = self._next >= self.size
            drawn.append((self._next - self._seen, int(self.chance() * self.size) if full else self._next))
            if self._next >= self.size - 1:
                self._threshold = min(
                    self._threshold * math.exp(math.log(1.0 - self.chance()) / self.size), _JUST_BELOW_ONE
                )
                self._next += math.floor(math.log(1.0 - self.chance()) / math.log1p(-self._threshold))
            self._next += 1
        self._seen = end
        return drawn
