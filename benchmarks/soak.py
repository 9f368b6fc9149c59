"""What a run takes as time goes on: half an hour at full rate, and the memory and descriptors of each process.

Whatever a process does not give back shows as a slope, which is that of a straight line through the second half: in the
first, caches fill.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import corpus
import origin
import report
from web import HOSTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MINUTES", "examine"]

MINUTES: Final = 30.0
SAMPLE_S: Final = 2.0
# Of each hundred rows in turn. Two cores make about 400 images a second, so a list of four times that does not end.
MIX: Final = {"live": 84, "gone": 8, "refused": 3, "hanging": 3, "reset": 2}
ROWS_A_SECOND: Final = 1600
SHARD_ROWS: Final = 1000
GROUP_ROWS: Final = 100_000  # the list repeats one group of rows, as writing it is not what is measured
HANGING: Final = tuple(f"127.0.2.{number}" for number in range(1, 61))
REFUSING: Final = tuple(f"127.0.3.{number}" for number in range(1, 61))
RESETTING: Final = tuple(f"127.0.7.{number}" for number in range(1, 41))
# A rate is taken over as long as a few shards take.
RATE_S: Final = 30.0
# Open shards have 20 s to end after SIGTERM, and workers 2 s to leave.
DRAIN_MOST_S: Final = 30.0
# So many moments of each process are kept; slopes are those of all.
KEPT: Final = 300


class Moment(NamedTuple):
    """A process at a moment: seconds since the start, megabytes, descriptors, threads. *private_mb* it has alone."""

    second: float
    rss_mb: float
    pss_mb: float
    private_mb: float
    descriptors: int
    threads: int


@dataclass(slots=True)
class _Seen:
    """What was seen of a run: each process by name, and what was committed by when."""

    processes: dict[str, list[Moment]] = field(default_factory=dict)
    committed: list[tuple[float, int, int]] = field(default_factory=list)  # second, images, rows, added up
    classes: Counter[str] = field(default_factory=Counter)
    shards: set[str] = field(default_factory=set)
    lost_images: int = 0


def examine(folder: Path, minutes: float, processes: int) -> int:
    """Run for so many *minutes*, keep what was seen, and return 1 if a row is lost or the run does not end well."""
    told = {"machine": report.machine(), **report.moment(), "versions": report.own_versions()}
    seconds = 60 * minutes
    rows = round(seconds * ROWS_A_SECOND) + GROUP_ROWS
    with _served(folder, rows) as urls:
        command = ["aimg2ds", "fetch", str(urls), "--input_format", "parquet", "--output_format", "webdataset"]
        command += ["--number_sample_per_shard", str(SHARD_ROWS), "--processes_count", str(processes)]
        command += ["--allow_net", "127.0.0.0/8", "--progress", "plain", "--output_folder", str(folder / "out")]
        seen, status, drained_s, said = _watched(command, folder, seconds)
    facts = {
        "minutes": minutes,
        "rows_of_list": rows,
        "rows": seen.committed[-1][2] if seen.committed else 0,
        "images": seen.committed[-1][1] if seen.committed else 0,
        "shards": len(seen.shards),
        "images_lost": seen.lost_images,
        "exit_status": status,
        "drained_s": round(drained_s, 1),
        "left_behind": sorted(path.name for path in (folder / "out").glob("*.partial")),
    }
    whole = bool(seen.shards) and not (seen.lost_images or facts["left_behind"])
    facts["whole"] = whole and status == 128 + signal.SIGTERM and drained_s <= DRAIN_MOST_S
    found = {
        "benchmark": "soak",
        "about": f"Rows in turn: {', '.join(f'{share} of 100 {kind}' for kind, share in MIX.items())}.",
        **told,
        "load_after": report.load(),
        "command": command,
        "facts": facts,
        "slopes": {name: _slopes(moments) for name, moments in seen.processes.items()},
        "error_classes": dict(seen.classes.most_common()),
        "said": said,
        "series": {name: _columns(moments) for name, moments in seen.processes.items()},
        "rates": _rates([moment for moment in seen.committed if moment[0] <= seconds]),
    }
    report.keep("soak", found, _page(found))
    return 0 if facts["whole"] else 1


@contextmanager
def _served(folder: Path, rows: int) -> Iterator[Path]:
    """Serve the corpus on 200 hosts beside hosts that refuse, hang and reset; yield a list of *rows* of all of them."""
    port, closed = origin.free_port(), origin.free_port()
    command = [sys.executable, str(Path(__file__).with_name("rude_origin.py"))]
    command += [str(port), ",".join(HANGING), ",".join(RESETTING)]
    with origin.serve(corpus.images(), addresses=HOSTS) as server, subprocess.Popen(command) as rude:
        try:
            origin.wait_for_port(port, address=RESETTING[-1])
            names = sorted(path.name for path in corpus.images().iterdir())
            hosts = {"refused": (REFUSING, closed), "hanging": (HANGING, port), "reset": (RESETTING, port)}

            def url(number: int) -> str:
                kind, turn = _kind(number), number // 100
                if kind in hosts:
                    addresses, at = hosts[kind]
                    return f"http://{addresses[(turn * 7 + number) % len(addresses)]}:{at}/{number}.jpg"
                name = names[number % len(names)] if kind == "live" else "gone.jpg"
                return f"{server.url(name, HOSTS[number % len(HOSTS)])}?{number}"

            group = pa.table({"url": [url(number) for number in range(GROUP_ROWS)]})
            with pq.ParquetWriter(folder / "urls.parquet", group.schema, use_dictionary=False) as writer:
                for start in range(0, rows, GROUP_ROWS):
                    writer.write_table(group.slice(0, min(GROUP_ROWS, rows - start)))
            yield folder / "urls.parquet"
        finally:
            rude.terminate()


_KINDS: Final = tuple(kind for kind, share in MIX.items() for _ in range(share))


def _kind(number: int) -> str:
    """Return the kind of a row; 37 and 100 have no common factor, so kinds are spread over each hundred."""
    return _KINDS[number * 37 % 100]


def _watched(command: Sequence[str], folder: Path, seconds: float) -> tuple[_Seen, int, float, list[str]]:
    """Run *command*, ask it to stop after *seconds*, and look at it all the time.

    Returns:
        What was seen, the exit status, how many seconds it took to end, and the end of what it said.

    """
    print("$", " ".join(command), flush=True)
    seen, asked_at = _Seen(), None
    with (folder / "said").open("w+") as said:
        began = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT) as process:
            try:
                driver = psutil.Process(process.pid)
                while process.poll() is None:
                    if asked_at is None:  # what it does not need in order to end goes first
                        _look(seen, driver, time.monotonic() - began)
                    _take_away(seen, folder / "out", time.monotonic() - began)
                    if asked_at is None and time.monotonic() - began >= seconds:
                        asked_at = time.monotonic()
                        process.send_signal(signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(SAMPLE_S if asked_at is None else SAMPLE_S / 10)
            finally:
                process.terminate()
        ended_at = time.monotonic()
        _take_away(seen, folder / "out", ended_at - began)
        said.seek(0)
        lines = said.read().splitlines()[-20:]
    return seen, process.returncode, ended_at - asked_at if asked_at else 0.0, lines


def _look(seen: _Seen, driver: psutil.Process, second: float) -> None:
    """Look at each process of a run."""
    with suppress(psutil.Error, OSError):
        # In the order they were started, so that the first keeps its name.
        workers = sorted(driver.children(), key=lambda worker: (worker.create_time(), worker.pid))
        for process in (driver, *workers):
            name = "parent" if process == driver else f"worker {process.pid}"
            moment = _moment(process, second)
            seen.processes.setdefault(name, []).append(moment)


def _moment(process: psutil.Process, second: float) -> Moment:
    sums = Counter[str]()
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sums["private" if name.startswith("Private_") else name.rstrip(":").lower()] += int(size)
    rss_mb, pss_mb, private_mb = (round(sums[name] * 1024 / 1e6, 2) for name in ("rss", "pss", "private"))
    return Moment(round(second, 1), rss_mb, pss_mb, private_mb, process.num_fds(), process.num_threads())


def _take_away(seen: _Seen, out: Path, second: float) -> None:
    """Count the shards that are finished, and remove their images: all of them would be gigabytes."""
    images, rows = seen.committed[-1][1:] if seen.committed else (0, 0)
    before = len(seen.shards)
    for path in out.glob("*_stats.json"):
        stem = path.name.removesuffix("_stats.json")
        if stem in seen.shards:
            continue
        seen.shards.add(stem)
        stats = json.loads(path.read_bytes())
        first = int(stem) * SHARD_ROWS
        live = sum(_kind(number) == "live" for number in range(first, first + stats["count"]))
        seen.lost_images += live - stats["successes"]
        seen.classes.update(stats["error_classes"])
        images, rows = images + stats["successes"], rows + stats["count"]
        for ending in ("tar", "parquet"):
            (out / f"{stem}.{ending}").unlink()
    if len(seen.shards) > before:
        seen.committed.append((round(second, 1), images, rows))


def _slopes(moments: list[Moment]) -> dict[str, float]:
    """Return how much more a process has of each after an hour, by its second half."""
    half = [moment for moment in moments if moment.second >= moments[-1].second / 2]
    return {
        f"{name}_per_hour": round(3600 * _slope([(moment.second, getattr(moment, name)) for moment in half]), 2)
        for name in ("rss_mb", "pss_mb", "private_mb", "descriptors", "threads")
    }


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the straight line with the least squares through *points*."""
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def _columns(moments: list[Moment]) -> dict[str, list[float]]:
    kept = moments[:: -(-len(moments) // KEPT)]
    return {name: [getattr(moment, name) for moment in kept] for name in Moment._fields}


def _rates(committed: list[tuple[float, int, int]]) -> list[tuple[float, float]]:
    """Return images a second over time: pairs of a second, in the middle of a while, and the rate over it."""
    rates, (since, images_then) = [], (0.0, 0)
    for second, images, _ in committed:
        if second - since >= RATE_S:
            rates.append((round((since + second) / 2, 1), round((images - images_then) / (second - since), 1)))
            since, images_then = second, images
    return rates


def _page(found: dict[str, Any]) -> list[str]:
    facts, slopes = found["facts"], found["slopes"]
    heads = ["", "MB at the end", "MB/hour", "private MB/hour", "descriptors", "descriptors/hour", "threads"]
    rows = [
        [
            "parent" if name == "parent" else "a worker",
            f"{found['series'][name]['rss_mb'][-1]:.0f}",
            f"{slopes[name]['rss_mb_per_hour']:+.1f}",
            f"{slopes[name]['private_mb_per_hour']:+.1f}",
            f"{found['series'][name]['descriptors'][-1]:.0f}",
            f"{slopes[name]['descriptors_per_hour']:+.1f}",
            f"{found['series'][name]['threads'][-1]:.0f}",
        ]
        for name in slopes
    ]
    rates = [rate for _, rate in found["rates"]] or [0.0]
    return [
        "# soak",
        "",
        found["about"],
        "",
        f"{facts['images']:,} images of {facts['rows']:,} rows in {facts['minutes']:g} minutes: {median(rates):.0f} "
        f"images a second, {min(rates):.0f} to {max(rates):.0f}. {facts['images_lost']} images lost. Asked to stop, it "
        f"ended in {facts['drained_s']} s with exit status {facts['exit_status']}. "
        f"{'All as it must be.' if facts['whole'] else '**Not as it must be.**'}",
        "",
        "Memory is resident; slopes are those of the second half:",
        "",
        *report.table(heads, rows),
        "",
        f"{found['machine']['cpu']}, {found['machine']['cores']} cores; load {found['load_before']:.1f} before and "
        f"{found['load_after']:.1f} after. Started {found['started']}.",
        "",
        "```sh",
        " ".join(found["command"]),
        "```",
    ]
