"""What lies in the output folder before a run: which shards are finished, which URLs are there, what may be deleted."""

from __future__ import annotations

import json
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.errors import InputError
from async_img2ds.policy.shards import DATA_ENDINGS, SAMPLE_ENDINGS, Naming
from async_img2ds.policy.url_sets import KnownUrls

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from async_img2ds.storage import Store

__all__ = ["STARTS", "Start", "clear", "finished_shards", "known_urls"]

# Tables read at a time: over a network each costs a few round trips, on disk two cores keep up with it.
READERS: Final = 16


def finished_shards(store: Store) -> dict[int, str]:
    """Return the shards that are marked as finished, each with its marker; an empty marker is none."""
    return {
        shard_id: name for name, size in store.names() if size and (shard_id := Naming.finished_shard(name)) is not None
    }


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins.

    Attributes:
        finished: the shards of the list that need not be done.
        rows: how many rows some of these have.
        first_shard: the number of the list's first shard.
        known: URLs whose rows are left out.

    """

    finished: Container[int] = ()
    rows: Mapping[int, int] = field(default_factory=dict)
    first_shard: int = 0
    known: Container[str | None] = ()


def _behind_finished(store: Store) -> Start:
    """Return the start behind finished shards, with the rows of the first and the last of them.

    These two tell another number of rows in a shard, and a list that has grown or shrunk.
    """
    finished = finished_shards(store)
    told = {end: _rows_told(store, finished[end]) for end in {min(finished), max(finished)}} if finished else {}
    return Start(finished, {shard_id: rows for shard_id, rows in told.items() if rows is not None})


def _rows_told(store: Store, name: str) -> int | None:
    try:
        with store.open(name) as file:
            count = json.loads(file.read())["count"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return count if isinstance(count, int) else None


def _next_shard(store: Store) -> int:
    """Return a number above those of all shards, the unfinished ones of a killed run included: nobody knows these."""
    stems = (
        name.partition(".")[0].removesuffix("_stats") for name in (*store.folders(), *(n for n, _ in store.names()))
    )
    return max((int(stem) for stem in stems if stem.isascii() and stem.isdigit()), default=-1) + 1


# Where a run begins in each incremental_mode. What overwrite deletes is deleted when nothing can be refused any more.
STARTS: Final[Mapping[str, Callable[[Store], Start]]] = {
    "incremental": _behind_finished,
    "overwrite": lambda _store: Start(),
    "extend": lambda store: Start(first_shard=_next_shard(store)),
    "extend_new": lambda store: Start(first_shard=_next_shard(store), known=known_urls(store)),
}


def known_urls(store: Store) -> KnownUrls:
    """Return the URLs of all rows of finished shards, whatever became of them.

    Raises:
        InputError: a finished shard has no table that can be read.

    """
    stems = [
        name.removesuffix("_stats.json")
        for name, size in store.names()
        if size and Naming.finished_shard(name) is not None
    ]
    hashes = array("Q")
    with ThreadPoolExecutor(READERS, "known-urls") as readers:
        for found in readers.map(lambda stem: _hashes_in(store, f"{stem}.parquet"), stems):
            hashes.extend(found)
    return KnownUrls(hashes)


def _hashes_in(store: Store, name: str) -> array[int]:
    try:
        with store.open(name) as file:
            urls = pq.read_table(file, columns=["url"]).column("url")
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(
            f"incremental_mode extend_new: the URLs of a finished shard cannot be read from {name} ({error}); "
            "it needs the tables of all of them"
        ) from error
    return array("Q", map(KnownUrls.hash_of, urls.to_pylist()))


def clear(store: Store) -> None:
    """Delete the dataset in *store* and nothing else: the shards that have a marker.

    Markers go first, so that at no moment a shard without its data looks finished. What a killed run has left without
    one is not told from other people's files, and stays.
    """
    names = [name for name, _ in store.names()]
    markers = [name for name in names if Naming.finished_shard(name) is not None]
    marked = {name.removesuffix("_stats.json") for name in markers}
    store.remove(markers)
    data = (name.partition(".") for name in names)
    store.remove([f"{stem}.{ending}" for stem, _, ending in data if ending in DATA_ENDINGS and stem in marked])
    for folder in marked.intersection(store.folders()):
        samples = (name for name, _ in store.names(folder))
        store.remove([f"{folder}/{name}" for name in samples if _is_sample(name)])


def _is_sample(name: str) -> bool:
    key, _, ending = name.partition(".")
    return key.isdigit() and ending in SAMPLE_ENDINGS
