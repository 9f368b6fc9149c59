"""Source size + resize options → where the pixels go: how large, what is cut off, on what canvas.

One rule per mode, to the pixel img2dataset's (its resizer.py with albumentations 1.4),
Python's rounding of halves to even included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PLACEMENTS", "UPRIGHT", "Placement", "place", "turned"]

Size = tuple[int, int]
Box = tuple[int, int, int, int]

# EXIF orientations: of an image that is stored as it is seen, and of those stored on their side.
UPRIGHT: Final = 1
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Placement:
    """What to do with an image of a known size, in this order; None where a step is not needed. Lengths in pixels.

    Attributes:
        resize: (width, height) to scale to, as the image is stored.
        enlarges: whether that is an enlargement, which may use another filter.
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

    @property
    def changes(self) -> bool:
        """Whether any pixel may change; it may in a resize, and be it to its own size."""
        return self.resize is not None or self.turn != UPRIGHT


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
