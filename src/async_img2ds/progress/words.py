"""Figures of a view in few characters."""

from __future__ import annotations

__all__ = ["clock", "duration", "share", "size"]


def clock(seconds: float | None) -> str:
    """Return a time as hours, minutes and seconds, ``?`` if it is not known."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(milliseconds: float | None) -> str:
    """Return how long a request took."""
    if milliseconds is None:
        return "?"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"  # noqa: PLR2004  of a second


def share(part: int, whole: int) -> str:
    """Return a part of a whole in hundredths."""
    return f"{part / whole:.1%}" if whole else "–"


def size(count: int) -> str:
    """Return a count of bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"  # noqa: PLR2004  of a gigabyte
