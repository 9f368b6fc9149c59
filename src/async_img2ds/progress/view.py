"""What a display shows of a run at a moment: the same figures, whether as bars, lines or JSON."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_img2ds.hints import HINTS
from async_img2ds.histograms import quantile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.progress.totals import Totals
    from async_img2ds.records import Load

__all__ = ["Failure", "Pace", "View", "view_of"]

# Seconds over which "now" is measured: long enough to be read, short enough to see a change.
NOW_S: Final = 10.0
# Seconds from which the time left is told: hosts and shards of all kinds come by, and a slow start is forgotten.
LEFT_S: Final = 300.0
# A moment is remembered no sooner after the one before, so that few are.
MOMENT_S: Final = 1.0
FAILURES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason why rows failed: how many, as a *share* of all, and what it means."""

    name: str
    count: int
    share: float
    hint: str


@dataclass(frozen=True, slots=True)
class View:
    """A run at a moment. Rates are per second, and None before there is anything to tell them from.

    Attributes:
        seconds: since it began.
        rows: that have come to an end.
        expected: rows in all, None while that is not known.
        left_s: seconds to the end at the pace of the last minutes, None likewise.
        successes: rows with an image.
        images_now: images a second in the last seconds.
        images_mean: over the whole run.
        bits_now: received a second, in the last seconds.
        shards_done: shards that are committed.
        shards_lost: shards that were given up.
        failures: why rows failed, the most frequent reasons first.
        limit: what most workers have waited for in the last seconds; nothing said while that is not known.
        p50_ms: half of the requests took no longer, in milliseconds.
        p95_ms: 19 of 20 requests took no longer.
        loads: how busy each worker is.

    """

    seconds: float
    rows: int
    expected: int | None
    left_s: float | None
    successes: int
    images_now: float
    images_mean: float
    bits_now: float
    shards_done: int
    shards_lost: int
    failures: tuple[Failure, ...]
    limit: str
    p50_ms: float | None
    p95_ms: float | None
    loads: Mapping[int, Load]

    @property
    def failed(self) -> int:
        """Rows without an image."""
        return self.rows - self.successes

    @property
    def in_flight(self) -> int:
        """Rows under way."""
        return sum(load.in_flight for load in self.loads.values())

    @property
    def hosts_aside(self) -> int:
        """Hosts that do not answer, added up over workers: each may find out for itself."""
        return sum(load.hosts_aside for load in self.loads.values())

    @property
    def memory_bytes(self) -> int:
        """Resident memory of all workers."""
        return sum(load.memory_bytes for load in self.loads.values())


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    rows: int
    images: int
    body_bytes: int
    limits: tuple[str, ...]


class Pace:
    """How fast a run has been of late, by what it was seen to have done at some moments."""

    def __init__(self, began: float) -> None:
        """Begin at a time, in seconds of the clock that the moments are told by."""
        self.began = began
        self._seen = deque([_Moment(began, 0, 0, 0, ())])

    def see(self, totals: Totals, now: float) -> None:
        """Remember what *totals* are *now*, unless that was done a moment ago."""
        if now - self._seen[-1].at < MOMENT_S:
            return
        tally = totals.so_far()
        limits = tuple(load.limit for load in totals.loads().values() if load.limit)
        self._seen.append(_Moment(now, tally.count, tally.successes, tally.body_bytes, limits))
        while len(self._seen) > 2 and now - self._seen[1].at >= LEFT_S:  # noqa: PLR2004  two moments make a pace
            self._seen.popleft()

    def late(self) -> list[_Moment]:
        """Return the moments of the last seconds, at least one."""
        last = self._seen[-1].at
        return [moment for moment in self._seen if last - moment.at <= NOW_S]

    def rows_per_second(self) -> float:
        """Return how many rows have come to an end each second in the last minutes."""
        first, last = self._seen[0], self._seen[-1]
        return max(0, last.rows - first.rows) / (last.at - first.at) if last.at > first.at else 0.0


def view_of(totals: Totals, pace: Pace, expected: int | None, now: float) -> View:
    """Return what there is to show *now* of *totals*, of which *pace* has seen how they came to be."""
    tally = totals.so_far()
    seconds = now - pace.began
    late = pace.late()
    passed_s = late[-1].at - late[0].at
    limits = Counter(limit for moment in late for limit in moment.limits)
    speed = pace.rows_per_second()
    left = None if expected is None else max(0, expected - tally.count)
    failures = (
        Failure(name, count, count / tally.count, HINTS.get(name, ""))
        for name, count in tally.error_classes.most_common(FAILURES_SHOWN)
    )
    return View(
        seconds=seconds,
        rows=tally.count,
        expected=expected,
        left_s=left / speed if left is not None and speed else 0.0 if left == 0 else None,
        successes=tally.successes,
        images_now=max(0, late[-1].images - late[0].images) / passed_s if passed_s else 0.0,
        images_mean=tally.successes / seconds if seconds > 0 else 0.0,
        bits_now=8 * max(0, late[-1].body_bytes - late[0].body_bytes) / passed_s if passed_s else 0.0,
        shards_done=totals.shards_done,
        shards_lost=len(totals.lost),
        failures=tuple(failures),
        limit=limits.most_common(1)[0][0] if limits else "",
        p50_ms=quantile(tally.latencies_ms, 0.5),
        p95_ms=quantile(tally.latencies_ms, 0.95),
        loads=totals.loads(),
    )
