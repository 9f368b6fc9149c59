"""Where each microsecond goes: the CPU time of every stage by itself, and a profile of a whole run.

A stage is a call that is repeated until its time is well above the clock's grain; of some such repetitions the median
counts. CPU time is that of the process, so a busy machine makes it noisier, not larger by what others do.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import random
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
from PIL import Image

import corpus
import flames
import libraries
import report
from async_img2ds.fetch.pacer import Pacer
from async_img2ds.fetch.resolver import Resolver
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer, exif_json
from async_img2ds.options import DEFAULT_DISALLOWED_DIRECTIVES, ImageOptions
from async_img2ds.outputs.base import Output
from async_img2ds.outputs.tar import member
from async_img2ds.policy import urls
from async_img2ds.policy.host import Manners
from async_img2ds.policy.optout import reserving_rules
from async_img2ds.policy.schema import Columns, SampleTable
from async_img2ds.records import Encoded, Row, Sample, Status
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["examine"]

REPEATS: Final = 9
REPEAT_S: Final = 0.05
# Of each kind of image so many take part; there are six GIFs in the corpus.
IMAGES_OF_A_KIND: Final = 24
SHARD_ROWS: Final = 10_000
# What a stored image of 256 pixels takes, about.
IMAGE_BYTES: Final = 30_000
PROFILED_ROWS: Final = 3_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What one of something costs in CPU microseconds: the median of the repetitions, and the least of them."""

    cpu_us: float
    least_us: float
    each: str


def examine(folder: Path, rows: int | None) -> int:
    """Measure every stage, and profile a clean run of *rows* images; keep both."""
    codec.prepare()
    about = {"machine": report.machine(), **report.moment()}
    costs = dict(_costs())
    flame = flames.record(folder, rows or PROFILED_ROWS)
    by_library = libraries.shares(folder, rows or PROFILED_ROWS)
    found = {
        "benchmark": "stages",
        **about,
        "load_after": report.load(),
        "versions": report.own_versions(),
        "stages": {
            name: {"cpu_us": cost.cpu_us, "least_us": cost.least_us, "each": cost.each} for name, cost in costs.items()
        },
        "cpu_percent_by_library": by_library,
    }
    rows_of_table = [[name, f"{cost.cpu_us:.2f}", f"{cost.least_us:.2f}", cost.each] for name, cost in costs.items()]
    page = [
        "# stages",
        "",
        "CPU time of each stage by itself, in microseconds. Pixels are decoded, placed and encoded again.",
        "",
    ]
    page += report.table(["stage", "median µs", "least µs", "per"], rows_of_table)
    page += ["", ", ".join(f"{name} {number}" for name, number in report.own_versions().items())]
    if by_library:
        kinds = next(iter(by_library.values()))
        page += [
            "",
            f"CPU time of whole runs of {rows or PROFILED_ROWS} images, starting included, sampled by perf:",
            "",
        ]
        table = [[kind, *(f"{shares[kind]:.1f} %" for shares in by_library.values())] for kind in kinds]
        page += report.table(["where", *by_library], table)
    kept = report.keep("stages", found, page)
    if flame is not None:
        beside = kept.with_name(f"{kept.stem}-profile.svg")
        beside.write_bytes(flame.read_bytes())
        with kept.open("a") as more:
            more.write(
                f"\nA clean run of {rows or PROFILED_ROWS} images, sampled by py-spy:\n\n![profile]({beside.name})\n"
            )
    return 0


def _costs() -> Iterator[tuple[str, Cost]]:
    for name, (each, stage) in STAGES.items():
        with contextmanager(stage)() as (call, count):
            cost = _cost(call, count, each)
        print(f"{name}: {cost.cpu_us:.2f} µs per {each}", flush=True)
        yield name, cost


def _cost(call: Callable[[], object], count: int, each: str) -> Cost:
    """Return what one of the *count* things that *call* does costs."""
    call()
    loops = 1
    while (taken := _cpu_s(call, loops)) < REPEAT_S:
        loops = max(loops + 1, min(10 * loops, round(1.2 * loops * REPEAT_S / max(taken, 1e-6))))
    costs = [1e6 * _cpu_s(call, loops) / loops / count for _ in range(REPEATS)]
    return Cost(round(median(costs), 3), round(min(costs), 3), each)


def _cpu_s(call: Callable[[], object], loops: int) -> float:
    began = time.process_time()
    for _ in range(loops):
        call()
    return time.process_time() - began


# What a stage yields: the call to repeat, and how many of the things it names one call does.
Prepared = Iterator[tuple[Callable[[], object], int]]


def _images(kind: str, *, exact: bool = False) -> Callable[[], Prepared]:
    def stage() -> Prepared:
        transform = Transformer(ImageOptions(compute_hash=None, extract_exif=False, exact_decode=exact))
        bodies = _bodies(kind)
        yield lambda: [transform(body) for body in bodies], len(bodies)

    return stage


def _hash() -> Prepared:
    bodies = [path.read_bytes() for path in sorted(corpus.images().iterdir())]
    yield lambda: [hashlib.sha256(body).hexdigest() for body in bodies], len(bodies)


def _exif() -> Prepared:
    bodies = [body for kind in ("baseline", "progressive", "png", "webp") for body in _bodies(kind)]
    yield lambda: [exif_json(body) for body in bodies], len(bodies)


def _tar_member() -> Prepared:
    content = bytes(IMAGE_BYTES)
    yield lambda: member("000000123.jpg", content), 1


def _tar_member_of_python() -> Prepared:
    content = bytes(IMAGE_BYTES)

    def add() -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for _ in range(100):
                about = tarfile.TarInfo("000000123.jpg")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))

    yield add, 100


def _metadata_row() -> Prepared:
    table, sample = SampleTable(_listed(), _COLUMNS), _sample(1)

    def add() -> None:
        fresh = table.fresh()
        for _ in range(1000):
            fresh.add(sample)

    yield add, 1000


def _metadata_table() -> Prepared:
    table = SampleTable(_listed(), _COLUMNS)
    for index in range(SHARD_ROWS):
        table.add(_sample(index))
    yield table.to_arrow, SHARD_ROWS


def _metadata_json() -> Prepared:
    attempt: Any = None  # JSON is made without touching files
    output = Output(attempt, "00000", _listed(), _COLUMNS, "jpg", captions=False)
    sample = _sample(1)
    output.record(sample)
    yield lambda: output.record(sample), 1


def _pacer() -> Prepared:
    rows = [Row(index, f"{index:09}", _url(index)) for index in range(SHARD_ROWS)]

    async def pace() -> None:
        pacer = Pacer(in_flight_max=256, held_bytes_max=2**27, manners=lambda _: Manners(32))
        async for turn in pacer.turns(rows):
            turn.end()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        yield lambda: runner.run(pace()), SHARD_ROWS


def _url_parse() -> Prepared:
    texts = [_url(index) for index in range(1000)]
    yield lambda: [urls.parse(text) for text in texts], len(texts)


def _dns_cache() -> Prepared:
    async def look_up(resolver: Resolver) -> None:
        for index in range(1000):
            await resolver.look_up(f"images-{index % 200}.example.org")

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        resolver = Resolver(cast("Any", _Known()), time.monotonic)
        yield lambda: runner.run(look_up(resolver)), 1000


class _Known:
    """Knows every name at once, so that what is measured is the memory before it."""

    async def getaddrinfo(self, _name: str, **_: object) -> object:
        return SimpleNamespace(nodes=[SimpleNamespace(family=socket.AF_INET, ttl=300, addr=(b"127.0.0.1", 0))])


def _opt_out(lines: list[str]) -> Callable[[], Prepared]:
    def stage() -> Prepared:
        directives = frozenset(DEFAULT_DISALLOWED_DIRECTIVES)
        yield lambda: reserving_rules(lines, directives, 0.0), 1

    return stage


# Name → what one of it is, and how it is prepared.
STAGES: Final[dict[str, tuple[str, Callable[[], Prepared]]]] = {
    "pixels: baseline JPEG": ("image", _images("baseline")),
    "pixels: baseline JPEG, exact": ("image", _images("baseline", exact=True)),
    "pixels: progressive JPEG": ("image", _images("progressive")),
    "pixels: progressive JPEG, exact": ("image", _images("progressive", exact=True)),
    "pixels: PNG": ("image", _images("png")),
    "pixels: WebP": ("image", _images("webp")),
    "pixels: GIF": ("image", _images("gif")),
    "sha256 of a body": ("image", _hash),
    "EXIF of a body": ("image", _exif),
    "tar member": ("member", _tar_member),
    "tar member by tarfile": ("member", _tar_member_of_python),
    "metadata: a row": ("row", _metadata_row),
    "metadata: the table": ("row", _metadata_table),
    "metadata: a sample as JSON": ("sample", _metadata_json),
    "parse a URL": ("URL", _url_parse),
    "pacer, parsing included": ("row", _pacer),
    "DNS cache, found": ("look-up", _dns_cache),
    "opt-out: no header": ("answer", _opt_out([])),
    "opt-out: a short header": ("answer", _opt_out(["otherbot: noai, noindex"])),
    "opt-out: a long header": (
        "answer",
        _opt_out(["max-snippet: 50, unavailable_after: Wed, 01 Jan 2031 00:00:00 GMT", "nofollow, otherbot: noai"] * 4),
    ),
}

_COLUMNS: Final = Columns(exif=True, digest="sha256")


@functools.cache
def _bodies(kind: str) -> list[bytes]:
    """Return some images of the corpus that are of *kind*."""
    found = []
    for path in sorted(corpus.images().iterdir()):
        with Image.open(path) as image:
            progressive = "progressive" if image.info.get("progressive") else "baseline"
            seen = progressive if image.format == "JPEG" else str(image.format).lower()
        if seen == kind:
            found.append(path.read_bytes())
    return random.Random(0).sample(found, min(IMAGES_OF_A_KIND, len(found)))


def _url(index: int) -> str:
    return f"https://images-{index % 200}.example.org/photographs/2025/06/{index:09}.jpg?width=700"


@functools.cache
def _listed() -> pa.Table:
    return pa.table({"url": [_url(index) for index in range(SHARD_ROWS)]})


def _sample(index: int) -> Sample:
    encoded = Encoded(bytes(IMAGE_BYTES), 256, 256, 700, 500, '{"Image Make": "Nikon"}', 64 * "0")
    return Sample(Row(index, f"{index:09}", _url(index)), Status.SUCCESS, encoded, None, None, 200, 1, 147_000)
