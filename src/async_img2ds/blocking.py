"""A coroutine from code that does not await: a script, a notebook, or a function inside a running loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["waited_for"]

T = TypeVar("T")


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
