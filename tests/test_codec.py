"""Decoding and encoding: every kind of picture the web sends, and every kind of damage."""

from __future__ import annotations

import io
import math
import random
import struct
import subprocess
import sys
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from PIL import Image, ImageChops, ImageStat, features

import handmade
from async_img2ds.errors import ErrorClass, TransformFailure
from async_img2ds.images import codec
from async_img2ds.policy import geometry
from async_img2ds.policy.geometry import Placement
from handmade import chunk, gif, saved, webp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RED = (200, 30, 30)
WHITE = (255, 255, 255)
GREY = b"\x9c\x40"  # 40,000 of 65,535, which is 156 of 255


def decoded(content: bytes, placement: Placement | None = None, *, exact: bool = False) -> Image.Image:
    source = codec.Source.open(content)
    return codec.render(source, placement or Placement(source.size), reducing="area", enlarging="lanczos", exact=exact)


def resized(image: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """Return *image* after a resize by the interpolation *name*, whichever way it goes."""
    enlarges = size[0] > image.width
    source = codec.Source.open(saved(image, "PNG"))
    placement = Placement(size, size, enlarges)
    return codec.render(source, placement, reducing=name, enlarging=name, exact=True)


def refusal(content: bytes) -> ErrorClass:
    with pytest.raises(TransformFailure) as caught:
        decoded(content)
    return caught.value.error_class


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two images in dB."""
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    mean = sum(squares) / (one.width * one.height * len(squares))
    return 10 * math.log10(255**2 / mean) if mean else math.inf


def test_photographs_of_every_format_are_decoded(photographs: Path) -> None:
    """Each becomes grey or RGB at the size it is stored in, whichever way EXIF would turn it."""
    contents = {path.name: path.read_bytes() for path in photographs.iterdir() if path.name != "truncated.jpg"}
    images = {name: decoded(content) for name, content in contents.items()}
    sizes = {name: Image.open(io.BytesIO(content)).size for name, content in contents.items()}

    assert {name: image.size for name, image in images.items()} == sizes
    assert images["coffee-rotated.jpg"].size == (400, 600)
    assert {image.mode for image in images.values()} == {"L", "RGB"}


CHELSEAS = ["chelsea-baseline.jpg", "chelsea-progressive.jpg", "chelsea.webp"]


@pytest.mark.parametrize("name", [*CHELSEAS, "chelsea-cmyk.jpg"])
def test_every_format_shows_the_same_picture(photographs: Path, name: str) -> None:
    """Neither inverted nor in other colours: each format comes close to the PNG that it was made from."""
    original = decoded((photographs / "chelsea.png").read_bytes())

    assert psnr(decoded((photographs / name).read_bytes()), original) > 28


def png(size: tuple[int, int], depth: int, colour: int, pixels: bytes = b"", *others: bytes) -> bytes:
    """Return a PNG with one row of *pixels*, as Pillow does not write all kinds."""
    return handmade.png(size, depth, colour, b"\0" + pixels, *others)


def transparent(*levels: int) -> bytes:
    """Return the chunk that names one level or colour of a PNG as transparent."""
    return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))


def ycck(colour: tuple[int, int, int]) -> bytes:
    """Return a JPEG in Adobe's YCCK, inverted as Adobe writes it."""
    image = ImageChops.invert(Image.new("RGB", (8, 8), colour)).convert("YCbCr")
    bands = [ImageChops.invert(band) for band in image.split()]  # Pillow inverts what it writes as CMYK
    content = saved(Image.merge("CMYK", [*bands, Image.new("L", (8, 8), 0)]), "JPEG", quality=100)
    place = content.index(b"Adobe") + 11  # where it says of what the four channels are
    return content[:place] + b"\2" + content[place + 1 :]


def without_adobe(content: bytes) -> bytes:
    """Return a JPEG without the segment that names its colours."""
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]


BLACK_IS_TRANSPARENT = transparent(0)
CMYK = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
PIXELS = {
    "16-bit-grey": (png((1, 1), 16, 0, GREY), 156),
    "16-bit-grey-beside-transparent": (png((1, 1), 16, 0, GREY, BLACK_IS_TRANSPARENT), 156),
    "16-bit-grey-transparent": (png((1, 1), 16, 0, b"\0\0", BLACK_IS_TRANSPARENT), 255),
    "16-bit-grey-half-transparent": (png((1, 1), 16, 4, b"\0\0\x80\0"), (127, 127, 127)),
    "16-bit-rgb": (png((1, 1), 16, 2, GREY * 3), (156, 156, 156)),
    "16-bit-rgb-beside-transparent": (png((1, 1), 16, 2, GREY * 3, transparent(0, 0, 0x9C)), (156, 156, 156)),
    "16-bit-rgb-transparent": (png((1, 1), 16, 2, GREY * 3, transparent(40_000, 40_000, 40_000)), WHITE),
    "16-bit-rgba": (png((1, 1), 16, 6, GREY * 3 + b"\xff\xff"), (156, 156, 156)),
    "16-bit-rgba-transparent": (png((1, 1), 16, 6, GREY * 3 + b"\0\0"), WHITE),
    "1-bit": (png((1, 1), 1, 0, b"\x80"), 255),
    "1-bit-transparent": (png((1, 1), 1, 0, b"\0", BLACK_IS_TRANSPARENT), 255),
    "2-bit": (png((1, 1), 2, 0, b"\x40"), 85),
    "2-bit-transparent": (png((1, 1), 2, 0, b"\x40", transparent(1)), 255),
    "2-bit-beside-transparent": (png((1, 1), 2, 0, b"\x40", transparent(2)), 85),
    "4-bit-transparent": (png((1, 1), 4, 0, b"\x90", transparent(9)), 255),
    "grey-of-a-transparent-level": (saved(Image.new("L", (1, 1), 40), "PNG", transparency=40), 255),
    "grey-beside-a-transparent-level": (saved(Image.new("L", (1, 1), 41), "PNG", transparency=40), 41),
    "rgb-of-a-transparent-colour": (saved(Image.new("RGB", (1, 1), RED), "PNG", transparency=RED), WHITE),
    "rgb-beside-a-transparent-colour": (saved(Image.new("RGB", (1, 1), RED), "PNG", transparency=(200, 30, 31)), RED),
    "transparent-grey": (saved(Image.new("LA", (1, 1), (40, 0)), "PNG"), WHITE),
    "opaque-grey": (saved(Image.new("LA", (1, 1), (40, 255)), "PNG"), (40, 40, 40)),
    "transparent": (saved(Image.new("RGBA", (1, 1), (*RED, 0)), "PNG"), WHITE),
    "a-fifth-of-black": (saved(Image.new("RGBA", (1, 1), (0, 0, 0, 51)), "PNG"), (204, 204, 204)),
    "transparent-webp": (saved(Image.new("RGBA", (1, 1), (*RED, 0)), "WEBP", lossless=True), WHITE),
    "palette": (saved(Image.new("RGB", (1, 1), RED).quantize(2), "PNG"), RED),
    "palette-transparent": (saved(Image.new("P", (1, 1)), "PNG", transparency=0), WHITE),
    "palette-a-fifth": (saved(Image.new("P", (1, 1)), "PNG", transparency=bytes([51])), (204, 204, 204)),
    "gif-transparent": (saved(Image.new("P", (1, 1)), "GIF", transparency=0), WHITE),
    "cmyk": (CMYK, (255, 0, 0)),
    "cmyk-without-adobe": (without_adobe(CMYK), (255, 0, 0)),
    "ycck": (ycck(RED), RED),
    "grey-jpg": (saved(Image.new("L", (8, 8), 40), "JPEG"), 40),
    "bmp": (saved(Image.new("RGB", (8, 8), RED), "BMP"), RED),
    "1-bit-bmp": (saved(Image.new("1", (8, 8), 1), "BMP"), 255),
}


@pytest.mark.parametrize(("content", "expected"), PIXELS.values(), ids=PIXELS)
def test_any_kind_of_pixel_becomes_grey_or_rgb_on_white(content: bytes, expected: tuple[int, ...] | int) -> None:
    """Depth is scaled to eight bits, and what is transparent shows white."""
    image = decoded(content)

    assert image.mode == ("L" if isinstance(expected, int) else "RGB")
    assert image.getpixel((0, 0)) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_mixed_with_white_to_the_level(mode: str) -> None:
    """Every level at every opacity becomes what the formula of alpha says, rounded."""
    levels = Image.frombytes("L", (256, 256), bytes(range(256)) * 256)
    alpha = levels.transpose(Image.Transpose.TRANSPOSE)
    image = decoded(saved(Image.merge(mode, [levels] * (len(mode) - 1) + [alpha]), "PNG")).getchannel(0)
    expected = bytes(round(a / 255 * level + 255 - a) for a in range(256) for level in range(256))

    assert max(abs(one - other) for one, other in zip(image.tobytes(), expected, strict=True)) <= 1


def keys_kernel(x: float) -> float:
    """Return the weight of a pixel at distance *x* in OpenCV's cubic interpolation: Keys' with a = -0.75."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def lanczos_kernel(x: float) -> float:
    """Return the weight of a pixel at distance *x* in Lanczos' interpolation over eight pixels."""

    def sinc(y: float) -> float:
        return math.sin(math.pi * y) / (math.pi * y) if y else 1.0

    return sinc(x) * sinc(x / 4) if abs(x) < 4 else 0.0


def sampling(kernel: Callable[[float], float], reach: int) -> Callable[[int, float], dict[int, float]]:
    def weights(place: int, scale: float) -> dict[int, float]:
        at = (place + 0.5) * scale - 0.5
        return {x: kernel(at - x) for x in range(math.floor(at) - reach + 1, math.floor(at) + reach + 1)}

    return weights


def coverage(place: int, scale: float) -> dict[int, float]:
    first, last = place * scale, (place + 1) * scale
    return {x: min(last, x + 1) - max(first, x) for x in range(math.floor(first), math.ceil(last - 1e-9))}


# What OpenCV weighs the pixels of a line with, by the place of the new pixel and how many old ones it stands for.
WEIGHTS: dict[str, Callable[[int, float], dict[int, float]]] = {
    "nearest": lambda place, scale: {math.floor(place * scale): 1.0},
    "linear": sampling(lambda x: max(0.0, 1 - abs(x)), 1),
    "cubic": sampling(keys_kernel, 2),
    "lanczos": sampling(lanczos_kernel, 4),
    "area": coverage,
}


def interpolated(image: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """Return what OpenCV makes of a grey image, by its formulas."""
    for length in size:  # across, then down
        width, height = image.size
        lines = [list(image.crop((0, y, width, y + 1)).tobytes()) for y in range(height)]
        kinds = [WEIGHTS[name](place, 1 / (length / width)) for place in range(length)]
        image = Image.new("L", (height, length))
        for x, kind in enumerate(kinds):
            total = sum(kind.values())
            for y, line in enumerate(lines):
                level = sum(line[min(width - 1, max(0, at))] * weight for at, weight in kind.items()) / total
                image.putpixel((y, x), min(255, max(0, round(level))))
    return image


# How close to the formula each interpolation comes on a photograph, in dB: reducing to 2/3, to 3/8, and enlarging.
# Pillow's filter of the same name reaches 20 to 38 dB when reducing.
CLOSE = {
    "nearest": (99, 99, 99),
    "linear": (50, 50, 65),
    "cubic": (49, 50, 53),
    "area": (43, 48, 65),
    "lanczos": (42, 42, 50),
}
RESIZED = [(50, 34), (27, 19), (190, 127)]
CASES = [(name, size, least) for name, each in CLOSE.items() for size, least in zip(RESIZED, each, strict=True)]
ALIASES = {"bilinear": "linear", "bicubic": "cubic", "lanczos4": "lanczos"}


@pytest.mark.parametrize(("name", "size", "least"), CASES, ids=[f"{name}-{width}" for name, (width, _), _ in CASES])
def test_interpolation_comes_close_to_that_of_its_name_in_opencv(
    photographs: Path, name: str, size: tuple[int, int], least: float
) -> None:
    """The pixels are those of OpenCV's formulas, but for rounding and long tails."""
    image = Image.open(photographs / "chelsea.png").convert("L").resize((75, 50), Image.Resampling.LANCZOS)
    found, expected = resized(image, size, name), interpolated(image, size, name)

    assert psnr(found, expected) >= least


@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.parametrize("size", [(50, 34), (190, 127)], ids=["reducing", "enlarging"])
def test_two_names_of_an_interpolation_mean_the_same(photographs: Path, name: str, size: tuple[int, int]) -> None:
    """OpenCV's names and the short ones give the same pixels."""
    image = Image.open(photographs / "chelsea.png").resize((75, 50))

    assert resized(image, size, name).tobytes() == resized(image, size, ALIASES[name]).tobytes()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_area_of_whole_pixels_is_averaged_exactly(photographs: Path, factor: int) -> None:
    """Reduced to a half, a third or a quarter, each pixel is the mean of those it covers."""
    image = Image.open(photographs / "chelsea.png").convert("L").resize((48, 36))
    size = (48 // factor, 36 // factor)

    found, expected = resized(image, size, "area").tobytes(), interpolated(image, size, "area").tobytes()

    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) <= 1


@pytest.mark.parametrize("name", sorted(codec.REDUCING))
def test_jpeg_is_decoded_at_a_reduced_size_only_for_averages(photographs: Path, name: str) -> None:
    """Interpolations that pick pixels pick them from the full image; the average of an area hardly changes."""
    content = (photographs / "retina.jpg").read_bytes()
    placement = geometry.place("keep_ratio", (1411, 1411), 200, only_if_bigger=False)
    fast, exact = (
        codec.render(codec.Source.open(content), placement, reducing=name, enlarging=name, exact=exact)
        for exact in (False, True)
    )

    assert (fast.tobytes() == exact.tobytes()) == (name != "area")
    assert psnr(fast, exact) > 45


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO"])
def test_first_frame_of_an_animation_is_taken(kind: str) -> None:
    """Of many pictures in one file the first is the image."""
    others = [Image.new("RGB", (16, 16), colour) for colour in ("blue", "lime")]
    content = saved(Image.new("RGB", (16, 16), RED), kind, save_all=True, append_images=others)

    assert decoded(content).getpixel((8, 8)) == pytest.approx(RED, abs=6)


CUTS = [*((name, 1) for name in CHELSEAS), ("chelsea.png", 12), ("coins.gif", 64)]


@pytest.mark.parametrize(("name", "missing"), CUTS, ids=[f"{name}-{missing}" for name, missing in CUTS])
def test_truncated_photograph_is_refused(photographs: Path, name: str, missing: int) -> None:
    """Wherever a file is cut off, and be it before its end mark, none of it becomes an image."""
    whole = (photographs / name).read_bytes()
    lengths = [*range(40, len(whole) - missing, len(whole) // 40), len(whole) - missing]

    assert {refusal(whole[:length]) for length in lengths} <= {ErrorClass.DECODE_TRUNCATED, ErrorClass.DECODE_ERROR}


NO_IMAGES = {
    "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pdf": b"%PDF-1.7\n",
    "psd": b"8BPS\0\x01" + bytes(60),
    "mp4": b"\0\0\0\x20ftypisom" + bytes(60),
    "empty": b"",
    "tiff": saved(Image.new("L", (2, 2)), "TIFF"),
    "big-endian-tiff": b"MM\0*" + bytes(60),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_of_the_web_never_reaches_the_library(name: str) -> None:
    """Its first bytes decide, so no rarely used decoder and no external program sees a body."""
    expected = ErrorClass.DECODE_UNSUPPORTED if "tiff" in name else ErrorClass.NOT_IMAGE

    with mock.patch.object(Image, "open", side_effect=AssertionError("reached the library")):
        assert refusal(NO_IMAGES[name]) is expected


@pytest.mark.skipif(bool(features.check("avif")), reason="this build decodes AVIF")
def test_format_that_the_build_lacks_is_unsupported() -> None:
    """An AVIF is told apart from a damaged image, and without a warning, where its decoder was not built in."""
    assert refusal(b"\0\0\0\x1cftypavif" + bytes(100)) is ErrorClass.DECODE_UNSUPPORTED


BOMBS = {
    "png": png((50_000, 50_000), 1, 0),
    "png-just-too-large": png((9_460, 9_460), 8, 2),
    "gif": gif(65_535, 65_535),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "png-line": png((65_501, 1), 8, 0),
    "webp": webp(b"VP8X", b"\0\0\0\0" + (16_382).to_bytes(3, "little") * 2),
    "webp-lossy": webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + (16_383).to_bytes(2, "little") * 2),
    "webp-lossless": webp(b"VP8L", b"\x2f" + (16_382 | 16_382 << 14).to_bytes(4, "little") + bytes(5)),
    "jpg": saved(Image.new("L", (8, 8)), "JPEG").replace(b"\0\x0b\x08\0\x08\0\x08", b"\0\x0b\x08\xff\xdc\xff\xdc"),
}
# Prints by how many kB the second file raises the peak of memory above that of the first; VmHWM because, after a start
# from here, getrusage begins with the peak of this process.
MEASURED = """
import contextlib, re, sys
from pathlib import Path
from async_img2ds.errors import TransformFailure
from async_img2ds.images import codec, transform
from async_img2ds.options import ImageOptions
codec.prepare()
peaks = []
for path in sys.argv[1:]:
    with contextlib.suppress(TransformFailure):
        transform.Transformer(ImageOptions(resize_mode="center_crop"))(Path(path).read_bytes())
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_image_of_too_many_pixels_is_refused_by_its_header(content: bytes) -> None:
    """A few bytes that announce gigabytes of pixels are refused before any pixel is asked for."""
    with mock.patch("PIL.Image.core.new", side_effect=AssertionError("allocated")):
        assert refusal(content) is ErrorClass.DECODE_BOMB


def test_jpeg_of_very_many_scans_is_refused_by_their_number(photographs: Path) -> None:
    """Each would be a pass over all of its pixels."""
    image = io.BytesIO()
    Image.open(photographs / "rocket.jpg").save(image, "JPEG", progressive=True)
    whole = image.getvalue()
    last = whole.rindex(b"\xff\xda")
    many = whole[:last] + whole[last:-2] * codec.SCANS_MAX + whole[-2:]

    assert codec.Source.open(whole).format == "jpg"
    with mock.patch.object(Image, "open", side_effect=AssertionError("reached the library")):
        assert refusal(many) is ErrorClass.DECODE_BOMB


@pytest.mark.parametrize("name", ["tiff", "jp2"])
def test_other_formats_are_decoded_when_they_are_asked_for(name: str) -> None:
    """Where the library can; never by themselves."""
    plugin, needed = {"tiff": ("TIFF", "libtiff"), "jp2": ("JPEG2000", "jpg_2000")}[name]
    if not features.check(needed):
        pytest.skip(f"this build has no {needed}")
    content = saved(Image.new("RGB", (40, 30), "red"), plugin)

    assert refusal(content) is ErrorClass.DECODE_UNSUPPORTED
    assert codec.Source.open(content, {name}).size == (40, 30)
    assert not codec.can_decode(name)
    assert codec.can_decode(name, {name})


def test_size_of_a_webp_is_read_as_the_library_reads_it() -> None:
    """Of a lossy one, a lossless one, and one with more than pixels in it."""
    for options in ({}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*" + bytes(8)}):
        content = saved(Image.new("RGB", (321, 123), "red"), "WEBP", **options)
        assert codec._webp_size(content) == (321, 123)


@pytest.mark.parametrize("content", [BOMBS["png"], saved(Image.new("L", (1, 4000)), "PNG")], ids=["bomb", "thin-line"])
def test_small_body_does_not_take_much_memory(photographs: Path, tmp_path: Path, content: bytes) -> None:
    """Neither a bomb nor a picture whose enlargement would be one costs more than a few large photographs."""
    (tmp_path / "hostile").write_bytes(content)
    command = [sys.executable, "-c", MEASURED, str(photographs / "chelsea.png"), str(tmp_path / "hostile")]

    grown_kb = int(subprocess.run(command, check=True, capture_output=True).stdout)

    assert grown_kb < 100_000


# Decodes an image for whose pixels there is no room, and then a small one.
CRAMPED = """
import resource, sys
from pathlib import Path
from async_img2ds.errors import TransformFailure
from async_img2ds.images import codec, transform
from async_img2ds.options import ImageOptions
codec.prepare()
made = transform.Transformer(ImageOptions())
large, small = (Path(path).read_bytes() for path in sys.argv[1:])
made(small)
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 100_000_000, -1))
try:
    made(large)
except TransformFailure as failure:
    print(failure.error_class, made(small).width)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_image_for_which_there_is_no_memory_fails_alone(photographs: Path, tmp_path: Path) -> None:
    """Where the system gives no more, the process lives on, and decodes what there is room for."""
    (tmp_path / "large").write_bytes(saved(Image.new("RGB", (9_000, 9_000)), "PNG"))
    command = [sys.executable, "-c", CRAMPED, str(tmp_path / "large"), str(photographs / "chelsea.png")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)

    assert ran.stdout == "decode_oom 256\n"


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library remarks on odd metadata
@pytest.mark.parametrize("name", [*CHELSEAS, "chelsea-cmyk.jpg", "chelsea-alpha.png", "coins.gif"])
def test_damaged_image_only_ever_fails_as_its_row(photographs: Path, name: str) -> None:
    """Whatever bytes are changed, lost or added, either an image comes out or the one failure that becomes a row."""
    whole, chance = (photographs / name).read_bytes(), random.Random(name)  # noqa: S311  the same damage every time
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 4, 16])):
            place = chance.randrange(chance.choice([64, 1024, len(whole)]))
            damaged[place : place + chance.choice([0, 4])] = chance.randbytes(chance.choice([0, 4]))
        try:
            outcomes.add(decoded(bytes(damaged)).mode)
        except TransformFailure as failure:
            outcomes.add(failure.error_class.value)

    assert len(outcomes) > 1


@pytest.mark.parametrize("name", ["astronaut-baseline.jpg", "retina.jpg", "rocket.jpg", "camera-gray.jpg"])
@pytest.mark.parametrize("side", [64, 200])
def test_jpeg_decoded_at_reduced_size_looks_the_same(photographs: Path, name: str, side: int) -> None:
    """Decoding fewer pixels than there are is not seen in the reduced image."""
    content = (photographs / name).read_bytes()
    placement = geometry.place("keep_ratio", codec.Source.open(content).size, side, only_if_bigger=False)

    fast, exact = decoded(content, placement), decoded(content, placement, exact=True)

    assert fast.size == exact.size == placement.size
    assert psnr(fast, exact) >= 32


@pytest.mark.parametrize(("name", "quality"), [("jpg", 95), ("png", 6), ("webp", 95), ("webp", 101)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"], ids=["from-jpg", "from-png", "from-webp"])
def test_stored_image_carries_no_metadata(kind: str, name: str, quality: int) -> None:
    """Profile, EXIF, comment and XMP of the original stay behind."""
    exif = Image.Exif()
    exif[0x010F] = "camera of somebody"
    carried = {
        "exif": exif,
        "icc_profile": b"of somebody" + bytes(200),
        "comment": b"by somebody",
        "xmp": b"<x>somebody</x>",
    }
    original = saved(Image.new("RGB", (16, 16), RED), kind, **carried)

    stored = codec.encode(decoded(original), name, quality)

    assert b"somebody" in original
    assert b"somebody" not in stored
    assert not Image.open(io.BytesIO(stored)).info.keys() & carried.keys()


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        ((b"avif", b"mif1"), "avif"),
        ((b"mif1", b"miaf", b"avif"), "avif"),  # as some encoders order them
        ((b"avis",), "avif"),
        ((b"heic", b"mif1"), None),
        ((b"mif1", *[b"heic"] * 40, b"avif"), None),
    ],
)
def test_avif_is_known_by_any_of_its_brands(brands: tuple[bytes, ...], name: str | None) -> None:
    """Those of the first box; other images come in the same kind of file."""
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    assert codec.sniff((len(box) + 4).to_bytes(4, "big") + box + b"avif" + bytes(64)) == name


@pytest.mark.parametrize(("name", "least", "most"), [("jpg", 0, 100), ("webp", 0, 100), ("png", 9, 0)])
def test_quality_has_its_meaning_from_end_to_end(photographs: Path, name: str, least: int, most: int) -> None:
    """The lowest value gives the smallest file and the highest the largest, each of the whole image."""
    image = decoded((photographs / "chelsea.png").read_bytes())
    small, large = codec.encode(image, name, least), codec.encode(image, name, most)

    assert len(small) < 0.6 * len(large)
    assert codec.sniff(small) == codec.sniff(large) == name
    assert decoded(small).size == decoded(large).size == image.size


@pytest.mark.parametrize(("name", "quality"), [("webp", 101), ("png", 0), ("png", 9)])
def test_lossless_means_every_pixel(photographs: Path, name: str, quality: int) -> None:
    """PNG at any level and WebP above 100 give back exactly what was stored."""
    image = decoded((photographs / "chelsea.png").read_bytes())

    assert decoded(codec.encode(image, name, quality)).tobytes() == image.tobytes()


@pytest.mark.parametrize(("name", "side"), [("webp", 20_000), ("jpg", 70_000)])
def test_image_too_long_for_its_format_is_a_failure_of_its_row(name: str, side: int) -> None:
    """What a format cannot hold fails with the size and the format in its message."""
    with pytest.raises(TransformFailure, match=f"cannot encode {side}x2 as {name}") as caught:
        codec.encode(Image.new("L", (side, 2)), name, 90)

    assert caught.value.error_class is ErrorClass.ENCODE_ERROR
