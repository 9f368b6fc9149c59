"""Benchmarks, run by name: ``nox -s bench -- photographs``, ``crash``, ``long-list`` or ``pixels``.

Each prepares what it needs, runs ``aimg2ds`` as a user would, watches the whole process tree, checks what
came out, and writes what it saw to benchmarks/runs/ with the command, the versions and the machine. Add
``--rows N`` for a smaller or larger one. ``pixels`` compares images with OpenCV's in this process instead, those of
``--pictures FOLDER`` if it is given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import origin
import photographs
from async_img2ds.images import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS = Path(__file__).parent / "runs"
SAMPLE_S = 0.5
BATCH_ROWS = 250_000


@dataclass
class Run:
    """What was seen of one run of the tool. Memory is resident set size, in bytes."""

    command: list[str]
    exit_status: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    driver_rss_bytes_max: int = 0
    worker_rss_bytes_max: int = 0
    driver_rss_bytes: list[tuple[float, int]] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)


def main() -> int:
    """Run the benchmark that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted([*BENCHMARKS, "pixels"]))
    parser.add_argument("--rows", type=int, help="rows of the list")
    parser.add_argument("--processes", type=int, default=2, help="worker processes")
    parser.add_argument("--pictures", type=Path, help="a folder of JPEGs to compare pixels over")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if asked.name == "pixels":
            run, facts = pixels(folder, asked.pictures)
        else:
            run, facts = BENCHMARKS[asked.name](folder, asked.rows, asked.processes)
    _write(asked.name, run, facts)
    return run.exit_status or (0 if facts.get("whole") else 1)


def photographs_over_http(folder: Path, rows: int | None, processes: int) -> tuple[Run, dict[str, object]]:
    """20,000 photographs, a tenth of them missing, from nginx on loopback into webdataset shards of 1,000."""
    rows = rows or 20_000
    with _photograph_list(folder, rows) as urls:
        run = watch([*_webdataset_command(urls, processes), "--output_folder", str(folder / "out")])
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
        run = watch([*command, "--output_folder", str(folder / "whole")])
        half = rows // 2000
        killed = _watch_and_kill(
            [*command, "--output_folder", str(folder / "worker")], folder / "worker", half, parent=False
        )
        _watch_and_kill([*command, "--output_folder", str(folder / "parent")], folder / "parent", half, parent=True)
        before = _identities(folder / "parent")
        again = watch([*command, "--output_folder", str(folder / "parent")])
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
        run = watch(command)
    counted = sum(json.loads(file.read_bytes())["count"] for file in (folder / "out").glob("*_stats.json"))
    return run, {"rows": rows, "rows_counted": counted, "whole": counted == rows}


def pixels(folder: Path, pictures: Path | None) -> tuple[Run, dict[str, object]]:
    """How close the pixels come to img2dataset's, by resize mode and interpolation."""
    import pixels as comparison  # needs OpenCV, which no other benchmark does

    began = time.monotonic()
    facts = comparison.measure(folder, pictures)
    return Run(command=sys.argv, wall_s=time.monotonic() - began, cpu_s=time.process_time()), facts


BENCHMARKS: dict[str, Callable[[Path, int | None, int], tuple[Run, dict[str, object]]]] = {
    "photographs": photographs_over_http,
    "crash": crash,
    "long-list": long_list,
}


def watch(command: list[str]) -> Run:
    """Run *command*, passing on what it prints, and watch it and its children until it ends."""
    print("$", " ".join(command), flush=True)
    run = Run(command)
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        driver = psutil.Process(process.pid)
        cpu: dict[int, float] = {}
        while process.poll() is None:
            for member in [driver, *_children(driver)]:
                try:
                    times, rss = member.cpu_times(), member.memory_info().rss
                except psutil.Error:
                    continue
                cpu[member.pid] = times.user + times.system
                if member.pid == driver.pid:
                    run.driver_rss_bytes_max = max(run.driver_rss_bytes_max, rss)
                    run.driver_rss_bytes.append((round(time.monotonic() - began, 1), rss))
                else:
                    run.worker_rss_bytes_max = max(run.worker_rss_bytes_max, rss)
            time.sleep(SAMPLE_S)
        assert process.stdout is not None
        run.summary = process.stdout.read().splitlines()
        run.exit_status = process.returncode
    run.wall_s = time.monotonic() - began
    run.cpu_s = sum(cpu.values())
    return run


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


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
            time.sleep(SAMPLE_S / 5)
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


def _write(name: str, run: Run, facts: dict[str, object]) -> None:
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
    }
    packages = ("async-img2ds", "aiohttp", "aiodns", "uvloop", "pyarrow")
    versions = {
        "python": platform.python_version(),
        "images": codec.library(),
        **{package: version(package) for package in packages},
    }
    run.driver_rss_bytes = run.driver_rss_bytes[:: max(1, len(run.driver_rss_bytes) // 100)]
    RUNS.mkdir(exist_ok=True)
    file = RUNS / f"{datetime.now(UTC):%Y-%m-%d-%H%M}-{name}.json"
    file.write_text(
        json.dumps({"benchmark": name, **facts, **asdict(run), "versions": versions, "machine": machine}, indent=1)
        + "\n"
    )
    print(*run.summary, sep="\n")
    print(json.dumps({key: value for key, value in facts.items() if not isinstance(value, dict)}))
    print(
        f"wall {run.wall_s:.1f} s, CPU {run.cpu_s:.1f} s, driver at most {run.driver_rss_bytes_max / 1e6:.0f} MB, ",
        end="",
    )
    print(f"a worker at most {run.worker_rss_bytes_max / 1e6:.0f} MB\nwritten to {file}")


if __name__ == "__main__":
    if shutil.which("aimg2ds") is None:
        sys.exit("aimg2ds is not on the PATH: run this by nox -s bench")
    sys.exit(main())
