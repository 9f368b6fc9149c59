"""Work for supervised processes that behaves and misbehaves in known ways. Importable by worker processes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from async_img2ds.records import Done, Lost, Progress, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from async_img2ds.records import Report, Shard


def behave(shards: Iterator[Shard], emit: Callable[[Report], None], _stop: Future[None]) -> None:
    """Do every shard at once."""
    for shard in shards:
        emit(Progress(os.getpid(), Tally(count=1)))
        emit(Done(os.getpid(), shard.id, Tally(count=shard.row_count, successes=shard.row_count), 0.0))


def behave_with(_ballast: bytes, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Do every shard at once, with what is of no use for it."""
    behave(shards, emit, stop)


def die_at(
    folder: str, shard_id: int, times: int, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]
) -> None:
    """Be killed at a shard, a number of times; *folder* counts them."""
    for shard in shards:
        deaths = len(list(Path(folder).iterdir()))
        if shard.id == shard_id and deaths < times:
            (Path(folder) / f"death-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        behave(iter([shard]), emit, stop)


def die_in_company(
    folder: str, shard_id: int, shards: Iterator[Shard], emit: Callable[[Report], None], _stop: Future[None]
) -> None:
    """Have several shards open at a time, each for a while, and be killed as soon as one of them is *shard_id*."""
    opened = []
    for shard in shards:
        if shard.id == shard_id:
            (Path(folder) / f"death-{len(list(Path(folder).iterdir()))}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        tally = Tally(count=shard.row_count, successes=shard.row_count)
        opened.append(threading.Timer(0.2, emit, [Done(os.getpid(), shard.id, tally, 0.2)]))
        opened[-1].start()
    for timer in opened:
        timer.join()


def fail_at(
    shard_id: int, times: int, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]
) -> None:
    """Lose a shard by an error as long as it was tried less than *times* times before."""
    for shard in shards:
        if shard.id == shard_id and shard.attempt < times:
            emit(Lost(os.getpid(), shard.id, "StorageError: no space left on device", "Traceback …"))
        else:
            behave(iter([shard]), emit, stop)


def never_start(_shards: Iterator[Shard], _emit: Callable[[Report], None], _stop: Future[None]) -> None:
    """Break before asking for anything."""
    raise RuntimeError("this library is broken")


def hang(shards: Iterator[Shard], _emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Take a shard and never end it; go when told to."""
    next(shards)
    stop.result()


def hang_deaf(shards: Iterator[Shard], _emit: Callable[[Report], None], _stop: Future[None]) -> None:
    """Take a shard, never end it, and do not listen either."""
    next(shards)
    time.sleep(600)


def chatter(shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Print to where the reports go, as libraries do, and to standard error."""
    for shard in shards:
        print("noise " * 1000)  # noqa: T201  the noise under test
        sys.stderr.write(f"a warning about shard {shard.id}\n")
        behave(iter([shard]), emit, stop)


def shout(shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Write megabytes to standard error without an end of line, as a progress bar may."""
    sys.stderr.write("x" * 3_000_000)
    behave(shards, emit, stop)


def wait_for_leave(folder: str, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Say in *folder* that a shard is begun, and end it when a file ``leave`` is there."""
    for shard in shards:
        (Path(folder) / f"begun-{shard.id}").touch()
        while not (Path(folder) / "leave").exists():
            time.sleep(0.05)
        behave(iter([shard]), emit, stop)


def wait_with_all_but_the_first(
    folder: str, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]
) -> None:
    """Do shard 0 at once, and the others when a file ``leave`` is in *folder*."""
    for shard in shards:
        while shard.id and not (Path(folder) / "leave").exists():
            time.sleep(0.05)
        behave(iter([shard]), emit, stop)


def hang_and_say_where(
    folder: str, shards: Iterator[Shard], _emit: Callable[[Report], None], stop: Future[None]
) -> None:
    """Take a shard and never end it; *folder* tells the process."""
    next(shards)
    (Path(folder) / f"process-{os.getpid()}").touch()
    stop.result()


def be_alone(folder: str, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Lose a shard while any other is open; *folder* tells."""
    for shard in shards:
        try:
            (Path(folder) / "busy").mkdir()
        except FileExistsError:
            emit(Lost(os.getpid(), shard.id, "not alone"))
            continue
        time.sleep(0.1)
        (Path(folder) / "busy").rmdir()
        behave(iter([shard]), emit, stop)


def get_stuck_at(
    folder: str, shard_id: int, times: int, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]
) -> None:
    """Report, and then never again, at a shard, a number of times; *folder* counts them."""
    for shard in shards:
        before = len(list(Path(folder).iterdir()))
        if shard.id == shard_id and before < times:
            (Path(folder) / f"stuck-{before}").touch()
            emit(Progress(os.getpid(), Tally(count=1)))
            time.sleep(600)
        behave(iter([shard]), emit, stop)


def say_nothing_for(
    seconds: float, shards: Iterator[Shard], emit: Callable[[Report], None], _stop: Future[None]
) -> None:
    """Do every shard without a word in between, each for some time."""
    for shard in shards:
        time.sleep(seconds)
        emit(Done(os.getpid(), shard.id, Tally(count=shard.row_count, successes=shard.row_count), seconds))


def have_no_room(shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Do shard 0, and lose every other one for a reason that is none of its own."""
    for shard in shards:
        if shard.id:
            emit(Lost(os.getpid(), shard.id, "no room", ends="run"))
        else:
            behave(iter([shard]), emit, stop)


def have_no_room_here(folder: str, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
    """Lose every shard, for want of room on its machine, in the first worker that gets one; *folder* tells."""
    shards = iter(shards)
    first = next(shards)
    try:
        (Path(folder) / "poor").mkdir()
    except FileExistsError:
        behave(itertools.chain([first], shards), emit, stop)
        return
    for shard in itertools.chain([first], shards):
        emit(Lost(os.getpid(), shard.id, "no room", ends="worker"))


def report_while_idle(shards: Iterator[Shard], emit: Callable[[Report], None], _stop: Future[None]) -> None:
    """Do every shard at once, and say all the time how it is going."""

    def report() -> None:
        while True:
            emit(Progress(os.getpid(), Tally()))
            time.sleep(0.1)

    threading.Thread(target=report, daemon=True).start()
    for shard in shards:
        emit(Done(os.getpid(), shard.id, Tally(count=shard.row_count, successes=shard.row_count), 0.0))


class Unreadable:
    """What can be sent to a worker and not be read there."""

    def __reduce__(self) -> tuple[object, ...]:
        """Be made there by what fails."""
        return (_fail_in_a_worker, (os.getpid(),))


def _fail_in_a_worker(sender: int) -> Unreadable:
    if os.getpid() != sender:
        raise MemoryError
    return Unreadable()
