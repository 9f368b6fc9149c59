"""A dataset looked at without a line of the program: what is committed, and whether it is whole.

Only the standard library and pyarrow are used, so that a mistake of the program is not made twice. A dataset is given
as contents by name, wherever it lies: on disk, in an object store, or in a state after a loss of power that was worked
out. Names in folders are ``folder/name``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from outcome import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Dataset", "Row", "contents_of", "identities", "inspect", "leftovers", "settled"]

MARKER_ENDING: Final = "_stats.json"
SUCCESS: Final = "success"
# What a table has for a row that becomes of it the same whenever it is fetched.
COMPARED: Final = ("url", "status", "error_class", "sha256")
_RECORD_HEAD: Final = 12
_RECORD_FOOT: Final = 4
_SAID_MAX: Final = 5

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is committed.

    Attributes:
        shards: rows by key, for each finished shard by its stem: URL, status, class of error, digest of the original.
        files: the names of all files that finished shards are made of.
        defects: what is wrong with finished shards, in words.

    """

    shards: Mapping[str, Mapping[str, Row]]
    files: frozenset[str]
    defects: tuple[str, ...]

    @property
    def rows(self) -> dict[str, Row]:
        """All rows by key."""
        return {key: row for shard in self.shards.values() for key, row in shard.items()}

    @property
    def urls(self) -> set[str]:
        """The URLs of all rows."""
        return {row[0] for row in self.rows.values()}


def contents_of(folder: Path) -> dict[str, bytes]:
    """Return all files below *folder*, as of one moment even if a run is writing there.

    Stats files are looked for first: what they tell of is there already. One that comes later is left out.
    """
    markers = {path.name: path.read_bytes() for path in sorted(folder.glob(f"*{MARKER_ENDING}"))}
    found = dict(markers)
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            told = str(path.relative_to(folder))
            if told in found or (place == str(folder) and name.endswith(MARKER_ENDING)):
                continue
            with suppress(FileNotFoundError):  # it went meanwhile
                found[told] = path.read_bytes()
    return found


def identities(folder: Path, names: frozenset[str]) -> dict[str, tuple[int, int, str]]:
    """Return the inode, the time of the last change and the digest of each of *names* in *folder*."""
    found = {}
    for name in names:
        path = folder / name
        if path.exists():
            stat = path.stat()
            found[name] = stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def inspect(contents: Mapping[str, bytes]) -> Dataset:
    """Look at every shard that has a stats file; an empty one is none."""
    shards: dict[str, Mapping[str, Row]] = {}
    files: set[str] = set()
    defects: list[str] = []
    for name in sorted(contents):
        if "/" in name or not name.endswith(MARKER_ENDING) or not contents[name]:
            continue
        stem = name.removesuffix(MARKER_ENDING)
        try:
            marker = json.loads(contents[name])
            mine = {file: _files_in(contents, file) for file in marker["files"]}
            files.update([name], *mine.values())
            defects += [f"{stem}: {what}" for what in _wrong_files(contents, marker, mine)]
            shards[stem], wrong = _rows(contents, stem, marker)
            defects += [f"{stem}: {what}" for what in wrong]
        except Exception as error:  # noqa: BLE001  whatever cannot be read is a defect
            defects.append(f"{stem}: cannot be read: {type(error).__name__}: {error}")
            shards.setdefault(stem, {})
    return Dataset(shards, frozenset(files), tuple(defects))


def settled(dataset: Dataset, expected: Mapping[str, Row]) -> tuple[Rows, list[str]]:
    """Compare a finished dataset with the rows *expected*, by key: what is lost, what is there twice, what is else."""
    keys = Counter(key for shard in dataset.shards.values() for key in shard)
    urls = Counter(row[0] for shard in dataset.shards.values() for row in shard.values())
    wanted = Counter(row[0] for row in expected.values())
    lost, twice = wanted - urls, urls - wanted
    found = dataset.rows
    other = [
        f"{key} is {found[key]}, and {row} was expected"
        for key, row in expected.items()
        if key in found and found[key] != row
    ]
    other += [f"{key} is there {count} times" for key, count in keys.items() if count > 1]
    other += [f"{key} was not expected" for key in keys if key not in expected]
    more = [f"and {len(other) - _SAID_MAX} rows more"] if len(other) > _SAID_MAX else []
    defects = [*dataset.defects, *other[:_SAID_MAX], *more]
    return Rows(lost.total(), twice.total()), defects


def leftovers(contents: Mapping[str, bytes], dataset: Dataset) -> list[str]:
    """Return the files that belong to no finished shard, nor to the dataset as a whole."""
    return sorted(set(contents) - dataset.files - {"_removed.txt", ".aimg2ds.toml"})


def _files_in(contents: Mapping[str, bytes], file: str) -> set[str]:
    """Return the names of *file*, or of what is in it if it is a folder."""
    return {file} if file in contents else {name for name in contents if name.startswith(f"{file}/")}


def _wrong_files(contents: Mapping[str, bytes], marker: Any, mine: Mapping[str, set[str]]) -> Iterator[str]:
    """Compare the files with the sizes and sums that the stats file tells."""
    for file, told in marker["files"].items():
        names = sorted(mine[file])
        if told.get("files") is None:
            if names != [file]:
                yield f"{file} is not there"
                continue
            size, digest = len(contents[file]), hashlib.sha256(contents[file]).hexdigest()
        else:
            if len(names) != told["files"]:
                yield f"{file} has {len(names)} files of {told['files']}"
            digests = [(hashlib.sha256(contents[name]).hexdigest(), name.partition("/")[2]) for name in names]
            size = sum(len(contents[name]) for name in names)
            digest = hashlib.sha256("".join(f"{each}  {name}\n" for each, name in digests).encode()).hexdigest()
        if (size, digest) != (told["bytes"], told["sha256"]):
            yield f"{file} has {size} bytes and is not what the stats file tells, which has {told['bytes']}"


def _rows(contents: Mapping[str, bytes], stem: str, marker: Any) -> tuple[dict[str, Row], list[str]]:
    """Return the rows of a shard, and what does not fit together in it."""
    table = pq.read_table(io.BytesIO(contents[f"{stem}.parquet"]))
    keys = table.column("key").to_pylist()
    columns = [table.column(name).to_pylist() for name in COMPARED if name in table.schema.names]
    rows = dict(zip(keys, zip(*columns, strict=True), strict=True))
    statuses = Counter(table.column("status").to_pylist())
    wrong = [] if len(rows) == len(keys) else ["a key is in the table twice"]
    if len(keys) != marker["count"] or statuses[SUCCESS] != marker["successes"]:
        wrong.append(f"the table has {len(keys)} rows, the stats file counts {marker['count']}")
    if marker["count"] != sum(marker[name] for name in ("successes", "failed_to_download", "failed_to_resize")):
        wrong.append("the stats file does not add up")
    wrong += [f"{key} is not a key of it" for key in keys if not key.startswith(stem)]
    succeeded = {key for key, row in rows.items() if row[1] == SUCCESS}
    stored = _stored(contents, stem, table)
    if isinstance(stored, int):
        if stored != len(succeeded):
            wrong.append(f"{stored} records for {len(succeeded)} successes")
    elif stored != succeeded:
        wrong.append(f"{len(stored - succeeded)} images without a success, {len(succeeded - stored)} missing")
    return rows, wrong


def _stored(contents: Mapping[str, bytes], stem: str, table: pa.Table) -> set[str] | int:
    """Return the keys that have an image, or how many do where they are not told."""
    if f"{stem}.tar" in contents:
        with tarfile.open(fileobj=io.BytesIO(contents[f"{stem}.tar"]), mode="r:") as tar:
            names = tar.getnames()
        if len(set(names)) != len(names):
            raise ValueError("a name is in the tar twice")
        return {name.partition(".")[0] for name in names if name.endswith(".jpg")}
    if f"{stem}.tfrecord" in contents:
        return sum(1 for _ in _records(contents[f"{stem}.tfrecord"]))
    if "jpg" in table.schema.names:
        images = zip(table.column("key").to_pylist(), table.column("jpg").to_pylist(), strict=True)
        return {key for key, image in images if image is not None}
    return {
        name.rpartition("/")[2].partition(".")[0]
        for name in contents
        if name.startswith(f"{stem}/") and name.endswith(".jpg")
    }


def _records(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        end = at + _RECORD_HEAD + length + _RECORD_FOOT
        if end > len(content):
            raise ValueError("the last record is cut off")
        yield content[at + _RECORD_HEAD : end - _RECORD_FOOT]
        at = end
