"""Counts of measured values in half octaves: few numbers, exact to a fifth, and added up without loss.

Bucket *b* counts values from ``2 ** (b / 2)`` up to ``2 ** ((b + 1) / 2)``; bucket 0 has those below 1, too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BUCKETS_PER_OCTAVE", "bucket_of", "least_of", "quantile"]

BUCKETS_PER_OCTAVE: Final = 2


def bucket_of(value: float) -> int:
    """Return the bucket that counts *value*."""
    return int(BUCKETS_PER_OCTAVE * math.log2(value)) if value > 1 else 0


def least_of(bucket: int) -> float:
    """Return the least value that *bucket* counts, but for bucket 0, which begins at 0."""
    return float(2 ** (bucket / BUCKETS_PER_OCTAVE)) if bucket else 0.0


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the value that a *share* of all is below, within its bucket in proportion; None if nothing was counted."""
    left = share * sum(counts.values())
    for bucket in sorted(counts):
        if counts[bucket] and counts[bucket] >= left:
            least, most = least_of(bucket), 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE)
            return float(least + (most - least) * left / counts[bucket])
        left -= counts[bucket]
    return None
