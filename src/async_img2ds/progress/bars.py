"""A run as a few lines on a terminal, redrawn in place: the same lines in the same places, so that they can be read.

Only the terminal's own foreground, dimmed or bold, and its green, yellow and red are used, which are legible on light
and dark.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from async_img2ds.hints import FASTER
from async_img2ds.progress.totals import Totals
from async_img2ds.progress.view import Pace, view_of
from async_img2ds.progress.words import clock, duration, share, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from async_img2ds.progress.view import View

__all__ = ["Bars"]

# Of workers that are more, the rest are added up in one line.
WORKERS_SHOWN: Final = 4
_GAP: Final = "   "
# What limits a run without being anybody's to change needs no advice.
_NO_ADVICE: Final = ("the list's end", "network", "CPU")


class Bars:
    """Draws what a run has come to when it is asked to; *detailed* also how busy each of its workers is."""

    def __init__(
        self,
        rows_expected: Callable[[], int | None],
        *,
        detailed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*clock* tells the time in seconds."""
        self._expected = rows_expected
        self._detailed = detailed
        self._clock = clock
        self._pace = Pace(clock())
        self._totals = Totals()

    def update(self, totals: Totals) -> None:
        """Take note of what is to be drawn next time."""
        self._totals = totals
        self._pace.see(totals, self._clock())

    def render(self) -> RenderableType:
        """Return what there is to draw now."""
        view = view_of(self._totals, self._pace, self._expected(), self._clock())
        parts: list[RenderableType] = [_head(view), _figures(view)]
        if view.limit:
            parts.append(_bottleneck(view))
        if view.failures:
            parts.append(_failures(view))
        if self._detailed or (len(view.loads) <= WORKERS_SHOWN and any(load.window for load in view.loads.values())):
            parts.append(_workers(view, len(view.loads) if self._detailed else WORKERS_SHOWN))
        return Group(*parts)


def _head(view: View) -> Table:
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True)
    head.add_column(no_wrap=True)
    bar = ProgressBar(
        total=view.expected,
        completed=view.rows,
        pulse=view.expected is None,
        style="bright_black",
        complete_style="green",
        finished_style="green",
        pulse_style="green",
    )
    rows = Text.assemble(
        (f"{view.rows:,}", "bold"), " of ", "?" if view.expected is None else f"{view.expected:,}", " rows"
    )
    left = Text.assemble(clock(view.seconds), "  left ", (clock(view.left_s), "bold"))
    head.add_row(bar, rows, left)
    return head


def _figures(view: View) -> _Packed:
    figures = [
        Text.assemble((f"{view.images_now:.0f}", "bold"), f" images/s (mean {view.images_mean:.0f})"),
        Text(f"{view.bits_now / 1e6:.0f} Mb/s"),
        Text.assemble("success ", (share(view.successes, view.rows), "bold")),
        Text.assemble("shards done ", (str(view.shards_done), "bold")),
    ]
    if view.shards_lost:
        figures.append(Text(f"LOST {view.shards_lost}", "bold red"))
    if view.in_flight:
        figures.append(Text(f"in flight {view.in_flight:,}"))
    if view.p50_ms is not None:
        figures.append(Text(f"requests {duration(view.p50_ms)}, p95 {duration(view.p95_ms)}"))
    if view.hosts_aside:
        figures.append(Text(f"hosts set aside {view.hosts_aside:,}"))
    if view.memory_bytes:
        figures.append(Text(f"memory {size(view.memory_bytes)}"))
    return _Packed(figures)


class _Packed:
    """Figures beside each other, in as few lines as hold them whole."""

    def __init__(self, figures: list[Text]) -> None:
        self._figures = figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text()
        for figure in self._figures:
            if line and line.cell_len + len(_GAP) + figure.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text.assemble(line, _GAP, figure) if line else figure
        yield line


def _bottleneck(view: View) -> Text:
    line = Text.assemble("limited by ", (view.limit, "bold"), no_wrap=True, overflow="ellipsis")
    if view.limit in FASTER and view.limit not in _NO_ADVICE:
        line.append(f": {FASTER[view.limit]}", "dim")
    return line


def _failures(view: View) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.columns[0].justify = table.columns[1].justify = "right"
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_row(share(view.failed, view.rows), f"{view.failed:,}", "failed", "")
    for failure in view.failures:
        style = "bold red" if failure.name == "internal" else ""
        figures = Text(f"{failure.share:.1%}", "dim"), Text(f"{failure.count:,}", "dim")
        table.add_row(*figures, Text(failure.name, style), Text(failure.hint, "dim"))
    return table


def _workers(view: View, most: int) -> Table:
    table = Table.grid(padding=(0, 2))
    heads = ("process", "in flight", "of", "fetching", "making", "writing", "waiting", "memory", "limited by")
    for _ in heads[:-1]:
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row(*(Text(head, "dim") for head in heads))
    for worker, load in list(view.loads.items())[:most]:
        counts = load.in_flight, load.window, load.fetching, load.transforming, load.writing, load.waiting
        table.add_row(
            Text(str(worker), "dim"), *(f"{count:,}" for count in counts), size(load.memory_bytes), Text(load.limit)
        )
    return table
