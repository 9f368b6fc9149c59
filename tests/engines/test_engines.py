"""What holds of every engine: real ones, with work that misbehaves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

import workloads
from async_img2ds.distributors.base import ShardFeed, Stop, distributor
from async_img2ds.errors import InputError, WorkerError
from async_img2ds.options import RunOptions
from async_img2ds.records import Done, Lost, Shard
from processes import is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from async_img2ds.distributors.base import Work, WorkFor
    from async_img2ds.records import Report


def shards(count: int) -> Iterator[Shard]:
    return (Shard(number, b"rows", 10) for number in range(count))


def work_for(work: Work) -> WorkFor:
    return lambda processes, cores: work  # noqa: ARG005  both are of no use here


def distribute(
    engine: str,
    work: Work,
    count: int = 6,
    *,
    stop: Stop | None = None,
    ask_when: Callable[[], bool] | None = None,
    **options: float,
) -> list[Report]:
    """Run *work* on *engine*, ask it to stop as soon as *ask_when* holds, and return all reports."""
    reports: list[Report] = []
    chosen = RunOptions(**{"grace_s": 60.0, "processes_count": 2, **options})  # type: ignore[arg-type]  # numbers all

    async def run() -> None:
        asked = stop or Stop()
        feed = ShardFeed(shards(count), chosen.max_shard_retry)
        running = asyncio.create_task(distributor(engine)(work_for(work), feed, reports.append, asked, chosen))
        if ask_when is not None:
            await asyncio.to_thread(wait_until, ask_when)
            asked.ask()
        await running

    asyncio.run(run())
    return reports


def done(reports: list[Report]) -> list[int]:
    return sorted(report.shard_id for report in reports if isinstance(report, Done))


def lost(reports: list[Report]) -> list[Lost]:
    return [report for report in reports if isinstance(report, Lost)]


def processes_named_in(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("process-")) for path in folder.glob("process-*")]


def test_every_shard_is_done_once(engine: str) -> None:
    """Twenty shards over two places come back as twenty reports, and nothing else."""
    reports = distribute(engine, workloads.behave, 20)

    assert done(reports) == list(range(20))
    assert not lost(reports)


@pytest.mark.parametrize(("retries", "is_lost"), [(0, True), (1, True), (2, False)])
def test_failed_shard_is_tried_as_often_as_asked(engine: str, retries: int, *, is_lost: bool) -> None:
    """A shard that succeeds at its third try needs two retries; with fewer it is lost, with its reason."""
    reports = distribute(engine, partial(workloads.fail_at, 3, 2), max_shard_retry=retries)

    assert [report.reason for report in lost(reports)] == (["StorageError: no space left on device"] if is_lost else [])
    assert done(reports) == [number for number in range(6) if number != 3 or not is_lost]


@pytest.mark.parametrize("deaths", [1, 6])
def test_shards_of_a_killed_worker_are_done_again(engine: str, tmp_path: Path, deaths: int) -> None:
    """A worker that is killed over a shard costs nothing but the time, and if it is six in a row, that shard alone."""
    reports = distribute(engine, partial(workloads.die_at, str(tmp_path), 3, deaths))

    given_up = [3] if engine == "ray" and deaths == 6 else []  # Spark itself tries a task four times
    assert [report.shard_id for report in lost(reports)] == given_up
    assert done(reports) == [number for number in range(6) if number not in given_up]


def test_shard_that_kills_its_workers_is_given_up(engine: str, tmp_path: Path) -> None:
    """However often it is tried; the run ends, and all others are done."""
    reports = distribute(engine, partial(workloads.die_at, str(tmp_path), 3, 999))

    assert done(reports) == [0, 1, 2, 4, 5]
    assert [report.shard_id for report in lost(reports)] == [3]


def test_work_that_cannot_start_ends_the_run_with_its_last_words(engine: str) -> None:
    """What breaks everywhere before it does anything is an error with its cause, not an endless repetition."""
    with pytest.raises(WorkerError, match="this library is broken"):
        distribute(engine, workloads.never_start)


def test_stop_lets_open_shards_finish_and_hands_out_no_more(engine: str, tmp_path: Path) -> None:
    """Asked to drain while the first shards are open, a run ends with those."""
    stop = Stop()

    def leave() -> None:
        wait_until(stop.drain.is_set)
        (tmp_path / "leave").touch()

    with ThreadPoolExecutor() as threads:
        threads.submit(leave)
        reports = distribute(
            engine,
            partial(workloads.wait_for_leave, str(tmp_path)),
            20,
            stop=stop,
            ask_when=lambda: any(tmp_path.glob("begun-*")),
            subjob_size=2,
        )
    begun = {path.name for path in tmp_path.glob("begun-*")}

    assert 0 < len(begun) < 20
    assert {f"begun-{number}" for number in done(reports)} == begun
    assert not lost(reports)


def test_shards_that_do_not_finish_in_time_are_dropped(engine: str, tmp_path: Path) -> None:
    """They are neither done nor lost, and who had them is gone soon."""
    work = partial(workloads.hang_and_say_where, str(tmp_path))
    reports = distribute(engine, work, ask_when=lambda: any(tmp_path.iterdir()), grace_s=0)

    assert not done(reports)
    assert not lost(reports)
    wait_until(lambda: not any(map(is_alive, processes_named_in(tmp_path))))


def test_cancelled_run_leaves_nobody_at_work(engine: str, tmp_path: Path) -> None:
    """Also in an engine that goes on for others."""
    work = partial(workloads.hang_and_say_where, str(tmp_path))

    async def run() -> None:
        options = RunOptions(processes_count=2)
        feed = ShardFeed(shards(6), 1)
        running = asyncio.create_task(distributor(engine)(work_for(work), feed, print, Stop(), options))
        await asyncio.to_thread(wait_until, lambda: any(tmp_path.iterdir()))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()

    asyncio.run(run())
    wait_until(lambda: not any(map(is_alive, processes_named_in(tmp_path))))


def test_list_that_breaks_is_told_at_the_end(engine: str) -> None:
    """Shards read before the error are done first; the error is kept for whoever started the run."""

    def breaking() -> Iterator[Shard]:
        yield from shards(3)
        raise InputError("row group 7 is corrupt")

    reports: list[Report] = []
    feed = ShardFeed(breaking(), 1)
    asyncio.run(distributor(engine)(work_for(workloads.behave), feed, reports.append, Stop(), RunOptions()))

    assert done(reports) == [0, 1, 2]
    assert isinstance(feed.error, InputError)


def test_work_knows_how_many_do_it_at_a_time(engine: str) -> None:
    """What is shared by all, such as a host's patience, is divided by the places that there are, or that are needed."""
    told = []

    def work_for_places(processes: int, cores: int) -> Work:
        told.append((processes, cores))
        return workloads.behave

    for count in (1, 20):
        feed = ShardFeed(shards(count), 1)
        asyncio.run(distributor(engine)(work_for_places, feed, lambda _: None, Stop(), RunOptions()))

    assert told == [(1, 1), (2, 1)]


def test_no_more_are_at_work_than_are_asked_for(engine: str, tmp_path: Path) -> None:
    """Also where there is room for more."""
    work = partial(workloads.be_alone, str(tmp_path))
    reports = distribute(engine, work, 10, processes_count=1, subjob_size=2, max_shard_retry=0)

    assert done(reports) == list(range(10))
