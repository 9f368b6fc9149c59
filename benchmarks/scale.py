"""What a driver does with as many shards as 5.8 billion URLs are: 600,000, with its real code and nothing fetched.

Three runs: all shards from a list of few rows each, which shows what a shard costs; shards of 10,000 rows, which shows
what a row costs; and a second run over the first folder, which finds all of it done.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

import measure
import report

if TYPE_CHECKING:
    from measure import Run

__all__ = ["examine"]

SHARDS: Final = 600_000
FEW_ROWS: Final = 10
ROWS: Final = 10_000
FILE_ROWS: Final = 250_000
CAPTION: Final = (
    "a photograph of something that is described in the sixty characters or so which captions of the web have"
)


def examine(folder: Path, shards: int | None) -> int:
    """Measure and keep it; *shards* are 600,000 unless said otherwise."""
    shards = shards or SHARDS
    told = {"benchmark": "scale", **report.moment(), "machine": report.machine(), "versions": report.own_versions()}
    _write_list(folder / "few", shards * FEW_ROWS)
    many = _driven(folder / "few", folder / "out", FEW_ROWS)
    _write_list(folder / "full", shards // 1000 * ROWS)
    full = _driven(folder / "full", folder / "out-full", ROWS)
    words = ["--input_format", "parquet", "--caption_col", "caption", "--output_folder", str(folder / "out")]
    words += ["--output_format", "webdataset", "--number_sample_per_shard", str(FEW_ROWS), "--oom_shard_count", "6"]
    again = measure.run(["aimg2ds", "fetch", str(folder / "few"), *words, "--progress", "plain"])
    summary = measure.run(["aimg2ds", "summary", str(folder / "out"), "--progress", "none"])
    runs = {"shards of 10 rows": many, "shards of 10,000 rows": full, "all done before": again, "summary": summary}
    counts = dict.fromkeys(runs, shards) | {"shards of 10,000 rows": shards // 1000}
    figures = {name: _figures(run, counts[name]) for name, run in runs.items()}
    for name, found in figures.items():
        print(name, json.dumps(found))
    kept = {**told, "shards": shards, "figures": figures, "runs": {name: _kept(run) for name, run in runs.items()}}
    print("kept in", report.keep_json("scale", kept))
    return max(run.exit_status for run in runs.values())


def _write_list(folder: Path, rows: int) -> None:
    folder.mkdir()
    for number, first in enumerate(range(0, rows, FILE_ROWS)):
        of_file = range(first, min(rows, first + FILE_ROWS))
        urls = [f"https://host{row % 50_021}.example/images/{row:012d}/picture.jpg" for row in of_file]
        table = pa.table({"url": urls, "caption": [f"{row} {CAPTION}" for row in of_file]})
        pq.write_table(table, folder / f"part-{number:05d}.parquet")


def _driven(urls: Path, out: Path, shard_rows: int) -> Run:
    # Imported, as workers must be able to.
    program = [sys.executable, "-c", "import driving; driving.main()"]
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    return measure.run([*program, str(urls), str(out), "--shard_rows", str(shard_rows)], here)


def _figures(run: Run, shards: int) -> dict[str, Any]:
    over_time = run.driver_rss_bytes[:: max(1, len(run.driver_rss_bytes) // 8)]
    return {
        "wall_s": round(run.wall_s, 1),
        "cpu_s": round(run.cpu_s, 1),
        "ms_a_shard": round(1000 * run.wall_s / shards, 3),
        "driver_mb": round(run.driver_rss_bytes_max / 1e6),
        "driver_mb_over_time": [round(rss / 1e6) for _, rss in over_time],
        "worker_mb": round(run.worker_rss_bytes_max / 1e6),
    }


def _kept(run: Run) -> dict[str, Any]:
    run.driver_rss_bytes = run.driver_rss_bytes[:: max(1, len(run.driver_rss_bytes) // 100)]
    return asdict(run)
