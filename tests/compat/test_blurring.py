"""Boxes are blurred whatever else is asked for, and no less than img2dataset blurs them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from compat.lists import BOXES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compat.datasets import Dataset
    from compat.tools import Pair, Tools

# Neighbouring pixels of an area blurred out differ by at most this, of 255: what the rounding of a slow slope makes.
SMOOTH_MAX = 1.0

# Whose boxes cover something.
_BOXED = tuple(name for name, boxes in BOXES.items() if boxes and name.endswith(".jpg"))


@pytest.fixture(scope="module")
def kept(tools: Tools, lists: Path) -> Pair:
    """What both store where neither resizing nor format asks for encoding."""
    words = ("--input_format", "parquet", "--bbox_col", "faces", "--resize_mode", "no", "--skip_reencode")
    return tools.run("blur-kept", [str(lists / "boxes.parquet"), *words, "--output_folder", "dataset"])


@pytest.mark.parametrize("name", _BOXED)
def test_a_picture_with_boxes_is_never_kept_as_it_came(
    name: str, kept: Pair, original: Callable[[str], bytes | None]
) -> None:
    """img2dataset blurs it and then stores the original, faces and all."""

    def stored(dataset: Dataset) -> bytes:
        return dataset.images[dataset.key_of(name)]

    assert stored(kept.theirs.dataset) == original(name)
    assert kept.ours.status == 0, kept.ours.said
    assert stored(kept.ours.dataset) != original(name)


def test_a_picture_without_boxes_is_kept(kept: Pair, original: Callable[[str], bytes | None]) -> None:
    """There is nothing in it to blur."""
    [name] = [name for name, boxes in BOXES.items() if boxes == []]

    assert kept.ours.status == 0, kept.ours.said
    for run in (kept.theirs, kept.ours):
        assert run.dataset.images[run.dataset.key_of(name)] == original(name)


def test_boxes_are_blurred_no_less_than_by_img2dataset(both: Callable[[str], Pair]) -> None:
    """Since 1.46 it blurs with a third of the strength that it documents; here nothing is left to see."""
    pair = both("blur-no")
    left = {}
    for url, boxes in BOXES.items():
        for box in boxes or ():
            theirs, ours = (
                _detail(run.dataset.images[run.dataset.key_of(url)], box) for run in (pair.theirs, pair.ours)
            )
            left[url, tuple(box)] = (theirs, ours)

    assert len(left) > 5
    assert {box: details for box, details in left.items() if details[1] > max(SMOOTH_MAX, details[0])} == {}


def _detail(content: bytes, box: list[float]) -> float:
    """Return how much neighbouring pixels differ in the middle of *box*, which is blurred from all sides."""
    image = Image.open(io.BytesIO(content)).convert("L")
    scale = (image.width, image.height) * 2
    left, top, right, bottom = (round(min(1, max(0, part)) * side) for part, side in zip(box, scale, strict=True))
    pixels = np.asarray(image.crop((left, top, max(right, left + 2), max(bottom, top + 2))), np.float64)
    return float(np.abs(np.diff(pixels, axis=1)).mean())
