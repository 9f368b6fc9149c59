"""Datasets that nobody has fetched: real photographs, made-up hosts, and stats files for as many rows as are wanted.

Files are those that the program's own code writes; the tables and images of shards that no page would look at are left
out, as ten million rows of them would take an hour.
"""

from __future__ import annotations

import io
import math
import tarfile
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import photographs
from async_img2ds.histograms import bucket_of
from async_img2ds.page.looks import ROWS_MOST, drawn_from
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.schema import Columns
from async_img2ds.records import FileSum, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ROWS", "made_up", "pictures"]

ROWS = 10_000
# Of a shard's images so many are written.
PICTURES = 60
MADE_WITH: dict[str, Any] = {
    "output_format": "webdataset",
    "encode_format": "jpg",
    "encode_quality": 95,
    "image_size": 256,
    "resize_mode": "border",
    "resize_only_if_bigger": False,
    "upscale_interpolation": "lanczos",
    "downscale_interpolation": "area",
    "min_image_size": 0,
    "max_image_area": math.inf,
    "compute_hash": "sha256",
    "extract_exif": True,
    "optout": "headers",
    "caption_col": "caption",
    "url_col": "url",
    "dedupe": False,
    "disallowed_header_directives": ["noai", "noimageai", "noindex", "noimageindex", "noml"],
    "provenance": False,
}
# Of each host how many of its rows come to be images, and why the others do not.
HOSTS = {
    "images.shop.example": (0.97, {"http_status_4xx": 1}),
    "cdn.photos.example": (0.93, {"http_status_4xx": 5, "read_timeout": 1}),
    "i.forum.example": (0.71, {"http_status_4xx": 6, "not_image": 3}),
    "static.news.example": (0.88, {"optout_header": 5, "http_status_4xx": 2}),
    "media.travel.example": (0.42, {"http_rate_limited": 9, "total_timeout": 1}),
    "upload.wiki.example": (0.99, {"http_status_4xx": 1}),
    "img.old-blog.example": (0.0, {"dns_nxdomain": 1}),
    "pics.auction.example": (0.08, {"http_status_4xx": 9, "decode_error": 1}),
    "thumbs.video.example": (0.95, {"http_status_5xx": 1, "decode_truncated": 1}),
    "files.archive.example": (0.85, {"connect_timeout": 3, "tls_expired": 1}),
}
MESSAGES = {
    "http_status_4xx": "HTTP Error 404: Not Found",
    "http_status_5xx": "HTTP Error 503: Service Unavailable",
    "http_rate_limited": "HTTP Error 429: Too Many Requests",
    "not_image": "Image decoding error",
    "decode_error": "Image decoding error",
    "decode_truncated": "Image decoding error",
    "optout_header": "Use of image disallowed by X-Robots-Tag directive",
    "dns_nxdomain": "<urlopen error [Errno -2] Name or service not known>",
}
MADE = frozenset({"not_image", "decode_error", "decode_truncated"})


@dataclass
class Rows:
    """The rows of a shard by column, and what they add up to."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def add(self, **values: Any) -> None:
        for name in (*("caption", "url"), *(one.name for one in Columns(exif=True, digest="sha256").fields())):
            self.columns.setdefault(name, []).append(values.get(name))

    def table(self) -> pa.Table:
        fields = [pa.field(name, pa.string()) for name in ("caption", "url")]
        schema = pa.schema([*fields, *Columns(exif=True, digest="sha256").fields()])
        return pa.table(self.columns, schema=schema)


def pictures(chance: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield captions and JPEGs of parts of photographs, no two the same."""
    originals = list(_originals().items())
    for _ in range(count):
        caption, image = chance.choice(originals)
        side = min(image.size) * chance.uniform(0.55, 1.0)
        left, top = chance.uniform(0, image.width - side), chance.uniform(0, image.height - side)
        shape = chance.choice([(256, 256), (256, 192), (192, 256)])
        part = image.resize(shape, box=(left, top, left + side * shape[0] / 256, top + side * shape[1] / 256))
        stored = io.BytesIO()
        part.save(stored, "JPEG", quality=90)
        yield caption, stored.getvalue()


_read: dict[str, Image.Image] = {}


def _originals() -> dict[str, Image.Image]:
    if not _read:
        import zipfile

        left_out = {"text.png", "page.png", "brick.png", "grass.png", "gravel.png", "motorcycle_right.png"}
        with zipfile.ZipFile(photographs.wheel()) as archive:
            for name, caption in photographs.CAPTIONS.items():
                if name not in left_out:
                    content = archive.read(f"skimage/data/{name}")
                    _read[caption] = Image.open(io.BytesIO(content)).convert("RGB")
    return _read


def made_up(folder: Path, shards: int, rows: int = ROWS, seed: int = 0, *, tables: bool = True) -> Path:
    """Write a dataset of so many *shards* of *rows* into *folder*: tables and images of those that are looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    looked_at = set(drawn_from(shards, seed)[: max(1, ROWS_MOST // rows)]) if tables else set()
    for number in range(shards):
        chance = Random(number)
        made = _rows(number, rows, chance, fully=number in looked_at)
        if number in looked_at:
            _write(folder / f"{number:05d}", made, chance)
        start = 1.79e9 + number * 41 * rows / ROWS + (chance.random() * 20)
        start += 40_000 if number > 0.62 * shards else 0
        seconds = rows / ROWS * chance.uniform(150, 230) * (2.2 if 0.3 < number / shards < 0.4 else 1)
        marker = Marker(made.tally, start, seconds, {f"{number:05d}.tar": FileSum(1, "")}, "", MADE_WITH, 1)
        (folder / f"{number:05d}_stats.json").write_bytes(marker.to_json())
    return folder


def _rows(number: int, rows: int, chance: Random, *, fully: bool) -> Rows:
    """Return rows of a shard; if not *fully* only their counts, from a part of them."""
    made = Rows()
    tally = made.tally
    names = list(HOSTS)
    weights = [1 / (at + 1) for at in range(len(names))]
    step = 1 if fully or rows <= 100 else 20
    for at in range(0, rows, step):
        if chance.random() < 0.55:
            host = chance.choices(names, weights)[0]
        else:
            host = f"host{int(chance.paretovariate(0.7)) % 40_000}.example"
        good, failures = HOSTS.get(host, (0.9, {"http_status_4xx": 3, "connect_timeout": 1, "dns_nxdomain": 1}))
        key = f"{number:05d}{at:04d}"
        url = f"https://{host}/{chance.randrange(16**8):08x}.jpg"
        took, size = chance.lognormvariate(5.3, 0.9), int(chance.lognormvariate(11.3, 1.1))
        tally.count += step
        if chance.random() < good:
            width, height = int(chance.lognormvariate(6.8, 0.6)), int(chance.lognormvariate(6.6, 0.6))
            optout = "X-Robots-Tag: noimageindex" if chance.random() < 0.004 else None
            made.add(
                caption=None,
                url=url,
                key=key,
                status="success",
                width=256,
                height=256,
                original_width=width,
                original_height=height,
                http_status=200,
                attempts=1,
                optout=optout,
            )
            tally.successes += step
            tally.image_bytes += step * 16_000
            tally.body_bytes += step * size
            tally.body_sizes[bucket_of(size)] += step
        else:
            reason = chance.choices(list(failures), list(failures.values()))[0]
            status = "failed_to_resize" if reason in MADE else "failed_to_download"
            codes = {"http_status_4xx": 404, "http_rate_limited": 429, "http_status_5xx": 503}
            made.add(
                caption="a picture that nobody could have",
                url=url,
                key=key,
                status=status,
                error_class=reason,
                error_message=MESSAGES.get(reason, reason.replace("_", " ")),
                http_status=codes.get(reason),
                attempts=3 if "time" in reason else 1,
                optout="X-Robots-Tag: noai, noimageai" if reason == "optout_header" else None,
            )
            setattr(tally, status, getattr(tally, status) + step)
            tally.error_classes[reason] += step
            took *= 12 if "time" in reason else 1
        tally.latencies_ms[bucket_of(took)] += step
    return made


def _write(stem: Path, made: Rows, chance: Random) -> None:
    """Write the table, and a tar with some of the images."""
    good = [at for at, status in enumerate(made.columns["status"]) if status == "success"]
    shown = sorted(chance.sample(good, min(PICTURES, len(good))))
    with tarfile.open(stem.with_suffix(".tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
        for at, (caption, content) in zip(shown, pictures(chance, len(shown)), strict=True):
            made.columns["caption"][at] = caption
            member = tarfile.TarInfo(f"{made.columns['key'][at]}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    pq.write_table(made.table(), stem.with_suffix(".parquet"))
