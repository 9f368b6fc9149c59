"""What was gathered of a dataset → what its page says, in the words and drawings in which it says it."""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from random import Random
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.hints import HINTS
from async_img2ds.histograms import BUCKETS_PER_OCTAVE, least_of, quantile
from async_img2ds.page import words
from async_img2ds.page.charts import Area, Column, Series, Tick, columns, lines, share_bar, stacked_bar
from async_img2ds.page.gathering import CARDS_FAILED
from async_img2ds.page.looks import UNTOLD
from async_img2ds.page.rendering import rendered
from async_img2ds.page.timeline import pace_of
from async_img2ds.records import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from async_img2ds.options import ReportOptions
    from async_img2ds.page.gathering import Gathered
    from async_img2ds.page.looks import Card

__all__ = ["BYTES_MAX", "PICTURES_MAX", "Page", "page_of"]

# What a page may have, and its pictures in base64: more is slow to open, and too large for many a mail.
BYTES_MAX: Final = 3_000_000
PICTURES_MAX: Final = 2_000_000
# Of tables that may be long.
HOSTS_SHOWN: Final = 15
OPTOUTS_SHOWN: Final = 15
OPTIONS_SHOWN: Final = 5
FAULTS_SHOWN: Final = 10
# The largest number of 64 bits; what is above it was not counted.
BUCKETS_MOST: Final = 64 * BUCKETS_PER_OCTAVE
# Words below a histogram, a third of a page wide.
TICKS_MOST: Final = 4
# Beyond so much of its width words would stick out.
LABELLED: Final = 0.92
# Of which a value is told, if at least one is beyond it; to the two digits that half octaves are good for.
_QUANTILES: Final = (("50 % below", 0.5), ("90 % below", 0.9), ("99 % below", 0.99))
# Characters of what strangers have written.
CAPTION_MOST: Final = 300
URL_MOST: Final = 300
TEXT_MOST: Final = 200
VALUE_MOST: Final = 400

# A status → the kind that colours it, and what it is called.
KINDS: Final = {
    str(Status.SUCCESS): ("good", "images"),
    str(Status.FAILED_TO_DOWNLOAD): ("gone", "not downloaded"),
    str(Status.FAILED_TO_RESIZE): ("bad", "not made into an image"),
}
# An option in a hint, which must not be broken at its dashes.
_FLAG: Final = re.compile(r"(--[a-z_]+)")
_NAMED: Final = {
    UNTOLD: "the stats files and tables of img2dataset do not tell reasons in classes; the examples have its words"
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its *content*, what it tells of, and how many images it shows."""

    content: bytes
    gathered: Gathered
    thumbnails: int


def page_of(gathered: Gathered, options: ReportOptions) -> Page:
    """Return the page of what was *gathered*, as *options* say."""
    cards = _cards(gathered, options)
    told = _told(gathered, options)
    while True:
        sheet = [_shown(card) for card in cards]
        pictures = sum(card.picture is not None for card in cards)
        content = rendered({**told, "cards": sheet, "sheet": _sheet(gathered, cards, options)}, live=options.watch)
        if len(content) <= BYTES_MAX or not cards:
            return Page(content, gathered, pictures)
        cards = cards[: len(cards) * 3 // 4]  # texts of strangers that are longer, once escaped, than anybody's


def _told(gathered: Gathered, options: ReportOptions) -> dict[str, Any]:
    tally = gathered.added.tally
    return {
        "name": words.cut(gathered.folder.rstrip("/").rpartition("/")[2] or gathered.folder, 100),
        "folder": words.cut(gathered.folder, 500),
        "made_at": words.moment(gathered.made_at),
        "fetched": _fetched(gathered),
        "is_in_use": gathered.is_in_use,
        "every_s": options.every_s,
        "rows": tally.count,
        "overview": _overview(gathered),
        "notes": list(_notes(gathered)),
        "reasons": list(_reasons(gathered)),
        "pace": _pace(gathered),
        "histograms": list(_histograms(gathered)),
        "hosts": _hosts(gathered),
        "optouts": _optouts(gathered),
        "made_with": list(_made_with(gathered)),
        "more_made_with": max(0, len(gathered.added.made_with()) - OPTIONS_SHOWN),
        "versions": list(_versions(gathered)),
        "looked_at": _looked_at(gathered),
        "seed": options.seed,
    }


def _fetched(gathered: Gathered) -> str:
    """Return when it was fetched."""
    added = gathered.added
    if added.began is None or added.ended is None:
        return ""
    first, last = words.moment(added.began), words.moment(added.ended)
    return f"fetched {first}" if first == last else f"fetched {first.removesuffix(' UTC')} to {last}"


def _overview(gathered: Gathered) -> dict[str, Any]:
    tally, added = gathered.added.tally, gathered.added
    parts = [
        (kind, said, value)
        for (kind, said), value in zip(
            KINDS.values(), (tally.successes, tally.failed_to_download, tally.failed_to_resize), strict=True
        )
    ]
    said = ", ".join(f"{words.count(value)} {what}" for _, what, value in parts)
    facts = [
        ("rows", words.count(tally.count), "in finished shards"),
        ("shards", words.count(added.totals.shards_done), "finished"),
        ("received", words.amount(tally.body_bytes), _each(tally.body_bytes, tally.count, "a row")),
        ("stored", words.amount(tally.image_bytes), _each(tally.image_bytes, tally.successes, "an image")),
    ]
    if (pace := pace_of(gathered.times)) is not None:
        facts.append(("time", words.duration(pace.worked), f"{words.rate(tally.count / pace.worked)} rows a second"))
    return {
        "images": words.count(tally.successes),
        "share": words.share(tally.successes, tally.count),
        "bar": stacked_bar([(kind, value) for kind, _, value in parts], said),
        "parts": [
            {"kind": kind, "said": what, "count": words.count(value), "share": words.share(value, tally.count)}
            for kind, what, value in parts
        ],
        "facts": [{"name": name, "value": value, "more": more} for name, value, more in facts],
    }


def _each(size: int, number: int, what: str) -> str:
    return f"{words.amount(size / number)} {what}" if number and size else ""


def _notes(gathered: Gathered) -> Iterator[str]:
    """Yield what whoever reads the figures must know."""
    added = gathered.added
    if not added.totals.shards_done:
        yield "No shard is finished yet, so there is nothing to count."
    elif gathered.is_in_use:
        yield "A run is writing to this folder: finished shards are told of here, and there will be more."
    if gathered.missing:
        yield (
            f"{_number(gathered.missing, 'shard')} below the highest number {_is(gathered.missing)} not there, "
            "or not yet: the same fetch makes them."
        )
    silent = [*gathered.empty, *(f"{file.name} {file.fault}" for file in added.faults)]
    if silent:
        more = f" and {len(silent) - FAULTS_SHOWN} more" if len(silent) > FAULTS_SHOWN else ""
        named = "; ".join(words.cut(each, TEXT_MOST) for each in silent[:FAULTS_SHOWN])
        yield f"{_number(len(silent), 'stats file')} {_is(len(silent))} damaged or cannot be read: {named}{more}."
    foreign = sum(shards for number, shards in gathered.schema_versions.items() if number is None)
    if foreign:
        yield (
            f"{_number(foreign, 'shard')} {'was' if foreign == 1 else 'were'} made by img2dataset, whose stats files "
            "tell neither bytes nor reasons, latencies and options: those figures are of the others."
        )
    if gathered.times.untold:
        yield f"{_number(gathered.times.untold, 'shard')} tell no times that can be; the pace is that of the others."


def _number(number: int, what: str) -> str:
    return f"{words.count(number)} {what}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _reasons(gathered: Gathered) -> Iterator[dict[str, Any]]:
    """Yield why rows failed, the most frequent reason first."""
    tally, look = gathered.added.tally, gathered.look
    hints = {**HINTS, **_NAMED}
    counts = Counter(tally.error_classes)
    if gathered.without_classes:
        counts[UNTOLD] += gathered.without_classes
    failed = tally.count - tally.successes
    most = max(counts.values(), default=0)
    for name, count in counts.most_common():
        yield {
            "name": words.cut(name, 60),
            "count": words.count(count),
            "share": words.share(count, tally.count),
            "of_failed": words.share(count, failed),
            "bar": share_bar(count, most, "fails"),
            "hint": _FLAG.split(hints.get(name, "a reason that this version does not know")),
            "examples": [_shown(card) for card in look.examples.get(name, ())],
        }


def _pace(gathered: Gathered) -> dict[str, Any] | None:
    """Return rows and images a second over time, None where there is none to tell."""
    pace = pace_of(gathered.times)
    if pace is None:
        return None
    tally, shards = gathered.added.tally, len(gathered.times)
    moments = [pace.moment(at / 4) for at in range(5)]
    over = moments[-1] - moments[0]
    ticks = [Tick(at / 4, words.clock(moment, over), minor=at % 2 == 1) for at, moment in enumerate(moments)]
    pauses = pace.pauses()
    breaks = [Tick(at, f"nothing was done for {words.duration(seconds)}") for at, seconds in pauses]
    bins = len(pace.rows)
    peak = max(pace.images)
    described = (
        f"{words.rate(sum(pace.images) / bins)} images a second on average, {words.rate(peak)} at the most, "
        f"over {words.duration(pace.worked)}"
    )
    area = Area("pace", "Rows and images a second over time", described, ticks, breaks)
    series = [Series("rows", pace.rows), Series("good", pace.images, filled=True)]
    step = max(1, bins // 24)
    return {
        "drawing": lines(series, area, words.short) if shards > 1 else None,
        "described": described,
        "rows": words.rate(sum(pace.rows) / bins),
        "images": words.rate(sum(pace.images) / bins),
        "worked": words.duration(pace.worked),
        "pauses": [
            {"after": words.duration(at * pace.worked), "seconds": words.duration(seconds)} for at, seconds in pauses
        ],
        "shards": words.count(shards),
        "received": words.amount(tally.body_bytes / pace.worked),
        "table": [
            {
                "at": words.clock(pace.moment(begin / bins), over),
                "rows": words.rate(_mean(pace.rows[begin : begin + step])),
                "images": words.rate(_mean(pace.images[begin : begin + step])),
            }
            for begin in range(0, bins, step)
        ],
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _histograms(gathered: Gathered) -> Iterator[dict[str, Any]]:
    tally, look = gathered.added.tally, gathered.look
    untold = " No shard here tells it: they are of img2dataset, or of an older version."
    yield _histogram(
        "latencies",
        "How long the last attempt took",
        Counter(tally.latencies_ms),
        lambda milliseconds: words.duration(milliseconds / 1000),
        "Of rows for which a request was made, redirects and failures included."
        + ("" if tally.latencies_ms else untold),
        "attempts",
    )
    yield _histogram(
        "bodies",
        "How large bodies are",
        Counter(tally.body_sizes),
        words.amount,
        "Of bodies that came whole." + ("" if tally.body_sizes else untold),
        "bodies",
    )
    of = "Of all images." if gathered.looked_at_all else f"Of the images among {_rows_in_words(gathered)}."
    yield _histogram("sides", "Longer side as received", look.sides, lambda side: f"{side:,.0f} px", of, "images")


def _histogram(
    name: str, title: str, counts: Counter[int], said: Callable[[float], str], note: str, what: str
) -> dict[str, Any]:
    """Return a histogram of *counts* in half octaves, with as many columns as it needs."""
    told: dict[str, Any] = {"name": name, "title": title, "note": note, "what": what, "drawing": None}
    counts = Counter({bucket: count for bucket, count in counts.items() if count > 0 and 0 <= bucket <= BUCKETS_MOST})
    if not counts:
        return told
    whole = sum(counts.values())
    first, last = min(counts), max(counts)
    first, last = max(0, first - 1), last + 1
    buckets = range(first, last + 1)
    rows = [
        {
            "from": said(least_of(bucket)),
            "to": said(least_of(bucket + 1)),
            "count": words.count(counts[bucket]),
            "share": words.share(counts[bucket], whole),
        }
        for bucket in buckets
    ]
    values = [
        Column(counts[bucket], f"{row['from']} to {row['to']}: {row['count']} {what}, {row['share']}")
        for bucket, row in zip(buckets, rows, strict=True)
    ]
    quantiles = [
        {"name": label, "value": f"≈ {said(float(f'{value:.2g}'))}"}
        for label, share in _QUANTILES
        if whole * (1 - share) >= 1 and (value := quantile(counts, share)) is not None
    ]
    described = "; ".join(f"{each['name']} {each['value']}" for each in quantiles)
    area = Area(name, title, described, _ticks(buckets, said))
    return {
        **told,
        "drawing": columns(values, area, "good", words.short),
        "rows": [row for row, bucket in zip(rows, buckets, strict=True) if counts[bucket]],
        "quantiles": quantiles,
        "whole": words.count(whole),
    }


def _ticks(buckets: range, said: Callable[[float], str]) -> list[Tick]:
    """Return words at some edges of columns, all powers of two: a handful, every other of which may be left out."""
    step = BUCKETS_PER_OCTAVE * max(1, -(-len(buckets) // (BUCKETS_PER_OCTAVE * TICKS_MOST)))
    at_edges = [bucket for bucket in buckets if bucket % step == 0 and bucket - buckets.start < LABELLED * len(buckets)]
    return [
        Tick((bucket - buckets.start) / len(buckets), said(least_of(bucket)), minor=at % 2 == 1)
        for at, bucket in enumerate(at_edges)
    ]


@dataclass(slots=True)
class _Host:
    """What came of a host's rows."""

    rows: int = 0
    images: int = 0

    @property
    def failed(self) -> int:
        return self.rows - self.images


def _hosts(gathered: Gathered) -> dict[str, Any]:
    """Return the hosts with most rows, and those with most that failed."""
    hosts: dict[str, _Host] = {}
    reasons: dict[str, Counter[str]] = {}
    for (host, status, reason), rows in gathered.look.hosts.items():
        of_host = hosts.setdefault(host, _Host())
        of_host.rows += rows
        if status == Status.SUCCESS:
            of_host.images += rows
        else:
            reasons.setdefault(host, Counter())[reason or UNTOLD] += rows
    nowhere = hosts.pop("", _Host())
    largest = sorted(hosts, key=lambda host: (-hosts[host].rows, host))[:HOSTS_SHOWN]
    worst = [host for host in sorted(hosts, key=lambda host: (-hosts[host].failed, host)) if hosts[host].failed]
    rows = max(1, gathered.look.rows)

    def shown(names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {
                "name": words.cut(host, 120),
                "rows": words.count(hosts[host].rows),
                "of_rows": words.share(hosts[host].rows, rows),
                "failed": words.count(hosts[host].failed),
                "share": words.share(hosts[host].images, hosts[host].rows),
                "bar": share_bar(hosts[host].images, hosts[host].rows, "good"),
                "reason": words.cut(next(iter(reasons[host].most_common(1)))[0], 60) if host in reasons else "",
            }
            for host in names
        ]

    return {
        "count": words.count(len(hosts)),
        "number": len(hosts),
        "largest": shown(largest),
        "worst": shown(worst[:HOSTS_SHOWN]),
        "failing": words.count(len(worst)),
        "nowhere": words.count(nowhere.rows) if nowhere.rows else "",
        "top_share": words.share(sum(hosts[host].rows for host in largest[:10]), rows),
    }


def _optouts(gathered: Gathered) -> dict[str, Any]:
    """Return what was said against the use of images, and what became of these."""
    by_text: dict[str, Counter[str]] = {}
    for (text, status), rows in gathered.look.optouts.items():
        by_text.setdefault(text, Counter())[status] += rows
    seen = sorted(by_text.items(), key=lambda item: (-item[1].total(), item[0]))
    classes = gathered.added.tally.error_classes
    left_out = {name: count for name, count in classes.items() if name.startswith("optout_")}
    rows = max(1, gathered.look.rows)
    total = sum(counts.total() for counts in by_text.values())
    return {
        "left_out": words.count(sum(left_out.values())),
        "left_out_share": words.share(sum(left_out.values()), gathered.added.tally.count),
        "has_left_out": bool(left_out),
        "classes": [
            {"name": words.cut(name, 60), "count": words.count(count), "hint": HINTS.get(name, "")}
            for name, count in sorted(left_out.items(), key=lambda item: -item[1])
        ],
        "seen": [
            {
                "text": words.cut(text, TEXT_MOST),
                "rows": words.count(counts.total()),
                "share": words.share(counts.total(), rows),
                "kept": words.count(counts[str(Status.SUCCESS)]),
            }
            for text, counts in seen[:OPTOUTS_SHOWN]
        ],
        "more": max(0, len(seen) - OPTOUTS_SHOWN),
        "rows": words.count(total),
        "share": words.share(total, rows),
    }


def _made_with(gathered: Gathered) -> Iterator[dict[str, Any]]:
    """Yield the sets of options that shards were made with, that of most shards first."""
    sets = sorted(gathered.added.made_with(), key=lambda each: each.shards, reverse=True)
    for made in sets[:OPTIONS_SHOWN]:
        options = None if made.options is None else sorted(made.options.items())
        apart = [] if made is sets[0] else made.differences(sets[0])
        yield {
            "shards": _number(made.shards, "shard"),
            "options": None
            if options is None
            else [{"name": words.cut(name, 60), "value": _value(value)} for name, value in options],
            "differences": [words.cut(each, VALUE_MOST) for each in apart],
        }


def _value(value: object) -> str:
    return words.cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), VALUE_MOST)


def _versions(gathered: Gathered) -> Iterator[dict[str, str]]:
    """Yield what the dataset and this page were made by."""
    for schema, shards in sorted(gathered.schema_versions.items(), key=lambda item: -item[1]):
        made = "img2dataset's" if schema is None else str(schema)
        yield {"name": "version of the columns", "value": f"{made} ({_number(shards, 'shard')})"}
    yield {"name": "this page", "value": f"async-img2ds {_version('async-img2ds')}, Python {platform.python_version()}"}
    libraries = ("pyarrow", "jinja2", "pillow-simd", "pillow")
    told = [f"{name} {number}" for name in libraries if (number := _version(name))]
    yield {"name": "its libraries", "value": ", ".join(told)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _looked_at(gathered: Gathered) -> dict[str, Any]:
    look, added = gathered.look, gathered.added
    return {
        "is_all": gathered.looked_at_all and look.rows == added.tally.count and not look.faults,
        "is_none": not look.rows,
        "words": _rows_in_words(gathered),
        "faults": [
            {"name": words.cut(stem, 40), "fault": words.cut(fault, TEXT_MOST)}
            for stem, fault in list(look.faults.items())[:FAULTS_SHOWN]
        ],
        "more_faults": max(0, len(look.faults) - FAULTS_SHOWN),
        "seconds": words.duration(gathered.seconds),
    }


def _rows_in_words(gathered: Gathered) -> str:
    look, added = gathered.look, gathered.added
    if gathered.looked_at_all and look.rows == added.tally.count:
        return f"all {words.count(look.rows)} rows"
    return (
        f"{words.count(look.rows)} of {words.count(added.tally.count)} rows, in {words.count(look.shards)} of "
        f"{words.count(added.totals.shards_done)} shards drawn at random"
    )


def _cards(gathered: Gathered, options: ReportOptions) -> list[Card]:
    """Return the rows that are shown: images as far as there is room for their pictures, then failed ones."""
    chance = Random(options.seed)  # noqa: S311  a sample that can be had again
    images, failed = list(gathered.look.images), list(gathered.look.failed)
    chance.shuffle(images)
    chance.shuffle(failed)
    room, shown = PICTURES_MAX, []
    for card in images[: options.thumbnails]:
        room -= len(card.picture or "")
        if room < 0:
            break
        shown.append(replace(card, caption=card.caption if gathered.look.has_captions else None))
    return [*shown, *failed[:CARDS_FAILED]]


def _shown(card: Card) -> dict[str, Any]:
    """Return what is shown of a row."""
    kind, said = KINDS.get(card.status, ("bad", "status unknown"))
    facts = []
    if card.original:
        facts.append(("received", f"{card.original[0]:,} × {card.original[1]:,} px"))
    if card.size:
        facts.append(("stored", f"{card.size[0]:,} × {card.size[1]:,} px"))
    if card.http_status is not None:
        facts.append(("HTTP status", str(card.http_status)))
    if card.attempts is not None:
        facts.append(("attempts", str(card.attempts)))
    if card.optout:
        facts.append(("reservation", words.cut(card.optout, TEXT_MOST)))
    return {
        "key": words.cut(card.key, 40),
        "status": card.status if card.status in KINDS else "unknown",
        "kind": kind,
        "said": said,
        "url": words.cut(card.url, URL_MOST),
        "caption": None if card.caption is None else words.cut(card.caption, CAPTION_MOST),
        "reason": words.cut(card.error_class, 60),
        "message": words.cut(card.message, TEXT_MOST),
        "facts": facts,
        "picture": card.picture,
        "width": card.picture_size[0],
        "height": card.picture_size[1],
    }


def _sheet(gathered: Gathered, cards: Sequence[Card], options: ReportOptions) -> dict[str, Any]:
    """Return what is said of the rows that are shown, and by what they can be chosen."""
    counts = Counter(card.status for card in cards)
    reasons = Counter(card.error_class for card in cards if card.error_class)
    tally = gathered.added.tally
    pictures = sum(card.picture is not None for card in cards)
    return {
        "count": len(cards),
        "pictures": pictures,
        "described": (
            f"{words.count(counts[str(Status.SUCCESS)])} of {words.count(tally.successes)} images and "
            f"{words.count(len(cards) - counts[str(Status.SUCCESS)])} of {words.count(tally.count - tally.successes)} "
            "failed rows"
        ),
        "no_thumbnails": options.thumbnails == 0,
        "statuses": [
            {"value": status, "said": said, "count": words.count(counts[status])}
            for status, (_, said) in KINDS.items()
            if counts[status]
        ],
        "reasons": [{"value": name, "count": count} for name, count in reasons.most_common()],
        "has_captions": gathered.look.has_captions,
    }
