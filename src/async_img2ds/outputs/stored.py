"""The samples of a finished shard, read back from what the writers of each format wrote."""

from __future__ import annotations

import tarfile
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.errors import ErrorClass, StorageError, Trace
from async_img2ds.outputs.example import byte_features
from async_img2ds.records import Encoded, Sample, Status
from async_img2ds.storage import sum_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from async_img2ds.records import FileSum, Row
    from async_img2ds.storage import Store

__all__ = ["READERS", "check_unchanged", "stored_samples"]

_PIECE_BYTES: Final = 2**20
_TOLD: Final = ("http_status", "attempts", "final_url", "error_message")
_TRACED: Final = tuple(field.name for field in fields(Trace))
_MADE: Final = ("width", "height", "original_width", "original_height", "exif")


def check_unchanged(store: Store, files: Mapping[str, FileSum] | None) -> None:
    """See that *files*, as a stats file has them, are what was written: what is damaged must not be signed again.

    Raises:
        StorageError: one is not.

    """
    for name, told in (files or {}).items():
        try:
            is_told = sum_in(store, name, is_folder=told.files is not None) == told
        except OSError as error:
            raise StorageError(f"{name} cannot be read: {error}; aimg2ds verify says what is wrong") from error
        if not is_told:
            raise StorageError(f"{name} was changed since it was written; aimg2ds verify says what is wrong")


def stored_samples(
    store: Store, stem: str, rows: Sequence[Row], output_format: str, extension: str, digest: str | None
) -> Iterator[Sample]:
    """Yield the samples of *rows* of the shard *stem* in the order of its table, as they were written.

    *extension* is that of its images, *digest* the column of their hashes. How much was
    received of a row is told by a table with provenance, and is nothing here by any other.

    Raises:
        StorageError: the shard is not what it should be.

    """
    by_key = {row.key: row for row in rows}
    name = f"{stem}.parquet"
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            wanted = {"key", "status", "error_class", "body_bytes", *_TOLD, *_TRACED, *_MADE, digest}
            table = parquet.read(columns=[column for column in parquet.schema_arrow.names if column in wanted])
        images = READERS[output_format](store, stem, extension)
        for record in table.to_pylist():
            row, image = by_key.get(record["key"]), None
            if row is None:
                continue
            if record["status"] == Status.SUCCESS:
                # What comes between was put there by an attempt that did not live to say so.
                image = next(found for key, found in images if key == row.key)
            yield _sample(row, record, image, digest)
    except (OSError, pa.ArrowException, tarfile.TarError, KeyError, ValueError, EOFError, StopIteration) as error:
        raise StorageError(
            f"shard {stem} cannot be read back ({type(error).__name__}: {error}); aimg2ds verify says what is wrong"
        ) from error


def _sample(row: Row, record: dict[str, Any], image: bytes | None, digest: str | None) -> Sample:
    encoded = None
    if image is not None:
        encoded = Encoded(
            image,
            width=record["width"],
            height=record["height"],
            original_width=record["original_width"],
            original_height=record["original_height"],
            exif=record.get("exif"),
            digest=record.get(digest or ""),
        )
    error_class = record.get("error_class")
    return Sample(
        row,
        Status(record["status"]),
        encoded,
        None if error_class is None else ErrorClass(error_class),
        record["error_message"],
        record["http_status"],
        record["attempts"],
        body_bytes=record.get("body_bytes") or 0,
        final_url=record["final_url"],
        trace=Trace(*map(record.get, _TRACED)),
    )


def _in_tar(store: Store, stem: str, extension: str) -> Iterator[tuple[str, bytes]]:
    with store.open(f"{stem}.tar") as file, tarfile.open(fileobj=file, mode="r|", bufsize=_PIECE_BYTES) as tar:
        for member in tar:
            key, _, ending = member.name.partition(".")
            content = tar.extractfile(member) if ending == extension else None
            if content is not None:
                yield key, content.read()


def _in_folder(store: Store, stem: str, extension: str) -> Iterator[tuple[str, bytes]]:
    """Yield the images of a folder, which has no order of its own, in that of its table."""
    with store.open(f"{stem}.parquet") as file:
        table = pq.read_table(file, columns=["key", "status"])
    for record in table.to_pylist():
        if record["status"] == Status.SUCCESS:
            image = store.content(f"{stem}/{record['key']}.{extension}")
            if not image:
                raise KeyError(f"{stem}/{record['key']}.{extension}")
            yield record["key"], image


def _in_table(store: Store, stem: str, extension: str) -> Iterator[tuple[str, bytes]]:
    with store.open(f"{stem}.parquet") as file, pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=["key", extension])
            for key, image in zip(rows.column("key").to_pylist(), rows.column(extension), strict=True):
                if image.is_valid:
                    content = image["bytes"] if pa.types.is_struct(image.type) else image
                    yield key, content.as_py()


def _in_records(store: Store, stem: str, extension: str) -> Iterator[tuple[str, bytes]]:
    from async_img2ds.outputs.tfrecord import records_in

    with store.open(f"{stem}.tfrecord") as file:
        for data in records_in(file):
            features = byte_features(data, {"key", extension})
            yield features["key"].decode(), features[extension]


# The name of a format → what yields the keys and images of a shard in the order of its table.
READERS: Final[Mapping[str, Callable[[Store, str, str], Iterator[tuple[str, bytes]]]]] = {
    "files": _in_folder,
    "webdataset": _in_tar,
    "parquet": _in_table,
    "tfrecord": _in_records,
}
