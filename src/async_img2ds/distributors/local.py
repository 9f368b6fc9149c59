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
import time
import traceback
from collections import deque
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from async_img2ds import startup
from async_img2ds.distributors.base import obeying
from async_img2ds.distributors.crew import STOP_S, Crew, asked_for
from async_img2ds.errors import ErrorClass, WorkerError
from async_img2ds.recorder import HUNG_STATUS, decodings_in, record_file, set_up
from async_img2ds.records import Shard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from async_img2ds.distributors.base import ShardFeed, Stop, Work, WorkFor
    from async_img2ds.options import RunOptions
    from async_img2ds.recorder import Decoding
    from async_img2ds.records import Report

__all__ = ["child", "run_local", "usable_cores"]

logger = logging.getLogger(__name__)

# What a library writes without an end of line is passed on in pieces of this size.
LINE_BYTES_MAX: Final = 8192
# A start reads some hundred megabytes of libraries, on a shared disk that many others read.
STARTING_S: Final = 600.0
_LENGTH_BYTES: Final = 8
# How a process ends over a defect of the code that it runs; SIGKILL is the system's, short of memory, or somebody's.
_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
# An image that one that is stuck has decoded for so long may be why.
STUCK_OVER_S: Final = 60.0
# What comes before the first report: modules that Python itself loads at its start may have printed something.
_GREETING: Final = b"\0async-img2ds\0"
# -P keeps the working folder off sys.path, where a file of the user's could stand in for a standard
# module. A terminal sends Ctrl-C, and a scheduler SIGTERM, to the whole process group; what follows from
# it for the workers is their parent's to say.
_BOOT: Final = (
    "import signal as s; s.signal(s.SIGINT, s.SIG_IGN); s.signal(s.SIGTERM, s.SIG_IGN); "
    "import async_img2ds.distributors.local as l; l.child()"
)


async def run_local(
    work_for: WorkFor, feed: ShardFeed, emit: Callable[[Report], None], stop: Stop, options: RunOptions
) -> None:
    """Have the shards of *feed* done in processes on this machine.

    Raises:
        WorkerError: processes cannot be started, or die before they ask for work.

    """
    beside = options.ranks_per_node or 1
    cores = cores_among(beside)
    crew = Crew(_started, feed, emit)
    async with obeying(stop, feed, options.grace_s, crew.drop):
        # A list of few shards needs few processes, and each gets more cores instead.
        processes = await feed.look_ahead(options.processes_count or cores)
        await crew.run(work_for(processes=processes * beside, cores=-(-cores // max(1, processes))), processes)


def cores_among(ranks: int) -> int:
    """Return the cores of this process, as one of *ranks* on this machine: many schedulers give each its own."""
    cores = usable_cores()
    return cores if cores < (os.cpu_count() or 1) else max(1, cores // ranks)


def usable_cores() -> int:
    """Return the cores this process may use: by its affinity mask and, in a container, by its share of CPU time."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # "max 100000" or "150000 100000"
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


@asynccontextmanager
async def _started(work: Work) -> AsyncIterator[_Process]:
    """Start one worker process, and see that it has ended."""
    # Two arenas: glibc otherwise keeps up to eight times the cores of them, each as large as its fullest moment.
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ}
    pipe = asyncio.subprocess.PIPE
    record = record_file()
    command = (sys.executable, "-P", "-c", _BOOT, str(record))
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, pass_fds=(record,)
        )
    except OSError as error:
        os.close(record)
        raise WorkerError(f"cannot start a worker process: {error}") from error
    worker = _Process(process, record)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.listen_to_errors())
            # Beside: one that is stuck takes in no more than a pipe holds, and is ended by whoever waits for its words.
            sending = tasks.create_task(worker.send(work))
            try:
                yield worker
            finally:
                sending.cancel()
    finally:
        await worker.end()
        worker.look_back()
        os.close(record)


class _Process:
    """One worker process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, record: int) -> None:
        self._process = process
        self._record = record
        self._said: deque[str] = deque(maxlen=20)
        self.was_stuck = False
        self.ended_over: list[tuple[Decoding, ErrorClass]] = []

    @property
    def number(self) -> int:
        return self._process.pid

    @property
    def starting_s(self) -> float:
        """How long it may take to begin."""
        return STARTING_S

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

    async def send(self, message: object) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        # One that is dead or hung up on is noticed by the end of its output.
        with suppress(ConnectionError, RuntimeError):
            stdin.write(_packed(message))
            await stdin.drain()

    async def messages(self) -> AsyncIterator[Any]:
        stdout = self._process.stdout
        assert stdout is not None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await _skip_to(stdout, _GREETING)
            while True:
                length = int.from_bytes(await stdout.readexactly(_LENGTH_BYTES), "little")
                yield pickle.loads(await stdout.readexactly(length))  # noqa: S301  written by our own child
        await self._process.wait()

    def hang_up(self) -> None:
        """Close its input, at which it drops what it has open and ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self, *, stuck: bool = False) -> None:
        """End the process at once; *stuck* says that it is because nothing was heard of it."""
        self.was_stuck = self.was_stuck or stuck
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """See that the process is gone."""
        if self._process.returncode is None:
            self.hang_up()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), STOP_S)
        if self._process.returncode is None:
            self.kill()
            await self._process.wait()

    def look_back(self) -> None:
        """See over which images it may have ended, if it did by itself."""
        code = self._process.returncode
        decodings = decodings_in(self._record)
        if code == HUNG_STATUS:
            self.ended_over = [(each, ErrorClass.DECODE_TIMEOUT) for each in decodings if each.hung]
        elif code is not None and -code in _CRASHES:
            self.ended_over = [(each, ErrorClass.DECODE_CRASH) for each in decodings]
        elif self.was_stuck:  # in code that lets nothing else of its process run
            old_ns = time.monotonic_ns() - int(STUCK_OVER_S * 1e9)
            self.ended_over = [(each, ErrorClass.DECODE_TIMEOUT) for each in decodings if each.since_ns < old_ns]

    async def listen_to_errors(self) -> None:
        """Pass on what it writes to its standard error, and keep the end of it."""
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
                logger.warning("worker %d: %s", self.number, text)


async def _skip_to(stream: asyncio.StreamReader, mark: bytes) -> None:
    """Read *stream* to the end of *mark*."""
    while True:
        try:
            await stream.readuntil(mark)
        except asyncio.LimitOverrunError as error:
            await stream.readexactly(error.consumed)
        else:
            return


def _packed(message: object) -> bytes:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(_LENGTH_BYTES, "little") + content


def child() -> None:
    """Be a worker process: read the work, then shards, from standard input."""
    startup.begin()
    startup.keep_pandas_out()
    set_up(int(sys.argv[1]))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the reports
    output.write(_GREETING)
    parent = _Parent(os.fdopen(os.dup(0), "rb"), output)
    work = parent.read()
    threading.Thread(target=parent.listen, daemon=True, name="parent").start()
    startup.settle()
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
        return asked_for(self.send, self._inbox.get)

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
        except BaseException:  # noqa: BLE001  a shard that is not understood or too large for it; nobody else would tell
            traceback.print_exc()
            os._exit(1)

    def _exactly(self, count: int) -> bytes:
        content = self._source.read(count)
        if len(content) < count:
            raise EOFError
        return content
