"""summary(output_folder): what a dataset comes to, added up from its stats files alone, whoever wrote them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from async_img2ds.dataset.manifest import untrue_manifest
from async_img2ds.dataset.stats import TOLD_MAX, AddedUp, Found, gaps
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.options import SummaryOptions
from async_img2ds.preflight import check_shared
from async_img2ds.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.dataset.stats import MadeWith

__all__ = ["Summary", "run_summary", "summary"]


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
        manifest: in what the manifest does not describe what is there, in words; empty if it does, or there is none.
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
    manifest: str
    is_in_use: bool
    seconds: float

    @property
    def share(self) -> float:
        """Which part of the rows has an image, 0 to 1."""
        return self.successes / self.rows if self.rows else 0.0


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
        manifest = untrue_manifest(store, added.digest.hexdigest())
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
        made_with=tuple(sorted(added.made_with(), key=lambda each: each.shards, reverse=True)),
        damaged=empty | {file.name: file.fault for file in added.faults if file.is_damaged},
        unread={file.name: file.fault for file in added.faults if not file.is_damaged},
        manifest=manifest,
        is_in_use=is_in_use,
        seconds=time.monotonic() - began,
    )
