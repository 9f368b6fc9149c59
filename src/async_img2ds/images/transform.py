"""Body → Encoded: filter, place, blur, encode, hash, EXIF. Runs in the thread pool; one value in, one value out."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import exifread

from async_img2ds.errors import ErrorClass, FetchFailure, TransformFailure
from async_img2ds.images import codec
from async_img2ds.images.memory import PixelMemory
from async_img2ds.policy import geometry
from async_img2ds.records import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from async_img2ds.options import ImageOptions

__all__ = ["Transformer", "exif_json"]

logging.getLogger("exifread").setLevel(logging.CRITICAL)  # it warns about every odd tag of the web

# One image's tags as JSON; cameras write under 8 kB, the rest is somebody's data.
EXIF_CHARACTERS_MAX: Final = 65_536
_EXIF_MARK: Final = b"Exif\0\0"
# The block of a JPEG is one segment of at most 64 KiB (JEITA CP-3451, 4.5.4); others have room for more and no use.
EXIF_BYTES_MAX: Final = 2**16
# A camera's tags come to a few hundred values; exifread takes half a second for so many.
EXIF_VALUES_MAX: Final = 100_000
# Tags whose value is a directory of further ones: EXIF, GPS and interoperability. A maker note is not read.
_DIRECTORIES: Final = frozenset({0x8769, 0x8825, 0xA005})
_MAKER_NOTE: Final = 0x927C
# How a TIFF begins; in an AVIF the block may lie anywhere.
_TIFF: Final = re.compile(rb"II\*\0|MM\0\*")


def _unguarded(_content: bytes, _hash: str | None, _key: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Transformer:
    """Makes images as *options* want them; *verifies* says whether each must have the hash that is expected of it.

    With *shows* it is not encoded: what that makes of the pixels is what comes of them.

    Calls are independent of each other, so any thread may make them. What the image library does with a body, it does
    during a block of *guard*, which gets the body, its hash and the key of its row.
    """

    options: ImageOptions
    verifies: bool = False
    guard: Callable[[bytes, str | None, str], AbstractContextManager[None]] = _unguarded
    memory: PixelMemory = field(default_factory=PixelMemory)
    shows: Callable[[codec.Pixels], object] | None = None

    def __call__(self, content: bytes, boxes: object = None, expected: str | None = None, key: str = "") -> Encoded:
        """Return what to store for a body.

        Args:
            content: the body.
            boxes: what to blur of it, as :func:`geometry.blur` takes it.
            expected: the hash it must have, where hashes are verified, in hexadecimal digits.
            key: that of its row.

        Raises:
            FetchFailure: it is not what was expected.
            TransformFailure: it is no image, or one that the options refuse, or the boxes are none.

        """
        options = self.options
        digest = (
            hashlib.new(options.compute_hash, content, usedforsecurity=False).hexdigest()
            if options.compute_hash
            else None
        )
        if self.verifies and digest != (expected or "").strip().lower():
            raise FetchFailure(ErrorClass.HASH_MISMATCH, "hash mismatch")
        exif = exif_json(content) if options.extract_exif else None
        if options.disable_all_reencoding:
            if boxes is not None:
                raise ValueError("what is stored as it came cannot be blurred")  # Options refuse to ask for both
            if _is_markup(content):
                raise TransformFailure(ErrorClass.NOT_IMAGE, "Image decoding error")
            return Encoded(content, None, None, None, None, exif, digest)
        with self.guard(content, digest, key):
            return self._made(content, boxes, exif, digest)

    def _made(self, content: bytes, boxes: object, exif: str | None, digest: str | None) -> Encoded:
        options = self.options
        source = codec.Source.open(content, options.decode_also)
        self._filter(*source.size)
        with self.memory.of(source.size[0] * source.size[1]):
            return self._pixels(source, content, boxes, exif, digest)

    def _pixels(
        self, source: codec.Source, content: bytes, boxes: object, exif: str | None, digest: str | None
    ) -> Encoded:
        options = self.options
        placement = self._place(source, boxes)
        to_srgb = source.to_srgb() if options.convert_to_srgb else None
        changes = placement.changes or source.has_alpha or to_srgb is not None
        untouched = not changes and source.format == options.encode_format
        # Even what is stored as it came is decoded once: a truncated file must not become a sample.
        pixels = codec.render(
            source,
            placement,
            reducing=options.downscale_interpolation,
            enlarging=options.upscale_interpolation,
            exact=options.exact_decode,
            to_srgb=to_srgb,
        )
        sizes = *pixels.size, *geometry.turned(source.size, placement.turn)
        if self.shows is not None:
            return Encoded(b"", *sizes, exif, digest, self.shows(pixels))
        image = (
            content
            if options.skip_reencode and untouched
            else codec.encode(pixels, options.encode_format, options.encode_quality)
        )
        return Encoded(image, *sizes, exif, digest)

    def may_take(self, head: bytes) -> bool:
        """Whether a body that begins with *head*, some hundred bytes, can become an image of the dataset.

        Where hashes are verified all of it is needed to say so.
        """
        if self.verifies:
            return True
        if self.options.disable_all_reencoding:
            return not _is_markup(head)
        name = codec.sniff(head)
        return name is not None and codec.can_decode(name, self.options.decode_also)

    def _place(self, source: codec.Source, boxes: object) -> geometry.Placement:
        options = self.options
        placement = geometry.place(
            options.resize_mode,
            source.size,
            options.image_size,
            only_if_bigger=options.resize_only_if_bigger,
            turn=source.turn if options.apply_exif_orientation else geometry.UPRIGHT,
        )
        if boxes is None:
            return placement
        return replace(placement, blur=geometry.blur(boxes, placement.resize or source.size))

    def _filter(self, width: int, height: int) -> None:
        """Refuse an image by its size; messages and their order are img2dataset's."""
        options = self.options
        if min(width, height) < options.min_image_size:
            raise TransformFailure(ErrorClass.TOO_SMALL, "image too small")
        if width * height > options.max_image_area:
            raise TransformFailure(ErrorClass.AREA, "image area too large")
        if max(width, height) > options.max_aspect_ratio * min(width, height):
            raise TransformFailure(ErrorClass.ASPECT, "aspect ratio too large")


def exif_json(content: bytes) -> str | None:
    """Return the EXIF tags of *content* as a JSON object of texts, ``{}`` if it has none, None if they cannot be read.

    Tag names are exifread's, such as ``Image Orientation`` and
    ``EXIF DateTimeOriginal``, without maker notes and thumbnail.
    """
    try:
        block = _exif_in(content)
        if not block:
            return "{}"
        if any(_values_in(block[found.start() :]) > EXIF_VALUES_MAX for found in _TIFF.finditer(block)):
            return None
        tags = exifread.process_file(io.BytesIO(block), details=False, extract_thumbnail=False)
        text = json.dumps({name: str(value).strip() for name, value in tags.items() if isinstance(name, str)})
    except Exception:  # noqa: BLE001  a parser of hostile bytes; the image itself may be fine, and img2dataset keeps it, too
        return None
    return text if len(text) <= EXIF_CHARACTERS_MAX else None


def _exif_in(content: bytes) -> bytes:
    """Return what exifread is to look into: the block of EXIF, which is a TIFF, empty if there is none.

    Of WebPs exifread finds no block without the mark that JPEGs have before it, which most programs do not write.
    """
    if content.startswith(b"\xff\xd8"):
        return _jpeg_exif(content)
    if content.startswith(b"\x89PNG"):
        return _chunk(content, b"eXIf", 8, "big")[:EXIF_BYTES_MAX]
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _chunk(content, b"EXIF", 12, "little").removeprefix(_EXIF_MARK)[:EXIF_BYTES_MAX]
    # A TIFF, which is kept only where nothing is decoded, is made of such tags, and an AVIF names its block.
    return content if content.startswith((b"II*\0", b"MM\0*")) or b"Exif" in content else b""


def _jpeg_exif(content: bytes) -> bytes:
    """Return the EXIF of a JPEG, empty if there is none before the scan.

    A segment is 0xFF, which may be repeated, a marker, a length that counts itself, and the rest (ITU-T T.81, B.1.1).
    """
    at = 2
    while content[at : at + 1] == b"\xff":
        marker = content[at + 1 : at + 2]
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == b"\xff":
            at += 1
            continue
        if marker == b"\xe1" and content.startswith(_EXIF_MARK, at + 4):
            return content[at + 10 : at + 2 + length]
        if marker == b"\xda" or length < 2:  # noqa: PLR2004  the length of the length
            break
        at += 2 + length
    return b""


def _chunk(content: bytes, name: bytes, at: int, order: Literal["little", "big"]) -> bytes:
    """Return the chunk *name* of a PNG or a WebP whose chunks begin *at*, empty if there is none.

    A PNG's is its length, its name, as many bytes, and a checksum of four (W3C, PNG 5.3); a WebP's its name, its length
    and as many bytes, and one more if that is odd (Google, WebP Container Specification).
    """
    png = order == "big"
    while at + 8 <= len(content):
        first, second = content[at : at + 4], content[at + 4 : at + 8]
        length = int.from_bytes(first if png else second, order)
        if (second if png else first) == name:
            return content[at + 8 : at + 8 + length]
        at += 8 + length + (4 if png else length % 2)
    return b""


def _values_in(block: bytes) -> int:
    """Return how many values the directories of a TIFF claim to have.

    Tags may share their bytes, so a few kilobytes can claim millions, and exifread would read each of them, in seconds
    to minutes. A directory is a count, and 12 bytes for each tag: its number, its type, its count and its value.
    """
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"

    def number(at: int, length: int) -> int:
        return int.from_bytes(block[at : at + length], order)

    values = 0
    directories, seen = [number(4, 4)], set[int]()
    while directories and values <= EXIF_VALUES_MAX:
        at = directories.pop()
        if at in seen or not 0 < at < len(block):
            continue
        seen.add(at)
        for entry in range(at + 2, min(at + 2 + 12 * number(at, 2), len(block)), 12):
            values += 1 + (number(entry + 4, 4) if number(entry, 2) != _MAKER_NOTE else 0)
            if number(entry, 2) in _DIRECTORIES:
                directories.append(number(entry + 8, 4))
        directories.append(number(at + 2 + 12 * number(at, 2), 4))
    return values


def _is_markup(content: bytes) -> bool:
    """Whether a body is a web page: the one thing that is never wanted, even where nothing is decoded."""
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script"))
