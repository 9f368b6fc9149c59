"""Clusters of several nodes, which lose one in the midst of a run: the dataset is that of a run on one machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds import download, verify
from clusters import QUIET_SPARK, actors, executors, ran, ray_nodes, spark_cluster
from processes import wait_until
from s3 import BUCKET, CREDENTIALS, serving
from test_run import QUIET, contents, write_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from origin import Origin
    from s3 import Bucket

ROWS = 900
SHARD_ROWS = 15


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """An object store that all that is started below knows."""
    with serving() as (store, proxy), pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.store_port}"}.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture(scope="module")
def cluster(bucket: Bucket) -> Iterator[str]:  # noqa: ARG001  executors have the environment of their worker
    with spark_cluster(workers=3) as master:
        yield master


@pytest.fixture
def whole(origin: Origin, tmp_path: Path) -> dict[str, tuple[Any, ...]]:
    """The dataset of a run on this machine."""
    write_list(tmp_path / "urls.txt", origin, ROWS)
    assert download(**options(tmp_path, "whole")).complete
    return contents(tmp_path / "whole")


def options(tmp_path: Path, out: str, **further: object) -> dict[str, Any]:
    return {
        **QUIET,
        "url_list": str(tmp_path / "urls.txt"),
        "output_folder": str(tmp_path / out),
        "output_format": "webdataset",
        "number_sample_per_shard": SHARD_ROWS,
        "ordered": True,
        **further,
    }


def markers(folder: Path) -> int:
    return len(list(folder.glob("*_stats.json"))) if folder.exists() else 0


def strangers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix not in (".tar", ".parquet", ".json", ".toml")]


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two folders have the same archives, byte for byte."""
    names = [sorted(path.name for path in folder.glob("*.tar")) for folder in (one, other)]
    return names[0] == names[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in names[0])


SPARKS = {
    "standalone": {},
    "dynamic allocation": {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
    },
}


@pytest.mark.parametrize("kind", SPARKS)
def test_executor_that_is_killed_costs_nothing(
    cluster: str, whole: dict[str, tuple[Any, ...]], tmp_path: Path, kind: str
) -> None:
    """On a standalone cluster; also where Spark takes executors away that are idle, and starts others."""
    out = tmp_path / "out"
    settings = {**QUIET_SPARK, "spark.master": cluster, **SPARKS[kind]}
    with ran(options(tmp_path, "out", distributor="pyspark", subjob_size=6), settings) as (_, report):
        wait_until(lambda: markers(out) >= 5)
        os.kill(executors()[0], signal.SIGKILL)

    assert report[0]["complete"]
    assert report[0]["count"] == ROWS
    assert contents(out) == whole
    assert same_bytes(out, tmp_path / "whole")
    assert strangers(out) == []
    assert verify(str(out), deep=True).good


def test_local_cluster_of_spark_does_it_too(whole: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    """Executors as processes that Spark itself starts."""
    import pyspark

    settings = {**QUIET_SPARK, "spark.master": "local-cluster[2,1,1024]"}
    home = str(Path(pyspark.__file__).parent)
    out = tmp_path / "out"
    spark = options(tmp_path, "out", distributor="pyspark", subjob_size=4)
    with ran(spark, settings, SPARK_HOME=home, SPARK_LOCAL_IP="127.0.0.1") as (_, report):
        pass

    assert report[0]["complete"]
    assert contents(out) == whole
    assert verify(str(out)).good


@pytest.fixture(scope="module")
def nodes(bucket: Bucket) -> Iterator[Any]:  # noqa: ARG001  as above
    with ray_nodes() as started:
        yield started


def test_node_of_ray_that_is_killed_costs_nothing(
    nodes: Any, whole: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    """With the actor on it; what it had open goes to the other, and to one that comes in its place."""
    out = tmp_path / "out"
    with ran(options(tmp_path, "out", distributor="ray"), RAY_ADDRESS=nodes.address) as (_, report):
        wait_until(lambda: markers(out) >= 5)
        nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()

    assert report[0]["complete"]
    assert report[0]["count"] == ROWS
    assert contents(out) == whole
    assert same_bytes(out, tmp_path / "whole")
    assert strangers(out) == []
    assert verify(str(out), deep=True).good


class Twins(ThreadingHTTPServer):
    """A server that answers the first who asks for a path when somebody else does."""

    def __init__(self, image: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Twin)
        self.image = image
        self.asked: defaultdict[str, list[threading.Event]] = defaultdict(list)
        self.asking = threading.Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def twin_of(self, path: str) -> threading.Event:
        """Return what is set when another has asked for *path*, too."""
        with self.asking:
            self.asked[path].append(threading.Event())
            if len(self.asked[path]) > 1:
                for event in self.asked[path]:
                    event.set()
            return self.asked[path][-1]


class Twin(BaseHTTPRequestHandler):
    server: Twins

    def do_GET(self) -> None:
        assert self.server.twin_of(self.path).wait(50)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.image)))
        self.end_headers()
        self.wfile.write(self.server.image)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def twins(photographs: Path) -> Iterator[Twins]:
    server = Twins((photographs / "rocket.jpg").read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def raylets_of_actors() -> list[int]:
    """Return of each actor the process that manages its node."""
    return [int(Path(f"/proc/{actor}/stat").read_text().rpartition(")")[2].split()[1]) for actor in actors()]


def raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


@pytest.mark.parametrize("asked", ["resources", "placement"])
def test_actors_are_where_they_are_asked_to_be(
    nodes: Any, origin: Origin, twins: Twins, tmp_path: Path, asked: str
) -> None:
    """On the node that has what they take; or each on a node of its own, though one had room for both."""
    urls = [origin.url(f"rocket.jpg?{row}") for row in range(60)]
    urls[0], urls[SHARD_ROWS] = twins.url("a"), twins.url("b")  # in the first shards, which actors get one each
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    added = [nodes.add_node(num_cpus=2, resources={"fetching": 2, f"node{number}": 2}) for number in range(2)]
    nodes.wait_for_nodes()
    there = [raylet(node) for node in added]
    asking: dict[str, dict[str, Any]] = {
        "resources": {"ray_resources": ["node1=1", "memory=1e6"]},
        "placement": {"ray_resources": ["fetching=1"], "ray_placement": "spread", "processes_count": 2},
    }
    with ran(options(tmp_path, "out", distributor="ray", **asking[asked]), RAY_ADDRESS=nodes.address) as (_, report):
        wait_until(lambda: len(twins.asked) == 2 and len(actors()) == 2)
        found = sorted(raylets_of_actors())
        for path in ("/a", "/b"):
            twins.twin_of(path)
    for node in added:
        nodes.remove_node(node)

    assert found == ([there[1]] * 2 if asked == "resources" else sorted(there))
    assert report[0]["count"] == 60


@pytest.mark.parametrize("engine", ["pyspark", "ray"])
def test_object_store_below_an_engine(
    engine: str, cluster: str, nodes: Any, whole: dict[str, tuple[Any, ...]], bucket: Bucket, tmp_path: Path
) -> None:
    """Executors that are killed leave nothing there: no half of a shard, no object of an attempt, no begun upload."""
    described = options(tmp_path, "", distributor=engine, output_folder=f"s3://{BUCKET}/{engine}", subjob_size=4)
    settings = {**QUIET_SPARK, "spark.master": cluster} if engine == "pyspark" else None
    with ran(described, settings, RAY_ADDRESS=nodes.address) as (_, report):
        wait_until(lambda: sum(name.endswith("_stats.json") for name in bucket.versions(engine)) >= 5)
        os.kill((executors if engine == "pyspark" else actors)()[0], signal.SIGKILL)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in bucket.contents(engine).items():
        (copy / name).write_bytes(content)

    assert report[0]["complete"]
    assert bucket.pending(engine) == []
    assert contents(copy) == whole
    assert strangers(copy) == []
    assert same_bytes(copy, tmp_path / "whole")
    assert verify(str(copy), deep=True).good


SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.multiplier": "1.0",
    "spark.speculation.quantile": "0.1",
    "spark.speculation.minTaskRuntime": "1ms",
}


@pytest.mark.parametrize("where", ["disk", "object store"])
def test_task_that_spark_doubles_commits_once(
    cluster: str, bucket: Bucket, origin: Origin, twins: Twins, tmp_path: Path, where: str
) -> None:
    """One of two tasks hangs until its twin is at the same row; then both go on, and come to the commit together."""
    urls = [origin.url(f"rocket.jpg?{row}") for row in range(60)]
    # Tasks have every other shard: one of them has the second and the fourth.
    urls[20], urls[50] = twins.url("20"), twins.url("50")
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
    out = {"disk": str(tmp_path / "out"), "object store": f"s3://{BUCKET}/twins"}[where]
    described = options(tmp_path, "", distributor="pyspark", output_folder=out, processes_count=2)
    with ran(described, {**QUIET_SPARK, "spark.master": cluster, **SPECULATION}) as (_, report):
        pass
    if where == "object store":
        (tmp_path / "out").mkdir()
        for name, content in bucket.contents("twins").items():
            (tmp_path / "out" / name).write_bytes(content)

    assert sorted(map(len, twins.asked.values())) == [2, 2]
    assert report[0]["complete"]
    assert report[0]["count"] == report[0]["successes"] == 60
    assert report[0]["shards_done"] == 4
    assert len(contents(tmp_path / "out")) == 60
    assert strangers(tmp_path / "out") == []
    assert bucket.pending("twins") == []
    assert verify(str(tmp_path / "out"), deep=True).good
