"""Benchmarks, run by name: ``nox -s bench -- NAME``. README.md beside this file says what each of them is.

A scenario compares programs, round by round, and says which targets are met. A trial runs ours once and checks every
row of what came out. What was seen is kept in benchmarks/runs/ with the commands, the versions and the machine.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import contest
import guard
import partition
import report
import scale
import soak
import stages
from measure import Run
from scenarios import SCENARIOS
from wholeness import TRIALS

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Run the benchmark that was named; return 1 if what must hold does not. A missed target is no failure."""
    asked = _asked()
    # As Ctrl-C does: servers and programs end with this one, and nothing is left in temporary folders.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        if asked.name == "web":
            return max(run(part, Path(name) / part, asked) for part, run in _web().items())
        if asked.name in SCENARIOS:
            return _compare(asked.name, Path(name), asked)
        if asked.name in TRIALS or asked.name == "pixels":
            return _try(asked.name, Path(name), asked)
        if asked.name == "soak":
            return soak.examine(Path(name), asked.minutes, asked.processes)
        return EXAMINATIONS[asked.name](Path(name), asked.rows)


def _examine_quality(folder: Path, rows: int | None) -> int:
    """What scaled decoding costs in pixels."""
    import quality  # needs numpy, which only those benchmarks have that compare pixels: pyarrow would import it

    return quality.examine(folder, rows)


def _examine_footprint(folder: Path, rows: int | None) -> int:
    """What a shard is beside its images, and what it asks of a store."""
    import footprint  # needs a server that speaks S3, which only this benchmark has

    return footprint.examine(folder, rows)


def _examine_requests(folder: Path, rows: int | None) -> int:
    """What a shard asks of a store."""
    import footprint

    return footprint.examine_requests(folder, rows)


# Name → what runs and keeps it, given a folder for what lies between and the rows that were asked for.
EXAMINATIONS: dict[str, Callable[[Path, int | None], int]] = {
    "stages": stages.examine,
    "quality": _examine_quality,
    "guard": guard.examine,
    "scale": scale.examine,
    "partition": partition.examine,
    "footprint": _examine_footprint,
    "requests": _examine_requests,
}


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted([*SCENARIOS, *TRIALS, *EXAMINATIONS, "pixels", "soak", "web"]))
    parser.add_argument("--rows", type=int, help="rows of the list")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of a scenario")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of a trial, or of soak")
    parser.add_argument("--minutes", type=float, default=soak.MINUTES, help="how long soak lasts")
    parser.add_argument("--pictures", type=Path, help="a folder of JPEGs to compare pixels over")
    return parser.parse_args()


def _web() -> dict[str, Callable[[str, Path, argparse.Namespace], int]]:
    """Return everything about the open web."""
    compared = dict.fromkeys((name for name in SCENARIOS if name.startswith("web-")), _compare)
    return {**compared, **dict.fromkeys((name for name in TRIALS if name.startswith("web-")), _try)}


def _compare(name: str, folder: Path, asked: argparse.Namespace) -> int:
    scenario = SCENARIOS[name]
    versions = report.versions_of(entry.program for entry in scenario.entries.values())
    told = {"machine": report.machine(), **report.moment()}
    folder.mkdir(exist_ok=True)
    came = contest.hold(scenario, folder, asked.rows or scenario.rows, asked.pairs)
    report.keep_contest(name, scenario, came, {**told, "versions": versions, "load_after": report.load()})
    return 1 if came.failures else 0


def _try(name: str, folder: Path, asked: argparse.Namespace) -> int:
    folder.mkdir(exist_ok=True)
    if name == "pixels":
        run, facts = _pixels(folder, asked.pictures)
    else:
        run, facts = TRIALS[name](folder, asked.rows, asked.processes)
    run.driver_rss_bytes = run.driver_rss_bytes[:: max(1, len(run.driver_rss_bytes) // 100)]
    found = {"benchmark": name, **facts, **asdict(run), "versions": report.own_versions(), "machine": report.machine()}
    shown = {key: value for key, value in facts.items() if not isinstance(value, dict)}
    seen = f"wall {run.wall_s:.1f} s, CPU {run.cpu_s:.1f} s, driver at most {run.driver_rss_bytes_max / 1e6:.0f} MB"
    print(*run.summary, json.dumps(shown), seen, sep="\n")
    print(f"a worker at most {run.worker_rss_bytes_max / 1e6:.0f} MB; kept in {report.keep_json(name, found)}")
    return run.exit_status or (0 if facts.get("whole") else 1)


def _pixels(folder: Path, pictures: Path | None) -> tuple[Run, dict[str, object]]:
    """How close the pixels come to img2dataset's, by resize mode and interpolation."""
    import pixels  # needs OpenCV, which no other benchmark does

    began = time.monotonic()
    facts = pixels.measure(folder, pictures)
    return Run(command=sys.argv, wall_s=time.monotonic() - began, cpu_s=time.process_time()), facts


if __name__ == "__main__":
    sys.exit(main())
