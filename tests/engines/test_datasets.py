"""The main job on every engine, end to end: a real engine, a real server, real photographs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds import download
from processes import below, wait_until
from test_run import QUIET, contents, write_list

if TYPE_CHECKING:
    from origin import Origin

ENGINES = ["pyspark", "ray"]


def options(tmp_path: Path, out: str, **further: object) -> dict[str, Any]:
    return {
        **QUIET,
        "url_list": tmp_path / "urls.txt",
        "output_folder": tmp_path / out,
        "output_format": "webdataset",
        "number_sample_per_shard": 10,
        **further,
    }


def test_dataset_is_the_same_as_without_an_engine(engine: str, origin: Origin, tmp_path: Path) -> None:
    """Every row is there once, with the same status and the same image, and the counts say so."""
    write_list(tmp_path / "urls.txt", origin, 95)
    expected = download(**options(tmp_path, "local"))
    report = download(**options(tmp_path, "out", distributor=engine))

    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "out")) == 95
    assert report.complete
    assert report.error_classes == expected.error_classes
    assert (report.count, report.successes, report.shards_done) == (95, expected.successes, 10)
    assert report.bytes_written == expected.bytes_written


@pytest.mark.parametrize("output_format", ["files", "parquet"])
def test_every_format_is_written(engine: str, origin: Origin, tmp_path: Path, output_format: str) -> None:
    """The same files as without an engine, whole and in their places."""
    write_list(tmp_path / "urls.txt", origin, 30)
    for out, distributor in (("local", "multiprocessing"), ("out", engine)):
        assert download(**options(tmp_path, out, distributor=distributor, output_format=output_format)).complete

    def names(out: str) -> set[str]:
        return {str(path.relative_to(tmp_path / out)) for path in (tmp_path / out).rglob("*")}

    assert names("out") == names("local")


def test_lost_shard_makes_the_run_fail_and_can_be_done_later(engine: str, origin: Origin, tmp_path: Path) -> None:
    """A shard whose file cannot be put in place is lost with its reason; without the obstacle the same call does it."""
    write_list(tmp_path / "urls.txt", origin, 30)
    obstacle = tmp_path / "out" / "00001.tar"
    obstacle.mkdir(parents=True)
    (obstacle / "somebody's").touch()
    report = download(**options(tmp_path, "out", distributor=engine))
    assert list(report.shards_lost) == [1]
    assert "StorageError" in report.shards_lost[1]
    assert not report.complete
    assert report.count == 20
    (obstacle / "somebody's").unlink()
    obstacle.rmdir()

    assert download(**options(tmp_path, "out", distributor=engine)).complete
    assert len(contents(tmp_path / "out")) == 30


def command(tmp_path: Path, out: str, engine: str) -> list[str]:
    """Return a command of 60 shards, four in a Spark job, so that a run has many jobs."""
    aimg2ds = str(Path(sys.executable).parent / "aimg2ds")
    given = {**options(tmp_path, out, distributor=engine, subjob_size=4), "url_list": None}
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [aimg2ds, "fetch", str(tmp_path / "urls.txt"), *words]


def markers(folder: Path) -> int:
    return len(list(folder.glob("*_stats.json")))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix not in (".tar", ".parquet", ".json", ".toml")]


def workers(driver: int, engine: str) -> list[int]:
    """Return the processes that work for *driver*: Spark's workers are forks of a daemon, Ray's say what they are."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            if engine == "ray":
                works = words.startswith(b"ray::ShardActor")
            else:
                works = (
                    b"pyspark.daemon" in words
                    and b"pyspark.daemon" in Path(f"/proc/{parent(process.name)}/cmdline").read_bytes()
                )
            if works and driver in ancestors(process.name):
                found.append(int(process.name))
        except FileNotFoundError:
            continue
    return found


def parent(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]


def ancestors(pid: str) -> set[int]:
    found = set()
    while pid not in ("0", "1"):
        pid = parent(pid)
        found.add(int(pid))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_killed_worker_costs_nothing(origin: Origin, tmp_path: Path, engine: str) -> None:
    """The dataset of a run of which a worker was killed half way equals that of a run that was left alone."""
    write_list(tmp_path / "urls.txt", origin, 600)
    assert download(**options(tmp_path, "whole")).complete
    out = tmp_path / "hurt"
    with subprocess.Popen(
        command(tmp_path, "hurt", engine), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: markers(out) >= 5)
        os.kill(workers(process.pid, engine)[0], signal.SIGKILL)
        _, said = process.communicate()

    assert process.returncode == 0, said
    assert contents(out) == contents(tmp_path / "whole")
    assert leftovers(out) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_signal_drains_and_says_so(origin: Origin, tmp_path: Path, engine: str) -> None:
    """Open shards are finished or dropped whole, the exit status names the signal, and the same command goes on."""
    write_list(tmp_path / "urls.txt", origin, 1200)
    out = tmp_path / "out"
    for number in (signal.SIGINT, signal.SIGTERM):
        finished = (markers(out) if out.exists() else 0) + 2  # by this run, which heeds signals once it runs
        with subprocess.Popen(
            [*command(tmp_path, "out", engine), "--grace_s=0.2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_until(lambda finished=finished: markers(out) >= finished)  # type: ignore[misc]
            process.send_signal(number)
            _, said = process.communicate()
        assert process.returncode == 128 + number, said
        assert "run the same command again" in said
        assert leftovers(out) == []
    assert markers(out) < 120

    subprocess.run(command(tmp_path, "out", engine), check=True, capture_output=True)
    assert len(contents(out)) == 1200
    assert markers(out) == 120


@pytest.mark.parametrize(("engine", "heart"), [("pyspark", "java"), ("ray", "raylet")])
def test_engine_that_dies_in_the_midst_ends_the_run_with_a_sentence(
    origin: Origin, tmp_path: Path, engine: str, heart: str
) -> None:
    """Nobody waits for one that was started for this run alone, which leaves nothing half made behind."""
    write_list(tmp_path / "urls.txt", origin, 2000)
    words = options(tmp_path, "out", distributor=engine, crawl_delay=0.2, grace_s=0)
    command = [str(Path(sys.executable).parent / "aimg2ds"), "fetch", str(words.pop("url_list"))]
    command += [f"--{name}={value}" for name, value in words.items()]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        wait_until(lambda: any((tmp_path / "out").glob("*.partial*")))
        for pid in below(run.pid, heart):
            os.kill(pid, signal.SIGKILL)
        _, said = run.communicate(timeout=120)

    assert run.returncode == 3
    assert re.search(
        rf"^aimg2ds: {'Spark' if engine == 'pyspark' else 'Ray'} has ended in the midst", said, re.MULTILINE
    )
    assert "Traceback" not in said
    assert [path.name for path in (tmp_path / "out").glob("*") if "partial" in path.name] == []
