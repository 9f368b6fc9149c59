"""What is written down of a dataset: its shards one by one, as they are read, and at the end what they come to."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from async_img2ds.dataset.stats import TOLD_MAX, gaps
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.existing import is_there
from async_img2ds.policy.shards import DATA_ENDINGS, INDEX_ENDING
from async_img2ds.storage import LISTINGS_BEFORE, MANIFEST, SAMPLE_NAME, SUMS, WIDS, FolderSum, sum_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from async_img2ds.dataset.stats import AddedUp, Found, StatsFile
    from async_img2ds.policy.markers import Marker
    from async_img2ds.records import FileSum
    from async_img2ds.storage import Store

__all__ = ["DescribedShard", "ManifestFiles", "check_told", "described"]

# Of the fields of the manifest; larger once a reader would notice.
VERSION: Final = 1
_PIECE_BYTES: Final = 2**16
# As wids' own program begins an index of shards.
_WIDS_HEAD: Final = b'{"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": [\n'


@dataclass(frozen=True, slots=True)
class DescribedShard:
    """A shard as it is written down: its *files*, its stats file last, and the sums that ``sha256sum`` can check."""

    file: StatsFile
    marker: Marker
    files: dict[str, FileSum]
    sums: list[tuple[str, str]] = field(default_factory=list)
    folders_unlisted: int = 0

    def as_json(self, options: int, folder: str) -> bytes:
        """Return it, made with the set of options of that number, as it lies in *folder*."""
        tally = self.marker.tally
        told = {"shard": self.file.number, "name": self.file.stem, "rows": tally.count, "images": tally.successes}
        files = [
            {"name": folder + name, "bytes": one.bytes, "sha256": one.sha256}
            | ({} if one.files is None else {"files": one.files})
            for name, one in self.files.items()
        ]
        return orjson.dumps({**told, "made_with": options, "files": files})

    def in_wids(self, folder: str) -> bytes | None:
        """Return its entry in wids' index as it lies in *folder*, None if it has no tar."""
        name = f"{self.file.stem}.tar"
        if name not in self.files:
            return None
        told = {"url": folder + name, "nsamples": self.marker.tally.successes, "filesize": self.files[name].bytes}
        return orjson.dumps(told)


def check_told(file: StatsFile, *, compute: bool) -> None:
    """See that *file* tells of a shard, and of its files unless sums are to be computed."""
    if file.marker is None:
        raise StorageError(f"{file.name} {file.fault}; aimg2ds verify says more")
    if file.marker.files is None and not compute:
        raise OptionsError(
            f"{file.name} was written by img2dataset and has no sums of its shard's files; --compute reads the files "
            "of all such shards and computes them"
        )


def described(store: Store, file: StatsFile, *, compute: bool) -> DescribedShard:
    """Return what is written down of the shard of *file*; *compute* the sums that it does not tell.

    Raises:
        OptionsError: it tells of no files, and sums are not to be computed.
        StorageError: it cannot be read, or a folder is not what it tells.

    """
    check_told(file, compute=compute)
    assert file.marker is not None
    if file.marker.files is None:
        told: dict[str, FileSum | None] = dict.fromkeys(_files_there(store, file.stem))
    else:
        told = dict(sorted(file.marker.files.items()))
    files: dict[str, FileSum] = {}
    sums: list[tuple[str, str]] = []
    unlisted = 0
    for name, one in told.items():
        if compute and (one.files is not None if one else name == file.stem):
            files[name], samples = _samples(store, name)
            sums += samples
            if one not in (None, files[name]):
                raise StorageError(f"{name} was changed since it was written; aimg2ds verify says what is wrong")
            continue
        files[name] = one or sum_in(store, name, is_folder=False)
        if files[name].files is None:
            sums.append((files[name].sha256, name))
        else:
            unlisted += 1
    files[file.name] = file.sum
    sums.append((file.sum.sha256, file.name))
    return DescribedShard(file, file.marker, files, sums, unlisted)


def _files_there(store: Store, stem: str) -> list[str]:
    """Return the data files and the folder that there are of a shard of which nobody tells."""
    folder = [stem] if any(SAMPLE_NAME.fullmatch(name) for name, _ in store.names(stem)) else []
    names = [name for ending in sorted(DATA_ENDINGS) if is_there(store, name := f"{stem}.{ending}")]
    index = f"{stem}.{INDEX_ENDING}"
    indexes = [index] if f"{stem}.tar" in names and is_there(store, index) else []
    return sorted([*folder, *names, *indexes])


def _samples(store: Store, folder: str) -> tuple[FileSum, list[tuple[str, str]]]:
    """Return the sum of a *folder* of samples, and that of each by its name."""
    total, sums = FolderSum(), []
    for name in sorted(name for name, _ in store.names(folder) if SAMPLE_NAME.fullmatch(name)):
        digest = total.add(name, store.content(f"{folder}/{name}"))
        sums.append((digest, f"{folder}/{name}"))
    return total.sum(), sums


class ManifestFiles:
    """The three files, as they grow; nothing of them is seen before :meth:`publish`."""

    def __init__(self, store: Store, manifest: Path, shards: IO[bytes], sums: IO[bytes], wids: IO[bytes]) -> None:
        """Use :meth:`open`."""
        self._store = store
        self._manifest = manifest
        self._shards, self._sums, self._wids = shards, sums, wids
        self._told = self._tars = 0
        self.files = self.bytes = self.folders_unlisted = 0
        self._schema_versions: set[int] = set()

    @classmethod
    @contextmanager
    def open(cls, store: Store) -> Iterator[ManifestFiles]:
        """Begin the three in *store*."""
        try:
            manifest, sums, wids = (store.stage(name) for name in (MANIFEST, SUMS, WIDS))
            with (
                tempfile.TemporaryFile(dir=manifest.parent) as shards,
                sums.open("wb") as sums_file,
                wids.open("wb") as wids_file,
            ):
                yield cls(store, manifest, shards, sums_file, wids_file)
        finally:
            for name in (MANIFEST, SUMS, WIDS):
                with suppress(OSError):
                    store.discard(name)
            store.release()

    def add(self, shard: DescribedShard, options: int, folder: str = "") -> None:
        """Add *shard*, the next one, made with the set of options of that number; it lies, or will, in *folder*."""
        self._shards.write((b",\n" if self._told else b"") + shard.as_json(options, folder))
        self._told += 1
        self._sums.writelines(f"{digest}  {folder}{name}\n".encode() for digest, name in shard.sums)
        if (entry := shard.in_wids(folder)) is not None:
            self._wids.write((b",\n" if self._tars else _WIDS_HEAD) + entry)
            self._tars += 1
        self.files += len(shard.files)
        self.bytes += sum(one.bytes for one in shard.files.values())
        self.folders_unlisted += shard.folders_unlisted
        if shard.marker.schema_version is not None:
            self._schema_versions.add(shard.marker.schema_version)

    def publish(self, added: AddedUp, found: Found) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Make them appear, with what the shards *found* come to when *added* up; the manifest last.

        Return what is said of the dataset as a whole, and the names of the files.
        """
        head = self._head(added, found)
        self._wids.write(b"\n]}\n")
        with self._manifest.open("wb") as file:
            file.write(b'{"dataset": ' + orjson.dumps(head) + b',\n"shards": [\n')
            self._shards.seek(0)
            shutil.copyfileobj(self._shards, file, _PIECE_BYTES)
            file.write(b"\n]}\n")
        self._sums.close()
        self._wids.close()
        names = (SUMS, WIDS, MANIFEST) if self._tars else (SUMS, MANIFEST)
        for name in names:
            self._store.check()
            self._store.publish(name)
        gone = LISTINGS_BEFORE if self._tars else (WIDS, *LISTINGS_BEFORE)
        self._store.remove([name for name in gone if is_there(self._store, name)])
        return head, names

    def _head(self, added: AddedUp, found: Found) -> dict[str, Any]:
        """Return what is said of the dataset as a whole: nothing that changes unless the dataset does."""
        tally = added.tally
        missing = [last - first + 1 for first, last in gaps(number for number, _ in found)]
        return {
            "manifest_version": VERSION,
            "written_by": f"async-img2ds {version('async-img2ds')}",
            "schema_versions": sorted(self._schema_versions),
            "shards": added.totals.shards_done,
            "rows": tally.count,
            "images": tally.successes,
            "failed_to_download": tally.failed_to_download,
            "failed_to_resize": tally.failed_to_resize,
            "error_classes": dict(tally.error_classes.most_common()),
            "bytes_received": tally.body_bytes,
            "bytes_written": tally.image_bytes,
            "files": self.files,
            "bytes": self.bytes,
            "began": added.began,
            "ended": added.ended,
            "made_with": [
                {"options": each.options, "shards": each.shards, "numbers": each.numbers} for each in added.made_with()
            ],
            "markers_sha256": added.digest.hexdigest(),
            "missing": sum(missing),
            "missing_first": list(islice(gaps(number for number, _ in found), TOLD_MAX)),
        }
