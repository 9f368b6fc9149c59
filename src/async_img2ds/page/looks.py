"""What the tables of some shards say of hosts, sizes, reservations and single rows, and their images, in few bytes.

Shards are drawn, as reading all would take as long as a dataset is large. Of one that is drawn the whole table is read,
as its first rows are those of the fastest hosts; if that is too large, some of its row groups.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from async_img2ds.histograms import bucket_of
from async_img2ds.inputs.hosts import hosts_of
from async_img2ds.page.pictures import Pictures, Wanted
from async_img2ds.records import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from async_img2ds.dataset.stats import StatsFile
    from async_img2ds.page.pictures import Place
    from async_img2ds.policy.markers import Marker

__all__ = ["UNTOLD", "Card", "Drawn", "Look", "drawn_from", "look_at"]

# What is drawn at the most, and read of the table of each: a few seconds of a disk, a minute of an object store.
SHARDS_MOST: Final = 64
ROWS_MOST: Final = 200_000
TABLE_BYTES: Final = 48 * 2**20
# Examples of each reason that a shard gives, and characters of a text of strangers that are kept.
EXAMPLES: Final = 3
TEXT_MOST: Final = 2_000
# The reason of a failed row of which the table says none, as img2dataset's do.
UNTOLD: Final = "untold"

_COLUMNS: Final = (
    *("key", "status", "url", "caption", "error_class", "error_message", "http_status", "attempts"),
    *("width", "height", "original_width", "original_height", "optout"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """A row as it is shown: what its table says of it, and its *picture* as a data URL, if there is one."""

    key: str
    status: str
    url: str
    caption: str | None = None
    error_class: str | None = None
    message: str | None = None
    http_status: int | None = None
    attempts: int | None = None
    size: tuple[int, int] | None = None
    original: tuple[int, int] | None = None
    optout: str | None = None
    picture: str | None = None
    picture_size: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Look:
    """What was seen of one shard, or of several.

    Attributes:
        shards: how many.
        rows: their rows that were looked at.
        hosts: how many rows of each host came to each status and reason; "" for URLs of no host.
        sides: images by the longer side that they were received with, in half octaves.
        optouts: rows by what was said against their use, and status.
        examples: some rows of each reason for which they failed.
        images: some rows with an image, and their pictures, as far as these were wanted and can be shown.
        failed: some rows without.
        has_captions: whether there is a column of captions.
        faults: what could not be read, in words, by the names of shards.

    """

    shards: int = 0
    rows: int = 0
    hosts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    sides: Counter[int] = field(default_factory=Counter)
    optouts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, list[Card]] = field(default_factory=dict)
    images: list[Card] = field(default_factory=list)
    failed: list[Card] = field(default_factory=list)
    has_captions: bool = False
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, other: Look) -> None:
        """Take in what was seen of others."""
        self.shards += other.shards
        self.rows += other.rows
        self.hosts.update(other.hosts)
        self.sides.update(other.sides)
        self.optouts.update(other.optouts)
        for reason, cards in other.examples.items():
            kept = self.examples.setdefault(reason, [])
            kept += cards[: EXAMPLES - len(kept)]
        self.images += other.images
        self.failed += other.failed
        self.has_captions |= other.has_captions
        self.faults |= other.faults


@dataclass(frozen=True, slots=True)
class Drawn:
    """The shards that are looked at, of so many; *is_all* if they are all."""

    files: Sequence[StatsFile]
    is_all: bool


def drawn_from(found: int, seed: int) -> list[int]:
    """Return which of so many shards that were *found* may be looked at, by position, in the order of their drawing."""
    return Random(seed).sample(range(found), min(found, SHARDS_MOST))  # noqa: S311  a sample that can be had again


def within_bounds(files: Iterable[StatsFile], found: int) -> Drawn:
    """Return those of *files*, in their order, that are looked at: one at the least, and no more rows than may be."""
    chosen: list[StatsFile] = []
    rows = 0
    for file in files:
        if file.marker is None:
            continue
        rows += file.marker.tally.count
        if chosen and rows > ROWS_MOST:
            break
        chosen.append(file)
    return Drawn(chosen, is_all=len(chosen) == found)


def look_at(place: Place, file: StatsFile, wanted: Wanted, seed: int) -> Look:
    """Return what is seen of the shard of *file*, with as many images and failed rows as are *wanted*."""
    marker = file.marker
    assert marker is not None
    if (marker.made_with or {}).get("output_format") == "dummy":
        return Look(faults={file.stem: "output_format dummy keeps no rows"})
    chance = Random(f"{seed} {file.stem}")  # noqa: S311  as above
    try:
        table, names = _table_of(place, file.stem, marker, chance)
        look = _looked_through(table)
        look.failed = [_card(table, at) for at in _some_failed(table, wanted.failed, chance)]
        if wanted.images:
            look.images = _with_pictures(place, file, table, names, wanted, chance)
    except Exception as error:  # noqa: BLE001  file systems and damaged files have errors of all kinds; it is reported
        told = (str(error) or type(error).__name__).splitlines()[0]
        return Look(faults={file.stem: told})
    return look


def _table_of(place: Place, stem: str, marker: Marker, chance: Random) -> tuple[pa.Table, list[str]]:
    """Return the columns that are looked at of a shard's table, or of some of its row groups, and all names there."""
    with place.store.open(f"{stem}.parquet") as file, pq.ParquetFile(file) as parquet:
        names = list(parquet.schema_arrow.names)
        columns = [name for name in _COLUMNS if name in names]
        groups = list(range(parquet.num_row_groups))
        chance.shuffle(groups)
        room, rows, chosen = TABLE_BYTES, max(ROWS_MOST, marker.tally.count if len(groups) == 1 else 0), []
        for group in groups:
            told = parquet.metadata.row_group(group)
            chunks = [told.column(number) for number in range(told.num_columns)]
            room -= sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
            rows -= told.num_rows
            if min(room, rows) < 0:
                break
            chosen.append(group)
        if groups and not chosen:
            raise ValueError(f"its table is too large to look at: more than {TABLE_BYTES >> 20} MiB in a row group")
        table = parquet.read_row_groups(sorted(chosen), columns=columns)
    kept = {name: _texts(table.column(name)) if name in _TEXTS else table.column(name) for name in columns}
    blank = pa.nulls(table.num_rows, pa.string())
    return pa.table({name: kept.get(name, blank) for name in _COLUMNS}), names


_TEXTS: Final = frozenset({"key", "status", "url", "caption", "error_class", "error_message", "optout"})


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException:  # a column of the list with a name of ours
        return pa.chunked_array([pa.array([None if one is None else str(one) for one in column.to_pylist()])])


def _looked_through(table: pa.Table) -> Look:
    look = Look(shards=1, rows=table.num_rows, has_captions=table.column("caption").null_count < table.num_rows)
    failed = pc.fill_null(pc.not_equal(table.column("status"), str(Status.SUCCESS)), True)
    reasons = pc.if_else(failed, pc.fill_null(table.column("error_class"), UNTOLD), "")
    by_host = pa.table(
        {
            "host": pc.fill_null(hosts_of(table.column("url").combine_chunks()), ""),
            "status": pc.fill_null(table.column("status"), ""),
            "reason": reasons,
        }
    )
    for host, status, reason, rows in _counted(by_host):
        look.hosts[host, status, reason] += rows
    reserved = table.select(["optout", "status"]).filter(pc.is_valid(table.column("optout")))
    for optout, status, rows in _counted(reserved):
        look.optouts[optout[:TEXT_MOST], status] += rows
    look.sides = _sides(table)
    for at, reason in _firsts(reasons):
        look.examples.setdefault(reason, []).append(_card(table, at))
    return look


def _counted(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    counted = table.group_by(table.column_names).aggregate([([], "count_all")])
    return zip(*(counted.column(name).to_pylist() for name in [*table.column_names, "count_all"]), strict=True)


def _sides(table: pa.Table) -> Counter[int]:
    """Return how many images were received with which longer side."""
    sides: Counter[int] = Counter()
    try:
        longer = pc.max_element_wise(
            table.column("original_width").cast(pa.int64()), table.column("original_height").cast(pa.int64())
        )
    except pa.ArrowException:
        return sides
    for side in pc.value_counts(longer.combine_chunks()).to_pylist():
        if side["values"]:
            sides[bucket_of(side["values"])] += side["counts"]
    return sides


def _firsts(reasons: pa.ChunkedArray) -> Iterable[tuple[int, str]]:
    """Yield the first few rows of each reason."""
    for reason in pc.unique(reasons).to_pylist():
        if reason:
            places = pc.indices_nonzero(pc.equal(reasons, reason))
            yield from ((at, reason) for at in places.slice(0, EXAMPLES).to_pylist())


def _some_failed(table: pa.Table, wanted: int, chance: Random) -> list[int]:
    failed = pc.fill_null(pc.not_equal(table.column("status"), str(Status.SUCCESS)), True)
    places = pc.indices_nonzero(failed)
    chosen = chance.sample(range(len(places)), min(wanted, len(places)))
    return [places[at].as_py() for at in sorted(chosen)]


def _with_pictures(
    place: Place, file: StatsFile, table: pa.Table, names: list[str], wanted: Wanted, chance: Random
) -> list[Card]:
    succeeded = pc.fill_null(pc.equal(table.column("status"), str(Status.SUCCESS)), False)
    places = pc.indices_nonzero(succeeded)
    keys = table.column("key").take(places).to_pylist()
    row_of = dict(zip(keys, places.to_pylist(), strict=True))
    cards = []
    pictures = Pictures(place, file, names, wanted.images, chance)
    for key, picture, size in pictures.of(keys):
        if key in row_of:
            cards.append(_card(table, row_of.pop(key), picture, size))
    return cards


def _card(table: pa.Table, at: int, picture: str | None = None, picture_size: tuple[int, int] = (0, 0)) -> Card:
    said = {name: table.column(name)[at].as_py() for name in _COLUMNS}
    texts = {name: None if said[name] is None else said[name][:TEXT_MOST] for name in _TEXTS}
    failed = texts["status"] != Status.SUCCESS
    return Card(
        key=texts["key"] or "",
        status=texts["status"] or "",
        url=texts["url"] or "",
        caption=texts["caption"],
        error_class=(texts["error_class"] or UNTOLD) if failed else None,
        message=texts["error_message"] if failed else None,
        http_status=_whole(said["http_status"]),
        attempts=_whole(said["attempts"]),
        size=_size(said["width"], said["height"]),
        original=_size(said["original_width"], said["original_height"]),
        optout=texts["optout"],
        picture=picture,
        picture_size=picture_size,
    )


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value == value else None  # noqa: PLR0124  pandas' missing ones


def _size(width: object, height: object) -> tuple[int, int] | None:
    known = _whole(width), _whole(height)
    return (known[0], known[1]) if known[0] and known[1] else None
