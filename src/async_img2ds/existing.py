"""What lies in the output folder before a run: which shards are finished, which URLs are there, what may be deleted."""

from __future__ import annotations

import logging
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.errors import InputError
from async_img2ds.journal import JOURNAL, drop_journals, journals_in
from async_img2ds.policy.markers import Made, Marker, check_alike
from async_img2ds.policy.removal import Removal
from async_img2ds.policy.shards import DATA_ENDINGS, INDEX_ENDING, SAMPLE_ENDINGS, Naming
from async_img2ds.policy.url_sets import KnownUrls
from async_img2ds.storage import (
    LISTINGS_BEFORE,
    MANIFEST,
    MARKER,
    REDO,
    REDO_NAME,
    REMOVED,
    REPORT,
    SETTINGS,
    SUMS,
    WIDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    from async_img2ds.options import Options
    from async_img2ds.ranks import Share
    from async_img2ds.storage import Store

__all__ = [
    "STARTS",
    "Start",
    "checked",
    "clear",
    "drop_manifest",
    "finished_and_torn",
    "finished_shards",
    "is_there",
    "known_urls",
    "keep_removal",
    "keep_settings",
    "remove_shards",
    "removal_in",
    "remove_data",
    "unfinished_shards",
    "sweep_journals",
]

logger = logging.getLogger(__name__)

# Tables read at a time: over a network each costs a few round trips, on disk two cores keep up with it.
READERS: Final = 16
# Finished shards that are asked what they were made of, evenly spread.
ASKED: Final = 64


def finished_shards(store: Store) -> dict[int, str]:
    """Return the shards that are marked as finished, each with its marker; an empty marker is none."""
    finished, _ = finished_and_torn(store)
    return finished


def finished_and_torn(store: Store) -> tuple[dict[int, str], set[int]]:
    """Return the shards that are marked as finished, each with its marker, and which of them are torn.

    Of these a replacement was cut off, on an object store, between their files.
    """
    finished: dict[int, str] = {}
    cut_off: set[str] = set()
    for name, size in store.names():  # which may be millions
        if size and (shard_id := Naming.finished_shard(name)) is not None:
            finished[shard_id] = name
        elif REDO_NAME.fullmatch(name):
            cut_off.add(name.removesuffix(REDO))
    return finished, {shard_id for shard_id, name in finished.items() if name.removesuffix(MARKER) in cut_off}


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run begins.

    Attributes:
        finished: the shards of the list that need not be done.
        made: what some of these were made of, by number.
        first_shard: the number of the list's first shard.
        known: URLs whose rows are left out.
        torn: finished shards of which a replacement was cut off, on an object store, between their files.

    """

    finished: Container[int] = ()
    made: Mapping[int, Made] = field(default_factory=dict)
    first_shard: int = 0
    known: Container[str | None] = ()
    torn: Sequence[int] = ()


def _behind_finished(store: Store) -> Start:
    """Return the start behind finished shards, with what some of them say, the first and the last among them.

    The last tells another number of rows in a shard, and a list that has grown or shrunk before it.
    """
    finished, torn = finished_and_torn(store)
    in_order = sorted(finished)
    some = sorted({in_order[at * (len(in_order) - 1) // (ASKED - 1)] for at in range(ASKED)} if in_order else ())
    with ThreadPoolExecutor(READERS, "markers") as readers:
        told = dict(zip(some, readers.map(lambda shard_id: _told(store, finished[shard_id]), some), strict=True))
    return Start(finished, {shard_id: made for shard_id, made in told.items() if made is not None}, torn=sorted(torn))


def _told(store: Store, name: str) -> Made | None:
    try:
        marker = Marker.parse(store.content(name))
    except (OSError, ValueError):
        return None
    return Made(marker.tally.count, marker.urls, marker.made_with)


def checked(start: Start, options: Options) -> Start:
    """Return *start* with what the list is to be compared with, once the first finished shard is seen to be made alike.

    The others are compared as the list comes to them: they may be of another list, by which this one was extended.

    Raises:
        OptionsError: it is not, and ``resume_anyway`` is not set.

    """
    if options.output.resume_anyway:  # but a shard of another length would leave rows out
        return replace(start, made={shard_id: Made(made.rows, None, None) for shard_id, made in start.made.items()})
    for shard_id in sorted(start.made)[:1]:
        check_alike(shard_id, start.made[shard_id], options.shape())
        if (start.made[shard_id].made_with or {}).get("tar_index", False) and not options.output.tar_index:
            logger.warning(
                "tar_index: tars that lie there have an index, and this run makes none; with --tar_index it does, and "
                "aimg2ds manifest --tar_index makes those that lack in the end"
            )
    return start


def _next_shard(store: Store) -> int:
    """Return a number above those of all shards, the unfinished ones of a killed run included: nobody knows these."""
    stems = (
        name.partition(".")[0].removesuffix("_stats")
        for name, _ in store.entries()
        if not name.endswith(JOURNAL)  # which goes, unread
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
    stems = [name.removesuffix(MARKER) for name in finished_shards(store).values()]
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


def removal_in(store: Store) -> Removal:
    """Return what was asked to be removed from the dataset in *store*."""
    return Removal.of_text(store.content(REMOVED).decode(errors="replace"))


def keep_removal(store: Store, removal: Removal) -> None:
    """Write down that *removal*, too, is not to be fetched any more into *store*."""
    kept = removal_in(store)
    if removal.named <= kept.named:
        return
    _keep(store, REMOVED, kept.plus(removal).text)


def drop_manifest(store: Store) -> None:
    """Remove what ``aimg2ds manifest`` and ``report`` have written, and say so: for whoever is about to change shards.

    It would tell of others than there are, and who reads by it would miss some or fail. A page may show images that are
    being removed.
    """
    there = [name for name in (SUMS, WIDS, REPORT, MANIFEST, *LISTINGS_BEFORE) if is_there(store, name)]
    for name in there:  # the manifest last: as long as it is there, it is true
        with suppress(FileNotFoundError):  # another rank was first
            store.remove([name])
    if there:
        by = " and ".join(
            command for command, is_by in (("manifest", there != [REPORT]), ("report", REPORT in there)) if is_by
        )
        logger.warning("removed %s, as shards change; aimg2ds %s makes them anew", ", ".join(there), by)


def keep_settings(store: Store, settings: str) -> None:
    """Write down in *store* with what options it is written to: *settings*, as a file that the command line reads."""
    _keep(store, SETTINGS, settings)


def _keep(store: Store, name: str, text: str) -> None:
    try:
        store.stage(name).write_text(text, encoding="utf-8")
        store.publish(name)
    finally:
        store.discard(name)
        store.release()


def is_there(store: Store, name: str) -> bool:
    """Whether there is a file *name*."""
    try:
        store.open(name).close()
    except FileNotFoundError:
        return False
    return True


def sweep_journals(store: Store, start: Start, mode: str, share: Share) -> None:
    """Remove the journals of *share* that a run in this incremental *mode* will not read.

    Those of finished shards, and all if the list's shards get other numbers than before.
    """
    if mode != "overwrite":  # which may be refused yet; see clear()
        there = [stem for stem in journals_in(store) if share.has(int(stem))]
        drop_journals(store, [stem for stem in there if mode != "incremental" or int(stem) in start.finished])


def clear(store: Store) -> None:
    """Delete the dataset in *store* and nothing else: the shards that have a marker, and journals.

    What a killed run has left without one is not told from other people's files, and stays.
    """
    markers = (name for name, _ in store.names() if Naming.finished_shard(name) is not None)
    remove_shards(store, [name.removesuffix(MARKER) for name in markers])
    drop_journals(store, journals_in(store))


def remove_shards(store: Store, stems: Collection[str]) -> None:
    """Delete the shards whose files are called by *stems*, each of which has a marker.

    Markers go first, so that at no moment a shard without its data looks finished.
    """
    store.remove([stem + MARKER for stem in stems])
    remove_data(store, stems)


def unfinished_shards(store: Store) -> list[str]:
    """Return the stems of the shards of which killed runs have left files, and which nobody has finished."""
    marked: set[str] = set()
    begun: set[str] = set()
    for name, size in store.entries():
        stem, _, ending = name.partition(".")
        if size and Naming.finished_shard(name) is not None:
            marked.add(name.removesuffix(MARKER))
        elif stem.isascii() and stem.isdigit() and ((size is None and not ending) or ending in DATA_ENDINGS):
            begun.add(stem)
    return sorted(begun - marked)


def remove_data(store: Store, stems: Collection[str]) -> None:
    """Delete the files and samples of the shards *stems*, whose markers are not there."""
    removed = set(stems)
    entries = list(store.entries())
    data = [name.partition(".") for name, size in entries if size is not None]
    ours = {*DATA_ENDINGS, REDO.removeprefix(".")}
    # An index first: without its tar nobody would know whose it is.
    indexed = removed & {stem for stem, _, ending in data if ending == "tar"}
    store.remove([f"{stem}.{ending}" for stem, _, ending in data if ending == INDEX_ENDING and stem in indexed])
    store.remove([f"{stem}.{ending}" for stem, _, ending in data if ending in ours and stem in removed])
    for folder in removed.intersection(name for name, size in entries if size is None):
        samples = (name for name, _ in store.names(folder))
        store.remove([f"{folder}/{name}" for name in samples if _is_sample(name)])


def _is_sample(name: str) -> bool:
    key, _, ending = name.partition(".")
    return key.isdigit() and ending in SAMPLE_ENDINGS
