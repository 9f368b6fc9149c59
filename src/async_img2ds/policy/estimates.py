"""What a random sample of a list says of the whole, each figure with how far off it may be, and which settings fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass
from async_img2ds.policy.limits import Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Estimate",
    "Pace",
    "Setting",
    "Wanted",
    "host_hours",
    "mean_of",
    "middle_rate",
    "pace_of",
    "percentile",
    "settings_for",
    "share_of",
]

# 95 of 100 intervals hold the truth.
_SIDES: Final = 1.959964
_TAIL: Final = 0.025
# Resamples of a bootstrap: enough for its 2.5th and 97.5th percentiles, and no more numbers drawn than this in all.
RESAMPLES: Final = 400
DRAWN_MOST: Final = 1_000_000
# Answers of which the middle half says how fast they came.
ANSWERS_LEAST: Final = 20

# A shard of this size is quickly moved and read, and one that is lost is quickly done again; stores and file systems
# dislike much smaller ones in great numbers.
SHARD_BYTES: Final = 256 * 10**6
SHARD_BYTES_MOST: Final = 10**9
SHARD_ROWS_LEAST: Final = 1_000
SHARD_ROWS_MOST: Final = 10_000
# For each process, so that the last of them to end is not waited for long.
SHARDS_EACH: Final = 4
# As files by themselves, each with a text and a JSON, more images are a burden to any file system.
FILES_MOST: Final = 1_000_000
# From these shares on something is said.
DNS_SHARE: Final = 0.05
LIMIT_SHARE: Final = 0.2
REPEATS_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure: how much it is likely to be, and between *low* and *high* in 95 of 100 cases unless *how* says less."""

    likely: float
    low: float
    high: float
    how: str = ""

    def times(self, factor: float) -> Estimate:
        """Return it for so many."""
        return Estimate(self.likely * factor, self.low * factor, self.high * factor, self.how)


def share_of(part: int, whole: int) -> Estimate:
    """Return of what share *part* of *whole* drawn tells (Wilson's interval), which holds for few and for none, too."""
    if not whole:
        return Estimate(math.nan, 0.0, 1.0, "nothing was drawn")
    share, squared = part / whole, _SIDES**2
    middle = (share + squared / (2 * whole)) / (1 + squared / whole)
    side = _SIDES / (1 + squared / whole) * math.sqrt(share * (1 - share) / whole + squared / (4 * whole**2))
    return Estimate(share, max(0.0, middle - side), min(1.0, middle + side), "Wilson's 95 % interval")


def mean_of(values: Sequence[float], resample: Callable[[Sequence[float]], Sequence[float]]) -> Estimate:
    """Return the mean that *values* drawn tell of (bootstrap); *resample* draws as many of them, with repeats."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan, "nothing was drawn")
    times = max(20, min(RESAMPLES, DRAWN_MOST // len(values)))
    means = sorted(math.fsum(resample(values)) / len(values) for _ in range(times))
    likely = math.fsum(values) / len(values)
    return Estimate(likely, percentile(means, _TAIL), percentile(means, 1 - _TAIL), "bootstrap, 95 %")


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a *share* of *ordered* values lies, between two of them if need be; NaN of none."""
    if not ordered:
        return math.nan
    place = share * (len(ordered) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def middle_rate(answered_at: Sequence[float], rows: int) -> float | None:
    """Return rows a second in the middle half of the answers, which came at these moments; None if they are few.

    Neither the start of processes nor the last, slow rows are in it.
    """
    ordered = sorted(answered_at)
    if len(ordered) < ANSWERS_LEAST:
        return None
    first, last = percentile(ordered, 0.25), percentile(ordered, 0.75)
    return 0.5 * rows / (last - first) if last > first else None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a sample was: rows a second from start to end, and in the middle of it, None if that is not known."""

    overall: float
    middle: float | None


def pace_of(pace: Pace) -> Estimate:
    """Return rows a second that a long run may make, going by *pace*: between both, and by no law of chance."""
    high = max(pace.overall, pace.middle or 0.0)
    how = (
        "rough: between the whole sample, with its start and its slowest rows, and its middle half"
        if pace.middle
        else "rough: the whole sample, with its start and its slowest rows; too few answers for more"
    )
    return Estimate(math.sqrt(pace.overall * high), pace.overall, high, how)


def host_hours(rows: int, at_a_time: int, fetching_s: float, each_s: float) -> float:
    """Return how long the *rows* of one host take by themselves, in hours.

    It is asked for so many at a time, each of which takes *fetching_s*, and every *each_s* seconds.
    """
    return rows * max(each_s, fetching_s / at_a_time) / 3600


@dataclass(frozen=True, slots=True)
class Wanted:
    """What settings are chosen by: the list, the machine, and what the sample came to.

    Attributes:
        rows: rows of the list.
        repeats: those whose URL came before.
        is_deduped: whether these are left out.
        image_bytes: what is stored for each row, failed ones included.
        image_share: rows that become an image.
        output_format: how images are stored.
        rows_per_shard: as the options have it.
        shard_digits: digits of a shard's number.
        cores: that may be used here.
        processes: that the sample was fetched with.
        threads: rows under way in each, None for what it chooses itself.
        limits: what the sample waited for, as shares of its time.
        errors: failed rows of the sample by reason, as shares of all.
        has_servers: whether name servers were named.

    """

    rows: int
    repeats: int
    is_deduped: bool
    image_bytes: float
    image_share: float
    output_format: str
    rows_per_shard: int
    shard_digits: int
    cores: int
    processes: int
    threads: int | None
    limits: Mapping[str, float]
    errors: Mapping[str, float]
    has_servers: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """An option, the *value* to give it, and why. It *is_change* if that is not what it has now."""

    option: str
    value: str
    why: str
    is_change: bool = False


def settings_for(wanted: Wanted) -> list[Setting]:
    """Return the settings to use, those first that any run has."""
    settings = [_processes(wanted), _threads(wanted), *_shards(wanted), _name_servers(wanted)]
    if wanted.output_format == "files" and wanted.rows * wanted.image_share > FILES_MOST:
        why = "so many images as files by themselves are a burden to any file system"
        settings.append(Setting("output_format", "webdataset", why, is_change=True))
    if not wanted.is_deduped and wanted.repeats > REPEATS_SHARE * wanted.rows:
        why = f"{wanted.repeats / wanted.rows:.0%} of the rows have a URL that came before; each is then fetched once"
        settings.append(Setting("dedupe", "True", why, is_change=True))
    return settings


def _processes(wanted: Wanted) -> Setting:
    if wanted.limits.get(Limit.CPU, 0.0) >= LIMIT_SHARE:
        why = "a process a core; the CPU was what the sample waited for, so more cores or machines shorten it"
    else:
        why = "a process a core; the CPU was not what the sample waited for"
    return Setting("processes_count", str(wanted.cores), why, is_change=wanted.processes != wanted.cores)


def _threads(wanted: Wanted) -> Setting:
    if wanted.threads is None:
        return Setting("thread_count", "auto", "each process finds by itself how many URLs under way pay")
    if wanted.limits.get(Limit.NETWORK, 0.0) >= LIMIT_SHARE:
        why = f"the sample waited for servers with {wanted.threads}; auto goes up to 1024 while that pays"
        return Setting("thread_count", "auto", why, is_change=True)
    return Setting("thread_count", str(wanted.threads), "as given; the sample did not wait for servers")


def _shards(wanted: Wanted) -> list[Setting]:
    rows = _rows_per_shard(wanted)
    shards = max(1, -(-wanted.rows // rows))
    why = f"{shards:,} {'shard' if shards == 1 else 'shards'} of about {rows * wanted.image_bytes / 1e6:,.0f} MB"
    settings = [Setting("number_sample_per_shard", str(rows), why, is_change=rows != wanted.rows_per_shard)]
    digits = len(str(shards - 1))
    if digits > wanted.shard_digits:
        why = "so that the names of all shards are of one length and sort by number"
        settings.append(Setting("oom_shard_count", str(digits), why, is_change=True))
    return settings


def _rows_per_shard(wanted: Wanted) -> int:
    """Return how many rows a shard should have: as it is, unless its size or the number of shards is a trouble."""
    each, now = wanted.image_bytes, wanted.rows_per_shard
    fit = max(SHARD_ROWS_LEAST, _round(SHARD_BYTES / each)) if each * now > SHARD_BYTES_MOST else now
    shared = wanted.rows // (SHARDS_EACH * wanted.cores)
    if fit > shared and wanted.rows > SHARDS_EACH * wanted.cores * SHARD_ROWS_LEAST:
        fit = max(SHARD_ROWS_LEAST, _round(shared))
    return fit


def _round(rows: float) -> int:
    """Return *rows* with one digit that is not 0, no more than there are."""
    power = 10 ** max(0, math.floor(math.log10(max(1.0, rows))))
    return int(rows // power * power)


def _name_servers(wanted: Wanted) -> Setting:
    failing = sum(wanted.errors.get(name, 0.0) for name in (ErrorClass.DNS_TIMEOUT, ErrorClass.DNS_SERVFAIL))
    waited = wanted.limits.get(Limit.DNS, 0.0)
    if failing < DNS_SHARE and waited < LIMIT_SHARE:
        return Setting("dns_servers", "as they are", "names were looked up well; aimg2ds doctor LIST says how fast")
    said = (
        f"{failing:.0%} of rows failed by name servers" if failing >= DNS_SHARE else f"DNS was {waited:.0%} of waiting"
    )
    what = "others than these" if wanted.has_servers else "127.0.0.1"
    why = f"{said}; a resolver on this machine that caches, such as unbound, bears more"
    return Setting("dns_servers", what, why, is_change=True)
