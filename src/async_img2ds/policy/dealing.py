"""Which shard each row of a list is dealt to: a host's rows to few shards, far apart, and to each shard many hosts.

Shards are columns, each as high as a shard has rows, and rows are dealt out to them host by host, as cards are:

- first the hosts that are a large part of the list, row by row: each shard gets as many of one as the next, give or
  take one;
- then the others that have more rows than a shard may have of a host, in pieces of as many as it may have;
- then all others, each as a whole, until the columns are full: those with one row last, as they fit anywhere.

The next to be dealt to is never the shard of the next number, but one far away (see :func:`stride`): so however many
pieces a host has, they lie about evenly over all numbers, and shards that are done at the same time, which are those of
consecutive numbers, rarely share a host.
"""

from __future__ import annotations

from array import array
from itertools import chain
from math import gcd
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["HOSTS_LEAST", "Dealing", "most_of_a_host", "stride", "turns"]

# Hosts that a full shard has at the least, unless the list itself has too few. A process has up to 1,024 rows under way
# and a machine asks a host for 64 at a time at the most, so that 16 hosts keep the largest window full; a few more,
# because not all of them answer well.
HOSTS_LEAST: Final = 20

_GOLDEN: Final = (5**0.5 - 1) / 2
# So far around the golden section it is looked for a stride. In all lengths up to 400, and samples up to 65,536, the
# shards of any host that are among so many consecutive ones are then no more than four above their part of them.
_STRIDES: Final = 64
# Marks a shard among positions: of hosts that are dealt as a whole nothing else need be known. No list is so long.
_WHOLE: Final = 1 << 63


def most_of_a_host(rows_per_shard: int) -> int:
    """Return how many rows of a host a shard may have, but for hosts that are a larger part of the whole list."""
    return max(1, rows_per_shard // HOSTS_LEAST)


def stride(shards: int) -> int:
    """Return the step to the shard that is dealt to next, round and round among *shards*.

    Near the golden section of their number, multiples of which lie far apart however many they are, and of those near
    it the one whose continued fraction has no large term, so that this is true for fractions of whole numbers, too.
    """
    golden = round(shards * _GOLDEN)
    near = (golden + away for away in range(-_STRIDES, _STRIDES + 1))
    strides = [step for step in near if 0 < step < shards and gcd(step, shards) == 1]
    return min(strides, key=lambda step: (_largest_term(step, shards), abs(step - golden)), default=1)


def _largest_term(above: int, below: int) -> int:
    """Return the largest term of the continued fraction of *above* / *below*."""
    largest = 0
    while above:
        term, rest = divmod(below, above)
        largest, above, below = max(largest, term), rest, above
    return largest


class _Columns:
    """So many *rows* in columns of *height*, of which the last may have fewer: it grows as evenly as the others."""

    def __init__(self, rows: int, height: int) -> None:
        self.rows = rows
        self.height = height
        self.full = rows // height
        self._stride = stride(self.full)

    def shard(self, place: int) -> int:
        """Return the number of the shard that is dealt to at the *place*th: the low one is the last to be."""
        return place * self._stride % self.full if place < self.full else self.full

    def below(self, level: int) -> int:
        """Return how many rows all columns have below *level*."""
        return level * self.rows // self.height

    def level(self, position: int) -> int:
        """Return the level of the row at *position* if rows are dealt one by one."""
        return ((position + 1) * self.height - 1) // self.rows


class _Cell(NamedTuple):
    """What one column gets at a time: the column's *place*, and the position behind the cell's last row."""

    place: int
    end: int


class _Layer:
    """What every column gets, from where it ended before, up to *top*.

    *steps* say where that is, from the first column on: how many columns end at what level. The low column, which is
    behind all others, ends at that of the last step.
    """

    def __init__(self, columns: _Columns, first: int, steps: Sequence[tuple[int, int]], top: int) -> None:
        """Begin with the row at position *first*."""
        self._columns = columns
        self._first = first
        self._steps = steps
        self.top = top
        self.end = columns.below(top)

    def cell(self, position: int) -> _Cell:
        """Return the cell of the row at *position*, which is one of this layer."""
        first, place = self._first, 0
        for columns, low in self._steps:
            height = self.top - low
            if position < first + columns * height:
                nth = (position - first) // height
                return _Cell(place + nth, first + (nth + 1) * height)
            first += columns * height
            place += columns
        return _Cell(place, self.end)

    def cells(self) -> Iterator[_Cell]:
        """Yield all cells in order."""
        position = self._first
        while position < self.end:
            cell = self.cell(position)
            yield cell
            position = cell.end

    def steps_behind(self, place: int) -> list[tuple[int, int]]:
        """Return where columns end when the last cell that was dealt is that at *place*."""
        if place == self._columns.full:
            return [(place, self.top)]
        steps, done = [(place + 1, self.top)], place + 1
        for columns, low in self._steps:
            steps.append((max(0, columns - done), low))
            done = max(0, done - columns)
        return steps


class Dealing:
    """The shards of *rows_per_shard* rows that the rows of each host go to, given how many each host has.

    A host is known by its number, the place that its count has in *counts*; those with no rows are none. All shards
    but the last have exactly as many rows as they may. None has more of a host than :func:`most_of_a_host`, or more
    than the host's part of the whole list if that is more, rounded up. A host with no more rows than the first is in
    one shard, unless it was cut where no host with a single row was left to fill a shard: as many cuts as there are
    shards at the most.
    """

    def __init__(self, counts: Sequence[int], rows_per_shard: int) -> None:
        """Deal to shards of *rows_per_shard* rows."""
        self.rows = sum(counts)
        self.shards = -(-self.rows // rows_per_shard)
        # What is dealt next of each host: the position of its next row, or its shard if all of it is in one.
        self._next = array("Q", bytes(8 * len(counts)))
        if not self.rows:
            return
        columns = self._columns = _Columns(self.rows, rows_per_shard)
        self._most = most_of_a_host(rows_per_shard)
        single_above, steps = self._single(counts)
        self._singles_end = self._line_up(counts, 0, single_above + 1, self.rows)
        self._low, self._layers = steps[-1][1], self._layers_above(steps[-1][1])
        self._first_pieces = _Layer(columns, self._singles_end, steps, self._top(0))
        self._pieces_end = end = self._line_up(counts, self._singles_end, self._most + 1, single_above)
        if end > self._singles_end:  # the rest of the last piece's cell is for whole hosts
            layer = self._layer_of_pieces(end - 1)
            place, self._pieces_end = layer.cell(end - 1)
            steps = layer.steps_behind(place)
        self._rest = _Layer(columns, self._pieces_end, steps, rows_per_shard)
        begun = [_Cell(place, self._pieces_end)] if self._pieces_end > end else []
        self._line_up_whole(counts, end, chain(begun, self._rest.cells()))

    def _single(self, counts: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
        """Return above how many rows a host is dealt row by row, and where columns end behind such hosts.

        One that is dealt in pieces must not meet a column again in the next layer, which may be a row lower. As layers
        have at least half of the most rows, there are few hosts that might.
        """
        columns, most = self._columns, self._most
        above = max(most, columns.below(most - 1))
        large = sorted(count for _, count in _of_sizes(counts, max(most, columns.below(most // 2 - 1)) + 1, self.rows))
        while True:
            end = sum(count for count in large if count > above)
            steps = [(columns.full, 0)]
            if end:
                level = columns.level(end - 1)
                layer = _Layer(columns, columns.below(level), [(columns.full, level)], level + 1)
                steps = layer.steps_behind(layer.cell(end - 1).place)
            low = steps[-1][1]
            layers = self._layers_above(low)
            lowest = (columns.height - low) // layers if layers else 0
            fits = max(most, columns.below(lowest - 1)) if layers > 1 else above
            if not any(fits < count <= above for count in large):
                return above, steps
            above = fits

    def _layers_above(self, low: int) -> int:
        """Return how many layers of pieces, as high as each other, there are above the level *low*."""
        return -((low - self._columns.height) // self._most)

    def _top(self, layer: int) -> int:
        """Return the level at which the *layer* of pieces of that number ends, from 0."""
        return self._low + (layer + 1) * (self._columns.height - self._low) // max(1, self._layers)

    def deal(self, host: int, count: int) -> Iterator[tuple[int, int]]:
        """Deal the next *count* rows of *host*; yield the shards that they go to, each with how many in a row."""
        position = self._next[host]
        if position >= _WHOLE:
            yield position - _WHOLE, count
            return
        self._next[host] = position + count
        while count:
            place, end = self._cell(position)
            taken = min(count, end - position)
            yield self._columns.shard(place), taken
            position += taken
            count -= taken

    def _cell(self, position: int) -> _Cell:
        if position < self._singles_end:
            return _Cell(position - self._columns.below(self._columns.level(position)), position + 1)
        layer = self._layer_of_pieces(position) if position < self._pieces_end else self._rest
        return layer.cell(position)

    def _layer_of_pieces(self, position: int) -> _Layer:
        if position < self._first_pieces.end:
            return self._first_pieces
        level = self._columns.level(position)
        layer = ((level - self._low + 1) * self._layers - 1) // (self._columns.height - self._low)
        low = self._top(layer - 1)
        return _Layer(self._columns, self._columns.below(low), [(self._columns.full, low)], self._top(layer))

    def _line_up(self, counts: Sequence[int], position: int, least: int, most: int) -> int:
        """Line up the hosts of *least* to *most* rows from *position* on; return the position behind them."""
        for host, count in _of_sizes(counts, least, most):
            self._next[host] = position
            position += count
        return position

    def _line_up_whole(self, counts: Sequence[int], position: int, cells: Iterable[_Cell]) -> None:
        """Line up the other hosts from *position* on so that they end with the *cells* that they are to fill.

        To each cell go hosts with several rows in proportion to what is left of them, and then hosts with one.
        """
        several = _Queue(_of_sizes(counts, 2, self._most))
        lone = _Queue(_of_sizes(counts, 1, 1))
        rows_of_several = sum(count for _, count in _of_sizes(counts, 2, self._most))
        for place, end in cells:
            wanted = position + rows_of_several * (end - position) // (self.rows - position) if position < end else 0
            while position < end:
                fits = position + several.size <= end
                queue = several if several.size and ((position < wanted and fits) or not lone.size) else lone
                host, count = queue.take()
                whole = position + count <= end
                self._next[host] = _WHOLE + self._columns.shard(place) if whole else position
                position += count
                rows_of_several -= count if queue is several else 0


class _Queue:
    """Hosts, each with its count, one after the other; *size* is the count of the next one, 0 behind the last."""

    def __init__(self, hosts: Iterator[tuple[int, int]]) -> None:
        self._hosts = hosts
        self._next = next(hosts, (0, 0))
        self.size = self._next[1]

    def take(self) -> tuple[int, int]:
        taken, self._next = self._next, next(self._hosts, (0, 0))
        self.size = self._next[1]
        return taken


def _of_sizes(counts: Sequence[int], least: int, most: int) -> Iterator[tuple[int, int]]:
    return ((host, count) for host, count in enumerate(counts) if least <= count <= most)


# Multiples of it, modulo 2**32, are spread evenly over all numbers below that, however many they are (Knuth's).
_MULTIPLIER: Final = 0x9E37_79B1


def turns(runs: Iterable[tuple[int, int]]) -> array[float]:
    """Return when each row of a shard has its turn, between 0 and 1, given its hosts, each with its count.

    The rows of a host are as far apart as they can be. When its first one comes is drawn by its number: if all hosts
    began in the middle of their first part, those with one row would all stand together, in the middle of the shard,
    and at its beginning only the largest.
    """
    when = array("d")
    for host, count in runs:
        phase = (host * _MULTIPLIER & 0xFFFF_FFFF) / 2**32
        if count == 1:
            when.append(phase)
        else:
            when.extend([(nth + phase) / count for nth in range(count)])
    return when
