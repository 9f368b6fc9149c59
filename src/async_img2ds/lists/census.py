"""What a list has, counted in one pass: rows, hosts, repeats, rows that look wrong; and some rows drawn at random.

Memory is bounded whatever the length of the list: see :mod:`async_img2ds.policy.census` for what is exact and what is
an estimate then.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from async_img2ds.errors import InputError, redacted
from async_img2ds.inputs.arrays import mapped
from async_img2ds.inputs.columns import without_credentials
from async_img2ds.inputs.hosts import hosts_of
from async_img2ds.inputs.joined import first_line, fitted
from async_img2ds.inputs.whole_list import WholeList
from async_img2ds.nets import parse_net
from async_img2ds.policy.census import About, Different, Frequent, Ranked
from async_img2ds.policy.draws import Draws
from async_img2ds.policy.sources import Sources
from async_img2ds.policy.suspects import ODD, SUSPICIONS, Suspicion, caption_columns, hash_columns, suspicion_of
from async_img2ds.policy.url_sets import KnownUrls
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.sources import parse_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.options import FetchOptions, InputOptions

__all__ = ["Census", "Suspects", "take_census"]

# Hosts that are named, and those of which the share of all rows is told.
HOSTS_TOLD: Final = 100
# Of each kind of suspicious rows, so many examples, cut to so many characters.
EXAMPLES_MOST: Final = 3
EXAMPLE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows that look wrong in one way: how many there are, the first of them, and what to do about them.

    Attributes:
        what: what is wrong.
        rows: how many rows it is wrong with.
        is_fetched: whether they are asked for all the same.
        examples: the first few, without credentials, and cut if they are long.
        advice: what it means and what to do.

    """

    what: str
    rows: int
    is_fetched: bool
    examples: tuple[str, ...]
    advice: str


@dataclass(frozen=True, slots=True)
class Census:
    """What a list has.

    Attributes:
        rows: how many rows.
        files: in how many files.
        file_bytes: of what size, as they lie there; None where a server does not say.
        columns: their names, as the first file has them; none in a list without names.
        column_hints: columns that seem to be there for something, and are not named by an option.
        hosts: how many different hosts.
        top_hosts: those with the most rows.
        repeats: rows whose URL came before.
        most_repeated: the URL that comes most often, of those that were counted one by one; None if none came twice.
        most_repeats: how often that is.
        suspects: rows that look wrong, most first.
        seconds: how long it took.
        is_whole: whether the list was read to its end.

    """

    rows: int
    files: int
    file_bytes: int | None
    columns: tuple[str, ...]
    column_hints: tuple[str, ...]
    hosts: About
    top_hosts: tuple[Ranked, ...]
    repeats: About
    most_repeated: str | None
    most_repeats: int
    suspects: tuple[Suspects, ...]
    seconds: float
    is_whole: bool = True

    def share_of_top(self, count: int) -> float:
        """Return what share of all rows the *count* hosts with the most have."""
        return sum(host.rows for host in self.top_hosts[:count]) / self.rows if self.rows else 0.0


def take_census(
    options: InputOptions,
    fetch: FetchOptions,
    told: Callable[[str, int], None],
    is_wanted: Callable[[], bool],
    *,
    drawn: int = 0,
    seed: int = 0,
) -> tuple[Census, pa.Table]:
    """Read the list once; return what it has, and so many rows *drawn* at random, in a random order.

    What is suspicious depends on what *fetch* allows. *told* is told now and then how many rows were read; once it is
    not *is_wanted* any more, the rest is left.

    Raises:
        InputError: the list cannot be read.
        OptionsError: a column that was asked for is not there.

    """
    began = time.monotonic()
    listed = WholeList.open(options, every=False)
    names = tuple(listed.names() or ())
    chance = random.Random(seed)  # noqa: S311  to be repeated, not to be secret
    draws = Draws(drawn, chance.random)
    sample: dict[int, pa.RecordBatch] = {}
    count = _Count(_Looks(fetch))
    is_whole = True
    for batch, urls in listed.batches():
        if not (is_whole := is_wanted()):
            break
        count.add(urls)
        for position, place in draws.take(batch.num_rows):
            sample[place] = batch.take(pa.array([position]))
        told("looked at", count.rows)
    sizes = [file.size for file in listed.files]
    census = Census(
        rows=count.rows,
        files=len(listed.files),
        file_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        columns=names,
        column_hints=_hints(names, options),
        hosts=count.hosts.different(),
        top_hosts=tuple(count.largest.top(HOSTS_TOLD)),
        repeats=count.urls.repeats(),
        most_repeated=count.most_repeated,
        most_repeats=count.urls.most if count.most_repeated else 0,
        suspects=count.looks.found(),
        seconds=time.monotonic() - began,
        is_whole=is_whole,
    )
    places = sorted(sample)
    chance.shuffle(places)
    return census, _joined([sample[place] for place in places], listed.schema)


def _joined(rows: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return *rows*, each a batch of its file, as one table of the columns of all."""
    plain = pa.schema([pa.field(one.name, mapped(one.type, _value_type)) for one in schema])
    try:
        return pa.Table.from_batches([fitted(row, plain) for row in rows], plain)
    except pa.ArrowException as error:
        raise InputError(f"url_list: its files cannot be joined: {first_line(error)}; make them agree") from error


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _hints(columns: tuple[str, ...], options: InputOptions) -> tuple[str, ...]:
    """Return which columns seem to be of use and are not asked for."""
    hints = []
    captions = caption_columns([name for name in columns if name != options.url_col])
    if options.caption_col is None and captions:
        hints.append(f"a column {captions[0]!r} seems to hold captions: --caption_col {captions[0]}")
    hashes = hash_columns(columns)
    if options.verify_hash is None and hashes:
        name, kind = hashes[0]
        hints.append(
            f'a column {name!r} seems to hold the hashes of images: --verify_hash \'["{name}","{kind}"]\' keeps out '
            "those that have changed"
        )
    return tuple(hints)


@dataclass(slots=True)
class _Count:
    """Counts rows as they come."""

    looks: _Looks
    rows: int = 0
    hosts: Different = field(default_factory=Different)
    largest: Frequent = field(default_factory=Frequent)
    urls: Different = field(default_factory=Different)
    most_repeated: str | None = None

    def add(self, urls: pa.Array) -> None:
        """Count the rows with *urls*, texts as they stand in the list."""
        self.rows += len(urls)
        hosts = self.looks.at(urls, hosts_of(urls))
        counted = pc.value_counts(hosts.drop_null())
        rows_of = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
        self.largest.add(rows_of)
        self.hosts.add(map(KnownUrls.hash_of, rows_of))
        # As --dedupe has it: missing ones repeat nothing, and credentials make no difference.
        texts = [text for text in without_credentials(urls).to_pylist() if text]
        hashes = list(map(KnownUrls.hash_of, texts))
        leads = self.urls.add(hashes)
        if leads is not None:
            self.most_repeated = _shown(texts[hashes.index(leads)])


class _Looks:
    """Looks at rows for what may be wrong with them."""

    def __init__(self, fetch: FetchOptions) -> None:
        self._sources = Sources(map(parse_source, fetch.allow_sources))
        self._addresses = AddressPolicy(map(parse_net, fetch.allow_net))
        self._rows: dict[Suspicion, int] = {}
        self._examples: dict[Suspicion, list[str]] = {}

    def at(self, urls: pa.Array, hosts: pa.Array) -> pa.Array:
        """Look at *urls*, whose hosts are *hosts* so far; return these with those of sources that are allowed."""
        odd = pc.or_(pc.is_null(hosts), pc.fill_null(pc.match_substring_regex(urls, ODD), True))
        places = pc.indices_nonzero(odd).to_pylist()
        elsewhere = [self._look(url) for url in urls.filter(odd).to_pylist()]
        if not any(elsewhere):
            return hosts
        told = dict(zip(places, elsewhere, strict=True))
        return pa.array([told.get(at) or host for at, host in enumerate(hosts.to_pylist())], pa.string())

    def _look(self, url: str | None) -> str | None:
        """Note what is wrong with a row; return where it is to be read, if that is a source and not a host."""
        what = suspicion_of(url, self._sources, self._addresses)
        if what is None:
            return self._place(url)
        self._rows[what] = self._rows.get(what, 0) + 1
        examples = self._examples.setdefault(what, [])
        if len(examples) < EXAMPLES_MOST and (shown := _shown(url or "")) not in examples:
            examples.append(shown)
        return None

    def _place(self, url: str | None) -> str | None:
        target = self._sources.parse(url) if self._sources.allowed else None
        return target.host if target and target.scheme not in ("http", "https") else None

    def found(self) -> tuple[Suspects, ...]:
        """Return what was found, most first."""
        by_rows = sorted(self._rows.items(), key=lambda item: -item[1])
        return tuple(
            Suspects(str(what), rows, SUSPICIONS[what].is_fetched, tuple(self._examples[what]), SUSPICIONS[what].advice)
            for what, rows in by_rows
        )


def _shown(url: str) -> str:
    """Return *url* as it may be printed: without credentials, escaped, and cut if it is long."""
    text = redacted(url)
    text = text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()
    return text if len(text) <= EXAMPLE_CHARACTERS else f"{text[: EXAMPLE_CHARACTERS - 1]}…"
