"""Supervised worker processes: real ones, with work that misbehaves."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import workloads
from async_img2ds.distributors import crew, local
from async_img2ds.distributors.base import ShardFeed, Stop
from async_img2ds.distributors.local import run_local
from async_img2ds.errors import InputError, WorkerError
from async_img2ds.options import RunOptions
from async_img2ds.records import Done, Lost, Shard
from processes import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.distributors.base import Work, WorkFor
    from async_img2ds.records import Report


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes import the workloads."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


def shards(count: int) -> Iterator[Shard]:
    return (Shard(number, b"rows", 10) for number in range(count))


def work_for(work: Work) -> WorkFor:
    """Make the same of whatever machine there is."""
    return lambda processes, cores: work  # noqa: ARG005  both are of no use here


def distribute(
    work: Work,
    count: int = 6,
    *,
    processes: int = 2,
    retries: int = 1,
    grace_s: float = 0.2,
    stop_after_s: float | None = None,
    listed: Iterator[Shard] | None = None,
) -> list[Report]:
    """Run *work* and return all reports."""
    reports: list[Report] = []

    async def run() -> None:
        stop = Stop()
        if stop_after_s is not None:
            asyncio.get_running_loop().call_later(stop_after_s, stop.ask)
        options = RunOptions(processes_count=processes, grace_s=grace_s)
        await run_local(work_for(work), ShardFeed(listed or shards(count), retries), reports.append, stop, options)

    asyncio.run(run())
    return reports


def done(reports: list[Report]) -> list[int]:
    return sorted(report.shard_id for report in reports if isinstance(report, Done))


def lost(reports: list[Report]) -> list[Lost]:
    return [report for report in reports if isinstance(report, Lost)]


def test_every_shard_is_done_once() -> None:
    """Six shards over two processes come back as six reports."""
    assert done(distribute(workloads.behave)) == [0, 1, 2, 3, 4, 5]


def test_shards_of_a_killed_worker_are_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that is killed twice over the same shard costs nothing but the time, and is told about."""
    reports = distribute(partial(workloads.die_at, str(tmp_path), 3, 2))

    assert done(reports) == [0, 1, 2, 3, 4, 5]
    assert not lost(reports)
    assert "killed by SIGKILL" in caplog.text


def test_shard_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """After five deaths the shard is reported lost; the run ends and the others are done."""
    reports = distribute(partial(workloads.die_at, str(tmp_path), 3, 99))

    assert done(reports) == [0, 1, 2, 4, 5]
    assert [report.shard_id for report in lost(reports)] == [3]
    assert 3 <= len(list(tmp_path.iterdir())) <= 5


def test_shard_that_kills_its_workers_takes_no_other_along(tmp_path: Path) -> None:
    """With four shards open at a time three innocent ones die with it twice; then it is done alone, and they are."""
    reports = distribute(partial(workloads.die_in_company, str(tmp_path), 3), 8, processes=1)

    assert done(reports) == [0, 1, 2, 4, 5, 6, 7]
    assert [report.shard_id for report in lost(reports)] == [3]


def test_worker_that_is_stuck_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that has reported and does not any more is ended, and its shard is done by the next."""
    monkeypatch.setattr(crew, "WATCH_S", 0.1)
    monkeypatch.setattr(crew, "WEDGED_S", 1.0)
    reports = distribute(partial(workloads.get_stuck_at, str(tmp_path), 3, 1))

    assert done(reports) == [0, 1, 2, 3, 4, 5]
    assert not lost(reports)
    assert "has said nothing for 1" in caplog.text
    assert "killed by SIGKILL" in caplog.text


def test_worker_that_does_not_report_is_not_thought_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some work says nothing until a shard is done, however long that takes."""
    monkeypatch.setattr(crew, "WATCH_S", 0.05)
    monkeypatch.setattr(crew, "WEDGED_S", 0.2)

    assert done(distribute(partial(workloads.say_nothing_for, 1.0), 2)) == [0, 1]


def test_worker_that_does_not_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """And after three that do not, the run ends with an error rather than never."""
    monkeypatch.setattr(crew, "WATCH_S", 0.05)
    monkeypatch.setattr(local, "STARTING_S", 0.5)
    monkeypatch.setattr(local, "_BOOT", "import time; time.sleep(600)")

    with pytest.raises(WorkerError, match="before they do any work"):
        distribute(workloads.behave, processes=1)


def test_fault_that_no_shard_escapes_ends_the_run() -> None:
    """What was lost by it is told, nothing is tried again, and nothing else is begun."""
    reports = distribute(workloads.have_no_room, 100, processes=1)

    assert done(reports) == [0]
    assert len(lost(reports)) == 1


def test_fault_of_one_worker_ends_that_worker(tmp_path: Path) -> None:
    """It gets no more, nobody takes its place, and the others do the rest."""
    reports = distribute(partial(workloads.have_no_room_here, str(tmp_path)), 20, processes=2)

    assert len(lost(reports)) == 1
    assert len(done(reports)) == 19


def test_worker_is_heard_while_the_list_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has room and waits; that is no silence, and what it has open goes on."""
    monkeypatch.setattr(crew, "WATCH_S", 0.05)
    monkeypatch.setattr(crew, "WEDGED_S", 0.5)

    def slow() -> Iterator[Shard]:
        yield Shard(0, b"", 1)
        time.sleep(2)
        yield Shard(1, b"", 1)

    reports = distribute(workloads.report_while_idle, listed=slow(), processes=1)

    assert done(reports) == [0, 1]
    assert len({report.worker for report in reports}) == 1


def test_worker_that_writes_without_end_of_line_goes_on() -> None:
    """What a library prints, however long, does not end the run."""
    assert done(distribute(workloads.shout, 3)) == [0, 1, 2]


def test_closed_feed_hands_out_nothing_more() -> None:
    """Not even a shard that was being read when it was closed."""

    async def run() -> None:
        gate = threading.Event()

        def slow() -> Iterator[Shard]:
            gate.wait()
            yield from shards(3)

        feed = ShardFeed(slow(), 1)
        asked = asyncio.create_task(feed.next(alone=True))
        await asyncio.sleep(0)
        feed.close()
        gate.set()

        assert await asked is None
        assert await feed.next(alone=True) is None
        assert feed.empty

    asyncio.run(run())


@pytest.mark.parametrize(("retries", "is_lost"), [(0, True), (1, True), (2, False)])
def test_failed_shard_is_tried_as_often_as_asked(retries: int, *, is_lost: bool) -> None:
    """A shard that succeeds at its third try needs two retries; with fewer it is lost, with its reason."""
    reports = distribute(partial(workloads.fail_at, 3, 2), retries=retries)

    assert [report.reason for report in lost(reports)] == (["StorageError: no space left on device"] if is_lost else [])
    assert (3 in done(reports)) is not is_lost


def test_workers_that_cannot_start_end_the_run_with_their_last_words() -> None:
    """What breaks in every worker before it does anything is an error, not an endless restart."""
    with pytest.raises(WorkerError, match="this library is broken"):
        distribute(workloads.never_start)


def test_noise_on_standard_output_does_not_reach_the_reports(caplog: pytest.LogCaptureFixture) -> None:
    """What libraries print is passed on as log lines of its worker."""
    caplog.set_level(logging.WARNING)
    reports = distribute(workloads.chatter, 3)

    assert done(reports) == [0, 1, 2]
    assert "a warning about shard 1" in caplog.text


def test_stop_ends_workers_that_do_not_finish_in_time() -> None:
    """After the time of grace open shards are dropped; they are neither done nor lost."""
    reports = distribute(workloads.hang, stop_after_s=1.0)

    assert not done(reports)
    assert not lost(reports)


def test_deaf_worker_is_killed() -> None:
    """One that ignores being told to stop is gone within seconds all the same."""
    began = time.monotonic()
    distribute(workloads.hang_deaf, processes=1, stop_after_s=1.0)

    assert time.monotonic() - began < 60  # it would sleep for 600


def test_cancelling_leaves_no_process_behind() -> None:
    """A cancelled run has ended all its workers by the time it returns."""

    async def run() -> None:
        options = RunOptions(processes_count=2)
        work = asyncio.create_task(run_local(work_for(workloads.hang), ShardFeed(shards(6), 1), print, Stop(), options))
        while len(children := workers_of(os.getpid())) < 2:
            await asyncio.sleep(0.05)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert not set(children) & set(workers_of(os.getpid()))

    asyncio.run(run())


def test_list_that_breaks_is_told_at_the_end() -> None:
    """Shards read before the error are done first; the error is kept for whoever started the run."""

    def breaking() -> Iterator[Shard]:
        yield from shards(3)
        raise InputError("row group 7 is corrupt")

    async def run() -> tuple[list[Report], ShardFeed]:
        reports: list[Report] = []
        feed = ShardFeed(breaking(), 1)
        await run_local(work_for(workloads.behave), feed, reports.append, Stop(), RunOptions(processes_count=2))
        return reports, feed

    reports, feed = asyncio.run(run())

    assert done(reports) == [0, 1, 2]
    assert isinstance(feed.error, InputError)


def test_each_worker_gets_a_shard_before_any_gets_two() -> None:
    """However long one takes to start, the others do not take its share of a short list."""
    workers = {report.worker for report in distribute(workloads.behave, 3, processes=3) if isinstance(report, Done)}

    assert len(workers) == 3


def test_cores_make_up_for_processes_that_a_short_list_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """One shard on eight cores is one process that uses all eight; three shards are three with three each."""
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    machines = []

    def work_for_machine(processes: int, cores: int) -> Work:
        machines.append((processes, cores))
        return workloads.behave

    for count in (1, 3, 30):
        asyncio.run(run_local(work_for_machine, ShardFeed(shards(count), 1), lambda _: None, Stop(), RunOptions()))

    assert machines == [(1, 8), (3, 3), (8, 1)]


def test_looking_ahead_keeps_what_it_has_read() -> None:
    """A list of five has three to begin with when three are asked for, and all five are handed out once, in order."""

    async def run() -> tuple[int, int, list[int]]:
        feed = ShardFeed(shards(5), 1)
        three, all_of_them = await feed.look_ahead(3), await feed.look_ahead(100)
        numbers = []
        while (shard := await feed.next(alone=True)) is not None:
            numbers.append(shard.id)
        return three, all_of_them, numbers

    assert asyncio.run(run()) == (3, 5, [0, 1, 2, 3, 4])


def test_stopped_worker_does_not_keep_the_run() -> None:
    """One that is suspended neither reads nor ends; when it is time it is killed."""

    async def run() -> None:
        stop = Stop()
        work = asyncio.create_task(
            run_local(work_for(workloads.hang), ShardFeed(shards(1), 1), print, stop, RunOptions(grace_s=0))
        )
        while not (children := workers_of(os.getpid())):
            await asyncio.sleep(0.05)
        os.kill(children[0], signal.SIGSTOP)
        stop.ask()
        await asyncio.wait_for(work, 60)

    asyncio.run(run())


@pytest.mark.parametrize("processes", [1, 2])
def test_stop_does_not_wait_for_a_slow_list(processes: int) -> None:
    """A list that takes for ever to yield its next shard does not keep a run from ending, nor from beginning to."""
    gate = threading.Event()

    def slow() -> Iterator[Shard]:
        yield from shards(1)
        gate.wait()

    async def run() -> None:
        stop = Stop()
        asyncio.get_running_loop().call_later(0.5, stop.ask)
        feed, options = ShardFeed(slow(), 1), RunOptions(processes_count=processes)
        await asyncio.wait_for(run_local(work_for(workloads.behave), feed, print, stop, options), 60)
        gate.set()

    asyncio.run(run())


def test_shard_that_a_worker_cannot_read_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Its worker ends over it, as it would wait for it for ever and say that all is well; the others are done."""
    unreadable = Shard(1, workloads.Unreadable(), 10)  # type: ignore[arg-type]
    reports = distribute(
        workloads.report_while_idle,
        processes=1,
        listed=iter([Shard(0, b"rows", 10), unreadable, Shard(2, b"rows", 10)]),
    )

    assert done(reports) == [0, 2]
    assert [report.shard_id for report in lost(reports)] == [1]
    assert "MemoryError" in caplog.text


def test_worker_that_does_not_read_its_work_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is of it: a pipe takes in 64 KiB that nobody reads."""
    monkeypatch.setattr(local, "STARTING_S", 0.2)
    monkeypatch.setattr(crew, "WATCH_S", 0.1)
    monkeypatch.setattr(local, "_BOOT", "import time; time.sleep(600)")

    with pytest.raises(WorkerError, match="workers end before they do any work"):
        distribute(partial(workloads.behave_with, b"x" * 400_000), processes=1)


def test_what_python_prints_at_its_start_does_not_reach_the_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any line of ours a site's own modules run."""
    (tmp_path / "sitecustomize.py").write_text("print('hello' * 50_000)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    assert done(distribute(workloads.behave, 3)) == [0, 1, 2]


def test_program_ends_though_its_list_does_not() -> None:
    """What reads the list may wait for a server without end."""
    program = (
        "import asyncio, threading; from async_img2ds.distributors.base import ShardFeed\n"
        "feed = ShardFeed(iter(threading.Event().wait, None), 1)\n"
        "async def run():\n"
        "    reading = asyncio.create_task(feed.next(alone=True))\n"
        "    await asyncio.sleep(0.2)\n"
        "    feed.close()\n"
        "    print(await reading)\n"
        "asyncio.run(run())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "None\n", "")
