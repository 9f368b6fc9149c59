"""Body → Encoded: filter, place, blur, encode, hash, EXIF. Runs in the thread pool; one value in, one value out."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import exifread

from async_img2ds.errors import ErrorClass, FetchFailure, TransformFailure
from async_img2ds.images import codec
from async_img2ds.policy import geometry
from async_img2ds.records import Encoded

if TYPE_CHECKING:
    from async_img2ds.options import ImageOptions

__all__ = ["Transformer", "exif_json"]

logging.getLogger("exifread").setLevel(logging.CRITICAL)  # it warns about every odd tag of the web

# JPEG APP1, PNG eXIf, WebP EXIF and ISO-BMFF all carry one of these words; without one there is nothing to parse.
_EXIF_MARKS: Final = (b"Exif\x00", b"eXIf", b"EXIF")
# One image's tags as JSON; cameras write under 8 kB, the rest is somebody's data.
EXIF_CHARACTERS_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Transformer:
    """Makes images as *options* want them; *verifies* says whether each must have the hash that is expected of it.

    Calls are independent of each other, so any thread may make them.
    """

    options: ImageOptions
    verifies: bool = False

    def __call__(self, content: bytes, boxes: object = None, expected: str | None = None) -> Encoded:
        """Return what to store for a body.

        Args:
            content: the body.
            boxes: what to blur of it, as :func:`geometry.blur` takes it.
            expected: the hash it must have, where hashes are verified, in hexadecimal digits.

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
        source = codec.Source.open(content)
        self._filter(*source.size)
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
        image = (
            content
            if options.skip_reencode and untouched
            else codec.encode(pixels, options.encode_format, options.encode_quality)
        )
        return Encoded(image, *pixels.size, *geometry.turned(source.size, placement.turn), exif, digest)

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
    # A TIFF, which is kept only where nothing is decoded, is made of such tags.
    if not content.startswith((b"II*\0", b"MM\0*")) and not any(mark in content for mark in _EXIF_MARKS):
        return "{}"
    try:
        tags = exifread.process_file(io.BytesIO(_exif_in(content)), details=False, extract_thumbnail=False)
        text = json.dumps({name: str(value).strip() for name, value in tags.items() if isinstance(name, str)})
    except Exception:  # noqa: BLE001  a parser of hostile bytes; the image itself may be fine, and img2dataset keeps it, too
        return None
    return text if len(text) <= EXIF_CHARACTERS_MAX else None


def _exif_in(content: bytes) -> bytes:
    """Return what exifread is to look into: of a WebP its EXIF chunk, of which exifread skips the first six bytes.

    They were to be the mark that begins EXIF in a JPEG, and most programs do not write it here. A chunk is its name,
    its length and as many bytes, and one more if that is odd (Google, WebP Container Specification).
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return content
    at = 12
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"EXIF":
            return content[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
        at += 8 + length + length % 2
    return content


def _is_markup(content: bytes) -> bool:
    """Whether a body is a web page: the one thing that is never wanted, even where nothing is decoded."""
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script"))
