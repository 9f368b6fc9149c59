"""A folder behind fsspec: what is finished on local disk is uploaded, each file by one upload."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, cast

from async_img2ds.errors import OptionsError, StorageError, TakenOver
from async_img2ds.storage.base import MARKER, REDO, SAMPLE_NAME, in_use, remove
from async_img2ds.storage.filesystems import protocols
from async_img2ds.storage.holders import HOLDER, Held, Lease, locked
from async_img2ds.storage.staging import sweep_staging

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["RemoteStore"]

# File systems whose top folders are buckets, which nobody wants made by a misspelt name.
_BUCKETED: Final = frozenset({"s3", "s3a", "gs", "gcs"})


class RemoteStore:
    """A folder in any other fsspec file system: staged on local disk, published by one upload each."""

    def __init__(self, fs: Any, root: str, staging: Path) -> None:  # noqa: ANN401  fsspec's file systems are untyped
        """Use *root* in *fs*, and on local disk *staging*, which :meth:`close` removes; neither need exist."""
        self._fs = fs
        self._root = root.rstrip("/")
        self._staging = staging
        self._own = uuid.uuid4().hex[:8]
        self._held: int | None = None
        self._lease = Lease(fs, self._root)

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is of this process alone."""
        return {**vars(self), "_held": None}

    def prepare(self) -> None:
        """Create the folder and hold it against other runs, or raise OptionsError if that cannot be done."""
        sweep_staging(self._staging.parent)
        bucket = self._root.lstrip("/").partition("/")[0]
        is_there = True
        try:
            if _BUCKETED.isdisjoint(protocols(self._fs)):
                self._fs.makedirs(self._root, exist_ok=True)
            else:
                is_there = self._fs.exists(bucket)
            if is_there:
                self._lease.take()
        except Held as error:
            raise in_use(self._root, str(error)) from None
        except Exception as error:  # each file system raises its own
            raise OptionsError(f"output_folder: cannot write to {self._root}: {error}") from error
        if not is_there:
            raise OptionsError(f"output_folder: there is no bucket {bucket!r}")
        self._hold()

    def is_in_use(self) -> bool:
        """Whether a run is writing to the folder, as it says itself."""
        return self._lease.is_live()

    def check(self) -> None:
        """See that no other run writes to the folder now, or raise TakenOver."""
        self._lease.check()

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files that lie in the folder itself, or in one of its folders: name and size in bytes."""
        for entry in self._entries(folder):
            name = entry["name"].rpartition("/")[2]
            if entry["type"] == "file" and name != HOLDER:
                yield name, int(entry["size"] or 0)

    def folders(self) -> Iterator[str]:
        """Yield the names of the folders that lie in the folder itself."""
        for entry in self._entries(""):
            if entry["type"] == "directory":
                yield entry["name"].rstrip("/").rpartition("/")[2]

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        path = f"{self._root}/{folder}".rstrip("/")
        self._fs.invalidate_cache(path)
        try:
            return list(self._fs.ls(path, detail=True))
        except FileNotFoundError:
            return []

    def open(self, name: str) -> IO[bytes]:
        """Open the file *name* for reading."""
        return cast("IO[bytes]", self._fs.open(f"{self._root}/{name}", "rb"))

    def content(self, name: str) -> bytes:
        """Return what the file *name* holds at this moment; nothing if there is none."""
        try:
            return cast("bytes", self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return b""

    def remove(self, names: Collection[str]) -> None:
        """Remove files, those in a folder as ``folder/name``, and folders of theirs that are empty then."""
        paths = [f"{self._root}/{name}" for name in names]
        if paths and not _BUCKETED.isdisjoint(protocols(self._fs)):
            self._fs.rm(paths)  # in a few requests; and there are no folders to remove
            return
        for path in paths:
            self._fs.rm_file(path)
        for folder in {name.rpartition("/")[0] for name in names} - {""}:
            if not self._entries(folder):  # to some file systems removing a folder is removing all that is in it
                with suppress(OSError):
                    self._fs.rmdir(f"{self._root}/{folder}")

    def apart(self) -> Self:
        """Return this store with a staging of its own: what it stages, no other publishes or discards by its name."""
        store = copy.copy(self)
        store._own, store._held = uuid.uuid4().hex[:8], None  # noqa: SLF001  a copy of ours
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
        # put_file of a finished local file either completes its object or makes none; a handle left
        # by an exception would publish half of it.
        final = f"{self._root}/{name}"
        if staged.is_dir():  # what an earlier attempt has left there goes, and files of other people stay
            self.remove([f"{name}/{entry}" for entry, _ in self.names(name) if SAMPLE_NAME.fullmatch(entry)])
            self._fs.makedirs(final, exist_ok=True)
            for entry in staged.iterdir():
                self._lease.glance()
                self._fs.put_file(str(entry), f"{final}/{entry.name}")
        else:
            self._put(staged, final)
        remove(staged)

    def replace(self, names: Sequence[str]) -> None:
        """Make what was staged for *names* take the place of what there is under these names, one by one.

        If that is cut off, the shard's files are not those that its marker names until it is done again, which an
        object ``NNNNN.redo`` says.

        Raises:
            StorageError: it was cut off here.

        """
        redo = f"{self._root}/{names[-1].removesuffix(MARKER)}{REDO}"
        try:
            self._fs.pipe_file(redo, b"")
            self._replace(names)
            self._fs.rm_file(redo)
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
                for entry in sorted(new):
                    self._lease.glance()
                    self._fs.put_file(str(staged / entry), f"{final}/{entry}")
                # What an attempt that was cut off has put there, of rows that have no image now.
                old = {entry for entry, _ in self.names(name) if SAMPLE_NAME.fullmatch(entry)}
                self._lease.glance()
                self.remove([f"{name}/{entry}" for entry in sorted(old - new)])
            else:
                self._put(staged, final)
            remove(staged)

    def _put(self, staged: Path, final: str) -> None:
        if hasattr(self._fs, "abort_mpu") and not final.endswith(MARKER):
            self._give_up_uploads(final)
        self._fs.put_file(str(staged), final)

    def _give_up_uploads(self, path: str) -> None:
        """Give up the parts that a killed attempt has uploaded of *path*: S3 keeps them, and bills them, until then.

        An attempt that lives fails by it, and sees another one's marker or is tried again.
        """
        bucket, key, _ = self._fs.split_path(path)
        with suppress(Exception):  # who may write there need not be allowed to look
            begun = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads", ())
            for upload in begun:
                if upload["Key"] == key:
                    self._fs.abort_mpu(bucket, key, upload["UploadId"])

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
        self._lease.give_back()
        shutil.rmtree(self._staging, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Hold the staging folder no longer."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def finish(self, stem: str) -> bool:
        """Return whether no replacement of the shard *stem* was cut off; nothing of it could be gone on with."""
        redo = f"{self._root}/{stem}{REDO}"
        self._fs.invalidate_cache(self._root)
        return not self._fs.exists(redo)

    def _hold(self) -> None:
        """Have the staging folder, and hold it, beside others that use it."""
        while self._held is None:
            self._staging.mkdir(parents=True, exist_ok=True)
            with suppress(BlockingIOError, FileNotFoundError):  # another run looks whether anybody holds it
                self._held = locked(self._staging, shared=True)
                return
