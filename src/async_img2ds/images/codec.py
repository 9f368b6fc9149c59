"""Decode, place, blur and encode pixels.

The only module that knows Pillow: its exceptions become TransformFailure here and nowhere else.
"""

from __future__ import annotations

import functools
import io
import math
import re
import struct
import threading
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import PIL
from PIL import Image, ImageChops, ImageCms, ImageFile, ImageFilter, PngImagePlugin, UnidentifiedImageError, features
from PIL.Image import Resampling, Transpose

from async_img2ds.errors import ErrorClass, TransformFailure
from async_img2ds.policy.geometry import UPRIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from async_img2ds.policy.geometry import Blur, Placement, Size

__all__ = [
    "ENLARGING",
    "REDUCING",
    "SHOWN",
    "Pixels",
    "Source",
    "ToSrgb",
    "WEB_FORMATS",
    "can_decode",
    "converts_profiles",
    "encode",
    "has_turbo",
    "is_simd",
    "library",
    "missing_formats",
    "prepare",
    "quiet",
    "render",
    "sniff",
]

Pixels = Image.Image

# What may be decoded; anything else is refused by its first bytes, so that no rarely tested decoder and no external
# program (EPS starts Ghostscript) is ever reached by a URL from the web.
_PILLOW_NAMES: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "avif": "AVIF"}
# What is decoded when it is asked for, too.
_ON_REQUEST: Final = {"tiff": "TIFF", "jp2": "JPEG2000"}
# Pillow's own Image.MAX_IMAGE_PIXELS: a quarter of a gigabyte of RGB.
PIXELS_MAX: Final = 89_478_485
# libjpeg's JPEG_MAX_DIMENSION; nothing that the web shows is longer, and lines of a pixel are a way to make work.
SIDE_MAX: Final = 65_500
# A progressive JPEG has a dozen; each is a pass over all pixels, so one of 8 MB can ask for hours.
SCANS_MAX: Final = 1_000

# A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as this many times the wanted size is left, and only
# where pixels are averaged: interpolations that sample some of them would sample others. With twice the size the worst
# of 487 JPEGs came to 30 dB of area averaging of all pixels, with 2.25 times to 35, for as much CPU
# (``nox -s bench -- quality``).
SCALED_DECODE_MARGIN: Final = 2.25
_AVERAGING: Final = frozenset({"area"})
_WHITE: Final = (255, 255, 255)

# An EXIF orientation → what undoes it.
_TURNS: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_ORIENTATION: Final = 0x0112  # the EXIF tag

# The colours a profile speaks of → the mode of an image it may belong to.
_PROFILED: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# Profiles of printing presses have up to 3 MB; what is larger is no profile.
PROFILE_BYTES_MAX: Final = 4 * 2**20
# Web images carry a few profiles over and over; making a conversion takes 2 ms, and one may hold a whole profile.
PROFILES_KEPT: Final = 16


def prepare() -> None:
    """Set this process up for decoding what others sent: call it once, before any thread decodes."""
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # odd metadata of the web, image by image
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    PngImagePlugin.MAX_TEXT_CHUNK = PROFILE_BYTES_MAX  # or a PNG with a larger profile than 1 MiB would be refused


@contextmanager
def quiet() -> Iterator[None]:
    """Decode in a process of somebody else's: say nothing of odd images during the block, and leave all as it was.

    What the process has set of the library stays so, such as whether truncated images are shown.
    """
    _quiet.enter()
    try:
        yield
    finally:
        _quiet.leave()


# As warnings.filters has them: what is done, with which message, kind, module and line. The sizes of which the second
# speaks are refused in words of our own.
_QUIET_FILTERS: Final = (
    ("ignore", None, UserWarning, re.compile("PIL"), 0),
    ("ignore", None, Image.DecompressionBombWarning, None, 0),
)


class _Quiet:
    """The warnings of the library that nobody sees while at least one block lasts.

    Filters of warnings are the process's, as those of a thread there are only in Python 3.14 and later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0

    def enter(self) -> None:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:  # not by the functions for it, which move a filter that is there already
                cast("list[Any]", warnings.filters)[:0] = _QUIET_FILTERS

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                for entry in _QUIET_FILTERS:
                    with suppress(ValueError):  # somebody else has put the filters back to what they were before
                        cast("list[Any]", warnings.filters).remove(entry)


_quiet: Final = _Quiet()


def library() -> str:
    """Return the name and version of the image library."""
    return f"{'pillow-simd' if is_simd() else 'Pillow'} {PIL.__version__}"


def is_simd() -> bool:
    """Whether the image library is pillow-simd."""
    return ".post" in PIL.__version__  # it numbers its releases after Pillow's, with a .post


def has_turbo() -> bool:
    """Whether this build of the library decodes JPEGs by libjpeg-turbo."""
    return _has("libjpeg_turbo")


def converts_profiles() -> bool:
    """Whether this build of the library can convert colours by ICC profiles."""
    return bool(features.check("littlecms2"))


# Formats of the web whose decoders a build may lack.
WEB_FORMATS: Final = ("jpg", "png", "webp", "avif")


def missing_formats() -> list[str]:
    """Return the formats that this build of the library lacks, of those that the web has."""
    return [name for name in WEB_FORMATS if name not in _decodable()]


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


# A dozen brands are many.
FTYP_BYTES_MAX: Final = 128


def sniff(content: bytes) -> str | None:
    """Return the format that the first bytes of *content* show, None if it is no image that is decoded here."""
    for name, starts in (
        ("jpg", (b"\xff\xd8\xff",)),
        ("png", (b"\x89PNG\r\n\x1a\n",)),
        ("gif", (b"GIF87a", b"GIF89a")),
        ("bmp", (b"BM",)),
        ("tiff", (b"II*\x00", b"MM\x00*")),
        ("jp2", (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ):
        if content.startswith(starts):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return "avif" if _is_avif(content) else None


def _is_avif(content: bytes) -> bool:
    """Whether the first box of an ISO-BMFF file names AVIF: brand, its version, further brands (ISO 14496-12, 4.3)."""
    if content[4:8] != b"ftyp":
        return False
    brands = content[8 : min(int.from_bytes(content[:4], "big"), FTYP_BYTES_MAX)]
    return any(brands[at : at + 4] in (b"avif", b"avis") for at in (0, *range(8, len(brands), 4)))


def can_decode(name: str, also: Collection[str] = ()) -> bool:
    """Whether images of the format *name* are decoded: usually, or as one of *also*."""
    return name in _decodable() or (name in also and name in _decodable_on_request())


@functools.cache
def _decodable_on_request() -> frozenset[str]:
    Image.init()
    return frozenset(name for name, plugin in _ON_REQUEST.items() if plugin in Image.OPEN and _has(_CODECS[name]))


# What the library calls the code that it must have been built with.
_CODECS: Final = {"tiff": "libtiff", "jp2": "jpg_2000"}


def _check_scans(content: bytes) -> None:
    """Refuse a JPEG that may have so many scans that each pixel is gone over without end."""
    if (scans := content.count(b"\xff\xda")) > SCANS_MAX:
        raise TransformFailure(ErrorClass.DECODE_BOMB, f"JPEG of {scans} scans; at most {SCANS_MAX} are decoded")


def _check_size(width: int, height: int) -> None:
    if width * height > PIXELS_MAX or max(width, height) > SIDE_MAX:
        said = f"at most {PIXELS_MAX} are decoded, and sides of {SIDE_MAX}"
        raise TransformFailure(ErrorClass.DECODE_BOMB, f"image of {width}x{height} pixels; {said}")


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Return the size in the header of a WebP, of the extended format that of its canvas; None if it has none.

    Google, WebP Container Specification; RFC 6386 9.1 and RFC 9649.
    """
    kind, head = content[12:16], content[20:30]
    if len(head) < 10:  # noqa: PLR2004  no format has less
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
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
    def open(cls, content: bytes, also: Collection[str] = ()) -> Source:
        """Read the header of *content*, of one of the usual formats or those named in *also*.

        Raises:
            TransformFailure: it is not an image, or not one that can be decoded safely.

        """
        name = sniff(content)
        if name is None:
            raise TransformFailure(ErrorClass.NOT_IMAGE, "Image decoding error")
        if not can_decode(name, also):
            raise TransformFailure(
                ErrorClass.DECODE_UNSUPPORTED,
                f"{name} images are not decoded by this program or this build of its image library",
            )
        if name == "jpg":
            _check_scans(content)
        if name == "webp" and (size := _webp_size(content)) is not None:
            _check_size(*size)  # here, as Pillow makes a canvas of that size to read the header
        with _translated():
            image = Image.open(io.BytesIO(content), formats=[_PILLOW_NAMES.get(name) or _ON_REQUEST[name]])
            if name == "png":
                _scale_key(image, depth=content[24] if content[12:16] == b"IHDR" else 8)
        if name == "png" and content.rfind(b"IEND") < 0:  # Pillow is content without its end
            raise TransformFailure(ErrorClass.DECODE_TRUNCATED, "Image decoding error")
        width, height = image.size
        _check_size(width, height)
        return cls(name, (width, height), image)

    def decode(self) -> None:
        """Decode all pixels, to see whether that can be done.

        Raises:
            TransformFailure: it cannot.

        """
        with _translated():
            self._image.load()

    @property
    def has_alpha(self) -> bool:
        """Whether any pixel may be transparent."""
        return self._image.has_transparency_data

    @property
    def turn(self) -> int:
        """The EXIF orientation, 1 to 8; 1 where there is none that can be read.

        Raises:
            TransformFailure: it may stand behind the pixels, and these cannot be decoded.

        """
        if self.format == "png":
            with _translated():
                self._image.load()
        try:
            found = self._image.getexif().get(_ORIENTATION, UPRIGHT)
        except Exception:  # noqa: BLE001  a parser of hostile bytes; the image itself may be fine
            return UPRIGHT
        return int(found) if isinstance(found, int) and found in _TURNS else UPRIGHT

    def to_srgb(self) -> ToSrgb | None:
        """Return the conversion of its pixels to sRGB, None where that changes nothing or there is no good profile."""
        profile = self._image.info.get("icc_profile")
        if not isinstance(profile, bytes) or not 0 < len(profile) <= PROFILE_BYTES_MAX:
            return None
        mode = self._image.mode
        return _conversion(profile, "CMYK" if mode == "CMYK" else "L" if mode[0] in "1LI" else "RGB")


@dataclass(frozen=True, slots=True)
class ToSrgb:
    """A conversion to sRGB of images of one *mode*: L, RGB or CMYK."""

    mode: str
    _transform: ImageCms.ImageCmsTransform

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return *image* in sRGB; grey stays in the mode it has."""
        grey = image.mode == "L"
        if self.mode == "L" and not grey:
            image = image.getchannel("G")
        shown = self._transform.apply(image)
        return shown.getchannel("G") if grey else shown


@functools.lru_cache(PROFILES_KEPT)
def _conversion(profile: bytes, mode: str) -> ToSrgb | None:
    """Return the conversion by *profile* of images of *mode*; None where it is not for them, broken, or sRGB's own."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _PROFILED.get(opened.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        conversion = ToSrgb(mode, transform)
        # Of eight sRGB profiles seen in the wild none moves a colour by more than the one level that rounding costs;
        # any other profile moves some by dozens.
        if mode != "CMYK" and _alike(conversion(_sample(mode)), _sample(mode)):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return conversion


@functools.cache
def _sample(mode: str) -> Image.Image:
    """Return an image of every grey, or of colours from all over the cube."""
    if mode == "L":
        return Image.frombytes("L", (16, 16), bytes(range(256)))
    steps = range(0, 256, 17)
    return Image.frombytes(
        "RGB", (64, 64), bytes(level for r in steps for g in steps for b in steps for level in (r, g, b))
    )


def _alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether no two pixels of the images differ by more than a level."""
    return ImageChops.difference(one, other).point(lambda level: max(0, level - 1)).getbbox() is None


def render(
    source: Source, placement: Placement, *, reducing: str, enlarging: str, exact: bool, to_srgb: ToSrgb | None = None
) -> Image.Image:
    """Decode *source* and put its pixels where *placement* says, in grey or RGB.

    Args:
        source: what to decode; it is used up.
        placement: where the pixels go.
        reducing: the interpolation to reduce with.
        enlarging: the interpolation to enlarge with.
        exact: decode a JPEG at its full size even if a reduced one would do.
        to_srgb: the conversion of its colours, None to take them as they are.

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
        if placement.resize and not placement.enlarges and not exact and reducing in _AVERAGING:
            width, height = placement.resize
            image.draft(None, (math.ceil(SCALED_DECODE_MARGIN * width), math.ceil(SCALED_DECODE_MARGIN * height)))
        image.load()
        if to_srgb is None or to_srgb.mode != "CMYK":  # which its profile knows better how to show
            image = _plain(image)
        if placement.resize and placement.resize != image.size:
            resize = ENLARGING[enlarging] if placement.enlarges else REDUCING[reducing]
            image = resize(image, placement.resize)
        if to_srgb:
            image = to_srgb(image)
        if placement.blur:
            image = _blurred(image, placement.blur)
        if placement.turn != UPRIGHT:
            image = image.transpose(_TURNS[placement.turn])
        if placement.crop:
            image = image.crop(placement.crop)
        if placement.canvas:
            image = _on_canvas(image, placement.canvas)
    return image


def _filtered(image: Image.Image, size: Size, resampling: Resampling) -> Image.Image:
    """Resize with one of Pillow's filters: when reducing it averages over all pixels that a new one covers."""
    return image.resize(size, resampling)


def _sampled(image: Image.Image, size: Size, resampling: Resampling) -> Image.Image:
    """Resize by interpolating between the two or four pixels around each new one's centre; reducing skips the rest."""
    across, down = image.width / size[0], image.height / size[1]
    return image.transform(size, Image.Transform.AFFINE, (across, 0, 0, 0, down, 0), resampling)


def _nearest(image: Image.Image, size: Size) -> Image.Image:
    """Take the pixel at each new one's upper left corner, as OpenCV does, where Pillow takes that at its centre."""
    across, down = _corners(image.width, size[0]), _corners(image.height, size[1])
    affine = (across, 0, -across / 2, 0, down, -down / 2)
    return image.transform(size, Image.Transform.AFFINE, affine, Resampling.NEAREST)


def _corners(old: int, new: int) -> float:
    """Return how far apart the corners of *new* pixels lie on a side of *old* ones.

    Where a corner meets one of the old pixels, OpenCV's rounding decides which side of it is taken. The distance
    returned is a trifle longer or shorter, so that the same side is taken here.
    """
    distance = 1 / (new / old)  # as OpenCV comes by it
    meeting = new // math.gcd(old, new)
    return distance * (1 + (_TRIFLE if math.floor(meeting * distance) * new == meeting * old else -_TRIFLE))


def _averaged(image: Image.Image, size: Size) -> Image.Image:
    """Average over the area that each new pixel covers, exactly where it covers whole pixels."""
    if image.width % size[0] == 0 and image.height % size[1] == 0:
        return image.reduce((image.width // size[0], image.height // size[1]))
    little = max(image.size) < AREA_LITTLE * max(size)
    return image.resize(size, Resampling.BILINEAR if little else Resampling.HAMMING)


def _squared(image: Image.Image, size: Size) -> Image.Image:
    """Enlarge each pixel to a rectangle, and mix two where their edge falls into a new pixel."""
    across = _squared_across(image, size[0])
    return _squared_across(across.transpose(Transpose.TRANSPOSE), size[1]).transpose(Transpose.TRANSPOSE)


def _squared_across(image: Image.Image, width: int) -> Image.Image:
    size, distance, scale = (width, image.height), _corners(image.width, width), width / image.width
    begins, next_to_it = (
        image.transform(size, Image.Transform.AFFINE, (distance, 0, old - distance / 2, 0, 1, 0), Resampling.NEAREST)
        for old in (0, 1)
    )
    # How much of a new pixel lies beyond the old one that it begins in.
    beyond = (new + 1 - (math.floor(new * distance) + 1) * scale for new in range(width))
    shares = bytes(round(255 * (round(max(0.0, share), 6) % 1)) for share in beyond)
    mask = Image.frombytes("L", (width, 1), shares).resize(size, Resampling.NEAREST)
    return Image.composite(next_to_it, begins, mask)


def _cubic_reduced(image: Image.Image, size: Size) -> Image.Image:
    return _mixed(_sampled(image, size, Resampling.BILINEAR), _sampled(image, size, Resampling.BICUBIC), 0.75)


def _cubic_enlarged(image: Image.Image, size: Size) -> Image.Image:
    return _mixed(_filtered(image, size, Resampling.BICUBIC), _sampled(image, size, Resampling.BICUBIC), 0.5)


def _mixed(one: Image.Image, sampled: Image.Image, share: float) -> Image.Image:
    """Return *one* and so much of *sampled*.

    Sampling and mixing both cut off fractions of a level. Where the two are equal a level more of *sampled* is cut off
    again, and elsewhere it makes up for what was lost.
    """
    return Image.blend(one, sampled.point(_ONE_MORE * len(sampled.getbands())), share)


_TRIFLE: Final = 1e-9
_ONE_MORE: Final = [*range(1, 256), 255]
# Up to here a triangle is closer to the area that a new pixel covers than Hamming's window is: over 87 JPEGs of 300 to
# 1,500 pixels, reduced by 1.25, 55.0 dB on the average against 50.9, by 1.45 53.0 against 52.9, by 1.6 51.3 against
# 54.1. Pillow's Box, which takes pixels whole or not at all, reaches 42 to 50.
AREA_LITTLE: Final = 1.45

# The name of an interpolation → what comes closest to OpenCV's of that name, when reducing and when enlarging; beside
# each, the mean and the worst PSNR over 59 of those JPEGs, reduced or enlarged to 256 pixels, in dB.
#
# OpenCV averages in "area" only and samples otherwise, also when it reduces. Its cubic is Keys' with a = -0.75; Pillow
# filters with a = -0.5 and samples with a = -1, so that a mixture of the two, or when reducing of linear and cubic
# samples, lies where OpenCV's does. Eight taps as Lanczos-4 has none of Pillow's samplers has; its cubic, with the
# highest side lobes, is the nearest to it.
REDUCING: Final[Mapping[str, Callable[[Image.Image, Size], Image.Image]]] = {
    "nearest": _nearest,  # equal
    "linear": functools.partial(_sampled, resampling=Resampling.BILINEAR),  # 55.6, 51.2
    "bilinear": functools.partial(_sampled, resampling=Resampling.BILINEAR),
    "cubic": _cubic_reduced,  # 55.0, 46.3
    "bicubic": _cubic_reduced,
    "area": _averaged,  # 56.6, 43.2
    "lanczos": functools.partial(_sampled, resampling=Resampling.BICUBIC),  # 50.1, 39.3
    "lanczos4": functools.partial(_sampled, resampling=Resampling.BICUBIC),
}
ENLARGING: Final[Mapping[str, Callable[[Image.Image, Size], Image.Image]]] = {
    "nearest": _nearest,  # equal
    "linear": functools.partial(_filtered, resampling=Resampling.BILINEAR),  # 57.6, 53.8
    "bilinear": functools.partial(_filtered, resampling=Resampling.BILINEAR),
    "cubic": _cubic_enlarged,  # 58.4, 54.3
    "bicubic": _cubic_enlarged,
    "area": _squared,  # 61.8, 55.6
    "lanczos": functools.partial(_filtered, resampling=Resampling.LANCZOS),  # 54.0, 41.1
    "lanczos4": functools.partial(_filtered, resampling=Resampling.LANCZOS),
}


def _blurred(image: Image.Image, blur: Blur) -> Image.Image:
    """Return *image* with nothing but blur inside the boxes, fading out outside of them."""
    gaussian = ImageFilter.GaussianBlur(blur.sigma)
    # Pillow's Gaussian is three boxes after one another, each reaching about sigma far.
    reach = 3 * math.ceil(blur.sigma + 1)
    around = (
        max(0, min(left for left, _, _, _ in blur.boxes) - reach),
        max(0, min(top for _, top, _, _ in blur.boxes) - reach),
        min(image.width, max(right for _, _, right, _ in blur.boxes) + reach),
        min(image.height, max(bottom for _, _, _, bottom in blur.boxes) + reach),
    )
    piece = image.crop(around)
    inside = Image.new("L", piece.size, 0)
    for left, top, right, bottom in blur.boxes:
        inside.paste(255, (left - around[0], top - around[1], right - around[0], bottom - around[1]))
    # A blurred mask is at half its height on the edge of a box; doubled, it goes on from there without a step.
    mask = ImageChops.lighter(inside, inside.filter(gaussian).point(lambda share: min(255, 2 * share)))
    image.paste(piece.filter(gaussian), around, mask)
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


def _as_image(image: Pixels) -> Pixels:
    """Return *image* in RGB, without anything of the file that it came from."""
    shown = image.copy() if image.mode == "RGB" else image.convert("RGB")
    shown.info = {}
    return shown


def _as_array(image: Pixels) -> NDArray[np.uint8]:
    """Return *image* as an array of height, width and the three colours, which may be written to."""
    import numpy as np

    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


# What a decoded image may be handed out as.
SHOWN: Final[Mapping[str, Callable[[Pixels], object]]] = {"numpy": _as_array, "pil": _as_image}


def _plain(image: Image.Image) -> Image.Image:
    """Return *image* in mode L or RGB, transparent parts on white."""
    if image.mode.startswith("I;16"):
        return _plain_16_bit(image)
    if image.has_transparency_data:
        # One level of grey may stand for transparency; grey with a channel of its own for it becomes RGB in OpenCV.
        mode = "L" if image.mode in ("1", "L") else "RGB"
        layer = image.convert(f"{mode}A")
        flat = Image.new(mode, image.size, 255 if mode == "L" else _WHITE)
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scale_key(image: Image.Image, depth: int) -> None:
    """Bring the level or colour that stands for transparency to the depth in which Pillow decodes a PNG.

    Of 16 bits it keeps the upper eight of RGB and all of grey, and it spreads fewer than eight over their range.
    """
    key = image.info.get("transparency")
    if isinstance(key, tuple) and depth == 16:  # noqa: PLR2004  bits
        image.info["transparency"] = tuple(level >> 8 for level in key)
    elif isinstance(key, int) and image.mode in ("1", "L") and 0 < depth < 8:  # noqa: PLR2004
        image.info["transparency"] = key * 255 // (2**depth - 1)


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
