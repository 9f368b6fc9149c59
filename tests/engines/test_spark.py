"""What is Spark's own: jobs and their tasks, sessions, and how it is started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import workloads
from async_img2ds import download
from async_img2ds.distributors import spark as spark_distributor
from async_img2ds.distributors.base import ShardFeed, Stop
from async_img2ds.distributors.spark import run_spark
from async_img2ds.errors import OptionsError, WorkerError
from async_img2ds.options import RunOptions
from async_img2ds.records import Done, Shard
from test_run import QUIET, contents, write_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from async_img2ds.distributors.base import Work, WorkFor
    from async_img2ds.records import Report
    from origin import Origin


def work_for(work: Work) -> WorkFor:
    return lambda processes, cores: work  # noqa: ARG005  both are of no use here


def run(
    spark: Any, monkeypatch: pytest.MonkeyPatch, shards: list[Shard], subjob_size: int
) -> tuple[list[int], list[int]]:
    """Return the shards that are done, and the tasks of each Spark job that it took, as Spark itself tells."""
    context, groups = spark.sparkContext, []
    set_group = context.setJobGroup

    def note(group: str, description: str) -> None:
        groups.append(group)
        set_group(group, description)

    monkeypatch.setattr(context, "setJobGroup", note)
    reports: list[Report] = []
    options = RunOptions(subjob_size=subjob_size)
    feed = ShardFeed(iter(shards), 1)
    asyncio.run(run_spark(work_for(workloads.behave), feed, reports.append, Stop(), options))
    tracker = context.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in sorted(tracker.getJobIdsForGroup(groups[0]))]
    tasks = [tracker.getStageInfo(job.stageIds[0]).numTasks for job in jobs]
    return sorted(report.shard_id for report in reports if isinstance(report, Done)), tasks


@pytest.mark.parametrize(("subjob_size", "tasks"), [(1, [1] * 7), (3, [2, 2, 1]), (1000, [2])])
def test_job_has_at_most_subjob_size_shards(
    spark: Any, monkeypatch: pytest.MonkeyPatch, subjob_size: int, tasks: list[int]
) -> None:
    """Seven shards are seven jobs of one, three of three at most, or one."""
    done, told = run(spark, monkeypatch, [Shard(number, b"rows", 10) for number in range(7)], subjob_size)

    assert done == list(range(7))
    assert sorted(told, reverse=True) == tasks


@pytest.mark.parametrize(
    ("count", "rows", "tasks"), [(10, 30_000, [2, 2, 2]), (5, 1_000_000, [2, 2, 1]), (100, 100, [2])]
)
def test_job_has_a_few_minutes_of_work_for_each_place(
    spark: Any, monkeypatch: pytest.MonkeyPatch, count: int, rows: int, tasks: list[int]
) -> None:
    """One task a place, of 60,000 rows; or of a shard, if that is more; or of all that there is."""
    done, told = run(spark, monkeypatch, [Shard(number, b"", rows) for number in range(count)], 1000)

    assert done == list(range(count))
    assert sorted(told, reverse=True) == tasks


@pytest.mark.parametrize("bound", ["HEAP_SHARE", "TASK_BYTES"])
def test_rows_of_a_job_are_bounded(spark: Any, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Where two jobs may have 4 MiB, or a task 1 MiB, ten shards of 1 MiB are five jobs of two."""
    heap = spark.sparkContext._jvm.java.lang.Runtime.getRuntime().maxMemory()
    monkeypatch.setattr(spark_distributor, bound, {"HEAP_SHARE": 4 * 2**20 / heap, "TASK_BYTES": 2**20}[bound])
    done, told = run(spark, monkeypatch, [Shard(number, bytes(2**20), 10) for number in range(10)], 1000)

    assert done == list(range(10))
    assert told == [2] * 5


@pytest.mark.usefixtures("spark")
def test_done_shards_are_told_before_their_job_ends(tmp_path: Path) -> None:
    """A task that has ended is heard of while another of the same job is still at work."""

    def hear(report: Report) -> None:
        if isinstance(report, Done) and report.shard_id == 0:
            (tmp_path / "leave").touch()

    work = partial(workloads.wait_with_all_but_the_first, str(tmp_path))
    feed = ShardFeed((Shard(number, b"", 1) for number in range(2)), 1)
    asyncio.run(asyncio.wait_for(run_spark(work_for(work), feed, hear, Stop(), RunOptions()), 120))


def test_spark_connect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no tasks of the kind that is needed, which is said."""
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")

    with pytest.raises(OptionsError, match="classic"):
        asyncio.run(run_spark(work_for(workloads.behave), ShardFeed(iter([]), 1), lambda _: None, Stop(), RunOptions()))


def elsewhere(_shards: Iterator[Shard], _emit: Callable[[Report], None], _stop: Future[None]) -> None:
    """Do nothing, in a module that workers do not have."""


@pytest.mark.usefixtures("spark")
def test_package_that_workers_do_not_have_is_named() -> None:
    """The run ends after a few jobs that could not begin."""
    feed = ShardFeed((Shard(number, b"", 1) for number in range(3)), 1)

    with pytest.raises(WorkerError, match="No module named 'test_spark'"):
        asyncio.run(run_spark(work_for(elsewhere), feed, lambda _: None, Stop(), RunOptions()))


def test_session_that_was_there_goes_on(spark: Any, origin: Origin, tmp_path: Path) -> None:
    """Whoever made it has it as before."""
    write_list(tmp_path / "urls.txt", origin, 5)
    download(**QUIET, url_list=tmp_path / "urls.txt", output_folder=tmp_path / "out", distributor="pyspark")

    assert spark.range(3).count() == 3


SCRIPT = """
from async_img2ds import download
from pyspark import SparkContext
print(download(**{options!r}).count, SparkContext._active_spark_context)
"""


def test_session_of_its_own_is_stopped(origin: Origin, tmp_path: Path) -> None:
    """Where there is none, one is made for the time of the run; workers run on the Python that the program runs on."""
    write_list(tmp_path / "urls.txt", origin, 25)
    options = {
        **QUIET,
        "url_list": str(tmp_path / "urls.txt"),
        "output_folder": str(tmp_path / "out"),
        "number_sample_per_shard": 10,
        "distributor": "pyspark",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYSPARK_PYTHON"}
    environment["PATH"] = "/usr/bin:/bin"  # where python3 is another one, or none
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(options=options)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )

    assert ran.stdout.split() == ["25", "None"], ran.stderr


def test_program_that_spark_submit_starts_runs_where_it_says(origin: Origin, tmp_path: Path) -> None:
    """The command line as a file that spark-submit takes: the master is the one that it was told."""
    write_list(tmp_path / "urls.txt", origin, 25)
    (tmp_path / "fetch.py").write_text("from async_img2ds.cli import main\nmain()\n")
    (tmp_path / "log").mkdir()
    settings = {"ui.enabled": "false", "eventLog.enabled": "true", "eventLog.compress": "false"}
    settings["eventLog.dir"] = (tmp_path / "log").as_uri()
    options = {**QUIET, "processes_count": 1, "number_sample_per_shard": 5, "output_format": "webdataset"}
    ran = subprocess.run(
        [
            *(Path(sys.executable).parent / "spark-submit", "--master", "local[1]"),
            *(word for name, value in settings.items() for word in ("--conf", f"spark.{name}={value}")),
            *(tmp_path / "fetch.py", "fetch", tmp_path / "urls.txt", "--output_folder", tmp_path / "out"),
            *("--distributor", "pyspark", *(f"--{name}={value}" for name, value in options.items())),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    log = "".join(path.read_text() for path in (tmp_path / "log").rglob("*") if path.is_file())

    assert ran.returncode == 0, ran.stderr
    assert len(contents(tmp_path / "out")) == 25
    assert '"App Name":"async-img2ds"' in log
    assert '"spark.master":"local[1]"' in log


def test_machine_without_java_is_told_what_it_lacks(tmp_path: Path) -> None:
    """The run ends as one whose workers would not run, with a sentence, and leaves no folder."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    aimg2ds = Path(sys.executable).parent / "aimg2ds"
    ran = subprocess.run(
        [aimg2ds, "fetch", tmp_path / "urls.txt", "--output_folder", tmp_path / "out", "--distributor", "pyspark"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
    )

    assert ran.returncode == 3
    assert "aimg2ds: cannot start Spark" in ran.stderr
    assert "Java" in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


STOPPED = """
import threading, time
from pathlib import Path
from pyspark.sql import SparkSession
from async_img2ds import download
settings = {{"spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false", "spark.log.level": "FATAL"}}
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()

def stop():
    while not any(Path({out!r}).glob("*.partial*")):
        time.sleep(0.1)
    session.stop()

threading.Thread(target=stop, daemon=True).start()
try:
    download(**{options!r})
except Exception as error:
    print(type(error).__name__, error)
"""


def test_session_that_is_stopped_in_the_midst_ends_the_run_with_a_sentence(origin: Origin, tmp_path: Path) -> None:
    """As a notebook does in another cell."""
    write_list(tmp_path / "urls.txt", origin, 2000)
    out = str(tmp_path / "out")
    options = {**QUIET, "url_list": str(tmp_path / "urls.txt"), "output_folder": out, "crawl_delay": 0.2}
    options |= {"distributor": "pyspark", "number_sample_per_shard": 10}
    script = STOPPED.format(out=out, options=options)
    ran = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)

    assert ran.stdout.startswith("WorkerError Spark has ended in the midst of the run"), ran.stderr
    assert ran.returncode == 0
