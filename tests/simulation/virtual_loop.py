"""An event loop with a time of its own, and processes in it that can be killed.

Where nothing is ready the clock goes on to the next timer, as with trio's MockClock: hours pass in a moment. There are
no sockets and no threads: what would block a thread takes a moment of the loop's time. So what happens follows from
what was there at the beginning, event for event.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import selectors
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Executor

__all__ = ["PROCESS", "Killed", "Process", "Standstill", "VirtualLoop", "run_in"]

T = TypeVar("T")
Args = TypeVarTuple("Args")

# What a turn of the loop takes, so that one that does nothing but turn is not for ever at the same moment.
TURN_S: Final = 1e-6
# So many turns without a wait are no work any more.
TURNS_MOST: Final = 20_000

# Whose the code is that runs; tasks and timers inherit it.
PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Standstill(Exception):
    """Nothing can ever happen again, or nothing does but that the loop turns."""


class Killed(BaseException):
    """Raised in what a thread does: its process is to die here, and this call never returns."""


class Process:
    """What runs in the loop as if it were a process. Once it is dead nothing of it runs, not even what cleans up.

    *stopped* holds what would run of it in *parked*.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.parked: list[tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]] = []

    def __repr__(self) -> str:
        return self.name


class _Task(asyncio.Task[Any]):
    """A task whose place in a set is the same in every run, as TaskGroup cancels in the order of one."""

    def __init__(self, number: int, *args: Any, **keywords: Any) -> None:
        self.number = number
        self.process = PROCESS.get()
        super().__init__(*args, **keywords)

    def __hash__(self) -> int:
        return self.number


class _Clockwork(selectors.SelectSelector):
    """Waits for nothing but time, of which there is *most*."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.most = float("inf")
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("nothing is left that could happen")
        self.turns = 0 if timeout else self.turns + 1
        if self.turns > TURNS_MOST:
            raise Standstill(f"the loop has turned {TURNS_MOST} times without a wait")
        self.now += timeout + TURN_S
        if self.now > self.most:
            raise Standstill(f"it has not ended within {self.most:.0f} s, which is the most it may take")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. *call_s* says how long the next call in a thread takes, in seconds."""

    def __init__(self, call_s: Callable[[], float]) -> None:
        self._clockwork = _Clockwork()
        super().__init__(self._clockwork)
        self._call_s = call_s
        self._numbers = itertools.count()
        self.connects: Callable[[str], Awaitable[asyncio.Transport]] | None = None  # to an address, from here
        self._threads: WeakKeyDictionary[Any, _Thread] = WeakKeyDictionary()

    def time(self) -> float:
        return self._clockwork.now

    def end_at(self, most: float) -> None:
        """Have running it raise Standstill when its time is *most*."""
        self._clockwork.most, self._clockwork.turns = most, 0

    def call_soon(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        process = context.get(PROCESS)
        if process is None or not process.stopped:
            return super().call_soon(callback, *args, context=context)
        process.parked.append((callback, args, context))
        return _cancelled(asyncio.Handle(callback, args, self, context))

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        process = context.get(PROCESS)
        if process is None or not process.stopped:
            return super().call_at(when, callback, *args, context=context)
        process.parked.append((callback, args, context))
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        inside: Any = timer  # cancel() would count it among those of the loop, where it has never been
        inside._cancelled = True
        return timer

    def create_task(self, coro: Any, **keywords: Any) -> Any:
        name = keywords.pop("name", None)
        return _Task(next(self._numbers), coro, loop=self, name=name, **keywords)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> asyncio.Future[T]:
        """Call *func* after a moment, behind what *executor* has to do, of which each has one thread.

        A function that would block returns a future: then that is what its thread waits for.
        """
        assert executor is not None, "the program gives each its own"
        if executor not in self._threads:
            self._threads[executor] = _Thread(self, self._call_s)
        return self._threads[executor].submit(func, args)

    def kill(self, process: Process) -> None:
        """Have nothing of *process* run any more; what is there of it stays as it is."""
        process.alive, process.stopped = False, True
        itself: Any = self
        for handle in [*itself._ready, *itself._scheduled]:  # there is no public list of them
            if not handle._cancelled and handle._context.get(PROCESS) is process:
                process.parked.append((handle._callback, handle._args, handle._context))
                handle.cancel()

    async def create_connection(self, protocol_factory: Any, host: Any = None, *_: Any, **__: Any) -> Any:
        """Connect to *host* by what *connects* says."""
        assert self.connects is not None
        return await self.connects(host), protocol_factory()

    def tasks_of(self, process: Process | None) -> list[asyncio.Task[Any]]:
        """Return the tasks of *process* that have not ended, in the order they were made."""
        left = {task.number: task for task in map(_ours, asyncio.all_tasks(self)) if task.process is process}
        return [left[number] for number in sorted(left)]

    def bury(self, process: Process) -> None:
        """Let the tasks of a dead *process* end, once it matters to nobody what they do; Python wants them to."""
        process.stopped = False
        for callback, args, context in process.parked:
            self.call_soon(callback, *args, context=context)
        process.parked.clear()
        for task in self.tasks_of(process):
            task.cancel()

    def _write_to_self(self) -> None:
        """Wake nobody: there is no other thread."""


class _Thread:
    """Makes one call after the other."""

    def __init__(self, loop: VirtualLoop, call_s: Callable[[], float]) -> None:
        self._loop = loop
        self._call_s = call_s
        self._calls: deque[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls.append((future, function, args))
        if len(self._calls) == 1:
            self._begin()
        return future

    def _begin(self) -> None:
        self._loop.call_later(self._call_s(), self._make)

    def _make(self) -> None:
        future, function, args = self._calls[0]
        try:
            result = function(*args)
        except Killed:
            return
        except Exception as error:  # noqa: BLE001  carried over to whoever waits
            if not future.done():
                future.set_exception(error)
        else:
            if isinstance(result, asyncio.Future):
                result.add_done_callback(self._return)
                return
            if not future.done():
                future.set_result(result)
        self._go_on()

    def _return(self, result: asyncio.Future[Any]) -> None:
        future, _, _ = self._calls[0]
        if not future.done() and not result.cancelled():
            future.set_result(result.result())
        self._go_on()

    def _go_on(self) -> None:
        self._calls.popleft()
        while self._calls and self._calls[0][0].cancelled():  # what has not begun can be taken back
            self._calls.popleft()
        if self._calls:
            self._begin()


def _ours(task: asyncio.Task[Any]) -> _Task:
    assert isinstance(task, _Task)
    return task


def _cancelled(handle: asyncio.Handle) -> asyncio.Handle:
    handle.cancel()
    return handle


def run_in(process: Process, loop: VirtualLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Have *work* run as the main task of *process*."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    task: asyncio.Task[None] = context.run(loop.create_task, work)
    return task
