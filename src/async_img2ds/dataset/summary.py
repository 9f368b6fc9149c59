"""summary(output_folder): what a dataset comes to, added up from its stats files alone, whoever wrote them."""

from __future__ import annotations

import os
import time
from array import array
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from async_img2ds.dataset.stats import DigestOfMarkers, Found, gaps, ranges, read_stats
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.options import SummaryOptions
from async_img2ds.preflight import check_shared
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Done, Tally
from async_img2ds.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.storage import Store

__all__ = ["AddedUp", "MadeWith", "Summary", "run_summary", "summary"]

# Of numbers that may be many, so many runs of them are told.
TOLD_MAX: Final = 10
# The display is told of so many stats files at once.
SHOWN_AT_ONCE: Final = 256


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


@dataclass(frozen=True, slots=True)
class Summary:
    """What a dataset comes to: what ``summary`` returns.

    Attributes:
        shards: finished ones whose stats files could be read.
        rows: that they have.
        successes: rows with an image among these.
        failed_to_download: rows whose image was not received.
        failed_to_resize: rows whose bytes did not become an image.
        error_classes: failed rows by reason; img2dataset's stats files do not tell it.
        bytes_received: bodies received, in bytes, as far as is told.
        bytes_written: images stored, in bytes, likewise.
        missing: how many numbers below the highest no finished shard has.
        missing_first: the first and last of each run of these, of the first runs.
        began: when the first shard was begun, as Unix time in seconds; None if there is none.
        ended: when the last one was finished.
        made_with: the sets of options that they were made with, that of most shards first.
        damaged: stats files that say nothing, by name, with the reason.
        unread: those that could not be read, likewise.
        is_in_use: whether a run is writing to the folder.
        seconds: wall time.

    """

    shards: int
    rows: int
    successes: int
    failed_to_download: int
    failed_to_resize: int
    error_classes: Mapping[str, int]
    bytes_received: int
    bytes_written: int
    missing: int
    missing_first: tuple[tuple[int, int], ...]
    began: float | None
    ended: float | None
    made_with: tuple[MadeWith, ...]
    damaged: Mapping[str, str]
    unread: Mapping[str, str]
    is_in_use: bool
    seconds: float

    @property
    def share(self) -> float:
        """Which part of the rows has an image, 0 to 1."""
        return self.successes / self.rows if self.rows else 0.0


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
        told = marker.made_with
        options = None if told is None else orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
        self._by_options.setdefault(options, array("Q")).append(file.number)

    @property
    def tally(self) -> Tally:
        """The counts of all rows."""
        return self.totals.committed

    def made_with(self) -> tuple[MadeWith, ...]:
        """Return the sets of options, that of most shards first."""
        most_first = sorted(self._by_options.items(), key=lambda item: len(item[1]), reverse=True)
        return tuple(
            MadeWith(
                None if options is None else orjson.loads(options),
                len(numbers),
                tuple(islice(ranges(numbers), TOLD_MAX)),
            )
            for options, numbers in most_first
        )


def summary(output_folder: str, **options: Any) -> Summary:  # noqa: ANN401  checked against their fields
    """Add up a dataset, with the options of ``aimg2ds summary`` as keywords. A run may be writing to it.

    Raises:
        OptionsError: an option cannot be used, or there is no dataset.
        StorageError: the folder cannot be read.

    """
    return run_summary(SummaryOptions(output_folder=output_folder, **options))


def run_summary(options: SummaryOptions) -> Summary:
    """Do the whole job as *options* say."""
    began = time.monotonic()
    check_shared(options.output_folder)
    store = open_store(options.output_folder)
    try:
        is_in_use = store.is_in_use()
        found = Found.in_store(store)
        if not (len(found) or found.empty or is_in_use):
            raise OptionsError(f"output_folder: there is no dataset in {options.output_folder}")
        added = AddedUp()
        for _ in added.each(store, found, options.progress):
            pass
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error
    finally:
        store.close()
    missing = [last - first + 1 for first, last in gaps(number for number, _ in found)]
    empty = dict.fromkeys(found.empty, "is empty")
    tally = added.tally
    return Summary(
        shards=added.totals.shards_done,
        rows=tally.count,
        successes=tally.successes,
        failed_to_download=tally.failed_to_download,
        failed_to_resize=tally.failed_to_resize,
        error_classes=dict(tally.error_classes.most_common()),
        bytes_received=tally.body_bytes,
        bytes_written=tally.image_bytes,
        missing=sum(missing),
        missing_first=tuple(islice(gaps(number for number, _ in found), TOLD_MAX)),
        began=added.began,
        ended=added.ended,
        made_with=added.made_with(),
        damaged=empty | {file.name: file.fault for file in added.faults if file.is_damaged},
        unread={file.name: file.fault for file in added.faults if not file.is_damaged},
        is_in_use=is_in_use,
        seconds=time.monotonic() - began,
    )
