"""Counts, shares, sizes, times and moments, and texts of strangers, as they stand on the page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

__all__ = ["amount", "clock", "count", "cut", "duration", "moment", "plain", "rate", "share", "short"]

_UNITS: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_SHORT: Final = (("B", 1e9), ("M", 1e6), ("k", 1e3))
_TIMES: Final = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
# Controls, and what turns the direction of the text around it or hides in it (Unicode, UAX 9 and 2.7).
_UNSEEN: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def count(value: float) -> str:
    """Return a whole number."""
    return f"{round(value):,}"


def short(value: float) -> str:
    """Return a number in few characters, for an axis."""
    for unit, least in _SHORT:
        if value >= least:
            return f"{value / least:.3g} {unit}"
    return f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """Return a share in percent, which is 0 or 100 only where it is so exactly."""
    if not whole:
        return "–"
    if 0 < part < whole / 1000:
        return "< 0.1 %"
    if whole * 0.999 < part < whole:
        return "> 99.9 %"
    return f"{part / whole:.1%}".replace(".0%", "%").replace("%", " %")


def amount(size: float) -> str:
    """Return so many bytes."""
    for unit, least in _UNITS:
        if size >= least:
            return f"{size / least:.3g} {unit}" if size < 1000 * least else f"{size / least:,.0f} {unit}"
    return f"{size:.0f} B"


def duration(seconds: float) -> str:
    """Return so many seconds, in the unit that suits them."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    unit, least = next((each for each in _TIMES if seconds >= 2 * each[1]), _TIMES[-1])
    return f"{seconds / least:.3g} {unit}"


def rate(value: float) -> str:
    """Return so many a second."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004  two digits are enough


def moment(seconds: float) -> str:
    """Return the date and time at so many *seconds* since 1970."""
    return _at(seconds, "%Y-%m-%d %H:%M UTC")


def clock(seconds: float, over: float) -> str:
    """Return the time at so many *seconds* since 1970, as an axis says it that goes *over* so many seconds."""
    return _at(seconds, "%H:%M:%S" if over < 600 else "%H:%M" if over < 64_800 else "%d %b %H:%M")  # noqa: PLR2004


def _at(seconds: float, pattern: str) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(pattern)
    except (ValueError, OverflowError, OSError):  # whatever a stats file says
        return "at a time unknown"


def plain(text: str) -> str:
    """Return *text* without what nobody sees and what would move the text around it."""
    return _UNSEEN.sub(" ", text)


def cut(value: object, characters: int) -> str:
    """Return *value* as a text of a stranger's that may be shown: plain, and no longer than so many *characters*."""
    text = "" if value is None else str(value)
    said = plain(text[: characters + 1]).strip()
    return f"{said[: characters - 1]}…" if len(text) > characters else said
