"""What happens in a run, drawn from a seed: the list, the hosts it leads to, the options, and all that goes wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLASSES", "Line", "Script", "Site", "written"]

# Kind of host → what its rows may come to, "" being an image. Anything else is a mistake.
CLASSES: Final[Mapping[str, frozenset[str]]] = {
    "good": frozenset({""}),
    "slow": frozenset({""}),
    "crowded": frozenset({""}),
    "gone": frozenset({"http_status_4xx"}),
    "refusing": frozenset({"connect_refused", "host_circuit_open"}),
    "dead": frozenset({"connect_timeout", "host_circuit_open"}),
    "silent": frozenset({"read_timeout", "host_circuit_open"}),
    "nameless": frozenset({"dns_nxdomain"}),
    "lost-name": frozenset({"dns_timeout", "host_circuit_open"}),
    "dripping": frozenset({"too_slow", "total_timeout", "host_circuit_open"}),
    "resetting": frozenset({"", "connect_reset", "body_reset", "host_circuit_open"}),
    "strained": frozenset({"", "http_status_5xx"}),
    "limited": frozenset({"", "http_rate_limited"}),
    "flapping": frozenset({"", "connect_refused", "connect_timeout", "host_circuit_open"}),
}
_COMMON: Final = ("good", "good", "good", "slow", "crowded")
_ROTTEN: Final = tuple(kind for kind in CLASSES if kind not in _COMMON)
# Where in the life of a worker it may be killed.
MOMENTS: Final = ("shard", "ask", "answer", "sample", "stage", "publish", "published", "report")


@dataclass(frozen=True, slots=True)
class Site:
    """A host.

    Attributes:
        name: what URLs call it.
        kind: how it behaves, a key of CLASSES.
        address: where it is; others may be there, too.
        latency_s: how long its answers take on average.
        rate: requests a second that a limited one bears.
        retry_after_s: what it says then; None if nothing.
        down: when a flapping one is not there, as pairs of seconds.
        down_silently: whether it does not even refuse then.

    """

    name: str
    kind: str
    address: str
    latency_s: float
    rate: float = math.inf
    retry_after_s: int | None = None
    down: tuple[tuple[float, float], ...] = ()
    down_silently: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the list, and what it may come to."""

    url: str | None
    classes: frozenset[str]
    host: str = ""
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """A run.

    Attributes:
        sites: the hosts by name.
        shards: the list, cut.
        options: as the command takes them.
        rules: what is said of single hosts, as TOML.
        processes: workers at a time.
        cores: of each.
        poison: the URL that kills whoever makes an image of it; None if there is none.
        kills: when to kill whom it happens to: the so many-eth time of one of MOMENTS.
        starts: what is wrong with the start of the so many-eth worker: seconds that it hangs, or that it dies (0).
        outages: when nothing can be reached, as pairs of seconds.
        shortages: when there are no descriptors for most requests, likewise.
        full: the so many-eth file that there is no room for on the disk, or that it fails to take.
        stops: when the run is asked to stop, in seconds; it is begun again after that.
        slow_list_s: how long the list takes to yield a shard.

    """

    seed: int
    sites: Mapping[str, Site]
    shards: tuple[tuple[Line, ...], ...]
    options: Mapping[str, Any]
    rules: str
    processes: int
    cores: int
    poison: str | None = None
    kills: tuple[tuple[str, int], ...] = ()
    starts: Mapping[int, float] = field(default_factory=dict)
    outages: tuple[tuple[float, float], ...] = ()
    shortages: tuple[tuple[float, float], ...] = ()
    full: frozenset[int] = frozenset()
    stops: tuple[float, ...] = ()
    slow_list_s: float = 0.0

    @property
    def lines(self) -> int:
        """How many rows the list has."""
        return sum(map(len, self.shards))

    def longest_s(self) -> float:
        """Return how long the run may take at the most.

        Each shard by itself, the rows of a host one after the other, each with all its attempts and the longest wait
        before each; all of it again for each thing that goes wrong.
        """
        retries, timeout = self.options["retries"], self.options["timeout"]
        gap_s = 4.0 + (self.options["crawl_delay"] + 2.0) * self.processes
        row_s = (retries + 1) * (6 * timeout + 60.0 + 60.0 + gap_s)
        once_s = 0.0
        for shard in self.shards:
            by_host: dict[str, int] = {}
            for line in shard:
                by_host[line.host] = by_host.get(line.host, 0) + 1
            once_s += row_s * (1 + max(by_host.values())) + self.slow_list_s
        again = 1 + len(self.kills) + 5 * bool(self.poison) + len(self.full) + len(self.stops) + len(self.outages)
        waited_s = sum(end - begin for begin, end in (*self.outages, *self.shortages)) + sum(self.starts.values())
        return again * once_s + waited_s + 600.0


def written(seed: int) -> Script:
    """Write the script of *seed*."""
    chance = Random(f"script {seed}")
    sites = _sites(chance)
    options: dict[str, Any] = {
        "url_list": "none",
        "output_format": chance.choice(("parquet", "parquet", "webdataset", "files")),
        "ordered": chance.random() < 0.25,
        "number_sample_per_shard": chance.choice((8, 20, 50)),
        "max_shard_retry": 3,  # an outage of an hour, and a disk that is full twice
        "timeout": chance.choice((5.0, 10.0)),
        "retries": chance.choice((0, 1, 2, 2, 3)),
        "max_per_host": chance.choice((1, 2, 3, 8, 64)),
        "crawl_delay": chance.choice((0.0, 0.0, 0.0, 0.5, 2.0)),
        "thread_count": chance.choice((None, 3, 16, 64)),
        "in_flight_bytes_max": chance.choice((3_000, 50_000, 2**28)),
        "grace_s": chance.choice((0.0, 5.0, 30.0)),
    }
    shards = _shards(chance, list(sites.values()), options["number_sample_per_shard"])
    candidates = [line for shard in shards for line in shard if sites.get(line.host, _NOWHERE).kind == "good"]
    poison = chance.choice(candidates).url if candidates and chance.random() < 0.25 else None
    return Script(
        seed=seed,
        sites=sites,
        shards=shards,
        options=options,
        rules=_rules(chance, list(sites)),
        processes=chance.choice((1, 2, 2, 3, 4)),
        cores=chance.choice((1, 2)),
        poison=poison,
        kills=_kills(chance),
        starts=_starts(chance),
        outages=_times(chance, 0.35, (5.0, 400.0), (1.0, 90.0), rare=(0.04, (3650.0, 4500.0))),
        shortages=_times(chance, 0.25, (1.0, 300.0), (1.0, 60.0)),
        full=frozenset(chance.sample(range(40), chance.randint(1, 2))) if chance.random() < 0.25 else frozenset(),
        stops=tuple(sorted(chance.uniform(1.0, 120.0) for _ in range(2))) if chance.random() < 0.25 else (),
        slow_list_s=chance.choice((0.0, 0.0, 0.2, 5.0)),
    )


_NOWHERE: Final = Site("", "", "", 0.0)


def _sites(chance: Random) -> dict[str, Site]:
    rotten = chance.sample(_ROTTEN, chance.randint(1, 6))
    kinds = [chance.choice(_COMMON) for _ in range(chance.randint(2, 10))] + rotten
    shared = f"9.9.{chance.randrange(200)}.1"
    sites = {}
    for number, kind in enumerate(kinds):
        begins = sorted(chance.uniform(0, 600) for _ in range(chance.randint(1, 4)))
        site = Site(
            name=f"{kind}-{number}.example",
            kind=kind,
            address=shared if chance.random() < 0.3 else f"8.8.{number}.8",
            latency_s=chance.uniform(1.5, 2.5) if kind == "slow" else chance.uniform(0.01, 0.6),
            rate=chance.choice((0.5, 2.0, 10.0)) if kind == "limited" else math.inf,
            retry_after_s=chance.choice((None, 1, 7, 45, 300)) if kind in ("limited", "strained") else None,
            down=tuple((begin, begin + chance.uniform(2, 200)) for begin in begins) if kind == "flapping" else (),
            down_silently=chance.random() < 0.4,
        )
        sites[site.name] = site
    return sites


def _shards(chance: Random, sites: list[Site], rows: int) -> tuple[tuple[Line, ...], ...]:
    weights = [chance.choice((1, 1, 2, 8)) for _ in sites]
    living = [site for site in sites if CLASSES[site.kind] == {""}] or sites
    shards = []
    for number in range(chance.randint(2, 14)):
        count = rows if chance.random() < 0.9 else chance.randint(1, rows)
        lines = [_line(chance, chance.choices(sites, weights)[0], living, f"{number}-{row}") for row in range(count)]
        shards.append(tuple(lines))
    return tuple(shards)


def _line(chance: Random, site: Site, living: list[Site], name: str) -> Line:
    drawn = chance.random()
    if drawn < 0.01:
        return Line(chance.choice((None, "", "no url", "http://")), frozenset({"url_invalid", "url_scheme"}))
    url = f"http://{site.name}/{name}.jpg"
    if drawn < 0.02:
        return Line(url, frozenset({"duplicate"}), site.name, is_repeat=True)
    if CLASSES[site.kind] == {""}:
        if drawn < 0.05:
            return Line(f"http://{site.name}/broken-{name}.jpg", frozenset({"decode_error"}), site.name)
        if drawn < 0.10:
            onward = chance.choice(living)
            return Line(f"http://{site.name}/to/{onward.name}/{name}.jpg", CLASSES[onward.kind], site.name)
        if drawn < 0.12:
            return Line(f"http://{site.name}/missing-{name}.jpg", CLASSES["gone"], site.name)
    return Line(url, CLASSES[site.kind], site.name)


def _rules(chance: Random, names: list[str]) -> str:
    rules = ""
    for name in chance.sample(names, chance.randint(0, 2)):
        rules += f'["{name}"]\nmax_per_host = {chance.randint(1, 6)}\ncrawl_delay = {chance.choice((0.0, 0.3, 2.0))}\n'
    return rules


def _kills(chance: Random) -> tuple[tuple[str, int], ...]:
    if chance.random() < 0.4:
        return ()
    often = {"ask": 200, "answer": 200, "sample": 200}
    moments = [chance.choice(MOMENTS) for _ in range(chance.randint(1, 5))]
    return tuple((moment, chance.randint(1, often.get(moment, 12))) for moment in moments)


def _starts(chance: Random) -> dict[int, float]:
    if chance.random() < 0.7:
        return {}
    wrong = {chance.randint(1, 4): 0.0, chance.randint(1, 6): chance.uniform(30.0, 900.0)}
    return dict(sorted(wrong.items()))


def _times(
    chance: Random,
    share: float,
    begin: tuple[float, float],
    length: tuple[float, float],
    rare: tuple[float, tuple[float, float]] = (0.0, (0.0, 0.0)),
) -> tuple[tuple[float, float], ...]:
    """Return when something is wrong in a *share* of runs, from *begin* on for so long; in a *rare* one, for longer."""
    if chance.random() >= share:
        return ()
    lasting = chance.uniform(*rare[1]) if chance.random() < rare[0] else chance.uniform(*length)
    at = chance.uniform(*begin)
    return ((at, at + lasting),)
