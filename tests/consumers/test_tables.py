"""DuckDB and Polars on the tables of metadata: counts, joins, and the types of nested columns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest

if TYPE_CHECKING:
    from consumers.made import Maker

FORMATS = ["files", "webdataset", "parquet", "tfrecord"]


@pytest.mark.parametrize("output_format", FORMATS)
def test_duckdb_counts_what_the_run_reported(maker: Maker, output_format: str) -> None:
    """Every row of the list is in the tables once, under its status and the reason of its failure."""
    made = maker.dataset(output_format)
    counts = duckdb.sql(
        f"SELECT status, error_class, count(*) FROM '{made.folder}/*.parquet' GROUP BY ALL"  # noqa: S608  our own path
    ).fetchall()
    by_status: Counter[str] = Counter()
    for status, _, count in counts:
        by_status[status] += count

    assert {reason: count for _, reason, count in counts if reason} == dict(made.report.error_classes)
    assert by_status == {
        "success": made.report.successes,
        "failed_to_download": made.report.failed_to_download,
        "failed_to_resize": made.report.failed_to_resize,
    }
    assert sum(by_status.values()) == len(made.rows)


def test_duckdb_reads_the_statistics(maker: Maker) -> None:
    """The stats files are JSON that adds up."""
    made = maker.dataset("webdataset")
    counted = duckdb.sql(f"SELECT sum(count), sum(successes) FROM read_json('{made.folder}/*_stats.json')")  # noqa: S608  our own path

    assert counted.fetchall() == [(len(made.rows), made.report.successes)]


def test_duckdb_joins_by_key(maker: Maker) -> None:
    """The same list gives the same keys in any format, so the tables of two runs fit together."""
    tars, tables = maker.dataset("webdataset"), maker.dataset("parquet")
    joined = duckdb.sql(
        f"""SELECT t.key, t.url = p.url, octet_length(p.jpg) > 0
            FROM '{tars.folder}/*.parquet' t JOIN '{tables.folder}/*.parquet' p USING (key)
            WHERE t.status = 'success'"""  # noqa: S608  our own paths
    ).fetchall()

    assert sorted(joined) == [(key, True, True) for key in sorted(tars.successes)]


def test_duckdb_knows_the_types(maker: Maker) -> None:
    """Lists, structs and numbers of the list are what they were."""
    made = maker.dataset("webdataset")
    table = duckdb.sql(f"SELECT * FROM '{made.folder}/*.parquet'")  # noqa: S608  our own path
    types = dict(zip(table.columns, map(str, table.types), strict=True))
    boxes = duckdb.sql(f"SELECT key, box.x, len(tags), score FROM '{made.folder}/*.parquet'").fetchall()  # noqa: S608  our own path

    assert (types["tags"], types["box"]) == ("VARCHAR[]", "STRUCT(x BIGINT, note VARCHAR)")
    assert (types["score"], types["width"], types["key"]) == ("DOUBLE", "INTEGER", "VARCHAR")
    assert {key: values for key, *values in boxes} == {
        key: [row["box"]["x"], None if row["tags"] is None else len(row["tags"]), row["score"]]
        for key, row in made.rows.items()
    }


@pytest.mark.parametrize("output_format", FORMATS)
def test_polars_scans_the_tables(maker: Maker, output_format: str) -> None:
    """A lazy scan over all shards counts failures and keeps the types."""
    made = maker.dataset(output_format)
    scan = pl.scan_parquet(f"{made.folder}/*.parquet")
    failures = scan.filter(pl.col("status") != "success").group_by("error_class").len().collect()

    assert dict(failures.iter_rows()) == dict(made.report.error_classes)
    assert scan.collect_schema()["tags"] == pl.List(pl.String)
    assert scan.collect_schema()["box"] == pl.Struct({"x": pl.Int64, "note": pl.String})
    rows = scan.select("key", *next(iter(made.rows.values())).keys() - {"key"}).collect().to_dicts()
    assert {row["key"]: row for row in rows} == made.rows


def test_polars_joins_by_key(maker: Maker) -> None:
    """The image of a key comes from one dataset and its metadata from another."""
    tars, tables = maker.dataset("webdataset"), maker.dataset("parquet")
    left = pl.read_parquet(f"{tars.folder}/*.parquet").filter(pl.col("status") == "success")
    right = pl.read_parquet(f"{tables.folder}/*.parquet", columns=["key", "url", "jpg"])
    joined = left.join(right, on="key")

    assert set(joined["key"]) == tars.successes.keys()
    assert (joined["url"] == joined["url_right"]).all()
    assert joined["jpg"].null_count() == 0


def test_polars_reads_the_image_struct(maker: Maker) -> None:
    """The column for Hugging Face is a struct to everybody else."""
    made = maker.dataset("parquet", hf_image=True)
    table = pl.read_parquet(f"{made.folder}/*.parquet").filter(pl.col("status") == "success").unnest("jpg")

    assert dict(zip(table["key"], table["path"], strict=True)) == {key: f"{key}.jpg" for key in made.successes}
    assert table["bytes"].bin.size().min() > 0
