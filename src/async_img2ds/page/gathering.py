"""All that a page tells of a dataset, gathered: what the stats files add up to, and what was seen of some shards."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from async_img2ds.dataset.stats import AddedUp, Found, each_ahead, gaps
from async_img2ds.errors import OptionsError
from async_img2ds.page.looks import Look, drawn_from, look_at, within_bounds
from async_img2ds.page.pictures import Place, Wanted
from async_img2ds.page.timeline import Times
from async_img2ds.storage import file_system, open_store

if TYPE_CHECKING:
    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.options import ReportOptions

__all__ = ["CARDS_FAILED", "Gathered", "gather"]

# Shards that are looked at, at a time: each holds a table, and waits for a disk or an object store.
READERS: Final = 4
AHEAD: Final = 6
# Failed rows that are shown one by one; the reasons have examples of their own.
CARDS_FAILED: Final = 160
# Of so many images that a shard is asked for one cannot be shown, or none is found: some more than are shown are read.
SPARE: Final = 1.25


@dataclass(slots=True)
class Gathered:
    """What is known of a dataset.

    Attributes:
        folder: where it lies, as it was named.
        is_in_use: whether a run is writing to it.
        added: what its stats files come to.
        times: when its shards were worked on.
        look: what was seen of some of them.
        looked_at_all: whether these are all.
        missing: how many numbers below the highest have no finished shard.
        empty: stats files without content, by name.
        without_classes: failed rows of which no stats file tells the reason.
        schema_versions: of the columns, with the number of shards; None for img2dataset's.
        made_at: when it was gathered, as Unix time in seconds.
        seconds: how long that took.

    """

    folder: str
    is_in_use: bool = False
    added: AddedUp = field(default_factory=AddedUp)
    times: Times = field(default_factory=Times)
    look: Look = field(default_factory=Look)
    looked_at_all: bool = True
    missing: int = 0
    empty: list[str] = field(default_factory=list)
    without_classes: int = 0
    schema_versions: Counter[int | None] = field(default_factory=Counter)
    made_at: float = 0.0
    seconds: float = 0.0


def gather(options: ReportOptions, progress: str) -> Gathered:
    """Return what is known of the dataset of *options*; show *progress* of that kind.

    Raises:
        OptionsError: there is none.
        OSError: its folder cannot be read.

    """
    began = time.monotonic()
    store = open_store(options.output_folder)
    try:
        gathered = Gathered(options.output_folder, store.is_in_use(), made_at=time.time())
        found = Found.in_store(store)
        if not (len(found) or found.empty or gathered.is_in_use or options.watch):
            raise OptionsError(f"output_folder: there is no dataset in {options.output_folder}")
        gathered.empty = found.empty
        gathered.missing = sum(last - first + 1 for first, last in gaps(number for number, _ in found))
        order = {position: place for place, position in enumerate(drawn_from(len(found), options.seed))}
        drawn: dict[int, StatsFile] = {}
        for position, file in enumerate(gathered.added.each(store, found, progress)):
            if position in order:
                drawn[order[position]] = file
            if file.marker is not None:
                gathered.times.add(file.marker)
                gathered.schema_versions[file.marker.schema_version] += 1
        tally = gathered.added.tally
        failed = tally.count - tally.successes
        gathered.without_classes = max(0, failed - sum(tally.error_classes.values()))
        chosen = within_bounds([drawn[place] for place in sorted(drawn)], len(found))
        gathered.looked_at_all = chosen.is_all
        if chosen.files:
            each = len(chosen.files)
            wanted = Wanted(-(-int(SPARE * options.thumbnails) // each), -(-int(SPARE * CARDS_FAILED) // each))
            fs, root = file_system(options.output_folder)
            look = partial(look_at, Place(store, fs, root.rstrip("/")), wanted=wanted, seed=options.seed)
            for seen in each_ahead(look, chosen.files, READERS, AHEAD):
                gathered.look.add(seen)
    finally:
        store.close()
    gathered.seconds = time.monotonic() - began
    return gathered
