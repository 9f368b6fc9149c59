"""From a body to what is stored: sizes, filters, kept bytes, hashes and EXIF, with the options as a user sets them."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from async_img2ds.errors import ErrorClass, TransformFailure
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
