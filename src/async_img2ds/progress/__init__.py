"""Reports become totals, and totals a display: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from async_img2ds.progress.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

__all__ = ["Display", "Totals", "show_progress"]

logger = logging.getLogger("async_img2ds")


class Display(Protocol):
    """Something that shows totals."""

    def update(self, totals: Totals) -> None:
        """Show *totals* as they are now; called for every report, so it must be cheap or choose its moments."""


@contextmanager
def show_progress(
    kind: str,
    rows_expected: Callable[[], int | None],
    console: Console | None = None,
    *,
    detailed: bool = False,
) -> Iterator[Display]:
    """Yield a display of *kind* (auto, rich, plain, json or none) on standard error.

    Args:
        kind: which; auto is rich on a terminal and plain elsewhere.
        rows_expected: rows of the whole list, None while that is not known.
        console: to draw on instead.
        detailed: whether to show each of many workers.

    """
    if kind == "none" or (sys.stderr is None and console is None):
        yield _Silent()
        return
    if kind in ("plain", "json") or (kind == "auto" and console is None and not sys.stderr.isatty()):
        from async_img2ds.progress.lines import Lines, in_json, in_words

        lines = Lines(rows_expected, in_json if kind == "json" else in_words)
        yield lines
        lines.last()
        return
    from rich.console import Console
    from rich.live import Live

    from async_img2ds.progress.bars import Bars

    bars = Bars(rows_expected, detailed=detailed)
    before = sys.stderr
    with (
        # Twice a second is as often as workers report, and as fast as figures can be read.
        Live(
            get_renderable=bars.render,
            console=console or Console(stderr=True, highlight=False),
            refresh_per_second=2,
            transient=True,
        ) as live,
        _logging_to(live.console, before),
    ):
        yield bars


class _Silent:
    def update(self, totals: Totals) -> None:
        """Show nothing."""


@contextmanager
def _logging_to(console: Console, stderr: TextIO) -> Iterator[None]:
    """Print what is logged above the bars instead of through them: by this package, and by others to *stderr*.

    What is written to sys.stderr goes above them, too, but handlers keep the stream that they were made with.
    """
    from rich.logging import RichHandler

    others = [each for each in logging.getLogger().handlers if getattr(each, "stream", None) is stderr]
    for each in others:
        each.setStream(sys.stderr)  # type: ignore[attr-defined]  # those that have a stream have this
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
        for each in others:
            each.setStream(stderr)  # type: ignore[attr-defined]
