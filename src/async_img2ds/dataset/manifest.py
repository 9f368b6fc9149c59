"""manifest(output_folder): write down what a dataset has, for whoever copies, checks or indexes it.

``_manifest`` says what it is and what files it has, ``_sha256sums`` what ``sha256sum -c`` checks, and ``_wids`` how
many samples each tar has. All are written as the stats files are read, and the first says by these whether it is still
true.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from async_img2ds.dataset.manifest_files import ManifestFiles, check_told, described
from async_img2ds.dataset.stats import AddedUp, DigestOfMarkers, Found, each_ahead, read_stats
from async_img2ds.dataset.tar_indexes import index_tar, lacks_index
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.existing import is_there
from async_img2ds.options import ManifestOptions
from async_img2ds.preflight import check_shared
from async_img2ds.storage import MANIFEST, MANIFEST_BEFORE, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.storage import Store

__all__ = ["ASKED", "READERS", "ManifestReport", "manifest", "run_manifest", "untrue_manifest"]

# Shards whose files are read at a time, and asked for: each may have as many files as samples.
READERS: Final = 4
ASKED: Final = 8
# The line that says what the dataset is has the options that it was made with, however many sets of these.
HEAD_BYTES_MAX: Final = 16 * 2**20
_PIECE_BYTES: Final = 2**16


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
        folders_unlisted: folders whose samples ``_sha256sums`` does not have one by one.
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
        with ManifestFiles.open(store) as written:
            added = AddedUp()
            files = added.each(store, found, options.progress)
            for shard in each_ahead(partial(described, store, compute=options.compute), files, READERS, ASKED):
                written.add(shard, added.place_of(shard.marker))
            head, names = written.publish(added, found)
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
        missing=head["missing"],
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


def _index_tars(store: Store, found: Found, *, compute: bool) -> int:
    """Make indexes of the tars that have none; return of how many."""
    tars = 0

    def lacking() -> Iterator[StatsFile]:
        nonlocal tars
        for file in read_stats(store, found):
            check_told(file, compute=compute)
            if lacks_index(file):
                yield file
            elif file.marker is not None and f"{file.stem}.tar" in (file.marker.files or {}):
                tars += 1

    indexed = sum(each_ahead(partial(index_tar, store), lacking(), READERS, ASKED))
    if not (indexed or tars):
        raise OptionsError("tar_index: there is no tar in this dataset; it is about those of output_format webdataset")
    return indexed


def untrue_manifest(store: Store, there: str | Iterable[tuple[int, str]]) -> str:
    """Return in words that the manifest in *store* is not true; nothing if it is, if there is none, or nobody can tell.

    *there* is the digest of the stats files that are there, empty if some could not be read; or number and stem of
    each, to be read here.
    """
    name = next((name for name in (MANIFEST, MANIFEST_BEFORE) if is_there(store, name)), None)
    if name is None:
        return ""
    head = _read_head(store, name)
    if head is None:
        return f"{name} is none that this program has written; aimg2ds manifest makes one"
    digest = there if isinstance(there, str) else _digest_of(store, there)
    if digest in ("", head.get("markers_sha256")):
        return ""
    told = f"it tells of {head.get('shards')} shards with {head.get('rows')} rows"
    return f"{name} is not of the shards that are there: {told}; aimg2ds manifest makes it anew"


def _digest_of(store: Store, found: Iterable[tuple[int, str]]) -> str:
    digests = DigestOfMarkers()
    for file in read_stats(store, sorted(found, key=lambda one: (one[0], len(one[1])))):
        digests.add(file)
    return digests.hexdigest()


def _read_head(store: Store, name: str) -> dict[str, Any] | None:
    """Return what the manifest called *name* in *store* says of the dataset as a whole, which is its first line."""
    content = b""
    with store.open(name) as file:
        while b"\n" not in content and len(content) < HEAD_BYTES_MAX and (piece := file.read(_PIECE_BYTES)):
            content += piece
    try:
        head = orjson.loads(content.partition(b"\n")[0].rstrip(b",") + b"}")["dataset"]
    except (ValueError, LookupError, TypeError):
        return None
    return head if isinstance(head, dict) else None
