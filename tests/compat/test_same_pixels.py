"""The stored pixels are those of img2dataset as nearly as ``floors.py`` says, by mode and filter.

Both images are decoded by the same decoder. Most settings store PNG, so that what is measured is the resizing alone.
"""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from PIL import Image

from compat.aspects import views
from compat.differences import KEPT, PIXELS
from compat.floors import FLOORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from compat.tools import Pair

# What is said of images that are the same.
SAME_DB: Final = 99.0


@pytest.mark.parametrize("setting", FLOORS)
def test_pixels_are_nearly_the_same(
    setting: str,
    both: Callable[[str], Pair],
    original: Callable[[str], bytes | None],
    told: Callable[[str], None],
) -> None:
    """The worst picture and the one in the middle are above their floors."""
    theirs, ours = views(both(setting), setting, original)
    others = ours.images(PIXELS, KEPT)
    measured = sorted(
        (likeness_db(content, others[key]), (theirs.urls[key] or "").rpartition("/")[2])
        for key, content in theirs.images(PIXELS, KEPT).items()
    )
    values = [value for value, _ in measured]
    worst, low, middle = values[0], values[len(values) // 20], statistics.median(values)
    told(
        f"{setting:<28} {worst:5.1f} dB at worst, {low:5.1f} at 5 %, {middle:5.1f} in the middle, "
        f"{sum(value == SAME_DB for value in values)} of {len(values)} the same; "
        f"least alike: {', '.join(f'{name} {value:.1f}' for value, name in measured[:3])}"
    )

    assert worst >= FLOORS[setting].worst
    assert low >= FLOORS[setting].low
    assert middle >= FLOORS[setting].middle


def likeness_db(one: bytes, other: bytes) -> float:
    """Return the peak signal-to-noise ratio of two images, over their pixels as RGB."""
    first, second = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float64) for content in (one, other))
    assert first.shape == second.shape
    error = float(np.mean((first - second) ** 2))
    return min(SAME_DB, 10 * float(np.log10(255**2 / error))) if error else SAME_DB
