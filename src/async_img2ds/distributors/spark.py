"""Spark jobs: shards are gathered into a job and dealt out to tasks, each of which works as a process does locally.

The only module that knows Spark. What a task has to say reaches the driver when it ends, by way of an accumulator,
which Spark adds to once for each task however often it runs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException

from async_img2ds.blocking import begun
from async_img2ds.distributors.base import OpenShards, obeying
from async_img2ds.distributors.local import usable_cores
from async_img2ds.errors import OptionsError, WorkerError
from async_img2ds.records import Lost, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from async_img2ds.distributors.base import ShardFeed, Stop, Work, WorkFor
    from async_img2ds.options import RunOptions
    from async_img2ds.records import Done, Report, Shard

__all__ = ["run_spark"]

logger = logging.getLogger(__name__)

# So that the slots which one job leaves idle at its end find tasks of the next.
OPEN_JOBS_MAX: Final = 2
# A job is as large as gives each place one task of about five minutes, at the 200 rows a second that a core did in
# benchmarks/runs/2026-11-22-1815-photographs.json. A worker hides the slow end of a shard behind the next one, but
# nothing hides that of a task: up to a minute in which only time-outs are left, so it should be a small part. A task
# is also what is done again when a worker dies, and how long the driver waits for news, so it should not be longer.
TASK_ROWS: Final = 60_000
# Spark refuses a task of more than 128 MiB (spark.rpc.message.maxSize). Half of it, as shards are not all alike.
TASK_BYTES: Final = 64 * 2**20
# Rows of all open jobs, as a share of the driver's heap, which holds them a second time while their tasks are sent.
HEAP_SHARE: Final = 1 / 4
# In a local session a task fails so often before its job does, as it may on a cluster (spark.task.maxFailures).
TASK_FAILURES_MAX: Final = 4
# Jobs that fail one after the other and have done nothing have a cause that the next one meets, too.
BARREN_JOBS_MAX: Final = 3
# Between two looks at what tasks have said.
REPORTS_S: Final = 0.5
_FAILED_TASK: Final = re.compile(r"Task (\d+) in stage")


async def run_spark(
    work_for: WorkFor, feed: ShardFeed, emit: Callable[[Report], None], stop: Stop, options: RunOptions
) -> None:
    """Have the shards of *feed* done by the Spark of this process; if there is none, by a local one, which is stopped.

    Raises:
        OptionsError: the session is of a kind that cannot do it.
        WorkerError: Spark cannot be started, or its jobs fail before they do any work.

    """
    ours = SparkContext._active_spark_context is None  # noqa: SLF001  there is no other way to ask without making one
    async with begun(partial(_connect, options, ours=ours), _disconnect if ours else _leave, stop.drain) as spark:
        if spark is None:
            return
        jobs = _Jobs(spark, work_for, feed, emit, options.subjob_size)
        async with obeying(stop, feed, options.grace_s, jobs.drop):
            await jobs.run()


@dataclass(frozen=True, slots=True)
class _Spark:
    """A Spark that can be used.

    Attributes:
        context: PySpark's.
        places: tasks that are to run at a time.
        task_cores: cores that each of them has.
        jobs_max: jobs to have open at a time.
        job_bytes_max: of rows in each of them.

    """

    context: Any
    places: int
    task_cores: int
    jobs_max: int
    job_bytes_max: int


def _connect(options: RunOptions, *, ours: bool) -> _Spark:
    if "SPARK_CONNECT_MODE_ENABLED" in os.environ:
        raise OptionsError("distributor pyspark needs a classic Spark session: Spark Connect does not run its tasks")
    try:
        context = SparkContext.getOrCreate(_configuration(options.processes_count or usable_cores()))
        if ours and context.master.startswith("local") and "PYSPARK_PYTHON" not in os.environ:
            context.pythonExec = sys.executable  # not whichever python3 is first on the path
        heap = context._jvm.java.lang.Runtime.getRuntime().maxMemory()  # noqa: SLF001  PySpark has no name for it
        slots = context.defaultParallelism
        places = options.processes_count or slots
        jobs_max = OPEN_JOBS_MAX if places >= slots else 1  # else nothing but their number would hold tasks back
        return _Spark(
            context=context,
            places=places,
            task_cores=int(context.getConf().get("spark.task.cpus", "1")),
            jobs_max=jobs_max,
            job_bytes_max=min(int(heap * HEAP_SHARE / jobs_max), places * TASK_BYTES),
        )
    except (Py4JError, PySparkException, OSError) as error:
        hint = (
            ". Is Java installed (17 or later for Spark 4), and JAVA_HOME its folder?" if "JAVA" in str(error) else ""
        )
        raise WorkerError(f"cannot start Spark: {_sentence(error)}{hint}") from error


def _configuration(cores: int) -> SparkConf:
    """Return what to start Spark with: as spark-submit says if it has started this process, else on this machine."""
    configuration = SparkConf().setAppName("async-img2ds")
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return configuration
    return configuration.setMaster(f"local[{cores},{TASK_FAILURES_MAX}]").setAll(
        [
            ("spark.driver.host", "127.0.0.1"),  # nobody else is to reach it
            ("spark.driver.bindAddress", "127.0.0.1"),
            ("spark.ui.enabled", "false"),
            ("spark.ui.showConsoleProgress", "false"),  # it would draw over ours
            ("spark.log.level", "ERROR"),
        ]
    )


def _leave() -> None:
    """Leave a session of somebody else's as it is."""


def _disconnect() -> None:
    context = SparkContext._active_spark_context  # noqa: SLF001  as above
    if context is None:
        return
    try:
        context.stop()
    except (Py4JError, OSError):  # its process is gone, and whoever starts Spark next would be led there
        context.stop()  # what is left of it, here
        SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001  PySpark knows no other way


class _Failed(Exception):
    """Spark has refused what was asked of it, or failed at it, for the *cause*."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _asking(context: Any) -> Iterator[None]:  # noqa: ANN401  PySpark's
    """Tell in exceptions of ours what goes wrong with Spark during the block.

    Raises:
        _Failed: what was asked for has failed, and Spark is there.
        WorkerError: Spark is not there any more: its process has ended, or its session was stopped.

    """
    try:
        yield
    except (Py4JError, PySparkException, OSError, AttributeError) as error:
        if _is_over(context):
            raise WorkerError(f"Spark has ended in the midst of the run ({_sentence(error)})") from error
        if isinstance(error, AttributeError):  # which is what it raises of a session that was stopped
            raise
        raise _Failed(cast("Exception", error)) from error


def _is_over(context: Any) -> bool:  # noqa: ANN401  PySpark's
    try:
        return context._jsc is None or bool(context._jsc.sc().isStopped())  # noqa: SLF001  PySpark has no name for it
    except (Py4JError, OSError, AttributeError):
        return True


@dataclass(slots=True, eq=False)
class _Job:
    """Shards that are done together."""

    tasks: list[list[Shard]]
    open: OpenShards
    barren: bool = True


@dataclass(slots=True)
class _Jobs:
    """The jobs of a run."""

    spark: _Spark
    work_for: WorkFor
    feed: ShardFeed
    emit: Callable[[Report], None]
    shards_max: int
    _told: Any = field(init=False)
    _group: str = field(init=False)
    _open: set[_Job] = field(default_factory=set)
    _gathering: asyncio.Lock = field(default_factory=asyncio.Lock)
    _barren: int = 0
    _without_room: int = 0
    _dropped: bool = False

    def __post_init__(self) -> None:
        self._told = self.spark.context.accumulator(deque(), _Told())
        self._group = f"async-img2ds-{uuid.uuid4()}"

    async def run(self) -> None:
        """Run jobs until there is nothing left to do."""
        threads = ThreadPoolExecutor(self.spark.jobs_max, "spark-job")
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self.spark.jobs_max):
                    lanes.create_task(self._run_one_by_one(threads))
        finally:
            threads.shutdown(wait=False)

    async def drop(self) -> None:
        """Have all open jobs cancelled; they are looked at every REPORTS_S."""
        self._dropped = True

    async def _run_one_by_one(self, threads: ThreadPoolExecutor) -> None:
        while shards := await self._gather():
            count = min(len(shards), self.spark.places)
            job = _Job([shards[number::count] for number in range(count)], OpenShards(self.feed, self.emit))
            for shard in shards:
                job.open.add(shard)
            # All places are at work, unless this is all that there is.
            places = count if self.feed.empty and not self._open else self.spark.places
            work = self.work_for(processes=places, cores=self.spark.task_cores)
            self._open.add(job)
            running = asyncio.get_running_loop().run_in_executor(threads, self._submit, job, work)
            try:
                await self._follow(running)
            finally:
                while not running.done():
                    await self._cancel(running)
                self._open.discard(job)
            self._settle(job, running.result())

    async def _gather(self) -> list[Shard]:
        """Return the shards of the next job; none if there is nothing to do now."""
        shards: list[Shard] = []
        rows = size = 0
        places = self.spark.places
        async with self._gathering:
            while (
                len(shards) < self.shards_max
                and size < self.spark.job_bytes_max
                and (len(shards) < places or rows < places * TASK_ROWS)
                and (shard := await self.feed.next(alone=not shards)) is not None
            ):
                shards.append(shard)
                rows, size = rows + shard.row_count, size + len(shard.rows)
                if self.feed.is_suspect(shard):
                    break
        return shards

    def _submit(self, job: _Job, work: Work) -> Exception | None:
        """Run a job in Spark, in a thread of its own as Spark's job groups are of threads; return why it failed."""
        ids = list(job.open)
        context = self.spark.context
        try:
            with _asking(context):
                context.setJobGroup(self._group, f"async-img2ds: {len(ids)} shards from {min(ids)}")
                context.parallelize(job.tasks, len(job.tasks)).foreachPartition(partial(_do, work, self._told))
        except _Failed as failed:
            return failed.cause
        return None

    async def _follow(self, running: asyncio.Future[Exception | None]) -> None:
        """Pass on what is told of the open jobs, until the one that is *running* has ended."""
        while not running.done():
            if self._dropped:
                await self._cancel(running)
            else:
                await asyncio.wait((running,), timeout=REPORTS_S)
            self._pass_on()

    async def _cancel(self, running: asyncio.Future[Exception | None]) -> None:
        """Have Spark cancel all jobs, and see whether the one that is *running* has heard; it may yet be on its way."""
        with suppress(_Failed, WorkerError):  # the job has the same to say
            await asyncio.to_thread(self._cancel_all)
        await asyncio.wait((running,), timeout=REPORTS_S)

    def _cancel_all(self) -> None:
        with _asking(self.spark.context):
            self.spark.context.cancelJobGroup(self._group)

    def _pass_on(self) -> None:
        told: deque[Done | Lost] = self._told.value
        while told:
            report = told.popleft()
            for job in self._open:
                if report.shard_id in job.open:
                    job.open.settle(report)
                    job.barren = False
                    self._without_room += isinstance(report, Lost) and report.ends == "worker"
        if self._without_room >= self.spark.places:  # as many as there are machines at the most
            self.feed.close()

    def _settle(self, job: _Job, error: Exception | None) -> None:
        """See how a job ended, and what becomes of shards of which nothing was told."""
        if self._dropped:
            return
        if not job.open:
            self._barren = 0
            return
        cause = "it told nothing of them" if error is None else _sentence(error)
        logger.warning("a Spark job failed (%s); %d open shards are done again", cause, len(job.open))
        # What failed is the task that Spark names; the others were cancelled for it.
        found = _FAILED_TASK.search(str(error))
        if found and int(found[1]) < len(job.tasks):
            failed = [shard.id for shard in job.tasks[int(found[1])] if shard.id in job.open]
            if job.open.orphan(failed, 0, cause):
                job.barren = False
        job.open.give_back()
        self._barren = self._barren + 1 if job.barren else 0
        if self._barren >= BARREN_JOBS_MAX:
            raise WorkerError(f"Spark jobs fail before they do any work: {cause}")


class _Told:
    """How an accumulator takes in reports: tasks gather them in a list, the driver takes them from a queue."""

    def zero(self, _value: object) -> list[Done | Lost]:
        """Return what a task begins with."""
        return []

    def addInPlace(self, told: Any, more: list[Done | Lost]) -> Any:  # noqa: ANN401, N802  a list or a queue; as PySpark names it
        """Add *more* to what was *told*."""
        told.extend(more)
        return told


def _do(work: Work, told: Any, tasks: Iterator[list[Shard]]) -> None:  # noqa: ANN401  an accumulator
    """Be a task: do its shards."""

    def tell(report: Report) -> None:
        if not isinstance(report, Progress):  # which nobody would see before it is over
            told.add([report])

    for shards in tasks:
        work(iter(shards), tell, Future())


def _sentence(error: BaseException) -> str:
    """Return what matters of an error of Spark: the last line before the Java stack."""
    text = re.split(r"\n\s+at |\n\s*SQLSTATE|JVM stacktrace|Driver stacktrace", str(error))[0]
    lines = [line.strip(" :") for line in text.splitlines() if line.strip(" :")]
    return lines[-1].partition(" Consider setting")[0].rstrip(".") if lines else type(error).__name__
