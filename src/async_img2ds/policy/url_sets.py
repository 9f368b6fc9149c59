"""Sets of URLs that are small: a hash of 64 bits each, sorted in an Arrow buffer.

So of a billion new URLs beside a billion known ones, one in twenty such runs takes one for known that is not.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Self, cast

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["KnownUrls", "SeenUrls"]

# Hashes in a Python set take about 80 bytes each, so 20 MB before they are put with the others.
RECENT_MAX: Final = 2**18


class KnownUrls:
    """A set of URLs in 8 bytes each, and 24 while it is made: a billion in 8 GB, and 24 for a while."""

    def __init__(self, hashes: Iterable[int]) -> None:
        """Hold the URLs that have *hashes*, as :meth:`hash_of` makes them."""
        unsorted = array("Q", hashes)
        self._hold(pa.Array.from_buffers(pa.uint64(), len(unsorted), [None, pa.py_buffer(unsorted)]))

    def __contains__(self, url: object) -> bool:
        """Whether *url*, a text or None, is among them."""
        return self.has_hash(self.hash_of(cast("str | None", url)))

    def __len__(self) -> int:
        return len(self._sorted)

    def has_hash(self, wanted: int) -> bool:
        """Whether a URL of that hash is among them."""
        at = bisect_left(self._sorted, wanted)
        return at < len(self._sorted) and self._sorted[at] == wanted

    def with_all(self, other: KnownUrls) -> Self:
        """Return a set of the URLs of both."""
        both = type(self)(())
        both._hold(pa.concat_arrays([self._values, other._values]))  # noqa: SLF001  it is one of these, too
        return both

    def _hold(self, values: pa.UInt64Array) -> None:
        self._values = values.sort()
        self._sorted = memoryview(self._values.buffers()[1]).cast("B")[: 8 * len(values)].cast("Q")

    @staticmethod
    def hash_of(url: str | None) -> int:
        """Return the hash of one URL; a missing one is the empty one."""
        return int.from_bytes(blake2b((url or "").encode(errors="surrogatepass"), digest_size=8).digest(), "little")


class SeenUrls:
    """The URLs of a list so far: 8 bytes each, and up to 24 while parts are put together.

    Parts double in size, so that each URL is moved a few times only, and few parts are looked through.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._recent: set[int] = set()
        self._parts: list[KnownUrls] = []  # the largest first

    def repeats_in(self, urls: Sequence[str | None]) -> frozenset[int]:
        """Take in the next *urls*; return the positions of those that have come before, missing ones left out."""
        repeats = []
        for position, url in enumerate(urls):
            if not url:
                continue
            value = KnownUrls.hash_of(url)
            if value in self._recent or any(part.has_hash(value) for part in self._parts):
                repeats.append(position)
            else:
                self._recent.add(value)
        if len(self._recent) >= RECENT_MAX:
            self._settle()
        return frozenset(repeats)

    def _settle(self) -> None:
        part = KnownUrls(self._recent)
        self._recent = set()
        while self._parts and len(self._parts[-1]) <= len(part):
            part = self._parts.pop().with_all(part)
        self._parts.append(part)
