"""Counts, sizes, reasons and moments in words, as several commands print them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from async_img2ds.dataset.summary import Summary
    from async_img2ds.records import RunReport

__all__ = ["NAMED_MAX", "both_ways", "failures", "moment", "not_done", "reasons", "runs", "size"]

# Of lists that may be long.
NAMED_MAX: Final = 10
# For amounts of at least ten of them.
_UNITS: Final = (("TB", 1e12), ("GB", 1e9))


def both_ways(report: RunReport | Summary) -> str:
    """Return how many bytes came in and went out."""
    return f"{size(report.bytes_received)} received, {size(report.bytes_written)} of images written"


def size(count: int) -> str:
    """Return a *count* of bytes."""
    unit, bytes_in = next((each for each in _UNITS if count >= 10 * each[1]), ("MB", 1e6))
    return f"{count / bytes_in:,.1f} {unit}"


def failures(report: RunReport | Summary, rows: int) -> list[str]:
    """Return how many of *rows* failed, and why; nothing if none has."""
    if not (failed := rows - report.successes):
        return []
    how = f"{report.failed_to_download:,} not downloaded, {report.failed_to_resize:,} not made into an image"
    lines = [f"failed: {failed:,} ({how})"]
    if untold := failed - sum(report.error_classes.values()):  # of img2dataset's shards
        lines.append(f"  of {untold:,} the stats files have no error_class")
    return lines + (reasons(report.error_classes) if report.error_classes else [])


def reasons(error_classes: Mapping[str, int]) -> list[str]:
    """Return how many failed by each reason, and what can be done about it."""
    from async_img2ds.hints import HINTS

    width = max(map(len, error_classes))
    told = [f"  {name:<{width}}  {count:>9,}  {HINTS.get(name, '')}" for name, count in error_classes.items()]
    return [line.rstrip() for line in told]


def not_done(shards_lost: Mapping[int, str]) -> list[str]:
    """Return which shards are not done, and why: the first of them."""
    lost = list(shards_lost.items())[:NAMED_MAX]
    return [f"  shard {shard_id} is not done: {reason}" for shard_id, reason in lost]


def runs(numbers: Sequence[tuple[int, int]], count: int) -> str:
    """Return runs of numbers in words, of which there may be more: they are *count* in all."""
    told = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in numbers)
    return told + (" …" if sum(last - first + 1 for first, last in numbers) < count else "")


def moment(seconds: float) -> str:
    """Return the date and time at so many *seconds* since 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # whatever a damaged file says
        return str(seconds)
