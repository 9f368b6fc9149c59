"""Worker processes on this machine, supervised.

One that dies is replaced and its shards are done again; all end with their parent. Each worker is a fresh interpreter
that talks over its standard input and output, in pickles behind their length. ``multiprocessing`` is not used: its pool
waits for ever for a worker that was killed (CPython issue 66587), and its spawn runs the user's script again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from async_img2ds.errors import WorkerError
from async_img2ds.records import Done, Lost, Progress, Shard, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from async_img2ds.distributors.base import ShardFeed, Stop, Work
    from async_img2ds.options import RunOptions
    from async_img2ds.records import Report

__all__ = ["child", "run_local"]

logger = logging.getLogger(__name__)

# Time for a worker that was told to stop at once to remove what it has half written, before it is killed.
STOP_S: Final = 2.0
# Workers that die one after the other before they ask for work have a cause that the next one meets, too.
FAILED_STARTS_MAX: Final = 3
# What a library writes without an end of line is passed on in pieces of this size.
LINE_BYTES_MAX: Final = 8192
_LENGTH_BYTES: Final = 8
# -P keeps the working folder off sys.path, where a file of the user's could stand in for a standard
# module. A terminal sends Ctrl-C, and a scheduler SIGTERM, to the whole process group; what follows from
# it for the workers is their parent's to say.
_BOOT: Final = (
    "import signal as s; s.signal(s.SIGINT, s.SIG_IGN); s.signal(s.SIGTERM, s.SIG_IGN); "
    "import async_img2ds.distributors.local as l; l.child()"
)


@dataclass(frozen=True, slots=True)
class Want:
    """A worker has room for another shard."""


@dataclass(frozen=True, slots=True)
class End:
    """There are no more shards for this worker."""


async def run_local(
    work: Work, feed: ShardFeed, emit: Callable[[Report], None], processes: int, stop: Stop, options: RunOptions
) -> None:
    """Run *work* in *processes* processes at a time until *feed* is empty.

    Raises:
        WorkerError: processes cannot be started, or die before they ask for work.

    """
    crew = _Crew(work, feed, emit)
    try:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(stop, feed, crew, options.grace_s))
            async with asyncio.TaskGroup() as slots:
                for _ in range(processes):
                    slots.create_task(crew.keep_one())
            watch.cancel()
    except BaseExceptionGroup as group:
        known: BaseException | None = group.subgroup(WorkerError)
        while isinstance(known, BaseExceptionGroup):
            known = known.exceptions[0]
        if known is None:
            raise
        raise known from None


async def _watch(stop: Stop, feed: ShardFeed, crew: _Crew, grace_s: float) -> None:
    """Obey *stop*: no new shards, then a time of grace for the open ones, then an end."""
    await stop.drain.wait()
    feed.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(grace_s):
            await stop.now.wait()
    crew.stop_all()
    await asyncio.sleep(STOP_S)
    crew.kill_all()


@dataclass(slots=True)
class _Crew:
    """The workers of a run."""

    work: Work
    feed: ShardFeed
    emit: Callable[[Report], None]
    _workers: set[_Worker] = field(default_factory=set)
    _failed_starts: int = 0
    _stopped: bool = False

    async def keep_one(self) -> None:
        """Keep one worker going as long as there is something to do."""
        # Its first shard is set aside before it is started, or workers that are up sooner would take it.
        while (first := await self.feed.next(alone=True)) is not None:
            worker = _Worker(await _start(), self.emit, first)
            self._workers.add(worker)
            if self._stopped:  # while it was being started
                worker.hang_up()
            try:
                await worker.serve(self.work, self.feed)
            finally:
                self._workers.discard(worker)
                await worker.end()
            self._settle(worker)

    def stop_all(self) -> None:
        """Have every worker drop what it has open."""
        self._stopped = True
        for worker in self._workers:
            worker.hang_up()

    def kill_all(self) -> None:
        """End every worker that has not ended by itself."""
        for worker in self._workers:
            worker.kill()

    def _settle(self, worker: _Worker) -> None:
        """See how a worker ended, and what becomes of the shards that it had open."""
        self._failed_starts = 0 if worker.has_asked else self._failed_starts + 1
        if worker.hung_up:
            return
        if self._failed_starts >= FAILED_STARTS_MAX:
            raise WorkerError(f"worker processes end before they do any work ({worker.ending}): {worker.last_words}")
        if worker.first is not None:  # it was never given, so it had no part in this
            self.feed.give_back(worker.first)
        orphans = list(worker.open.values())
        if orphans:
            logger.warning(
                "worker %d died (%s); %d open shards are done again", worker.pid, worker.ending, len(orphans)
            )
        for shard in orphans:
            if not self.feed.orphaned(shard, alone=len(orphans) == 1):
                self.emit(Lost(worker.pid, shard.id, f"its worker died again and again ({worker.ending})"))
        self.emit(Progress(worker.pid, Tally(), 0))


async def _start() -> asyncio.subprocess.Process:
    """Start one worker process."""
    # Two arenas: glibc otherwise keeps up to eight times the cores of them, each as large as its fullest moment.
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ}
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _BOOT, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
    except OSError as error:
        raise WorkerError(f"cannot start a worker process: {error}") from error


class _Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, emit: Callable[[Report], None], first: Shard) -> None:
        self._process = process
        self._emit = emit
        self.first: Shard | None = first
        self._said: deque[str] = deque(maxlen=20)
        self.open: dict[int, Shard] = {}
        self.has_asked = False
        self._wants = False
        self.hung_up = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        if code is not None and code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return f"killed by {known.get(-code, f'signal {-code}')}"
        return f"exit status {code}"

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        return " | ".join(self._said) or "it said nothing"

    async def serve(self, work: Work, feed: ShardFeed) -> None:
        """Give it shards as it asks, and pass on its reports, until it ends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen_to_errors())
            await self._send(work)
            async for message in self._messages():
                match message:
                    case Want():
                        self.has_asked = self._wants = True
                        await self._give(feed)
                    case Done(shard_id=shard_id):
                        self.open.pop(shard_id, None)
                        self._emit(message)
                        await self._give(feed)
                    case Lost(shard_id=shard_id):
                        shard = self.open.pop(shard_id)
                        if feed.failed(shard):
                            logger.warning("shard %d failed and will be tried again: %s", shard_id, message.reason)
                        else:
                            self._emit(message)
                        await self._give(feed)
                    case Progress():
                        self._emit(message)

    def hang_up(self) -> None:
        """Close its input, at which it drops what it has open and ends."""
        self.hung_up = True
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def end(self) -> None:
        """See that the process is gone."""
        if self._process.returncode is None:
            self.hang_up()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), STOP_S)
        if self._process.returncode is None:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _give(self, feed: ShardFeed) -> None:
        """Answer a wish for a shard, unless what it has open is to be done alone."""
        if not self._wants or any(feed.is_suspect(shard) for shard in self.open.values()):
            return
        self._wants = False
        shard, self.first = self.first, None
        if feed.closed:
            shard = None
        elif shard is None:
            shard = await feed.next(alone=not self.open)
        if shard is None:
            await self._send(End())
        else:
            self.open[shard.id] = shard
            await self._send(shard)

    async def _send(self, message: object) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        # One that is dead or hung up on is noticed by the end of its output.
        with suppress(ConnectionError, RuntimeError):
            stdin.write(_packed(message))
            await stdin.drain()

    async def _messages(self) -> AsyncIterator[object]:
        stdout = self._process.stdout
        assert stdout is not None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int.from_bytes(await stdout.readexactly(_LENGTH_BYTES), "little")
                yield pickle.loads(await stdout.readexactly(length))  # noqa: S301  written by our own child
        await self._process.wait()

    async def _listen_to_errors(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        rest = b""
        while chunk := await stderr.read(LINE_BYTES_MAX):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            self._say(lines)
        self._say([rest])

    def _say(self, lines: list[bytes]) -> None:
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                self._said.append(text)
                logger.warning("worker %d: %s", self.pid, text)


def _packed(message: object) -> bytes:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(_LENGTH_BYTES, "little") + content


def child() -> None:
    """Be a worker process: read the work, then shards, from standard input."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the reports
    parent = _Parent(os.fdopen(os.dup(0), "rb"), output)
    work = parent.read()
    threading.Thread(target=parent.listen, daemon=True, name="parent").start()
    try:
        work(parent.shards(), parent.send, parent.gone)
    except BaseException:  # noqa: BLE001  the process ends here either way
        traceback.print_exc()
        os._exit(1)
    # Not by way of the interpreter's own end, which waits for the lock of a pipe that a daemon thread is reading.
    output.close()
    os._exit(0)


class _Parent:
    """The parent process, as its worker sees it."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._inbox: queue.SimpleQueue[Shard | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self.gone: Future[None] = Future()

    def shards(self) -> Iterator[Shard]:
        """Ask for shards one at a time, each when it is wanted."""
        while True:
            self.send(Want())
            shard = self._inbox.get()
            if shard is None:
                return
            yield shard

    def send(self, message: object) -> None:
        with suppress(BrokenPipeError), self._sending:  # a parent that is gone is noticed by listen
            self._sink.write(_packed(message))
            self._sink.flush()

    def read(self) -> Any:  # noqa: ANN401  whatever the parent sent
        length = int.from_bytes(self._exactly(_LENGTH_BYTES), "little")
        return pickle.loads(self._exactly(length))  # noqa: S301  written by our own parent

    def listen(self) -> None:
        """Take in what the parent sends. When it hangs up or dies, have the work dropped and end soon in any case."""
        try:
            while True:
                message = self.read()
                self._inbox.put(message if isinstance(message, Shard) else None)
        except EOFError:
            self.gone.set_result(None)
            self._inbox.put(None)
            threading.Event().wait(STOP_S)
            os._exit(1)

    def _exactly(self, count: int) -> bytes:
        content = self._source.read(count)
        if len(content) < count:
            raise EOFError
        return content
