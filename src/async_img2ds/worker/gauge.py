"""How a worker is doing: how many of its rows are in each stage, looked at twice a second."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_img2ds.policy.limits import Limit, Sight, limit_of
from async_img2ds.records import Load, Spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.fetch.pacer import PacerStatistics

__all__ = ["Gauge", "Stage", "Stages", "resident_bytes"]


class Stage:
    """A stage of a row's life: a row is in it during the block of a ``with``.

    *rows* are in it now, and *came* have been so far; *seconds* is how long all that were in it were there, once it is
    empty.
    """

    __slots__ = ("_clock", "came", "rows", "seconds")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no row in it, and tell the time by *clock*, in seconds."""
        self._clock = clock
        self.rows = self.came = 0
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.rows += 1
        self.came += 1
        self.seconds -= self._clock()

    def __exit__(self, *_: object) -> None:
        self.rows -= 1
        self.seconds += self._clock()

    def take(self) -> float:
        """Return the seconds that rows have spent in it since the last call."""
        now = self._clock()
        spent = self.seconds + self.rows * now
        self.seconds = -self.rows * now
        return spent


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a row's life after its turn has come."""

    fetching: Stage = field(default_factory=Stage)
    transforming: Stage = field(default_factory=Stage)
    writing: Stage = field(default_factory=Stage)

    @classmethod
    def by(cls, clock: Callable[[], float]) -> Stages:
        """Return those that tell the time by *clock*, in seconds."""
        return cls(Stage(clock), Stage(clock), Stage(clock))


@dataclass(slots=True)
class Gauge:
    """Adds up what limited a worker, in seconds, between one report and the next.

    *cores* are those it may use, and *looking_up* counts rows that wait for addresses. *clock* tells the time and
    *cpu_clock* that of the CPU, in seconds.
    """

    stages: Stages
    cores: int
    looking_up: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    cpu_clock: Callable[[], float] = time.process_time
    _limits: dict[Limit, float] = field(default_factory=dict)
    _limit: Limit | None = None
    _wall_s: float = field(init=False)
    _cpu_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._wall_s, self._cpu_s = self.clock(), self.cpu_clock()

    def look(self, pacer: PacerStatistics) -> Sight:
        """Look, count the time since the last look for what limits the worker now, and return what was seen."""
        wall_s, cpu_s = self.clock(), self.cpu_clock()
        passed_s = wall_s - self._wall_s
        sight = Sight(
            at=wall_s,
            cpu_share=(cpu_s - self._cpu_s) / max(1e-9, passed_s * self.cores),
            cores=self.cores,
            window=pacer.window,
            in_flight=pacer.in_flight,
            waiting=pacer.waiting,
            looking_up=self.looking_up(),
            fetching=self.stages.fetching.rows - pacer.late,
            transforming=self.stages.transforming.rows,
            writing=self.stages.writing.rows,
            bodies=self.stages.transforming.came,
        )
        self._wall_s, self._cpu_s = wall_s, cpu_s
        self._limit = limit = limit_of(sight)
        self._limits[limit] = self._limits.get(limit, 0.0) + passed_s
        return sight

    def load(self, pacer: PacerStatistics) -> Load:
        """Return how busy the worker is."""
        return Load(
            in_flight=pacer.in_flight + pacer.silent,
            window=pacer.window,
            waiting=pacer.waiting,
            fetching=self.stages.fetching.rows,
            transforming=self.stages.transforming.rows,
            writing=self.stages.writing.rows,
            hosts_aside=pacer.hosts_aside,
            memory_bytes=resident_bytes(),
            limit=str(self._limit) if self._limit and pacer.in_flight else "",
        )

    def take(self) -> Spent:
        """Return the seconds since the last call, by limit and by stage."""
        taken, self._limits = self._limits, {}
        return Spent(
            {str(limit): seconds for limit, seconds in taken.items()},
            {name: getattr(self.stages, name).take() for name in ("fetching", "transforming", "writing")},
        )


def resident_bytes() -> int:
    """Return how much memory this process has, in bytes; 0 where the system does not say it as Linux does."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  twice a second
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
