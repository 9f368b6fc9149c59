"""Photographs changed at random, through all that is done with a body: ``nox -s fuzz -- --minutes 10``.

Each input comes to an image or to the one failure that becomes a row. Anything else is a find: another exception, a
process that dies or does not come back. What did it is kept in a folder, and a seed gives the same inputs again.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hostile import images
from PIL import Image, features

import photographs as pictures
from async_img2ds.errors import TransformFailure
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer
from async_img2ds.options import ImageOptions
from handmade import saved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

__all__ = ["Found", "fuzz", "mutated"]

# The largest image that is decoded takes some seconds; the guard of a run gives up after 20 of CPU.
HANGS_S: Final = 60.0
TOLD_S: Final = 0.5
# What reaches most of the code that reads bodies: each way to place, encode and look.
OPTIONS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"resize_mode": "center_crop", "encode_format": "webp"},
    {"resize_mode": "no", "encode_format": "png", "encode_quality": 1},
    {"resize_mode": "keep_ratio_largest", "exact_decode": True, "convert_to_srgb": True},
    {"resize_mode": "keep_ratio", "skip_reencode": True, "resize_only_if_bigger": True},
    {"image_size": 64, "decode_also": ("tiff", "jp2")},
)
# Formats that not every build has → what it needs for them.
ON_REQUEST: Final = {"TIFF": "libtiff", "JPEG2000": "jpg_2000", "AVIF": "avif"}
# Lengths and sizes at which arithmetic goes wrong.
EDGES: Final = tuple(
    value.to_bytes(size, order)
    for size, most in ((2, 0xFFFF), (4, 0xFFFF_FFFF))
    for value in (0, 1, most, most >> 1, (most >> 1) + 1)
    for order in ("big", "little")
)


@dataclass
class Found:
    """What came of a session: how many *inputs*, with what *outcomes*, and what should not have been.

    *deaths* are processes that ended or hung over an input, *errors* exceptions that are no failure of a row.
    """

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    deaths: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mb: int = 0


def mutated(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return one of *corpus*, or two of them joined, with a few things wrong."""
    content = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        at = chance.randrange(min(len(content), chance.choice((32, 256, 4096, len(content)))))
        match chance.randrange(7):
            case 0:
                content[at] = chance.randrange(256)
            case 1:
                content[at] ^= 1 << chance.randrange(8)
            case 2:
                edge = chance.choice(EDGES)
                content[at : at + len(edge)] = edge
            case 3:
                del content[at : at + chance.choice((1, 2, 4, 64, 4096))]
            case 4:
                content[at:at] = chance.randbytes(chance.choice((1, 2, 4, 64)))
            case 5:
                piece = content[at : at + chance.choice((4, 64, 1024))]
                content[at:at] = piece * chance.choice((1, 2, 100))
            case _:
                other = chance.choice(corpus)
                begin = chance.randrange(len(other)) if other else 0
                content[at : at + 1024] = other[begin : begin + 1024]
    return bytes(content[: chance.randrange(len(content) + 1)] if chance.random() < 0.1 else content)


def corpus_in(folder: Path) -> list[bytes]:
    """Return what is changed: photographs in each format of this build, none too large, and what is hostile itself."""
    pictures.write_all(folder)
    with Image.open(folder / "rocket.jpg") as image:
        photograph = image.resize((320, 240))
    whole = [saved(photograph, name) for name, needed in ON_REQUEST.items() if features.check(needed)]
    whole += [saved(photograph, "TIFF", compression="jpeg")] if features.check("libtiff") else []
    whole += [path.read_bytes() for path in sorted(folder.iterdir()) if path.stat().st_size < 200_000]
    return [content for content in (*whole, *images()) if codec.sniff(content) is not None]


def work(seed: str, folder: Path, kept: Path, told: Connection) -> None:
    """Take inputs without end, each written to *kept* before it is decoded, and tell now and then what came of them."""
    codec.prepare()
    corpus, chance = corpus_in(folder), random.Random(seed)  # noqa: S311  the same inputs again by the same seed
    transformers = [Transformer(ImageOptions(**options)) for options in OPTIONS]
    found, told_at = Found(), time.monotonic()
    with kept.open("wb", buffering=0) as record:
        for transformer in itertools.cycle(transformers):
            content = mutated(chance, corpus)
            os.pwrite(record.fileno(), content, 0)
            os.ftruncate(record.fileno(), len(content))
            began = time.monotonic()
            try:
                transformer(content)
                outcome = "image"
            except TransformFailure as failure:
                outcome = str(failure.error_class)
            except Exception:  # noqa: BLE001  what is looked for
                outcome = "ERROR"
                name = _keep(kept.parent, content)
                found.errors.append(f"{name}: {traceback.format_exc(limit=3)}")
            now = time.monotonic()
            found.inputs += 1
            found.outcomes[outcome] += 1
            found.slowest_s = max(found.slowest_s, now - began)
            if now - told_at > TOLD_S:
                found.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                told.send(found)
                found, told_at = Found(), now


def _keep(folder: Path, content: bytes) -> str:
    name = f"find-{hashlib.sha256(content).hexdigest()[:16]}"
    (folder / name).write_bytes(content)
    return name


def fuzz(seconds: float, seed: int, processes: int, finds: Path) -> Found:
    """Fuzz for so many *seconds* in so many *processes*; what was found lies in *finds*."""
    finds.mkdir(parents=True, exist_ok=True)
    total, ends = Found(), math.inf
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = [_Worker(folder, finds, f"{seed} {number}") for number in range(processes)]
        while time.monotonic() < ends:
            for worker in workers:
                _add(total, worker.look())
            if math.isinf(ends) and (total.inputs or total.deaths):  # its corpus is made by then
                ends = time.monotonic() + seconds
            time.sleep(TOLD_S / 5)
        time.sleep(2 * TOLD_S)
        for worker in workers:
            _add(total, worker.look())
            worker.end()
    return total


class _Worker:
    """A process that fuzzes, and another one in its place when it has died."""

    def __init__(self, folder: Path, finds: Path, seed: str) -> None:
        self._folder, self._finds, self._seed = folder, finds, seed
        self._lives = 0
        self._start()

    def _start(self) -> None:
        self._lives += 1
        self._kept = self._finds / f"now-{self._seed.replace(' ', '-')}"
        self._told, told = multiprocessing.Pipe(duplex=False)
        seed = f"{self._seed} {self._lives}"
        own = self._folder / seed.replace(" ", "-")
        own.mkdir()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=work, args=(seed, own, self._kept, told), daemon=True)
        self._process.start()
        told.close()
        self._heard_at = time.monotonic()

    def look(self) -> Iterator[Found]:
        """Yield what it has told since the last look, and what was found when it was seen dead."""
        try:
            while self._told.poll():
                self._heard_at = time.monotonic()
                yield self._told.recv()
        except EOFError:
            pass
        hangs = time.monotonic() - self._heard_at > HANGS_S
        if not hangs and self._process.is_alive():
            return
        self._process.kill()
        self._process.join()
        why = f"hung for {HANGS_S:g} s" if hangs else f"ended with {self._process.exitcode}"
        content = self._kept.read_bytes() if self._kept.exists() else b""
        yield Found(deaths=[f"{_keep(self._finds, content)}: {why}"])
        self._start()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._kept.unlink(missing_ok=True)


def _add(total: Found, more: Iterator[Found]) -> None:
    for found in more:
        total.inputs += found.inputs
        total.outcomes += found.outcomes
        total.deaths += found.deaths
        total.errors += found.errors
        total.slowest_s = max(total.slowest_s, found.slowest_s)
        total.peak_mb = max(total.peak_mb, found.peak_mb)


def main(words: Sequence[str]) -> int:
    """Fuzz, say what came of it, and end with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long; five minutes if it is not said")
    parser.add_argument("--seed", type=int, default=0, help="which inputs")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="as many as cores if it is not said")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="the folder for what was found")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep the figures, as JSON")
    asked = parser.parse_args(words)
    found = fuzz(60 * asked.minutes, asked.seed, asked.processes, asked.finds)
    told = {
        **asdict(found),
        "outcomes": dict(found.outcomes.most_common()),
        "minutes": asked.minutes,
        "seed": asked.seed,
        "processes": asked.processes,
        "image_library": codec.library(),
        "python": sys.version.split()[0],
    }
    if asked.record:
        asked.record.write_text(json.dumps(told, indent=2) + "\n")
    outcomes = ", ".join(f"{name} {count:,}" for name, count in found.outcomes.most_common())
    summary = (
        f"{found.inputs:,} inputs, {found.outcomes['image']:,} images; {len(found.deaths)} deaths, "
        f"{len(found.errors)} errors; slowest {found.slowest_s:.1f} s, {found.peak_mb} MB at the most; "
        f"{codec.library()}"
    )
    sys.stdout.write("\n".join([*found.deaths, *found.errors, outcomes, summary]) + "\n")
    return bool(found.deaths or found.errors or not found.inputs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
