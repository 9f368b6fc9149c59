"""The images of a shard, in the four ways in which they are stored: what may be wrong with them, in one pass."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Final, cast

from async_img2ds.outputs.example import byte_features
from async_img2ds.policy.shards import SAMPLE_ENDINGS
from async_img2ds.policy.tar_index import BLOCK, END, Member
from async_img2ds.records import Defect, FileSum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from async_img2ds.policy.tar_index import TarIndex

__all__ = ["IMAGE_ENDINGS", "Samples", "Watched", "check_records", "check_tar"]

IMAGE_ENDINGS: Final = SAMPLE_ENDINGS - {"json", "txt"}
_PIECE_BYTES: Final = 2**20


class Watched:
    """A file that is read from its beginning to its end, and adds up on the way what comes."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read *file*."""
        self._file = file
        self._digest = hashlib.sha256()
        self.count = 0
        self.tail = b""

    def read(self, count: int) -> bytes:
        """Return the next *count* bytes, fewer at the end."""
        piece = self._file.read(count)
        self._digest.update(piece)
        self.count += len(piece)
        self.tail = (self.tail + piece[-len(END) :])[-len(END) :]
        return piece

    def drain(self) -> None:
        """Read on to the end."""
        while self.read(_PIECE_BYTES):
            pass

    def sum(self) -> FileSum:
        """Return what has come."""
        return FileSum(self.count, self._digest.hexdigest())


@dataclass(slots=True)
class Samples:
    """The samples of a shard as they come, file by file; those of one stand side by side.

    *look* is shown each file's key, ending and content and says what is wrong with that, if contents are looked at.
    """

    file: str
    look: Callable[[str, str, bytes], Iterator[str]] | None
    keys: list[str] = field(default_factory=list)
    _endings: list[str] = field(default_factory=list)
    _usual: list[str] | None = None

    def add(self, name: str, size: int, read: Callable[[], bytes]) -> Iterator[Defect]:
        """Take in the file *name* of a sample, of *size* bytes that *read* returns; yield what is wrong with it."""
        key, _, ending = name.partition(".")
        if not (key.isascii() and key.isdigit() and ending in SAMPLE_ENDINGS):
            yield Defect(self.file, f"has {name!r}, which is no file of a sample")
            return
        if not self.keys or key != self.keys[-1]:
            yield from self._end_sample()
            self.keys.append(key)
        self._endings.append(ending)
        if not size and ending != "txt":
            yield Defect(self.file, f"has an empty {ending}", key)
        elif self.look is not None:
            for what in self.look(key, ending, read()):
                yield Defect(self.file, what, key)

    def end(self, expected: list[str]) -> Iterator[Defect]:
        """Take in that no more come; those that are *expected*, by key, should have come in that order."""
        yield from self._end_sample()
        yield from _compared(self.file, self.keys, expected)

    def _end_sample(self) -> Iterator[Defect]:
        endings, self._endings = self._endings, []
        if not endings:
            return
        images = IMAGE_ENDINGS.intersection(endings)
        if len(images) != 1 or "json" not in endings or len(set(endings)) != len(endings):
            yield Defect(self.file, f"has {', '.join(endings)}, not one image and its json", self.keys[-1])
        elif self._usual is None:
            self._usual = sorted(endings)
        elif sorted(endings) != self._usual:
            yield Defect(
                self.file, f"has {', '.join(endings)}, and those before {', '.join(self._usual)}", self.keys[-1]
            )


def check_tar(file: Watched, samples: Samples, expected: list[str], members: TarIndex | None) -> Iterator[Defect]:
    """Yield what is wrong with the archive *file*, which should have the samples *expected*; note its *members*."""
    name = samples.file
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", file), mode="r|", bufsize=_PIECE_BYTES) as tar:
            for member in tar:
                if not member.isfile():
                    yield Defect(name, f"has {member.name!r}, which is no file")
                    continue
                if members is not None:
                    members.members[member.name] = Member(member.offset_data, member.size)
                yield from samples.add(member.name, member.size, partial(_content, tar, member))
    except (tarfile.TarError, EOFError) as error:
        yield Defect(name, f"is cut off or damaged: {error}")
    file.drain()
    if members is not None:
        members.size = file.count
    if file.count % BLOCK or file.tail != END:
        yield Defect(name, "does not end as an archive does")
    yield from samples.end(expected)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def check_records(
    file: Watched,
    name: str,
    expected: list[str],
    image_columns: Collection[str],
    look: Callable[[str, str, bytes], Iterator[str]] | None,
) -> Iterator[Defect]:
    """Yield what is wrong with the TFRecord *file* called *name*, which should have the samples *expected*.

    Their images are in the first of *image_columns* that they have; *look* says what is wrong with them.
    """
    from async_img2ds.outputs.tfrecord import DamagedRecord, records_in

    keys = []
    try:
        for number, data in enumerate(records_in(file)):
            try:
                features = byte_features(data, {"key", *image_columns})
                key = features.pop("key").decode()
            except (KeyError, ValueError):
                yield Defect(name, f"has no sample in its record {number}")
                continue
            keys.append(key)
            images = [(column, features[column]) for column in image_columns if features.get(column)]
            if not images:
                yield Defect(name, "has no image", key)
            elif look is not None:
                for what in look(key, *images[0]):
                    yield Defect(name, what, key)
    except DamagedRecord as error:
        yield Defect(name, str(error))
        file.drain()
    yield from _compared(name, keys, expected)


def _compared(name: str, keys: list[str], expected: list[str]) -> Iterator[Defect]:
    """Yield in what the *keys* of a file called *name* are not those that are *expected*, in their order."""
    there, wanted = set(keys), set(expected)
    if len(there) != len(keys):
        yield Defect(name, "has files of one sample apart from each other, or twice")
    for key in sorted(wanted - there):
        yield Defect(name, "has no image", key)
    for key in sorted(there - wanted):
        yield Defect(name, "has an image, and the table says that there is none", key)
    if there == wanted and len(there) == len(keys) and keys != expected:
        yield Defect(name, "has its samples in another order than the table")
