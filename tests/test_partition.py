"""A list written anew: every row is there once, hosts are together, and what cannot be done leaves nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from async_img2ds import InputError, OptionsError, PartitionReport, StorageError, download, partition, verify
from async_img2ds.distributors.base import Stop
from async_img2ds.lists import partition as module
from async_img2ds.lists import passes, reading, temporary
from async_img2ds.lists.partition import BESIDE, BESIDE_BEFORE, run_partition
from async_img2ds.lists.passes import numbers_for
from async_img2ds.options import PartitionOptions
from async_img2ds.storage import LIST_SUMMARY, LocalStore
from lists import as_arrow, as_parquet, encoded, written
from processes import wait_until
from test_cli import aimg2ds
from test_room import small_disk

if TYPE_CHECKING:
    from origin import Origin

needs_store = pytest.mark.skipif(find_spec("moto") is None or find_spec("s3fs") is None, reason="needs moto and s3fs")
PARQUET: dict[str, Any] = {"input_format": "parquet", "progress": "none"}


def urls(hosts: int = 40, largest: int = 60) -> list[str]:
    """URLs of hosts, the first of which has the most; in turn, as in a list."""
    counts = [max(1, largest // (place + 1)) for place in range(hosts)]
    rounds = ([host for host, count in enumerate(counts) if count > turn] for turn in range(largest))
    return [f"https://h{host}.test/{turn}.jpg" for turn, hosts_of in enumerate(rounds) for host in hosts_of]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("by-host-*.parquet"))


def table(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in parts(folder))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def seen_from_outside(folder: Path) -> dict[str, tuple[int, int]]:
    """Return of each file what another one in its place would not have."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def is_under_way(folder: Path) -> bool:
    """Whether there are temporary files in *folder*."""
    return bool(list(folder.glob("aimg2ds-*/*")))


def written_anew(folder: Path, content: bytes, name: str = "list.parquet", **options: Any) -> PartitionReport:
    given = {**PARQUET, "number_sample_per_shard": 20, **options}
    return partition(written(folder / name, content), output_folder=folder / "out", **given)


def rows_of(tables: pa.Table) -> Counter[str]:
    return Counter(map(repr, tables.to_pylist()))


def test_every_row_is_there_once_and_hosts_are_together(tmp_path: Path) -> None:
    """Shards are full, few have a host of few rows, and a large host is in all."""
    listed = pa.table({"url": urls(), "number": range(len(urls()))})
    report = written_anew(tmp_path, as_parquet(listed), number_sample_per_shard=40)
    found = table(tmp_path / "out")

    assert found.schema.equals(listed.schema)
    assert rows_of(found) == rows_of(listed)
    assert (report.rows, report.hosts, report.shards) == (listed.num_rows, 40, -(-listed.num_rows // 40))
    assert (report.files, report.is_old, report.interrupted) == (1, False, False)
    assert report.bytes_written == sum(path.stat().st_size for path in parts(tmp_path / "out"))
    shards = [found.slice(at, 40)["url"].to_pylist() for at in range(0, found.num_rows, 40)]
    where = defaultdict(set)
    for number, shard in enumerate(shards):
        for url in shard:
            where[url.split("/")[2]].add(number)
    rows = Counter(url.split("/")[2] for url in urls())
    assert where["h0.test"] >= set(range(len(shards) - 1))
    assert all(len(where[host]) == 1 for host, count in rows.items() if count <= 2)


def test_rows_of_a_host_are_apart_in_a_shard(tmp_path: Path) -> None:
    """Two of it are as many rows apart as others lie between them, about."""
    listed = [f"http://h{number % 10}.test/{number}" for number in range(1000)]
    written_anew(tmp_path, as_parquet(pa.table({"url": listed})), number_sample_per_shard=1000)
    hosts = [url.split("/")[2] for url in table(tmp_path / "out")["url"].to_pylist()]

    for host in set(hosts):
        at = [place for place, one in enumerate(hosts) if one == host]
        assert {later - earlier for earlier, later in itertools.pairwise(at)} == {10}


def test_files_hold_whole_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last have a multiple of a shard's rows, each shard is a row group, and a fetch cuts them likewise."""
    monkeypatch.setattr(module, "FILE_ROWS", 70)
    listed = urls()
    written_anew(tmp_path, as_parquet(pa.table({"url": listed})))
    files = [pq.ParquetFile(path).metadata for path in parts(tmp_path / "out")]
    groups = [[file.row_group(at).num_rows for at in range(file.num_row_groups)] for file in files]

    assert len(groups) > 2
    assert groups[:-1] == [[20, 20, 20]] * (len(groups) - 1)
    assert list(itertools.chain.from_iterable(groups))[:-1] == [20] * (-(-len(listed) // 20) - 1)


COLUMNS = pa.table(
    {
        "number": pa.array([1, None, -(2**63)], pa.int64()),
        "URL": pa.array(["http://a.test/1", None, "http://b.test/2"], pa.large_string()),
        "small": pa.array([1, 2, None], pa.uint8()),
        "half": pa.array([0.5, None, 2.0], pa.float32()),
        "bytes": pa.array([b"\xff", b"", None]),
        "fixed": pa.array([b"abc", None, b"def"], pa.binary(3)),
        "day": pa.array([dt.date(2026, 1, 1), None, dt.date(1, 1, 1)]),
        "time": pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None, None], pa.timestamp("ns", "UTC")),
        "price": pa.array([Decimal("1.50"), None, Decimal("0.01")]),
        "tags": pa.array([["a", None], None, []]),
        "boxes": pa.array([[[0.1, 0.2, 0.3, 0.4]], [], None]),
        "object": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "kind": pa.array(["cat", "dog", None]).dictionary_encode(),
        "few": pa.array(["x", None, "y"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
        "nothing": pa.nulls(3),
        "host": ["a column of that name", "", None],
        "shard": [1.5, None, 2.5],
        "caption": ["tea", "cafe", None],
    }
)


@pytest.mark.parametrize("input_format", ["parquet", "arrow"])
def test_columns_keep_names_and_types(tmp_path: Path, input_format: str) -> None:
    """All of them, asked for or not, whatever values they have, as Parquet holds them."""
    content = as_parquet(COLUMNS) if input_format == "parquet" else as_arrow(COLUMNS, 2)
    written_anew(tmp_path, content, f"list.{input_format}", input_format=input_format, url_col="URL")
    found = table(tmp_path / "out")

    assert found.schema.equals(pq.read_table(pa.BufferReader(as_parquet(COLUMNS))).schema), found.schema
    assert rows_of(found) == rows_of(COLUMNS)


@pytest.mark.parametrize(
    "input_format", ["txt", "csv", "tsv.gz", "json", "jsonl", "jsonl.zst", "parquet", "arrow", "feather"]
)
def test_lists_of_every_format_become_the_same(tmp_path: Path, input_format: str) -> None:
    """The rows that a fetch would read are those that it reads of what was written."""
    from lists import read

    rows = [{"url": url, "caption": f"00{at}", "size": at, "more": "x" * (at % 3)} for at, url in enumerate(urls())]
    columns = {} if input_format == "txt" else {"caption_col": "caption", "save_additional_columns": ["size"]}
    name = f"list.{input_format}"
    written_anew(tmp_path, encoded(rows, input_format), name, input_format=input_format, **columns)
    before = read(tmp_path / name, input_format=input_format, **columns)
    after = read(tmp_path / "out", input_format="parquet", **columns)

    assert after.schema.equals(before.schema)
    assert rows_of(after) == rows_of(before)
    assert table(tmp_path / "out").column_names == (["url"] if input_format == "txt" else list(rows[0]))


def test_files_of_a_list_become_one(tmp_path: Path) -> None:
    """A column that one has not is null there, and types hold the values of all."""
    folder = tmp_path / "lists"
    folder.mkdir()
    written(folder / "a.parquet", as_parquet(pa.table({"url": ["http://a.test/"], "n": pa.array([1], pa.int32())})))
    written(folder / "b.parquet", as_parquet(pa.table({"host": ["more"], "n": [2.5], "url": ["http://b.test/"]})))
    partition(folder, output_folder=tmp_path / "out", **PARQUET)
    found = table(tmp_path / "out")

    assert found.schema.equals(pa.schema([("url", pa.string()), ("n", pa.float64()), ("host", pa.string())]))
    assert sorted(found.to_pylist(), key=repr) == [
        {"url": "http://a.test/", "n": 1.0, "host": None},
        {"url": "http://b.test/", "n": 2.5, "host": "more"},
    ]


def test_files_that_cannot_be_one_are_refused(tmp_path: Path) -> None:
    """With the column, its types, and where they are."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, values in (("a", [[1]]), ("b", ["one"])):
        written(folder / f"{name}.parquet", as_parquet(pa.table({"url": [f"http://{name}.test/"], "n": values})))

    with pytest.raises(InputError, match=r"column 'n' is of type list.* in .*a.parquet and of type string in .*b.parq"):
        partition(folder, output_folder=tmp_path / "out", **PARQUET)
    assert not (tmp_path / "out").exists()


def test_rows_that_nobody_can_be_asked_for_stay(tmp_path: Path) -> None:
    """Missing, empty and broken URLs are rows like others, and fail where they are fetched."""
    listed = pa.table({"url": [None, "", "no URL", "ftp://a.test/", "http://a b/", "\x00", "http://a.test/"] * 30})
    written_anew(tmp_path, as_parquet(listed))

    assert rows_of(table(tmp_path / "out")) == rows_of(listed)


def test_list_without_rows_is_one_again(tmp_path: Path) -> None:
    """A fetch of it has nothing to do, and says no more than of the list itself."""
    report = partition(written(tmp_path / "list.txt", b""), output_folder=tmp_path / "out", progress="none")

    assert (report.rows, report.shards, report.files) == (0, 0, 1)
    assert table(tmp_path / "out").schema == pa.schema([("url", pa.string())])


def test_same_list_makes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it is worked on at a time, and however often it has to be divided."""
    listed = as_parquet(pa.table({"url": urls(300, 200), "number": range(len(urls(300, 200)))}))
    written_anew(tmp_path, listed)
    once = contents(tmp_path / "out")
    for name, value in (("_BLOCK_ROWS", 50), ("_GROUP_ROWS", 40), ("_FILES_MOST", 3), ("_SPOOL_BYTES", 1000)):
        monkeypatch.setattr(passes, name, value)
    partition(tmp_path / "list.parquet", output_folder=tmp_path / "other", number_sample_per_shard=20, **PARQUET)

    assert contents(tmp_path / "other") == once


def test_shards_that_are_large_in_bytes_are_sorted_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded where rows are long, too."""
    sizes = []
    together = passes._together

    def seen(batches: list[pa.RecordBatch]) -> pa.Table:
        found = together(batches)
        sizes.append(found.nbytes)
        return found

    listed = pa.table({"url": urls(), "caption": [os.urandom(50_000).hex() for _ in urls()]})
    monkeypatch.setattr(passes, "_GROUP_BYTES", 4 * 2**20)
    monkeypatch.setattr(passes, "_BLOCK_BYTES", 2**20)
    monkeypatch.setattr(temporary, "_PIECE_BYTES", 2**20)
    monkeypatch.setattr(passes, "_together", seen)
    written_anew(tmp_path, as_parquet(listed, row_group_size=5))

    assert rows_of(table(tmp_path / "out")) == rows_of(listed)
    assert max(sizes) < 5 * 2**20 < listed.nbytes / 4


def test_list_that_is_there_stays(tmp_path: Path) -> None:
    """The same command does nothing, wherever the list has moved."""
    content = as_parquet(pa.table({"url": urls()}))
    first = written_anew(tmp_path, content)
    before = seen_from_outside(tmp_path / "out")
    (tmp_path / "moved").mkdir()
    (tmp_path / "list.parquet").rename(tmp_path / "moved" / "list.parquet")
    again = partition(
        tmp_path / "moved" / "list.parquet", output_folder=tmp_path / "out", number_sample_per_shard=20, **PARQUET
    )

    assert again.is_old
    assert (again.rows, again.hosts, again.bytes_written) == (first.rows, first.hosts, first.bytes_written)
    assert seen_from_outside(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "made of other files than this one: list.parquet"),
        ({"number_sample_per_shard": 30}, "number_sample_per_shard 20, not 30"),
    ],
)
def test_another_list_is_not_overwritten(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """It is said what lies there, and it stays."""
    listed = pa.table({"url": urls()})
    written_anew(tmp_path, as_parquet(listed))
    before = contents(tmp_path / "out")

    with pytest.raises(OptionsError, match=words):
        written_anew(tmp_path, as_parquet(listed if options else listed.slice(1)), **options)
    assert contents(tmp_path / "out") == before


def test_strangers_are_not_mixed_with_the_list(tmp_path: Path) -> None:
    """A file that a fetch of the folder would read, too, is refused, and so is the folder of the list itself."""
    out = tmp_path / "out"
    out.mkdir()
    other = written(out / "other.parquet", as_parquet(pa.table({"url": ["http://x.test/"]})))

    with pytest.raises(OptionsError, match="which would be read as a part"):
        written_anew(tmp_path, as_parquet(pa.table({"url": urls()})))
    with pytest.raises(OptionsError, match="the folder of the list"):
        partition(out, output_folder=out, **PARQUET)
    assert list(out.iterdir()) == [other]


@pytest.mark.parametrize("is_killed", [False, True], ids=["lost", "killed"])
def test_list_that_is_not_whole_is_written_anew(tmp_path: Path, *, is_killed: bool) -> None:
    """When a file of it is gone, or as a run that was killed leaves it, which may have been that of another list."""
    content = as_parquet(pa.table({"url": urls()}))
    written_anew(tmp_path, content)
    whole = contents(tmp_path / "out")
    if is_killed:
        told = {"schema_version": 1, "made_of": [{"name": "other.parquet", "bytes": 7}]}
        (tmp_path / "out" / LIST_SUMMARY).write_text(json.dumps(told))
    else:
        (tmp_path / "out" / "by-host-00000.parquet").unlink()
    (tmp_path / "out" / "by-host-00007.parquet").write_bytes(b"of a longer list")
    again = written_anew(tmp_path, content)

    assert not again.is_old
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("summary", [None, b"{", b'{"files": {"by-host-00000.parquet": 1}, "made_of": []}'])
def test_list_of_which_nothing_is_known_is_not_replaced(tmp_path: Path, summary: bytes | None) -> None:
    """It may be anybody's: copied there without what is said of it, or with that of another."""
    content = as_parquet(pa.table({"url": urls()}))
    written_anew(tmp_path, content)
    told = tmp_path / "out" / LIST_SUMMARY
    told.unlink() if summary is None else told.write_bytes(summary)
    before = contents(tmp_path / "out")

    with pytest.raises(OptionsError, match=r"by-host-00000\.parquet, of a list of which nothing is known"):
        written_anew(tmp_path, content)
    assert contents(tmp_path / "out") == before


def test_list_is_said_to_be_begun_until_it_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its summary is there before its first file, so that what a kill leaves is known; one that fails leaves none."""
    seen = []

    def see(store: LocalStore, name: str) -> None:
        seen.append((name, (tmp_path / "out" / LIST_SUMMARY).exists()))
        if name == "by-host-00000.parquet":
            raise OSError(errno.EIO, "of the disk")
        publish(store, name)

    publish = LocalStore.publish
    monkeypatch.setattr(LocalStore, "publish", see)

    with pytest.raises(StorageError, match="of the disk"):
        written_anew(tmp_path, as_parquet(pa.table({"url": urls()})))
    assert seen == [(LIST_SUMMARY, False), ("by-host-00000.parquet", True)]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_columns_of_numbers_and_words_are_words(tmp_path: Path, ending: str) -> None:
    """As they would be within one file, where the format says no types."""
    rows: list[dict[str, Any]] = [{"url": f"http://h{at}.test/", "size": at} for at in range(3)]
    others: list[dict[str, Any]] = [{"url": f"http://h{at}.test/x", "size": f"A{at}"} for at in range(3)]
    paths = [written(tmp_path / f"{at}.{ending}", encoded(some, ending)) for at, some in enumerate((rows, others))]
    partition([str(path) for path in paths], input_format=ending, output_folder=tmp_path / "out", progress="none")

    assert sorted(table(tmp_path / "out").column("size").to_pylist()) == ["0", "1", "2", "A0", "A1", "A2"]


def test_zeros_before_a_number_are_kept(tmp_path: Path) -> None:
    """Such a column has names, as of places; 0 and 0.5 are numbers."""
    content = b"url,zip,size,share\nhttp://a.test/,00017,0,0.5\nhttp://b.test/,4711,17,-0.25\n"
    path = written(tmp_path / "list.csv", content)
    partition(path, input_format="csv", output_folder=tmp_path / "out", progress="none")
    found = table(tmp_path / "out").sort_by("url").select(["zip", "size", "share"]).to_pylist()

    assert found == [{"zip": "00017", "size": 0, "share": 0.5}, {"zip": "4711", "size": 17, "share": -0.25}]


def test_list_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    """Neither temporary files nor a folder, and what lay there before stays."""
    broken = b'{"url": "http://a.test/"}\n' * 300_000 + b"{\n"

    with pytest.raises(InputError, match="line 300001 is no JSON object"):
        written_anew(tmp_path, broken, "list.jsonl", input_format="jsonl")
    assert names(tmp_path) == ["list.jsonl"]


class Began(Exception):
    """The pass has come to where it was to be broken off."""


@pytest.mark.parametrize("at", ["reading", "dealing", "sorting"])
def test_failure_at_any_time_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Whatever it is, and whatever was written and published by then."""
    monkeypatch.setattr(module, "FILE_ROWS", 20)
    steps = Counter[str]()

    def say(_self: object, what: str, _rows: int) -> None:
        steps[what] += 1
        if what == at and steps[what] == (3 if at == "sorting" else 1):
            raise Began

    monkeypatch.setattr(reading.Lines, "__call__", say)
    with pytest.raises(Began):
        written_anew(tmp_path, as_parquet(pa.table({"url": urls()})), progress="plain")

    assert names(tmp_path) == ["list.parquet"]


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_pass_that_nobody_waits_for_leaves_nothing(tmp_path: Path, how: str) -> None:
    """It is over only when what it had written is gone."""
    path = written(tmp_path / "list.txt", "".join(f"http://h{at % 999}.test/{at}\n" for at in range(500_000)).encode())
    options = PartitionOptions.of(url_list=path, output_folder=tmp_path / "out", progress="none")

    async def run() -> PartitionReport | None:
        stop = Stop()
        task = asyncio.create_task(run_partition(options, stop))
        while not is_under_way(tmp_path / "out"):
            await asyncio.sleep(0.01)
        if how == "stopped":
            stop.ask()
            return await task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return None

    report = asyncio.run(run())

    assert report is None or report.interrupted
    assert names(tmp_path) == ["list.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_command_that_is_stopped_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """One that is killed leaves what the same command sweeps when it is run again."""
    path = written(tmp_path / "list.txt", "".join(f"http://h{at % 999}.test/{at}\n" for at in range(700_000)).encode())
    command = [sys.executable, "-m", "async_img2ds", "partition", str(path), "--output_folder", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: is_under_way(tmp_path / "out"))
        process.send_signal(number)
        said, _ = process.communicate()

    if number == signal.SIGKILL:
        assert list(tmp_path.glob("out/aimg2ds-*"))
        report = partition(path, output_folder=tmp_path / "out", progress="none")
        assert report.rows == 700_000
        assert names(tmp_path / "out") == ["_partition.json", "by-host-00000.parquet"]
    else:
        assert process.returncode == 128 + number
        assert "nothing is left of it" in said
        assert names(tmp_path) == ["list.txt"]


@pytest.mark.parametrize(("megabytes", "words"), [(2, "is full"), (16, "has room for 0.0 GB more")])
def test_full_disk_is_told_with_what_to_do(tmp_path: Path, megabytes: int, words: str) -> None:
    """Before it is full, where that can be seen coming."""
    path = tmp_path / "list.txt"
    path.write_text("".join(f"http://h{at % 999}.test/{os.urandom(16).hex()}\n" for at in range(500_000)))
    program = [sys.executable, "-m", "async_img2ds", "partition", str(path), "--output_folder", str(tmp_path / "out")]
    with small_disk(tmp_path / "disk", megabytes, *program, "--temp_folder", str(tmp_path / "disk")) as (process, _):
        _, said = process.communicate()

    assert process.returncode == 3
    assert words in said
    assert "--temp_folder FOLDER" in said
    assert "Traceback" not in said
    assert names(tmp_path) == ["disk", "list.txt"]


def test_temporary_files_lie_where_they_are_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are gone at the end."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    seen: list[Path] = []

    def say(_self: object, _what: str, _rows: int) -> None:
        seen.extend(path.parent.parent for path in tmp_path.rglob("*.arrows"))

    monkeypatch.setattr(reading.Lines, "__call__", say)
    monkeypatch.setattr(passes, "_BLOCK_ROWS", 10)
    content = as_parquet(pa.table({"url": urls()}), row_group_size=10)
    written_anew(tmp_path, content, temp_folder=str(elsewhere), progress="plain")

    assert set(seen) == {elsewhere}
    assert not list(elsewhere.iterdir())
    with pytest.raises(OptionsError, match="is no folder on this machine"):
        written_anew(tmp_path, content, temp_folder=str(tmp_path / "nowhere"))


def test_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    """As for a fetch."""
    with pytest.raises(OptionsError, match="output_folder: cannot write"):
        partition(written(tmp_path / "list.txt", b"http://a.test/"), output_folder=tmp_path / "list.txt" / "out")


def test_file_that_cannot_be_published_is_told(tmp_path: Path) -> None:
    """What the file system says is an error of storage, and what was written goes."""
    (tmp_path / "out" / "by-host-00000.parquet").mkdir(parents=True)
    (tmp_path / "out" / "by-host-00000.parquet" / "in the way").touch()

    with pytest.raises(StorageError, match="output_folder: "):
        written_anew(tmp_path, as_parquet(pa.table({"url": urls()})))
    assert names(tmp_path / "out") == ["by-host-00000.parquet", "by-host-00000.parquet/in the way"]


@needs_store
def test_list_goes_to_an_object_store(tmp_path: Path) -> None:
    """And is read from there, recognised there, and leaves nothing on this machine."""
    import s3

    (tmp_path / "temporary").mkdir()
    path = written(tmp_path / "list.parquet", as_parquet(pa.table({"url": urls()})))
    with s3.serving() as (bucket, proxy):
        variables = {"FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}", "TMPDIR": str(tmp_path / "temporary")}
        words = ["--input_format", "parquet", "--number_sample_per_shard", "20", "--progress", "none"]
        command = [sys.executable, "-m", "async_img2ds", "partition"]

        def run(listed: str, folder: str) -> str:
            done = subprocess.run(
                [*command, listed, "--output_folder", f"s3://{s3.BUCKET}/{folder}", *words],
                env={**os.environ, **s3.CREDENTIALS, **variables},
                check=False,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        first, again = run(str(path), "one"), run(str(path), "one")
        run(f"s3://{s3.BUCKET}/one", "two")
        found = {name: bucket.contents(name) for name in ("one", "two")}

    assert "written in" in first
    assert "it was there already" in again
    assert not list((tmp_path / "temporary").iterdir())
    for objects in found.values():
        assert sorted(objects) == ["_partition.json", "by-host-00000.parquet"]
        assert Counter(pq.read_table(pa.BufferReader(objects["by-host-00000.parquet"]))["url"].to_pylist()) == Counter(
            urls()
        )


@pytest.mark.parametrize(
    ("size", "numbers"), [(0, 2**20), (10**9, 2**21), (10**10, 2**25), (10**13, 2**25), (None, 2**22)]
)
def test_memory_for_hosts_has_a_bound(size: int | None, numbers: int) -> None:
    """More numbers for longer lists, of which they take little, up to half a gigabyte."""
    assert numbers_for(size) == numbers


def test_hosts_of_one_number_are_treated_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is lost where there are more hosts than numbers."""
    monkeypatch.setattr(passes, "_NUMBERS_LEAST", 8)
    listed = pa.table({"url": urls(300, 200)})
    written_anew(tmp_path, as_parquet(listed))

    assert rows_of(table(tmp_path / "out")) == rows_of(listed)


def test_recipe_says_what_the_list_is_like(tmp_path: Path) -> None:
    """As for a fetch; what it says of images is left out."""
    listed = pa.table({"URL": urls(), "TEXT": urls(), "NSFW": urls(), "similarity": urls(), "LICENSE": urls()})
    written(tmp_path / "list.parquet", as_parquet(listed))
    partition(tmp_path / "list.parquet", output_folder=tmp_path / "out", recipe="laion400m", progress="none")

    assert rows_of(table(tmp_path / "out")) == rows_of(listed)


def test_command_says_what_came_of_it(tmp_path: Path) -> None:
    """And what to type next; a list without the column is refused before anything is created."""
    written(tmp_path / "urls.csv", b"url,text\n" + b"".join(f"http://h{n}.test/,x\n".encode() for n in range(100)))
    words = ["partition", "urls.csv", "--input_format", "csv", "--output_folder", "new", "--number_sample_per_shard"]
    done = aimg2ds(*words, "10", cwd=tmp_path)
    refused = aimg2ds(*words, "10", "--url_col", "link", cwd=tmp_path)

    assert done.returncode == 0
    assert done.stdout.startswith("100 rows of about 100 hosts in 10 shards: 1 files, ")
    assert "list: new, to be read with --input_format parquet --number_sample_per_shard 10" in done.stdout
    assert refused.returncode == 2
    assert "url_col: the list has no column 'link'" in refused.stderr


# With the options that fetch from a server of the tests.
NET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "retries": 0, "processes_count": 1, "progress": "none"}
ROWS = 45


def listed(origin: Origin) -> list[dict[str, Any]]:
    """Rows of which some have no image: pictures, a page that is not there, and a URL that is none."""
    names_of = ["rocket.jpg", "coffee.png", "gone.jpg"]
    made = [origin.url(f"{names_of[number % 3]}?{number}") for number in range(ROWS - 1)]
    return [{"url": url, "caption": f"0{at}", "size": at} for at, url in enumerate([*made, "no URL"])]


def fetched(folder: Path) -> Counter[tuple[Any, ...]]:
    tables = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))
    columns = tables.select(["url", "caption", "size", "status", "error_class", "width", "sha256"])
    return Counter(tuple(row.values()) for row in columns.to_pylist())


@pytest.fixture
def whole(origin: Origin, tmp_path: Path) -> dict[str, Any]:
    """The options of a fetch, with its list."""
    path = written(tmp_path / "list.csv", encoded(listed(origin), "csv"))
    columns = {"caption_col": "caption", "save_additional_columns": ["size"], "number_sample_per_shard": 10}
    return {"url_list": path, "input_format": "csv", "output_format": "webdataset", **columns, **NET}


def test_fetch_of_the_new_list_has_the_rows_of_the_old(whole: dict[str, Any], tmp_path: Path) -> None:
    """With the same columns, types and outcomes, by the command and by the option of fetch."""
    columns = {name: whole[name] for name in ("caption_col", "save_additional_columns", "number_sample_per_shard")}
    partition(whole["url_list"], input_format="csv", output_folder=tmp_path / "new", progress="none", **columns)
    download(**whole, output_folder=tmp_path / "plain")
    listed_anew = {**whole, "url_list": tmp_path / "new", "input_format": "parquet"}
    by_command = download(**listed_anew, output_folder=tmp_path / "command")
    by_option = download(**whole, output_folder=tmp_path / "option", partition_by="host")

    assert by_command.shards_done == by_option.shards_done == 5
    assert fetched(tmp_path / "command") == fetched(tmp_path / "option") == fetched(tmp_path / "plain")


def test_fetch_goes_on_with_the_list_beside_the_dataset(whole: dict[str, Any], tmp_path: Path) -> None:
    """Which is written once; finished shards are skipped, and a shard that is lost is made of the same rows."""
    out = tmp_path / "out"
    options = {**whole, "output_folder": out, "partition_by": "host"}
    download(**options)
    before, lying = fetched(out), seen_from_outside(out / BESIDE)
    for path in out.glob("00002*"):
        path.unlink()
    again = download(**options)

    assert (again.shards_done, again.shards_skipped) == (1, 4)
    assert verify(str(out), progress="none").good
    assert fetched(out) == before
    assert seen_from_outside(out / BESIDE) == lying
    assert names(out / BESIDE) == ["_partition.json", "by-host-00000.parquet"]


def test_list_beside_the_dataset_has_only_what_is_asked_for(tmp_path: Path) -> None:
    """And no password: nothing of it is needed to fetch."""
    rows = [{"url": "http://me:secret@10.0.0.1/a.jpg", "caption": "x", "other": "y"}]
    path = written(tmp_path / "list.csv", encoded(rows, "csv"))
    options: dict[str, Any] = {"input_format": "csv", "caption_col": "caption", "partition_by": "host", **NET}
    download(path, output_folder=tmp_path / "out", **options)

    assert table(tmp_path / "out" / BESIDE).to_pylist() == [{"caption": "x", "url": "http://10.0.0.1/a.jpg"}]


def test_list_beside_the_dataset_may_be_removed(whole: dict[str, Any], tmp_path: Path) -> None:
    """It is written again, as it was, or taken from where versions before have put it."""
    out = tmp_path / "out"
    options = {**whole, "output_folder": out, "partition_by": "host"}
    download(**options)
    before = contents(out / BESIDE)
    (out / BESIDE).rename(out / BESIDE_BEFORE)
    old = download(**options)
    stays = not (out / BESIDE).exists()
    shutil.rmtree(out / BESIDE_BEFORE)
    again = download(**options)

    assert (old.shards_skipped, again.shards_skipped, stays) == (5, 5, True)
    assert contents(out / BESIDE) == before


def test_dataset_begun_in_another_order_is_refused(whole: dict[str, Any], tmp_path: Path) -> None:
    """Its shards would be other ones; nothing is changed."""
    options = {**whole, "output_folder": tmp_path / "out"}
    download(**options)
    before = names(tmp_path / "out")

    with pytest.raises(OptionsError, match="was begun without"):
        download(**options, partition_by="host")
    assert names(tmp_path / "out") == before
    (tmp_path / "out" / BESIDE_BEFORE).mkdir()
    (tmp_path / "out" / BESIDE_BEFORE / LIST_SUMMARY).write_text("{}")
    download(**options, partition_by="host", incremental_mode="overwrite")
    assert not (tmp_path / "out" / BESIDE_BEFORE).exists()
    with pytest.raises(InputError, match="was made of other URLs"):
        download(**options)


def test_dataset_of_another_list_is_refused_or_overwritten(whole: dict[str, Any], tmp_path: Path) -> None:
    """Its own list is not replaced while there are shards of it, nor are they mixed with another when it is gone."""
    options = {**whole, "output_folder": tmp_path / "out", "partition_by": "host"}
    download(**options)
    lines = Path(whole["url_list"]).read_text().splitlines(keepends=True)
    Path(whole["url_list"]).write_text("".join(lines[:21]))

    with pytest.raises(OptionsError, match=r"was made of other files than this one: list.*incremental_mode overwrite"):
        download(**options)
    shutil.rmtree(tmp_path / "out" / BESIDE)
    with pytest.raises(OptionsError, match=r"or of another list; .*incremental_mode overwrite"):
        download(**options)
    report = download(**options, incremental_mode="overwrite")
    assert (report.count, report.shards_done) == (20, 2)
    assert table(tmp_path / "out" / BESIDE).num_rows == 20


@pytest.mark.parametrize("mode", ["extend", "extend_new"])
def test_dataset_has_one_list_beside_it(mode: str) -> None:
    """What adds another is refused, with what to do instead."""
    with pytest.raises(OptionsError, match=f"incremental_mode {mode} adds another; .* aimg2ds partition"):
        download("urls.txt", partition_by="host", incremental_mode=mode)


def test_fetch_that_is_stopped_while_its_list_is_written_leaves_nothing(tmp_path: Path) -> None:
    """And the same command begins it anew."""
    path = written(tmp_path / "list.txt", "".join(f"http://10.0.0.1/{at}\n" for at in range(700_000)).encode())
    command = [sys.executable, "-m", "async_img2ds", "fetch", str(path), "--output_folder", str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--partition_by", "host"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: is_under_way(tmp_path / "out" / BESIDE))
        process.send_signal(signal.SIGINT)

    assert process.returncode == 130
    assert names(tmp_path) == ["list.txt"]


def test_summary_says_what_the_list_was_made_of(tmp_path: Path) -> None:
    """Rows, hosts, shards, files with sizes, sources with sizes, and options."""
    content = as_parquet(pa.table({"url": urls()}))
    written_anew(tmp_path, content)
    told = json.loads((tmp_path / "out" / "_partition.json").read_text())

    assert (told["rows"], told["hosts"], told["shards"]) == (len(urls()), 40, -(-len(urls()) // 20))
    assert told["made_of"] == [{"name": "list.parquet", "bytes": len(content)}]
    assert told["files"] == {path.name: path.stat().st_size for path in parts(tmp_path / "out")}
    assert (told["made_with"]["partition_by"], told["made_with"]["number_sample_per_shard"]) == ("host", 20)
