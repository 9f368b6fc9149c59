"""Lines that fit the terminal they are read on."""

from __future__ import annotations

import shutil
import textwrap
from typing import Final

__all__ = ["beside", "cut", "width"]

# Longer lines are hard to follow, and shorter ones leave no room for words.
WIDTH_MOST: Final = 140
WIDTH_LEAST: Final = 60


def width() -> int:
    """Return how many characters a line has: those of the terminal, or of the variable COLUMNS, else 80."""
    return min(max(shutil.get_terminal_size().columns, WIDTH_LEAST), WIDTH_MOST)


def beside(head: str, text: str, columns: int) -> str:
    """Return *text* beside *head*, further lines of it below its first, in so many *columns*."""
    room = max(columns - len(head), WIDTH_LEAST // 2)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join([f"{head}{lines[0]}".rstrip(), *(" " * len(head) + line for line in lines[1:])])


def cut(text: str, columns: int) -> str:
    """Return *text* with what is too long for so many *columns* left out in its middle."""
    if len(text) <= columns or columns < 3:  # noqa: PLR2004  one on either side of the mark
        return text
    ahead = (columns - 1) * 2 // 3
    return f"{text[:ahead]}…{text[len(text) - (columns - 1 - ahead) :]}"
