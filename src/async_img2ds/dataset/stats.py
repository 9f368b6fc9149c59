"""All stats files of a dataset: found by one listing, in a few bytes each, read some at a time, and added up."""

from __future__ import annotations

import hashlib
import heapq
import os
from array import array
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, pairwise, repeat
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import orjson

from async_img2ds.existing import READERS
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.shards import Naming
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Done, FileSum, Tally
from async_img2ds.storage import MARKER, REDO, REDO_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from async_img2ds.storage import Store

__all__ = [
    "TOLD_MAX",
    "AddedUp",
    "DigestOfMarkers",
    "Found",
    "MadeWith",
    "StatsFile",
    "each_ahead",
    "gaps",
    "ranges",
    "read_stats",
]

T = TypeVar("T")
R = TypeVar("R")

# Stats files asked for at a time, for each of the threads that read: it has another at hand when it is done with one.
AHEAD: Final = 4
# Digits of a number that eight bytes surely hold.
DIGITS_MAX: Final = 19
# Of numbers that may be many, so many runs of them are told.
TOLD_MAX: Final = 10
# The display is told of so many stats files at once.
SHOWN_AT_ONCE: Final = 256


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
        for name, size in store.entries():
            stem = name.removesuffix(MARKER)
            if REDO_NAME.fullmatch(name):  # a folder on disk, an object elsewhere
                found.torn.append(name.removesuffix(REDO))
            elif size is None:
                continue
            elif Naming.finished_shard(name) is not None and stem.isascii() and len(stem) <= DIGITS_MAX:
                if size:
                    found.numbers.setdefault(len(stem), array("Q")).append(int(stem))
                else:
                    found.empty.append(name)
        found.numbers = {digits: array("Q", sorted(numbers)) for digits, numbers in found.numbers.items()}
        found.empty.sort()
        return found

    def without_torn(self) -> Found:
        """Return those whose shards are not being replaced."""
        torn = {(len(stem), int(stem)) for stem in self.torn}
        whole = {
            digits: array("Q", (number for number in numbers if (digits, number) not in torn))
            for digits, numbers in self.numbers.items()
        }
        return Found(whole, self.empty)

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
    """Return what the stats files *found* in *store* say, in their order, whatever they are."""
    return each_ahead(partial(_read, store), found, READERS, AHEAD * READERS)


def each_ahead(function: Callable[[T], R], values: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """Yield what *function* makes of each of *values*, in their order, by some *threads*, and so many *ahead*."""
    pool = ThreadPoolExecutor(threads, "ahead")
    asked: deque[Future[R]] = deque()
    try:
        for value in values:
            asked.append(pool.submit(function, value))
            if len(asked) >= ahead:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # what is under way may be writing


def _read(store: Store, one: tuple[int, str]) -> StatsFile:
    number, stem = one
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


class DigestOfMarkers:
    """The sha256 of what ``sha256sum`` prints of stats files, which are added in the order of their numbers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lines = hashlib.sha256()
        self._is_known = True

    def add(self, file: StatsFile) -> None:
        """Add *file*, the next one."""
        self._is_known &= file.marker is not None or file.is_damaged
        self._lines.update(f"{file.sum.sha256}  {file.name}\n".encode())

    def hexdigest(self) -> str:
        """Return it, in hex; nothing if one of them could not be read."""
        return self._lines.hexdigest() if self._is_known else ""


@dataclass(frozen=True, slots=True)
class MadeWith:
    """The shards that were made with one set of options.

    Attributes:
        options: those that shape a dataset, by name; None for shards of img2dataset, which does not say them.
        shards: how many there are.
        numbers: which: the first and last of each run of their numbers, of the first runs.

    """

    options: Mapping[str, Any] | None
    shards: int
    numbers: tuple[tuple[int, int], ...]

    def differences(self, other: MadeWith) -> list[str]:
        """Return in words how these options are not the *other* ones."""
        if self.options is None or other.options is None:
            return ["img2dataset, which does not say with what options" if self.options is None else "this program"]
        names = sorted(self.options.keys() | other.options.keys())
        told = [(name, self.options.get(name, _UNTOLD), other.options.get(name, _UNTOLD)) for name in names]
        return [f"{name} {_in_words(here)}, not {_in_words(there)}" for name, here, there in told if here != there]


_UNTOLD: Final = "untold"


def _in_words(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@dataclass(slots=True)
class AddedUp:
    """What stats files come to, which are taken in one by one, in the order of their numbers."""

    totals: Totals = field(default_factory=Totals)
    began: float | None = None
    ended: float | None = None
    faults: list[StatsFile] = field(default_factory=list)
    digest: DigestOfMarkers = field(default_factory=DigestOfMarkers)
    _by_options: dict[bytes | None, array[int]] = field(default_factory=dict)

    def each(self, store: Store, found: Found, progress: str) -> Iterator[StatsFile]:
        """Take in the stats files *found* in *store*, and yield each; show *progress* of that kind."""

        def rows_expected() -> int | None:
            done = self.totals.shards_done
            return round(self.tally.count / done * len(found)) if done else None

        with show_progress(progress, rows_expected) as display:
            for at, file in enumerate(read_stats(store, found)):
                self.take_in(file)
                if at % SHOWN_AT_ONCE == 0:
                    display.update(self.totals)
                yield file
            display.update(self.totals)

    def take_in(self, file: StatsFile) -> None:
        """Take in what *file* says."""
        self.digest.add(file)
        if (marker := file.marker) is None:
            self.faults.append(file)
            return
        self.totals.add(Done(os.getpid(), file.number, marker.tally, marker.seconds))
        ended = marker.started + marker.seconds
        self.began = marker.started if self.began is None else min(self.began, marker.started)
        self.ended = ended if self.ended is None else max(self.ended, ended)
        self._by_options.setdefault(_options_of(marker), array("Q")).append(file.number)

    @property
    def tally(self) -> Tally:
        """The counts of all rows."""
        return self.totals.committed

    def made_with(self) -> tuple[MadeWith, ...]:
        """Return the sets of options, in the order in which they came."""
        return tuple(
            MadeWith(
                None if options is None else orjson.loads(options),
                len(numbers),
                tuple(islice(ranges(numbers), TOLD_MAX)),
            )
            for options, numbers in self._by_options.items()
        )

    def place_of(self, marker: Marker) -> int:
        """Return the place among these of the set of options of which *marker*, which was taken in, tells."""
        return list(self._by_options).index(_options_of(marker))


def _options_of(marker: Marker) -> bytes | None:
    return None if marker.made_with is None else orjson.dumps(marker.made_with, option=orjson.OPT_SORT_KEYS)
