"""report(output_folder): what a dataset is, as one HTML page that needs nothing but itself."""

from __future__ import annotations

import os
import time
import uuid
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_img2ds.errors import AsyncImg2dsError, OptionsError, StorageError
from async_img2ds.options import ReportOptions
from async_img2ds.page.contents import page_of
from async_img2ds.page.gathering import gather
from async_img2ds.page.serving import serve
from async_img2ds.preflight import check_shared
from async_img2ds.storage import PARTIAL, REPORT, file_system, protocols

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from async_img2ds.page.contents import Page

__all__ = ["DatasetReport", "report", "run_report"]


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a page tells, and where it is: what ``report`` returns.

    Attributes:
        path: where the page lies, or the address at which it was served.
        bytes: its size.
        shards: finished ones whose stats files could be read: all their counts are in it.
        rows: that they have.
        successes: rows with an image among these.
        shards_looked_at: those drawn at random whose tables and images it has samples of.
        rows_looked_at: that these have.
        thumbnails: images that it shows.
        damaged: stats files that say nothing, by name, with the reason.
        unread: those that could not be read, likewise.
        is_in_use: whether a run is writing to the folder.
        opened: whether a browser was told to show it.
        seconds: wall time.

    """

    path: str
    bytes: int
    shards: int
    rows: int
    successes: int
    shards_looked_at: int
    rows_looked_at: int
    thumbnails: int
    damaged: Mapping[str, str]
    unread: Mapping[str, str]
    is_in_use: bool
    opened: bool
    seconds: float


def report(output_folder: str, **options: Any) -> DatasetReport:  # noqa: ANN401  checked against their fields
    """Show a dataset as a page, with the options of ``aimg2ds report`` as keywords. A run may be writing to it.

    With ``watch`` it serves the page until it is interrupted, and then returns.

    Raises:
        OptionsError: an option cannot be used, there is no dataset, or the page cannot be written.
        StorageError: the folder cannot be read.

    """
    return run_report(ReportOptions(output_folder=output_folder, **options))


def run_report(options: ReportOptions, told: Callable[[str], None] | None = None) -> DatasetReport:
    """Do the whole job as *options* say; where a page is served is *told* as soon as it is."""
    began = time.monotonic()
    check_shared(options.output_folder)
    if options.watch:
        address, page = serve(options, told or print, lambda progress: _made(options, progress))
        return _report(page, address, began, opened=options.open)
    page = _made(options, options.progress)
    path = options.output_file or f"{options.output_folder.rstrip('/')}/{REPORT}"
    _write(path, page.content)
    opened = options.open and webbrowser.open(Path(path).absolute().as_uri())
    return _report(page, path, began, opened=opened)


def _made(options: ReportOptions, progress: str) -> Page:
    try:
        return page_of(gather(options, progress), options)
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error


def _report(page: Page, path: str, began: float, *, opened: bool) -> DatasetReport:
    gathered = page.gathered
    faults = gathered.added.faults
    return DatasetReport(
        path=path,
        bytes=len(page.content),
        shards=gathered.added.totals.shards_done,
        rows=gathered.added.tally.count,
        successes=gathered.added.tally.successes,
        shards_looked_at=gathered.look.shards,
        rows_looked_at=gathered.look.rows,
        thumbnails=page.thumbnails,
        damaged=dict.fromkeys(gathered.empty, "is empty") | {one.name: one.fault for one in faults if one.is_damaged},
        unread={one.name: one.fault for one in faults if not one.is_damaged},
        is_in_use=gathered.is_in_use,
        opened=opened,
        seconds=time.monotonic() - began,
    )


def _write(path: str, content: bytes) -> None:
    """Put *content* at *path*, on disk or elsewhere, in the place of what is there."""
    try:
        fs, place = file_system(path)
        if "file" not in protocols(fs):
            fs.pipe_file(place, content)
            return
        # Beside a dataset a name by which the next run sweeps what was left.
        partial = f"{place}.{uuid.uuid4().hex[:8]}{PARTIAL}"
        try:
            Path(partial).write_bytes(content)
            os.replace(partial, place)  # noqa: PTH105  both are texts already
        finally:
            Path(partial).unlink(missing_ok=True)
    except AsyncImg2dsError:
        raise
    except Exception as error:  # each file system raises its own
        said = str(error) or type(error).__name__
        raise OptionsError(f"output_file: {path} cannot be written: {said}; choose another --output_file") from error
