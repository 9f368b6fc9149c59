"""Between code that awaits and code that blocks: a coroutine from a script or a notebook, calls in a thread."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Executor, Future
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable

__all__ = ["DaemonThread", "InThread", "begun", "look_at", "read_ahead", "waited_for"]

P = ParamSpec("P")
T = TypeVar("T")

# A thread that reads ends with the item that it is at. One that waits for the next one of an endless list may wait for
# ever, and is left to that.
PATIENCE_S: Final = 1.0


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


@asynccontextmanager
async def read_ahead(items: Iterable[T], most: int) -> AsyncIterator[AsyncIterator[list[T]]]:
    """Yield an iterator over *items*, which are read in a thread; it yields those that have come since, together.

    At most *most* wait. What *items* raises comes behind all that came before it. A generator is closed with the block,
    unless its thread still waits for it a second later; such a thread does not keep the program from ending.
    """
    reader = _Reader(items, most)
    thread = Thread(target=reader.read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        reader.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await reader.has_ended.wait()
                thread.join()  # which takes a moment


class _Reader(Generic[T]):
    """Reads *items* in one thread for the loop of another."""

    def __init__(self, items: Iterable[T], most: int) -> None:
        self._items = items
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._came: list[T] = []
        self._taken = threading.Condition()
        self._is_left = False
        self._error: BaseException | None = None
        self._has_come = asyncio.Event()
        self.has_ended = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        while True:
            await self._has_come.wait()
            self._has_come.clear()
            with self._taken:
                came, self._came = self._came, []
                self._taken.notify_all()
            if came:
                if self.has_ended.is_set():
                    self._has_come.set()
                return came
            if self.has_ended.is_set():
                self._has_come.set()
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration

    def leave(self) -> None:
        with self._taken:
            self._is_left = True
            self._taken.notify_all()

    def read(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001  carried over to whoever reads
            self._error = error
        self._say(self.has_ended.set)
        self._say(self._has_come.set)

    def _read(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                with self._taken:
                    self._taken.wait_for(lambda: self._is_left or len(self._came) < self._most)
                    if self._is_left:
                        return
                    self._came.append(item)
                    is_first = len(self._came) == 1
                if is_first:
                    self._say(self._has_come.set)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def _say(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody listens any more
            self._loop.call_soon_threadsafe(what)


class InThread(Generic[T]):
    """What an async generator yields, for code that blocks: it runs in a loop of its own, in a thread of its own.

    At most *ahead* items wait here. It is closed when nobody has it any more, when the program ends, by :meth:`close`,
    and at the end of a ``with`` block; then the generator is, too, and its thread has ended.
    """

    def __init__(
        self,
        items: Callable[[], AsyncGenerator[T]],
        ahead: int,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        """Begin when the first item is asked for: with *items*, in a loop by *loop_factory*."""
        self._errand: _Errand[T] = _Errand(items, ahead, loop_factory)
        self._close = weakref.finalize(self, self._errand.end)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if not self._close.alive:
            raise StopIteration
        item, error = self._errand.next()
        if item is not None:
            return item[0]
        self.close()
        if error is None:
            raise StopIteration
        raise error

    def close(self) -> None:
        """End the generator and its thread."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Errand(Generic[T]):
    """An async generator that runs in a thread, and the way its items take."""

    def __init__(
        self,
        items: Callable[[], AsyncGenerator[T]],
        ahead: int,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self._items = items
        self._loop_factory = loop_factory
        self._came: SimpleQueue[tuple[tuple[T] | None, BaseException | None]] = SimpleQueue()
        self._room = asyncio.Semaphore(ahead)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: Thread | None = None
        self._is_left = False

    def next(self) -> tuple[tuple[T] | None, BaseException | None]:
        """Return the next item, or None and what the generator ended with."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="async-img2ds", daemon=True)
            self._thread.start()
        item, error = self._came.get()
        if item is not None and self._loop is not None:
            with suppress(RuntimeError):  # all have come, and the loop is closed
                self._loop.call_soon_threadsafe(self._room.release)
        return item, error

    def end(self) -> None:
        """Have the generator closed, and wait until it is."""
        thread = self._thread
        if thread is None:
            return
        self._is_left = True  # first, or a thread that has just been started would never hear of it
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
        if thread is not threading.current_thread():  # which may be the one that collects garbage
            thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                self._loop = runner.get_loop()
                runner.run(self._hand_over())
        except BaseException as raised:  # noqa: BLE001  carried over to the thread that waits
            error = raised
        self._came.put((None, error))

    async def _hand_over(self) -> None:
        self._task = asyncio.current_task()
        if self._is_left:
            return
        async with aclosing(self._items()) as items:
            async for item in items:
                await self._room.acquire()
                self._came.put(((item,), None))
