"""What is Ray's own: clusters that are there, those that are not, and actors."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import workloads
from async_img2ds.distributors.base import ShardFeed, Stop
from async_img2ds.errors import WorkerError
from async_img2ds.options import RunOptions
from async_img2ds.records import Done, Progress, Shard
from test_run import QUIET, contents, write_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from async_img2ds.distributors.base import Work, WorkFor
    from async_img2ds.records import Report
    from origin import Origin

ray_distributor = pytest.importorskip("async_img2ds.distributors.ray")
run_ray = ray_distributor.run_ray


def work_for(work: Work) -> WorkFor:
    return lambda processes, cores: work  # noqa: ARG005  both are of no use here


def distribute(work: Work, count: int, processes: int) -> list[Report]:
    reports: list[Report] = []
    feed = ShardFeed((Shard(number, b"rows", 10) for number in range(count)), 1)
    options = RunOptions(processes_count=processes)
    asyncio.run(run_ray(work_for(work), feed, reports.append, Stop(), options))
    return reports


@pytest.mark.usefixtures("ray_cluster")
def test_each_actor_gets_a_shard_before_any_gets_two() -> None:
    """However long one takes to start; and each has a number of its own, wherever it runs."""
    reports = distribute(workloads.behave, 2, 2)

    assert {report.worker for report in reports if isinstance(report, Done)} == {1, 2}
    assert {report.worker for report in reports if isinstance(report, Progress)} == {1, 2}


@pytest.mark.usefixtures("ray_cluster")
def test_more_actors_than_the_cluster_has_room_for_wait_their_turn() -> None:
    """A run that asks for four where there are two CPUs is done all the same."""
    reports = distribute(workloads.behave, 6, 4)

    assert sorted(report.shard_id for report in reports if isinstance(report, Done)) == [0, 1, 2, 3, 4, 5]


def command(tmp_path: Path) -> list[str]:
    words = {**QUIET, "number_sample_per_shard": 10, "output_format": "webdataset", "distributor": "ray"}
    return [
        *(str(Path(sys.executable).parent / "aimg2ds"), "fetch", str(tmp_path / "urls.txt")),
        *("--output_folder", str(tmp_path / "out"), *(f"--{name}={value}" for name, value in words.items())),
    ]


def test_cluster_that_is_named_is_used_and_left_running(ray_cluster: str, origin: Origin, tmp_path: Path) -> None:
    """RAY_ADDRESS says where; it goes on when the run has ended."""
    import ray

    write_list(tmp_path / "urls.txt", origin, 25)
    ran = subprocess.run(
        command(tmp_path), check=False, capture_output=True, text=True, env={**os.environ, "RAY_ADDRESS": ray_cluster}
    )

    assert ran.returncode == 0, ran.stderr
    assert len(contents(tmp_path / "out")) == 25
    assert ray.get(ray.remote(lambda: 3).remote()) == 3


# Where nobody listens; Ray would knock for a quarter of an hour.
NOWHERE = {"RAY_ADDRESS": "127.0.0.1:1"}


def test_cluster_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on its way up for a while; then the run ends as one whose workers would not run, with a sentence."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray_distributor, "KNOCKING_S", 2.0)
    said = r"cannot connect to Ray: nobody listens at 127\.0\.0\.1:1 \(Connection refused\), which RAY_ADDRESS names"

    with pytest.raises(WorkerError, match=said):
        ray_distributor._connect(2)


def test_nobody_waits_for_a_cluster_that_cannot_be_reached(tmp_path: Path) -> None:
    """Ctrl-C ends the run while it is still knocking; it leaves no folder."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    with subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True, env=os.environ | NOWHERE) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "nobody listens at 127.0.0.1:1" in line)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

    assert process.returncode == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--ray_resources=fetching=1",
            "ray_resources: an actor wants 1 of fetching, and the Ray that was started here",
        ),
        ("--ray_cpus=100", "ray_cpus: an actor wants 100 of CPU, and the Ray that was started here has 2"),
    ],
)
def test_what_a_ray_of_its_own_never_has_is_refused(tmp_path: Path, words: str, said: str) -> None:
    """Nobody adds a machine to it, so an actor would wait for ever."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ran = subprocess.run(
        [*command(tmp_path), "--processes_count=2", words],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )

    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_waited_for_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A cluster may get a machine that has it, so nothing is refused; Ctrl-C ends the waiting."""
    monkeypatch.setattr(ray_distributor, "WATCH_S", 0.2)
    monkeypatch.setattr(ray_distributor, "WAITING_S", 0.4)
    stop = Stop()

    async def wait() -> None:
        feed = ShardFeed(iter([Shard(0, b"rows", 10)]), 1)
        options = RunOptions(processes_count=1, ray_resources=("fetching=1",), grace_s=0)
        running = asyncio.create_task(run_ray(work_for(workloads.behave), feed, lambda _: None, stop, options))
        while "no actor has begun" not in caplog.text:
            await asyncio.sleep(0.1)
        stop.ask()
        await running

    asyncio.run(wait())

    assert "each wants 1 of CPU, 1 of fetching, and the cluster has 2 of CPU, 0 of fetching in all" in caplog.text


SCRIPT = """
import signal
def mine(*_): pass
signal.signal(signal.SIGTERM, mine)
from async_img2ds import download
count = download(**{options!r}).count
import ray
print(count, ray.is_initialized(), signal.getsignal(signal.SIGTERM) is mine)
"""


def test_ray_of_its_own_is_shut_down(origin: Origin, tmp_path: Path) -> None:
    """Where there is none, one is started for the time of the run; the program's signals are its own again."""
    write_list(tmp_path / "urls.txt", origin, 25)
    options = {
        **QUIET,
        "url_list": str(tmp_path / "urls.txt"),
        "output_folder": str(tmp_path / "out"),
        "number_sample_per_shard": 10,
        "distributor": "ray",
    }
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(options=options)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )

    assert ran.stdout.split()[-3:] == ["25", "False", "True"], ran.stderr


def elsewhere(_shards: Iterator[Shard], _emit: Callable[[Report], None], _stop: Future[None]) -> None:
    """Do nothing, in a module that workers do not have."""


@pytest.mark.usefixtures("ray_cluster")
def test_package_that_workers_do_not_have_is_named() -> None:
    """The run ends after a few actors that could not be made."""
    with pytest.raises(WorkerError, match="No module named 'test_ray'"):
        distribute(elsewhere, 3, 1)
