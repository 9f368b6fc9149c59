"""What a dataset comes to, added up from its stats files: the same as its runs have said, whatever else lies there."""

from __future__ import annotations

import json
import threading
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds import OptionsError, download, summary
from async_img2ds.dataset.stats import AHEAD, Found, gaps, ranges, read_stats
from async_img2ds.existing import READERS
from async_img2ds.policy.markers import Marker
from async_img2ds.records import Tally
from async_img2ds.storage import LocalStore
from policy.test_markers import IMG2DATASETS
from test_cli import aimg2ds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from async_img2ds import RunReport
    from origin import Origin

QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 1}
NAMES = ("rocket.jpg", "no-such.jpg", "truncated.jpg", "coffee.png")


@pytest.fixture(scope="module")
def runs(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunReport]]:
    """A dataset of five shards that two ranks have made, and what each has said of it."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "urls.txt").write_text("".join(f"{origin.url(NAMES[at % 4])}?{at}\n" for at in range(14)))
    options = {**QUIET, "output_format": "webdataset", "number_sample_per_shard": 3, "world_size": 2}
    made = [download(folder / "urls.txt", output_folder=folder / "out", rank=rank, **options) for rank in (0, 1)]
    return folder / "out", made


def markers(folder: Path, *numbers: int, **told: Any) -> Path:
    """Write stats files of the shards *numbers*, with something else *told*."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        tally = Tally(10, 8, 1, 1, 500, 300)
        tally.error_classes.update({"http_status_4xx": 1, "decode_error": 1})
        content = Marker(tally, 1e9 + number, 5.0, {}, "", {"image_size": 256}, 1).to_json()
        (folder / f"{number:05d}_stats.json").write_text(json.dumps(json.loads(content) | told))
    return folder


def test_sums_are_those_of_all_runs(runs: tuple[Path, list[RunReport]]) -> None:
    """Of the machines that shared the list, by reason, in bytes and shards."""
    folder, reports = runs
    found = summary(str(folder), progress="none")

    assert (found.rows, found.successes) == (14, 7)
    assert found.successes == sum(report.successes for report in reports)
    assert found.failed_to_download == sum(report.failed_to_download for report in reports)
    assert found.failed_to_resize == sum(report.failed_to_resize for report in reports)
    assert found.error_classes == {"http_status_4xx": 4, "decode_truncated": 3}
    assert found.bytes_received == sum(report.bytes_received for report in reports)
    assert found.bytes_written == sum(report.bytes_written for report in reports)
    assert found.shards == sum(report.shards_done for report in reports) == 5
    assert (found.missing, len(found.made_with), found.damaged, found.is_in_use) == (0, 1, {}, False)


def test_it_is_said_as_at_the_end_of_a_run(runs: tuple[Path, list[RunReport]]) -> None:
    """Counts, share, amounts, and each reason with what can be done about it."""
    done = aimg2ds("summary", str(runs[0]), "--progress", "none")

    assert done.returncode == 0
    assert "7 of 14 images (50.0%)" in done.stdout
    assert "shards: 5 finished\n" in done.stdout
    assert "failed: 7 (4 not downloaded, 3 not made into an image)" in done.stdout
    assert "not there any more, or not for us" in done.stdout
    assert "MB received" in done.stdout
    assert done.stderr == ""


def test_programs_get_the_same_as_one_object(runs: tuple[Path, list[RunReport]]) -> None:
    """All that Python gets, and nothing else on standard output."""
    told = json.loads(aimg2ds("summary", str(runs[0]), "--json").stdout)
    found = summary(str(runs[0]), progress="none")

    assert told["share"] == found.share == 0.5
    assert told["made_with"][0]["options"] == found.made_with[0].options
    assert set(told) == {*found.__dataclass_fields__, "share"}
    assert all(told[name] == getattr(found, name) for name in ("rows", "error_classes", "began", "ended", "damaged"))


def test_missing_numbers_are_counted_and_the_first_told(tmp_path: Path) -> None:
    """Below the highest; of those above nobody knows."""
    folder = markers(tmp_path / "out", 1, 2, 5, 9)
    found = summary(str(folder), progress="none")

    assert (found.missing, found.missing_first) == (6, ((0, 0), (3, 4), (6, 8)))
    assert "6 below the highest are not there: 0, 3-4, 6-8\n" in aimg2ds("summary", str(folder)).stdout


def test_times_are_of_the_first_and_the_last(tmp_path: Path) -> None:
    """Whichever numbers these have."""
    folder = markers(tmp_path / "out", 0, 1)
    markers(folder, 2, start_time=5e8)
    markers(folder, 3, start_time=5e8, duration=1e9)

    assert (summary(str(folder), progress="none").began, summary(str(folder), progress="none").ended) == (5e8, 15e8)
    assert "begun at 1985-11-05 00:53:20 UTC" in aimg2ds("summary", str(folder)).stdout


def test_shards_made_otherwise_are_named(tmp_path: Path) -> None:
    """In what they differ from most, and which they are, those of img2dataset among them."""
    folder = markers(tmp_path / "out", 0, 1, 4, 5)
    markers(folder, 2, 3, made_with={"image_size": 512, "provenance": True})
    (folder / "00006_stats.json").write_text(json.dumps(IMG2DATASETS))
    most, *others = summary(str(folder), progress="none").made_with
    said = aimg2ds("summary", str(folder)).stdout

    assert (most.options, most.shards, most.numbers) == ({"image_size": 256}, 4, ((0, 1), (4, 5)))
    assert [one.shards for one in others] == [2, 1]
    assert "2 with image_size 512, not 256; provenance true, not untold: 2-3\n" in said
    assert "1 with img2dataset, which does not say with what options: 6\n" in said


def test_shards_of_img2dataset_count_without_their_reasons(tmp_path: Path) -> None:
    """Which their stats files do not have."""
    folder = markers(tmp_path / "out", 0)
    (folder / "00001_stats.json").write_text(json.dumps(IMG2DATASETS))
    found = summary(str(folder), progress="none")

    assert (found.rows, found.successes, sum(found.error_classes.values())) == (20, 16, 2)
    assert "of 2 the stats files have no error_class" in aimg2ds("summary", str(folder)).stdout


@pytest.mark.parametrize("content", ["", "{}", '{"count": 1', '{"count": "many"}', "null", "\0\0"])
def test_damaged_stats_files_are_named_and_the_others_added_up(tmp_path: Path, content: str) -> None:
    """With status 1; whatever is in them."""
    folder = markers(tmp_path / "out", 0, 2)
    (folder / "00001_stats.json").write_text(content)
    done = aimg2ds("summary", str(folder))

    assert done.returncode == 1
    assert "16 of 20 images" in done.stdout
    assert "DAMAGED: 00001_stats.json is " in done.stdout
    assert "Traceback" not in done.stderr


def test_reasons_and_times_that_nobody_knows_are_passed_on(tmp_path: Path) -> None:
    """Another version may have others."""
    folder = markers(tmp_path / "out", 0, error_classes={"too_quiet": 2}, start_time=1e300)
    done = aimg2ds("summary", str(folder))

    assert done.returncode == 0
    assert "too_quiet" in done.stdout


def test_a_run_may_be_writing(tmp_path: Path) -> None:
    """What is finished is added up, and it is said that there will be more."""
    folder = markers(tmp_path / "out", 0)
    store = LocalStore(folder)
    store.prepare()
    try:
        done = aimg2ds("summary", str(folder))
    finally:
        store.close()

    assert done.returncode == 0
    assert "8 of 10 images" in done.stdout
    assert "a run is writing to this folder" in done.stdout


@pytest.mark.parametrize("name", ["there", "not-there"])
def test_a_folder_without_a_dataset_is_refused(tmp_path: Path, name: str) -> None:
    """And none is made."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").touch()
    with pytest.raises(OptionsError, match="there is no dataset"):
        summary(str(tmp_path / name), progress="none")

    assert not (tmp_path / "not-there").exists()


@given(st.dictionaries(st.tuples(st.integers(1, 6), st.integers(0, 10**6 - 1)), st.booleans()))
def test_stats_files_are_found_in_the_order_of_their_numbers(names: dict[tuple[int, int], bool]) -> None:
    """However many digits they are written with; empty ones apart, and nothing else."""
    stems = {f"{number:0{digits}d}": is_empty for (digits, number), is_empty in names.items()}

    class Listed(LocalStore):
        def entries(self, folder: str = "") -> Iterator[tuple[str, int | None]]:
            assert folder == ""
            yield from ((f"{stem}_stats.json", 0 if is_empty else 9) for stem, is_empty in stems.items())
            yield from [("notes_stats.json", 1), ("00000.tar", 9), ("\u0661_stats.json", 9)]

    found = Found.in_store(Listed(None))  # type: ignore[arg-type]  # of which nothing is asked

    assert [stem for _, stem in found] == sorted(
        (stem for stem, is_empty in stems.items() if not is_empty), key=lambda stem: (int(stem), len(stem))
    )
    assert found.empty == sorted(f"{stem}_stats.json" for stem, is_empty in stems.items() if is_empty)


@given(st.sets(st.integers(0, 60)))
def test_ranges_and_gaps_are_all_numbers_to_the_highest(numbers: set[int]) -> None:
    """Each in one of them, in order, and none twice."""
    listed = sorted(numbers)
    runs = [*ranges(listed)], [*gaps(listed)]
    told = [set(chain.from_iterable(range(first, last + 1) for first, last in some)) for some in runs]

    assert told[0] == numbers
    assert told[1] == set(range(max(numbers, default=-1))) - numbers
    assert all(first <= last for some in runs for first, last in some)


def test_few_stats_files_are_read_at_a_time(tmp_path: Path) -> None:
    """However many there are: so many threads ask, and little is read before it is wanted."""
    folder = markers(tmp_path / "out", *range(300))
    asked: list[str] = []
    reading: set[int] = set()
    most = 0
    lock = threading.Lock()

    class Watching(LocalStore):
        def content(self, name: str) -> bytes:
            nonlocal most
            with lock:
                asked.append(name)
                reading.add(threading.get_ident())
                most = max(most, len(reading))
            content = super().content(name)
            with lock:
                reading.discard(threading.get_ident())
            return content

    store = Watching(folder)
    ahead = 0
    for at, file in enumerate(read_stats(store, Found.in_store(store))):
        ahead = max(ahead, len(asked) - at)

        assert file.marker is not None
        assert not file.marker.tally.messages

    assert len(asked) == 300
    assert most <= READERS
    assert ahead <= AHEAD * READERS + 1
