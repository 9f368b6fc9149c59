"""Boxes: what is read as one, which pixels it covers, and how strongly these are blurred."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.errors import ErrorClass, TransformFailure
from async_img2ds.policy.geometry import SIGMA_MIN, Blur, blur

SIZE = (200, 100)
FRACTIONS = st.floats(0, 1)
SIDES = st.integers(1, 3000)


@pytest.mark.parametrize("boxes", [None, [], (), "", "  ", "null", "[]"])
def test_nothing_to_blur_is_nothing(boxes: object) -> None:
    """Neither nothing nor no box covers a pixel."""
    assert blur(boxes, SIZE) is None


@pytest.mark.parametrize(
    ("box", "covered", "sigma"),
    [
        pytest.param([0.25, 0.25, 0.75, 0.75], (40, 15, 160, 85), 10.0, id="a tenth of the longer side on each side"),
        pytest.param([0.4, 0.2, 0.5, 0.7], (75, 15, 105, 75), 5.0, id="the longer side may be the height"),
        pytest.param([0, 0, 1, 1], (0, 0, 200, 100), 20.0, id="all of it"),
        pytest.param([0.75, 0.75, 0.25, 0.25], (40, 15, 160, 85), 10.0, id="reversed corners"),
        pytest.param([0.75, 0.25, 0.25, 0.75], (40, 15, 160, 85), 10.0, id="the other two corners"),
        pytest.param([-0.3, -0.1, 0.5, 1.4], (0, 0, 110, 100), 10.0, id="partly outside"),
        pytest.param([0.1, 0.1, 0.1001, 0.1001], (19, 9, 21, 11), SIGMA_MIN, id="within one pixel"),
        pytest.param([0.99999, 0.99999, 1, 1], (198, 98, 200, 100), SIGMA_MIN, id="within the last pixel"),
        pytest.param([0.5, 0.2, 0.5, 0.8], (94, 14, 106, 86), 6.0, id="as narrow as a line"),
        pytest.param([1.0, 0.2, 1.5, 0.8], (194, 14, 200, 86), 6.0, id="outside, so its edge"),
        pytest.param([0.1, 0.1, 0.11, 0.11], (19, 9, 23, 12), SIGMA_MIN, id="small, so not less than the least"),
    ],
)
def test_box_covers_its_pixels_and_a_margin(box: list[float], covered: tuple[int, ...], sigma: float) -> None:
    """Worked out by hand: fractions of each side, a tenth around, and a Gaussian as strong as the box is large."""
    found = blur([box], SIZE)

    assert found is not None
    assert found.boxes == (covered,)
    assert found.sigma == pytest.approx(sigma)


def test_all_boxes_are_blurred_as_strongly_as_the_largest_asks() -> None:
    """One strength for the image; each box keeps a margin of its own."""
    assert blur([[0.25, 0.25, 0.75, 0.75], [0.1, 0.1, 0.2, 0.2]], SIZE) == Blur(
        ((40, 15, 160, 85), (18, 8, 42, 22)), 10.0
    )


@pytest.mark.parametrize(
    "boxes",
    [
        [[0.25, 0.25, 0.75, 0.75]],
        ((0.25, 0.25, 0.75, 0.75),),
        "[[0.25, 0.25, 0.75, 0.75]]",
        " [ [0.25,2.5e-1,0.75,0.75] ] ",
        [[Fraction(1, 4), Fraction(1, 4), Fraction(3, 4), Fraction(3, 4)]],
    ],
)
def test_boxes_may_be_written_in_these_ways(boxes: object) -> None:
    """Lists of numbers from typed columns, and their JSON text from csv."""
    assert blur(boxes, SIZE) == Blur(((40, 15, 160, 85),), 10.0)


FINE = [0.25, 0.25, 0.75, 0.75]
INVALID: dict[str, tuple[Any, str]] = {
    "nan": ([[0.1, 0.1, math.nan, 0.2]], "is no box of fractions"),
    "infinite": ([[0.1, 0.1, math.inf, 0.2]], "is no box of fractions"),
    "nan-in-json": ("[[0.1, 0.1, NaN, 0.2]]", "is no box of fractions"),
    "pixels": ([[12, 40, 80, 99]], "is no box of fractions from 0 to 1 of the image"),
    "pixels-from-zero": ([[0, 0, 80, 99]], "is no box of fractions from 0 to 1 of the image"),
    "huge": ([[0, 0, 10**400, 1]], "is no box of fractions"),
    "three": ([[0.1, 0.1, 0.2]], "is no box [x_min, y_min, x_max, y_max]"),
    "five": ([[0.1, 0.1, 0.2, 0.2, 0.9]], "is no box [x_min"),
    "empty-box": ([[]], "is no box [x_min"),
    "no-box": ([None], "None is no box [x_min"),
    "one-box-without-a-list": (FINE, "0.25 is no box [x_min"),
    "mapping": ([{"x_min": 0.1}], "is no box [x_min"),
    "text-in-a-box": ([["a", 0.1, 0.2, 0.2]], "is no box of four numbers"),
    "none-in-a-box": ([[None, 0.1, 0.2, 0.2]], "is no box of four numbers"),
    "truth-in-a-box": ([[True, 0.1, 0.2, 0.2]], "is no box of four numbers"),
    "complex": ([[1j, 0.1, 0.2, 0.2]], "is no box of four numbers"),
    "second-is-bad": ([FINE, [0.1]], "[0.1] is no box"),
    "not-json": ("0.1 0.1 0.2 0.2", "is no JSON list of boxes"),
    "python-text": ("[(0.1, 0.1, 0.2, 0.2)]", "is no JSON list of boxes"),
    "deep-json": ("[" * 100_000, "is no JSON list of boxes"),
    "json-number": ("0.5", "0.5 is no list of boxes"),
    "json-object": ('{"x_min": 0.1}', "is no list of boxes"),
    "number": (0.5, "0.5 is no list of boxes"),
    "bytes": (b"[[0.1, 0.1, 0.2, 0.2]]", "is no list of boxes"),
}


@pytest.mark.parametrize(("boxes", "said"), INVALID.values(), ids=INVALID)
def test_boxes_that_cannot_be_told_fail_the_row(boxes: object, said: str) -> None:
    """An image of which it is not known what to blur is not stored, and the message says what is wrong."""
    with pytest.raises(TransformFailure) as caught:
        blur(boxes, SIZE)

    assert caught.value.error_class is ErrorClass.BBOX_INVALID
    assert said in caught.value.message
    assert len(caught.value.message) < 200


@given(box=st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS), size=st.tuples(SIDES, SIDES))
def test_every_pixel_that_a_box_touches_is_covered(box: tuple[float, ...], size: tuple[int, int]) -> None:
    """However small, a box covers its pixels and at least one, inside the image."""
    found = blur([list(box)], size)
    x, y = sorted(box[::2]), sorted(box[1::2])

    assert found is not None
    [(left, top, right, bottom)] = found.boxes
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert left <= x[0] * size[0]
    assert right >= x[1] * size[0]
    assert top <= y[0] * size[1]
    assert bottom >= y[1] * size[1]
    assert found.sigma >= SIGMA_MIN


@given(boxes=st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists))
def test_any_value_is_boxes_or_a_failure_of_its_row(boxes: object) -> None:
    """No value, however odd, ends in another error, written as it is or as JSON."""
    for written in (boxes, json.dumps(boxes)):
        try:
            found = blur(written, SIZE)
        except TransformFailure:
            continue
        assert found is None or found.boxes
