"""Indexes of tars that lie there already: made from the headers of their members, and named by the stats files."""

from __future__ import annotations

import hashlib
import os
import tarfile
from typing import TYPE_CHECKING, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.errors import StorageError
from async_img2ds.policy.shards import INDEX_ENDING
from async_img2ds.policy.tar_index import END, Member, TarIndex
from async_img2ds.storage import MARKER

if TYPE_CHECKING:
    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.storage import Store

__all__ = ["index_tar", "lacks_index"]

_SIZES: Final = ("key", "width", "height")


def lacks_index(file: StatsFile) -> bool:
    """Whether the shard of which *file* tells has a tar, as far as is known, and no index of it."""
    if file.marker is None:
        return False
    files = file.marker.files
    return files is None or (f"{file.stem}.tar" in files and f"{file.stem}.{INDEX_ENDING}" not in files)


def index_tar(store: Store, file: StatsFile) -> bool:
    """Write the index of the tar of the shard of which *file* tells, and have its stats file name it.

    A stats file of img2dataset names no files, and stays as it is. Return whether there is a tar.

    Raises:
        StorageError: the tar is not what was written.
        OSError: the store cannot be read or written to.

    """
    try:
        index = _index_of(store, file)
    except FileNotFoundError:
        return False
    content = b"".join(index.to_json())
    name, marker = f"{file.stem}.{INDEX_ENDING}", file.stem + MARKER
    told = orjson.loads(store.content(marker))
    written = {name: content}
    if "files" in told:
        told["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        told["made_with"] = {**told.get("made_with", {}), "tar_index": True}
        written[marker] = orjson.dumps(told, option=orjson.OPT_INDENT_2)
    mine = store.apart()
    try:
        for each, its in written.items():
            mine.stage(each).write_bytes(its)
        for each in written:  # the stats file last
            mine.check()
            mine.publish(each)
    finally:
        for each in written:
            mine.discard(each)
        mine.release()
    return True


def _index_of(store: Store, file: StatsFile) -> TarIndex:
    name = f"{file.stem}.tar"
    sizes = _sizes_in(store, f"{file.stem}.parquet")
    index = TarIndex(name)
    with store.open(name) as archive:
        try:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                for member in tar:
                    key, _, ending = member.name.partition(".")
                    size = sizes.get(key, (None, None)) if ending not in ("json", "txt") else (None, None)
                    index.members[member.name] = Member(member.offset_data, member.size, *size)
        except (tarfile.TarError, EOFError) as error:
            raise StorageError(f"{name} is cut off or damaged: {error}; aimg2ds verify says more") from error
        index.size = archive.seek(0, os.SEEK_END)
        archive.seek(max(0, index.size - len(END)))
        is_whole = archive.read() == END
    told = (file.marker.files or {}).get(name) if file.marker else None
    if not is_whole or (told is not None and told.bytes != index.size):
        raise StorageError(f"{name} is not what was written, with its {index.size} bytes; aimg2ds verify says more")
    return index


def _sizes_in(store: Store, name: str) -> dict[str, tuple[int | None, int | None]]:
    """Return width and height of the images in the table *name* by key, as far as it tells them."""
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            if not set(_SIZES) <= set(parquet.schema_arrow.names):
                return {}
            table = parquet.read(columns=list(_SIZES))
    except (FileNotFoundError, pa.ArrowException):
        return {}
    keys, widths, heights = (table.column(column).to_pylist() for column in _SIZES)
    return dict(zip(keys, zip(widths, heights, strict=True), strict=True))
