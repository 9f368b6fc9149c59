"""Room in memory for the pixels of images: as many at a time as the largest one has that is decoded."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_img2ds.images.codec import PIXELS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PixelMemory"]


@dataclass(slots=True)
class PixelMemory:
    """Lets threads decode while their images have at most *pixels_max* together; whoever came first goes first.

    However many threads there are, what they decode at a time takes no more memory than one image may: 4 bytes a pixel.
    """

    pixels_max: int = PIXELS_MAX
    _taken: int = 0
    _waiting: deque[object] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Have room for an image of so many *pixels* during the block."""
        pixels = min(pixels, self.pixels_max)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            while self._waiting[0] is not ticket or self._taken + pixels > self.pixels_max:
                self._changed.wait()
            self._waiting.popleft()
            self._taken += pixels
            if self._waiting:
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                if self._waiting:
                    self._changed.notify_all()
