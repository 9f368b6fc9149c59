"""Boxes are blurred whatever else is asked for; ``test_same_pixels.py`` compares the pixels with img2dataset's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compat.lists import BOXES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compat.datasets import Dataset
    from compat.tools import Pair, Tools

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
