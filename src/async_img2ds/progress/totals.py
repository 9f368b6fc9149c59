"""What the reports of a run come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from async_img2ds.records import Done, Lost, Progress, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.records import Load, Report

__all__ = ["Totals"]


@dataclass(slots=True)
class Totals:
    """What the reports of a run come to.

    Attributes:
        committed: counts of the shards that are done.
        shards_done: how many these are.
        lost: the shards that were given up, with the reason.
        limits: what limited the workers, in seconds.
        stages: how long rows were in each stage, added up over rows, in seconds.

    """

    committed: Tally = field(default_factory=Tally)
    shards_done: int = 0
    lost: dict[int, str] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    _open: dict[int, Progress] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        """Take in one report."""
        match report:
            case Progress():
                self._open[report.worker] = report
            case Done():
                self.committed.merge(report.tally)
                self.shards_done += 1
                _add(self.limits, report.spent.limits)
                _add(self.stages, report.spent.stages)
                self._open.pop(report.worker, None)  # its next one comes at once and no longer counts this shard
            case Lost():
                self.lost[report.shard_id] = report.reason

    def so_far(self) -> Tally:
        """Return the counts of all shards, those still open included."""
        total = Tally()
        total.merge(self.committed)
        for progress in self._open.values():
            total.merge(progress.tally)
        return total

    def limited_by(self) -> dict[str, float]:
        """Return what limited the workers as shares of their time, the largest first."""
        whole = sum(self.limits.values())
        largest_first = sorted(self.limits.items(), key=itemgetter(1), reverse=True)
        return {limit: seconds / whole for limit, seconds in largest_first if whole}

    def stage_means(self) -> dict[str, float]:
        """Return how long a row was in each stage on average, in seconds."""
        rows = self.committed.count
        return {stage: seconds / rows for stage, seconds in self.stages.items() if rows}

    def loads(self) -> dict[int, Load]:
        """Return how busy each worker is that has said so, by its process or number, in that order."""
        return {worker: self._open[worker].load for worker in sorted(self._open)}


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    for name, seconds in more.items():
        sums[name] = sums.get(name, 0.0) + seconds
