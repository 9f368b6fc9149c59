"""What scaled decoding costs in pixels: how close the corpus comes to full decoding with area averaging, in PSNR.

Area averaging is computed here, in floating point: a new pixel is the mean of what it covers, pixels that it covers in
part weighed by that part. The harness asks it of scaled decoding, and of ``--exact_decode`` beside it.
"""

from __future__ import annotations

import io
import math
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

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
# Of an image that comes out equal to the last level, so that there can be a mean; half a level everywhere is 54.
EQUAL_DB: Final = 99.0
TARGET: Final = 256

Pixels = np.ndarray[Any, np.dtype[np.float64]]


def examine(_folder: Path, rows: int | None) -> int:
    """Compare the first *rows* JPEGs of the corpus that are reduced, all by default; return 1 if they are too unlike.

    Sides are kept in proportion and nothing is added: a white border would count as pixels that came out well. What is
    made is stored without loss, so that only decoding and reducing differ.
    """
    codec.prepare()
    scaled, exact = (
        Transformer(
            ImageOptions(
                image_size=TARGET,
                resize_mode="keep_ratio_largest",
                encode_format="png",
                encode_quality=0,
                exact_decode=exactly,
                compute_hash=None,
            )
        )
        for exactly in (False, True)
    )
    found: dict[str, list[float]] = {"scaled decoding": [], "exact decoding": [], "where they differ": []}
    for path in sorted(corpus.images().glob("*.jpg"))[:rows]:
        body = path.read_bytes()
        whole = _decoded(body)
        if max(whole.shape) <= TARGET:
            continue
        one, other = (_decoded(transform(body).image) for transform in (scaled, exact))
        wanted = _averaged(_averaged(whole, one.shape[0]).swapaxes(0, 1), one.shape[1]).swapaxes(0, 1)
        found["scaled decoding"].append(_psnr_db(one, wanted))
        found["exact decoding"].append(_psnr_db(other, wanted))
        if not np.array_equal(one, other):
            found["where they differ"].append(found["scaled decoding"][-1])
    likeness = {
        name: {"images": len(values), "psnr_db_mean": round(mean(values), 2), "psnr_db_worst": round(min(values), 2)}
        for name, values in found.items()
        if values
    }
    told = {
        "benchmark": "quality",
        "likeness": likeness,
        "psnr_db_least": {"mean": MEAN_DB_LEAST, "worst": WORST_DB_LEAST},
        **report.own_versions(),
    }
    print(told, f"kept in {report.keep_json('quality', told)}", sep="\n")
    judged = likeness["scaled decoding"]
    return 0 if judged["psnr_db_mean"] >= MEAN_DB_LEAST and judged["psnr_db_worst"] >= WORST_DB_LEAST else 1


def _decoded(content: bytes) -> Pixels:
    """Return an image as height × width × 3 levels."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), float)


def _averaged(pixels: Pixels, count: int) -> Pixels:
    """Return *pixels* with *count* rows instead of as many as they have, each the mean of the stretch it covers."""
    sums = np.concatenate([np.zeros((1, *pixels.shape[1:])), np.cumsum(pixels, axis=0)])
    edges = np.linspace(0, len(pixels), count + 1)
    below = np.minimum(edges.astype(int), len(pixels) - 1)
    part = (edges - below)[:, None, None]
    means: Pixels = np.diff(sums[below] + part * pixels[below], axis=0) * (count / len(pixels))
    return means


def _psnr_db(one: Pixels, other: Pixels) -> float:
    """Return the peak signal-to-noise ratio of two images."""
    error = float(np.mean((one - other) ** 2))
    return 10 * math.log10(255**2 / error) if error else EQUAL_DB
