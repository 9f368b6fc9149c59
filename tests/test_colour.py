"""Colours: profiles that images carry, and what is made of them on request."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageCms

import profiles
from async_img2ds.images.transform import Transformer
from async_img2ds.options import ImageOptions

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.records import Encoded

COLOUR = (200, 30, 90)
AS_IT_IS: dict[str, Any] = {"resize_mode": "no", "encode_format": "png", "encode_quality": 1}
SRGB = profiles.rgb(profiles.RED, profiles.GREEN, profiles.BLUE, profiles.SRGB_CURVE)
# Its red is sRGB's blue and the other way round, so that whoever converts by it swaps the two.
SWAPPED = profiles.rgb(profiles.BLUE, profiles.GREEN, profiles.RED, profiles.SRGB_CURVE)
LINEAR = profiles.grey(1.0)
RED_CYAN = profiles.press((50, 60, 40))


def saved(mode: str, colour: Any, kind: str, profile: bytes = b"", **options: Any) -> bytes:
    stored = io.BytesIO()
    Image.new(mode, (48, 32), colour).save(stored, kind, icc_profile=profile, **options)
    return stored.getvalue()


def transform(content: bytes, **options: Any) -> Encoded:
    return Transformer(ImageOptions(**options))(content)


def colour(content: bytes, **options: Any) -> Any:
    """Return the colour in the middle of what *content* becomes."""
    image = Image.open(io.BytesIO(transform(content, **{**AS_IT_IS, **options}).image))
    return image.getpixel((image.width // 2, image.height // 2))


EVERY_FORMAT = [("JPEG", {"quality": 100, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("kind", "options"), EVERY_FORMAT, ids=[kind for kind, _ in EVERY_FORMAT])
def test_colours_are_converted_by_the_profile_on_request(kind: str, options: dict[str, Any]) -> None:
    """With the option a profile is obeyed, without it the numbers are taken as they stand."""
    content = saved("RGB", COLOUR, kind, SWAPPED, **options)

    assert colour(content, convert_to_srgb=True) == pytest.approx((90, 30, 200), abs=3)
    assert colour(content) == pytest.approx(COLOUR, abs=2)


def test_nothing_of_the_profile_is_stored() -> None:
    """What has been converted is in sRGB, and carries no profile that says otherwise."""
    for stored_as in ("jpg", "png", "webp"):
        encoded = transform(
            saved("RGB", COLOUR, "PNG", SWAPPED), encode_format=stored_as, encode_quality=9, convert_to_srgb=True
        )

        assert "icc_profile" not in Image.open(io.BytesIO(encoded.image)).info


@pytest.mark.parametrize(("gamma", "level"), [(1.0, 188), (1.8, 146), (2.2, 129)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_is_converted_and_stays_grey(kind: str, gamma: float, level: int) -> None:
    """The middle of a grey ramp is as light as its gamma says: (128 / 255) ** gamma of white, in sRGB's curve."""
    content = saved("L", 128, kind, profiles.grey(gamma))

    assert colour(content, convert_to_srgb=True) == pytest.approx(level, abs=1)
    assert colour(content) == 128


def test_transparent_grey_is_converted() -> None:
    """Grey with alpha becomes RGB on white, of the levels its profile says."""
    assert colour(saved("LA", (128, 255), "PNG", LINEAR), convert_to_srgb=True) == pytest.approx((188,) * 3, abs=1)
    assert colour(saved("LA", (128, 0), "PNG", LINEAR), convert_to_srgb=True) == (255, 255, 255)


def test_cmyk_is_converted_by_its_profile() -> None:
    """Where cyan is printed in red, cyan is red; without the profile it is cyan."""
    cyan, white, black = (
        saved("CMYK", ink, "JPEG", RED_CYAN, quality=100) for ink in ((255, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 255))
    )
    red, green, blue = colour(cyan, convert_to_srgb=True)

    assert red > 180
    assert max(green, blue) < 80
    assert colour(white, convert_to_srgb=True) == (255, 255, 255)
    assert colour(black, convert_to_srgb=True) == (0, 0, 0)
    assert colour(cyan) == (0, 255, 255)


@pytest.mark.parametrize("mode", ["keep_ratio", "center_crop", "border"])
def test_converted_image_is_placed_like_any_other(mode: str) -> None:
    """Conversion comes between scaling and filling up: the border is white, the image is not."""
    for original in (
        saved("RGB", COLOUR, "PNG", SWAPPED),
        saved("CMYK", (255, 0, 0, 0), "JPEG", RED_CYAN),
        saved("L", 128, "PNG", LINEAR),
    ):
        options = {**AS_IT_IS, "resize_mode": mode, "image_size": 16, "convert_to_srgb": True}
        encoded = transform(original, **options)
        image = Image.open(io.BytesIO(encoded.image)).convert("RGB")

        assert image.size == (encoded.width, encoded.height)
        assert image.size == {"keep_ratio": (24, 16), "center_crop": (16, 16), "border": (16, 16)}[mode]
        assert (image.getpixel((8, 0)) == (255, 255, 255)) == (mode == "border")
        assert image.getpixel((8, 8)) not in (COLOUR, (0, 0, 0), (128, 128, 128), (255, 255, 255))


BROKEN = {
    "empty": b"",
    "no-profile": b"not a profile at all",
    "cut-off": SWAPPED[:200],
    "header-only": SWAPPED[:128],
    "of-another-space": LINEAR,
    "of-printing": RED_CYAN,
    "too-large": SWAPPED + bytes(2**22),
}
LARGE = SWAPPED + bytes(2**21)


@pytest.mark.parametrize("profile", BROKEN.values(), ids=BROKEN)
def test_broken_profile_is_as_none(profile: bytes) -> None:
    """What cannot be read, or is not for such an image, changes nothing and costs nothing."""
    assert colour(saved("RGB", COLOUR, "WEBP", profile, lossless=True), convert_to_srgb=True) == COLOUR


@pytest.mark.parametrize(("kind", "options"), EVERY_FORMAT, ids=[kind for kind, _ in EVERY_FORMAT])
def test_profile_as_large_as_printers_have_is_obeyed(kind: str, options: dict[str, Any]) -> None:
    """Two megabytes are no reason to refuse a profile, nor the image that carries it."""
    content = saved("RGB", COLOUR, kind, LARGE, **options)

    assert colour(content, convert_to_srgb=True) == pytest.approx((90, 30, 200), abs=3)
    assert colour(content) == pytest.approx(COLOUR, abs=2)


def test_profile_of_another_space_leaves_grey_and_cmyk_alone() -> None:
    """A grey image with a profile of RGB is taken as it is, a CMYK one as one without a profile."""
    assert colour(saved("L", 128, "PNG", SWAPPED), convert_to_srgb=True) == 128
    assert colour(saved("CMYK", (0, 255, 255, 0), "JPEG", SWAPPED), convert_to_srgb=True) == (255, 0, 0)


KEPT = {"skip_reencode": True, "resize_mode": "no", "convert_to_srgb": True}


@pytest.mark.parametrize(
    ("profile", "kept"),
    [
        pytest.param(SWAPPED, False, id="other colours"),
        pytest.param(SRGB, True, id="sRGB by hand"),
        pytest.param(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), True, id="sRGB of littlecms"),
        pytest.param(BROKEN["cut-off"], True, id="broken"),
        pytest.param(b"", True, id="none"),
    ],
)
def test_bytes_are_made_anew_exactly_when_colours_change(profile: bytes, *, kept: bool) -> None:
    """With skip_reencode an image that is in sRGB already is kept as it came, profile and all."""
    content = saved("RGB", COLOUR, "JPEG", profile)

    assert (transform(content, **KEPT).image == content) == kept
    assert transform(content, **{**KEPT, "convert_to_srgb": False}).image == content


def test_grey_bytes_are_kept_when_their_curve_is_that_of_srgb() -> None:
    """The curve of grey in sRGB changes nothing, another does."""
    for curve, kept in ((profiles.SRGB_CURVE, True), (1.0, False)):
        content = saved("L", 128, "JPEG", profiles.grey(curve))

        assert (transform(content, **KEPT).image == content) == kept


def test_threads_convert_at_the_same_time(photographs: Path) -> None:
    """One conversion serves all threads, and each gets the pixels that it alone would get."""
    contents = []
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        stored = io.BytesIO()
        Image.open(photographs / name).convert("RGB").save(stored, "PNG", icc_profile=SWAPPED, compress_level=1)
        contents.append(stored.getvalue())
    transformer = Transformer(ImageOptions(convert_to_srgb=True))
    alone = [transformer(content).image for content in contents]
    with ThreadPoolExecutor(4) as pool:
        together = [encoded.image for encoded in pool.map(transformer, contents * 8)]

    assert together == alone * 8
