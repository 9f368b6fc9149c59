"""Threads that make images: outcomes come back to whoever asked, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from async_img2ds.worker.pool import Pool


def test_each_gets_the_outcome_of_its_own_call() -> None:
    """Thousands of calls from many tasks, some of which fail, in four threads."""

    def halved(number: int) -> int:
        if number % 7 == 0:
            raise ValueError(number)
        return number // 2

    async def run() -> list[int | BaseException]:
        async with Pool.open(halved, 4) as pool:
            return await asyncio.gather(*(pool.submit(number) for number in range(5_000)), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert len(outcomes) == 5_000
    for number, outcome in enumerate(outcomes):
        if number % 7 == 0:
            assert isinstance(outcome, ValueError)
            assert outcome.args == (number,)
        else:
            assert outcome == number // 2


@pytest.mark.parametrize("raised", [StopIteration(), MemoryError(), SystemExit(3), TypeError("odd")])
def test_whatever_is_raised_reaches_its_caller_and_no_other(raised: BaseException) -> None:
    """No exception ends a thread, or holds back the outcomes delivered with it."""

    def call(fails: bool) -> str:  # noqa: FBT001  its only argument
        time.sleep(0.01)
        if fails:
            raise raised
        return "done"

    async def run() -> list[str]:
        async with Pool.open(call, 1) as pool:
            first, second = pool.submit(True), pool.submit(False)
            with pytest.raises((type(raised), RuntimeError)):
                await first
            return [await second, await pool.submit(False)]

    assert asyncio.run(run()) == ["done", "done"]


def test_call_that_nobody_waits_for_is_not_made() -> None:
    """A cancelled call does not begin; one that has begun does no harm by ending."""
    begun: list[int] = []
    gate = threading.Event()

    def call(number: int) -> int:
        begun.append(number)
        gate.wait(10)
        return number

    async def run() -> int:
        async with Pool.open(call, 1) as pool:
            running, waiting, wanted = (pool.submit(number) for number in range(3))
            while not begun:
                await asyncio.sleep(0.001)
            running.cancel()
            waiting.cancel()
            gate.set()
            return await wanted

    assert asyncio.run(run()) == 2
    assert begun == [0, 2]


def test_end_of_the_block_drops_what_has_not_begun_and_waits_for_what_has() -> None:
    """A worker that is told to stop does not make images of all bodies that wait."""
    ended: list[int] = []

    def call(number: int) -> None:
        time.sleep(0.05)
        ended.append(number)

    async def run() -> None:
        async with Pool.open(call, 1) as pool:
            for number in range(100):
                pool.submit(number)
            await asyncio.sleep(0.07)

    asyncio.run(run())
    assert 1 <= len(ended) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("transform-")]
