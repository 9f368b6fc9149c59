"""What scaled decoding costs in pixels: the corpus with and without it, in PSNR, and the bounds it must stay within."""

from __future__ import annotations

import io
import math
from statistics import mean
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageChops, ImageStat

import corpus
import report
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer
from async_img2ds.options import ImageOptions

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["examine"]

MEAN_DB_LEAST: Final = 45.0
WORST_DB_LEAST: Final = 32.0


def examine(_folder: Path, rows: int | None) -> int:
    """Compare the first *rows* JPEGs of the corpus, all by default; return 1 if they are less alike than they must be.

    Images that come out alike to the last bit, most of all those that are not decoded at a smaller scale, take no part
    in the mean: they would only make it look better.
    """
    codec.prepare()
    # Stored without loss, so that only the decoding differs.
    scaled, exact = (
        Transformer(ImageOptions(encode_format="png", encode_quality=0, exact_decode=exactly, compute_hash=None))
        for exactly in (False, True)
    )
    bodies = [path.read_bytes() for path in sorted(corpus.images().glob("*.jpg"))[:rows]]
    likeness = [_psnr_db(_opened(scaled(body).image), _opened(exact(body).image)) for body in bodies]
    differing = [value for value in likeness if math.isfinite(value)] or [math.inf]
    found = {
        "benchmark": "quality",
        "images": len(bodies),
        "alike": len(bodies) - sum(map(math.isfinite, likeness)),
        "psnr_db_mean": round(mean(differing), 2),
        "psnr_db_worst": round(min(differing), 2),
        "psnr_db_least": {"mean": MEAN_DB_LEAST, "worst": WORST_DB_LEAST},
        "versions": report.own_versions(),
    }
    print(found, f"kept in {report.keep_json('quality', found)}", sep="\n")
    return 0 if mean(differing) >= MEAN_DB_LEAST and min(differing) >= WORST_DB_LEAST else 1


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _psnr_db(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two images; infinite if they are equal."""
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    error = sum(squares) / (3 * one.width * one.height)
    return 10 * math.log10(255**2 / error) if error else math.inf
