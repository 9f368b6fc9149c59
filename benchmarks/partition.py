"""A list written anew by host: what it takes, and how many shards a host is in before and after.

The list is made here, of hosts that are about as unequal as on the web: a host's rank is log-uniform, so that of half a
million hosts the first has five rows of a hundred and most have a few. Its rows are in no order, as in most lists.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import measure
import report
from async_img2ds.inputs.hosts import hosts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["examine"]

ROWS: Final = 5_000_000
HOSTS: Final = 500_000
SHARD_ROWS: Final = 10_000
GROUP_ROWS: Final = 500_000
# Memory should not depend on the length, so that there is a shorter list and a longer one, by these factors.
LENGTHS: Final = (0.1, 1, 8)
# As many shards as eight machines with two processes each may have open at a time, two in each process.
WINDOW: Final = 32
BUSIEST: Final = 100
SHOWN: Final = (1, 2, 5, 10, 20, 50, 100)
# A host with no more rows may be in one shard.
SMALL_ROWS: Final = SHARD_ROWS // 20


@dataclass(frozen=True, slots=True)
class Host:
    """One of the busiest: its rows, the shards it is in, and how many of WINDOW consecutive ones these are."""

    rows: int
    shards: int
    among_mean: float
    among_most: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the hosts of a list are.

    Attributes:
        hosts: how many there are.
        shards_mean: in how many shards a host is on average,
        shards_most: and at the most.
        small_in_one_share: what part of the hosts that fit into one shard are in one.
        rows_most: the most rows of a host that a shard has.
        busiest: those with the most rows, by rank.

    """

    hosts: int
    shards_mean: float
    shards_most: int
    small_in_one_share: float
    rows_most: int
    busiest: dict[int, Host]


def examine(folder: Path, rows: int | None) -> int:
    """Write lists of about *rows* anew, and keep what that took; return 1 if that failed, or a row is not there."""
    rows = rows or ROWS
    told = {"machine": report.machine(), **report.moment(), "versions": report.own_versions()}
    runs, spreads = {}, {}
    for length in (round(rows * factor) for factor in LENGTHS):
        listed, out = folder / f"{length}.parquet", folder / f"{length}"
        _make(listed, length)
        command = ["aimg2ds", "partition", str(listed), "--input_format", "parquet", "--output_folder", str(out)]
        run = measure.run([*command, "--number_sample_per_shard", str(SHARD_ROWS)])
        runs[length] = _facts(run, listed, out)
        print(*run.summary, json.dumps(runs[length]), sep="\n", flush=True)
        if length == rows:
            spreads = {"before": _spread([listed]), "after": _spread(sorted(out.glob("*.parquet")))}
        for path in (listed, *out.iterdir()):
            path.unlink()
    found = {
        "benchmark": "partition",
        "about": f"{HOSTS:,} hosts of log-uniform rank, shards of {SHARD_ROWS:,} rows.",
        **told,
        "load_after": report.load(),
        "runs": runs,
        "window": WINDOW,
        "spreads": {name: asdict(spread) for name, spread in spreads.items()},
    }
    report.keep("partition", found, _page(rows, found, spreads), chart=False)
    return 0 if all(run["whole"] for run in runs.values()) else 1


def _make(path: Path, rows: int) -> None:
    """Write a list of *rows* in no order of hosts."""
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            chance = pc.random(count, initializer=start)
            rank = pc.cast(pc.floor(pc.power(float(HOSTS), chance)), pa.int64())
            host = pc.cast(rank, pa.string())
            below = pc.cast(pc.bit_wise_and(rank, 1023), pa.string())
            number = pc.cast(pa.array(range(start, start + count)), pa.string())
            names = ("https://images", host, ".example", below, ".org/photographs/2025/06/", number, ".jpg", "")
            url = pc.binary_join_element_wise(*names)
            caption = pc.binary_join_element_wise(
                "a photograph, number", number, "of some that were taken in June", " "
            )
            writer.write_table(pa.table([url, caption, pc.cast(chance, pa.float32())], schema=_SCHEMA))


_SCHEMA: Final = pa.schema([("url", pa.string()), ("caption", pa.string()), ("similarity", pa.float32())])


def _facts(run: measure.Run, listed: Path, out: Path) -> dict[str, Any]:
    """Return what a run took, and whether each row of *listed* is in *out* once."""
    temporary = re.search(r"by way of ([0-9,.]+) MB", "\n".join(run.summary))
    rows = pq.read_metadata(listed).num_rows
    groups = [_row_groups(path) for path in sorted(out.glob("*.parquet"))]
    full = list(itertools.chain.from_iterable(groups))
    return {
        "command": " ".join(run.command),
        "exit_status": run.exit_status,
        "wall_s": round(run.wall_s, 1),
        "cpu_s": round(run.cpu_s, 1),
        "rss_mb_most": round(run.driver_rss_bytes_max / 1e6),
        "list_mb": round(listed.stat().st_size / 1e6, 1),
        "new_list_mb": round(sum(path.stat().st_size for path in out.glob("*.parquet")) / 1e6, 1),
        "temporary_mb_most": float(temporary[1].replace(",", "")) if temporary else None,
        "left_behind": sorted(path.name for path in out.iterdir() if path.name.startswith("aimg2ds-")),
        "whole": _sum([listed]) == _sum(sorted(out.glob("*.parquet")))
        and full[:-1] == [SHARD_ROWS] * (-(-rows // SHARD_ROWS) - 1),
    }


def _row_groups(path: Path) -> list[int]:
    about = pq.read_metadata(path)
    return [about.row_group(at).num_rows for at in range(about.num_row_groups)]


def _sum(paths: Sequence[Path]) -> tuple[int, int, int]:
    """Return what is the same of two lists with the same rows: how many, the sum of their numbers, and of others."""
    rows = total = other = 0
    for batch in _batches(paths):
        number = pc.cast(pc.extract_regex(batch.column("url"), r"/(?P<n>[0-9]+)\.jpg$").field("n"), pa.int64())
        rows += batch.num_rows
        total += pc.sum(number).as_py()
        other += pc.sum(pc.bit_wise_and(pc.multiply(number, number), 2**40 - 1)).as_py()
    return rows, total, other


def _batches(paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=SHARD_ROWS, columns=["url"])


def _spread(paths: Sequence[Path]) -> Spread:
    """Return where the hosts of a list are, whose files hold whole shards."""
    hosts, shards = [], []
    for shard, batch in enumerate(_batches(paths)):
        hosts.append(hosts_of(batch.column("url")))
        shards.append(pa.array([shard] * batch.num_rows, pa.int32()))
    rows = pa.table({"host": pa.chunked_array(hosts), "shard": pa.chunked_array(shards)})
    pairs = rows.group_by(["host", "shard"]).aggregate([([], "count_all")]).rename_columns(["host", "shard", "rows"])
    totals = pairs.group_by("host").aggregate([("shard", "count"), ("rows", "sum")])
    small = totals.filter(pc.less_equal(totals["rows_sum"], SMALL_ROWS))
    first = totals.sort_by([("rows_sum", "descending"), ("host", "ascending")]).slice(0, BUSIEST)
    busiest = {}
    for rank, host in enumerate(first.to_pylist(), 1):
        own = pairs.filter(pc.equal(pairs["host"], host["host"]))["shard"].to_pylist()
        among = _among(own, len(shards))
        busiest[rank] = Host(host["rows_sum"], len(own), round(sum(among) / len(among), 3), max(among))
    return Spread(
        hosts=totals.num_rows,
        shards_mean=round(pairs.num_rows / totals.num_rows, 4),
        shards_most=pc.max(totals["shard_count"]).as_py(),
        small_in_one_share=round(pc.mean(pc.equal(small["shard_count"], 1)).as_py(), 6),
        rows_most=pc.max(pairs["rows"]).as_py(),
        busiest=busiest,
    )


def _among(shards: Sequence[int], count: int) -> list[int]:
    """Return how many of *shards* are among each WINDOW consecutive ones of so many."""
    there = set(shards)
    up_to = list(itertools.accumulate((shard in there for shard in range(count)), initial=0))
    window = min(WINDOW, count)
    return [up_to[first + window] - up_to[first] for first in range(count - window + 1)]


def _page(rows: int, found: dict[str, Any], spreads: dict[str, Spread]) -> list[str]:
    runs, where = found["runs"], found["machine"]
    figures = ("wall_s", "cpu_s", "rss_mb_most", "list_mb", "new_list_mb", "temporary_mb_most")
    heads = ["rows", "wall s", "CPU s", "peak MB", "list MB", "new list MB", "temporary MB"]
    lines = ["# partition", "", "A list written anew by host, `aimg2ds partition`:", ""]
    lines += report.table(
        heads, ([f"{length:,}", *(f"{run[name]}" for name in figures)] for length, run in runs.items())
    )
    lines += ["", f"Where the hosts of {rows:,} rows are, in shards of {SHARD_ROWS:,}:", ""]
    before, after = spreads["before"], spreads["after"]
    whole = [
        ["hosts", f"{before.hosts:,}", f"{after.hosts:,}"],
        ["shards that a host is in, on average", f"{before.shards_mean:.2f}", f"{after.shards_mean:.4f}"],
        ["… at the most", f"{before.shards_most}", f"{after.shards_most}"],
        [
            f"of hosts with at most {SMALL_ROWS} rows, in one shard",
            f"{before.small_in_one_share:.1%}",
            f"{after.small_in_one_share:.2%}",
        ],
        ["rows of one host in a shard, at the most", f"{before.rows_most}", f"{after.rows_most}"],
    ]
    lines += report.table(["", "before", "after"], whole)
    lines += [
        "",
        f"Of {WINDOW} consecutive shards, how many have one of the busiest hosts, on average and at the most:",
        "",
    ]
    among = f"of {WINDOW}, on average"
    heads = ["rank", "rows", "shards before", "after", f"{among}, before", "after", "after, at the most"]
    lines += report.table(heads, _ranks(before, after))
    means = [sum(host.among_mean for host in spread.busiest.values()) / BUSIEST for spread in (before, after)]
    lines += ["", f"Over the busiest {BUSIEST}: {means[0]:.1f} before, {means[1]:.2f} after.", ""]
    lines.append(
        f"{where['cpu']}, {where['cores']} cores, {where['memory_bytes'] / 2**30:.0f} GiB, {where['system']}; "
        f"load {found['load_before']:.1f} before and {found['load_after']:.1f} after. Started {found['started']}. "
        + ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    )
    return [*lines, "", "```sh", *(run["command"] for run in runs.values()), "```"]


def _ranks(before: Spread, after: Spread) -> Iterator[list[str]]:
    for rank in SHOWN:
        old, new = before.busiest[rank], after.busiest[rank]
        yield [
            *(f"{rank}", f"{new.rows:,}", f"{old.shards}", f"{new.shards}"),
            *(f"{old.among_mean:.1f}", f"{new.among_mean:.2f}", f"{new.among_most}"),
        ]
