"""Turn reports into totals, and totals into a display: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.records import Done, Lost, Progress, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console, RenderableType

    from async_img2ds.records import Report

__all__ = ["Display", "Totals", "show_progress"]

# Seconds over which "now" is measured, and between two lines where there is no terminal.
NOW_S: Final = 10.0
LINE_S: Final = 10.0
FAILURES_SHOWN: Final = 5

logger = logging.getLogger("async_img2ds")


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

    def in_flight(self) -> int:
        """Return how many rows are under way."""
        return sum(progress.load.in_flight for progress in self._open.values())


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    for name, seconds in more.items():
        sums[name] = sums.get(name, 0.0) + seconds


class Display(Protocol):
    """Something that shows totals."""

    def update(self, totals: Totals) -> None:
        """Show *totals* as they are now; called for every report, so it must be cheap or choose its moments."""


@contextmanager
def show_progress(
    kind: str, rows_expected: Callable[[], int | None], console: Console | None = None
) -> Iterator[Display]:
    """Yield a display of *kind* (auto, rich, plain or none) on standard error.

    Args:
        kind: which; auto is rich on a terminal and plain elsewhere.
        rows_expected: rows of the whole list, None while that is not known.
        console: to draw on instead.

    """
    if kind == "none" or (sys.stderr is None and console is None):
        yield _Silent()
        return
    if kind == "plain" or (kind == "auto" and console is None and not sys.stderr.isatty()):
        lines = _Lines(rows_expected)
        yield lines
        lines.last()
        return
    from rich.console import Console
    from rich.live import Live

    bars = _Bars(rows_expected)
    with (
        Live(
            get_renderable=bars.render, console=console or Console(stderr=True), refresh_per_second=4, transient=True
        ) as live,
        _logging_to(live.console),
    ):
        yield bars


class _Silent:
    def update(self, totals: Totals) -> None:
        """Show nothing."""


class _Rate:
    """Images a second, over the run and over the last seconds."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(self.began, 0)])

    def see(self, images: int) -> None:
        now = time.monotonic()
        self._seen.append((now, images))
        while len(self._seen) > 2 and now - self._seen[0][0] > NOW_S:  # noqa: PLR2004  two points make a rate
            self._seen.popleft()

    def mean(self, images: int) -> float:
        return images / max(1e-9, time.monotonic() - self.began)

    def now(self) -> float:
        (then, before), (last, after) = self._seen[0], self._seen[-1]
        return max(0, after - before) / (last - then) if last > then else 0.0


def _left_s(rows: int, expected: int | None, began: float) -> float | None:
    """Return the seconds left at the pace so far, None while there is nothing to tell it from."""
    if not expected or not rows:
        return None
    return (time.monotonic() - began) / rows * max(0, expected - rows)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


class _Lines:
    """A line now and then, each complete in itself."""

    def __init__(self, rows_expected: Callable[[], int | None]) -> None:
        self._expected = rows_expected
        self._rate = _Rate()
        self._next = self._rate.began + LINE_S
        self._totals = Totals()

    def update(self, totals: Totals) -> None:
        self._totals = totals
        self._rate.see(totals.so_far().successes)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_S
            self._print()

    def last(self) -> None:
        self._print()

    def _print(self) -> None:
        tally, expected = self._totals.so_far(), self._expected()
        reasons = ", ".join(f"{name} {count}" for name, count in tally.error_classes.most_common(FAILURES_SHOWN))
        parts = [
            _clock(time.monotonic() - self._rate.began),
            f"shards {self._totals.shards_done}",
            f"rows {tally.count:,} of {'?' if expected is None else format(expected, ',')}",
            f"{self._rate.now():.0f} images/s (mean {self._rate.mean(tally.successes):.0f})",
            f"success {_share(tally.successes, tally.count)}",
            f"left {_clock(_left_s(tally.count, expected, self._rate.began))}",
            *([f"failures: {reasons}"] if reasons else []),
        ]
        with suppress(OSError):  # nobody reads it; the work goes on
            print("  ".join(parts), file=sys.stderr, flush=True)  # noqa: T201  this is the display


class _Bars:
    """A bar, the figures, and the most frequent failures, redrawn in place."""

    def __init__(self, rows_expected: Callable[[], int | None]) -> None:
        self._expected = rows_expected
        self._rate = _Rate()
        self._totals = Totals()

    def update(self, totals: Totals) -> None:
        self._totals = totals
        self._rate.see(totals.so_far().successes)

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally, expected = self._totals.so_far(), self._expected()
        top = Table.grid(padding=(0, 1))
        top.add_row(
            ProgressBar(total=expected, completed=tally.count, width=30, pulse=expected is None),
            f"[bold]{tally.count:,}[/] of {'?' if expected is None else f'{expected:,}'} rows",
            f"left [bold]{_clock(_left_s(tally.count, expected, self._rate.began))}[/]",
        )
        figures = Text.from_markup(
            f"[bold]{self._rate.now():.0f}[/] images/s (mean {self._rate.mean(tally.successes):.0f})"
            f"   success [bold]{_share(tally.successes, tally.count)}[/]"
            f"   shards done [bold]{self._totals.shards_done}[/]"
            + (f"   [red]lost {len(self._totals.lost)}[/]" if self._totals.lost else "")
            + f"   in flight {self._totals.in_flight()}   {_clock(time.monotonic() - self._rate.began)}"
        )
        reasons = [
            f"{name} {_share(count, tally.count)}" for name, count in tally.error_classes.most_common(FAILURES_SHOWN)
        ]
        return Group(
            top, figures, Text("failures: " + "  ".join(reasons) if reasons else "no failures so far", style="dim")
        )


@contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    """Print this package's log above the bars instead of through them."""
    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
