"""How many rows a worker has under way: more while more get more done, fewer when bodies pile up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from async_img2ds.policy.limits import BACKLOG_LEAST, BUSY_SHARE

if TYPE_CHECKING:
    from async_img2ds.policy.limits import Sight

__all__ = ["IN_FLIGHT_LEAST", "IN_FLIGHT_MOST", "Window", "next_window"]

# Where the number of rows under way begins, and how far it goes by itself. A core makes about 250 images a second, so
# 64 keep it busy while servers answer within a quarter of a second, and 1,024 within four.
IN_FLIGHT_LEAST: Final = 64
IN_FLIGHT_MOST: Final = 1024
GROWTH: Final = 2
# Of what a larger window could bring, so much it must bring: less is within what a second's rate errs by, and each row
# under way costs memory, a descriptor, and a share of somebody's line.
PAYS_SHARE: Final = 0.2
# Bodies are counted until as many have come as rows may be under way, which is once through the window, so long at
# the least and at the most.
COUNTED_LEAST_S: Final = 0.4
COUNTED_MOST_S: Final = 10.0
# A size that was not worth it is not tried again for so long, twice as long each time: lists and networks change.
REST_S: Final = 30.0
REST_MOST_S: Final = 480.0
# Bodies that wait for each core and are too many.
BACKLOG_MOST: Final = 32


@dataclass(frozen=True, slots=True)
class Window:
    """How many rows may be under way, and whether more would help, as far as is known.

    Attributes:
        size: rows that may be under way.
        beats: the size before and how many bodies a second it brought, by which this one is judged; None if it is not.
        counts_from_s: when to begin to count bodies, or when that was.
        bodies_then: those that had come by then; None before.
        rest_s: how long to leave it at that if a larger size does not pay.

    """

    size: int
    beats: tuple[int, float] | None = None
    counts_from_s: float = 0.0
    bodies_then: int | None = None
    rest_s: float = REST_S

    def pays(self, per_s: float) -> bool:
        """Whether this size is worth it, if it brings so many bodies a second."""
        if self.beats is None:
            return True
        smaller, before = self.beats
        return per_s >= before * (1 + PAYS_SHARE * (self.size / smaller - 1))


def next_window(window: Window, sight: Sight, most: int) -> Window:
    """Return what *window* should be from now on, of *most* rows at the most.

    It grows while rows wait for servers, threads run dry, and the last growth has paid in bodies a second, which it
    does not where a line is full or hosts begin to fail.
    """
    now = sight.at
    if sight.transforming > BACKLOG_MOST * sight.cores:
        return Window(max(min(IN_FLIGHT_LEAST, most), window.size // GROWTH), counts_from_s=now)
    is_hungry = sight.in_flight >= window.size and sight.transforming <= BACKLOG_LEAST * sight.cores
    if not is_hungry or sight.cpu_share >= BUSY_SHARE:  # what comes now says nothing of the size
        return replace(window, counts_from_s=max(now, window.counts_from_s), bodies_then=None)
    if now < window.counts_from_s:
        return window
    if window.bodies_then is None:
        return replace(window, counts_from_s=now, bodies_then=sight.bodies)
    seconds, came = now - window.counts_from_s, sight.bodies - window.bodies_then
    if seconds < COUNTED_LEAST_S or (came < window.size and seconds < COUNTED_MOST_S):
        return window
    per_s = came / seconds
    if not window.pays(per_s) and window.beats is not None:
        rest_s = min(2 * window.rest_s, REST_MOST_S)
        return Window(window.beats[0], counts_from_s=now + window.rest_s, rest_s=rest_s)
    size = min(most, window.size * GROWTH)
    if size == window.size:
        return Window(size, counts_from_s=now)
    through_s = min(window.size / per_s, COUNTED_MOST_S) if came else COUNTED_MOST_S
    rest_s = REST_S if window.beats is not None else window.rest_s
    return Window(size, (window.size, per_s), counts_from_s=now + through_s, rest_s=rest_s)
