"""What every store is: a folder that a dataset is written to."""

from __future__ import annotations

import re
import shutil
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

from async_img2ds.errors import InUse, OptionsError, StorageError
from async_img2ds.storage.patience import in_a_line, is_out_of_reach

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from async_img2ds.ranks import Share

__all__ = [
    "ATTEMPTS",
    "LEFTOVER_NAME",
    "LISTINGS_BEFORE",
    "LIST_NAME",
    "LIST_SUMMARY",
    "MANIFEST",
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
    "Store",
    "in_use",
    "is_of",
    "remove",
    "unusable",
]

# What the names of files end with that are not finished.
PARTIAL: Final = ".partial"
# What the name of a folder ends with whose files are about to take the place of others.
REDO: Final = ".redo"
# What the names of stats files end with.
MARKER: Final = "_stats.json"
# Where attempts upload of which two may commit at a time, each in a folder NNNNN/OWN. It begins with a dot, so that
# nobody takes it for a part of the dataset, and goes with the run.
ATTEMPTS: Final = ".aimg2ds-attempts"
# What was asked to be removed; readers of whole folders pass over names that begin so.
REMOVED: Final = "_removed.txt"
# What ``aimg2ds manifest`` has written of the dataset: what it is, the sums of its files, and wids' index of its tars.
# Hugging Face's datasets takes a folder for one of the ending that most files have, so these have none.
MANIFEST: Final = "_manifest"
SUMS: Final = "_sha256sums"
WIDS: Final = "_wids"
# What versions before called them.
MANIFEST_BEFORE: Final = "_manifest.json"
LISTINGS_BEFORE: Final = ("_sha256sums.txt", "_wids.json", MANIFEST_BEFORE)
# The options of the last run that wrote here, which the command line reads; a name with a dot, which readers pass over.
SETTINGS: Final = ".aimg2ds.toml"
# The page that ``aimg2ds report`` makes of it.
REPORT: Final = "_report.html"
# The files of a list that was written anew, and what is said of them, last.
LIST_NAME: Final = re.compile(r"by-host-[0-9]+\.parquet")
LIST_SUMMARY: Final = "_partition.json"
# The files and folders of ours that end so, and nobody else's: those of a shard, and of one attempt at it, and those
# that are not a shard's.
_LISTINGS: Final = r"_manifest(\.json)?|_sha256sums(\.txt)?|_wids(\.json)?"
_SINGLE: Final = rf"\.aimg2ds\.toml|_removed\.txt|_report\.html|{_LISTINGS}|_partition\.json|{LIST_NAME.pattern}"
LEFTOVER_NAME: Final = re.compile(rf"([0-9]+(_stats)?(\.[a-z]+)*|{_SINGLE})(\.[0-9a-f]{{8}})?\.partial")
REDO_NAME: Final = re.compile(r"[0-9]+\.redo")
# The files of samples in a folder bear their keys, which are digits.
_DIGITS: Final = re.compile(r"[0-9]+")
SAMPLE_NAME: Final = re.compile(r"[0-9]+\.[a-z]+")


class Store(Protocol):
    """A folder that a dataset is written to. Its calls block, so they are made from threads.

    Attributes:
        is_contested: whether what is published may, at the end, be what another attempt at the shard has published.

    """

    is_contested: bool

    def prepare(self) -> None:
        """Create the folder and hold it against other runs.

        Raises:
            OptionsError: it cannot be written to.
            InUse: another run writes to it.
            StorageError: it cannot be reached at the moment.

        """

    def is_in_use(self) -> bool:
        """Whether a run is writing to the folder, as far as that can be seen from here."""

    def check(self) -> None:
        """See that no other run writes to the folder now, or raise TakenOver."""

    def entries(self, folder: str = "") -> Iterator[tuple[str, int | None]]:
        """Yield what lies in the folder itself, or in one of its folders, by one listing.

        Of files name and size in bytes, of folders the name and None.
        """

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files alone, of the same listing."""

    def open(self, name: str) -> IO[bytes]:
        """Open the file *name* for reading."""

    def content(self, name: str) -> bytes:
        """Return what the file *name* holds at this moment; nothing if there is none."""

    def remove(self, names: Collection[str]) -> None:
        """Remove files, those in a folder as ``folder/name``, and folders of theirs that are empty then."""

    def apart(self) -> Self:
        """Return this store with a staging of its own: what it stages, no other publishes or discards by its name."""

    def stage(self, name: str) -> Path:
        """Return where on local disk to write what will be published as *name*; whatever lay there is gone."""

    def staged(self, name: str) -> Path:
        """Return where on local disk lies what was staged for *name*."""

    def publish(self, name: str) -> None:
        """Make what was staged for *name* appear under that name, whole and durably."""

    def replace(self, names: Sequence[str]) -> None:
        """Make what was staged for *names* take the place of what there is under these names.

        The last is the marker of a finished shard, the others are its files; folders have all samples that they have
        now, and may have more.
        """

    def discard(self, name: str) -> None:
        """Remove what was staged for *name*, if anything."""

    def give_up(self) -> None:
        """Have a call that another thread makes end soon, if it waits for a server that fails: nobody wants it now."""

    def release(self) -> None:
        """Let go of what is held for what was staged; whoever stages something does this last."""

    def finish(self, stem: str) -> bool:
        """Finish what an attempt that is dead has begun to put in the place of the shard *stem*, if one has.

        Return whether nothing of the kind is left: its files may be new and old ones then.
        """

    def disk(self) -> Path:
        """Return a folder on the local disk that is written to; it need not exist."""

    def journals(self) -> Path:
        """Return the folder on local disk in which lies what was fetched of unfinished shards; it need not exist."""

    def close(self) -> None:
        """Remove what the store keeps on this machine beside the dataset; whoever opened it does this last."""


def in_use(root: str, who: str) -> InUse:
    """Return what is raised when another run, told of by *who*, writes to *root*."""
    return InUse(f"output_folder: another run is writing to {root}{who}; wait for it or choose another")


def unusable(root: str, error: Exception) -> OptionsError | StorageError:
    """Return what is raised when *root* cannot be held for *error*: refused, unless that may be over by itself."""
    if is_out_of_reach(error):
        return StorageError(f"output_folder: {root} cannot be reached now ({in_a_line(error)}); run it again later")
    said = error.strerror if isinstance(error, OSError) else None
    return OptionsError(f"output_folder: cannot write to {root}: {said or error}")


def is_of(share: Share, name: str) -> bool:
    """Whether the shard whose file is called *name* is one of *share*; what is of no shard is whoever's has all."""
    digits = _DIGITS.match(name)
    return share.has(int(digits[0])) if digits else share.is_all


def remove(path: Path) -> None:
    """Remove the file or the folder *path*, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
