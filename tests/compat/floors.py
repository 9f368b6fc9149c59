"""How alike the pixels of both must be, in decibels of peak signal-to-noise ratio.

The floors lie a little below what was measured with pillow-simd 12.1 and opencv-python-headless 4.14, so that a change
that makes the images less alike is noticed. ``nox -s compat`` ends with what it measured.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FLOORS", "Floors"]


class Floors(NamedTuple):
    """The least alike picture, the one at 5 %, and the one in the middle."""

    worst: float
    low: float
    middle: float


# Where nothing is resized the pixels are the same to the last bit, but for CMYK. A dithered picture of one bit is the
# least alike under most filters: it is made of the frequencies that they treat each in its own way.
FLOORS: Final[dict[str, Floors]] = {
    "output-webdataset": Floors(40, 41, 45),
    "pixels-no-area": Floors(47, 99, 99),
    "pixels-keep_ratio-nearest": Floors(47, 99, 99),
    "pixels-keep_ratio-bilinear": Floors(43, 50, 52),
    "pixels-keep_ratio-bicubic": Floors(44, 50, 53),
    "pixels-keep_ratio-area": Floors(43, 46, 56),
    "pixels-keep_ratio-lanczos": Floors(25, 41, 44),
    "pixels-center_crop-nearest": Floors(47, 99, 99),
    "pixels-center_crop-bilinear": Floors(43, 50, 52),
    "pixels-center_crop-bicubic": Floors(44, 50, 53),
    "pixels-center_crop-area": Floors(43, 46, 56),
    "pixels-center_crop-lanczos": Floors(25, 41, 45),
    "pixels-border-nearest": Floors(47, 99, 99),
    "pixels-border-bilinear": Floors(43, 50, 53),
    "pixels-border-bicubic": Floors(44, 50, 53),
    "pixels-border-area": Floors(42, 45, 55),
    "pixels-border-lanczos": Floors(25, 42, 45),
    "pixels-keep_ratio_largest-nearest": Floors(47, 99, 99),
    "pixels-keep_ratio_largest-bilinear": Floors(43, 50, 52),
    "pixels-keep_ratio_largest-bicubic": Floors(44, 45, 52),
    "pixels-keep_ratio_largest-area": Floors(39, 43, 53),
    "pixels-keep_ratio_largest-lanczos": Floors(25, 40, 43),
    "pixels-synonyms": Floors(43, 50, 53),
    "lines": Floors(33, 33, 55),
    "jpg-50": Floors(29, 31, 36),
    "png": Floors(42, 45, 52),
    "webp": Floors(40, 41, 44),
    "webp-lossless": Floors(33, 42, 47),
    "skip-reencode-jpg": Floors(99, 99, 99),
    # What is blurred differs on purpose, as ``test_blurring.py`` says.
    "blur-border": Floors(21, 21, 33),
    "blur-center_crop": Floors(19, 19, 31),
    "blur-no": Floors(19, 19, 31),
}
