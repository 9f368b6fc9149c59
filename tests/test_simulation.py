"""The program in a world of its own: hours of hosts that fail and workers that die, in seconds, the same each time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import simulate
from mistakes import MISTAKES
from scripts import written
from virtual_loop import Process, Standstill, VirtualLoop, run_in

# What a killed process had open is the system's to close.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
SEEDS = range(30)
PROGRAM = Path(simulate.__file__)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_is_kept_once_whatever_goes_wrong(seed: int) -> None:
    """And hosts are asked as politely as was said; simulate.py has the list of what must hold."""
    played = simulate.play(written(seed))

    assert played.wrong == []
    assert played.virtual_s <= played.most_s


def test_same_seed_is_the_same_run() -> None:
    """Event for event, so that what one has found can be looked at as often as wanted."""
    first, again, other = (simulate.play(written(seed)).digest for seed in (2, 2, 3))

    assert first == again
    assert first != other


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_order_of_hashes_is_of_no_account(hash_seed: str) -> None:
    """Python orders sets of text otherwise in each process."""
    out = subprocess.run(
        [sys.executable, PROGRAM, "--seed", "2"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout

    assert simulate.play(written(2)).digest in out


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_seen(mistake: str) -> None:
    """What must hold is looked at closely enough to see that it does not."""
    mistaken, shown_by = MISTAKES[mistake]
    with mistaken():
        seen = any(simulate.play(written(seed)).wrong for seed in (shown_by, *range(100)))

    assert seen


def test_a_day_of_the_loop_is_over_at_once() -> None:
    """Timers come in their order, at their time."""
    loop = VirtualLoop(lambda: 0.0)
    seen: list[tuple[str, int]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, round(loop.time())))

    async def run() -> None:
        await asyncio.gather(wait("late", 86_400.0), wait("soon", 3_600.0))

    loop.run_until_complete(run())
    loop.close()

    assert seen == [("soon", 3_600), ("late", 86_400)]


def test_loop_in_which_nothing_can_happen_says_so() -> None:
    """It would hang for ever otherwise."""
    loop = VirtualLoop(lambda: 0.0)
    waiting = loop.create_future()
    with pytest.raises(Standstill):
        loop.run_until_complete(waiting)
    loop.close()


def test_killed_process_does_nothing_any_more() -> None:
    """Neither what it waited for nor what it would do at the end, as after SIGKILL."""
    loop = VirtualLoop(lambda: 0.0)
    process = Process("worker")
    seen: list[str] = []

    async def live() -> None:
        try:
            seen.append("begun")
            await asyncio.sleep(10)
            seen.append("ended")
        finally:
            seen.append("cleaned up")

    async def run() -> None:
        task = run_in(process, loop, live())
        await asyncio.sleep(1)
        loop.kill(process)
        task.cancel()
        await asyncio.sleep(100)

    loop.run_until_complete(run())
    before = list(seen)
    loop.bury(process)
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()

    assert before == ["begun"]
    assert seen == ["begun", "cleaned up"]


def test_calls_of_one_thread_are_made_one_after_the_other() -> None:
    """One that waits for something holds up those behind it."""
    loop = VirtualLoop(lambda: 1.0)
    seen: list[tuple[int, str]] = []
    released = loop.create_future()

    def call(name: str) -> None:
        seen.append((round(loop.time()), name))

    async def run() -> None:
        loop.call_later(10, released.set_result, None)
        thread = ThreadPoolExecutor(1)  # it is never asked for anything
        first = loop.run_in_executor(thread, call, "first")
        blocked = loop.run_in_executor(thread, lambda: released)
        await asyncio.gather(first, blocked, loop.run_in_executor(thread, call, "last"))

    loop.run_until_complete(run())
    loop.close()

    assert seen == [(1, "first"), (11, "last")]
