"""A finished shard, read as a whole: is it what its stats file says?"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.dataset.archives import IMAGE_ENDINGS, Samples, Watched, check_records, check_tar
from async_img2ds.dataset.tables import ShardTable, read_table
from async_img2ds.errors import SampleFailure
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.shards import INDEX_ENDING
from async_img2ds.policy.tar_index import TarIndex
from async_img2ds.records import Defect, FileSum, Tally
from async_img2ds.storage import SAMPLE_NAME, FolderSum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from async_img2ds.storage import Store

__all__ = ["ShardFiles", "check_shard"]

# A table without images is read once, into memory; one that is larger than that is read twice.
HELD_BYTES_MAX: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """The files of a finished shard: its *stem*, and name and size in bytes of each; a folder has no size."""

    stem: str
    sizes: Mapping[str, int | None]

    @property
    def marker(self) -> str:
        """The name of its stats file."""
        return f"{self.stem}_stats.json"

    def to_json(self) -> bytes:
        """Return it as bytes to be sent."""
        return orjson.dumps([self.stem, self.sizes])

    @classmethod
    def parse(cls, content: bytes) -> ShardFiles:
        """Return what :meth:`to_json` has made bytes of."""
        return cls(*orjson.loads(content))


@dataclass(frozen=True, slots=True)
class _Reading:
    """A shard that is being read: *sums* are those of its files, as far as they were read."""

    store: Store
    files: ShardFiles
    marker: Marker
    deep: bool
    sums: dict[str, FileSum]


def check_shard(store: Store, files: ShardFiles, *, deep: bool) -> tuple[Tally, list[Defect], str]:
    """Read all of a shard, with the contents of its samples if *deep*.

    Returns:
        The counts it tells, what is wrong with it, and the columns that it has, in words.

    Raises:
        OSError: the store cannot be read at the moment; that a file is not there is a defect.

    """
    content = store.content(files.marker)
    if not content:  # it was there a moment ago
        raise FileNotFoundError(f"{files.marker} has vanished")
    try:
        marker = Marker.parse(content)
    except ValueError as error:
        return Tally(), [Defect(files.marker, f"is {error}")], ""
    reading = _Reading(store, files, marker, deep, {})
    defects = list(_missing(reading))
    schema = ""
    table_name = f"{files.stem}.parquet"
    if table_name in files.sizes and not defects:
        table = None
        for found in _read_table(reading, table_name):
            if isinstance(found, Defect):
                defects.append(found)
            else:
                table = found
        if table is not None:
            schema = ", ".join(f"{field.name} {field.type}" for field in table.schema)
            defects += _images(reading, table)
    if not defects or marker.files is not None:
        defects += _sums(reading)
    return marker.tally, defects, schema


def _missing(reading: _Reading) -> Iterator[Defect]:
    """Say which files are not there, of those that the marker names, or that any shard but a dummy's has."""
    there, told = reading.files.sizes, reading.marker.files
    for name, file in (told or {}).items():
        if name not in there and file.files != 0:  # object stores have no empty folders
            yield Defect(name, "is not there, and the stats file names it")
    others = {
        reading.files.marker,
        f"{reading.files.stem}.{INDEX_ENDING}",
    }  # an index that it does not name is not ours
    for name in there:
        if told is not None and name not in told and name not in others:
            yield Defect(name, "is not named by the stats file")
    table = f"{reading.files.stem}.parquet"
    if told is None and there.keys() - others and table not in there:
        yield Defect(table, "is not there")
    tally = reading.marker.tally
    if tally.count != tally.successes + tally.failed_to_download + tally.failed_to_resize:
        yield Defect(reading.files.marker, "counts rows that are neither successes nor failures")


def _read_table(reading: _Reading, name: str) -> Iterator[Defect | ShardTable]:
    with reading.store.open(name) as file:
        if (reading.files.sizes[name] or 0) <= HELD_BYTES_MAX:
            content = file.read()
            reading.sums[name] = FileSum(len(content), hashlib.sha256(content).hexdigest())
            yield from read_table(io.BytesIO(content), name, reading.files.stem, reading.marker)
            return
        watched = Watched(file)
        watched.drain()
        reading.sums[name] = watched.sum()
    with reading.store.open(name) as file:
        yield from read_table(file, name, reading.files.stem, reading.marker)


def _images(reading: _Reading, table: ShardTable) -> Iterator[Defect]:
    """Say what is wrong with the images, wherever they are."""
    stem = reading.files.stem
    look = _Look(table, reading.marker.made_with or {}) if reading.deep else None
    for name, check in ((f"{stem}.tar", _tar), (stem, _folder), (f"{stem}.tfrecord", _records)):
        if name in reading.files.sizes:
            yield from check(reading, name, table, look)
            return
    for column in _image_columns(table.schema, reading.marker.made_with or {}):
        yield from _column(reading, column, table, look)


def _image_columns(schema: pa.Schema, made_with: Mapping[str, Any]) -> list[str]:
    """Return the column that has the images, if one has; the list's own may be called like one."""
    if made_with:
        return [made_with["encode_format"]] if made_with.get("output_format") == "parquet" else []
    named = [schema.field(name) for name in sorted(IMAGE_ENDINGS.intersection(schema.names))]
    return [field.name for field in named if pa.types.is_binary(field.type)]


def _tar(reading: _Reading, name: str, table: ShardTable, look: _Look | None) -> Iterator[Defect]:
    index = f"{reading.files.stem}.{INDEX_ENDING}"
    members = TarIndex(name) if index in (reading.marker.files or {}) else None
    with reading.store.open(name) as file:
        watched = Watched(file)
        yield from check_tar(watched, Samples(name, look), table.successes(), members)
        reading.sums[name] = watched.sum()
    if members is not None:
        yield from _index(reading, index, members, table)


def _index(reading: _Reading, name: str, members: TarIndex, table: ShardTable) -> Iterator[Defect]:
    """Read the index of a tar that has these *members*."""
    content = reading.store.content(name)
    reading.sums[name] = FileSum(len(content), hashlib.sha256(content).hexdigest())
    try:
        index = TarIndex.parse(content)
    except ValueError as error:
        yield Defect(name, f"is {error}")
        return
    for member, what in sorted(index.differences(members), key=str):
        yield Defect(name, what, member)
    images = table.images()
    for member, told in index.members.items():
        key, _, ending = member.partition(".")
        size = images[key][:2] if ending in IMAGE_ENDINGS and key in images else (None, None)
        if (told.width, told.height) != size:
            yield Defect(name, f"has a size of {told.width}x{told.height}, and the table {size[0]}x{size[1]}", member)


def _records(reading: _Reading, name: str, table: ShardTable, look: _Look | None) -> Iterator[Defect]:
    format_told = (reading.marker.made_with or {}).get("encode_format")
    columns = sorted(IMAGE_ENDINGS) if format_told is None else [format_told]
    with reading.store.open(name) as file:
        watched = Watched(file)
        yield from check_records(watched, name, table.successes(), columns, look)
        reading.sums[name] = watched.sum()


def _folder(reading: _Reading, name: str, table: ShardTable, look: _Look | None) -> Iterator[Defect]:
    """Read a folder of samples, in the order of the names."""
    samples = Samples(name, look)
    total = FolderSum()
    entries = sorted(entry for entry in reading.store.names(name) if SAMPLE_NAME.fullmatch(entry[0]))
    for entry, entry_size in entries:
        content = reading.store.content(f"{name}/{entry}")
        total.add(entry, content)
        yield from samples.add(entry, entry_size, partial(bytes, content))
    reading.sums[name] = total.sum()
    yield from samples.end(sorted(table.successes()))


def _column(reading: _Reading, column: str, table: ShardTable, look: _Look | None) -> Iterator[Defect]:
    """Read a column of images, a row group at a time."""
    name = f"{reading.files.stem}.parquet"
    successes = set(table.successes())
    with reading.store.open(name) as file, pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=["key", column])
            images = rows.column(column)
            if pa.types.is_struct(images.type):
                images = pa.chunked_array([chunk.field("bytes") for chunk in images.chunks], pa.binary())
            for key, image in zip(rows.column("key").to_pylist(), images, strict=True):
                if image.is_valid != (key in successes):
                    yield Defect(name, "has an image" if image.is_valid else "has no image", key)
                elif look is not None and image.is_valid:
                    for what in look(key, column, image.as_py()):
                        yield Defect(name, what, key)


def _sums(reading: _Reading) -> Iterator[Defect]:
    """Say which files are not what was written."""
    for name, told in (reading.marker.files or {}).items():
        if (found := reading.sums.get(name)) is None:
            continue
        if found.bytes != told.bytes or found.files != told.files:
            files = "" if told.files is None else f" in {told.files} files"
            there = "" if found.files is None else f" in {found.files}"
            yield Defect(name, f"has {found.bytes} bytes{there}, and {told.bytes}{files} were written")
        elif found.sha256 != told.sha256:
            yield Defect(name, "was changed since it was written: its sha256 is another")


class _Look:
    """Looks into the files of samples: whether images decode, and are what the table says."""

    def __init__(self, table: ShardTable, made_with: Mapping[str, Any]) -> None:
        self._images = table.images()
        self._is_kept = bool(made_with.get("disable_all_reencoding"))

    def __call__(self, key: str, ending: str, content: bytes) -> Iterator[str]:
        if ending == "json":
            yield from _look_at_json(key, content)
        elif ending != "txt" and key in self._images:
            yield from self._look_at_image(key, content)

    def _look_at_image(self, key: str, content: bytes) -> Iterator[str]:
        width, height, digests = self._images[key]
        if self._is_kept:
            for kind, digest in digests.items():
                if hashlib.new(kind, content).hexdigest() != digest:
                    yield f"has an image whose {kind} is not that of the table"
            return
        from async_img2ds.images.codec import Source  # needed here only

        try:
            source = Source.open(content)
            source.decode()
        except SampleFailure as failure:
            yield f"has an image that cannot be decoded: {failure.error_class}"
            return
        if None not in (width, height) and source.size != (width, height):
            yield f"has an image of {source.size[0]}x{source.size[1]}, and the table says {width}x{height}"


def _look_at_json(key: str, content: bytes) -> Iterator[str]:
    try:
        told = orjson.loads(content)
    except ValueError:
        yield "has a json that is none"
        return
    if not isinstance(told, dict) or told.get("key") != key:
        yield "has the json of another sample"
