"""Decode, place and encode pixels.

The only module that knows Pillow: its exceptions become TransformFailure here and nowhere else.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import PIL
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError, features
from PIL.Image import Resampling

from async_img2ds.errors import ErrorClass, TransformFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.policy.geometry import Placement

__all__ = ["ENLARGING", "REDUCING", "Source", "encode", "library", "missing_formats", "prepare", "render", "sniff"]

# What may be decoded; anything else is refused by its first bytes, so that no rarely tested decoder and no external
# program (EPS starts Ghostscript) is ever reached by a URL from the web.
_PILLOW_NAMES: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "avif": "AVIF"}
# Pillow's own Image.MAX_IMAGE_PIXELS: a quarter of a gigabyte of RGB.
PIXELS_MAX: Final = 89_478_485

# The name of an interpolation → Pillow's filter when reducing. "area" is Hamming: over 200 JPEGs decoded at
# a reduced size it lay closer to OpenCV's INTER_AREA on full-size pixels (55.7 dB mean, 33.9 dB worst) than
# Box did (50.2 and 28.5), at the same cost.
REDUCING: Final = {
    "nearest": Resampling.NEAREST,
    "linear": Resampling.BILINEAR,
    "bilinear": Resampling.BILINEAR,
    "cubic": Resampling.BICUBIC,
    "bicubic": Resampling.BICUBIC,
    "area": Resampling.HAMMING,
    "lanczos": Resampling.LANCZOS,
    "lanczos4": Resampling.LANCZOS,
}
# Enlarging by area is linear interpolation in OpenCV, too.
ENLARGING: Final = {**REDUCING, "area": Resampling.BILINEAR}

# A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as this many times the wanted size is left.
SCALED_DECODE_MARGIN: Final = 2
_WHITE: Final = (255, 255, 255)


def prepare() -> None:
    """Set this process up for decoding what others sent: call it once, before any thread decodes."""
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # odd metadata of the web, image by image
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    ImageFile.LOAD_TRUNCATED_IMAGES = False


def library() -> str:
    """Return the name and version of the image library."""
    simd = ".post" in PIL.__version__  # pillow-simd numbers its releases after Pillow's, with a .post
    return f"{'pillow-simd' if simd else 'Pillow'} {PIL.__version__}"


def missing_formats() -> list[str]:
    """Return the formats that this build of the library lacks, of those every build should have."""
    return [name for name in ("jpg", "png", "webp") if name not in _decodable()]


@functools.cache
def _decodable() -> frozenset[str]:
    Image.init()
    needs = {"jpg": "jpg", "png": "zlib", "webp": "webp", "avif": "avif"}
    return frozenset(
        name
        for name, plugin in _PILLOW_NAMES.items()
        if plugin in Image.OPEN and (name not in needs or _has(needs[name]))
    )


def _has(feature: str) -> bool:
    try:
        return bool(features.check(feature))
    except ValueError:  # a library so old that it does not know the word
        return False


def sniff(content: bytes) -> str | None:
    """Return the format that the first bytes of *content* show, None if it is no image that is decoded here."""
    for name, starts in (
        ("jpg", (b"\xff\xd8\xff",)),
        ("png", (b"\x89PNG\r\n\x1a\n",)),
        ("gif", (b"GIF87a", b"GIF89a")),
        ("bmp", (b"BM",)),
        ("tiff", (b"II*\x00", b"MM\x00*")),
    ):
        if content.startswith(starts):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "avif"
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """An image whose header is read and whose pixels are not.

    Attributes:
        format: its format, as :func:`sniff` names it.
        size: (width, height) in pixels as stored, whatever the EXIF orientation says.

    """

    format: str
    size: tuple[int, int]
    _image: Image.Image

    @classmethod
    def open(cls, content: bytes) -> Source:
        """Read the header of *content*.

        Raises:
            TransformFailure: it is not an image, or not one that can be decoded safely.

        """
        name = sniff(content)
        if name is None:
            raise TransformFailure(ErrorClass.NOT_IMAGE, "Image decoding error")
        if name not in _decodable():
            raise TransformFailure(
                ErrorClass.DECODE_UNSUPPORTED,
                f"{name} images are not decoded by this program or this build of its image library",
            )
        with _translated():
            image = Image.open(io.BytesIO(content), formats=[_PILLOW_NAMES[name]])
        if name == "png" and content.rfind(b"IEND") < 0:  # Pillow is content without its end
            raise TransformFailure(ErrorClass.DECODE_TRUNCATED, "Image decoding error")
        width, height = image.size
        if width * height > PIXELS_MAX:
            raise TransformFailure(
                ErrorClass.DECODE_BOMB, f"image of {width}x{height} pixels; at most {PIXELS_MAX} are decoded"
            )
        return cls(name, (width, height), image)

    @property
    def has_alpha(self) -> bool:
        """Whether any pixel may be transparent."""
        return self._image.has_transparency_data


def render(source: Source, placement: Placement, *, reducing: str, enlarging: str, exact: bool) -> Image.Image:
    """Decode *source* and put its pixels where *placement* says, in grey or RGB.

    Args:
        source: what to decode; it is used up.
        placement: where the pixels go.
        reducing: the interpolation to reduce with.
        enlarging: the interpolation to enlarge with.
        exact: decode a JPEG at its full size even if a reduced one would do.

    Raises:
        TransformFailure: the pixels cannot be decoded.

    """
    image = source._image  # noqa: SLF001  the two halves of one job, split where the filters decide
    if placement.resize and placement.resize[0] * placement.resize[1] > PIXELS_MAX:
        # A line of one pixel by thousands, brought to a width of hundreds.
        said = "{}x{}".format(*placement.resize)
        raise TransformFailure(
            ErrorClass.DECODE_BOMB, f"resizing would make {said} pixels; at most {PIXELS_MAX} are made"
        )
    with _translated():
        if placement.resize and not placement.enlarges and not exact:
            width, height = placement.resize
            image.draft(None, (SCALED_DECODE_MARGIN * width, SCALED_DECODE_MARGIN * height))
        image.load()
        image = _plain(image)
        if placement.resize and placement.resize != image.size:
            resampling = ENLARGING[enlarging] if placement.enlarges else REDUCING[reducing]
            image = image.resize(placement.resize, resampling)
        if placement.crop:
            image = image.crop(placement.crop)
        if placement.canvas:
            image = _on_canvas(image, placement.canvas)
    return image


def encode(image: Image.Image, name: str, quality: int) -> bytes:
    """Return *image* as a file of format *name* without any metadata.

    *quality* is 0 to 100 for jpg, 0 to 9 for png, and for webp 0 to 100 or above for lossless.

    Raises:
        TransformFailure: the format cannot hold it.

    """
    image.info = {}  # or PNG would carry the original's profile and JPEG its comment
    stored = io.BytesIO()
    try:
        if name == "jpg":
            # libjpeg takes quality 0 as 1 and Pillow takes it as "default"; 4:2:0 is
            # what OpenCV and libjpeg write by default.
            image.save(stored, "JPEG", quality=max(1, quality), subsampling="4:2:0")
        elif name == "png":
            image.save(stored, "PNG", compress_level=quality)
        else:
            image.save(stored, "WEBP", quality=min(quality, 100), lossless=quality > 100)  # noqa: PLR2004  img2dataset's sign
    except (OSError, ValueError, struct.error, SystemError) as error:
        raise TransformFailure(
            ErrorClass.ENCODE_ERROR, f"cannot encode {image.width}x{image.height} as {name}: {error}"[:200]
        ) from None
    return stored.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """Return *image* in mode L or RGB, transparent parts on white."""
    if image.mode.startswith("I;16"):
        return _plain_16_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        flat = Image.new("RGB", image.size, _WHITE)
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("1", "I", "F"):
        return image.convert("L")
    return image.convert("RGB")


def _plain_16_bit(image: Image.Image) -> Image.Image:
    """Return a grey image of 65,536 levels with 256, the one level that may stand for transparency as white."""
    wide = image.convert("I")
    grey = wide.point(lambda level: level * (1 / 257)).convert("L")
    key = image.info.get("transparency")
    if key is None:
        return grey
    above = wide.point(lambda level: level * 1 - key).convert("L")
    below = wide.point(lambda level: level * -1 + key).convert("L")
    opaque = ImageChops.lighter(above, below).point(lambda distance: 255 if distance else 0)
    sheet = Image.new("L", image.size, 255)
    sheet.paste(grey, mask=opaque)
    return sheet


def _on_canvas(image: Image.Image, canvas: tuple[int, int, int, int]) -> Image.Image:
    width, height, left, top = canvas
    if (width, height) == image.size:
        return image
    sheet = Image.new(image.mode, (width, height), 255 if image.mode == "L" else _WHITE)
    sheet.paste(image, (left, top))
    return sheet


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what Pillow raises on a hostile or broken image into TransformFailure."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise TransformFailure(ErrorClass.DECODE_BOMB, str(error)[:200]) from None
    except UnidentifiedImageError:
        raise TransformFailure(ErrorClass.DECODE_ERROR, "Image decoding error") from None
    except MemoryError:
        raise TransformFailure(ErrorClass.DECODE_OOM, "not enough memory to decode the image") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        struct.error,
        RuntimeError,
        OverflowError,
        ZeroDivisionError,
    ) as error:
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        kind = ErrorClass.DECODE_TRUNCATED if truncated else ErrorClass.DECODE_ERROR
        raise TransformFailure(kind, "Image decoding error") from None
