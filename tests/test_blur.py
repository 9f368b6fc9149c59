"""Blurring what boxes say: that it is gone, that the rest stays, and that no image gets out without it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from async_img2ds.errors import ErrorClass, TransformFailure
from async_img2ds.images.transform import Transformer
from async_img2ds.options import ImageOptions
from async_img2ds.policy.geometry import PLACEMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.records import Encoded

Box = tuple[int, int, int, int]

AS_IT_IS: dict[str, Any] = {"resize_mode": "no", "encode_format": "png", "encode_quality": 1}


def transform(content: bytes, boxes: object, **options: Any) -> Encoded:
    return Transformer(ImageOptions(**options))(content, boxes)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return stored.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return an image in which every pixel differs from its neighbours."""
    return Image.effect_noise((width, height), 100).convert(mode)


def spread(image: Image.Image, box: Box) -> float:
    """Return how much the pixels in *box* vary, as the standard deviation of their levels."""
    return max(ImageStat.Stat(image.crop(box)).stddev)


def detail(image: Image.Image, box: Box) -> float:
    """Return how much each pixel in *box* differs from its neighbour, on the average."""
    beside = (box[0] + 1, box[1] + 1, box[2] + 1, box[3] + 1)
    return max(ImageStat.Stat(ImageChops.difference(image.crop(box), image.crop(beside))).mean)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_box_is_blurred_and_the_rest_is_left_alone(mode: str) -> None:
    """Inside hardly anything varies any more, far away nothing has changed."""
    original = noise(200, 200, mode)
    blurred = opened(transform(saved(original), [[0.2, 0.2, 0.5, 0.5]], **AS_IT_IS).image)
    changed = ImageChops.difference(original, blurred).convert("L").point(lambda level: 255 if level else 0).getbbox()

    assert spread(original, (40, 40, 100, 100)) > 60
    assert spread(blurred, (34, 34, 106, 106)) < 15
    # The margin of 6 pixels and what fades out around it: three boxes of a Gaussian of 6 pixels.
    assert changed is not None
    assert min(changed[:2]) >= 34 - 21
    assert max(changed[2:]) <= 106 + 21


def test_small_box_beside_a_large_one_is_blurred_as_fully() -> None:
    """Every pixel of a box is replaced, and be it much smaller than the blur reaches."""
    original = noise(400, 400)
    boxes = [[0.1, 0.1, 0.6, 0.6], [0.8, 0.8, 0.83, 0.83]]
    blurred = opened(transform(saved(original), boxes, **AS_IT_IS).image)

    assert spread(original, (320, 320, 332, 332)) > 60
    assert spread(blurred, (319, 319, 334, 334)) < 8


@pytest.mark.parametrize("side", [6, 10, 16, 30])
def test_small_box_is_not_left_readable(side: int) -> None:
    """Strokes of two pixels, the thinnest that are read, leave hardly a trace whatever the size of the box."""
    original = Image.new("L", (100, 100), 255)
    for x in range(0, 100, 4):
        original.paste(0, (x, 0, x + 2, 100))
    box = (40, 40, 40 + side, 40 + side)
    blurred = opened(transform(saved(original), [[value / 100 for value in box]], **AS_IT_IS).image)

    assert spread(original, box) > 100
    assert spread(blurred, box) < 6


@pytest.mark.parametrize("mode", sorted(PLACEMENTS))
@pytest.mark.parametrize("target", [100, 300], ids=["reducing", "enlarging"])
def test_box_stays_with_its_content_in_every_mode(mode: str, target: int) -> None:
    """Boxes are of the whole image, before it is cut or filled: the checked middle is blurred wherever it ends up."""
    original = Image.new("L", (240, 160), 128)
    original.paste(noise(40, 40, "L"), (100, 60))
    options = {**AS_IT_IS, "resize_mode": mode, "image_size": target}
    boxes = [[100 / 240, 60 / 160, 140 / 240, 100 / 160]]
    plain, blurred = (opened(transform(saved(original), each, **options).image) for each in (None, boxes))
    width, height = plain.size
    middle = (
        width // 2 - width // 16,
        height // 2 - height // 16,
        width // 2 + width // 16,
        height // 2 + height // 16,
    )

    assert plain.size == blurred.size
    assert spread(blurred, middle) < spread(plain, middle) / 3
    assert blurred.getpixel((width // 2, 1)) == plain.getpixel((width // 2, 1))
    assert blurred.getpixel((1, height // 2)) == plain.getpixel((1, height // 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["no", "border", "center_crop"])
def test_boxes_are_of_the_image_as_its_file_has_it(mode: str, orientation: int) -> None:
    """Whether or not the image is turned upright, a box means the same pixels."""
    original = noise(240, 120)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {**AS_IT_IS, "resize_mode": mode, "image_size": 100}
    boxes = [[0.3, 0.3, 0.5, 0.6]]
    turned = opened(transform(saved(original, exif=exif), boxes, **options, apply_exif_orientation=True).image)
    as_stored = opened(transform(saved(original, exif=exif), boxes, **options).image)
    as_stored.getexif()[0x0112] = orientation
    differences = ImageChops.difference(turned, ImageOps.exif_transpose(as_stored))

    assert max(ImageStat.Stat(differences).mean) < 1


@pytest.mark.parametrize("name", ["chelsea-baseline.jpg", "chelsea-cmyk.jpg", "camera-gray.jpg", "coins.gif"])
def test_every_kind_of_image_is_blurred(photographs: Path, name: str) -> None:
    """Whatever it is made of, what the whole-image box says is gone."""
    content = (photographs / name).read_bytes()
    plain, blurred = (opened(transform(content, boxes).image) for boxes in (None, [[0, 0, 1, 1]]))
    middle = (64, 96, 192, 160)

    assert blurred.mode == plain.mode
    assert detail(blurred, middle) < detail(plain, middle) / 3


KEEPING = {"resize_mode": "no", "skip_reencode": True}


def test_blurred_image_is_never_kept_as_it_came(photographs: Path) -> None:
    """With skip_reencode the original bytes are stored only where there was nothing to blur."""
    content = (photographs / "chelsea-baseline.jpg").read_bytes()
    stored = transform(content, [[0.4, 0.3, 0.6, 0.5]], **KEEPING).image
    eyes = (180, 90, 270, 150)

    assert stored != content
    assert detail(opened(stored), eyes) < detail(opened(content), eyes) / 4
    nothing: tuple[object, ...] = (None, [], "[]")

    assert [transform(content, boxes, **KEEPING).image for boxes in nothing] == [content] * 3


@pytest.mark.parametrize("options", [{}, KEEPING, {"resize_only_if_bigger": True}], ids=["default", "kept", "small"])
def test_image_with_boxes_that_cannot_be_told_is_not_stored(photographs: Path, options: dict[str, Any]) -> None:
    """Its row fails whatever else is asked for."""
    with pytest.raises(TransformFailure) as caught:
        transform((photographs / "chelsea-baseline.jpg").read_bytes(), [[0.1, 0.1, float("nan"), 1]], **options)

    assert caught.value.error_class is ErrorClass.BBOX_INVALID


def test_body_that_is_kept_as_it_came_takes_no_boxes() -> None:
    """Where nothing is decoded nothing can be blurred, so that such a call is a defect, not an image."""
    with pytest.raises(ValueError, match="cannot be blurred"):
        transform(saved(noise(10, 10)), [[0, 0, 1, 1]], disable_all_reencoding=True)
