"""Finished shards that are done again: some rows anew, the others from their files, and the whole in its old place."""

from __future__ import annotations

import asyncio
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.blocking import begun
from async_img2ds.distributors.base import DOUBLING, ShardFeed, distributor
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.existing import drop_manifest, finished_and_torn, removal_in, remove_data, unfinished_shards
from async_img2ds.journal import drop_journals, journals_in
from async_img2ds.options import shaped_as
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.shards import Naming, packed
from async_img2ds.preflight import check_installed, check_shared, host_rules
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Again, Shard
from async_img2ds.storage import MARKER, open_store
from async_img2ds.worker.work import Machine, ShardWork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Sequence

    from async_img2ds.distributors.base import Stop, Work
    from async_img2ds.options import FetchOptions, Options, RunOptions
    from async_img2ds.progress import Display
    from async_img2ds.records import Report
    from async_img2ds.storage import Store

__all__ = ["Choice", "Outcome", "do_again", "hindrance"]

# Files read at a time: over a network each costs a round trip; and how many are asked for at once.
READERS: Final = 16
ASKED: Final = 1024


class Choice(Protocol):
    """Which rows of finished shards are done again."""

    @property
    def removes(self) -> bool:
        """Whether these rows lose their images, instead of being fetched."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of a shard's table by which its rows are chosen; one that is not there is not asked for."""

    def begin(self, store: Store) -> None:
        """Write down what is chosen, if that is to hold for later, before anything is done."""

    def hindrance(self, marker: Marker) -> str | None:
        """Return why a shard with such a stats file cannot be done again, if so."""

    def at_most(self, marker: Marker) -> int:
        """Return how many rows of a shard with such a stats file may be chosen."""

    def rows(self, table: pa.Table) -> frozenset[int]:
        """Return the positions of the chosen rows in *table*, which has the columns asked for, in the list's order."""


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        totals: the counts of the rows that were done again, of shards that were put in their place.
        lost: the shards that stay as they were though there was something to do, by number, with the reason.
        left_alone: the shards that cannot be done again, by reason, by the names of their files.
        unfinished: the names of shards that are not finished, of which something was there, and is not any more.
        seconds: wall time.
        interrupted: whether it was asked to stop before its end.

    """

    totals: Totals = field(default_factory=Totals)
    lost: dict[int, str] = field(default_factory=dict)
    left_alone: dict[str, list[str]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


def hindrance(marker: Marker) -> str | None:
    """Return why no shard with such a stats file can be written anew, whatever of it is done again, if so."""
    if marker.made_with is None:
        return "made by img2dataset, which does not say with what options"
    if marker.made_with.get("output_format") == "dummy":
        return "of output_format dummy, which has no images"
    return None


async def do_again(folder: str, choice: Choice, fetch: FetchOptions, run: RunOptions, stop: Stop) -> Outcome:
    """Do the rows of *choice* again in the dataset at *folder*; *stop* is how to ask for an early end.

    Raises:
        OptionsError: an option cannot be used, or there is no such dataset.
        StorageError: the folder cannot be read or written to.
        WorkerError: worker processes cannot be kept running.

    """
    began, outcome = time.monotonic(), Outcome()
    check_shared(folder)
    rules = host_rules(fetch.hosts_file)
    store = open_store(folder, contested=run.distributor in DOUBLING)
    async with _opened(store, stop):
        found = await asyncio.to_thread(_look, store, choice, stop)
        await asyncio.to_thread(choice.begin, store)
        removal = await asyncio.to_thread(removal_in, store)
        with show_progress(run.display, found.rows_expected, detailed=run.verbose) as display:
            for made_with, shards in found.by_shape.items():
                try:
                    shaped = shaped_as(orjson.loads(made_with), folder, fetch, run)
                except OptionsError as error:  # of these shards; there may be others
                    found.damaged |= dict.fromkeys((shard.id for shard in shards), str(error))
                    continue
                if not choice.removes:
                    check_installed(shaped)

                def work_for(processes: int, cores: int, shaped: Options = shaped) -> Work:
                    return ShardWork(shaped, store, Machine(processes, cores), rules, removal)

                feed = ShardFeed(_shards(store, shards, shaped, found), run.max_shard_retry)
                emit = partial(_take_in, outcome.totals, display)
                try:
                    await distributor(run.distributor)(work_for, feed, emit, stop, run)
                finally:
                    feed.close()
                if feed.error is not None:
                    raise feed.error
        outcome.interrupted = stop.drain.is_set()
        await asyncio.to_thread(_tidy, store, found, outcome)
    outcome.left_alone = {reason: [shard.stem for shard in shards] for reason, shards in found.left_alone.items()}
    outcome.seconds = time.monotonic() - began
    return outcome


def _tidy(store: Store, found: _Found, outcome: Outcome) -> None:
    """Look at what was not done, and remove what nobody will read, or may."""
    if found.choice.removes:
        _look_at_those_left_alone(store, found)
        # Of these nobody can say whose images they keep.
        left = unfinished_shards(store)
        remove_data(store, left)
        drop_journals(store, found.unfinished)
        outcome.unfinished = sorted({*left, *found.unfinished})
    outcome.lost = {**outcome.totals.lost, **found.damaged}
    if not (outcome.lost or outcome.interrupted):  # what commands that were stopped have left
        drop_journals(store, found.journals)


@asynccontextmanager
async def _opened(store: Store, stop: Stop) -> AsyncIterator[None]:
    """Hold *store*; to see whether another run still does may take long, and *stop* is heeded meanwhile."""
    try:
        async with begun(store.prepare, store.close, stop.drain):
            yield
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error


def _take_in(totals: Totals, display: Display, report: Report) -> None:
    totals.add(report)
    display.update(totals)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A finished shard that may have rows to do again.

    The name its files begin with, its marker's sha256 in hex, its *rows*, how many *at_most* are meant, and whether it
    is *torn*: a replacement of it was cut off, so that it is done again even if no row of it is meant.
    """

    id: int
    stem: str
    base: str
    rows: int
    at_most: int
    torn: bool


@dataclass(slots=True)
class _Found:
    """What there is to do.

    Attributes:
        choice: which rows are meant.
        by_shape: the shards, by the options that they were made with, as JSON.
        left_alone: those that cannot be done again, by reason.
        damaged: those that cannot be read, by number, with the reason.
        journals: the stems of the finished shards of which a command that was stopped has kept something.
        unfinished: likewise of those that are not finished.
        changes: whether any shard is going to be replaced.

    """

    choice: Choice
    by_shape: dict[bytes, list[_Finished]] = field(default_factory=dict)
    left_alone: dict[str, list[_Finished]] = field(default_factory=dict)
    damaged: dict[int, str] = field(default_factory=dict)
    journals: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    changes: bool = False

    def rows_expected(self) -> int | None:
        """Return how many rows are to be done again, if that can be told before the tables are read."""
        if self.choice.removes:
            return None
        return sum(shard.at_most for shards in self.by_shape.values() for shard in shards)

    def add(self, shard_id: int, stem: str, content: bytes, *, torn: bool) -> None:
        """Take in what the marker of a shard says."""
        try:
            marker = Marker.parse(content)
        except ValueError as error:
            self.damaged[shard_id] = f"its stats file is {error}"
            return
        base = hashlib.sha256(content).hexdigest()
        shard = _Finished(shard_id, stem, base, marker.tally.count, self.choice.at_most(marker), torn)
        if reason := self.choice.hindrance(marker):
            self.left_alone.setdefault(reason, []).append(shard)
        elif shard.at_most or torn:
            shape = orjson.dumps(marker.made_with, option=orjson.OPT_SORT_KEYS)
            self.by_shape.setdefault(shape, []).append(shard)


def _look(store: Store, choice: Choice, stop: Stop) -> _Found:
    """Read the stats file of each finished shard, until *stop*.

    Raises:
        OptionsError: there is none.

    """
    found = _Found(choice)
    finished, torn = finished_and_torn(store)
    markers = [(shard_id, name.removesuffix(MARKER)) for shard_id, name in sorted(finished.items())]
    if not markers and not (choice.removes and (journals_in(store) or unfinished_shards(store))):
        raise OptionsError("output_folder: there is no finished shard in it; a fetch comes first")
    stems, with_journals = {stem for _, stem in markers}, set(journals_in(store))
    found.journals, found.unfinished = sorted(with_journals & stems), sorted(with_journals - stems)

    def read(stem: str) -> bytes | OSError:
        try:
            return store.content(stem + MARKER)
        except OSError as error:
            return error

    with ThreadPoolExecutor(READERS, "markers") as readers:
        for at in range(0, len(markers), ASKED):
            if stop.drain.is_set():
                break
            some = markers[at : at + ASKED]
            contents = readers.map(read, [stem for _, stem in some])
            for (shard_id, stem), content in zip(some, contents, strict=True):
                if isinstance(content, OSError):
                    found.damaged[shard_id] = f"its stats file cannot be read: {content}"
                else:
                    found.add(shard_id, stem, content, torn=shard_id in torn)
    return found


def _shards(store: Store, finished: Sequence[_Finished], options: Options, found: _Found) -> Iterator[Shard]:
    """Yield what is to be done again of the *finished* shards; one whose table is not what it should be is noted."""
    naming = Naming(options.input.number_sample_per_shard, options.output.oom_shard_count)

    def read(shard: _Finished) -> Shard | str | None:
        return _again(store, shard, naming, found.choice)

    with ThreadPoolExecutor(READERS, "tables") as readers:
        for at in range(0, len(finished), READERS):
            some = finished[at : at + READERS]
            for shard, again in zip(some, readers.map(read, some), strict=True):
                if isinstance(again, str):
                    found.damaged[shard.id] = again
                elif again is not None:
                    if not found.changes:
                        found.changes = True
                        drop_manifest(store)
                    yield again


def _again(store: Store, shard: _Finished, naming: Naming, choice: Choice) -> Shard | str | None:
    """Return what is to be done again of a shard, if anything; or why that cannot be told."""
    name = f"{shard.stem}.parquet"
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            asked = _in_order(parquet, choice.columns)
            if asked.column("key").to_pylist() != [naming.key(shard.id, index) for index in range(shard.rows)]:
                return f"{name} has not the rows of its shard; aimg2ds verify says more"
            rows = choice.rows(asked)
            if not (rows or shard.torn):
                return None
            names = parquet.schema_arrow.names
            table = parquet.read(columns=names[: names.index("key") + 1])
    except (OSError, ValueError, pa.ArrowException) as error:
        return _unreadable(name, error)
    keys = table.column("key").to_pylist()
    again = Again(rows, shard.base, in_order=keys == sorted(keys), removes=choice.removes)
    return Shard(shard.id, packed(table.sort_by("key").drop_columns("key")), shard.rows, again=again)


def _in_order(parquet: pq.ParquetFile, columns: Collection[str]) -> pa.Table:
    """Return the *columns* of a table that there are, and the keys, in the order of these."""
    wanted = {*columns, "key"}
    return parquet.read(columns=[name for name in parquet.schema_arrow.names if name in wanted]).sort_by("key")


def _unreadable(name: str, error: Exception) -> str:
    return f"{name} cannot be read: {str(error).splitlines()[0]}"


def _look_at_those_left_alone(store: Store, found: _Found) -> None:
    """Note the shards that have images to be removed, and cannot be done again."""
    for reason, shards in found.left_alone.items():
        for shard in shards:
            name = f"{shard.stem}.parquet"
            try:
                with store.open(name) as file, pq.ParquetFile(file) as parquet:
                    rows = found.choice.rows(_in_order(parquet, found.choice.columns))
            except FileNotFoundError:  # a format without tables has no images
                continue
            except (OSError, ValueError, pa.ArrowException) as error:
                found.damaged[shard.id] = _unreadable(name, error)
                continue
            if rows:
                found.damaged[shard.id] = f"{len(rows)} rows of it are meant, which nothing here can remove: {reason}"
