"""Where a dataset lies: files appear under their final names only when complete, and the stats file of a shard last.

A shard's files are written to local disk under other names. On a local file system those lie beside the final
ones, so that committing is a rename; for any other, they lie in the temporary folder and committing is an
upload. What was not committed is removed.

Engines that run elsewhere may try a shard twice at a time: a worker that was given up lives on, or a slow one is
doubled. Each attempt stages apart from the others, and the first to commit is the one that counts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from async_img2ds.ranks import ALL
from async_img2ds.storage.attempt import AppendFile, Attempt
from async_img2ds.storage.base import (
    LEFTOVER_NAME,
    LIST_NAME,
    LIST_SUMMARY,
    LISTINGS_BEFORE,
    MANIFEST,
    MANIFEST_BEFORE,
    MARKER,
    PARTIAL,
    REDO,
    REDO_NAME,
    REMOVED,
    REPORT,
    SAMPLE_NAME,
    SETTINGS,
    SUMS,
    WIDS,
    Store,
)
from async_img2ds.storage.contested import ContestedStore
from async_img2ds.storage.filesystems import file_system, folder_system, protocols
from async_img2ds.storage.local import LocalStore
from async_img2ds.storage.patience import in_a_line, is_out_of_reach
from async_img2ds.storage.remote import RemoteStore
from async_img2ds.storage.staging import staging_in, sweep_staging, temporary_folder
from async_img2ds.storage.sums import FolderSum, sum_in

if TYPE_CHECKING:
    from async_img2ds.ranks import Share

__all__ = [
    "LEFTOVER_NAME",
    "MANIFEST",
    "SETTINGS",
    "LISTINGS_BEFORE",
    "LIST_NAME",
    "LIST_SUMMARY",
    "MANIFEST_BEFORE",
    "MARKER",
    "PARTIAL",
    "REDO",
    "REDO_NAME",
    "REMOVED",
    "REPORT",
    "SAMPLE_NAME",
    "SUMS",
    "WIDS",
    "AppendFile",
    "Attempt",
    "ContestedStore",
    "FolderSum",
    "LocalStore",
    "RemoteStore",
    "Store",
    "file_system",
    "in_a_line",
    "is_out_of_reach",
    "folder_system",
    "open_store",
    "protocols",
    "sum_in",
    "sweep_staging",
    "temporary_folder",
]


def open_store(output_folder: str, share: Share = ALL, *, contested: bool = False) -> Store:
    """Return the store for *output_folder*, a path or any fsspec URL, and for the shards of *share*.

    *contested* says that two attempts at one shard may commit at a time. Nothing is created yet. The store can be
    pickled, so that workers use the one that their driver opened and closes.
    """
    fs, path = folder_system(output_folder)
    if "file" in protocols(fs):
        return LocalStore(Path(path), share)
    kind = ContestedStore if contested else RemoteStore
    return kind(fs, path, staging_in(Path(tempfile.gettempdir())), share)
