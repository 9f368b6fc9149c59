"""manifest(output_folder): write down what a dataset has, for whoever copies, checks or indexes it.

``_manifest.json`` says what it is and what files it has, ``_sha256sums.txt`` what ``sha256sum -c`` checks, and
``_wids.json`` how many samples each tar has. All are written as the stats files are read, and the first says by these
whether it is still true.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from async_img2ds.dataset.stats import TOLD_MAX, AddedUp, DigestOfMarkers, Found, each_ahead, gaps, read_stats
from async_img2ds.dataset.tar_indexes import index_tar, lacks_index
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.existing import is_there
from async_img2ds.options import ManifestOptions
from async_img2ds.policy.shards import DATA_ENDINGS, INDEX_ENDING
from async_img2ds.preflight import check_shared
from async_img2ds.storage import MANIFEST, SAMPLE_NAME, SUMS, WIDS, FolderSum, open_store, sum_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.policy.markers import Marker
    from async_img2ds.records import FileSum
    from async_img2ds.storage import Store

__all__ = ["ManifestReport", "manifest", "run_manifest", "untrue_manifest"]

# Of the fields of the manifest; larger once a reader would notice.
VERSION: Final = 1
# Shards whose files are read at a time, and asked for: each may have as many files as samples.
READERS: Final = 4
ASKED: Final = 8
# The line that says what the dataset is has the options that it was made with, however many sets of these.
HEAD_BYTES_MAX: Final = 16 * 2**20
_PIECE_BYTES: Final = 2**16
# As wids' own program begins an index of shards.
_WIDS_HEAD: Final = b'{"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": [\n'


@dataclass(frozen=True, slots=True)
class ManifestReport:
    """What was written down: what ``manifest`` returns.

    Attributes:
        written: the names of the files that were written.
        shards: that they tell of.
        rows: that these have.
        successes: rows with an image among these.
        files: of which there is a sum, and for folders of samples one in all.
        bytes: that these have.
        folders_unlisted: folders whose samples ``_sha256sums.txt`` does not have one by one.
        missing: how many numbers below the highest no finished shard has.
        indexed: tars of which an index was made.
        seconds: wall time.

    """

    written: tuple[str, ...]
    shards: int
    rows: int
    successes: int
    files: int
    bytes: int
    folders_unlisted: int
    missing: int
    indexed: int
    seconds: float


def manifest(output_folder: str, **options: Any) -> ManifestReport:  # noqa: ANN401  checked against their fields
    """Write down what a dataset has, with the options of ``aimg2ds manifest`` as keywords.

    Raises:
        OptionsError: an option cannot be used, there is no dataset, or a run is writing to it.
        StorageError: the folder cannot be read or written to, or has a shard that is not what was written.

    """
    return run_manifest(ManifestOptions(output_folder=output_folder, **options))


def run_manifest(options: ManifestOptions) -> ManifestReport:
    """Do the whole job as *options* say."""
    began = time.monotonic()
    check_shared(options.output_folder)
    store = open_store(options.output_folder)
    try:
        store.prepare()
        found = _whole(store, options.output_folder)
        indexed = _index_tars(store, found, compute=options.compute) if options.tar_index else 0
        with _Written.open(store) as written:
            added = AddedUp()
            files = added.each(store, found, options.progress)
            described = each_ahead(partial(_described, store, compute=options.compute), files, READERS, ASKED)
            for shard in described:
                written.add(shard, added.place_of(shard.marker))
            missing = sum(last - first + 1 for first, last in gaps(number for number, _ in found))
            told = {"missing": missing, "missing_first": list(islice(gaps(n for n, _ in found), TOLD_MAX))}
            names = written.publish(_head(added, written) | told)
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error
    finally:
        store.close()
    return ManifestReport(
        written=names,
        shards=added.totals.shards_done,
        rows=added.tally.count,
        successes=added.tally.successes,
        files=written.files,
        bytes=written.bytes,
        folders_unlisted=written.folders_unlisted,
        missing=missing,
        indexed=indexed,
        seconds=time.monotonic() - began,
    )


def _whole(store: Store, folder: str) -> Found:
    """Return the stats files in *store*, or refuse one of whose shards nothing true could be said."""
    found = Found.in_store(store)
    if not (len(found) or found.empty):
        raise OptionsError(f"output_folder: there is no finished shard in {folder}; a fetch comes first")
    if found.empty:
        raise StorageError(f"{found.empty[0]} is empty; aimg2ds verify says more")
    if found.torn:
        raise StorageError(f"shard {found.torn[0]} is half replaced; run the same aimg2ds retry or purge again first")
    return found


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard as it is written down: its *files*, its stats file last, and what ``sha256sum`` would print of them."""

    file: StatsFile
    marker: Marker
    files: dict[str, FileSum]
    lines: list[str] = field(default_factory=list)
    folders_unlisted: int = 0

    def as_json(self, options: int) -> bytes:
        """Return it, made with the set of options of that number."""
        tally = self.marker.tally
        told = {"shard": self.file.number, "name": self.file.stem, "rows": tally.count, "images": tally.successes}
        files = [
            {"name": name, "bytes": one.bytes, "sha256": one.sha256}
            | ({} if one.files is None else {"files": one.files})
            for name, one in self.files.items()
        ]
        return orjson.dumps({**told, "made_with": options, "files": files})

    def in_wids(self) -> bytes | None:
        """Return its entry in wids' index, None if it has no tar."""
        name = f"{self.file.stem}.tar"
        if name not in self.files:
            return None
        told = {"url": name, "nsamples": self.marker.tally.successes, "filesize": self.files[name].bytes}
        return orjson.dumps(told)


def _index_tars(store: Store, found: Found, *, compute: bool) -> int:
    """Make indexes of the tars that have none; return of how many."""
    tars = 0

    def lacking() -> Iterator[StatsFile]:
        nonlocal tars
        for file in read_stats(store, found):
            _check_told(file, compute=compute)
            if lacks_index(file):
                yield file
            elif file.marker is not None and f"{file.stem}.tar" in (file.marker.files or {}):
                tars += 1

    indexed = sum(each_ahead(partial(index_tar, store), lacking(), READERS, ASKED))
    if not (indexed or tars):
        raise OptionsError("tar_index: there is no tar in this dataset; it is about those of output_format webdataset")
    return indexed


def _check_told(file: StatsFile, *, compute: bool) -> None:
    """See that *file* tells of a shard, and of its files unless sums are to be computed."""
    if file.marker is None:
        raise StorageError(f"{file.name} {file.fault}; aimg2ds verify says more")
    if file.marker.files is None and not compute:
        raise OptionsError(
            f"{file.name} was written by img2dataset and has no sums of its shard's files; --compute reads the files "
            "of all such shards and computes them"
        )


def _described(store: Store, file: StatsFile, *, compute: bool) -> _Shard:
    """Return what is written down of the shard of *file*; *compute* the sums that it does not tell.

    Raises:
        OptionsError: it tells of no files, and sums are not to be computed.
        StorageError: it cannot be read, or a folder is not what it tells.

    """
    _check_told(file, compute=compute)
    assert file.marker is not None
    if file.marker.files is None:
        told: dict[str, FileSum | None] = dict.fromkeys(_files_there(store, file.stem))
    else:
        told = dict(sorted(file.marker.files.items()))
    files: dict[str, FileSum] = {}
    lines: list[str] = []
    unlisted = 0
    for name, one in told.items():
        if compute and (one.files is not None if one else name == file.stem):
            files[name], samples = _samples(store, name)
            lines += samples
            if one not in (None, files[name]):
                raise StorageError(f"{name} was changed since it was written; aimg2ds verify says what is wrong")
            continue
        files[name] = one or sum_in(store, name, is_folder=False)
        if files[name].files is None:
            lines.append(f"{files[name].sha256}  {name}\n")
        else:
            unlisted += 1
    files[file.name] = file.sum
    lines.append(f"{file.sum.sha256}  {file.name}\n")
    return _Shard(file, file.marker, files, lines, unlisted)


def _files_there(store: Store, stem: str) -> list[str]:
    """Return the data files and the folder that there are of a shard of which nobody tells."""
    folder = [stem] if any(SAMPLE_NAME.fullmatch(name) for name, _ in store.names(stem)) else []
    names = [name for ending in sorted(DATA_ENDINGS) if is_there(store, name := f"{stem}.{ending}")]
    index = f"{stem}.{INDEX_ENDING}"
    indexes = [index] if f"{stem}.tar" in names and is_there(store, index) else []
    return sorted([*folder, *names, *indexes])


def _samples(store: Store, folder: str) -> tuple[FileSum, list[str]]:
    """Return the sum of a *folder* of samples, and what ``sha256sum`` would print of each."""
    total, lines = FolderSum(), []
    for name in sorted(name for name, _ in store.names(folder) if SAMPLE_NAME.fullmatch(name)):
        digest = total.add(name, store.content(f"{folder}/{name}"))
        lines.append(f"{digest}  {folder}/{name}\n")
    return total.sum(), lines


class _Written:
    """The three files, as they grow; nothing of them is seen before :meth:`publish`."""

    def __init__(self, store: Store, manifest: Path, shards: IO[bytes], sums: IO[bytes], wids: IO[bytes]) -> None:
        """Use :meth:`open`."""
        self._store = store
        self._manifest = manifest
        self._shards, self._sums, self._wids = shards, sums, wids
        self._told = self._tars = 0
        self.files = self.bytes = self.folders_unlisted = 0
        self.schema_versions: set[int] = set()

    @classmethod
    @contextmanager
    def open(cls, store: Store) -> Iterator[_Written]:
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

    def add(self, shard: _Shard, options: int) -> None:
        """Add *shard*, the next one, which was made with the set of options of that number."""
        self._shards.write((b",\n" if self._told else b"") + shard.as_json(options))
        self._told += 1
        self._sums.writelines(line.encode() for line in shard.lines)
        if (entry := shard.in_wids()) is not None:
            before = (
                b",\n" if self._tars else b'{"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": [\n'
            )
            self._wids.write(before + entry)
            self._tars += 1
        self.files += len(shard.files)
        self.bytes += sum(one.bytes for one in shard.files.values())
        self.folders_unlisted += shard.folders_unlisted
        if shard.marker.schema_version is not None:
            self.schema_versions.add(shard.marker.schema_version)

    def publish(self, head: dict[str, Any]) -> tuple[str, ...]:
        """Make them appear, the one that says whether it is true last; return their names."""
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
        if not self._tars and is_there(self._store, WIDS):
            self._store.remove([WIDS])
        return names


def _head(added: AddedUp, written: _Written) -> dict[str, Any]:
    """Return what the manifest says of the dataset as a whole: nothing that changes unless the dataset does."""
    tally = added.tally
    return {
        "manifest_version": VERSION,
        "written_by": f"async-img2ds {version('async-img2ds')}",
        "schema_versions": sorted(written.schema_versions),
        "shards": added.totals.shards_done,
        "rows": tally.count,
        "images": tally.successes,
        "failed_to_download": tally.failed_to_download,
        "failed_to_resize": tally.failed_to_resize,
        "error_classes": dict(tally.error_classes.most_common()),
        "bytes_received": tally.body_bytes,
        "bytes_written": tally.image_bytes,
        "files": written.files,
        "bytes": written.bytes,
        "began": added.began,
        "ended": added.ended,
        "made_with": [
            {"options": each.options, "shards": each.shards, "numbers": each.numbers} for each in added.made_with()
        ],
        "markers_sha256": added.digest.hexdigest(),
    }


def untrue_manifest(store: Store, digest: str | None = None) -> str:
    """Return in words that the manifest in *store* is not true; nothing if it is, if there is none, or nobody can tell.

    *digest* is that of the stats files that are there, empty if some could not be read; if None they are read here.
    """
    if not is_there(store, MANIFEST):
        return ""
    head = _read_head(store)
    if head is None:
        return f"{MANIFEST} is none that this program has written; aimg2ds manifest makes one"
    if digest is None:
        digests = DigestOfMarkers()
        for file in read_stats(store, Found.in_store(store)):
            digests.add(file)
        digest = digests.hexdigest()
    if digest in ("", head.get("markers_sha256")):
        return ""
    told = f"it tells of {head.get('shards')} shards with {head.get('rows')} rows"
    return f"{MANIFEST} is not of the shards that are there: {told}; aimg2ds manifest makes it anew"


def _read_head(store: Store) -> dict[str, Any] | None:
    """Return what the manifest in *store* says of the dataset as a whole, which is its first line."""
    content = b""
    with store.open(MANIFEST) as file:
        while b"\n" not in content and len(content) < HEAD_BYTES_MAX and (piece := file.read(_PIECE_BYTES)):
            content += piece
    try:
        head = orjson.loads(content.partition(b"\n")[0].rstrip(b",") + b"}")["dataset"]
    except (ValueError, LookupError, TypeError):
        return None
    return head if isinstance(head, dict) else None
