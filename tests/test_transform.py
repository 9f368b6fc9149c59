"""From a body to what is stored: sizes, filters, kept bytes, hashes and EXIF, with the options as a user sets them."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageOps, ImageStat

from async_img2ds.errors import ErrorClass, FetchFailure, TransformFailure
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer, exif_json
from async_img2ds.options import ImageOptions

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.records import Encoded

BLUE = (10, 60, 160)
PAGES = {
    "html": b"\xef\xbb\xbf \r\n<!DOCTYPE HTML><title>Not found</title>",
    "without-doctype": b"<html><body>Please log in</body></html>",
    "script": b"\n<script>location = '/'</script>",
}


def transform(content: bytes, **options: Any) -> Encoded:
    return Transformer(ImageOptions(**options))(content)


def picture(width: int, height: int, kind: str = "PNG", colour: tuple[int, int, int] = BLUE) -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stored, kind)
    return stored.getvalue()


def pixels(encoded: Encoded) -> Image.Image:
    image = Image.open(io.BytesIO(encoded.image))
    image.load()
    return image


def refusal(content: bytes, **options: Any) -> TransformFailure:
    with pytest.raises(TransformFailure) as caught:
        transform(content, **options)
    return caught.value


# Source size → the size of what is stored, for a target of 100 pixels.
SIZES = {
    "no": {(300, 200): (300, 200), (60, 40): (60, 40)},
    "keep_ratio": {(300, 200): (150, 100), (200, 300): (100, 150), (60, 40): (150, 100), (100, 333): (100, 333)},
    "keep_ratio_largest": {(300, 200): (100, 67), (200, 300): (67, 100), (60, 40): (100, 67), (1000, 1): (100, 1)},
    "center_crop": {(300, 200): (100, 100), (60, 40): (100, 100), (100, 333): (100, 100)},
    "border": {(300, 200): (100, 100), (60, 40): (100, 100), (100, 333): (100, 100)},
}


@pytest.mark.parametrize("name", ["rocket.jpg", "coffee.png", "camera-gray.jpg", "astronaut-cmyk.jpg", "coins.gif"])
def test_decoded_image_is_what_would_have_been_stored(photographs_bytes: dict[str, bytes], name: str) -> None:
    """As an array and as an image of the library, in three colours also where a grey file would be stored."""
    options = ImageOptions(encode_format="png", encode_quality=1, image_size=80)
    stored = Transformer(options)(photographs_bytes[name])
    array = Transformer(options, shows=codec.SHOWN["numpy"])(photographs_bytes[name])
    shown = Transformer(options, shows=codec.SHOWN["pil"])(photographs_bytes[name])
    expected = np.array(pixels(stored).convert("RGB"))

    assert array.pixels.dtype == np.uint8
    assert array.pixels.flags.writeable
    assert np.array_equal(array.pixels, expected)
    assert type(shown.pixels) is Image.Image
    assert not shown.pixels.info
    assert np.array_equal(np.array(shown.pixels), expected)
    assert (array.width, array.height, array.digest) == (stored.width, stored.height, stored.digest)


def test_image_that_needs_no_change_is_no_file_any_more(photographs_bytes: dict[str, bytes]) -> None:
    """What is handed out has nothing of the file that it came from, which is closed."""
    options = ImageOptions(resize_mode="no")
    shown = Transformer(options, shows=codec.SHOWN["pil"])(photographs_bytes["rocket.jpg"])

    assert type(shown.pixels) is Image.Image
    assert shown.pixels.size == (640, 427)


CASES = [(mode, size, expected) for mode, sizes in SIZES.items() for size, expected in sizes.items()]


@pytest.mark.parametrize(("mode", "size", "expected"), CASES, ids=[f"{mode}-{w}x{h}" for mode, (w, h), _ in CASES])
@pytest.mark.parametrize("stored_as", ["jpg", "png", "webp"])
def test_image_is_stored_at_the_size_its_mode_says(
    mode: str, size: tuple[int, int], expected: tuple[int, int], stored_as: str
) -> None:
    """The stored pixels, the recorded size and the rule of the mode agree; the original size is recorded too."""
    quality = 6 if stored_as == "png" else 95
    encoded = transform(
        picture(*size), resize_mode=mode, image_size=100, encode_format=stored_as, encode_quality=quality
    )

    assert pixels(encoded).size == (encoded.width, encoded.height) == expected
    assert (encoded.original_width, encoded.original_height) == size
    assert pixels(encoded).format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[stored_as]


@pytest.mark.parametrize("mode", SIZES)
@pytest.mark.parametrize("size", [(100, 60), (99, 100), (40, 30)], ids=str)
def test_image_that_is_not_bigger_stays_as_it_is(mode: str, size: tuple[int, int]) -> None:
    """With resize_only_if_bigger a small image is not enlarged, cropped or bordered; an equal side is not bigger."""
    encoded = transform(picture(*size), resize_mode=mode, image_size=100, resize_only_if_bigger=True)

    assert pixels(encoded).size == size


@pytest.mark.parametrize("mode", ["keep_ratio_largest", "border"])
def test_bigger_image_is_reduced_where_only_those_are(mode: str) -> None:
    """With resize_only_if_bigger one long side is enough for modes that look at the longer side."""
    assert transform(picture(101, 20), resize_mode=mode, image_size=100, resize_only_if_bigger=True).width == 100


@pytest.mark.parametrize(
    ("size", "inside", "outside"),
    [
        pytest.param((300, 150), [(0, 25), (99, 74), (50, 50)], [(0, 24), (99, 75), (50, 0), (50, 99)], id="wide"),
        pytest.param((150, 300), [(25, 0), (74, 99), (50, 50)], [(24, 0), (75, 99), (0, 50), (99, 50)], id="tall"),
        pytest.param((100, 51), [(0, 24), (0, 74)], [(0, 23), (0, 75)], id="odd-rest-goes-below"),
    ],
)
def test_border_is_white_and_around_the_middle(
    size: tuple[int, int], inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> None:
    """The picture lies in the middle of a white square, to the pixel."""
    image = pixels(
        transform(picture(*size), resize_mode="border", image_size=100, encode_format="png", encode_quality=1)
    )

    assert {image.getpixel(place) for place in inside} == {BLUE}
    assert {image.getpixel(place) for place in outside} == {(255, 255, 255)}


def test_border_of_a_grey_image_is_white(photographs: Path) -> None:
    """A grey photograph stays grey, and its border is white as well."""
    content = (photographs / "coins-gray.jpg").read_bytes()
    image = pixels(transform(content, image_size=64, encode_format="png", encode_quality=1))

    assert (image.mode, image.size) == ("L", (64, 64))
    assert {image.getpixel((x, y)) for x in (0, 63) for y in (0, 63)} == {255}


def test_center_crop_keeps_the_middle() -> None:
    """Both ends of the longer side are cut off alike."""
    sheet = Image.new("RGB", (300, 100), (255, 255, 255))
    sheet.paste(BLUE, (100, 0, 200, 100))
    stored = io.BytesIO()
    sheet.save(stored, "PNG")

    image = pixels(
        transform(stored.getvalue(), resize_mode="center_crop", image_size=100, encode_format="png", encode_quality=1)
    )

    assert image.getcolors() == [(10_000, BLUE)]


FILTERS = {
    "small": ((300, 99), {"min_image_size": 100}, ErrorClass.TOO_SMALL, "image too small"),
    "area": ((300, 100), {"max_image_area": 29_999}, ErrorClass.AREA, "image area too large"),
    "aspect": ((301, 100), {"max_aspect_ratio": 3}, ErrorClass.ASPECT, "aspect ratio too large"),
    "tall": ((100, 301), {"max_aspect_ratio": 3}, ErrorClass.ASPECT, "aspect ratio too large"),
    "first-of-all": (
        (301, 99),
        {"min_image_size": 100, "max_image_area": 1, "max_aspect_ratio": 3},
        ErrorClass.TOO_SMALL,
        "image too small",
    ),
}


@pytest.mark.parametrize(("size", "options", "error_class", "message"), FILTERS.values(), ids=FILTERS)
def test_image_outside_the_limits_is_refused_with_its_reason(
    size: tuple[int, int], options: dict[str, Any], error_class: ErrorClass, message: str
) -> None:
    """The texts are those that people have grouped by for years."""
    failure = refusal(picture(*size), **options)

    assert (failure.error_class, failure.message, str(failure)) == (error_class, message, message)


@pytest.mark.parametrize(
    "options",
    [{"min_image_size": 100}, {"max_image_area": 30_000}, {"max_aspect_ratio": 3}],
    ids=lambda o: next(iter(o)),
)
def test_image_on_the_limit_is_kept(options: dict[str, Any]) -> None:
    """Limits are inclusive."""
    assert transform(picture(300, 100), resize_mode="no", **options).width == 300


@pytest.mark.parametrize(("size", "options", "error_class", "message"), FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_image_outside_the_limits_is_not_decoded(
    kind: str, size: tuple[int, int], options: dict[str, Any], error_class: ErrorClass, message: str
) -> None:
    """Its header is enough to refuse it, also where orientation, profile and boxes would be looked at later."""
    later = {"apply_exif_orientation": True, "convert_to_srgb": True}
    with mock.patch("PIL.ImageFile.ImageFile.load", side_effect=AssertionError("decoded")):
        failure = refusal(picture(*size, kind), **options, **later)

        with pytest.raises(AssertionError, match="decoded"):
            transform(picture(*size, kind))

    assert (failure.error_class, failure.message) == (error_class, message)


@pytest.mark.parametrize("name", ["truncated.jpg", "retina.jpg"])
def test_filters_look_at_the_header_only(photographs: Path, name: str) -> None:
    """An image is refused by its size without its pixels, which may be missing."""
    content = (photographs / name).read_bytes()[:20_000]

    assert refusal(content, min_image_size=2000).error_class is ErrorClass.TOO_SMALL
    assert refusal(content).error_class is ErrorClass.DECODE_TRUNCATED


KEPT = {
    "untouched": ("chelsea-baseline.jpg", {"resize_mode": "no"}),
    "not-bigger": ("chelsea-baseline.jpg", {"resize_only_if_bigger": True, "image_size": 512}),
    "webp": ("chelsea.webp", {"resize_mode": "no", "encode_format": "webp"}),
    "png": ("chelsea.png", {"resize_mode": "no", "encode_format": "png", "encode_quality": 6}),
}
MADE_ANEW = {
    "resized": ("chelsea-baseline.jpg", {"image_size": 64}),
    "resized-to-its-own-size": ("astronaut-baseline.jpg", {"image_size": 512}),
    "another-format": ("chelsea.png", {"resize_mode": "no"}),
    "transparent": ("chelsea-alpha.png", {"resize_mode": "no", "encode_format": "png", "encode_quality": 6}),
}


@pytest.mark.parametrize(("name", "options"), KEPT.values(), ids=KEPT)
def test_bytes_of_an_untouched_image_are_kept_on_request(photographs: Path, name: str, options: dict[str, Any]) -> None:
    """With skip_reencode what needs no change is stored as it came, and without it is not."""
    content = (photographs / name).read_bytes()
    kept = transform(content, skip_reencode=True, **options)

    assert kept.image == content
    assert (kept.width, kept.height) == pixels(kept).size
    assert transform(content, **options).image != content


@pytest.mark.parametrize(("name", "options"), MADE_ANEW.values(), ids=MADE_ANEW)
def test_bytes_of_a_changed_image_are_not_kept(photographs: Path, name: str, options: dict[str, Any]) -> None:
    """Even with skip_reencode, an image that was resized, converted or flattened is encoded."""
    content = (photographs / name).read_bytes()

    assert transform(content, skip_reencode=True, **options).image != content


def test_webp_above_100_is_lossless(photographs: Path) -> None:
    """Quality 101 asks for every pixel, and 100 does not."""
    content = (photographs / "chelsea.png").read_bytes()
    original = Image.open(photographs / "chelsea.png").convert("RGB")
    lossless, lossy = (
        pixels(transform(content, resize_mode="no", encode_format="webp", encode_quality=quality))
        for quality in (101, 100)
    )

    assert lossless.convert("RGB").tobytes() == original.tobytes()
    assert lossy.convert("RGB").tobytes() != original.tobytes()


@pytest.mark.parametrize(("stored_as", "side", "height"), [("webp", 16_384, 1), ("jpg", 70_000, 100)])
def test_image_that_its_format_cannot_hold_is_an_encode_error(stored_as: str, side: int, height: int) -> None:
    """What the encoder refuses is a failed row, never an empty image."""
    failure = refusal(picture(side // height, 1), resize_mode="keep_ratio", image_size=height, encode_format=stored_as)

    assert failure.error_class is ErrorClass.ENCODE_ERROR
    assert failure.message.startswith(f"cannot encode {side}x{height} as {stored_as}")


def turned(kind: str, orientation: int, size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    """Return a picture with four corners of different colours and an EXIF orientation."""
    image = Image.new("RGB", size, BLUE)
    for number, place in enumerate([(0, 0), (size[0] // 2, 0), (0, size[1] // 2)]):
        image.paste((250 - 80 * number, 80 * number, 0), (*place, place[0] + size[0] // 2, place[1] + size[1] // 2))
    exif, stored = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(stored, kind, exif=exif, **options)
    return stored.getvalue()


AS_IT_IS = {"resize_mode": "no", "encode_format": "png", "encode_quality": 1}
UPRIGHT = {"apply_exif_orientation": True}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_image_is_turned_upright_on_request(kind: str, options: dict[str, Any], orientation: int) -> None:
    """Each EXIF orientation is undone as Pillow's exif_transpose undoes it; by default none is."""
    content = turned(kind, orientation, **options)
    original = Image.open(io.BytesIO(content))
    upright = ImageOps.exif_transpose(original).convert("RGB")
    encoded, stored = transform(content, **AS_IT_IS, **UPRIGHT), transform(content, **AS_IT_IS)

    assert pixels(encoded).tobytes() == upright.tobytes()
    assert (encoded.width, encoded.height) == (encoded.original_width, encoded.original_height) == upright.size
    assert pixels(stored).tobytes() == original.convert("RGB").tobytes()
    assert (stored.width, stored.height, stored.original_width, stored.original_height) == (60, 40, 60, 40)


@pytest.mark.parametrize("mode", SIZES)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("target", [30, 100], ids=["reducing", "enlarging"])
def test_turned_image_is_placed_as_its_upright_copy(mode: str, orientation: int, target: int) -> None:
    """Scaling comes before turning and gives the pixels and sizes that it would give after."""
    content = turned("PNG", orientation, (75, 40))
    copy = io.BytesIO()
    ImageOps.exif_transpose(Image.open(io.BytesIO(content))).save(copy, "PNG")
    options = {**AS_IT_IS, "resize_mode": mode, "image_size": target}
    found, expected = transform(content, **options, **UPRIGHT), transform(copy.getvalue(), **options)
    differences = ImageStat.Stat(ImageChops.difference(pixels(found), pixels(expected))).mean

    assert (found.width, found.height) == (expected.width, expected.height)
    assert (found.original_width, found.original_height) == (expected.original_width, expected.original_height)
    assert max(differences) < 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_turned_jpeg_is_still_decoded_at_a_reduced_size(photographs: Path, orientation: int) -> None:
    """Turning does not cost the decoding of pixels that are not needed, nor does it use fewer than it needs."""
    exif, stored = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.open(photographs / "retina.jpg").crop((0, 0, 1411, 1000)).save(stored, "JPEG", exif=exif)
    options = {**UPRIGHT, "image_size": 256, "resize_mode": "keep_ratio_largest"}
    asked = []

    def draft(image: Any, mode: Any, size: tuple[int, int]) -> Any:
        asked.append(size)
        return real(image, mode, size)

    real = Image.Image.draft
    with mock.patch("PIL.JpegImagePlugin.JpegImageFile.draft", autospec=True, side_effect=draft):
        encoded = transform(stored.getvalue(), **options)

    assert asked == [(576, 408)]  # 2.25 times 256 by 181
    assert (encoded.width, encoded.height) == ((256, 181) if orientation == 3 else (181, 256))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bytes_are_made_anew_exactly_when_the_image_is_turned(orientation: int) -> None:
    """With skip_reencode an upright image is kept as it came, and one to be turned is not."""
    content = turned("JPEG", orientation)
    options = {"resize_mode": "no", "skip_reencode": True}

    assert (transform(content, **options, **UPRIGHT).image == content) == (orientation == 1)
    assert transform(content, **options).image == content


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    """Only eight values have a meaning."""
    content = turned("PNG", orientation)

    assert pixels(transform(content, **AS_IT_IS, **UPRIGHT)).tobytes() == Image.open(io.BytesIO(content)).tobytes()


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library remarks on odd metadata
@pytest.mark.parametrize("cut", range(24, 108, 7))
def test_broken_exif_turns_nothing_and_costs_nothing(photographs: Path, cut: int) -> None:
    """An orientation that cannot be read is none; one that can is undone."""
    content = (photographs / "chelsea-rotated.jpg").read_bytes()
    encoded = transform(content[:cut] + b"\xff" * 8 + content[cut + 8 :], **AS_IT_IS, **UPRIGHT)

    assert (encoded.width, encoded.height) in {(300, 451), (451, 300)}


def test_limits_of_a_turned_image_are_those_of_the_upright_one() -> None:
    """Shorter side, area and ratio are the same either way."""
    content = turned("JPEG", 6, (300, 100))

    assert transform(content, **UPRIGHT, min_image_size=100, max_image_area=30_000, max_aspect_ratio=3).width == 256
    assert refusal(content, **UPRIGHT, min_image_size=101).error_class is ErrorClass.TOO_SMALL


def test_truncated_image_is_not_kept(photographs: Path) -> None:
    """What is stored as it came is decoded once, so that half an image does not become a sample."""
    content = (photographs / "truncated.jpg").read_bytes()

    assert refusal(content, resize_mode="no", skip_reencode=True).error_class is ErrorClass.DECODE_TRUNCATED


@pytest.mark.parametrize(
    "content", [b"any bytes", b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>"], ids=["odd", "empty", "svg"]
)
def test_nothing_is_decoded_when_all_reencoding_is_off(content: bytes) -> None:
    """Every body is stored as it came, without sizes and whatever its size would be refused for."""
    encoded = transform(content, disable_all_reencoding=True, min_image_size=100)

    assert encoded.image == content
    assert (encoded.width, encoded.height, encoded.original_width, encoded.original_height) == (None,) * 4
    assert encoded.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("options", [{}, {"disable_all_reencoding": True}], ids=["decoding", "all-reencoding-off"])
def test_web_page_is_never_stored(content: bytes, options: dict[str, Any]) -> None:
    """A page served in place of an image is refused, even where nothing is decoded."""
    failure = refusal(content, **options)

    assert (failure.error_class, failure.message) == (ErrorClass.NOT_IMAGE, "Image decoding error")


@pytest.mark.parametrize("compute_hash", ["md5", "sha256", "sha512", None])
def test_hash_is_of_the_bytes_as_they_came(compute_hash: str | None) -> None:
    """Whatever the image became, the hash identifies the file on the web."""
    content = picture(300, 200)
    expected = {
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sha512": hashlib.sha512(content).hexdigest(),
        None: None,
    }

    assert transform(content, compute_hash=compute_hash).digest == expected[compute_hash]


@pytest.mark.parametrize("name", ["astronaut-rotated.jpg", "chelsea-rotated.jpg", "motorcycle_left-rotated.jpg"])
@pytest.mark.parametrize("options", [{}, {"disable_all_reencoding": True}], ids=["encoded", "kept"])
def test_exif_is_stored_as_json(photographs: Path, name: str, options: dict[str, Any]) -> None:
    """Tags have their readable names and values, so that a rotation that was not applied can be later."""
    tags = json.loads(transform((photographs / name).read_bytes(), **options).exif or "")

    assert tags["Image Make"] == "async-img2ds"
    assert tags["Image Orientation"] == "Rotated 90 CW"
    assert tags["Image DateTime"] == "2026:01:31 12:00:00"
    assert all(isinstance(value, str) for value in tags.values())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_is_found_in_every_format_that_can_carry_it(kind: str) -> None:
    """The same tag in a JPEG, a PNG and a WebP is the same entry."""
    exif, stored = Image.Exif(), io.BytesIO()
    exif[0x010F] = "maker"
    # A WebP as cameras write it repeats the word that Pillow leaves out; without it exifread looks six bytes too far.
    Image.new("RGB", (8, 8)).save(stored, kind, exif=(b"Exif\0\0" if kind == "WEBP" else b"") + exif.tobytes())

    assert json.loads(exif_json(stored.getvalue()) or "")["Image Make"] == "maker"


@pytest.mark.parametrize("name", ["chelsea-baseline.jpg", "chelsea.png", "chelsea.webp", "coins.gif"])
def test_image_without_exif_has_an_empty_object(photographs: Path, name: str) -> None:
    """No tags is not the same as tags that could not be read."""
    assert transform((photographs / name).read_bytes()).exif == "{}"


def test_exif_is_left_alone_on_request(photographs: Path) -> None:
    """With extract_exif off there is no value at all."""
    assert transform((photographs / "chelsea-rotated.jpg").read_bytes(), extract_exif=False).exif is None


@pytest.mark.parametrize("cut", range(20, 140, 10))
def test_broken_exif_does_not_cost_the_image(photographs: Path, cut: int) -> None:
    """Metadata that cannot be read is one value less, never an exception."""
    content = (photographs / "chelsea-rotated.jpg").read_bytes()
    broken = exif_json(content[:cut] + b"\xff" * 8 + content[cut + 8 :])

    assert broken is None or isinstance(json.loads(broken), dict)


ENTRIES = st.lists(
    st.tuples(st.integers(0, 0xFFFF), st.integers(0, 14), st.integers(0, 2**32 - 1), st.binary(min_size=4, max_size=4)),
    max_size=12,
)


@given(order=st.sampled_from("<>"), entries=ENTRIES, then=st.integers(0, 2**32 - 1), rest=st.binary(max_size=200))
def test_any_exif_is_tags_or_none(
    order: str, entries: list[tuple[int, int, int, bytes]], then: int, rest: bytes
) -> None:
    """Directories that are not there, refer to themselves or claim what they have not: a JSON object, or no value."""
    directory = b"".join(struct.pack(f"{order}HHL", *entry[:3]) + entry[3] for entry in entries)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}LH", 8, len(entries))
    exif = b"Exif\0\0" + head + directory + struct.pack(f"{order}L", then) + rest
    read = exif_json(b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + b"\xff\xd9")

    assert read is None or isinstance(json.loads(read), dict)


@pytest.mark.parametrize("kind", ["md5", "sha256", "sha512"])
def test_bytes_that_are_not_what_was_expected_are_refused(photographs_bytes: dict[str, bytes], kind: str) -> None:
    """As an image that was not received; the digits may be upper-case, a missing hash is none that could be right."""
    content = photographs_bytes["rocket.jpg"]
    good = hashlib.new(kind, content).hexdigest()
    verify = Transformer(ImageOptions(compute_hash=kind), verifies=True)

    assert verify(content, None, good).digest == good
    assert verify(content, None, f" {good.upper()} ").digest == good
    for wrong in (good[:-1], "0" * len(good), "", None):
        with pytest.raises(FetchFailure, match=r"^hash mismatch$") as caught:
            verify(content, None, wrong)
        assert caught.value.error_class is ErrorClass.HASH_MISMATCH


@pytest.mark.parametrize("mark", [b"", b"Exif\0\0"], ids=["bare", "marked"])
def test_tags_of_a_webp_are_read(mark: bytes) -> None:
    """With and without the mark before them that JPEGs have there, and behind a chunk of odd length."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    content = io.BytesIO()
    Image.new("RGB", (3, 2), BLUE).save(
        content, "WEBP", exif=mark + exif.tobytes()[len(b"Exif\0\0") :], icc_profile=b"odd"
    )

    assert json.loads(exif_json(content.getvalue()) or "") == {"Image Make": "maker"}


def test_exif_that_claims_millions_of_values_is_not_read() -> None:
    """Tags may share their bytes: what a few kilobytes claim would take a parser minutes. The image is kept."""
    tags, each = 4_000, 900
    entries = b"".join(struct.pack("<HHLL", 0x9000 + number, 5, each, 8) for number in range(tags))
    block = b"II*\0" + struct.pack("<L", 8) + struct.pack("<H", tags) + entries + bytes(4)
    content = picture(8, 8, "JPEG")
    segment = b"Exif\0\0" + block
    hostile = content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]

    encoded = transform(hostile)
    assert encoded.exif is None
    assert (encoded.width, encoded.height) == (256, 256)


def test_png_whose_header_is_not_first_is_a_row_and_no_defect() -> None:
    """Pillow reads it, or not; either way nothing but the failure of an image comes of it."""
    content = picture(8, 8)
    gamma = struct.pack(">L4sLL", 4, b"gAMA", 0, zlib.crc32(b"gAMA" + bytes(4)))
    with suppress(TransformFailure):
        assert transform(content[:8] + gamma + content[8:]).original_width == 8
