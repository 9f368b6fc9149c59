"""Twenty thousand URLs on several machines, one of which dies, and how fast the engines are: ``nox -s fleet``.

``same`` has one list fetched by this machine, Spark, Ray and three ranks. In the midst of each an executor, an actor, a
worker or a rank is killed; all datasets must be the same, byte for byte, and whole. ``throughput`` measures what Spark
and Ray do of the benchmarks' list in the time of this machine's own processes, from the first shard to the last.
``drivers`` measures what the drivers of both take for shards of 2 MB that are done as soon as they arrive.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

import origin as origin_server
import photographs
from async_img2ds import verify
from clusters import QUIET_SPARK, TESTS, actors, executors, ran, ray_nodes, spark_cluster
from processes import wait_until, workers_of
from test_run import write_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHARD_ROWS: Final = 500
KILLED_AFTER: Final = 8  # shards
RANKS: Final = 3
# What a dataset may have beside its shards.
ENDINGS: Final = frozenset({".tar", ".parquet", ".json"})

Options = dict[str, Any]


def options(urls: Path, out: Path, **further: object) -> Options:
    return {
        "url_list": str(urls),
        "output_folder": str(out),
        "output_format": "webdataset",
        "number_sample_per_shard": SHARD_ROWS,
        "allow_net": "127.0.0.0/8",
        "ordered": True,
        "retries": 0,
        "processes_count": 2,
        "progress": "none",
        **further,
    }


def markers(folder: Path) -> list[Path]:
    return list(folder.glob("*_stats.json")) if folder.exists() else []


def fetched(described: Options, kill: Callable[[int], None], **environment: str) -> float:
    """Run, and have *kill* kill what it likes of the driver's process half way; return the seconds it took."""
    spark = environment.pop("spark", None)
    settings = {**QUIET_SPARK, "spark.master": spark} if spark else None
    began = time.monotonic()
    with ran(described, settings, **environment) as (driver, report):
        wait_until(lambda: len(markers(Path(described["output_folder"]))) >= KILLED_AFTER, 300)
        kill(driver.pid)
    assert report[0]["complete"], report
    return time.monotonic() - began


def locally(urls: Path, out: Path) -> float:
    return fetched(options(urls, out), lambda driver: os.kill(workers_of(driver)[0], signal.SIGKILL))


def on_spark(urls: Path, out: Path) -> float:
    with spark_cluster() as master:
        described = options(urls, out, distributor="pyspark", subjob_size=8)
        return fetched(described, lambda _: os.kill(executors()[0], signal.SIGKILL), spark=master)


def on_ray(urls: Path, out: Path) -> float:
    with ray_nodes() as nodes:
        return fetched(
            options(urls, out, distributor="ray"),
            lambda _: nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False),
            RAY_ADDRESS=nodes.address,
        )


def on_actors(urls: Path, out: Path) -> float:
    with ray_nodes() as nodes:
        described = options(urls, out, distributor="ray")
        return fetched(described, lambda _: os.kill(actors()[0], signal.SIGKILL), RAY_ADDRESS=nodes.address)


def as_ranks(urls: Path, out: Path) -> float:
    """Kill the second of three, and run it again while the others go on."""
    began = time.monotonic()
    commands = [command(options(urls, out, rank=rank, world_size=RANKS, processes_count=1)) for rank in range(RANKS)]
    with ExitStack() as ends:
        ranks = [ends.enter_context(subprocess.Popen(words, stdout=subprocess.DEVNULL)) for words in commands]
        wait_until(lambda: len(markers(out)) >= KILLED_AFTER, 300)
        workers = workers_of(ranks[1].pid)
        ranks[1].kill()
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        ranks[1].wait()
        assert len(markers(out)) < 20_000 / SHARD_ROWS
        subprocess.run(commands[1], check=True, stdout=subprocess.DEVNULL)
        assert [ranks[0].wait(), ranks[2].wait()] == [0, 0]
    return time.monotonic() - began


def command(described: Options) -> list[str]:
    words = [f"--{name}={value}" for name, value in described.items() if name != "url_list"]
    return [str(Path(sys.executable).parent / "aimg2ds"), "fetch", described["url_list"], *words]


WAYS: Final[dict[str, Callable[[Path, Path], float]]] = {
    "multiprocessing, a worker killed": locally,
    "pyspark, an executor killed": on_spark,
    "ray, a node killed": on_ray,
    "ray, an actor killed": on_actors,
    "rank, one of three killed": as_ranks,
}


def same(rows: int) -> dict[str, Any]:
    """Return what each way came to, compared with a run that was left alone."""
    with served_photographs() as (folder, server):
        urls = folder / "urls.txt"
        write_list(urls, server, rows)
        subprocess.run(command(options(urls, folder / "whole")), check=True, stdout=subprocess.DEVNULL)
        found = {}
        for number, (name, way) in enumerate(WAYS.items()):
            out = folder / f"out-{number}"
            seconds = way(urls, out)
            found[name] = {"seconds": round(seconds, 1), **compared(out, folder / "whole")}
            print(f"{name}: {found[name]}", flush=True)
        return found


@contextmanager
def served_photographs() -> Iterator[tuple[Path, origin_server.Origin]]:
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        pictures = Path(name) / "pictures"
        pictures.mkdir()
        photographs.write_all(pictures)
        whole = (pictures / "rocket.jpg").read_bytes()
        (pictures / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
        with origin_server.serve(pictures) as server:
            yield Path(name), server


def compared(out: Path, whole: Path) -> dict[str, Any]:
    """Return in what the dataset *out* is not *whole*."""
    names = sorted(path.name for path in whole.glob("[!.]*"))
    tables = [name for name in names if name.endswith(".parquet")]
    counts = [
        [json.loads((folder / path.name).read_text())["status_dict"] for path in sorted(markers(whole))]
        for folder in (out, whole)
    ]
    return {
        "rows": sum(pq.read_metadata(out / name).num_rows for name in tables),
        "same_names": sorted(path.name for path in out.glob("[!.]*")) == names,
        "other_archives": [
            name for name in names if name.endswith(".tar") and (out / name).read_bytes() != (whole / name).read_bytes()
        ],
        "other_tables": [name for name in tables if not pq.read_table(out / name).equals(pq.read_table(whole / name))],
        "same_counts": counts[0] == counts[1],
        "verified": verify(str(out), deep=True, progress="none").good,
    }


def is_same(found: Mapping[str, Any], rows: int) -> bool:
    return bool(
        found["rows"] == rows
        and found["same_names"]
        and not found["other_archives"]
        and not found["other_tables"]
        and found["same_counts"]
        and found["verified"]
    )


def throughput(rows: int, rounds: int) -> dict[str, Any]:
    """Return images a second, from the first shard's begin to the last one's end, of each in turn, *rounds* times."""
    import web  # with the corpus of the benchmarks, which is made first

    rates: dict[str, list[float]] = {"multiprocessing": [], "pyspark": [], "ray": []}
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as name,
        web.http(Path(name), rows) as served,
        spark_cluster() as master,
        ray_nodes(1, cpus=2) as nodes,
    ):
        spark = {**QUIET_SPARK, "spark.master": master}
        for number in range(rounds):
            for engine, kept in rates.items():
                out = Path(name) / f"{engine}-{number}"
                described = options(served.lists["urls"].path, out, distributor=engine, ordered=False, retries=2)
                described |= {"number_sample_per_shard": 250, "input_format": "parquet"}
                with ran(described, spark if engine == "pyspark" else None, RAY_ADDRESS=nodes.address) as (_, report):
                    pass
                assert report[0]["successes"] == rows, report
                told = [json.loads(path.read_text()) for path in markers(out)]
                seconds = max(each["end_time"] for each in told) - min(each["start_time"] for each in told)
                kept.append(round(rows / seconds, 1))
                print(f"{engine}: {kept[-1]} images/s", flush=True)
    paired = {
        engine: statistics.median(one / local for one, local in zip(kept, rates["multiprocessing"], strict=True))
        for engine, kept in rates.items()
    }
    return {"images_per_s": rates, "ratio_to_multiprocessing": {name: round(each, 3) for name, each in paired.items()}}


# Rows of a shard of 10,000 URLs and captions, which the driver sends to a worker.
SENT_BYTES: Final = 2_000_000
DRIVER = """
import asyncio, json, sys, time
import workloads
from async_img2ds.distributors.base import ShardFeed, Stop, distributor
from async_img2ds.options import RunOptions
from async_img2ds.records import Shard
engine, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
told = []
feed = ShardFeed((Shard(number, bytes(size), 10_000) for number in range(count)), 1)
began = time.monotonic()
work = lambda processes, cores: workloads.behave
asyncio.run(distributor(engine)(work, feed, told.append, Stop(), RunOptions(distributor=engine, processes_count=2)))
print(json.dumps({"seconds": time.monotonic() - began, "reports": len(told)}))
"""


def drivers(shards: int) -> dict[str, Any]:
    """Return of each engine how many shards a second its driver hands out, and how much memory it takes for that."""
    import measure  # with psutil, as the benchmarks have it

    found = {}
    with ray_nodes(1, cpus=2) as nodes:
        environment = {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
        environment |= {"RAY_ADDRESS": nodes.address, "PYSPARK_PYTHON": sys.executable}
        for engine in ("multiprocessing", "pyspark", "ray"):
            command = [sys.executable, "-c", DRIVER, engine, str(shards), str(SENT_BYTES)]
            run = measure.run(command, environment)
            seconds = json.loads(run.summary[-1])["seconds"]
            # What it started: the largest of them is Spark's JVM, which is the driver, too.
            found[engine] = {
                "shards_per_s": round(shards / seconds, 1),
                "driver_mb": round(run.driver_rss_bytes_max / 1e6),
                "largest_below_it_mb": round(run.worker_rss_bytes_max / 1e6),
            }
            print(f"{engine}: {found[engine]}", flush=True)
    return found


def main() -> int:
    """Do what was asked for; return 1 if a dataset was another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="same,throughput,drivers", help="of these three, with commas")
    parser.add_argument("--rows", type=int, default=20_000, help="of the list that all fetch")
    parser.add_argument("--measured_rows", type=int, default=6_000, help="of the list by which speed is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sent_shards", type=int, default=3_000, help="that drivers hand out")
    parser.add_argument("--record", type=Path, help="a file to write the figures to")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found: dict[str, Any] = {}
    parts = asked.parts.split(",")
    if "same" in parts:
        found["same"] = same(asked.rows)
    if "throughput" in parts:
        found["throughput"] = throughput(asked.measured_rows, asked.rounds)
        print(found["throughput"]["ratio_to_multiprocessing"])
    if "drivers" in parts:
        found["drivers"] = drivers(asked.sent_shards)
    if asked.record:
        _record(asked.record, found)
    return 0 if all(is_same(each, asked.rows) for each in found.get("same", {}).values()) else 1


def _record(path: Path, found: dict[str, Any]) -> None:
    import report as figures  # needs psutil, which only benchmarks and this do

    kept = {
        "benchmark": "fleet",
        "command": ["nox", "-s", "fleet", "--", *sys.argv[1:]],
        **figures.moment(),
        **found,
        "versions": {**figures.own_versions(), **_engines()},
        "machine": figures.machine(),
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def _engines() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("pyspark", "ray")}


if __name__ == "__main__":
    sys.exit(main())
