"""The lists that both programs are given: the same rows in every format, all served by one origin."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from origin import Origin

__all__ = ["BOXES", "FAILING", "FEW", "write_all"]

# Rows that fail the same way for everybody, among the pictures.
FAILING: Final = ("no-such-picture.jpg", "page.jpg", "reserved/coffee.png", "gone")
# Small pictures of each format, with a failure among them: for all that does not depend on pixels.
FEW: Final = (
    *("coins-gray.jpg", "chelsea.png", "no-such-picture.jpg", "size-200x150.webp", "chelsea-rotated.jpg", "page.jpg"),
    *("page.png", "clock_motion.png", "size-200x150.jpg", "chelsea-alpha.png", "camera.gif", "exif.jpg"),
)
_CAPTIONS: Final = (
    *("plain", "", "with a comma, and more", 'with "quotes"', "ünïcödé, 漢字, 🐈", " spaces around ", "tab-less"),
    *("None", "1", "true", "a \\ backslash", "<b>mark-up</b>"),
)
# Fractions of the picture's sides: left, top, right, bottom.
BOXES: Final[dict[str, list[list[float]] | None]] = {
    "chelsea.png": [[0.3, 0.2, 0.6, 0.7]],
    "astronaut.png": [[0.35, 0.05, 0.55, 0.35], [0.0, 0.5, 0.3, 1.0]],
    "coffee-baseline.jpg": [],
    "coins-gray.jpg": [[0.1, 0.1, 0.2, 0.2]],
    "size-200x150.jpg": [[0.25, 0.25, 0.75, 0.75]],
    "size-640x480.jpg": [[-0.1, 0.4, 1.2, 0.6]],
    "motorcycle_left.webp": None,
    "chelsea-alpha.png": [[0.5, 0.5, 0.9, 0.9]],
    "size-256x256.jpg": [[0.4, 0.4, 0.41, 0.41]],
}


def write_all(folder: Path, pictures: Path, origin: Origin) -> None:
    """Write all lists into *folder*; *pictures* is what *origin* serves."""
    names = sorted(path.name for path in pictures.iterdir())
    lines = [name for name in names if name.startswith("line-")]
    # What is no picture, and what bears no comparison pixel by pixel, is left to the tests of failures and of pixels.
    others = [name for name in names if name not in lines]
    exact = [name for name in others if name.startswith("size-") or "-" not in name or name.endswith("-baseline.jpg")]
    _write_txt(folder / "pictures.txt", [origin.url(name) for name in (*others, *FAILING)])
    _write_txt(folder / "lines.txt", [origin.url(name) for name in lines])
    _write_txt(folder / "pixels.txt", [origin.url(name) for name in exact])
    _write_txt(folder / "few.txt", [origin.url(name) for name in FEW])
    _write_txt(folder / "six.txt", [origin.url(name) for name in FEW[:6]])
    _write_parquet(folder / "pictures.parquet", _rich_rows([origin.url(name) for name in (*others, *FAILING)]))
    _write_parquet(folder / "few.parquet", [{"url": origin.url(name)} for name in FEW])
    _write_hashes(folder, pictures, origin)
    # As Polars writes them, and as pandas writes categories.
    urls, captions = [origin.url(name) for name in FEW], list(_CAPTIONS)
    large = {"url": pa.array(urls, pa.large_string()), "caption": pa.array(captions, pa.large_string())}
    pq.write_table(pa.table(large), folder / "large.parquet")
    categories = {"url": pa.array(urls), "caption": pa.array(captions).dictionary_encode()}
    pq.write_table(pa.table(categories), folder / "categories.parquet")
    _write_nested(folder, origin)
    boxes = [{"url": origin.url(name), "id": i, "faces": faces} for i, (name, faces) in enumerate(BOXES.items())]
    _write_parquet(folder / "boxes.parquet", boxes)
    _write_formats(folder, [origin.url(name) for name in FEW])
    _write_well_known(folder, pictures, [origin.url(name) for name in FEW])


def _write_txt(path: Path, urls: list[str]) -> None:
    path.write_text("".join(f"{url}\n" for url in urls))


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _rich_rows(urls: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "url": url,
            "caption": None if i % 11 == 5 else f"{_CAPTIONS[i % len(_CAPTIONS)]} {i}".strip(),
            "id": i,
            "score": None if i % 7 == 3 else i / 8,
            "tags": [f"tag{i % 3}", "wörd"],
            "note": None if i % 5 == 1 else f"note {i}",
            "flag": i % 2 == 0,
            "unused": "not carried",
        }
        for i, url in enumerate(urls)
    ]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b"not there"


def _write_hashes(folder: Path, pictures: Path, origin: Origin) -> None:
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(FEW):
        path = pictures / name
        content = _content(path)
        digests: dict[str, str | None] = {
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "digest": hashlib.sha256(content).hexdigest(),
            "long_digest": hashlib.sha512(content).hexdigest(),
        }
        if name == "chelsea.png":
            digests = {column: "0" * len(digest or "") for column, digest in digests.items()}
        if name == "clock_motion.png":
            digests = dict.fromkeys(digests)
        rows.append({"url": origin.url(name), "caption": _CAPTIONS[i], "id": i, **digests})
    _write_parquet(folder / "hashes.parquet", rows)
    _write_separated(folder / "hashes.csv", rows, ",")


def _write_nested(folder: Path, origin: Origin) -> None:
    rows = [
        {
            "url": origin.url(name),
            "names": [] if i == 3 else [f"a{i}", None, "ü"],
            "numbers": None if i == 4 else [i, i + 1],
            "shares": [i / 4, 0.5],
            "pair": {"left": i, "right": None if i == 5 else f"r{i}"},
        }
        for i, name in enumerate(FEW)
    ]
    (folder / "nested.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = pa.Table.from_pylist(rows)
    count = len(rows)
    for name, column in {
        "small": pa.array(range(count), pa.uint8()),
        "large": pa.array([f"large {i}" for i in range(count)], pa.large_string()),
        "word": pa.array([f"word {i % 2}" for i in range(count)]).dictionary_encode(),
    }.items():
        table = table.append_column(name, column)
    pq.write_table(table, folder / "nested.parquet")


def _write_formats(folder: Path, urls: list[str]) -> None:
    """Write the same rows in every input format, and as folders of several files."""
    rows = [
        {
            "unused": "x",
            "link": url,
            "text": _CAPTIONS[i],
            "number": i * 3,
            "share": None if i == 2 else i / 4,
            "note": "of a few words" if i % 2 else "of more, in commas",
        }
        for i, url in enumerate(urls)
    ]
    _write_txt(folder / "list.txt", urls)
    _write_separated(folder / "list.csv", rows, ",")
    _write_separated(folder / "list.tsv", rows, "\t")
    (folder / "list.json").write_text(json.dumps(rows))
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _write_parquet(folder / "list.parquet", rows)
    for name in ("txt", "csv", "tsv", "json", "jsonl"):
        with gzip.open(folder / f"list.{name}.gz", "wb") as packed:
            packed.write((folder / f"list.{name}").read_bytes())
    several = folder / "folder-parquet"
    several.mkdir()
    for name, part in (("part-2", rows[7:]), ("part-10", rows[:3]), ("part-1", rows[3:7])):
        _write_parquet(several / f"{name}.parquet", part)
    (several / "README.md").write_text("no list")
    packed_folder = folder / "folder-txt.gz"
    packed_folder.mkdir()
    for name, some in (("b", urls[:7]), ("a", urls[7:])):
        with gzip.open(packed_folder / f"{name}.txt.gz", "wt") as packed_text:
            packed_text.write("".join(f"{url}\n" for url in some))
    (packed_folder / "c.txt").write_text("http://not-read.invalid/\n")


def _write_well_known(folder: Path, pictures: Path, urls: list[str]) -> None:
    """Write small lists in the shape of the well-known ones."""
    count = len(urls)
    captions = [f"the caption of {name}" for name in FEW]
    (folder / "myimglist.txt").write_text("\n".join(urls))  # without a line break at its end
    (folder / "cc3m.tsv").write_text("caption\turl\n" + "".join(map("{}\t{}\n".format, captions, urls)))
    laion = {
        "SAMPLE_ID": pa.array(range(1000, 1000 + count), pa.int64()),
        "URL": urls,
        "TEXT": captions,
        "HEIGHT": [100] * count,
        "LICENSE": [None, "?"] * (count // 2),
        "NSFW": ["UNLIKELY"] * count,
        "similarity": [0.25 + i / 64 for i in range(count)],
        "hash": pa.array([2**62 + i for i in range(count)], pa.int64()),
        "punsafe": pa.array([i / 16 for i in range(count)], pa.float32()),
        "pwatermark": pa.array([None, 0.5] * (count // 2), pa.float64()),
        "md5": [hashlib.md5(_content(pictures / name), usedforsecurity=False).hexdigest() for name in FEW],
    }
    table = pa.table(laion)
    pq.write_table(table.select(["SAMPLE_ID", "URL", "TEXT"]), folder / "mscoco.parquet")
    (folder / "laion400m-meta").mkdir()
    for part in range(2):
        pq.write_table(
            table.slice(part * 6, 6), folder / "laion400m-meta" / f"part-0000{part}-5b54c5d5-c000.snappy.parquet"
        )
    several = pa.array([[caption, caption.upper()] for caption in captions])
    coco = {"URL": urls, "top_caption": captions, "all_captions": several, "all_similarities": [[0.5, 0.25]] * count}
    pq.write_table(pa.table(coco), folder / "laion-coco.parquet")
    # One object of columns, where list.json is a list of objects.
    (folder / "sbu-captions-all.json").write_text(json.dumps({"image_urls": urls, "captions": captions}))


def _write_separated(path: Path, rows: list[dict[str, Any]], separator: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
