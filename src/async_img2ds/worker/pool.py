"""The threads that make images, and how bodies get there and images back.

Like :class:`concurrent.futures.ThreadPoolExecutor`, for one function and with less in between: a call is one entry of a
queue, and what has been done since the loop last looked is handed to it in one go. For each image that is one wake-up
of the loop at most instead of always one, and a third of the Python that runs while it holds up the other threads.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Pool"]

P = ParamSpec("P")
T = TypeVar("T")

_Call = tuple["asyncio.Future[T]", tuple[object, ...]]


class Pool(Generic[P, T]):
    """Calls *function* in threads; use :meth:`open`."""

    def __init__(self, function: Callable[P, T], loop: asyncio.AbstractEventLoop) -> None:
        """Deliver to *loop*."""
        self._function = function
        self._loop = loop
        self._calls: SimpleQueue[_Call[T] | None] = SimpleQueue()
        self._done: list[tuple[asyncio.Future[T], T | None, BaseException | None]] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._lost: set[threading.Thread] = set()
        self._making: dict[threading.Thread, asyncio.Future[T]] = {}
        self._has_ended: set[threading.Thread] = set()
        self._all_ended = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, function: Callable[P, T], threads: int) -> AsyncIterator[Pool[P, T]]:
        """Yield a pool of *threads* threads; at the end of the block calls that have not begun are dropped.

        Those that have are waited for, without holding up the loop.
        """
        pool = cls(function, asyncio.get_running_loop())
        for _ in range(threads):
            pool._start()
        try:
            yield pool
        finally:
            pool._drop()
            for _ in pool._threads:
                pool._calls.put(None)
            try:
                await pool._all_ended.wait()
            finally:
                for thread in pool._threads:  # which takes a moment; or as long as a call, where the wait was cancelled
                    thread.join()

    def submit(self, *arguments: P.args, **_: P.kwargs) -> asyncio.Future[T]:
        """Have *function* called with *arguments*; return what will have its outcome. A cancelled call is not made."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((future, arguments))
        return future

    def give_up(self, thread: int, error: Exception) -> None:
        """Have the call that is made in the thread of that identity fail by *error*, and another thread take its place.

        Nothing ends the call; nobody waits for it any more, and its thread ends with it.
        """
        lost = next(running for running in self._threads if running.ident == thread)
        self._threads.remove(lost)
        self._lost.add(lost)
        if (future := self._making.get(lost)) is not None and not future.done():
            future.set_exception(error)
        self._start()

    def _start(self) -> None:
        # A daemon, as a program of somebody else's may end without leaving the block.
        thread = threading.Thread(target=self._live, name=f"transform-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _drop(self) -> None:
        while not self._calls.empty():
            self._calls.get_nowait()

    def _live(self) -> None:
        try:
            self._run()
        finally:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                self._loop.call_soon_threadsafe(self._ended, threading.current_thread())

    def _ended(self, thread: threading.Thread) -> None:
        self._has_ended.add(thread)
        if self._has_ended.issuperset(self._threads):
            self._all_ended.set()

    def _run(self) -> None:
        """Make calls until None comes, or this thread is given up."""
        thread = threading.current_thread()
        while thread not in self._lost and (call := self._calls.get()) is not None:
            future, arguments = call
            self._making[thread] = future
            if future.cancelled():  # only ever becomes so, and one that does later is ignored on delivery
                continue
            result: T | None = None
            error: BaseException | None = None
            try:
                result = cast("Callable[..., T]", self._function)(*arguments)
            except StopIteration as raised:  # which no future takes
                error = RuntimeError(f"StopIteration: {raised}")
            except BaseException as raised:  # noqa: BLE001  carried over to whoever waits
                error = raised
            with self._lock:
                self._done.append((future, result, error))
                first = len(self._done) == 1
            if first:  # of those that the loop has not taken yet; it is woken once for all of them
                with suppress(RuntimeError):  # it is closed, and nobody waits any more
                    self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for future, result, error in done:
            if future.done():  # cancelled meanwhile
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(cast("T", result))
