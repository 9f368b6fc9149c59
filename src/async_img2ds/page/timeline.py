"""When a dataset was made: shards' times → rows and images a second, over the time in which anything was done."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_img2ds.policy.markers import Marker

__all__ = ["Pace", "Times", "pace_of"]

# Of a drawing as wide as a page.
BINS_MOST: Final = 120
BINS_LEAST: Final = 8
# A time in which nothing was done is left out if it is longer than this and than a share of what was worked; of very
# many such times, as of a list that is gone on with each night, the longest are.
PAUSE_S: Final = 60.0
PAUSE_SHARE: Final = 0.08
PAUSES_MOST: Final = 8
# Between 1970 and 5138, and up to thirty years; else a stats file says no times.
_MOMENT_MOST: Final = 1e11
_SECONDS_MOST: Final = 1e9


@dataclass(slots=True)
class Times:
    """When shards were worked on and what came of them, in a few bytes each; *untold* of how many that is not said."""

    started: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    rows: array[int] = field(default_factory=lambda: array("Q"))
    images: array[int] = field(default_factory=lambda: array("Q"))
    untold: int = 0

    def add(self, marker: Marker) -> None:
        """Take in what *marker* says."""
        if not (0 < marker.started < _MOMENT_MOST and 0 <= marker.seconds < _SECONDS_MOST):
            self.untold += 1
            return
        self.started.append(marker.started)
        self.seconds.append(marker.seconds)
        self.rows.append(max(0, marker.tally.count))
        self.images.append(max(0, marker.tally.successes))

    def __len__(self) -> int:
        return len(self.started)


@dataclass(frozen=True, slots=True)
class Pace:
    """Rows and images a second, in bins that are evenly apart, over the time in which anything was done.

    Attributes:
        rows: a second, in each bin.
        images: likewise.
        spans: the first and last moment of each time without a pause that is left out.
        worked: how long these are together, in seconds.

    """

    rows: Sequence[float]
    images: Sequence[float]
    spans: Sequence[tuple[float, float]]
    worked: float

    def moment(self, at: float) -> float:
        """Return the moment at a place from 0 to 1."""
        left = at * self.worked
        for begin, end in self.spans:
            if left <= end - begin:
                return begin + left
            left -= end - begin
        return self.spans[-1][1]

    def pauses(self) -> list[tuple[float, float]]:
        """Return where pauses were left out, from 0 to 1, and how long each was, in seconds."""
        found, before = [], 0.0
        for (begin, end), (after, _) in pairwise(self.spans):
            before += end - begin
            found.append((before / self.worked, after - end))
        return found


def pace_of(times: Times) -> Pace | None:
    """Return the pace of shards that were worked on at *times*; None if they were done in no time."""
    spans = _spans(times)
    worked = sum(end - begin for begin, end in spans)
    if worked <= 0:
        return None
    bins = min(BINS_MOST, max(BINS_LEAST, 2 * len(times)))
    rows, images = _Bins(bins, worked), _Bins(bins, worked)
    at, before = 0, 0.0
    for number in sorted(range(len(times)), key=times.started.__getitem__):
        started = times.started[number]
        while started > spans[at][1]:
            before += spans[at][1] - spans[at][0]
            at += 1
        begin = before + started - spans[at][0]
        rows.spread(begin, times.seconds[number], times.rows[number])
        images.spread(begin, times.seconds[number], times.images[number])
    return Pace(rows.rates(), images.rates(), spans, worked)


def _spans(times: Times) -> list[tuple[float, float]]:
    """Return the times in which a shard was open, with what is too short for a pause between them."""
    busy: list[tuple[float, float]] = []
    for number in sorted(range(len(times)), key=times.started.__getitem__):
        begin = times.started[number]
        end = begin + times.seconds[number]
        if busy and begin <= busy[-1][1]:
            busy[-1] = busy[-1][0], max(busy[-1][1], end)
        else:
            busy.append((begin, end))
    least = max(PAUSE_S, PAUSE_SHARE * sum(end - begin for begin, end in busy))
    gaps = sorted((after - end for (_, end), (after, _) in pairwise(busy)), reverse=True)
    least = max([least, *gaps[PAUSES_MOST : PAUSES_MOST + 1]])
    spans: list[tuple[float, float]] = []
    for begin, end in busy:
        if spans and begin - spans[-1][1] <= least:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((begin, end))
    return spans


class _Bins:
    """Amounts that are spread evenly over the time that each took."""

    def __init__(self, bins: int, worked: float) -> None:
        self._width = worked / bins
        self._single = [0.0] * bins
        self._changes = [0.0] * (bins + 1)  # of what every bin from here on has

    def spread(self, begin: float, seconds: float, amount: int) -> None:
        last = len(self._single) - 1
        first_bin = min(last, int(begin / self._width))
        last_bin = min(last, int((begin + seconds) / self._width))
        if first_bin == last_bin:
            self._single[first_bin] += amount
            return
        a_second = amount / seconds
        self._single[first_bin] += a_second * ((first_bin + 1) * self._width - begin)
        self._single[last_bin] += a_second * (begin + seconds - last_bin * self._width)
        self._changes[first_bin + 1] += a_second * self._width
        self._changes[last_bin] -= a_second * self._width

    def rates(self) -> list[float]:
        whole, rates = 0.0, []
        for single, change in zip(self._single, self._changes, strict=False):
            whole += change
            rates.append(max(0.0, single + whole) / self._width)
        return rates
