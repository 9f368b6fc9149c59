"""verify(output_folder): read every finished shard again, in processes of their own, and say what is wrong."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.blocking import begun, waited_for
from async_img2ds.dataset.manifest import untrue_manifest
from async_img2ds.dataset.shards import ShardFiles, check_shard
from async_img2ds.distributors.base import ShardFeed, Stop, distributor
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.existing import drop_manifest, remove_shards
from async_img2ds.journal import JOURNAL, journals_in
from async_img2ds.options import RunOptions, VerifyOptions
from async_img2ds.policy.shards import DATA_ENDINGS, INDEX_ENDING, Naming
from async_img2ds.preflight import check_image_library, check_importable, check_shared
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Checked, Defect, Lost, Shard
from async_img2ds.storage import LEFTOVER_NAME, REDO, REDO_NAME, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from async_img2ds.progress import Display
    from async_img2ds.records import Report
    from async_img2ds.storage import Store

__all__ = ["VerifyReport", "files_in", "run_verify", "verify"]

# Shards read at a time in each process: while one waits for a disk or an object store another is looked at.
READERS: Final = 4
# Of a shard that is damaged throughout so many defects are told.
TOLD_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What is wrong with a dataset: what ``verify`` returns.

    Attributes:
        shards: finished shards, all of which were read.
        rows: that they have.
        successes: rows with an image among these.
        defects: what is wrong with them, by file and key.
        unfinished: what a dataset that is complete does not have: files that belong to no finished shard, and shards
            that are not there though later ones are.
        strangers: shards whose columns are not those of most, which readers of many files may mind.
        unread: shards that could not be read, by their names, with the reason.
        set_back: shards that were removed, by their names, to be fetched again.
        manifest: in what the manifest does not describe what is there, in words; empty if it does, or there is none.
        is_in_use: whether a run was writing to the folder; then what is unfinished is not looked for.
        seconds: wall time.

    """

    shards: int
    rows: int
    successes: int
    defects: tuple[Defect, ...]
    unfinished: tuple[str, ...]
    strangers: tuple[str, ...]
    unread: dict[str, str]
    set_back: tuple[str, ...]
    manifest: str
    is_in_use: bool
    seconds: float

    @property
    def good(self) -> bool:
        """Whether there is nothing but finished shards that are what they say."""
        return not (self.defects or self.unfinished or self.unread or self.is_in_use)


def verify(output_folder: str, **options: Any) -> VerifyReport:  # noqa: ANN401  checked against their fields
    """Check a dataset, with the options of ``aimg2ds verify`` as keywords.

    From a script, a notebook, or inside a running event loop.

    Raises:
        OptionsError: an option cannot be used, or there is no such folder.
        StorageError: the folder cannot be read.
        WorkerError: worker processes cannot be kept running.

    """
    checked = VerifyOptions(output_folder=output_folder, **options)
    return waited_for(lambda: run_verify(checked))


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker process does: read shards of *store*."""

    store: Store
    deep: bool

    def __call__(self, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
        """Check *shards*, some at a time, until they end or *stop*."""
        if self.deep:
            from async_img2ds.images import codec

            codec.prepare()
        room = threading.Semaphore(READERS)
        with ThreadPoolExecutor(READERS, "verify") as readers:
            while True:
                room.acquire()
                shard = None if stop.done() else next(shards, None)
                if shard is None:
                    break
                readers.submit(self._check, shard, emit).add_done_callback(lambda _: room.release())

    def _check(self, shard: Shard, emit: Callable[[Report], None]) -> None:
        began = time.monotonic()
        try:
            emit(self._checked(shard, began))
        except Exception as error:  # noqa: BLE001  each file system has errors of its own; it is reported
            reason = f"{type(error).__name__}: {error}"
            known = isinstance(error, OSError)
            emit(Lost(os.getpid(), shard.id, reason, "" if known else traceback.format_exc()))

    def _checked(self, shard: Shard, began: float) -> Checked:
        tally, found, columns = check_shard(self.store, ShardFiles.parse(shard.rows), deep=self.deep)
        told = tuple(found[:TOLD_MAX])
        if len(found) > TOLD_MAX:
            told = (*told, Defect(found[-1].file, f"and {len(found) - TOLD_MAX} defects more"))
        seconds = time.monotonic() - began
        return Checked(os.getpid(), shard.id, tally.condensed(), seconds, defects=told, columns=columns)


@dataclass(slots=True)
class _Findings:
    """What the reports of the workers come to."""

    shards: list[ShardFiles]
    totals: Totals = field(default_factory=Totals)
    defects: list[Defect] = field(default_factory=list)
    defective: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)

    def take_in(self, display: Display, report: Report) -> None:
        self.totals.add(report)
        display.update(self.totals)
        if isinstance(report, Checked):
            stem = self.shards[report.shard_id].stem
            self.defects += report.defects
            self.defective += [stem] if report.defects else []
            if report.columns:
                self.columns.setdefault(report.columns, []).append(stem)

    def rows_expected(self) -> int | None:
        """Return how many rows there are, as far as can be told from the shards that were read."""
        done = self.totals.shards_done
        return round(self.totals.committed.count / done * len(self.shards)) if done else None

    def strangers(self) -> list[str]:
        """Return the shards whose columns are not those of most."""
        by_number = sorted(self.columns.items(), key=lambda item: len(item[1]), reverse=True)
        return [
            f"{stem}.parquet has other columns than most, which have {by_number[0][0]}; it has {columns}"
            for columns, stems in by_number[1:]
            for stem in stems
        ]


async def run_verify(options: VerifyOptions, stop: Stop | None = None) -> VerifyReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    stop = stop or Stop()
    check_shared(options.output_folder)
    store = open_store(options.output_folder)

    def begin() -> bool:
        in_use = store.is_in_use()
        if options.repair:
            store.prepare()  # it may have to see whether a run still lives
        return in_use

    try:
        async with begun(begin, store.close, stop.drain) as is_in_use:
            return await _verified(options, store, stop, is_in_use=is_in_use)
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error


async def _verified(options: VerifyOptions, store: Store, stop: Stop, *, is_in_use: bool | None) -> VerifyReport:
    """Check what is in *store*, which is held if it is to be repaired, unless *is_in_use* is not known."""
    began = time.monotonic()
    shards, unfinished = await asyncio.to_thread(files_in, store)
    if not shards and not unfinished:
        raise OptionsError(f"output_folder: there is no dataset in {options.output_folder}")
    if options.deep:
        check_image_library()
    if any(f"{files.stem}.tfrecord" in files.sizes for files in shards):
        check_importable("tfrecord", "google_crc32c", "tfrecord")
    found = _Findings(shards)
    feed = ShardFeed((Shard(at, files.to_json(), 0) for at, files in enumerate(shards)), retries=1)
    run = RunOptions(processes_count=options.processes_count)
    try:
        with show_progress(options.progress, found.rows_expected) as display:
            emit = partial(found.take_in, display)

            def work_for(processes: int, cores: int) -> _Work:  # noqa: ARG001  it reads, wherever it is
                return _Work(store, options.deep)

            await distributor("multiprocessing")(work_for, feed, emit, stop, run)
    finally:
        feed.close()
    repairs = options.repair and is_in_use is not None
    if repairs:
        await asyncio.to_thread(store.check)
        if found.defective:
            await asyncio.to_thread(drop_manifest, store)
        await asyncio.to_thread(remove_shards, store, found.defective)
    return VerifyReport(
        shards=found.totals.shards_done,
        rows=found.totals.committed.count,
        successes=found.totals.committed.successes,
        defects=tuple(sorted(found.defects, key=lambda defect: defect.file)),
        unfinished=tuple(unfinished) if is_in_use is False else (),
        strangers=tuple(found.strangers()),
        unread={shards[at].stem: reason for at, reason in found.totals.lost.items()},
        set_back=tuple(sorted(found.defective)) if repairs else (),
        manifest=await asyncio.to_thread(untrue_manifest, store, [(int(files.stem), files.stem) for files in shards]),
        is_in_use=bool(is_in_use),
        seconds=time.monotonic() - began,
    )


def files_in(store: Store) -> tuple[list[ShardFiles], list[str]]:
    """Return the finished shards, and in words what else lies in the folder that is not somebody else's."""
    entries = list(store.entries())
    sizes, leftovers, torn = _sorted_out((name, size) for name, size in entries if size is not None)
    replaced: set[str] = set()
    for name, _ in (entry for entry in entries if entry[1] is None):
        if REDO_NAME.fullmatch(name):
            replaced.add(name.removesuffix(REDO))
        elif name.isascii() and name.isdigit():
            sizes.setdefault(name, {})[name] = None
        elif LEFTOVER_NAME.fullmatch(name):
            leftovers.append(name)
    marked = {stem for stem, files in sizes.items() if files.get(f"{stem}_stats.json")} | replaced
    finished = [ShardFiles(stem, sizes[stem]) for stem in sorted(marked - replaced)]
    lying = [name for stem in sorted(sizes) if stem not in marked for name in sizes[stem]]
    return finished, [
        *(f"{name} belongs to no finished shard" for name in lying),
        *(f"shard {stem} is being replaced: the next run moves {stem}{REDO} into place" for stem in sorted(replaced)),
        *(f"shard {stem} was being replaced: the same retry or purge does it again" for stem in sorted(torn)),
        *(f"{name} was left by a run that was killed" for name in sorted(leftovers)),
        *(
            f"shard {stem} is begun: {stem}{JOURNAL} has what was fetched of it"
            for stem in journals_in(store)
            if stem not in marked
        ),
        *_gaps(sorted({int(stem) for stem in marked})),
    ]


def _sorted_out(
    files: Iterable[tuple[str, int]],
) -> tuple[dict[str, dict[str, int | None]], list[str], list[str]]:
    """Return the *files* of shards, by stem and name, those that were left over, and stems of shards half replaced."""
    sizes: dict[str, dict[str, int | None]] = {}
    leftovers, torn, indexes = [], [], []
    for name, size in files:
        stem, _, ending = name.partition(".")
        if Naming.finished_shard(name) is not None:
            sizes.setdefault(stem.removesuffix("_stats"), {})[name] = size
        elif stem.isascii() and stem.isdigit() and ending in DATA_ENDINGS:
            sizes.setdefault(stem, {})[name] = size
        elif ending == INDEX_ENDING:
            indexes.append((stem, name, size))
        elif LEFTOVER_NAME.fullmatch(name):
            leftovers.append(name)
        elif REDO_NAME.fullmatch(name):
            torn.append(name.removesuffix(REDO))
    for stem, name, size in indexes:
        if f"{stem}.tar" in sizes.get(stem, {}):  # without a tar it is no index, and somebody else's
            sizes[stem][name] = size
    return sizes, leftovers, torn


def _gaps(numbers: list[int]) -> Iterator[str]:
    """Say which shards are not there, of those before the last of *numbers*."""
    for before, after in pairwise([-1, *numbers]):
        if after - before == 2:  # noqa: PLR2004  one between them
            yield f"shard {before + 1} is not there"
        elif after - before > 1:
            yield f"shards {before + 1} to {after - 1} are not there"
