"""A list looked at before it is fetched: what it has is counted, and what a sample says of it holds for the whole."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from async_img2ds import OptionsError, SurveyReport, survey
from async_img2ds.distributors.base import Stop
from async_img2ds.lists.census import take_census
from async_img2ds.options import FetchOptions, InputOptions, PlanOptions
from async_img2ds.policy.census import About, Ranked
from async_img2ds.prospect import run_survey
from lists import as_parquet, encoded, written
from test_cli import aimg2ds

if TYPE_CHECKING:
    from pathlib import Path

    from origin import Origin

QUIET: dict[str, Any] = {"progress": "none", "retries": 0, "processes_count": 1, "allow_net": "127.0.0.0/8"}
URLS = [
    *(f"http://large.org/{number}.jpg" for number in range(6)),
    *(f"http://small.org/{number}.jpg" for number in range(2)),
    "http://large.org/0.jpg",
    "http://me:secret@large.org/0.jpg",
    "http://10.0.0.1/x.jpg",
    "images/cat.jpg",
    None,
    "s3://bucket/cat.jpg",
]


def census(path: Path, drawn: int = 0, seed: int = 0, **options: Any) -> tuple[Any, pa.Table]:
    listed = InputOptions(url_list=str(path), **options)  # type: ignore[arg-type]  # checked when constructed
    return take_census(listed, FetchOptions(), lambda *_: None, lambda: True, drawn=drawn, seed=seed)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of two files of columns that are not all the same."""
    rows = [{"url": url, "TEXT": "a picture", "md5": "0" * 32} for url in URLS]
    (tmp_path / "lists").mkdir()
    written(tmp_path / "lists" / "a.jsonl", encoded(rows[:7], "jsonl"))
    written(tmp_path / "lists" / "b.jsonl", encoded(rows[7:], "jsonl"))
    return tmp_path / "lists"


def test_list_is_counted(listed: Path) -> None:
    """Rows, hosts and their rows, repeats as a fetch with dedupe has them."""
    report = survey(str(listed), input_format="jsonl", progress="none")
    found = report.census

    assert (found.rows, found.files, found.columns) == (len(URLS), 2, ("url", "TEXT", "md5"))
    assert found.hosts == About(3)
    assert found.top_hosts == (Ranked("large.org", 8), Ranked("small.org", 2), Ranked("10.0.0.1", 1))
    assert found.share_of_top(2) == 10 / len(URLS)
    assert (found.repeats, found.most_repeated, found.most_repeats) == (About(2), "http://large.org/0.jpg", 3)
    assert report.trial is None


def test_rows_that_look_wrong_are_shown(listed: Path) -> None:
    """Each kind with how many, an example without credentials, and what to do."""
    found = {one.what: one for one in survey(str(listed), input_format="jsonl", progress="none").census.suspects}

    assert {what: (one.rows, one.is_fetched) for what, one in found.items()} == {
        "private address": (1, False),
        "not a URL": (1, False),
        "no URL": (1, False),
        "scheme not fetched": (1, False),
        "credentials": (1, True),
    }
    assert found["credentials"].examples == ("http://large.org/0.jpg",)
    assert "--allow_net" in found["private address"].advice


def test_what_the_fetch_allows_counts(listed: Path) -> None:
    """Its options are those of the fetch, sources and networks included."""
    allowed = {"allow_net": "10.0.0.0/8", "allow_sources": "s3://bucket"}
    found = survey(str(listed), input_format="jsonl", progress="none", **allowed).census

    assert {"private address", "scheme not fetched"}.isdisjoint(one.what for one in found.suspects)
    assert Ranked("s3://bucket", 1) in found.top_hosts


def test_columns_that_seem_to_be_there_for_something_are_told(listed: Path) -> None:
    """Unless an option names them."""
    told = survey(str(listed), input_format="jsonl", progress="none").census.column_hints
    named = {"caption_col": "TEXT", "verify_hash": ["md5", "md5"], "compute_hash": "md5"}

    assert "--caption_col TEXT" in told[0]
    assert """--verify_hash '["md5","md5"]'""" in told[1]
    assert survey(str(listed), input_format="jsonl", progress="none", **named).census.column_hints == ()


def test_sample_is_drawn_by_its_seed(tmp_path: Path) -> None:
    """The same rows again, others by another; with the columns that the options ask for alone."""
    rows = [{"url": f"http://a.org/{number}", "text": str(number), "other": 1} for number in range(500)]
    path = written(tmp_path / "list.csv", encoded(rows, "csv"))
    first, again, other = (census(path, 20, seed, input_format="csv", caption_col="text")[1] for seed in (1, 1, 2))

    assert first.equals(again)
    assert first.column_names == ["text", "url"]
    assert len(set(first.column("url").to_pylist())) == 20
    assert set(first.column("url").to_pylist()) != set(other.column("url").to_pylist())


def test_short_list_is_drawn_whole(listed: Path) -> None:
    """Rows of files with different columns lie side by side, which a fetch reads as one list."""
    _, drawn = census(listed, 100, input_format="jsonl", save_additional_columns=("TEXT",))

    assert sorted(map(str, drawn.column("url").to_pylist())) == sorted(
        str(url).replace("me:secret@", "") for url in URLS
    )


NAMES = ["rocket.jpg", "coffee.png", "no-such.jpg", "rocket.jpg"]


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet", "dummy"])
def test_sample_says_what_the_whole_comes_to(origin: Origin, tmp_path: Path, output_format: str) -> None:
    """Where all rows are drawn: counts and bytes are those of the list, and nothing is left anywhere."""
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url(NAMES[at % 4])}?{at}\n" for at in range(24)))
    temp, out = tmp_path / "temp", tmp_path / "out"
    temp.mkdir()
    options = {**QUIET, "output_format": output_format, "temp_folder": str(temp), "output_folder": str(out)}
    trial = survey(tmp_path / "urls.txt", sample=100, **options).trial

    assert trial is not None
    assert (trial.rows, trial.successes, trial.error_classes) == (24, 18, {"http_status_4xx": 6})
    assert trial.success_share.likely == 0.75
    assert trial.images.low < 18 < trial.images.high
    sizes = {name: (origin.pictures / name).stat().st_size for name in ("rocket.jpg", "coffee.png")}
    assert trial.received.likely >= 12 * sizes["rocket.jpg"] + 6 * sizes["coffee.png"]
    assert (trial.disk.low > 0) is (output_format != "dummy")
    assert trial.disk.low <= trial.disk.likely <= trial.disk.high
    assert trial.hours.low <= trial.hours.likely <= trial.hours.high
    assert list(temp.iterdir()) == []
    assert not out.exists()


def test_one_host_may_decide_how_long_it_takes(tmp_path: Path) -> None:
    """A delay between its requests makes hours of a list that is short, and a note says so."""
    (tmp_path / "urls.txt").write_text("".join(f"http://127.0.0.1:9/{at}.jpg\n" for at in range(7200)))
    trial = survey(tmp_path / "urls.txt", sample=1, crawl_delay=100, **QUIET).trial

    assert trial is not None
    assert trial.largest_host_hours == 200
    assert (trial.hours.low, trial.hours.high) == (200, 200)
    assert any("127.0.0.1 alone" in note for note in trial.notes)


def test_no_end_is_promised_where_hosts_have_enough(origin: Origin, tmp_path: Path) -> None:
    """They are asked ever less, which no sample shows."""
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url('busy')}?{at}\n" for at in range(3)))
    trial = survey(tmp_path / "urls.txt", sample=3, **QUIET).trial

    assert trial is not None
    assert trial.hours.high == math.inf
    assert any("429 or 5xx" in note for note in trial.notes)


def test_list_without_rows_is_no_trouble(tmp_path: Path) -> None:
    """There is nothing to draw from it."""
    report = survey(written(tmp_path / "urls.txt", b""), sample=5, **QUIET)

    assert (report.census.rows, report.trial, report.interrupted) == (0, None, False)


def test_stop_leaves_what_was_counted(tmp_path: Path) -> None:
    """It is told that this is not all, and nothing is fetched."""
    path = written(tmp_path / "list.parquet", as_parquet(pa.table({"url": ["http://a.org/"] * 10})))

    async def stopped() -> SurveyReport:
        stop = Stop()
        stop.ask()
        return await run_survey(PlanOptions.of(path, input_format="parquet", sample=3, **QUIET), stop)

    report = asyncio.run(stopped())

    assert report.interrupted
    assert not report.census.is_whole
    assert report.trial is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampel": 5}, "no option 'sampel'"),
        ({"sample": -1}, "sample takes"),
        ({"caption_col": "text"}, "a txt list has URLs only"),
        ({"sample": 1, "temp_folder": "/no/such"}, "temp_folder"),
    ],
)
def test_bad_request_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """In words, as a fetch is."""
    path = written(tmp_path / "urls.txt", b"http://10.0.0.1/\n")

    with pytest.raises(OptionsError, match=words):
        survey(path, progress="none", **options)


def test_it_is_told_in_lines_that_fit_and_as_json(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words of a fetch; what a program reads is one object."""
    monkeypatch.setenv("COLUMNS", "80")
    words = ["plan", str(listed), "--input_format", "jsonl", "--progress", "none"]
    told, as_json = aimg2ds(*words), aimg2ds(*words, "--json")

    assert (told.returncode, told.stderr) == (0, "")
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "4 cannot be fetched" in told.stdout
    assert "--sample 500" in told.stdout
    assert json.loads(as_json.stdout)["census"]["rows"] == len(URLS)
