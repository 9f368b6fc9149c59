"""A store that fails, is slow, or goes away: what is ready for it waits, and no more than there is room for."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

import s3 as object_store
from async_img2ds.storage import open_store
from async_img2ds.worker.process import OPEN_SHARDS_MAX
from origin import free_port
from processes import wait_until
from stores.program import Program
from stores.servers import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from origin import Origin
    from s3 import Proxy, Request

ROWS, ROWS_PER_SHARD = 60, 10


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[Place, Proxy]]:
    """S3 behind a proxy that fails when it is told to."""
    with object_store.serving() as (_, proxy):
        fs = fsspec.filesystem(
            "s3",
            key="none",
            secret="none",
            endpoint_url=f"http://127.0.0.1:{proxy.store_port}",
            client_kwargs={"region_name": "us-east-1"},
        )
        # What botocore does, which is to ask five times within seconds, is not what is tested.
        variables = {
            **object_store.CREDENTIALS,
            "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "AWS_MAX_ATTEMPTS": "1",
        }
        yield Place("s3", f"s3://{object_store.BUCKET}", proxy.store_port, fs, variables, 0), proxy


@pytest.fixture
def faulty(store: tuple[Place, Proxy]) -> Iterator[Proxy]:
    """The proxy, which fails no more behind the test."""
    proxy = store[1]
    yield proxy
    proxy.plan = lambda _: None


@pytest.fixture
def at_once(faulty: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The proxy, which passes requests on beside each other."""
    monkeypatch.setattr(faulty, "_one_by_one", nullcontext())
    return faulty


@pytest.fixture
def at_store(store: tuple[Place, Proxy], tmp_path: Path) -> Program:
    return Program(store[0], tmp_path)


def write_list(folder: Path, web: Origin, rows: int) -> str:
    """Write a list of *rows* URLs that are all good, and return its path."""
    path = folder / "urls.txt"
    path.write_text("".join(web.url(f"rocket.jpg?{n}\n") for n in range(rows)))
    return str(path)


def fetch(program: Program, urls: str, out: str, **further: Any) -> str:
    return program.fetch(urls, out, output_format="webdataset", number_sample_per_shard=ROWS_PER_SHARD, **further)


@pytest.mark.parametrize("fault", [object_store.Fault.ERROR, object_store.Fault.ERROR_AFTER, object_store.Fault.RESET])
def test_outage_costs_no_shard_and_no_image(
    at_store: Program, faulty: Proxy, web: Origin, tmp_path: Path, fault: object_store.Fault
) -> None:
    """Each file is put there when that is possible again, and no image is asked for twice."""
    failed: Counter[str] = Counter()

    def plan(request: Request) -> object_store.Fault | None:
        if not request.writes or request.key.endswith(".aimg2ds-run"):
            return None
        failed[request.key] += 1
        return fault if failed[request.key] <= 2 else None

    faulty.plan = plan
    web.forget_requests()
    fetch(at_store, write_list(tmp_path, web, ROWS), f"{at_store.place.root}/{fault.name}")

    assert len(web.requests()) == ROWS
    assert len(at_store.place.shards(f"{at_store.place.root}/{fault.name}")) == 3 * ROWS // ROWS_PER_SHARD
    assert sum(count > 2 for count in failed.values()) == 3 * ROWS // ROWS_PER_SHARD
    assert at_store.place.pending() == []


def test_run_that_waits_for_a_store_ends_when_it_is_told_to(
    at_store: Program, faulty: Proxy, web: Origin, tmp_path: Path
) -> None:
    """At once, with nothing left behind; the same command goes on when the store does."""
    refused = threading.Event()

    def plan(request: Request) -> object_store.Fault | None:
        if not request.key.endswith(".tar"):
            return None
        refused.set()
        return object_store.Fault.ERROR

    faulty.plan = plan
    out = f"{at_store.place.root}/stopped"
    urls = write_list(tmp_path, web, ROWS)
    words = [f"--number_sample_per_shard={ROWS_PER_SHARD}", "--output_format=webdataset", "--allow_net=127.0.0.0/8"]
    with at_store.start("fetch", urls, f"--output_folder={out}", *words, "--grace_s=0") as run:
        assert refused.wait(60)
        run.terminate()
        said, _ = run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGTERM, said
    assert at_store.place.shards(out) == {}
    assert at_store.staged() == []

    faulty.plan = lambda _: None
    fetch(at_store, urls, out)
    assert len(at_store.place.shards(out)) == 3 * ROWS // ROWS_PER_SHARD


def test_upload_that_does_not_get_on_holds_up_no_other_shard(
    at_store: Program, at_once: Proxy, web: Origin, tmp_path: Path
) -> None:
    """Those behind it are fetched and committed meanwhile."""
    goes_on, held = threading.Event(), threading.Lock()

    def plan(request: Request) -> None:
        if request.key.endswith(".tar") and held.acquire(blocking=False):
            goes_on.wait()

    at_once.plan = plan
    out = f"{at_store.place.root}/held"
    words = [f"--number_sample_per_shard={ROWS_PER_SHARD}", "--output_format=webdataset", "--allow_net=127.0.0.0/8"]
    with at_store.start("fetch", write_list(tmp_path, web, 10 * ROWS), f"--output_folder={out}", *words) as run:
        try:
            wait_until(lambda: len([name for name in at_store.place.files(out) if name[0] != "."]) >= 3 * 59)
            was_held = len([name for name in at_store.place.files(out) if name.endswith(".tar")]) == 59
        finally:
            goes_on.set()
        said, _ = run.communicate()

    assert was_held
    assert run.returncode == 0, said
    assert len(at_store.place.shards(out)) == 3 * 60


def test_shards_that_wait_for_their_upload_are_bounded(
    at_store: Program, at_once: Proxy, web: Origin, tmp_path: Path
) -> None:
    """While no upload gets on, fetching goes on for as many shards as a worker may have open, and then it waits."""
    goes_on = threading.Event()
    held: set[str] = set()

    def plan(request: Request) -> None:
        if request.key.endswith(".tar"):
            held.add(request.key)
            goes_on.wait()

    at_once.plan = plan
    web.forget_requests()
    most = 2 * OPEN_SHARDS_MAX * ROWS_PER_SHARD
    out = f"{at_store.place.root}/slow"
    words = [f"--number_sample_per_shard={ROWS_PER_SHARD}", "--output_format=webdataset", "--allow_net=127.0.0.0/8"]
    # Of connections there are ten otherwise, and a shard begins with a look whether it is finished.
    program = replace(at_store, further={"FSSPEC_S3_CONFIG_KWARGS": '{"max_pool_connections": 200}'})
    with program.start("fetch", write_list(tmp_path, web, most + 500), f"--output_folder={out}", *words) as run:
        try:
            wait_until(lambda: len(held) >= most // ROWS_PER_SHARD)
            fetched = len(web.requests())
        finally:
            goes_on.set()
        said, _ = run.communicate()

    assert fetched == most
    assert run.returncode == 0, said
    assert len(at_store.place.shards(out)) == 3 * (most + 500) // ROWS_PER_SHARD


def sessions(pid: int) -> list[int]:
    """Return the processes below *pid* that no other is below."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [last for child in children for last in sessions(child) or [child]]


def test_connection_that_is_lost_is_opened_anew(sftp: Place, web: Origin, tmp_path: Path) -> None:
    """As often as that happens; no shard is lost by it, and no image asked for twice."""
    program = Program(sftp, tmp_path)
    out = f"{sftp.root}/lost"
    web.forget_requests()
    words = [f"--number_sample_per_shard={ROWS_PER_SHARD}", "--output_format=webdataset", "--allow_net=127.0.0.0/8"]
    urls = write_list(tmp_path, web, 10 * ROWS)
    folder = Path(sftp.path(out))
    cuts = 0
    with program.start("fetch", urls, f"--output_folder={out}", *words) as run:
        for done in (5, 20, 40):
            wait_until(lambda done=done: len(list(folder.glob("*_stats.json"))) >= done)  # type: ignore[misc]
            for session in sessions(sftp.pid):
                os.kill(session, signal.SIGKILL)
                cuts += 1
        said, _ = run.communicate()

    assert cuts >= 3
    assert run.returncode == 0, said
    assert len(web.requests()) == 10 * ROWS
    assert re.search(r"shards: 60 done", said), said
    assert len(sftp.shards(out)) == 3 * 60


def test_what_is_half_written_on_a_machine_is_not_seen(sftp: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither under its final name, nor, when the run has ended or the next begun, under another; others' stays."""
    url = f"{sftp.root}/half"
    store = open_store(url)
    store.prepare()
    attempt = store.apart()
    attempt.stage("00000.tar").write_bytes(b"images")

    def put_half(_: str, final: str) -> None:
        store._fs.pipe_file(final, b"ima")  # type: ignore[attr-defined]
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(store._fs, "put_file", put_half)  # type: ignore[attr-defined]
        with pytest.raises(PermissionError):
            attempt.publish("00000.tar")
    half = set(sftp.files(url))
    attempt.discard("00000.tar")
    attempt.release()
    store.close()
    ended = set(sftp.files(url))
    for name in ("00001.parquet.0123abcd.partial", "notes.partial"):
        sftp.write(f"{url}/{name}", b"of a run that was killed, or of somebody else")
    later = open_store(url)
    later.prepare()
    begun = set(sftp.files(url)) - {".aimg2ds-run"}
    later.close()

    assert any(re.fullmatch(r"00000\.tar\.[0-9a-f]{8}\.partial", name) for name in half)
    assert "00000.tar" not in half
    assert ended == set()
    assert begun == {"notes.partial"}


# The libraries of the others try for minutes before they say so.
@pytest.mark.parametrize("name", ["s3", "sftp"])
def test_server_that_does_not_answer_is_not_refused(
    request: pytest.FixtureRequest, web: Origin, tmp_path: Path, name: str
) -> None:
    """Nobody has typed anything wrong: by its status the same command may go on later; nothing is fetched."""
    place: Place = request.getfixturevalue(name)
    nowhere = {key: value.replace(str(place.port), str(free_port())) for key, value in place.variables.items()}
    web.forget_requests()
    program = Program(replace(place, variables=nowhere), tmp_path)
    said = program.fetch(write_list(tmp_path, web, 1), f"{place.root}/nobody", status=3)

    assert re.search("aimg2ds: output_folder: .* cannot be reached now", said), said
    assert "Traceback" not in said
    assert web.requests() == []


def test_unknown_host_is_refused(sftp: Place, web: Origin, tmp_path: Path) -> None:
    """As ssh itself would: whoever answers in its place would get the dataset. It is said how to make it known."""
    (tmp_path / "known_hosts").write_text("")
    program = Program(sftp, tmp_path, {"FSSPEC_SSH_KNOWN_HOSTS": str(tmp_path / "known_hosts")})
    said = program.fetch(write_list(tmp_path, web, 1), f"{sftp.root}/unknown", status=2)

    assert "Host key is not trusted" in said
    assert "ssh-keyscan" in said
    assert sftp.files(f"{sftp.root}/unknown") == {}
