"""Between code that awaits and code that blocks: a coroutine from a script or a notebook, calls in a thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

__all__ = ["DaemonThread", "begun", "look_at", "waited_for"]

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThread(Executor):
    """A thread, or several, that make calls in their order, and do not keep the program from ending.

    That of :class:`concurrent.futures.ThreadPoolExecutor` does: the interpreter waits at its end for a call that may
    never return, to a server that hangs or a disk that is gone.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        """Call each of *count* threads *name*; they are started as they are first wanted."""
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=name, daemon=True) for _ in range(count)]
        self._begun = 0

    def submit(self, function: Callable[P, T], /, *values: P.args, **names: P.kwargs) -> Future[T]:
        """Have *function* called; return what will have its outcome. A cancelled call is not made."""
        outcome: Future[T] = Future()
        self._calls.put((outcome, partial(function, *values, **names)))
        if self._begun < len(self._threads):
            self._begun += 1
            self._threads[self._begun - 1].start()
        return outcome

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  as its base has it
        """Have it end behind the calls that it was given; nobody waits for that."""
        for _ in self._threads:
            self._calls.put(None)

    def _run(self) -> None:
        while (entry := self._calls.get()) is not None:
            outcome, call = entry
            if outcome.set_running_or_notify_cancel():
                _resolve(outcome, call)


@asynccontextmanager
async def begun(begin: Callable[[], T], end: Callable[[], None], stop: asyncio.Event) -> AsyncIterator[T | None]:
    """Yield what *begin* returns, and call *end* after the block; both may take long, and have a thread.

    Nobody waits for a *begin* that has not returned when the block is cancelled or *stop* is set: then None is yielded,
    and *end* is called when it does.
    """
    begins: Future[T] = Future()
    ends: Future[None] = Future()
    left = Event()

    def live() -> None:
        for outcome in (begins, ends):  # so that neither can be cancelled
            outcome.set_running_or_notify_cancel()
        _resolve(begins, begin)
        left.wait()  # here, because the system ends what Ray has started together with the thread that did
        _resolve(ends, end)

    # A daemon: if it hangs, it does not keep the interpreter from ending.
    Thread(target=live, name="begun", daemon=True).start()
    beginning, asked = asyncio.wrap_future(begins), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((beginning, asked), return_when=asyncio.FIRST_COMPLETED)
        yield beginning.result() if beginning.done() else None
    finally:
        asked.cancel()
        left.set()
        if beginning.done():
            await asyncio.wrap_future(ends)
        else:
            beginning.add_done_callback(look_at)


def look_at(future: asyncio.Future[Any]) -> None:
    """Have seen how something ended that nobody waits for, or asyncio would complain of it."""
    if not future.cancelled():
        future.exception()


def _resolve(outcome: Future[T], function: Callable[[], T]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # noqa: BLE001  carried over to whoever waits
        outcome.set_exception(error)


def waited_for(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what the coroutine of *work* returns, run in a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    return _in_thread(work)


def _in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run in another thread, because this one's loop is running."""
    outcome: Future[T] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work())

    def target() -> None:
        try:
            outcome.set_result(loop.run_until_complete(task))
        except BaseException as error:  # noqa: BLE001  carried over to the thread that waits
            outcome.set_exception(error)
        finally:
            loop.close()

    thread = Thread(target=target, name="async-img2ds")
    thread.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()
