"""Some images of a finished shard, as small pictures: read in each format by few bytes, wherever it lies."""

from __future__ import annotations

import base64
import struct
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.errors import SampleFailure
from async_img2ds.existing import is_there
from async_img2ds.outputs.example import byte_features
from async_img2ds.policy.geometry import place as placed
from async_img2ds.policy.tar_index import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from random import Random

    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.storage import Store

__all__ = ["PICTURE_BYTES", "Pictures", "Place", "Wanted", "members_in", "picture_of"]

# The longer side of a picture in pixels, its quality, and the largest that is shown: most have 2 to 6 kB.
SIDE: Final = 128
QUALITY: Final = {"webp": 55, "jpg": 62}
PICTURE_BYTES: Final = 24_000
# Larger images are passed over: they are those of datasets that are kept as they came.
IMAGE_BYTES: Final = 8 * 2**20
IMAGE_PIXELS: Final = 40_000_000
# A file of many samples is read in pieces at places drawn at random, each as large as so many of its samples.
PIECE_SAMPLES: Final = 4
PIECE_LEAST: Final = 64 * 2**10
PIECE_MOST: Final = 2 * 2**20
# A file that is no larger is read as a whole, if most of its images are wanted.
WHOLE_MOST: Final = 8 * 2**20
# So many images of each piece are taken: those beside each other came at the same time, often from the same hosts.
OF_A_PIECE: Final = 3
# Of a file of records, which cannot be entered in its middle, so much is read from its beginning.
RECORDS_BYTES: Final = 4 * 2**20
_ENDINGS: Final = ("jpg", "png", "webp")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dataset lies: its *store*, and the file system and path by which pieces of its files are read."""

    store: Store
    fs: Any
    root: str

    def size(self, name: str) -> int:
        """Return how many bytes the file *name* has."""
        return int(self.fs.size(f"{self.root}/{name}"))

    def piece(self, name: str, begin: int, end: int) -> bytes:
        """Return what lies in the file *name* from *begin* up to *end*."""
        return bytes(self.fs.cat_file(f"{self.root}/{name}", start=begin, end=end))


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many rows of a shard are shown: with an image, and failed ones."""

    images: int
    failed: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """Reads some images of the shard of *file*, whose table has the columns *names*, and makes pictures of them."""

    place: Place
    file: StatsFile
    names: Sequence[str]
    wanted: int
    chance: Random

    def of(self, keys: Sequence[str]) -> Iterator[tuple[str, str, tuple[int, int]]]:
        """Yield key, picture as a data URL, and its size, of some of the rows with these *keys*, which have images."""
        if not keys:
            return
        left = self.wanted
        known = set(keys)
        for key, content in _READERS[self._kind()](self, keys):
            if key in known and len(content) <= IMAGE_BYTES and (picture := picture_of(content)) is not None:
                known.discard(key)
                yield key, *picture
                left -= 1
                if not left:
                    return

    def _kind(self) -> str:
        told = (self.file.marker.made_with if self.file.marker else None) or {}
        if (kind := told.get("output_format")) in _READERS:
            return str(kind)
        stem = self.file.stem  # of img2dataset, which does not say it
        for kind, ending in (("webdataset", "tar"), ("tfrecord", "tfrecord")):
            if is_there(self.place.store, f"{stem}.{ending}"):
                return kind
        return "parquet" if set(self.names).intersection(_ENDINGS) else "files"

    def endings(self) -> tuple[str, ...]:
        """Return what the files, columns or features of images may be called."""
        told = (self.file.marker.made_with if self.file.marker else None) or {}
        return (str(told["encode_format"]),) if "encode_format" in told else _ENDINGS


def picture_of(content: bytes) -> tuple[str, tuple[int, int]] | None:
    """Return a small picture of an image as a data URL, and its size; None if it cannot be shown."""
    from async_img2ds.images import codec

    name = "jpg" if "webp" in codec.missing_formats() else "webp"
    try:
        with codec.quiet():
            source = codec.Source.open(content, also=("tiff", "jp2"))
            if source.size[0] * source.size[1] > IMAGE_PIXELS:
                return None
            target = placed("keep_ratio_largest", source.size, SIDE, only_if_bigger=True, turn=source.turn)
            image = codec.render(source, target, reducing="area", enlarging="area", exact=False)
            size = image.size
            small = codec.encode(image, name, QUALITY[name])
    except SampleFailure:
        return None
    if len(small) > PICTURE_BYTES:
        return None
    return f"data:image/{'jpeg' if name == 'jpg' else name};base64,{base64.b64encode(small).decode()}", size


def members_in(piece: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the members that lie whole in a *piece* of a tar, which begins at any of its blocks."""
    at = 0
    while at + BLOCK <= len(piece):
        head = piece[at : at + BLOCK]
        at += BLOCK
        if head[257:262] != b"ustar":
            continue
        try:
            member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError:  # bytes of an image that look like the beginning of a member
            continue
        if not member.isreg() or member.size < 0:
            continue
        if at + member.size > len(piece):
            return
        yield member.name, piece[at : at + member.size]
        at += -(-member.size // BLOCK) * BLOCK


def _in_tar(pictures: Pictures, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    name = f"{pictures.file.stem}.tar"
    whole = pictures.place.size(name)
    length = max(PIECE_LEAST, min(PIECE_MOST, PIECE_SAMPLES * whole // len(keys)))
    if whole <= WHOLE_MOST and 2 * pictures.wanted >= len(keys):
        length = whole
    last = max(0, whole - length)
    seen: set[str] = set()
    for begin in _places(pictures, last, length):
        taken = 0
        begin -= begin % BLOCK  # noqa: PLW2901  a member begins at a block
        for member, content in members_in(pictures.place.piece(name, begin, min(whole, begin + length))):
            key, _, ending = member.rpartition("/")[2].partition(".")
            if ending in pictures.endings() and key not in seen:
                seen.add(key)
                yield key, content
                taken += 1
                if taken == OF_A_PIECE and last:
                    break


def _places(pictures: Pictures, last: int, length: int) -> list[int]:
    """Return where to read pieces of a file, the last of which may begin at *last*."""
    if not last:
        return [0]
    pieces = min(1 + 2 * pictures.wanted // OF_A_PIECE, 1 + last // length)
    return [pictures.chance.randrange(last + 1) for _ in range(pieces)]


def _in_folder(pictures: Pictures, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    stem = pictures.file.stem
    for key in pictures.chance.sample(list(keys), min(len(keys), 2 * pictures.wanted)):
        if not key.isalnum():  # a key of ours is digits, and nothing that leads elsewhere
            continue
        contents = (pictures.place.store.content(f"{stem}/{key}.{ending}") for ending in pictures.endings())
        if content := next((content for content in contents if content), b""):
            yield key, content


def _in_table(pictures: Pictures, _keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    [column, *_] = [name for name in pictures.endings() if name in pictures.names]
    # In pages, as a column may have all images of a shard in one group.
    with (
        pictures.place.store.open(f"{pictures.file.stem}.parquet") as file,
        pq.ParquetFile(file, buffer_size=2**18, pre_buffer=False) as parquet,
    ):
        groups = list(range(parquet.num_row_groups))
        pictures.chance.shuffle(groups)
        for group in groups[: 1 + pictures.wanted // OF_A_PIECE]:
            taken = 0
            most = pictures.wanted if len(groups) == 1 else OF_A_PIECE
            for batch in parquet.iter_batches(4 * OF_A_PIECE, row_groups=[group], columns=["key", column]):
                for key, image in zip(batch.column("key").to_pylist(), batch.column(column), strict=True):
                    if image.is_valid and taken < most:
                        taken += 1
                        yield key, (image["bytes"] if pa.types.is_struct(image.type) else image).as_py() or b""
                if taken >= most:
                    break


def _in_records(pictures: Pictures, _keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield images of the first records, in an order of chance; checksums are verify's to look at."""
    piece = pictures.place.piece(f"{pictures.file.stem}.tfrecord", 0, RECORDS_BYTES)
    records = list(_records_in(piece))
    pictures.chance.shuffle(records)
    for data in records[: 2 * pictures.wanted]:
        features = byte_features(data, {"key", *pictures.endings()})
        images = [features[ending] for ending in pictures.endings() if features.get(ending)]
        if images and "key" in features:
            yield features["key"].decode(errors="replace"), images[0]


def _records_in(piece: bytes) -> Iterator[bytes]:
    at = 0
    while at + 12 <= len(piece):
        [length] = struct.unpack_from("<Q", piece, at)
        if at + 16 + length > len(piece):
            return
        yield piece[at + 12 : at + 12 + length]
        at += 16 + length


_READERS: Final[Mapping[str, Callable[[Pictures, Sequence[str]], Iterator[tuple[str, bytes]]]]] = {
    "files": _in_folder,
    "webdataset": _in_tar,
    "parquet": _in_table,
    "tfrecord": _in_records,
}
