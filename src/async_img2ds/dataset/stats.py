"""All stats files of a dataset: found by one listing, in a few bytes each, and read some at a time."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise, repeat
from typing import TYPE_CHECKING, Final, Self

from async_img2ds.existing import READERS
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.shards import Naming
from async_img2ds.records import FileSum
from async_img2ds.storage import MARKER, REDO, REDO_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from async_img2ds.storage import Store

__all__ = ["DigestOfMarkers", "Found", "StatsFile", "gaps", "ranges", "read_stats"]

# Stats files asked for at a time, for each of the threads that read: it has another at hand when it is done with one.
AHEAD: Final = 4
# Digits of a number that eight bytes surely hold.
DIGITS_MAX: Final = 19


@dataclass(slots=True)
class Found:
    """The stats files that lie in a folder, by the digits of their numbers, in the order of these.

    Attributes:
        numbers: of those that have something in them.
        empty: the names of those that have not.
        torn: the stems of shards that are being replaced, or were when a run was cut off.

    """

    numbers: dict[int, array[int]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    @classmethod
    def in_store(cls, store: Store) -> Self:
        """Return those in *store*, which is listed once."""
        found = cls()
        for name, size in store.names():
            stem = name.removesuffix(MARKER)
            if Naming.finished_shard(name) is not None and stem.isascii() and len(stem) <= DIGITS_MAX:
                if size:
                    found.numbers.setdefault(len(stem), array("Q")).append(int(stem))
                else:
                    found.empty.append(name)
            elif REDO_NAME.fullmatch(name):
                found.torn.append(name.removesuffix(REDO))
        found.torn += [name.removesuffix(REDO) for name in store.folders() if REDO_NAME.fullmatch(name)]
        found.numbers = {digits: array("Q", sorted(numbers)) for digits, numbers in found.numbers.items()}
        found.empty.sort()
        return found

    def __len__(self) -> int:
        return sum(map(len, self.numbers.values()))

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield number and stem of each, in the order of the numbers."""
        each = (zip(numbers, repeat(digits)) for digits, numbers in self.numbers.items())
        yield from ((number, f"{number:0{digits}d}") for number, digits in heapq.merge(*each))


@dataclass(frozen=True, slots=True)
class StatsFile:
    """A stats file as it was read: what it says but for its messages, and what was read.

    If it says nothing, *fault* is why: it *is_damaged*, or it could not be read.
    """

    number: int
    stem: str
    marker: Marker | None
    sum: FileSum
    fault: str = ""
    is_damaged: bool = False

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.stem + MARKER


def read_stats(store: Store, found: Iterable[tuple[int, str]]) -> Iterator[StatsFile]:
    """Yield what the stats files *found* in *store* say, in their order, whatever they are."""
    pool = ThreadPoolExecutor(READERS, "markers")
    asked: deque[Future[StatsFile]] = deque()
    try:
        for number, stem in found:
            asked.append(pool.submit(_read, store, number, stem))
            if len(asked) >= AHEAD * READERS:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(store: Store, number: int, stem: str) -> StatsFile:
    try:
        content = store.content(stem + MARKER)
    except Exception as error:  # noqa: BLE001  each file system has errors of its own; it is reported
        return StatsFile(number, stem, None, FileSum(0, ""), f"cannot be read: {str(error) or type(error).__name__}")
    read = FileSum(len(content), hashlib.sha256(content).hexdigest())
    if not content:
        return StatsFile(number, stem, None, read, "is being replaced, or was removed a moment ago")
    try:
        marker = Marker.parse(content)
    except ValueError as error:
        return StatsFile(number, stem, None, read, f"is {error}", is_damaged=True)
    marker.tally.messages = Counter()  # which may be a hundred thousand
    return StatsFile(number, stem, marker, read)


class DigestOfMarkers:
    """The sha256 of what ``sha256sum`` prints of stats files, which are added in the order of their numbers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lines = hashlib.sha256()

    def add(self, file: StatsFile) -> None:
        """Add *file*, the next one."""
        self._lines.update(f"{file.sum.sha256}  {file.name}\n".encode())

    def hexdigest(self) -> str:
        """Return it, in hex."""
        return self._lines.hexdigest()


def ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of *numbers*, which come in order."""
    first = last = None
    for number in numbers:
        if last is not None and first is not None and number > last + 1:
            yield first, last
            first = None
        first, last = (number if first is None else first), number
    if first is not None and last is not None:
        yield first, last


def gaps(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of numbers from 0 that *numbers*, which come in order, leave out."""
    for (_, before), (after, _) in pairwise(chain([(-1, -1)], ranges(numbers))):
        if after > before + 1:
            yield before + 1, after - 1
