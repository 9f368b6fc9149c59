"""Lists of which img2dataset makes less, or something else, than they say."""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from compat.tools import Pair, Tools
    from origin import Origin


def test_a_comma_in_a_line_is_part_of_its_url(tools: Tools, origin: Origin) -> None:
    """img2dataset reads txt lists as csv, so that one such line ends the run."""
    pair = read_txt(tools, "comma", [origin.url("chelsea.png"), origin.url("chelsea.png?size=10,20")])

    assert pair.theirs.status != 0
    assert not pair.theirs.dataset.stats
    assert pair.ours.status == 0
    assert [row["status"] for row in pair.ours.dataset.rows.values()] == ["success", "success"]


def test_every_line_is_a_row(tools: Tools, origin: Origin) -> None:
    """Also an empty one, so that the key of a row says which line it was; img2dataset leaves it out."""
    url = origin.url("chelsea.png")
    pair = read_txt(tools, "empty-line", [url, "", url])

    assert sorted(pair.theirs.dataset.rows) == ["000000000", "000000001"]
    assert sorted(pair.ours.dataset.rows) == ["000000000", "000000001", "000000002"]
    assert pair.ours.dataset.rows["000000001"]["error_message"] == "unknown url type: ''"


def test_values_that_json_does_not_know_cost_no_sample(tools: Tools, origin: Origin) -> None:
    """Dates, decimals and bytes become text there; img2dataset counts such a sample as a success and stores nothing."""
    values: dict[str, list[Any]] = {
        "day": [date(2026, 1, 31)],
        "moment": [datetime(2026, 1, 31, 12, tzinfo=UTC)],
        "price": [decimal.Decimal("12.50")],
        "raw": [b"bytes"],
    }
    path = tools.folder / "values.parquet"
    pq.write_table(pa.table({"url": [origin.url("chelsea.png")], **values}), path)
    words = [str(path), "--input_format", "parquet", "--save_additional_columns", '["day","moment","price","raw"]']
    pair = tools.run("values", [*words, "--output_folder", "dataset"])
    [theirs], [ours] = (run.dataset.stats.values() for run in (pair.theirs, pair.ours))

    assert theirs["successes"] == ours["successes"] == 1
    assert not pair.theirs.dataset.records
    [record] = pair.ours.dataset.records.values()
    assert record["day"] == "2026-01-31"
    assert record["price"] == "12.50"
    [row] = pair.ours.dataset.rows.values()
    assert {name: row[name] for name in values} == {name: value for name, [value] in values.items()}


def test_a_caption_of_digits_stays_as_it_was_written(tools: Tools, origin: Origin) -> None:
    """img2dataset takes a csv column of digits for numbers, and 007 for 7."""
    path = tools.folder / "digits.csv"
    path.write_text("".join(f"{line}\n" for line in ("url,caption", f"{origin.url('chelsea.png')},007")))
    words = [str(path), "--input_format", "csv", "--caption_col", "caption", "--output_folder", "dataset"]
    pair = tools.run("digits", words)
    theirs, ours = ([parts["txt"] for parts in run.dataset.samples.values()] for run in (pair.theirs, pair.ours))

    assert theirs == [b"7"]
    assert ours == [b"007"]


def test_numbers_that_are_none_are_null_in_json(tools: Tools, origin: Origin) -> None:
    """NaN is no JSON, and strict readers refuse it."""
    path = tools.folder / "nan.parquet"
    pq.write_table(pa.table({"url": [origin.url("chelsea.png")], "share": [float("nan")]}), path)
    words = [str(path), "--input_format", "parquet", "--save_additional_columns", '["share"]']
    pair = tools.run("nan", [*words, "--output_folder", "dataset"])
    [theirs], [ours] = (list(run.dataset.samples.values()) for run in (pair.theirs, pair.ours))

    assert b'"share": NaN' in theirs["json"]
    assert b'"share":null' in ours["json"]


def read_txt(tools: Tools, name: str, lines: list[str]) -> Pair:
    """Run both on a txt list of *lines*."""
    path = tools.folder / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return tools.run(name, [str(path), "--output_folder", "dataset"])
