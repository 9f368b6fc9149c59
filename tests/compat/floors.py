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
    "output-webdataset": Floors(30, 38, 43),
    "pixels-no-area": Floors(47, 99, 99),
    "pixels-keep_ratio-nearest": Floors(4, 21, 23),
    "pixels-keep_ratio-bilinear": Floors(21, 33, 40),
    "pixels-keep_ratio-bicubic": Floors(17, 31, 38),
    "pixels-keep_ratio-area": Floors(23, 30, 45),
    "pixels-keep_ratio-lanczos": Floors(13, 31, 38),
    "pixels-center_crop-nearest": Floors(4, 20, 22),
    "pixels-center_crop-bilinear": Floors(21, 32, 40),
    "pixels-center_crop-bicubic": Floors(17, 31, 38),
    "pixels-center_crop-area": Floors(22, 29, 45),
    "pixels-center_crop-lanczos": Floors(13, 30, 39),
    "pixels-border-nearest": Floors(4, 20, 23),
    "pixels-border-bilinear": Floors(21, 30, 37),
    "pixels-border-bicubic": Floors(17, 29, 35),
    "pixels-border-area": Floors(27, 39, 47),
    "pixels-border-lanczos": Floors(13, 29, 34),
    "pixels-keep_ratio_largest-nearest": Floors(4, 18, 22),
    "pixels-keep_ratio_largest-bilinear": Floors(21, 28, 36),
    "pixels-keep_ratio_largest-bicubic": Floors(17, 27, 34),
    "pixels-keep_ratio_largest-area": Floors(26, 32, 46),
    "pixels-keep_ratio_largest-lanczos": Floors(13, 27, 33),
    "pixels-synonyms": Floors(21, 30, 37),
    "lines": Floors(33, 33, 55),
    "jpg-50": Floors(29, 30, 36),
    "png": Floors(30, 40, 48),
    "webp": Floors(30, 39, 42),
    "webp-lossless": Floors(33, 39, 47),
    "skip-reencode-jpg": Floors(99, 99, 99),
    "blur-border": Floors(35, 35, 40),
    "blur-center_crop": Floors(35, 35, 40),
    "blur-no": Floors(40, 40, 45),
}
