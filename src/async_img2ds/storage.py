"""Where a dataset lies: files appear under their final names only when complete, and the stats file of a shard last.

A shard's files are written to local disk under other names. On a local file system those lie beside the final
ones, so that committing is a rename; for any other, they lie in the temporary folder and committing is an
upload. What was not committed is removed.

Engines that run elsewhere may try a shard twice at a time: a worker that was given up lives on, or a slow one is
doubled. Each attempt stages apart from the others, and the first to commit is the one that counts.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar, cast

import fsspec

from async_img2ds.errors import MissingExtraError, OptionsError, StorageError
from async_img2ds.records import FileSum

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

__all__ = [
    "PARTIAL",
    "SAMPLE_NAME",
    "AppendFile",
    "Attempt",
    "LocalStore",
    "RemoteStore",
    "Store",
    "file_system",
    "open_store",
    "protocols",
    "sum_line",
]

T = TypeVar("T")

# Bytes gathered before a write goes to the I/O thread: two thread hand-overs cost about
# 0.1 ms, so one for each 30 images or so.
APPEND_BYTES: Final = 2**20
# What the names of files end with that are not finished.
PARTIAL: Final = ".partial"
# The files of samples in a folder bear their keys, which are digits.
SAMPLE_NAME: Final = re.compile(r"[0-9]+\.[a-z]+")
# File systems whose top folders are buckets, which nobody wants made by a misspelt name.
_BUCKETED: Final = frozenset({"s3", "s3a", "gs", "gcs"})
_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of *url* and the path of *url* in it.

    Raises:
        MissingExtraError: the file system is an optional package.
        OptionsError: there is no such file system.

    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.partition("://")[0]
        if scheme in _EXTRAS:
            raise MissingExtraError(f"{scheme}://", _EXTRAS[scheme]) from error
        raise OptionsError(f"{url}: {error}") from error
    except ValueError as error:
        raise OptionsError(f"{url}: {error}") from error
    return fs, path


def protocols(fs: Any) -> frozenset[str]:  # noqa: ANN401  fsspec's file systems are untyped
    """Return the names under which fsspec knows the file system *fs*: it says one or several."""
    return frozenset([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)


def open_store(output_folder: str) -> Store:
    """Return the store for *output_folder*, a path or any fsspec URL. Nothing is created yet.

    It can be pickled, so that workers use the one that their driver opened and closes.
    """
    fs, path = file_system(output_folder)
    if "file" in protocols(fs):
        return LocalStore(Path(path))
    return RemoteStore(fs, path, Path(tempfile.gettempdir()) / f"aimg2ds-{uuid.uuid4().hex}")


class Store(Protocol):
    """A folder that a dataset is written to. Its calls block, so they are made from threads."""

    def prepare(self) -> None:
        """Create the folder, or raise OptionsError if it cannot be written to."""

    def is_in_use(self) -> bool:
        """Whether a run is writing to the folder, as far as that can be seen from here."""

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files that lie in the folder itself, or in one of its folders: name and size in bytes."""

    def folders(self) -> Iterator[str]:
        """Yield the names of the folders that lie in the folder itself."""

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

    def discard(self, name: str) -> None:
        """Remove what was staged for *name*, if anything."""

    def close(self) -> None:
        """Remove what the store keeps on this machine beside the dataset; whoever opened it does this last."""


class LocalStore:
    """A folder on this machine, or one that all machines of a cluster share.

    What is staged for ``NAME`` lies in the folder ``NAME.partial``. Publishing takes that folder away, and with it what
    other attempts have staged there: of two that commit at a time, the one that is first with its first file is first
    with all, and the other fails.
    """

    def __init__(self, root: Path) -> None:
        """Use the folder *root*; it need not exist yet."""
        self._root = root
        self._own = uuid.uuid4().hex[:8]
        self._lock: int | None = None
        self._made = False

    def prepare(self) -> None:
        """Create the folder and hold it against other runs, or raise OptionsError if that cannot be done."""
        try:
            self._made = not self._root.exists()
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root):
                pass
            self._lock = _locked(self._root)
            self._sweep()  # what an earlier run left when it was killed
        except BlockingIOError:
            raise OptionsError(
                f"output_folder: another run is writing to {self._root}; wait for it or choose another"
            ) from None
        except OSError as error:
            raise OptionsError(f"output_folder: cannot write to {self._root}: {error.strerror or error}") from error

    def is_in_use(self) -> bool:
        """Whether a run on this machine is writing to the folder."""
        try:
            lock = _locked(self._root, shared=True)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        if lock is not None:
            os.close(lock)
        return False

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files that lie in the folder itself, or in one of its folders: name and size in bytes."""
        try:
            entries = list(os.scandir(self._root / folder))
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                size = entry.stat().st_size if entry.is_file() else None
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):  # gone meanwhile, or a link to nothing
                    raise
                continue
            if size is not None:
                yield entry.name, size

    def folders(self) -> Iterator[str]:
        """Yield the names of the folders that lie in the folder itself."""
        with suppress(FileNotFoundError), os.scandir(self._root) as entries:
            yield from (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

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
        store._own = uuid.uuid4().hex[:8]  # noqa: SLF001  a copy of ours
        return store

    def stage(self, name: str) -> Path:
        """Return where on local disk to write what will be published as *name*; whatever lay there is gone."""
        path = self.staged(name)
        path.parent.mkdir(exist_ok=True)
        _remove(path)
        return path

    def staged(self, name: str) -> Path:
        """Return where on local disk lies what was staged for *name*."""
        return self._staging(name) / self._own

    def publish(self, name: str) -> None:
        """Make what was staged for *name* appear under that name, whole and durably."""
        staged, final = self.staged(name), self._root / name
        if staged.is_dir():
            os.sync()  # one call for all its files; a sync of each would take longer than fetching them
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

    def discard(self, name: str) -> None:
        """Remove what was staged for *name*, if anything."""
        _remove(self._taken(name))
        _remove(self.staged(name))
        with suppress(OSError):  # others have something there, or it is gone
            self._staging(name).rmdir()

    def _staging(self, name: str) -> Path:
        return self._root / (name + PARTIAL)

    def _taken(self, name: str) -> Path:
        return self._root / f"{name}.{self._own}{PARTIAL}"

    def _sweep(self) -> None:
        for entry in self._root.iterdir():
            if entry.name.endswith(PARTIAL):
                _remove(entry)

    def close(self) -> None:
        """Let other runs have the folder; what killed workers left goes, and a folder that was made for nothing."""
        if self._lock is not None:
            with suppress(OSError):  # one that is not dead yet goes on staging; the next run sweeps, too
                self._sweep()
        if self._made:
            with suppress(OSError):  # it is not empty, so it is wanted
                self._root.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class RemoteStore:
    """A folder in any other fsspec file system: staged on local disk, published by one upload each."""

    def __init__(self, fs: Any, root: str, staging: Path) -> None:  # noqa: ANN401  fsspec's file systems are untyped
        """Use *root* in *fs*, and on local disk *staging*, which :meth:`close` removes; neither need exist."""
        self._fs = fs
        self._root = root.rstrip("/")
        self._staging = staging
        self._own = uuid.uuid4().hex[:8]

    def prepare(self) -> None:
        """Create the folder, or raise OptionsError if it cannot be written to."""
        bucket = self._root.lstrip("/").partition("/")[0]
        try:
            if _BUCKETED.isdisjoint(protocols(self._fs)):
                self._fs.makedirs(self._root, exist_ok=True)
                return
            found = self._fs.exists(bucket)
        except Exception as error:  # each file system raises its own
            raise OptionsError(f"output_folder: cannot write to {self._root}: {error}") from error
        if not found:
            raise OptionsError(f"output_folder: there is no bucket {bucket!r}")

    def is_in_use(self) -> bool:
        """Whether a run is writing to the folder; there are no locks to tell it by."""
        return False

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield the files that lie in the folder itself, or in one of its folders: name and size in bytes."""
        for entry in self._entries(folder):
            if entry["type"] == "file":
                yield entry["name"].rpartition("/")[2], int(entry["size"] or 0)

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
        store._own = uuid.uuid4().hex[:8]  # noqa: SLF001  a copy of ours
        return store

    def stage(self, name: str) -> Path:
        """Return where on local disk to write what will be published as *name*; whatever lay there is gone."""
        self._staging.mkdir(parents=True, exist_ok=True)
        path = self.staged(name)
        _remove(path)
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
                self._fs.put_file(str(entry), f"{final}/{entry.name}")
        else:
            self._fs.put_file(str(staged), final)
        _remove(staged)

    def discard(self, name: str) -> None:
        """Remove what was staged for *name*, if anything."""
        _remove(self.staged(name))

    def close(self) -> None:
        """Remove all that was staged."""
        shutil.rmtree(self._staging, ignore_errors=True)


class Attempt:
    """One try at writing the files of a shard: all of them are published by :meth:`commit`, or none.

    There may be others at the same shard at the same time, in any process that can reach the store.

    Work that blocks goes through :meth:`run`, one call at a time, in a thread of the attempt's own.
    """

    def __init__(self, store: Store, thread: ThreadPoolExecutor) -> None:
        """Use :meth:`open`."""
        self._store = store
        self._thread = thread
        self._staged: list[str] = []
        self._files: list[IO[bytes]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, store: Store) -> AsyncIterator[Self]:
        """Yield a new attempt; what it has not committed at the end of the block is removed."""
        thread = ThreadPoolExecutor(1, "shard-io")
        attempt = cls(store.apart(), thread)
        try:
            yield attempt
        finally:
            # Queued behind a write that may still be under way in the thread;
            # done even if the wait for it is cancelled.
            discarded = thread.submit(attempt._discard)
            thread.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(discarded))

    async def stage(self, name: str) -> Path:
        """Return where on local disk to write the shard's file or folder *name*."""
        self._staged.append(name)
        return await self.run(self._store.stage, name)

    async def create(self, name: str) -> IO[bytes]:
        """Open the shard's file *name* for writing; it is closed with the attempt if not before."""
        path = await self.stage(name)
        return await self.run(self._create, path)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call *function* in the attempt's thread, behind all calls made before.

        Raises:
            StorageError: the file system refused.

        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except OSError as error:
            raise StorageError(f"cannot write: {error}") from error

    async def sums(self) -> dict[str, FileSum]:
        """Return what was written of each file and folder staged so far, by name."""
        return await self.run(lambda: {name: _sum_of(self._store.staged(name)) for name in self._staged})

    async def standing(self, marker: str) -> bytes:
        """Return what is in the file *marker* if another attempt has finished the shard; nothing if none has."""
        return await self.run(self._store.content, marker)

    async def commit(self, marker: str, content: bytes) -> bytes:
        """Publish all that was staged, then the file *marker*, whose presence says that the shard is finished.

        Returns:
            What stands in *marker* now: *content*, or what another attempt has put there before; then nothing is
            published.

        """
        return await self.run(self._publish, marker, content)

    def _create(self, path: Path) -> IO[bytes]:
        self._files.append(path.open("xb"))
        return self._files[-1]

    def _publish(self, marker: str, content: bytes) -> bytes:
        if standing := self._store.content(marker):
            return standing
        # Staged before anything is published, so that whoever publishes first takes this away, too.
        self._staged.append(marker)
        self._store.stage(marker).write_bytes(content)
        for name in list(self._staged):
            self._store.publish(name)
            self._staged.remove(name)
        return content

    def _discard(self) -> None:
        for file in self._files:
            with suppress(OSError):
                file.close()
        for name in self._staged:
            with suppress(OSError):
                self._store.discard(name)


class AppendFile:
    """A file of an attempt that grows at its end; writes reach the disk in megabytes, from the attempt's thread."""

    def __init__(self, attempt: Attempt, file: IO[bytes]) -> None:
        """Use :meth:`open`."""
        self._attempt = attempt
        self._file = file
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._flushing = asyncio.Lock()

    @classmethod
    async def open(cls, attempt: Attempt, name: str) -> Self:
        """Begin the file *name* of *attempt*."""
        return cls(attempt, await attempt.create(name))

    async def append(self, *pieces: bytes) -> None:
        """Add *pieces* as one: nothing that others append comes between them. Waits while the disk is behind."""
        self._pieces.extend(pieces)
        self._held_bytes += sum(map(len, pieces))
        if self._held_bytes >= APPEND_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """Write what is left, and close the file."""
        await self._flush()
        await self._attempt.run(self._file.close)

    async def _flush(self) -> None:
        async with self._flushing:
            pieces, self._pieces, self._held_bytes = self._pieces, [], 0
            await self._attempt.run(self._file.writelines, pieces)


def _locked(folder: Path, *, shared: bool = False) -> int | None:
    """Return a descriptor that holds *folder* until it is closed or this process ends, however it ends.

    If *shared*, others may hold it likewise. None where the file system has no such locks.

    Raises:
        BlockingIOError: another process holds it.

    """
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    if not folder.exists() or os.fstat(handle).st_ino != folder.stat().st_ino:  # its last holder has just removed it
        os.close(handle)
        raise BlockingIOError
    return handle


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sum_line(name: str, content: bytes) -> bytes:
    """Return what ``sha256sum`` prints of a file."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _sum_of(path: Path) -> FileSum:
    if not path.is_dir():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return FileSum(file.tell(), digest.hexdigest())
    size, lines = 0, hashlib.sha256()
    entries = sorted(path.iterdir(), key=lambda entry: entry.name)
    for entry in entries:
        content = entry.read_bytes()
        size += len(content)
        lines.update(sum_line(entry.name, content))
    return FileSum(size, lines.hexdigest(), len(entries))


def _take_place(staged: Path, final: Path) -> None:
    """Put the samples of *staged* in the place of those in *final*, a folder that may have files of other people."""
    for entry in final.iterdir():
        if SAMPLE_NAME.fullmatch(entry.name) and not entry.is_dir():
            entry.unlink()
    for entry in staged.iterdir():
        entry.replace(final / entry.name)
    _sync(final)


def _sync(path: Path) -> None:
    """Have the operating system put a file or folder on disk.

    A failure must not be retried: the pages count as clean after it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
