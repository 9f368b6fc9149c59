"""A folder on disk: what is finished is renamed into its place, and forced to disk before and after."""

from __future__ import annotations

import copy
import ctypes
import errno
import os
import shutil
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

import fsspec

from async_img2ds.errors import TakenOver
from async_img2ds.ranks import ALL
from async_img2ds.storage.base import (
    LEFTOVER_NAME,
    MARKER,
    PARTIAL,
    REDO,
    REDO_NAME,
    SAMPLE_NAME,
    in_use,
    is_of,
    remove,
    unusable,
)
from async_img2ds.storage.holders import HOLDER, RANKS, Held, Lease, holder_of, locked, rivals_of, said_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from async_img2ds.ranks import Share

__all__ = ["LocalStore"]

LOOKED_AT_S: Final = 0.1
HOLDER_BYTES: Final = 1024


class LocalStore:
    """A folder on this machine, or one that all machines of a cluster share.

    What is staged for ``NAME`` lies in the folder ``NAME.partial``. Publishing takes that folder away, and with it what
    other attempts have staged there: of two that commit at a time, the one that is first with its first file is first
    with all, and the other fails.
    """

    is_contested = False

    def __init__(self, root: Path, share: Share = ALL) -> None:
        """Use the folder *root*, which need not exist yet, for the shards of *share*."""
        self._root = root
        self._share = share
        self._own = uuid.uuid4().hex[:8]
        self._lock: int | None = None
        self._lease: Lease | None = None
        self._made = False
        self._watching: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is of this process alone."""
        return {**vars(self), "_lock": None, "_watching": None}

    def prepare(self) -> None:
        """Create the folder and hold it against other runs, or raise what every store does if that cannot be done."""
        try:
            self._made = not self._root.exists()
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root):
                pass
            self._hold()
            for entry in self._root.iterdir():  # what an earlier run was doing when it was killed
                if REDO_NAME.fullmatch(entry.name) and is_of(self._share, entry.name) and entry.is_dir():
                    _move_out(entry)
            self._sweep()  # and what it left
        except Held as error:
            raise in_use(str(self._root), str(error)) from None
        except BlockingIOError:  # a worker that has lost its parent ends soon, and moves files until then
            raise in_use(str(self._root), ", whose last process is ending") from None
        except OSError as error:
            raise unusable(str(self._root), error) from error

    def _hold(self) -> None:
        """Hold the folder, or raise Held."""
        holder = holder_of(self._share)
        for tries_left in (2, 1, 0):  # who only looks whether it is held holds it for a moment
            try:
                (self._root / holder).parent.mkdir(exist_ok=True)
                self._lock = locked(self._root / holder)
                break
            except FileNotFoundError:  # another rank that has just ended took the empty folder away
                if not tries_left:
                    raise
            except BlockingIOError:
                if not tries_left:
                    raise Held(said_of(self.content(holder))) from None
                time.sleep(LOOKED_AT_S)
        if self._lock is not None:
            for rival in rivals_of(self._share, self._ranks()):
                if _is_locked(self._root / rival):
                    raise Held(said_of(self.content(rival)))
        lease = _lease(self._root, self._share, locked=self._lock is not None)
        lease.take()
        self._lease = lease

    def _ranks(self) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(entry.name for entry in os.scandir(self._root / RANKS))
        return []

    def is_in_use(self) -> bool:
        """Whether a run is writing to the folder, as far as its file system tells."""
        holders = [HOLDER, *rivals_of(ALL, self._ranks())]
        held = [_is_locked(self._root / holder) for holder in holders if (self._root / holder).exists()]
        return any(held) or (bool(held) and _lease(self._root, ALL, locked=None not in held).is_live())

    def check(self) -> None:
        """See that no other run writes to the folder now, or raise TakenOver.

        A lock does not see to that: the folder may have been moved, or the file removed.
        """
        if self._lease is not None:
            self._lease.check()

    def entries(self, folder: str = "") -> Iterator[tuple[str, int | None]]:
        """Yield what lies in the folder itself, or in one of its folders: files with their sizes, folders with None."""
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:  # which may be millions
            for entry in entries:
                try:
                    size = entry.stat().st_size if entry.is_file() else None
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ELOOP):  # gone meanwhile, or a link to nothing
                        raise
                    continue
                if entry.name != HOLDER and (size is not None or entry.is_dir(follow_symlinks=False)):
                    yield entry.name, size

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files alone."""
        yield from ((name, size) for name, size in self.entries(folder) if size is not None)

    def open(self, name: str) -> IO[bytes]:
        """Open the file *name* for reading."""
        return (self._root / name).open("rb")

    def content(self, name: str) -> bytes:
        """Return what the file *name* holds at this moment; nothing if there is none."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return b""

    def remove(self, names: Collection[str]) -> None:
        """Remove files, those in a folder as ``folder/name``, and folders of theirs that are empty then."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)
        for folder in {(self._root / name).parent for name in names} - {self._root}:
            with suppress(OSError):  # somebody else's file lies in it
                folder.rmdir()
        if names:
            _sync(self._root)

    def apart(self) -> Self:
        """Return this store with a staging of its own: what it stages, no other publishes or discards by its name."""
        store = copy.copy(self)
        store._own, store._watching = uuid.uuid4().hex[:8], None  # noqa: SLF001  a copy of ours
        return store

    def stage(self, name: str) -> Path:
        """Return where on local disk to write what will be published as *name*; whatever lay there is gone."""
        if self._watching is None:
            self._watching = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        path = self.staged(name)
        claimed = False
        while not claimed:
            path.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # another attempt that has just ended took the empty folder away
                self._claim(name).touch()
                claimed = True
        remove(path)
        return path

    def staged(self, name: str) -> Path:
        """Return where on local disk lies what was staged for *name*."""
        return self._staging(name) / self._own

    def publish(self, name: str) -> None:
        """Make what was staged for *name* appear under that name, whole and durably."""
        staged, final = self.staged(name), self._root / name
        if staged.is_dir():
            self._sync_all()  # one call for all its files; a sync of each would take longer than fetching them
        else:
            _sync(staged)
        # Taken away in one step, so that of two attempts one has it all and the other none of it.
        taken = self._taken(name)
        self._staging(name).rename(taken)
        if (taken / self._own).is_dir() and final.is_dir():
            _take_place(taken / self._own, final)
        else:
            (taken / self._own).replace(final)
        _sync(self._root)
        shutil.rmtree(taken, ignore_errors=True)  # others may have files open in it, which NFS keeps; see close()

    def replace(self, names: Sequence[str]) -> None:
        """Make what was staged for *names* take the place of what there is under these names.

        All lie under their final names in one folder before that appears as ``NNNNN.redo``: from then on what is in it
        is moved to where it belongs, now or, if that is cut off, by the next :meth:`prepare`.
        """
        if any(self.staged(name).is_dir() for name in names):
            self._sync_all()
        stem = names[-1].removesuffix(MARKER)
        gathered = self._taken(stem + REDO)
        gathered.mkdir()
        for name in names:
            staged = self.staged(name)
            if not staged.is_dir():
                _sync(staged)
            staged.rename(gathered / name)
        _sync(gathered)
        redo = self._root / (stem + REDO)
        if redo.is_file():  # of a dataset that came from an object store; see RemoteStore.replace
            redo.unlink()
        gathered.rename(redo)
        _sync(self._root)
        _move_out(redo)

    def discard(self, name: str) -> None:
        """Remove what was staged for *name*, if anything."""
        remove(self._taken(name))
        remove(self.staged(name))
        remove(self._claim(name))
        if name.endswith(MARKER):
            remove(self._taken(name.removesuffix(MARKER) + REDO))
        with suppress(OSError):  # others have something there, or it is gone
            self._staging(name).rmdir()

    def give_up(self) -> None:
        """Wait no longer; a disk is not waited for."""

    def release(self) -> None:
        """Look no longer at whether writing back what was staged fails."""
        if self._watching is not None:
            os.close(self._watching)
            self._watching = None

    def finish(self, stem: str) -> bool:
        """Finish what an attempt that is dead has begun to put in the place of the shard *stem*; say whether it is."""
        redo = self._root / (stem + REDO)
        if redo.is_dir():
            _move_out(redo)
        return not redo.exists()  # a file is of a dataset that came from an object store; see RemoteStore.replace

    def _sync_all(self) -> None:
        """Have the operating system put all on disk that was written to the file system.

        Linux tells each open folder once of what could not be written since it was opened. That was before the first
        byte was staged, as the system may write back, and fail, at any time.
        """
        if _syncfs is None or self._watching is None:
            os.sync()  # which tells of no failure
        elif _syncfs(self._watching):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def _staging(self, name: str) -> Path:
        return self._root / (name + PARTIAL)

    def _claim(self, name: str) -> Path:
        """Return what keeps the folder there while nothing is written yet of what was staged for *name*."""
        return self._staging(name) / f"{self._own}.claim"

    def _taken(self, name: str) -> Path:
        return self._root / f"{name}.{self._own}{PARTIAL}"

    def _sweep(self) -> None:
        for entry in self._root.iterdir():
            if LEFTOVER_NAME.fullmatch(entry.name) and is_of(self._share, entry.name):
                remove(entry)

    def disk(self) -> Path:
        """Return a folder on the local disk that is written to: this one."""
        return self._root

    def journals(self) -> Path:
        """Return the folder on local disk in which lies what was fetched of unfinished shards: this one."""
        return self._root

    def close(self) -> None:
        """Let other runs have the folder; what killed workers left goes, and a folder that was made for nothing."""
        if self._lease is not None:
            with suppress(OSError, TakenOver):  # one that is not dead yet goes on staging; the next run sweeps, too
                self.check()
                self._sweep()
            self._lease.give_back()
        with suppress(OSError):  # there is none, or other ranks are at work
            (self._root / RANKS).rmdir()
        if self._made:
            with suppress(OSError):  # it is not empty, so it is wanted
                self._root.rmdir()
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self._lease = None


def _lease(root: Path, share: Share, *, locked: bool) -> Lease:
    return Lease(fsspec.filesystem("file"), str(root), _write_in_place, share=share, locked=locked)


def _is_locked(path: Path) -> bool | None:
    """Return whether a run has the holder *path* locked; None where the file system has no locks."""
    try:
        lock = locked(path, shared=True)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    if lock is None:
        return None
    os.close(lock)
    return False


def _write_in_place(path: str, content: bytes) -> None:
    """Put *content* in a file, which keeps its size: a disk that has filled up since has no room for more."""
    with suppress(FileExistsError), Path(path).open("xb"):
        pass
    with Path(path).open("r+b") as file:
        file.write(content.ljust(HOLDER_BYTES))


def _take_place(staged: Path, final: Path) -> None:
    """Put the samples of *staged* in the place of those in *final*, a folder that may have files of other people."""
    for entry in final.iterdir():
        if SAMPLE_NAME.fullmatch(entry.name) and not entry.is_dir():
            entry.unlink()
    for entry in staged.iterdir():
        entry.replace(final / entry.name)
    _sync(final)


def _move_out(redo: Path) -> None:
    """Move the files of a shard that lie in *redo* to the folder around it, its marker last.

    However often it is cut off and begun again, what was moved stays, and the rest follows.

    Raises:
        BlockingIOError: another process is at it.

    """
    lock = locked(redo)
    try:
        _move(redo)
    finally:
        if lock is not None:
            os.close(lock)


# What a folder of samples is called in NNNNN.redo as soon as they may be moved one by one.
_MOVING: Final = ".moving"


def _move(redo: Path) -> None:
    root = redo.parent
    entries = sorted(redo.iterdir(), key=lambda entry: entry.name.endswith(MARKER))
    for marker in entries[-1:]:
        (root / marker.name).unlink(missing_ok=True)
    _sync(root)
    for entry in entries:
        final = root / entry.name.removesuffix(_MOVING)
        if entry.is_dir():
            _move_samples(entry, final)
        else:
            _sync(root)  # so that no marker is there without what it marks
            entry.replace(final)
    _sync(root)
    redo.rmdir()


def _move_samples(redone: Path, final: Path) -> None:
    """Have the samples of *redone* be those of *final*, a folder that may have files of other people.

    Those that are in *final* alone go first, while all new ones are still together, which its name says.
    """
    final.mkdir(exist_ok=True)
    if not redone.name.endswith(_MOVING):
        new = {sample.name for sample in redone.iterdir()}
        for old in final.iterdir():
            if SAMPLE_NAME.fullmatch(old.name) and old.name not in new and not old.is_dir():
                old.unlink()
        _sync(final)
        redone = redone.rename(redone.with_name(redone.name + _MOVING))
        _sync(redone.parent)
    for sample in redone.iterdir():
        sample.replace(final / sample.name)
    _sync(final)
    redone.rmdir()


# Python has none, and neither have systems other than Linux, which tells of failures since 5.8.
_syncfs: Callable[[int], int] | None = (
    getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
)


def _sync(path: Path) -> None:
    """Have the operating system put a file or folder on disk.

    A failure must not be retried: the pages count as clean after it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
