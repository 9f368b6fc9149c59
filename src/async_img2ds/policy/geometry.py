"""Source size + resize options → where the pixels go: how large, what is cut off, on what canvas; what is blurred.

One rule per mode, to the pixel img2dataset's (its resizer.py with albumentations 1.4),
Python's rounding of halves to even included.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass, TransformFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PLACEMENTS", "UPRIGHT", "Blur", "Placement", "blur", "place", "turned"]

Size = tuple[int, int]
Box = tuple[int, int, int, int]

# EXIF orientations: of an image that is stored as it is seen, and of those stored on their side.
UPRIGHT: Final = 1
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})

# A box is blurred with a tenth of its longer side around it, and with a Gaussian whose sigma is a tenth of the longest
# side of all boxes: the strength that img2dataset documents.
BOX_MARGIN: Final = 0.1
SIGMA_SHARE: Final = 0.1
# But never weaker than this. A Gaussian of sigma s leaves exp(-2(πs/p)²) of a pattern of period p: of strokes two
# pixels wide, the thinnest that are read, under a hundredth, of those four wide under a third.
SIGMA_MIN: Final = 2.0
# A detector may put a corner somewhat outside the image. Further out than a whole image it is no fraction, most likely
# pixels, and clipping such a box to nothing would let a face out unblurred.
_FRACTION_MIN: Final = -1.0
_FRACTION_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Blur:
    """What to make unrecognisable. Each of *boxes* is (left, top, right, bottom), *sigma* a Gaussian's; in pixels."""

    boxes: tuple[Box, ...]
    sigma: float


@dataclass(frozen=True, slots=True)
class Placement:
    """What to do with an image of a known size, in this order; None where a step is not needed. Lengths in pixels.

    Attributes:
        resize: (width, height) to scale to, as the image is stored.
        enlarges: whether that is an enlargement, which may use another filter.
        blur: what to blur after scaling.
        turn: the EXIF orientation to undo after that.
        crop: (left, top, right, bottom) to cut out then.
        canvas: (width, height, left, top): a white canvas, and where on it the image lies.
        size: (width, height) of the result.

    """

    size: Size
    resize: Size | None = None
    enlarges: bool = False
    crop: Box | None = None
    canvas: tuple[int, int, int, int] | None = None
    turn: int = UPRIGHT
    blur: Blur | None = None

    @property
    def changes(self) -> bool:
        """Whether any pixel may change; it may in a resize, and be it to its own size."""
        return self.resize is not None or self.blur is not None or self.turn != UPRIGHT


def place(mode: str, size: Size, target: int, *, only_if_bigger: bool, turn: int = UPRIGHT) -> Placement:
    """Return where the pixels of an image of *size* (width, height) go, for a *target* side in pixels.

    *mode* is a key of :data:`PLACEMENTS`, *size* that of the stored image. It is placed as it is seen once *turn*, its
    EXIF orientation, is undone. Scaling comes before that, because fewer pixels are then to be turned.
    """
    placement = PLACEMENTS[mode](turned(size, turn), target, only_if_bigger)
    if turn == UPRIGHT:
        return placement
    return replace(placement, resize=placement.resize and turned(placement.resize, turn), turn=turn)


def turned(size: Size, turn: int) -> Size:
    """Return *size* (width, height) as it is once the EXIF orientation *turn* is undone, or before it was."""
    return (size[1], size[0]) if turn in _SIDEWAYS else size


def blur(boxes: object, size: Size) -> Blur | None:
    """Return what to blur in an image of *size* (width, height), None where it is nothing.

    Args:
        boxes: a list of [x_min, y_min, x_max, y_max], each a fraction of *size*, or the same as JSON text; None or an
            empty list or text where there is nothing to blur. Corners may be reversed or lie a little outside.
        size: that of the image as it is stored, scaled but not cut, filled or turned.

    Raises:
        TransformFailure: what is to be blurred cannot be told, so that the image must not be stored.

    """
    width, height = size
    corners = [_clipped(box) for box in _boxes(boxes)]
    if not corners:
        return None
    lengths = [
        max(int(right * width) - int(left * width), int(bottom * height) - int(top * height), 1)
        for left, top, right, bottom in corners
    ]
    rectangles = (_rectangle(corner, size, length) for corner, length in zip(corners, lengths, strict=True))
    return Blur(tuple(rectangles), max(SIGMA_MIN, SIGMA_SHARE * max(lengths)))


def _rectangle(corners: tuple[float, float, float, float], size: Size, length: int) -> Box:
    """Return the pixels of a box whose longer side has *length* pixels, with its margin."""
    left, right = _covered(corners[0], corners[2], size[0], length)
    top, bottom = _covered(corners[1], corners[3], size[1], length)
    return left, top, right, bottom


def _covered(low: float, high: float, side: int, length: int) -> tuple[int, int]:
    """Return the pixels [first, end) from *low* to *high*, fractions of *side*, with the margin of a box of *length*.

    Rounded outwards, so that every pixel that is touched is covered, and never none.
    """
    first = max(0, min(math.floor(int(low * side) - BOX_MARGIN * length), side - 1))
    return first, min(side, max(math.ceil(high * side + BOX_MARGIN * length), first + 1))


def _clipped(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return *box* with its corners in order and inside the image; one without an area stands for what it lies on."""
    x, x2, y, y2 = (min(1.0, max(0.0, value)) for value in (box[0], box[2], box[1], box[3]))
    return min(x, x2), min(y, y2), max(x, x2), max(y, y2)


def _boxes(boxes: object) -> list[tuple[float, float, float, float]]:
    """Return *boxes* as they are written, once they are known to be boxes."""
    if isinstance(boxes, str):
        try:
            boxes = json.loads(boxes) if boxes.strip() else None
        except (ValueError, RecursionError):
            raise _invalid(boxes, "is no JSON list of boxes") from None
    if boxes is None:
        return []
    if not isinstance(boxes, list | tuple):
        raise _invalid(boxes, "is no list of boxes")
    return [_box(box) for box in boxes]


def _box(box: object) -> tuple[float, float, float, float]:
    if not isinstance(box, list | tuple) or len(box) != 4:  # noqa: PLR2004  two corners of two coordinates
        raise _invalid(box, "is no box [x_min, y_min, x_max, y_max]")
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in box):
        raise _invalid(box, "is no box of four numbers")
    if not all(_FRACTION_MIN <= value <= _FRACTION_MAX for value in box):  # NaN is not either
        raise _invalid(box, "is no box of fractions from 0 to 1 of the image")
    x, y, x2, y2 = map(float, box)
    return x, y, x2, y2


def _invalid(found: object, problem: str) -> TransformFailure:
    shown = repr(found)
    return TransformFailure(
        ErrorClass.BBOX_INVALID,
        f"{shown[:80] + '…' if len(shown) > 80 else shown} {problem}",  # noqa: PLR2004  a line
    )


def _keep_size(size: Size, _target: int, _only_if_bigger: bool) -> Placement:  # noqa: FBT001  the shape all modes share
    return Placement(size)


def _fit_shorter(size: Size, target: int, only_if_bigger: bool) -> Placement:  # noqa: FBT001
    return _scale(size, min(size), target, only_if_bigger)


def _fit_longer(size: Size, target: int, only_if_bigger: bool) -> Placement:  # noqa: FBT001
    return _scale(size, max(size), target, only_if_bigger)


def _center_crop(size: Size, target: int, only_if_bigger: bool) -> Placement:  # noqa: FBT001
    scaled = _scale(size, min(size), target, only_if_bigger)
    if scaled.resize is None:
        return scaled
    width, height = scaled.resize
    left, top = (width - target) // 2, (height - target) // 2
    return Placement((target, target), scaled.resize, scaled.enlarges, crop=(left, top, left + target, top + target))


def _border(size: Size, target: int, only_if_bigger: bool) -> Placement:  # noqa: FBT001
    scaled = _scale(size, max(size), target, only_if_bigger)
    if scaled.resize is None:
        return scaled
    width, height = scaled.resize
    left, top = (target - width) // 2, (target - height) // 2
    return Placement((target, target), scaled.resize, scaled.enlarges, canvas=(target, target, left, top))


def _scale(size: Size, side: int, target: int, only_if_bigger: bool) -> Placement:  # noqa: FBT001
    """Scale so that *side*, one of the sides of *size*, becomes *target*. A side equal to it counts as not bigger."""
    bigger = side > target
    if only_if_bigger and not bigger:
        return Placement(size)
    scale = target / side
    width, height = (max(1, round(length * scale)) for length in size)
    return Placement((width, height), (width, height), enlarges=not bigger)


PLACEMENTS: Final[Mapping[str, Callable[[Size, int, bool], Placement]]] = {
    "no": _keep_size,
    "keep_ratio": _fit_shorter,
    "keep_ratio_largest": _fit_longer,
    "center_crop": _center_crop,
    "border": _border,
}
