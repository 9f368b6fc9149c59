"""A run as lines, each complete in itself: in words, or as JSON for programs."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from async_img2ds.progress.totals import Totals
from async_img2ds.progress.view import Pace, view_of
from async_img2ds.progress.words import clock, duration, share, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.progress.view import View

__all__ = ["Lines", "in_json", "in_words"]

# Seconds between two lines at first. They grow with the run, so that one of days leaves a thousand lines and no more:
# the next line comes when a thirtieth of the time has passed again.
LINE_S: Final = 10.0
LINE_SHARE: Final = 1 / 30
LINE_MOST_S: Final = 300.0


class Printed(Protocol):
    """How a view becomes a line."""

    def __call__(self, view: View, *, last: bool) -> str:
        """Return the line, the *last* one or one on the way."""


class Lines:
    """A line on standard error now and then."""

    def __init__(
        self,
        rows_expected: Callable[[], int | None],
        printed: Printed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Say each by *printed*; *clock* tells the time in seconds."""
        self._expected = rows_expected
        self._printed = printed
        self._clock = clock
        self._pace = Pace(clock())
        self._next = self._pace.began + LINE_S
        self._totals = Totals()

    def update(self, totals: Totals) -> None:
        """Say a line if it is time for one."""
        self._totals = totals
        now = self._clock()
        self._pace.see(totals, now)
        if now >= self._next:
            self._next = now + min(LINE_MOST_S, max(LINE_S, LINE_SHARE * (now - self._pace.began)))
            self._print(now, last=False)

    def last(self) -> None:
        """Say how it ended."""
        self._print(self._clock(), last=True)

    def _print(self, now: float, *, last: bool) -> None:
        view = view_of(self._totals, self._pace, self._expected(), now)
        with suppress(OSError):  # nobody reads it; the work goes on
            print(self._printed(view, last=last), file=sys.stderr, flush=True)  # noqa: T201  this is the display


def in_words(view: View, *, last: bool) -> str:
    """Return *view* as a line for people."""
    reasons = ", ".join(f"{failure.name} {failure.count}" for failure in view.failures)
    parts = [
        clock(view.seconds),
        f"shards {view.shards_done}" + (f" (lost {view.shards_lost})" if view.shards_lost else ""),
        f"rows {view.rows:,} of {'?' if view.expected is None else format(view.expected, ',')}",
        f"{view.images_mean:.0f} images/s" if last else f"{view.images_now:.0f} images/s (mean {view.images_mean:.0f})",
        f"success {share(view.successes, view.rows)}",
    ]
    if not last:
        parts += [f"{view.bits_now / 1e6:.0f} Mb/s", f"left {clock(view.left_s)}"]
        parts += [f"limited by {view.limit}"] if view.limit else []
        parts += [f"requests {duration(view.p50_ms)}, p95 {duration(view.p95_ms)}"] if view.p50_ms is not None else []
        parts += [f"memory {size(view.memory_bytes)}"] if view.memory_bytes else []
    parts += [f"failures: {reasons}"] if reasons else []
    return "  ".join(parts)


def in_json(view: View, *, last: bool) -> str:
    """Return *view* as a JSON object: its attributes, with ``event`` and ``time``."""
    told: dict[str, Any] = {
        "event": "progress_end" if last else "progress",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **asdict(view),
        "in_flight": view.in_flight,
        "hosts_aside": view.hosts_aside,
        "memory_bytes": view.memory_bytes,
    }
    return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS).decode()
