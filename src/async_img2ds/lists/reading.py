"""A list is read in a thread, which looks whether it is still wanted, and says in lines how far it is."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from async_img2ds.blocking import DaemonThread, look_at

if TYPE_CHECKING:
    from async_img2ds.distributors.base import Stop

__all__ = ["Lines", "Told", "in_thread", "say_nothing"]

T = TypeVar("T")
# Is told what is done, and how many rows of it are.
Told = Callable[[str, int], None]

LINE_S: Final = 10.0


async def in_thread(name: str, work: Callable[[Callable[[], bool]], T], stop: Stop) -> T | None:
    """Do *work*, which looks whether it is still wanted, in a thread; return None if *stop* was asked for twice.

    If it is asked for once, or this is cancelled, what *work* clears up is waited for.
    """
    left = threading.Event()
    thread = DaemonThread(name)
    outcome = asyncio.wrap_future(thread.submit(work, lambda: not (left.is_set() or stop.drain.is_set())))
    thread.shutdown()
    now = asyncio.ensure_future(stop.now.wait())
    try:
        await asyncio.wait((outcome, now), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        left.set()
        await asyncio.wait((outcome, now), return_when=asyncio.FIRST_COMPLETED)
        raise
    finally:
        now.cancel()
        if not outcome.done() or left.is_set():
            outcome.add_done_callback(look_at)
    return outcome.result() if outcome.done() else None


class Lines:
    """Says on standard error, in a line now and then, what is done *of* a list."""

    def __init__(self, of: str) -> None:
        """Say the first line when there was time for one."""
        self._of = of
        self._said_at = time.monotonic()

    def __call__(self, what: str, rows: int) -> None:
        """Say *what* is done, and of how many rows it is, if it is time for a line."""
        if time.monotonic() - self._said_at >= LINE_S and sys.stderr is not None:
            self._said_at = time.monotonic()
            with suppress(OSError):
                print(f"{self._of}: {what}, {rows:,} rows", file=sys.stderr, flush=True)  # noqa: T201


def say_nothing(_what: str, _rows: int) -> None:
    """Say nothing."""
