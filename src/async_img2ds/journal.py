"""What has become of the rows of a shard that is not finished yet, kept on local disk so that no kill costs it again.

A journal is a folder beside the dataset, with a file for each attempt at the shard: whoever tries it next reads all of
them and adds its own. It is gone when the shard is finished. A file begins with what its rows and the options that
shape the dataset come to, so that nothing is taken over from another list or another dataset; with what the options of
fetching come to, as with other ones what failed may not fail; and goes on with records. It is never forced to disk: a
kill loses nothing that was written, and what a power cut spoils is told by the records' checksums. What cannot be read
is fetched again: a journal saves work, and nothing else hangs on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import os
import re
import shutil
import struct
import zlib
from contextlib import suppress
from dataclasses import astuple
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from async_img2ds.errors import ErrorClass, Trace
from async_img2ds.records import Encoded, Sample, Status, image_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    from async_img2ds.records import Row
    from async_img2ds.storage import Attempt, Store

__all__ = ["JOURNAL", "Journal", "drop_journals", "identity_of", "journal_of", "journals_in"]

logger = logging.getLogger(__name__)

# What the names of journals end with.
JOURNAL: Final = ".journal"
# A kill loses what was gathered since the last write: a megabyte, as the archives gather, or five seconds.
GATHERED_BYTES: Final = 2**20
GATHERED_S: Final = 5.0
# So much is kept of a shard, all its attempts together. Of images of 100 kB, larger than those of a usual dataset, that
# is the default shard; of larger ones the rest is fetched again, rather than fill the disk.
JOURNAL_BYTES_MAX: Final = 2**30
# Of what is said of a sample, and how; a version that says it in another way has another number.
LAYOUT: Final = 2
_UNTRACED: Final = Trace()
_FILE_NAME: Final = re.compile("[0-9]{4,}")
# The lengths of what is said of a sample and of its image, and the checksum of both.
_HEAD: Final = struct.Struct("<III")


def journal_of(store: Store, stem: str) -> Path:
    """Return the folder of the journal of the shard *stem*."""
    return store.journals() / (stem + JOURNAL)


def journals_in(store: Store) -> list[str]:
    """Return the stems of the shards that have a journal."""
    with suppress(OSError):  # what cannot be looked at is none of ours
        return sorted(
            entry.name.removesuffix(JOURNAL)
            for entry in os.scandir(store.journals())
            if entry.name.endswith(JOURNAL)
            and entry.name.removesuffix(JOURNAL).isdecimal()
            and entry.is_dir(follow_symlinks=False)
        )
    return []


def drop_journals(store: Store, stems: Collection[str]) -> None:
    """Remove the journals of the shards *stems*."""
    for stem in stems:
        shutil.rmtree(journal_of(store, stem), ignore_errors=True)


def identity_of(rows: Sequence[Row], made_with: Mapping[str, Any], base: str | None = None) -> bytes:
    """Return what tells the journals of these rows and options from any other; *base* as :class:`Again` has it."""
    digest = hashlib.sha256(orjson.dumps([LAYOUT, base, made_with], option=orjson.OPT_SORT_KEYS))
    for row in rows:
        digest.update(repr((row.key, row.url, row.boxes, row.digest, row.withheld)).encode(errors="surrogatepass"))
    return digest.hexdigest().encode() + b"\n"


class Journal:
    """The journal of one attempt at a shard."""

    def __init__(
        self, attempt: Attempt, folder: Path, identity: bytes, asked_with: bytes, rows: Sequence[Row], *, keeps: bool
    ) -> None:
        """Keep what becomes of *rows*, whose positions are their indices, in *folder*, if it *keeps* anything.

        It is that of *identity*; *asked_with* is what the options of fetching come to. Where the attempt ends, what has
        been gathered until then is written.
        """
        self._attempt = attempt
        attempt.at_end(self._end)
        self._folder = folder
        self._identity = identity
        self._asked_with = asked_with
        self._rows = rows
        self._file: FileIO | None = None
        self._gathered: list[Sample] = []
        self._gathered_bytes = 0
        self._gathered_since_s = 0.0
        self._room_bytes = JOURNAL_BYTES_MAX - len(identity) - len(asked_with)
        self._keeps = keeps
        self._writing = asyncio.Lock()

    async def kept(self) -> AsyncIterator[Sample]:
        """Yield the samples that earlier attempts have kept, each once; rows that may fare better now are left out.

        A row that has failed in one attempt may have its image from a later one.
        """
        if not self._keeps:
            return
        if self._folder.is_symlink():
            logger.warning("%s is a link and no folder of ours; nothing is kept of its shard", self._folder)
            self._keeps = False
            return
        async for sample in self._attempt.each(self._read(), image_bytes):
            yield sample

    async def keep(self, sample: Sample) -> None:
        """Keep *sample*, soon; one that failed by a defect of this program is worth another try."""
        if not self._keeps or sample.error_class is ErrorClass.INTERNAL:
            return
        now_s = asyncio.get_running_loop().time()
        if not self._gathered:
            self._gathered_since_s = now_s
        self._gathered.append(sample)
        self._gathered_bytes += image_bytes(sample)
        if self._gathered_bytes >= GATHERED_BYTES:
            await self._write()

    async def keep_up(self) -> None:
        """Write what was gathered for long enough, though nothing comes any more, until this is cancelled."""
        while self._keeps:
            await asyncio.sleep(GATHERED_S / 2)
            since_s = asyncio.get_running_loop().time() - self._gathered_since_s
            if self._gathered and since_s >= GATHERED_S / 2:
                await self._write()

    async def drop(self) -> None:
        """Remove the journal: the shard is finished."""
        self._keeps, self._gathered = False, []
        await self._attempt.run(shutil.rmtree, self._folder, True)  # ignore_errors

    async def _write(self) -> None:
        async with self._writing:
            samples, self._gathered, self._gathered_bytes = self._gathered, [], 0
            try:
                await self._attempt.run(self._append, samples)
            except asyncio.CancelledError:  # perhaps before it was begun; once more does no harm
                self._gathered = samples + self._gathered
                raise

    def _end(self) -> None:
        self._append(self._gathered)
        if self._file is not None:
            self._file.close()

    def _append(self, samples: list[Sample]) -> None:
        """Write *samples* at the end; a disk that does not take them does the shard no harm."""
        content = b"".join(self._fitting(samples)) if self._keeps else b""
        if not content:
            return
        whole = 0
        try:
            if self._file is None:
                self._file = _begun(self._folder)
                content = self._identity + self._asked_with + content
            whole = self._file.tell()
            _write_all(self._file, content)
        except OSError as error:
            logger.warning("%s is not gone on with (%s); after a kill the rest is fetched again", self._folder, error)
            self._keeps = False
            with suppress(OSError):  # half a record is no use to anybody
                if self._file is not None:
                    self._file.truncate(whole)

    def _fitting(self, samples: list[Sample]) -> Iterator[bytes]:
        """Yield the records of *samples*, in pieces, for as many as there is room; behind those nothing is kept."""
        for sample in samples:
            record = _packed(sample)
            self._room_bytes -= sum(map(len, record))
            if self._room_bytes < 0:
                name = self._folder.name
                logger.warning("%s has reached its size; what comes is fetched again after a kill", name)
                self._keeps = False
                return
            yield from record

    def _read(self) -> Iterator[Sample]:
        """Yield what is whole in the files of earlier attempts; those that are of something else go."""
        seen: set[int] = set()
        failed: dict[int, Sample] = {}
        for path in self._files():
            try:
                for sample in self._read_file(path):
                    if sample.encoded is None:
                        failed[sample.row.index] = sample
                    elif sample.row.index not in seen:
                        seen.add(sample.row.index)
                        yield sample
            except (OSError, ValueError, LookupError, TypeError) as error:
                logger.warning("%s cannot be read (%s); what is in it is fetched again", path, error)
        yield from (sample for index, sample in failed.items() if index not in seen)

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if _FILE_NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            logger.warning("%s cannot be read (%s); what is in it is fetched again", self._folder, error)
            return []

    def _read_file(self, path: Path) -> Iterator[Sample]:
        with path.open("rb") as file:
            is_ours = file.read(len(self._identity)) == self._identity
            if is_ours:
                is_alike = file.read(len(self._asked_with)) == self._asked_with
                self._room_bytes -= path.stat().st_size
                for sample in _unpacked(file, self._rows):
                    if is_alike or sample.encoded is not None:
                        yield sample
        if not is_ours:
            path.unlink()


def _write_all(file: FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _begun(folder: Path) -> FileIO:
    """Begin the next file in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(sum(1 for _ in folder.iterdir())):
        with suppress(FileExistsError):  # two attempts may begin at the same moment
            return (folder / f"{number:04}").open("xb", buffering=0)
    raise AssertionError("numbers do not end")


def _packed(sample: Sample) -> tuple[bytes, bytes, bytes]:
    encoded = sample.encoded
    image = encoded.image if encoded else b""
    sizes = (encoded.width, encoded.height, encoded.original_width, encoded.original_height) if encoded else ()
    told = orjson.dumps(
        [
            *(sample.row.index, sample.status, sample.error_class, sample.error_message),
            *(sample.http_status, sample.attempts, sample.body_bytes, sample.final_url),
            astuple(sample.trace) if sample.trace != _UNTRACED else (),
            [*sizes, encoded.exif, encoded.digest] if encoded else None,
        ]
    )
    return _HEAD.pack(len(told), len(image), zlib.crc32(image, zlib.crc32(told))), told, image


def _unpacked(file: IO[bytes], rows: Sequence[Row]) -> Iterator[Sample]:
    """Yield the samples in *file* up to the first that is not whole."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        told_bytes, image_bytes, checksum = _HEAD.unpack(head)
        if told_bytes + image_bytes > JOURNAL_BYTES_MAX:
            return
        told, image = file.read(told_bytes), file.read(image_bytes)
        if zlib.crc32(image, zlib.crc32(told)) != checksum or not told:
            return
        index, status, error_class, message, http_status, attempts, body_bytes, final_url, trace, made = orjson.loads(
            told
        )
        yield Sample(
            row=rows[index],
            status=Status(status),
            encoded=Encoded(image, *made) if made is not None else None,
            error_class=ErrorClass(error_class) if error_class is not None else None,
            error_message=message,
            http_status=http_status,
            attempts=attempts,
            body_bytes=body_bytes,
            final_url=final_url,
            trace=Trace(*trace),
        )
