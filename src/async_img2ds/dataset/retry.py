"""retry(output_folder): fetch failed rows of finished shards again, and put the shards that change in their place."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.blocking import begun, waited_for
from async_img2ds.distributors.base import ShardFeed, Stop, distributor
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.existing import finished_and_torn
from async_img2ds.journal import drop_journals, journals_in
from async_img2ds.options import RetryOptions
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.shards import Naming, packed
from async_img2ds.preflight import check_installed, check_shared, host_rules
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Again, Shard
from async_img2ds.storage import MARKER, open_store
from async_img2ds.worker.work import Machine, ShardWork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from async_img2ds.distributors.base import Work
    from async_img2ds.options import Options
    from async_img2ds.progress import Display
    from async_img2ds.records import Report
    from async_img2ds.storage import Store

__all__ = ["RetryReport", "retry", "run_retry"]

# Stats files read at a time: over a network each costs a round trip; and how many are asked for at once.
READERS: Final = 16
ASKED: Final = 1024


@dataclass(frozen=True, slots=True)
class RetryReport:
    """How a retry ended: what ``retry`` returns.

    Attributes:
        rows: failed rows that were fetched again, of shards that were put in their place.
        successes: those that have an image now.
        error_classes: those that failed again, by reason.
        shards_done: shards that were put in their place.
        shards_lost: shards that stay as they were though there was something to do, by number, with the reason.
        left_alone: how many shards cannot be done again, by reason.
        seconds: wall time.
        interrupted: whether it was asked to stop before its end.

    """

    rows: int
    successes: int
    error_classes: Mapping[str, int]
    shards_done: int
    shards_lost: Mapping[int, str]
    left_alone: Mapping[str, int]
    seconds: float
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether all rows that were meant were fetched again."""
        return not (self.shards_lost or self.interrupted)


def retry(output_folder: str, **options: Any) -> RetryReport:  # noqa: ANN401  checked against their fields
    """Fetch failed rows of a dataset again, with the options of ``aimg2ds retry`` as keywords.

    What shapes the dataset is taken from its stats files. From a script, a notebook, or inside a running event loop.

    Raises:
        OptionsError: an option cannot be used, or there is no such dataset.
        StorageError: the folder cannot be read or written to.
        WorkerError: worker processes cannot be kept running.

    """
    checked = RetryOptions.of(output_folder=output_folder, **options)
    return waited_for(lambda: run_retry(checked))


async def run_retry(options: RetryOptions, stop: Stop | None = None) -> RetryReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    began, stop = time.monotonic(), stop or Stop()
    check_shared(options.again.output_folder)
    rules = host_rules(options.fetch.hosts_file)
    store = open_store(options.again.output_folder)
    totals = Totals()
    async with _opened(store, stop):
        found = await asyncio.to_thread(_look, store, options.again.error_class, stop)
        with show_progress(options.run.progress, found.rows) as display:
            for made_with, shards in found.by_shape.items():
                try:
                    shaped = options.for_shape(orjson.loads(made_with))
                except OptionsError as error:  # of these shards; there may be others
                    found.damaged |= dict.fromkeys((shard.id for shard in shards), str(error))
                    continue
                check_installed(shaped)

                def work_for(processes: int, cores: int, shaped: Options = shaped) -> Work:
                    return ShardWork(shaped, store, Machine(processes, cores), rules)

                feed = ShardFeed(_shards(store, shards, shaped, found), options.run.max_shard_retry)
                emit = partial(_take_in, totals, display)
                try:
                    await distributor(options.run.distributor)(work_for, feed, emit, stop, options.run)
                finally:
                    feed.close()
                if feed.error is not None:
                    raise feed.error
        if not (totals.lost or found.damaged or stop.drain.is_set()):
            # What retries that were stopped have left, and nobody will read.
            await asyncio.to_thread(drop_journals, store, found.journals)
    return RetryReport(
        rows=totals.committed.count,
        successes=totals.committed.successes,
        error_classes=dict(totals.committed.error_classes.most_common()),
        shards_done=totals.shards_done,
        shards_lost={**totals.lost, **found.damaged},
        left_alone=found.left_alone,
        seconds=time.monotonic() - began,
        interrupted=stop.drain.is_set(),
    )


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
    """A finished shard with rows to fetch again: its marker's sha256 in hex, its *rows*, and how many are *meant*."""

    id: int
    base: str
    rows: int
    meant: int


@dataclass(slots=True)
class _Found:
    """What there is to do.

    Attributes:
        classes: the reasons that are meant.
        by_shape: the shards, by the options that they were made with, as JSON.
        left_alone: how many shards cannot be done again, by reason.
        damaged: shards that cannot be read, by number, with the reason.
        journals: the stems of the finished shards of which a retry that was stopped has kept something.

    """

    classes: frozenset[str]
    by_shape: dict[bytes, list[_Finished]] = field(default_factory=dict)
    left_alone: Counter[str] = field(default_factory=Counter)
    damaged: dict[int, str] = field(default_factory=dict)
    journals: list[str] = field(default_factory=list)

    def rows(self) -> int:
        """Return how many rows are to be fetched again."""
        return sum(shard.meant for shards in self.by_shape.values() for shard in shards)

    def add(self, shard_id: int, content: bytes, *, torn: bool) -> None:
        """Take in what the marker of a shard says; one that is *torn* is done again though no row of it is meant."""
        try:
            marker = Marker.parse(content)
        except ValueError as error:
            self.damaged[shard_id] = f"its stats file is {error}"
            return
        if reason := _hindrance(marker):
            self.left_alone[reason] += 1
            return
        meant = sum(marker.tally.error_classes[name] for name in self.classes)
        if meant or torn:
            shape = orjson.dumps(marker.made_with, option=orjson.OPT_SORT_KEYS)
            base = hashlib.sha256(content).hexdigest()
            self.by_shape.setdefault(shape, []).append(_Finished(shard_id, base, marker.tally.count, meant))


def _hindrance(marker: Marker) -> str | None:
    """Return why a shard cannot be done again, if so."""
    made_with = marker.made_with
    if made_with is None:
        return "made by img2dataset, which does not say with what options"
    if made_with.get("output_format") == "dummy":
        return "of output_format dummy, which has no images"
    if made_with.get("verify_hash"):
        return "made with verify_hash, and the hashes that failed rows should have are in the list alone"
    return None


def _look(store: Store, classes: Sequence[str], stop: Stop) -> _Found:
    """Read the stats file of each finished shard, until *stop*.

    Raises:
        OptionsError: there is none.

    """
    found = _Found(frozenset(classes))
    finished, torn = finished_and_torn(store)
    markers = sorted(finished.items())
    if not markers:
        raise OptionsError("output_folder: there is no finished shard to take failed rows from; a fetch comes first")
    found.journals = sorted({name.removesuffix(MARKER) for _, name in markers}.intersection(journals_in(store)))

    def read(name: str) -> bytes | OSError:
        try:
            return store.content(name)
        except OSError as error:
            return error

    with ThreadPoolExecutor(READERS, "markers") as readers:
        for at in range(0, len(markers), ASKED):
            if stop.drain.is_set():
                break
            some = markers[at : at + ASKED]
            for (shard_id, _), content in zip(some, readers.map(read, [name for _, name in some]), strict=True):
                if isinstance(content, OSError):
                    found.damaged[shard_id] = f"its stats file cannot be read: {content}"
                else:
                    found.add(shard_id, content, torn=shard_id in torn)
    return found


_ASKED_OF: Final = ("key", "error_class")


def _shards(store: Store, finished: Sequence[_Finished], options: Options, found: _Found) -> Iterator[Shard]:
    """Yield what is to be done again of the *finished* shards; one whose table is not what it should be is noted."""
    naming = Naming(options.input.number_sample_per_shard, options.output.oom_shard_count)
    for shard in finished:
        name = f"{naming.shard(shard.id)}.parquet"
        try:
            with store.open(name) as file, pq.ParquetFile(file) as parquet:
                names = parquet.schema_arrow.names
                listed = names[: names.index("key")]
                table = parquet.read(columns=[*listed, *_ASKED_OF])
        except (OSError, ValueError, pa.ArrowException) as error:
            found.damaged[shard.id] = f"{name} cannot be read: {str(error).splitlines()[0]}"
            continue
        keys = table.column("key").to_pylist()
        in_order = table.sort_by("key")
        if in_order.column("key").to_pylist() != [naming.key(shard.id, index) for index in range(shard.rows)]:
            found.damaged[shard.id] = f"{name} has not the rows of its shard; aimg2ds verify says more"
            continue
        reasons = in_order.column("error_class").to_pylist()
        rows = frozenset(index for index, reason in enumerate(reasons) if reason in found.classes)
        again = Again(rows, shard.base, in_order=keys == sorted(keys))
        yield Shard(shard.id, packed(in_order.select(listed)), shard.rows, again=again)
