"""Real clusters on this machine: Spark's own master and workers, Ray's nodes; each as processes that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from origin import free_port, wait_for_port
from processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["QUIET_SPARK", "TESTS", "actors", "executors", "ran", "ray_nodes", "spark_cluster"]

TESTS = Path(__file__).parents[1]
STARTS_S = 120
# A master that tells nobody of what it does.
QUIET_SPARK = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "FATAL",
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
}


def processes_with(words: bytes) -> list[int]:
    """Return the processes whose command line has *words*, the oldest first."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if words in (process / "cmdline").read_bytes():
                found.append((process.stat().st_mtime, int(process.name)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for _, pid in sorted(found)]


def executors() -> list[int]:
    """Return the processes that are executors of Spark, the oldest first."""
    return processes_with(b"CoarseGrainedExecutorBackend\0")


@contextmanager
def spark_cluster(workers: int = 2) -> Iterator[str]:
    """Run a master and *workers*, of a core each, until the end of the block; yield what Spark calls the master."""
    import pyspark

    port = free_port()
    spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    quiet = {"SPARK_DAEMON_MEMORY": "256m", "PYSPARK_PYTHON": sys.executable}
    environment = {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    with ExitStack() as ends, tempfile.TemporaryDirectory(prefix="spark-") as folder:

        def start(host: str, *words: str) -> None:
            log = ends.enter_context((Path(folder) / f"{len(list(Path(folder).iterdir()))}.log").open("wb"))
            command, here = [spark_class, *words, "--host", host], {**environment, "SPARK_LOCAL_IP": host}
            process = subprocess.Popen(command, env=here, stdout=log, stderr=log, cwd=folder)
            ends.callback(process.wait)
            ends.callback(process.kill)

        deploy = "org.apache.spark.deploy"
        ports = ("--port", str(port), "--webui-port", str(free_port()))
        start("127.0.0.1", f"{deploy}.master.Master", *ports)
        wait_for_port(port, seconds=STARTS_S)
        master = f"spark://127.0.0.1:{port}"
        for number in range(workers):
            ports = ("--port", str(free_port()), "--webui-port", str(free_port()))
            size = ("--cores", "1", "--memory", "1g", "--work-dir", f"{folder}/work-{number}")
            # A host of its own, as Spark doubles no task on the host that has it.
            start(f"127.0.0.{number + 2}", f"{deploy}.worker.Worker", master, *ports, *size)
        logs = Path(folder) / "0.log"
        wait_until(lambda: logs.read_text().count("Registering worker") == workers, STARTS_S)
        yield master


@contextmanager
def ray_nodes(count: int = 2, cpus: int = 1) -> Iterator[Any]:
    """Run a Ray cluster of a head that works not and *count* nodes of *cpus* each, until the end of the block."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=cpus)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def actors() -> list[int]:
    """Return the processes that are actors of ours, in any cluster on this machine."""
    return processes_with(b"ray::ShardActor")


SCRIPT = """
import json, sys
told = json.load(sys.stdin)
if told["spark"]:
    from pyspark import SparkConf, SparkContext
    SparkContext(conf=SparkConf().setAll(told["spark"].items()))
from async_img2ds import download
report = download(**told["options"])
print(json.dumps({"count": report.count, "successes": report.successes, "complete": report.complete,
    "shards_done": report.shards_done, "seconds": report.seconds, "lost": report.shards_lost}))
"""


@contextmanager
def ran(
    options: Mapping[str, Any], spark: Mapping[str, str] | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], list[dict[str, Any]]]]:
    """Run a download in a process of its own, with *spark* as settings of its session; yield it and its report.

    At the end of the block it has ended, and the report is there.
    """
    told = json.dumps({"options": {name: str_or_value(value) for name, value in options.items()}, "spark": spark or {}})
    report: list[dict[str, Any]] = []
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYSPARK_PYTHON": sys.executable, **environment},
    )
    said: list[str] = []

    def listen() -> None:
        out, err = process.communicate(told)
        said.append(err)
        report.extend(json.loads(line) for line in out.splitlines() if line.startswith('{"count"'))

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        yield process, report
        listening.join()
        assert process.returncode == 0, said[0][-3000:]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        listening.join()


def str_or_value(value: Any) -> Any:
    """Return *value* as JSON has it."""
    return str(value) if isinstance(value, Path) else value
