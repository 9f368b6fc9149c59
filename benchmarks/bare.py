"""What the work itself takes, in plain loops: the floor that a whole run is compared with.

``pixels FOLDER`` decodes, places and encodes the images of a folder one by one. ``requests LIST`` asks for the URLs of
a list with aiohttp as it comes, and forgets the bodies. Either says as JSON what its loop took, start-up not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pyarrow.parquet as pq
from PIL import Image

from async_img2ds.images.codec import AREA_LITTLE, SCALED_DECODE_MARGIN
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

# One pass over the corpus is three seconds; two make a figure that repeats within 2 % on a quiet machine.
PASSES: Final = 2
SIDE: Final = 256


def main() -> None:
    """Do what was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["pixels", "requests"])
    parser.add_argument("source", type=Path)
    parser.add_argument("--exact", action="store_true", help="decode JPEGs at full size")
    parser.add_argument("--beside", action="store_true", help="with another process that does the same meanwhile")
    parser.add_argument("--in-flight", type=int, default=64, help="requests under way at a time")
    asked = parser.parse_args()
    if asked.work == "pixels":
        same = [word for word in sys.argv if word != "--beside"]
        with subprocess.Popen([sys.executable, *same], stdout=subprocess.DEVNULL) if asked.beside else nullcontext():
            figures = pixels(asked.source, exact=asked.exact)
    else:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            figures = runner.run(requests(asked.source, asked.in_flight))
    print(json.dumps(figures))


def pixels(folder: Path, *, exact: bool) -> dict[str, float]:
    """Return what it takes to make images of 256 pixels of those in *folder*, in one thread."""
    warnings.simplefilter("ignore")  # of pictures with odd metadata
    bodies = [path.read_bytes() for path in sorted(folder.iterdir())]
    cpu, wall = time.process_time(), time.monotonic()
    for _ in range(PASSES):
        for body in bodies:
            _made(body, exact=exact)
    rows = PASSES * len(bodies)
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "rows": rows,
        "successes": rows,
    }


def _made(body: bytes, *, exact: bool) -> bytes:
    """Decode, place and encode with nothing but the image library, as a run does by default."""
    image: Image.Image = Image.open(io.BytesIO(body))
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if scale < 1 and not exact:
        image.draft(None, (math.ceil(SCALED_DECODE_MARGIN * width), math.ceil(SCALED_DECODE_MARGIN * height)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    plain = image.convert("RGB")
    if scale > 1:
        plain = plain.resize((width, height), Image.Resampling.LANCZOS)
    elif plain.width % width == 0 and plain.height % height == 0:
        plain = plain.reduce((plain.width // width, plain.height // height))
    else:
        little = max(plain.size) < AREA_LITTLE * SIDE
        plain = plain.resize((width, height), Image.Resampling.BILINEAR if little else Image.Resampling.HAMMING)
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    canvas.paste(plain, ((SIDE - width) // 2, (SIDE - height) // 2))
    stored = io.BytesIO()
    canvas.save(stored, "JPEG", quality=95, subsampling="4:2:0")
    return stored.getvalue()


async def requests(urls: Path, in_flight: int) -> dict[str, float]:
    """Return what it takes to ask for *urls* with nothing around aiohttp."""
    rows: list[str] = pq.read_table(urls, columns=["url"])["url"].to_pylist()
    left, successes = iter(rows), 0

    async def ask(session: aiohttp.ClientSession, urls: Iterator[str]) -> int:
        good = 0
        for url in urls:
            async with session.get(url) as response:
                good += bool(await response.read()) and response.ok
        return good

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        cpu, wall = time.process_time(), time.monotonic()
        successes = sum(await asyncio.gather(*(ask(session, left) for _ in range(in_flight))))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return {"cpu_s": cpu, "wall_s": wall, "rows": len(rows), "successes": successes}


if __name__ == "__main__":
    main()
