"""Where the pixels go: five modes against values worked out by hand, and what holds for any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.options import ImageOptions
from async_img2ds.policy.geometry import PLACEMENTS, Placement, place, turned

Size = tuple[int, int]
RESIZING = sorted(set(PLACEMENTS) - {"no"})
SIDES = st.integers(1, 65_500)
SIZES = st.tuples(SIDES, SIDES)


def test_every_mode_that_can_be_asked_for_has_a_rule() -> None:
    """The modes that the option accepts are the modes there are."""
    for mode in PLACEMENTS:
        assert ImageOptions(resize_mode=mode).resize_mode == mode


@pytest.mark.parametrize("only_if_bigger", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (256, 256), (640, 480), (100, 4000)])
def test_mode_no_changes_nothing(size: Size, *, only_if_bigger: bool) -> None:
    """Without a mode an image keeps its size."""
    placement = place("no", size, 256, only_if_bigger=only_if_bigger)

    assert placement == Placement(size)
    assert not placement.changes


@pytest.mark.parametrize(
    ("size", "target", "resize", "enlarges"),
    [
        pytest.param((640, 480), 256, (341, 256), False, id="landscape"),
        pytest.param((480, 640), 256, (256, 341), False, id="portrait"),
        pytest.param((512, 512), 256, (256, 256), False, id="square"),
        pytest.param((100, 50), 256, (512, 256), True, id="smaller is enlarged"),
        pytest.param((300, 256), 256, (300, 256), True, id="equal is not bigger"),
        pytest.param((5, 4), 2, (2, 2), False, id="2.5 becomes 2"),
        pytest.param((7, 4), 2, (4, 2), False, id="3.5 becomes 4"),
        pytest.param((1, 1), 256, (256, 256), True, id="one pixel"),
        pytest.param((1, 1000), 100, (100, 100_000), True, id="one pixel wide"),
    ],
)
def test_keep_ratio_brings_the_shorter_side_to_the_target(
    size: Size,
    target: int,
    resize: Size,
    *,
    enlarges: bool,
) -> None:
    """The shorter side becomes the target, the other follows, halves rounded to even."""
    assert place("keep_ratio", size, target, only_if_bigger=False) == Placement(resize, resize, enlarges)


@pytest.mark.parametrize(
    ("size", "target", "resize", "enlarges"),
    [
        pytest.param((640, 480), 256, (256, 192), False, id="landscape"),
        pytest.param((480, 640), 256, (192, 256), False, id="portrait"),
        pytest.param((1000, 667), 256, (256, 171), False, id="170.752 becomes 171"),
        pytest.param((100, 50), 256, (256, 128), True, id="smaller is enlarged"),
        pytest.param((256, 100), 256, (256, 100), True, id="equal is not bigger"),
        pytest.param((8, 5), 4, (4, 2), False, id="2.5 becomes 2"),
        pytest.param((8, 7), 4, (4, 4), False, id="3.5 becomes 4"),
        pytest.param((4, 1), 2, (2, 1), False, id="0.5 becomes 1, not 0"),
        pytest.param((1000, 1), 256, (256, 1), False, id="0.256 becomes 1"),
    ],
)
def test_keep_ratio_largest_brings_the_longer_side_to_the_target(
    size: Size,
    target: int,
    resize: Size,
    *,
    enlarges: bool,
) -> None:
    """The longer side becomes the target, the other follows and never vanishes."""
    assert place("keep_ratio_largest", size, target, only_if_bigger=False) == Placement(resize, resize, enlarges)


@pytest.mark.parametrize(
    ("size", "target", "resize", "enlarges", "crop"),
    [
        pytest.param((640, 480), 256, (341, 256), False, (42, 0, 298, 256), id="landscape, 85 over"),
        pytest.param((480, 640), 256, (256, 341), False, (0, 42, 256, 298), id="portrait"),
        pytest.param((512, 512), 256, (256, 256), False, (0, 0, 256, 256), id="square"),
        pytest.param((100, 50), 256, (512, 256), True, (128, 0, 384, 256), id="smaller is enlarged"),
        pytest.param((300, 256), 256, (300, 256), True, (22, 0, 278, 256), id="equal is cut all the same"),
        pytest.param((3, 2), 2, (3, 2), True, (0, 0, 2, 2), id="the odd pixel goes on the right"),
        pytest.param((1, 1), 2, (2, 2), True, (0, 0, 2, 2), id="one pixel"),
    ],
)
def test_center_crop_cuts_the_middle(
    size: Size,
    target: int,
    resize: Size,
    *,
    enlarges: bool,
    crop: tuple[int, int, int, int],
) -> None:
    """The shorter side becomes the target and the middle of the longer one is kept."""
    placement = place("center_crop", size, target, only_if_bigger=False)

    assert placement == Placement((target, target), resize, enlarges, crop=crop)


@pytest.mark.parametrize(
    ("size", "target", "resize", "enlarges", "corner"),
    [
        pytest.param((640, 480), 256, (256, 192), False, (0, 32), id="landscape"),
        pytest.param((480, 640), 256, (192, 256), False, (32, 0), id="portrait"),
        pytest.param((1000, 667), 256, (256, 171), False, (0, 42), id="85 rows to fill, 42 of them above"),
        pytest.param((512, 512), 256, (256, 256), False, (0, 0), id="square"),
        pytest.param((100, 50), 256, (256, 128), True, (0, 64), id="smaller is enlarged"),
        pytest.param((256, 100), 256, (256, 100), True, (0, 78), id="equal is filled all the same"),
        pytest.param((1000, 1), 256, (256, 1), False, (0, 127), id="one pixel high"),
        pytest.param((1, 2), 256, (128, 256), True, (64, 0), id="one pixel wide"),
        pytest.param((4, 1), 2, (2, 1), False, (0, 0), id="the one row to fill is below"),
    ],
)
def test_border_fills_up_to_a_square(
    size: Size,
    target: int,
    resize: Size,
    *,
    enlarges: bool,
    corner: tuple[int, int],
) -> None:
    """The longer side becomes the target and the image lies in the middle of a square."""
    placement = place("border", size, target, only_if_bigger=False)

    assert placement == Placement((target, target), resize, enlarges, canvas=(target, target, *corner))


@pytest.mark.parametrize(
    ("mode", "size", "changes"),
    [
        pytest.param("keep_ratio", (300, 256), False, id="keep_ratio looks at the shorter side"),
        pytest.param("keep_ratio", (300, 257), True, id="keep_ratio, bigger"),
        pytest.param("center_crop", (4000, 256), False, id="center_crop looks at the shorter side"),
        pytest.param("center_crop", (257, 257), True, id="center_crop, bigger"),
        pytest.param("border", (256, 100), False, id="border looks at the longer side"),
        pytest.param("border", (257, 1), True, id="border, bigger"),
        pytest.param("keep_ratio_largest", (256, 256), False, id="keep_ratio_largest looks at the longer side"),
        pytest.param("keep_ratio_largest", (1, 257), True, id="keep_ratio_largest, bigger"),
    ],
)
def test_only_if_bigger_leaves_the_others_alone(mode: str, size: Size, *, changes: bool) -> None:
    """What is not bigger is neither enlarged, cut nor filled; what is bigger goes the usual way."""
    placement = place(mode, size, 256, only_if_bigger=True)

    assert placement == (place(mode, size, 256, only_if_bigger=False) if changes else Placement(size))
    assert placement.changes == changes


@given(mode=st.sampled_from(sorted(PLACEMENTS)), size=SIZES, target=SIDES, only_if_bigger=st.booleans())
def test_steps_fit_each_other(mode: str, size: Size, target: int, *, only_if_bigger: bool) -> None:
    """No side vanishes, a crop lies inside the scaled image, a canvas holds it, and the last step makes the size."""
    placement = place(mode, size, target, only_if_bigger=only_if_bigger)
    width, height = placement.resize or size

    assert min(placement.size) > 0
    assert min(width, height) > 0

    if placement.crop:
        left, top, right, bottom = placement.crop
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert placement.size == (right - left, bottom - top)
    elif placement.canvas:
        across, down, left, top = placement.canvas
        assert 0 <= left <= across - width
        assert 0 <= top <= down - height
        assert placement.size == (across, down)
    else:
        assert placement.size == (width, height)


@given(mode=st.sampled_from(RESIZING), size=SIZES, target=SIDES)
def test_one_side_becomes_the_target(mode: str, size: Size, target: int) -> None:
    """Rounding never takes the side that is to become the target off it."""
    resize = place(mode, size, target, only_if_bigger=False).resize

    assert resize is not None
    assert (min if mode in ("keep_ratio", "center_crop") else max)(resize) == target


@given(mode=st.sampled_from(RESIZING), size=SIZES, target=SIDES, only_if_bigger=st.booleans())
def test_turned_image_is_placed_turned(mode: str, size: Size, target: int, *, only_if_bigger: bool) -> None:
    """Width and height are treated alike."""
    upright = place(mode, size, target, only_if_bigger=only_if_bigger)
    turned = place(mode, size[::-1], target, only_if_bigger=only_if_bigger)

    assert turned.size == upright.size[::-1]
    assert turned.resize == (upright.resize and upright.resize[::-1])
    assert turned.enlarges == upright.enlarges


@pytest.mark.parametrize(
    ("turn", "resize"), [(1, (256, 192)), (2, (256, 192)), (4, (256, 192)), (5, (192, 256)), (8, (192, 256))]
)
def test_image_on_its_side_is_scaled_as_it_lies(turn: int, resize: Size) -> None:
    """Turning comes after scaling: the upright size is asked for, lying down where the image does."""
    size = turned((640, 480), turn)
    placement = place("border", size, 256, only_if_bigger=False, turn=turn)

    assert placement == Placement((256, 256), resize, canvas=(256, 256, 0, 32), turn=turn)


@given(mode=st.sampled_from(sorted(PLACEMENTS)), size=SIZES, target=SIDES, turn=st.integers(1, 8), only=st.booleans())
def test_stored_image_is_placed_as_it_is_seen(mode: str, size: Size, target: int, turn: int, *, only: bool) -> None:
    """All but the size to scale to is that of the upright image, and an image that must be turned is changed."""
    upright = place(mode, turned(size, turn), target, only_if_bigger=only)
    stored = place(mode, size, target, only_if_bigger=only, turn=turn)

    assert (stored.size, stored.crop, stored.canvas, stored.enlarges) == (
        upright.size,
        upright.crop,
        upright.canvas,
        upright.enlarges,
    )
    assert (stored.resize and turned(stored.resize, turn)) == upright.resize
    assert stored.changes == (upright.changes or turn != 1)
