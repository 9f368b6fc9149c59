"""survey(url_list): what a list has, and what a sample of it, fetched as a run would fetch it, says of the whole."""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from async_img2ds.blocking import waited_for
from async_img2ds.distributors.base import Stop
from async_img2ds.distributors.local import usable_cores
from async_img2ds.errors import ErrorClass, OptionsError, StorageError
from async_img2ds.flags import flags_of
from async_img2ds.lists.census import take_census
from async_img2ds.lists.reading import Lines, in_thread, say_nothing
from async_img2ds.options import Options, PlanOptions, SurveyOptions, parameters
from async_img2ds.outputs.stored import READERS
from async_img2ds.policy.estimates import (
    Estimate,
    Pace,
    Setting,
    Wanted,
    host_hours,
    mean_of,
    middle_rate,
    pace_of,
    percentile,
    settings_for,
    share_of,
)
from async_img2ds.run import run
from async_img2ds.storage import MARKER, folder_system, open_store, protocols, sweep_staging, temporary_folder
from async_img2ds.worker.room import disk_usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from async_img2ds.lists.census import Census
    from async_img2ds.records import RunReport

__all__ = ["SurveyReport", "Trial", "run_survey", "survey"]

# Rows for each process at the least, or a sample would measure how processes start.
ROWS_EACH: Final = 25
# What a file takes of a disk is a multiple of this, on most file systems.
BLOCK_BYTES: Final = 4096
# What hosts answer that have enough, and the share of rows from which on that is told.
_ASKING_FOR_PATIENCE: Final = (ErrorClass.HTTP_RATE_LIMITED, ErrorClass.HTTP_STATUS_5XX)
PATIENCE_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Trial:
    """What a sample came to, and what follows for the whole list.

    Attributes:
        rows: rows fetched, drawn at random.
        processes: by how many processes.
        seconds: wall time.
        successes: rows that became an image.
        error_classes: the others by reason, most first.
        limits: what it waited for, as shares of its time.
        success_share: of the whole list.
        images: of the whole list.
        received_each: bytes received for a row.
        received: bytes received for the whole list.
        written_each: bytes stored for a row, with what is stored beside its image.
        disk: bytes stored for the whole list.
        image_bytes: sizes below which half, and 95 of 100, of the stored images are; None if there is none.
        rows_per_second: rows done a second on this machine.
        images_per_second: images stored a second.
        megabits_per_second: bandwidth that this takes.
        hours: how long the list takes on this machine; no end is known where hosts had enough already of the sample.
        largest_host_hours: how long the host with the most rows takes at the least, asked as the options allow.
        room: bytes that are free where the dataset goes; None where nobody says.
        settings: options to use, each with the reason.
        notes: what to know about all this.

    """

    rows: int
    processes: int
    seconds: float
    successes: int
    error_classes: Mapping[str, int]
    limits: Mapping[str, float]
    success_share: Estimate
    images: Estimate
    received_each: Estimate
    received: Estimate
    written_each: Estimate
    disk: Estimate
    image_bytes: tuple[float, float] | None
    rows_per_second: Estimate
    images_per_second: Estimate
    megabits_per_second: Estimate
    hours: Estimate
    largest_host_hours: float
    room: int | None
    settings: tuple[Setting, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SurveyReport:
    """What a list has, and what a fetch of it will be: what ``survey`` returns.

    Attributes:
        census: what the list has.
        trial: what a sample came to; None if none was asked for, or the list has no rows.
        interrupted: whether it was asked to stop before its end.

    """

    census: Census
    trial: Trial | None = None
    interrupted: bool = False


def survey(*values: Any, **options: Any) -> SurveyReport:  # noqa: ANN401  checked against their fields
    """Look at a list before it is fetched, with the options of ``aimg2ds plan`` as keywords.

    From a script, a notebook, or inside a running event loop. Nothing is created but temporary files. Only a *sample*
    asks anybody for anything.

    Raises:
        OptionsError: an option cannot be used.
        InputError: the list cannot be read.
        StorageError: there is no room for the sample.
        WorkerError: worker processes cannot be kept running.

    """
    checked = PlanOptions.of(*values, **options)
    return waited_for(lambda: run_survey(checked))


_OWN: Final = [
    Parameter(flag.name, Parameter.KEYWORD_ONLY, annotation=flag.type, default=flag.default)
    for flag in flags_of(SurveyOptions)
]
vars(survey)["__signature__"] = Signature([*parameters(), *_OWN], return_annotation=SurveyReport)


async def run_survey(options: PlanOptions, stop: Stop | None = None) -> SurveyReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    stop = stop or Stop()
    wanted, of_fetch = options.survey, options.fetch
    told = Lines("plan") if of_fetch.run.progress != "none" else say_nothing
    take = partial(take_census, of_fetch.input, of_fetch.fetch, told, drawn=wanted.sample, seed=wanted.seed)
    counted = await in_thread("plan", lambda is_wanted: take(is_wanted=is_wanted), stop)
    if counted is None:  # it was asked for twice, and not even what was counted so far is waited for
        raise KeyboardInterrupt
    census, drawn = counted
    if not (drawn.num_rows and census.is_whole):
        return SurveyReport(census, interrupted=not census.is_whole)
    trial = await _tried(of_fetch, census, drawn, stop, wanted.seed)
    return SurveyReport(census, trial, interrupted=trial is None)


async def _tried(options: Options, census: Census, drawn: pa.Table, stop: Stop, seed: int) -> Trial | None:
    """Fetch the rows *drawn* into a temporary folder, and return what they say; None if *stop* was asked for."""
    parent = await asyncio.to_thread(_parent_for, options)
    try:
        with temporary_folder(parent) as folder:
            pq.write_table(drawn, folder / "sample.parquet")
            trying = _for_a_trial(options, folder, drawn.num_rows)
            report = await run(trying, stop)
            if report.interrupted:
                return None
            if report.shards_lost:
                raise StorageError(f"the sample cannot be fetched: {next(iter(report.shards_lost.values()))}")
            return _estimated(options, trying, census, report, _Found.of(trying), seed)
    except OSError as error:
        raise StorageError(f"temp_folder: the sample cannot be kept in {parent}: {error}") from error


def _parent_for(options: Options) -> Path:
    """Return the folder in which a sample may have one; what samples of before have left there is removed."""
    parent = Path(options.input.temp_folder or tempfile.gettempdir())
    if not parent.is_dir():
        raise OptionsError(f"temp_folder: {parent} is no folder on this machine")
    sweep_staging(parent)
    return parent


def _for_a_trial(options: Options, folder: Path, rows: int) -> Options:
    """Return *options* for a fetch of a sample of so many *rows*, which lies in *folder*, as is all that it makes."""
    processes = min(options.run.processes_count or usable_cores(), -(-rows // ROWS_EACH))
    output_format = options.output.output_format
    return replace(
        options,
        input=replace(
            options.input,
            url_list=(str(folder / "sample.parquet"),),
            input_format="parquet",
            recipe=None,
            partition_by=None,
            dedupe=False,
            number_sample_per_shard=-(-rows // processes),
        ),
        output=replace(
            options.output,
            output_folder=str(folder / "dataset"),
            output_format="webdataset" if output_format == "dummy" else output_format,
            incremental_mode="incremental",
            provenance=True,
            resume_within_shard=False,
        ),
        run=replace(
            options.run,
            distributor="multiprocessing",
            rank=None,
            world_size=None,
            ranks_per_node=None,
            enable_wandb=False,
            processes_count=processes,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What the fetch of a sample has left: of each row how much was received, and of its image the size.

    Attributes:
        received: bytes received for each row.
        images: bytes of each image.
        answered_at: when answers came, as Unix times.
        stored: bytes that all files together take of a disk.

    """

    received: list[float]
    images: list[float]
    answered_at: list[float]
    stored: int

    @classmethod
    def of(cls, options: Options) -> _Found:
        """Return what is in the folder of *options*."""
        folder = Path(options.output.output_folder)
        store = open_store(str(folder))
        received: list[float] = []
        images: list[float] = []
        answered_at: list[float] = []
        try:
            for marker in sorted(folder.glob(f"*{MARKER}")):
                stem = marker.name.removesuffix(MARKER)
                table = pq.read_table(folder / f"{stem}.parquet", columns=["body_bytes", "fetched_at"])
                received += table.column("body_bytes").to_pylist()
                moments = table.column("fetched_at").drop_null().to_pylist()
                answered_at += [datetime.fromisoformat(moment).timestamp() for moment in moments]
                read = READERS[options.output.output_format]
                images += [len(image) for _, image in read(store, stem, options.image.encode_format)]
        finally:
            store.close()
        is_apart = options.output.output_format == "files"
        return cls(received, images, answered_at, sum(_sizes(folder, BLOCK_BYTES if is_apart else 1)))


def _sizes(folder: Path, block: int) -> Iterator[int]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            yield -(-path.stat().st_size // block) * block


def _estimated(options: Options, trying: Options, census: Census, report: RunReport, found: _Found, seed: int) -> Trial:
    """Return what a sample that was fetched says of the list."""
    chance = random.Random(seed)  # noqa: S311  to be repeated, not to be secret

    def resample(values: Any) -> Any:  # noqa: ANN401  numbers
        return chance.choices(values, k=len(values))

    repeats = census.repeats.count if options.input.dedupe else 0
    rows = census.rows - repeats
    share = share_of(report.successes, report.count)
    received = mean_of(found.received, resample)
    written = _with_what_is_beside(
        mean_of([*found.images, *[0.0] * (report.count - len(found.images))], resample), found, report.count
    )
    if options.output.output_format == "dummy":
        written = Estimate(0.0, 0.0, 0.0, "output_format dummy keeps no image")
    pace = pace_of(Pace(report.count / report.seconds, middle_rate(found.answered_at, report.count)))
    fetch = options.fetch
    each_s = max(fetch.crawl_delay, 1 / fetch.max_rate_per_host if fetch.max_rate_per_host else 0.0)
    largest = census.top_hosts[0].rows if census.top_hosts else 0
    alone = host_hours(largest, fetch.max_per_host, report.stages.get("fetching", 0.0), each_s)
    hours = Estimate(rows / pace.likely / 3600, rows / pace.high / 3600, rows / pace.low / 3600, pace.how)
    is_tried = _share_of_tried(report) > PATIENCE_SHARE
    most = math.inf if is_tried else max(alone, hours.high)
    hours = Estimate(max(alone, hours.likely), max(alone, hours.low), most, hours.how)
    processes = trying.run.processes_count or 1
    wanted = Wanted(
        rows=rows,
        repeats=census.repeats.count,
        is_deduped=options.input.dedupe,
        image_bytes=max(1.0, written.likely),
        image_share=share.likely,
        output_format=options.output.output_format,
        rows_per_shard=options.input.number_sample_per_shard,
        shard_digits=options.output.oom_shard_count,
        cores=usable_cores(),
        processes=options.run.processes_count or usable_cores(),
        threads=fetch.thread_count,
        limits=report.limits,
        errors={name: count / report.count for name, count in report.error_classes.items()},
        has_servers=bool(fetch.dns_servers),
    )
    images = sorted(found.images)
    trial = Trial(
        rows=report.count,
        processes=processes,
        seconds=report.seconds,
        successes=report.successes,
        error_classes=report.error_classes,
        limits=report.limits,
        success_share=share,
        images=share.times(rows),
        received_each=received,
        received=received.times(rows),
        written_each=written,
        disk=written.times(rows),
        image_bytes=(percentile(images, 0.5), percentile(images, 0.95)) if images else None,
        rows_per_second=pace,
        images_per_second=pace.times(share.likely),
        megabits_per_second=pace.times(received.likely * 8 / 1e6),
        hours=hours,
        largest_host_hours=alone,
        room=_room_at(options.output.output_folder),
        settings=tuple(settings_for(wanted)),
    )
    return replace(trial, notes=tuple(_notes(options, census, trial, report)))


def _with_what_is_beside(images: Estimate, found: _Found, rows: int) -> Estimate:
    """Return what a row takes of the disk, from what *images* take of it and all files of the sample did."""
    of_images = sum(found.images)
    if found.stored < of_images:  # a table that has the same image many times holds it once
        return images.times(found.stored / of_images)
    more = (found.stored - of_images) / rows
    return Estimate(images.likely + more, images.low + more, images.high + more, images.how)


def _room_at(output_folder: str) -> int | None:
    """Return how many bytes are free where *output_folder* is or will be; None elsewhere than on this machine."""
    fs, path = folder_system(output_folder)
    if "file" not in protocols(fs):
        return None
    there = next(folder for folder in (Path(path), *Path(path).parents) if folder.exists())
    return disk_usage(there).free


def _share_of_tried(report: RunReport) -> float:
    """Return the share of rows whose hosts had enough."""
    return sum(report.error_classes.get(name, 0) for name in _ASKING_FOR_PATIENCE) / report.count


def _notes(options: Options, census: Census, trial: Trial, report: RunReport) -> Iterator[str]:
    """Yield what to know about the estimates of *trial*, which came of *report*."""
    folder, room = options.output.output_folder, trial.room
    if room is not None and trial.disk.high > room:
        how = "is" if trial.disk.low > room else "may be"
        yield f"there {how} too little room at {folder}: choose another --output_folder"
    if trial.hours.low <= trial.largest_host_hours and census.top_hosts:
        yield (
            f"{census.top_hosts[0].value} alone decides how long it takes: --max_per_host, --max_rate_per_host and "
            "--crawl_delay say how it is asked; a higher limit is for hosts of your own"
        )
    if (asked := _share_of_tried(report)) > PATIENCE_SHARE:
        yield (
            f"{asked:.1%} of the rows were answered by 429 or 5xx even after retries: such hosts are "
            "asked ever less, and where many rows are theirs that alone may take hours, which no sample tells"
        )
    if trial.processes < (options.run.processes_count or usable_cores()):
        yield f"the sample was enough for {trial.processes} processes; with more it is faster, as far as the line goes"
    if options.run.is_rank or options.run.distributor != "multiprocessing":
        yield "hours are those of this machine alone; the other ones share the list"
