"""Datasets of real runs, each made once, and what must be in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds import download

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from async_img2ds import RunReport
    from origin import Origin

PICTURES = ("rocket.jpg", "coffee.png", "chelsea.webp", "camera-gray.jpg", "coins.gif")
FAILURES = {"no-such.jpg": "http_status_4xx", "page.jpg": "not_image", "truncated.jpg": "decode_truncated"}
COLUMNS = pa.schema(
    [
        ("url", pa.string()),
        ("caption", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("box", pa.struct({"x": pa.int64(), "note": pa.string()})),
        ("score", pa.float64()),
        ("hash", pa.int64()),
    ]
)
ROWS, ROWS_PER_SHARD = 90, 25
SIZE = 64


@dataclass(frozen=True)
class Made:
    """A dataset, and the rows of its list by key, each with the ``error_class`` that it must end in."""

    folder: Path
    rows: dict[str, dict[str, Any]]
    report: RunReport

    @property
    def successes(self) -> dict[str, dict[str, Any]]:
        """The rows whose images must be there."""
        return {key: row for key, row in self.rows.items() if row["error_class"] is None}

    def paths(self, pattern: str) -> list[str]:
        """Return the files that match *pattern*, in order."""
        return sorted(map(str, self.folder.glob(pattern)))


@dataclass
class Maker:
    """Makes each dataset once, from pictures of *origin*, in *folder*."""

    origin: Origin
    folder: Path
    made: dict[str, Made] = field(default_factory=dict)

    def dataset(self, output_format: str, rows: Callable[[int], dict[str, Any]] | None = None, **options: Any) -> Made:
        """Return the dataset of *output_format* with *options*; *rows* changes some values of a row."""
        name = "-".join((output_format, *options, rows.__name__ if rows else ""))
        if name not in self.made:
            listed = [{**self._row(number), **(rows(number) if rows else {})} for number in range(ROWS)]
            self.made[name] = self._make(name, listed, {"output_format": output_format, **options})
        return self.made[name]

    def _row(self, number: int) -> dict[str, Any]:
        failures = list(FAILURES)
        return {
            "path": failures[number // 4 % len(failures)] if number % 4 == 3 else PICTURES[number % len(PICTURES)],
            "caption": None if number % 7 == 3 else f"picture {number}: ü 猫",
            "tags": [["a", "b"], [], None, ["c"]][number % 4],
            "box": {"x": number, "note": None if number % 2 else "left"},
            "score": None if number % 3 == 2 else number / 8,
            "hash": None if number % 5 == 4 else number - 2**40,
        }

    def _make(self, name: str, rows: list[dict[str, Any]], options: dict[str, Any]) -> Made:
        digits = len(str(ROWS_PER_SHARD - 1))
        for number, row in enumerate(rows):
            path = row.pop("path")
            row["url"] = self.origin.url(f"{path}?{number}")
            row["error_class"] = FAILURES.get(path)
            row["key"] = f"{number // ROWS_PER_SHARD * 10**digits + number % ROWS_PER_SHARD:0{5 + digits}d}"
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), self.folder / f"{name}.parquet")
        report = download(
            url_list=self.folder / f"{name}.parquet",
            input_format="parquet",
            caption_col="caption",
            save_additional_columns=[column for column in COLUMNS.names if column not in ("url", "caption")],
            output_folder=self.folder / name,
            number_sample_per_shard=ROWS_PER_SHARD,
            image_size=SIZE,
            allow_net="127.0.0.0/8",
            progress="none",
            retries=0,
            **options,
        )
        return Made(self.folder / name, {row["key"]: row for row in rows}, report)


def first_shard_fails(number: int) -> dict[str, Any]:
    """Have no image in the first shard."""
    return {"path": "no-such.jpg"} if number < ROWS_PER_SHARD else {}


def values_come_late(number: int) -> dict[str, Any]:
    """Have no value in some columns of the first shards."""
    return {"score": None, "tags": None} if number < 2 * ROWS_PER_SHARD else {}
