"""A folder behind fsspec: what is finished on local disk is uploaded, each file by one upload."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from functools import partial
from inspect import signature
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, cast

from async_img2ds.errors import OptionsError, StorageError, TakenOver
from async_img2ds.ranks import ALL
from async_img2ds.storage.base import (
    ATTEMPTS,
    LEFTOVER_NAME,
    MARKER,
    PARTIAL,
    REDO,
    SAMPLE_NAME,
    in_use,
    is_of,
    remove,
    unusable,
)
from async_img2ds.storage.filesystems import OBJECT_STORES, protocols
from async_img2ds.storage.holders import HOLDER, RANKS, Held, Lease, locked
from async_img2ds.storage.listing import entries_in, is_listed, uploads_below
from async_img2ds.storage.patience import OUTAGE_MOST_S, Patience
from async_img2ds.storage.staging import remove_unheld, sweep_staging

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from async_img2ds.ranks import Share

__all__ = ["RemoteStore"]

# File systems in which a file is seen while it is written, and can be renamed in one step when it is whole.
_RENAMING: Final = frozenset({"ssh", "sftp", "hdfs"})
# Parts of a file that are uploaded beside each other, where the library takes them to memory. Of 600 MB that was
# 200 MB, and 1,000 MB with the ten parts that s3fs takes, in the same time; adlfs took all 600.
PARTS_MAX: Final = 2
# Files that are removed at a time: S3's most in one request.
REMOVED_MAX: Final = 1000
# Samples that are uploaded beside each other; a round trip for each of ten thousand would be minutes.
BESIDE_MAX: Final = 64


class RemoteStore:
    """A folder in any other fsspec file system: staged on local disk, published by one upload each."""

    is_contested = False

    def __init__(self, fs: Any, root: str, staging: Path, share: Share = ALL) -> None:  # noqa: ANN401  fsspec's file systems are untyped
        """Use *root* in *fs* for the shards of *share*, and on local disk *staging*, which :meth:`close` removes.

        Neither need exist.
        """
        self._fs = fs
        self._share = share
        self._root = root.rstrip("/")
        self._staging = staging
        self._own = uuid.uuid4().hex[:8]
        self._held: int | None = None
        self._is_ours = False
        self._lease = Lease(fs, self._root, partial(_put, fs), share=share)
        self._patience = Patience()
        self._has_buckets = not OBJECT_STORES.isdisjoint(protocols(fs))
        self._renames = not _RENAMING.isdisjoint(protocols(fs))
        self._in_parts = _if_known(fs, "put_file", max_concurrency=PARTS_MAX)
        self._as_named = _if_known(fs, "rm", expand_path=False)  # or Azure's looks for each file before

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is of this process alone."""
        return {**vars(self), "_held": None, "_is_ours": False}

    def prepare(self) -> None:
        """Create the folder and hold it against other runs, or raise what every store does if that cannot be done."""
        sweep_staging(self._staging.parent)
        bucket = self._root.lstrip("/").partition("/")[0]
        is_there = True
        try:
            if self._has_buckets:  # which nobody wants made by a misspelt name
                is_there = self._fs.exists(bucket) or self._can_be_listed(bucket)
            else:
                self._fs.makedirs(self._root, exist_ok=True)
            if is_there:
                self._lease.take()
                self._sweep_attempts()
                self._is_ours = True
                self._sweep_there()
        except Held as error:
            raise in_use(self._root, str(error)) from None
        except Exception as error:  # each file system raises its own
            raise unusable(self._root, error) from error
        if not is_there:
            raise OptionsError(f"output_folder: there is no bucket {bucket!r}")
        self._hold()

    def _sweep_attempts(self) -> None:
        """Remove what attempts have uploaded that are over, and what was begun of an upload."""
        self._give_up_uploads(f"{self._root}/{ATTEMPTS}/", below=True)
        self._drop(f"{self._root}/{ATTEMPTS}")

    def _drop(self, folder: str) -> None:
        self._fs.invalidate_cache(folder)
        with suppress(FileNotFoundError):
            self._patience(self._fs.rm, folder, recursive=True)

    def _can_be_listed(self, bucket: str) -> bool:
        """Whether *bucket* is there; raises what is in the way of finding out, such as missing credentials."""
        return is_listed(self._fs, bucket, self._patience)

    def is_in_use(self) -> bool:
        """Whether a run is writing to the folder, as it says itself."""
        return self._patience(self._lease.is_live)

    def check(self) -> None:
        """See that no other run writes to the folder now, or raise TakenOver."""
        self._patience(self._lease.check)

    def entries(self, folder: str = "") -> Iterator[tuple[str, int | None]]:
        """Yield what lies in the folder itself, or in one of its folders: files with their sizes, folders with None."""
        entries = entries_in(self._fs, f"{self._root}/{folder}".rstrip("/"), self._patience)
        yield from ((name, size) for name, size in entries if name != HOLDER)

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files alone."""
        yield from ((name, size) for name, size in self.entries(folder) if size is not None)

    def open(self, name: str) -> IO[bytes]:
        """Open the file *name* for reading."""
        return cast("IO[bytes]", self._patience(self._fs.open, f"{self._root}/{name}", "rb"))

    def content(self, name: str) -> bytes:
        """Return what the file *name* holds at this moment; nothing if there is none."""
        try:
            return cast("bytes", self._patience(self._fs.cat_file, f"{self._root}/{name}"))
        except FileNotFoundError:
            return b""

    def remove(self, names: Collection[str]) -> None:
        """Remove files, those in a folder as ``folder/name``, and folders of theirs that are empty then."""
        paths = [f"{self._root}/{name}" for name in names]
        if self._has_buckets:  # there are no folders to remove
            for begin in range(0, len(paths), REMOVED_MAX):
                with suppress(FileNotFoundError):
                    self._patience(self._fs.rm, paths[begin : begin + REMOVED_MAX], **self._as_named)
            return
        for path in paths:
            with suppress(FileNotFoundError):
                self._patience(self._fs.rm_file, path)
        for folder in {name.rpartition("/")[0] for name in names} - {""}:
            if not any(self.entries(folder)):  # to some file systems removing a folder is removing all that is in it
                with suppress(OSError):
                    self._fs.rmdir(f"{self._root}/{folder}")

    def apart(self) -> Self:
        """Return this store with a staging of its own: what it stages, no other publishes or discards by its name."""
        store = copy.copy(self)
        store._own, store._held = uuid.uuid4().hex[:8], None  # noqa: SLF001  a copy of ours
        store._patience = Patience(OUTAGE_MOST_S)  # noqa: SLF001  likewise; an attempt has a shard to lose
        return store

    def stage(self, name: str) -> Path:
        """Return where on local disk to write what will be published as *name*; whatever lay there is gone."""
        self._hold()
        path = self.staged(name)
        remove(path)
        return path

    def staged(self, name: str) -> Path:
        """Return where on local disk lies what was staged for *name*."""
        return self._staging / f"{name}.{self._own}"

    def publish(self, name: str) -> None:
        """Make what was staged for *name* appear under that name, whole and durably."""
        staged = self.staged(name)
        if staged.is_dir():  # what an earlier attempt has left there goes, and files of other people stay
            self.remove([f"{name}/{entry}" for entry, _ in self.names(name) if SAMPLE_NAME.fullmatch(entry)])
        self._put_whole(staged, f"{self._root}/{name}")
        remove(staged)

    def _put_whole(self, staged: Path, final: str) -> None:
        """Upload a finished file or folder of local disk.

        Each file by one call, which either completes its object or makes none; a handle left by an exception would
        publish half of it.
        """
        if staged.is_dir():
            self._make_folder(final)
            self._put_samples(staged, final)
        else:
            self._make_folder(final.rpartition("/")[0])
            self._put(staged, final)

    def _make_folder(self, path: str) -> None:
        """Have the folder *path*, where there are folders."""
        if not self._has_buckets and path != self._root:
            self._patience(self._fs.makedirs, path, exist_ok=True)

    def replace(self, names: Sequence[str]) -> None:
        """Make what was staged for *names* take the place of what there is under these names, one by one.

        If that is cut off, the shard's files are not those that its marker names until it is done again, which an
        object ``NNNNN.redo`` says.

        Raises:
            StorageError: it was cut off here.

        """
        redo = f"{self._root}/{names[-1].removesuffix(MARKER)}{REDO}"
        try:
            self._patience(self._fs.pipe_file, redo, b"")
            self._replace(names)
            self._patience(self._fs.rm_file, redo)
        except TakenOver:
            raise
        except Exception as error:  # each file system raises its own
            raise StorageError(
                f"some of its files may be new and some old until the same command has put that right: {error}"
            ) from error

    def _replace(self, names: Sequence[str]) -> None:
        for name in names:
            self.check()
            staged, final = self.staged(name), f"{self._root}/{name}"
            if staged.is_dir():
                new = {entry.name for entry in staged.iterdir()}
                self._put_samples(staged, final)
                # What an attempt that was cut off has put there, of rows that have no image now.
                old = {entry for entry, _ in self.names(name) if SAMPLE_NAME.fullmatch(entry)}
                self._patience(self._lease.glance)
                self.remove([f"{name}/{entry}" for entry in sorted(old - new)])
            else:
                self._put(staged, final)
            remove(staged)

    def _put(self, staged: Path, final: str) -> None:
        if not final.endswith(MARKER):
            self._give_up_uploads(final)
        self._patience(self._upload, str(staged), final)

    def _upload(self, staged: str, final: str) -> None:
        self._lease.glance()  # if it fails and is tried again, that may be an hour later
        if not self._renames:
            self._fs.put_file(staged, final, **self._in_parts)
            return
        partial = f"{final}.{self._own}{PARTIAL}"
        self._fs.put_file(staged, partial)
        self._rename(partial, final)

    def _rename(self, partial: str, final: str) -> None:
        """Have the file *partial* take the place of *final*, in a file system that renames."""
        if "hdfs" in protocols(self._fs):  # which renames nothing to what is there
            with suppress(FileNotFoundError):
                self._fs.rm_file(final)
        self._fs.mv(partial, final)

    def _put_samples(self, staged: Path, final: str) -> None:
        """Upload the files of the folder *staged*, many at a time where the file system can."""
        entries = sorted(entry.name for entry in staged.iterdir())
        for begin in range(0, len(entries), BESIDE_MAX):
            self._patience(self._lease.glance)
            some = entries[begin : begin + BESIDE_MAX]
            self._patience(
                self._fs.put, [str(staged / entry) for entry in some], [f"{final}/{entry}" for entry in some]
            )

    def _give_up_uploads(self, path: str, *, below: bool = False) -> None:
        """Give up the parts that a killed attempt has uploaded of *path*: S3 keeps them, and bills them, until then.

        Of all that lies *below* it, if so asked. An attempt that lives fails by it, and sees another one's marker or is
        tried again.
        """
        if not hasattr(self._fs, "abort_mpu"):
            return
        bucket, key, _ = self._fs.split_path(path)
        with suppress(Exception):  # who may write there need not be allowed to look
            for upload in list(uploads_below(self._fs, path)):
                if below or upload["Key"] == key:
                    self._fs.abort_mpu(bucket, upload["Key"], upload["UploadId"])

    def give_up(self) -> None:
        """Wait no longer for a server that does not do what is asked of it: nobody wants it any more."""
        self._patience.end()

    def discard(self, name: str) -> None:
        """Remove what was staged for *name*, if anything."""
        remove(self.staged(name))

    def disk(self) -> Path:
        """Return a folder on the local disk that is written to: where shards are staged."""
        return self._staging

    def journals(self) -> Path:
        """Return the folder on local disk in which lies what was fetched of unfinished shards.

        It is the same for each run on this machine, and no other user can write to it.
        """
        try:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # this user has no home
            return self._staging / "journals"
        # Servers of one protocol may have folders of one name.
        told = {**self._fs.storage_options, **self._fs.storage_options.get("client_kwargs", {})}
        server = [str(told[name]) for name in ("endpoint_url", "host", "port") if name in told]
        where = "+".join([*sorted(protocols(self._fs)), *server]) + self._root
        return cache / "async-img2ds" / hashlib.sha256(where.encode()).hexdigest()[:16]

    def close(self) -> None:
        """Remove all that was staged, and let other runs have the folder."""
        if self._is_ours:
            with suppress(Exception):  # each file system raises its own; the next run sweeps, too
                self._lease.check()
                self._sweep_there()
        self._lease.give_back()
        with suppress(Exception):  # each file system raises its own; it is not there, or another rank has just come
            if not self._has_buckets and not any(self.entries(RANKS)):
                self._fs.rmdir(f"{self._root}/{RANKS}")
        shutil.rmtree(self._staging, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Hold the staging folder no longer; who is the last to do so removes what killed workers have left in it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
            remove_unheld(self._staging)

    def finish(self, stem: str) -> bool:
        """Return whether no replacement of the shard *stem* was cut off; nothing of it could be gone on with."""
        self._fs.invalidate_cache(self._root)
        try:
            self._patience(self._fs.info, f"{self._root}/{stem}{REDO}")
        except FileNotFoundError:
            return True
        return False

    def _hold(self) -> None:
        """Have the staging folder, and hold it, beside others that use it."""
        while self._held is None:
            self._staging.mkdir(parents=True, exist_ok=True)
            with suppress(BlockingIOError, FileNotFoundError):  # another run looks whether anybody holds it
                self._held = locked(self._staging, shared=True)
                return

    def _sweep_there(self) -> None:
        """Remove what uploads that were cut off have left beside the dataset."""
        if self._renames:
            left = (name for name, _ in self.names() if LEFTOVER_NAME.fullmatch(name))
            self.remove([name for name in left if is_of(self._share, name)])


def _put(fs: Any, path: str, content: bytes) -> None:  # noqa: ANN401  fsspec's file systems are untyped
    """Put *content* in the object *path*, and where there are folders make the one that it is in."""
    try:
        fs.pipe_file(path, content)
    except FileNotFoundError:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, content)


def _if_known(fs: Any, method: str, **told: Any) -> dict[str, Any]:  # noqa: ANN401  fsspec's file systems are untyped
    """Return what of *told* the *method* of *fs* takes."""
    taken = signature(getattr(fs, f"_{method}", getattr(fs, method))).parameters
    return {name: value for name, value in told.items() if name in taken}
