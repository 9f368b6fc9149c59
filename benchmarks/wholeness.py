"""Whole runs that check what came out, row by row: many photographs, a crash, an outage, a list of millions.

Each prepares what it needs, runs ``aimg2ds`` as a user would, and returns what was seen of the run and facts, of which
``whole`` says whether the dataset is what it must be.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import tarfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import corpus
import measure
import name_server
import origin
import photographs
import web
from async_img2ds.errors import ErrorClass
from async_img2ds.options import Options
from async_img2ds.outputs.base import Output, open_writer
from async_img2ds.policy.markers import SCHEMA_VERSION, Marker, digest_of_urls
from async_img2ds.policy.schema import Columns
from async_img2ds.policy.shards import Naming
from async_img2ds.records import Encoded, Row, Sample, Status, Tally
from async_img2ds.storage import Attempt, LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from measure import Run

__all__ = ["TRIALS"]

BATCH_ROWS: Final = 250_000
# When a name server goes, and for how long: in the midst of a run, and longer than any look-up is waited for.
OUTAGE_AFTER_S: Final = 4.0
OUTAGE_S: Final = 30.0
POLL_S: Final = 0.1


def photographs_over_http(folder: Path, rows: int | None, processes: int) -> tuple[Run, dict[str, object]]:
    """20,000 photographs, a tenth of them missing, from nginx on loopback into webdataset shards of 1,000."""
    rows = rows or 20_000
    with _photograph_list(folder, rows) as urls:
        run = measure.run([*_webdataset_command(urls, processes), "--output_folder", str(folder / "out")])
    found = _contents(folder / "out")
    succeeded = {key for key, row in found.items() if row[1] == "success"}
    stored = list(_images(folder / "out"))
    whole = len(found) == rows and len(stored) == len(succeeded) and {key for key, _ in stored} == succeeded
    facts = {"rows": rows, "metadata_rows": len(found), "successes": len(succeeded), "tar_keys": len(stored)}
    return run, {**facts, "whole": whole}


def crash(folder: Path, rows: int | None, processes: int) -> tuple[Run, dict[str, object]]:
    """The same photographs: left alone, with a worker killed half way, with the parent killed and run again."""
    rows = rows or 20_000
    with _photograph_list(folder, rows) as urls:
        command = _webdataset_command(urls, processes)
        run = measure.run([*command, "--output_folder", str(folder / "whole")])
        half = rows // 2000
        killed = _watch_and_kill(
            [*command, "--output_folder", str(folder / "worker")], folder / "worker", half, parent=False
        )
        _watch_and_kill([*command, "--output_folder", str(folder / "parent")], folder / "parent", half, parent=True)
        before = _identities(folder / "parent")
        again = measure.run([*command, "--output_folder", str(folder / "parent")])
    whole = _contents(folder / "whole")
    facts = {
        "rows": rows,
        "metadata_rows": len(whole),
        "committed_when_parent_was_killed": len([name for name in before if name.endswith("_stats.json")]),
        "worker_killed_same_dataset": killed == 0 and _contents(folder / "worker") == whole,
        "parent_killed_same_dataset": again.exit_status == 0 and _contents(folder / "parent") == whole,
        "committed_shards_untouched": before.items() <= _identities(folder / "parent").items(),
    }
    return run, {
        **facts,
        "whole": len(whole) == rows and all(value for value in facts.values() if isinstance(value, bool)),
    }


def verification(folder: Path, rows: int | None, processes: int) -> tuple[Run, dict[str, object]]:
    """See what it takes to check a dataset: 1,000,000 rows in shards of 10,000, of which one in ten has failed."""
    rows = rows or 1_000_000
    dataset = folder / "dataset"
    image = (web.small_picture(folder) / "small.jpg").read_bytes()
    asyncio.run(_write_dataset(dataset, rows, image))
    run = measure.run(["aimg2ds", "verify", str(dataset), "--processes_count", str(processes), "--progress", "plain"])
    size = sum(path.stat().st_size for path in dataset.iterdir())
    return run, {"rows": rows, "bytes": size, "rows_a_second": round(rows / run.wall_s), "whole": run.exit_status == 0}


async def _write_dataset(folder: Path, rows: int, image: bytes) -> None:
    """Write webdataset shards of one image with the program's own writers, without fetching anything."""
    options = Options.of(url_list="none", output_format="webdataset")
    naming = Naming(options.input.number_sample_per_shard, options.output.oom_shard_count)
    store = LocalStore(folder)
    store.prepare()
    width, height = Image.open(io.BytesIO(image)).size
    made = Encoded(image, width, height, width, height, "{}", hashlib.sha256(image).hexdigest())
    for shard_id in range(-(-rows // naming.rows_per_shard)):
        count = min(naming.rows_per_shard, rows - shard_id * naming.rows_per_shard)
        urls = pa.table({"url": [f"http://h{shard_id % 100}.example/{number}.jpg" for number in range(count)]})
        tally, began = Tally(), time.time()
        async with Attempt.open(store) as attempt:
            columns = Columns(exif=True, digest="sha256")
            output = Output(attempt, naming.shard(shard_id), urls, columns, "jpg", captions=False)
            writer = await open_writer("webdataset", output)
            for number, url in enumerate(urls.column("url").to_pylist()):
                row = Row(number, naming.key(shard_id, number), url)
                sample = Sample(row, Status.SUCCESS, made, None, None, 200, 1, len(image))
                if number % 10 == 0:
                    said = ErrorClass.HTTP_STATUS_4XX, "HTTP Error 404: Not Found", 404, 1
                    sample = Sample(row, Status.FAILED_TO_DOWNLOAD, None, *said)
                await writer.write(sample)
                tally.add(sample)
            await writer.finish()
            files, digest = await attempt.sums(), digest_of_urls(urls.column("url"))
            marker = Marker(tally, began, time.time() - began, files, digest, options.shape(), SCHEMA_VERSION)
            await attempt.commit(naming.stats(shard_id), marker.to_json())
    store.close()


def long_list(folder: Path, rows: int | None, processes: int) -> tuple[Run, dict[str, object]]:
    """See whether memory grows with the list.

    5,000,000 rows of parquet, one in fifty alive, the others refused, with dummy output.
    """
    rows = rows or 5_000_000
    photographs.write_all(folder / "pictures")
    with origin.serve(folder / "pictures") as server:
        _write_long_list(folder / "urls.parquet", rows, server)
        command = [
            "aimg2ds",
            "fetch",
            str(folder / "urls.parquet"),
            "--input_format",
            "parquet",
            "--caption_col",
            "caption",
        ]
        command += ["--output_folder", str(folder / "out"), "--output_format", "dummy", "--retries", "0"]
        command += ["--processes_count", str(processes), "--allow_net", "127.0.0.0/8"]
        run = measure.run(command)
    counted = sum(json.loads(file.read_bytes())["count"] for file in (folder / "out").glob("*_stats.json"))
    return run, {"rows": rows, "rows_counted": counted, "whole": counted == rows}


def outage(folder: Path, rows: int | None, processes: int) -> tuple[Run, dict[str, object]]:
    """The same list with a name server that is there, and with one that is killed for half a minute in mid-run."""
    rows = rows or 6_000
    names = [f"host-{number}.test" for number in range(rows)]
    records = (f"{name}. 300 IN A {web.HOSTS[number % len(web.HOSTS)]}" for number, name in enumerate(names))
    with origin.serve(corpus.images(), addresses=web.HOSTS) as server, name_server.serve(records) as known:
        urls = folder / "urls.txt"
        urls.write_text("\n".join(web.corpus_urls(rows, lambda n, picture: server.url(picture, names[n]))))
        command = [*_webdataset_command(urls, processes), "--dns_servers", known.address]
        undisturbed = measure.run([*command, "--output_folder", str(folder / "undisturbed")])
        failing = threading.Timer(OUTAGE_AFTER_S, known.kill)
        healing = threading.Timer(OUTAGE_AFTER_S + OUTAGE_S, known.start)
        failing.start()
        healing.start()
        run = measure.run([*command, "--output_folder", str(folder / "disturbed")])
        failing.join()
        healing.join()
    expected, found = _contents(folder / "undisturbed"), _contents(folder / "disturbed")
    failed = Counter(row[2] for row in found.values() if row[1] != "success")
    facts = {
        "rows": rows,
        "metadata_rows": len(found),
        "failed": dict(failed),
        "undisturbed_s": round(undisturbed.wall_s, 1),
        "outage_s": OUTAGE_S,
        "same_dataset": found == expected,
        "noticed": run.wall_s > undisturbed.wall_s + OUTAGE_S / 2,
    }
    return run, {**facts, "whole": found == expected and len(found) == rows and bool(facts["noticed"])}


TRIALS: Final[dict[str, Callable[[Path, int | None, int], tuple[Run, dict[str, object]]]]] = {
    "photographs": photographs_over_http,
    "crash": crash,
    "long-list": long_list,
    "web-outage": outage,
    "verify": verification,
}


def _write_long_list(path: Path, rows: int, server: origin.Origin) -> None:
    schema = pa.schema([("url", pa.string()), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, BATCH_ROWS):
            numbers = range(start, min(rows, start + BATCH_ROWS))
            urls = [
                server.url(f"microaneurysms.png?{number}")
                if number % 50 == 0
                else (
                    f"http://127.{(number >> 16) % 200 + 2}.{(number >> 8) % 256}.{number % 254 + 1}:9"
                    f"/images/{number:09d}/photo.jpg"
                )
                for number in numbers
            ]
            captions = [
                f"a caption with the number {number} and a few more words, to be of the usual length"
                for number in numbers
            ]
            writer.write_table(pa.table([urls, captions], schema=schema))


@contextmanager
def _photograph_list(folder: Path, rows: int) -> Iterator[Path]:
    """Serve the photographs, and yield a list of *rows* of them, of which every tenth is not there."""
    names = sorted(photographs.write_all(folder / "pictures"))
    with origin.serve(folder / "pictures") as server:
        paths = [f"gone-{number}.jpg" if number % 10 == 0 else names[number % len(names)] for number in range(rows)]
        (folder / "urls.txt").write_text("".join(f"{server.url(path)}?{number}\n" for number, path in enumerate(paths)))
        yield folder / "urls.txt"


def _webdataset_command(urls: Path, processes: int) -> list[str]:
    command = ["aimg2ds", "fetch", str(urls), "--output_format", "webdataset", "--number_sample_per_shard", "1000"]
    return [*command, "--processes_count", str(processes), "--allow_net", "127.0.0.0/8"]


def _watch_and_kill(command: list[str], out: Path, shards: int, *, parent: bool) -> int:
    """Run *command*, kill its parent or one of its workers (-9) once *shards* are committed; return its exit status."""
    print("$", " ".join(command), " # and kill", "the parent" if parent else "a worker", flush=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while len(list(out.glob("*_stats.json"))) < shards and process.poll() is None:
            time.sleep(POLL_S)
        driver = psutil.Process(process.pid)
        workers = driver.children()
        (driver if parent else workers[0]).kill()
        status = process.wait()
    psutil.wait_procs(workers, timeout=10)
    return status


def _identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each file of a committed shard."""
    stems = [path.name.removesuffix("_stats.json") for path in folder.glob("*_stats.json")]
    files = [path for stem in stems for path in folder.glob(f"{stem}[._]*")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def _contents(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what matters of each row by key: URL, status, class, hash of the original, hash of the stored image."""
    images = {key: hashlib.sha256(image).hexdigest() for key, image in _images(folder)}
    table = pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("*.parquet")))
    columns = ["url", "status", "error_class", "sha256"]
    rows = table.select(["key", *columns]).to_pylist()
    assert len({row["key"] for row in rows}) == len(rows), "a key is there twice"
    return {row["key"]: (*(row[name] for name in columns), images.get(row["key"], "")) for row in rows}


def _images(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(folder.glob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    content = tar.extractfile(member)
                    assert content is not None
                    yield member.name.removesuffix(".jpg"), content.read()
