"""The scenarios, as a table: what is served, who takes part and is told what, and what must come out.

Figures are those of :func:`contest.figures_of`. A target compares one entry's figure with another's in the same round,
and of all rounds the median counts.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import open_web
import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from web import Web

__all__ = ["SCENARIOS", "Entry", "Round", "Scenario", "Target", "start_of", "value_of"]

# Entry → figure → value.
Round = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One that takes part.

    Attributes:
        program: its name in ``peers.PROGRAMS``.
        changes: what its task has otherwise than a plain one.
        urls: the list it is given; what ``start`` takes is taken off what other entries of the same program take.
        stop_after_s: when it is sent SIGTERM; the list need not be done.
        whole: whether it must come to an image for every row that is served.

    """

    program: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    urls: str = "urls"
    stop_after_s: float | None = None
    whole: bool = True


def start_of(program: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Entry:
    """Return an entry that shows what *program* takes to start and end: a shard of a few rows for each process.

    No more shards than that: img2dataset replaces a process that has done five.
    """
    return Entry(program, {**changes, "shards": 2}, urls="start")


@dataclass(frozen=True, slots=True)
class Target:
    """The *figure* of an entry, by itself or divided by that of *against*, is *most* at most."""

    figure: str
    of: str
    most: float
    against: str | None = None

    def __str__(self) -> str:
        return f"{self.figure}: {self.of}" + (f" ÷ {self.against}" if self.against else "")


def value_of(target: Target, rounds: list[Round]) -> float | None:
    """Return what a target is about: the median over *rounds*; None if no round has what it takes."""
    values = []
    for entries in rounds:
        above = entries.get(target.of, {}).get(target.figure)
        below = entries.get(target.against, {}).get(target.figure) if target.against else 1.0
        if above is not None and below:
            values.append(above / below)
    return median(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One comparison.

    Attributes:
        about: what it is, in a sentence.
        rows: of its list, unless others are asked for.
        serve: yields the web, given a folder and the rows.
        entries: who takes part, in the order they run in every round.
        targets: what must come out.
        charted: the figures to draw.

    """

    about: str
    rows: int
    serve: Callable[[Path, int], AbstractContextManager[Web]]
    entries: Mapping[str, Entry]
    targets: tuple[Target, ...] = ()
    charted: tuple[str, ...] = ("cpu_ms_per_row", "rows_per_s")


NETWORK: Final = {"output_format": "dummy", "pixels": False}
IN_FLIGHT: Final = (64, 256, 1024)
LENGTHS: Final = (10**4, 10**5, 10**6)


def _network_entries() -> dict[str, Entry]:
    entries = {f"{program}, start": start_of(program, NETWORK) for program in ("ours", "img2dataset")}
    for in_flight in IN_FLIGHT:
        changes = {**NETWORK, "in_flight": in_flight}
        for program in ("ours", "img2dataset", "bare requests"):
            entries[f"{program}, {in_flight}"] = Entry(program, changes)
    return entries


@contextmanager
def _growing(folder: Path, rows: int) -> Iterator[Web]:
    """Serve lists of 10^4, 10^5 and 10^6 rows, none longer than *rows*."""
    with web.many_lengths(folder, [length for length in LENGTHS if length <= rows]) as served:
        yield served


SCENARIOS: Final[dict[str, Scenario]] = {
    "clean": Scenario(
        about="Corpus images over HTTP from 200 hosts into webdataset: 256 pixels with a border, sha256, EXIF; "
        "two processes.",
        rows=6_000,
        serve=web.http,
        entries={
            "ours": Entry("ours"),
            "img2dataset": Entry("img2dataset"),
            "ours, exact": Entry("ours", {"exact": True}),
            "daft": Entry("daft"),
            "bare pixels": Entry("bare pixels"),
            "bare pixels, exact": Entry("bare pixels", {"exact": True}),
            "bare pixels, two at once": Entry("bare pixels", {"words": ("--beside",)}),
        },
        targets=(
            Target("cpu_s", "ours", 0.45, "img2dataset"),
            Target("wall_s", "ours", 0.45, "img2dataset"),
            Target("wall_s", "ours", 0.30, "daft"),
            Target("cpu_ms_per_row", "ours", 1.25, "bare pixels"),
        ),
    ),
    "safety": Scenario(
        about="The clean list, with what was fetched kept in journals until its shard is finished, as by default; "
        "without; and with the rows in the order of the list.",
        rows=6_000,
        serve=web.http,
        entries={
            "ours": Entry("ours"),
            "ours, no journal": Entry("ours", {"words": ("--resume_within_shard", "False")}),
            "ours, ordered": Entry("ours", {"words": ("--ordered", "True")}),
        },
        targets=(
            Target("cpu_s", "ours", 1.02, "ours, no journal"),
            Target("wall_s", "ours", 1.02, "ours, no journal"),
            Target("cpu_s", "ours, ordered", 1.05, "ours"),
            Target("wall_s", "ours, ordered", 1.05, "ours"),
        ),
    ),
    "trust": Scenario(
        about="The clean list, and the same with the checks of addresses, answers and images taken out of the program.",
        rows=6_000,
        serve=web.http,
        entries={"ours": Entry("ours"), "ours, unchecked": Entry("ours, unchecked")},
        targets=(Target("cpu_s", "ours", 1.03, "ours, unchecked"),),
    ),
    "https": Scenario(
        about="The same over HTTPS, with the system's bundle of authorities and a local one in SSL_CERT_FILE.",
        rows=3_000,
        serve=web.https,
        entries={"ours, start": start_of("ours"), "ours": Entry("ours"), "img2dataset": Entry("img2dataset")},
        targets=(
            Target("cpu_s", "ours", 0.13, "img2dataset"),
            Target("wall_s", "ours", 0.13, "img2dataset"),
        ),
    ),
    "network": Scenario(
        about="Small bodies from 200 hosts, stored nowhere and not decoded, with 64, 256 and 1,024 under way in each "
        "process; what a run of ten rows takes is taken off.",
        rows=60_000,
        serve=web.small_bodies,
        entries=_network_entries(),
        targets=(
            *(Target("cpu_ms_per_row", f"ours, {n}", 0.60, f"img2dataset, {n}") for n in IN_FLIGHT),
            Target("cpu_ms_per_row_running", "ours, 1024", 1.2, "ours, 64"),
        ),
        charted=("cpu_ms_per_row_running", "rows_per_s"),
    ),
    "rot": Scenario(
        about="Seven URLs of ten alive, two on 60 hosts that accept and never answer, one refused; no second attempts.",
        rows=3_000,
        serve=open_web.rotten,
        entries={"ours": Entry("ours", {"retries": 0}), "img2dataset": Entry("img2dataset", {"retries": 0})},
    ),
    "delay": Scenario(
        about="Corpus images from 200 hosts that answer after 0.2 s.",
        rows=3_000,
        serve=web.delayed,
        entries={"ours": Entry("ours"), "img2dataset": Entry("img2dataset")},
    ),
    "one-host": Scenario(
        about="Corpus images from a single host: ours asks it for 64 at a time over all processes, and keeps "
        "connections.",
        rows=3_000,
        serve=open_web.one_or_many,
        entries={"ours": Entry("ours", urls="one"), "img2dataset": Entry("img2dataset", urls="one")},
    ),
    "memory": Scenario(
        about="The first minute of a parquet list of 50 million rows with captions; and the clean list into "
        "webdataset, every other option its default.",
        rows=50_000_000,
        serve=web.long_list,
        entries={
            "ours, long list": Entry(
                "ours",
                {**NETWORK, "words": ("--caption_col", "caption", "--grace_s", "0")},
                urls="long",
                stop_after_s=60,
            ),
            "ours, defaults": Entry("ours", {"processes": None, "shards": None}),
            "img2dataset": Entry("img2dataset"),
        },
        targets=(
            Target("driver_rss_mb", "ours, long list", 250),
            Target("first_request_s", "ours, long list", 3.0),
            Target("worker_rss_mb", "ours, defaults", 350),
        ),
        charted=("driver_rss_mb", "worker_rss_mb"),
    ),
    "startup": Scenario(
        about="The help, and ten URLs from start to end.",
        rows=10,
        serve=web.http,
        entries={
            "our help": Entry("our help"),
            "img2dataset's help": Entry("img2dataset's help"),
            "ours": Entry("ours", {"processes": None, "shards": 1}),
            "img2dataset": Entry("img2dataset", {"processes": None, "shards": 1}),
        },
        targets=(Target("wall_s", "our help", 0.4), Target("wall_s", "ours", 1.5)),
        charted=("wall_s", "cpu_s"),
    ),
    "scaling": Scenario(
        about="The clean list with one process and with two.",
        rows=6_000,
        serve=web.http,
        entries={
            f"{program}, {count}": Entry(program, {"processes": count})
            for count in (1, 2)
            for program in ("ours", "img2dataset")
        },
    ),
    "web-rot": Scenario(
        about="Seven URLs of ten alive on 600 hosts, two on 60 hosts that accept and never answer, one refused; shards "
        "of 1,000; img2dataset with 64 threads a process, ours with every other default. And the live ones alone.",
        rows=3_000,
        serve=open_web.rotten,
        entries={
            "ours": Entry("ours", {"shards": 3}),
            "ours, live only": Entry("ours", {"shards": 3}, urls="live"),
            "img2dataset": Entry("img2dataset", {"shards": 3, "in_flight": 64}),
        },
        targets=(
            Target("wall_s", "ours", 0.27, "img2dataset"),
            Target("serving_s", "ours", 1 / 0.85, "ours, live only"),
        ),
        charted=("wall_s", "serving_s"),
    ),
    "web-late": Scenario(
        about="2,000 hosts that answer after 0.3 s, and the same that answer at once.",
        rows=6_000,
        serve=open_web.late,
        entries={
            "ours, late": Entry("ours", urls="late"),
            "ours, prompt": Entry("ours", urls="prompt"),
            "img2dataset, late": Entry("img2dataset", urls="late"),
        },
        targets=(Target("wall_s", "ours, late", 1.2, "ours, prompt"),),
        charted=("wall_s",),
    ),
    "web-one-host": Scenario(
        about="All URLs on one host, and the same on 200.",
        rows=6_000,
        serve=open_web.one_or_many,
        entries={
            "ours, one host": Entry("ours", urls="one"),
            "ours, 200 hosts": Entry("ours", urls="many"),
            "img2dataset, one host": Entry("img2dataset", urls="one"),
        },
        targets=(Target("wall_s", "ours, one host", 1 / 0.95, "ours, 200 hosts"),),
        charted=("wall_s",),
    ),
    "web-tarpit": Scenario(
        about="One host of a hundred accepts and never answers; and the others by themselves.",
        rows=6_000,
        serve=open_web.tarpit,
        entries={
            "ours": Entry("ours"),
            "ours, without it": Entry("ours", urls="live"),
            "img2dataset": Entry("img2dataset"),
        },
        targets=(Target("serving_s", "ours", 1 / 0.95, "ours, without it"),),
        charted=("wall_s", "serving_s"),
    ),
    "web-limit": Scenario(
        about="One host that answers 50 requests a second, ten at once more, and says 429 to what is beyond.",
        rows=3_000,
        serve=open_web.strict,
        entries={"ours": Entry("ours"), "img2dataset": Entry("img2dataset", {"retries": 2}, whole=False)},
        targets=(Target("failed_share", "ours", 0.005), Target("refused_share", "ours", 0.05)),
        charted=("wall_s", "refused_share"),
    ),
    "web-names": Scenario(
        about="Every URL on a host name of its own, looked up at unbound; and the same hosts by address.",
        rows=100_000,
        serve=open_web.by_name,
        entries={
            "ours, by name": Entry("ours", NETWORK, urls="names"),
            "ours, by address": Entry("ours", NETWORK, urls="addresses"),
        },
        targets=(Target("failed_share", "ours, by name", 0.0), Target("queries_each", "ours, by name", 1)),
        charted=("wall_s",),
    ),
    "growth": Scenario(
        about="Small bodies as in network, from lists of 10,000 to 1,000,000 rows; what a run of ten rows takes is "
        "taken off.",
        rows=10**6,
        serve=_growing,
        entries={
            "ours, start": start_of("ours", NETWORK),
            **{f"ours, {rows}": Entry("ours", NETWORK, urls=str(rows)) for rows in LENGTHS},
        },
        targets=(Target("cpu_ms_per_row_running", "ours, 1000000", 1.1, "ours, 10000"),),
        charted=("cpu_ms_per_row", "cpu_ms_per_row_running"),
    ),
}
