"""How close the pixels come to img2dataset's: ``nox -s bench -- pixels``.

The same JPEGs go through this program and through OpenCV, with each resize mode and interpolation, and what comes out
is compared. The table of figures goes into docs/pixels.md.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from statistics import mean
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

import photographs
from async_img2ds.images.transform import Transformer
from async_img2ds.options import ImageOptions

PAGE: Final = Path(__file__).parent.parent / "docs" / "pixels.md"
BEGIN: Final = "<!-- figures: begin -->\n"
END: Final = "<!-- figures: end -->"

TARGET: Final = 256
# What photographs are on the web, larger than the target and smaller: JPEG quality, and longer side in pixels. None is
# a whole number of times the target, where most interpolations are exact.
JPEGS: Final = {
    "reducing": [(80, 1300), (84, 960), (88, 600), (92, 480), (95, 380)],
    "enlarging": [(80, 240), (88, 180), (92, 130), (95, 90)],
}
HEADINGS: Final = {"reducing": f"Reducing to {TARGET} pixels", "enlarging": f"Enlarging to {TARGET} pixels"}
# A mode → the side of an image that becomes the target.
MODES: Final = {"keep_ratio": min, "keep_ratio_largest": max, "center_crop": min, "border": max}
OPENCV: Final = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
# Below it, the default would not be what users of img2dataset have had. A difference of 45 dB is not seen.
LEAST_DB: Final = 45.0
# Equal images are infinitely close, which is of no use in a mean.
EQUAL_DB: Final = 99.0

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def measure(folder: Path, pictures: Path | None) -> dict[str, object]:
    """Compare over the colour photographs, written to *folder*, or over the JPEGs in the folder *pictures*.

    Returns:
        The figures by way, mode and interpolation: the mean and the worst of all images, in dB, of the pixels before
        they are encoded and of those of the stored JPEGs. ``whole`` says whether the default is close enough.

    """
    corpus = _jpegs_in(pictures) if pictures else _photographs(folder)
    figures = {
        f"{way} {mode} {name}": _compare(contents, way, mode, name)
        for way, contents in corpus.items()
        for mode in MODES
        for name in OPENCV
    }
    images = {way: len(contents) for way, contents in corpus.items()}
    tables = _tables(figures, images)
    print(*tables, sep="\n")
    if pictures is None:
        _write_page(tables)
    return {
        "opencv": cv2.__version__,
        "corpus": str(pictures or f"colour photographs of {photographs.WHEEL}"),
        "images": images,
        "psnr_db": figures,
        "whole": min(figures[f"reducing {mode} area"]["pixels_mean"] for mode in MODES) >= LEAST_DB,
    }


def _photographs(folder: Path) -> dict[str, list[bytes]]:
    photographs.write_all(folder)
    opened = [Image.open(folder / name) for name in sorted(photographs.CAPTIONS)]
    coloured = [image for image in opened if image.mode == "RGB"]
    return {
        way: [_jpeg(image, quality, side) for image in coloured for quality, side in kinds if max(image.size) >= side]
        for way, kinds in JPEGS.items()
    }


def _jpeg(image: Image.Image, quality: int, side: int) -> bytes:
    """Return *image* as a JPEG, its longer side reduced to *side*."""
    copy, stored = image.copy(), io.BytesIO()
    copy.thumbnail((side, side), Image.Resampling.LANCZOS)
    copy.save(stored, "JPEG", quality=quality)
    return stored.getvalue()


def _jpegs_in(pictures: Path) -> dict[str, list[bytes]]:
    contents = [file.read_bytes() for file in sorted(pictures.glob("*.jp*g"))]
    larger = [content for content in contents if min(Image.open(io.BytesIO(content)).size) > TARGET]
    if not larger:
        sys.exit(f"{pictures} has no JPEG whose sides are all above {TARGET} pixels")
    return {"reducing": larger}


def _compare(contents: list[bytes], way: str, mode: str, name: str) -> dict[str, float]:
    option = {"reducing": "downscale_interpolation", "enlarging": "upscale_interpolation"}[way]
    options: dict[str, Any] = {"image_size": TARGET, "resize_mode": mode, option: name}
    plain = Transformer(ImageOptions(**options, encode_format="png", encode_quality=1))
    stored = Transformer(ImageOptions(**options))
    pixels_db, stored_db = [], []
    for content in contents:
        if (MODES[mode](Image.open(io.BytesIO(content)).size) > TARGET) != (way == "reducing"):
            continue  # with this mode it goes the other way
        theirs = _theirs(content, mode, name)
        pixels_db.append(_psnr(_decoded(plain(content).image), theirs))
        stored_db.append(_psnr(_decoded(stored(content).image), _decoded(_encoded(theirs))))
    return {
        "pixels_mean": round(mean(pixels_db), 1),
        "pixels_worst": round(min(pixels_db), 1),
        "stored_mean": round(mean(stored_db), 1),
        "stored_worst": round(min(stored_db), 1),
    }


def _theirs(content: bytes, mode: str, name: str) -> Pixels:
    """Do with OpenCV what img2dataset does with it and with albumentations."""
    image = _decoded(content)
    height, width = image.shape[:2]
    scale = TARGET / MODES[mode](width, height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(image, (width, height), interpolation=OPENCV[name])
    left, top = abs(width - TARGET) // 2, abs(height - TARGET) // 2
    if mode == "center_crop":
        image = image[top : top + TARGET, left : left + TARGET]
    if mode == "border":
        bottom, right = TARGET - height - top, TARGET - width - left
        image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return np.asarray(image, np.uint8)


def _encoded(image: Pixels) -> bytes:
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, ImageOptions().encode_quality])
    assert done
    return bytes(content)


def _decoded(content: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def _psnr(one: Pixels, other: Pixels) -> float:
    """Return the peak signal-to-noise ratio of two images in dB; an error if their shapes differ."""
    assert one.shape == other.shape
    error = float(np.square(one.astype(np.float64) - other).mean())
    return min(EQUAL_DB, 10 * math.log10(255**2 / error)) if error else EQUAL_DB


def _write_page(tables: list[str]) -> None:
    """Put the tables between the marks of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text("\n".join([before + BEGIN, *tables, END + after]))


def _tables(figures: dict[str, dict[str, float]], images: dict[str, int]) -> list[str]:
    """Return a table of the way from larger images and one of that from smaller ones, as lines of Markdown."""
    lines: list[str] = []
    for way, count in images.items():
        lines += [
            f"{HEADINGS[way]}, up to {count} images:",
            "",
            f"| | {' | '.join(MODES)} |",
            "|---|" + "---|" * len(MODES),
        ]
        for name in OPENCV:
            cells = [
                "{pixels_mean:.1f} ({pixels_worst:.1f}) · {stored_mean:.1f} ({stored_worst:.1f})".format(
                    **figures[f"{way} {mode} {name}"]
                )
                for mode in MODES
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return lines
