"""What was fetched of a shard that a kill has cut off is not fetched again."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

import origin as origin_server
from async_img2ds import journal as journals
from async_img2ds import verify
from async_img2ds.errors import ErrorClass
from async_img2ds.journal import Journal, identity_of, journal_of, journals_in
from async_img2ds.records import Sample, Status
from async_img2ds.storage import Attempt, LocalStore, RemoteStore, open_store
from processes import wait_until, workers_of
from samples import LISTED, SAMPLES, failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from async_img2ds.records import Row
    from origin import Origin

ROWS: list[Row] = [sample.row for sample in sorted(SAMPLES, key=lambda sample: sample.row.index)]
IDENTITY = identity_of(ROWS, {"image_size": 256})
ASKED_WITH = bytes(32)


def keep(
    folder: Path, samples: list[Sample], identity: bytes = IDENTITY, asked_with: bytes = ASKED_WITH
) -> list[Sample]:
    """Open a journal, keep *samples* in it and leave it; return what it had before: images first, then failures."""
    folder.parent.mkdir(exist_ok=True)

    async def run() -> list[Sample]:
        async with Attempt.open(LocalStore(folder.parent)) as attempt:
            journal = Journal(attempt, folder, identity, asked_with, ROWS, keeps=True)
            before = [sample async for sample in journal.kept()]
            for sample in samples:
                await journal.keep(sample)
            return before

    return asyncio.run(run())


def images_first(samples: list[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: sample.encoded is None)


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    """Images, failures, sizes and texts, in the order they came, over several attempts, each once."""
    folder = tmp_path / "00012.journal"
    assert keep(folder, SAMPLES[:3]) == []
    assert keep(folder, SAMPLES[2:]) == images_first(SAMPLES[:3])

    assert sorted(keep(folder, []), key=lambda sample: sample.row.index) == sorted(
        SAMPLES, key=lambda sample: sample.row.index
    )


@pytest.mark.parametrize(
    "other",
    [
        identity_of(ROWS, {"image_size": 512}),
        identity_of(ROWS, {"image_size": 256}, "base"),
        identity_of(ROWS[:4], {"image_size": 256}),
    ],
    ids=["options", "base", "rows"],
)
def test_nothing_is_taken_over_from_another_list_or_other_options(tmp_path: Path, other: bytes) -> None:
    """What was kept for these is removed."""
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES, other)

    assert keep(folder, SAMPLES[:1]) == []
    assert keep(folder, []) == SAMPLES[:1]


def test_a_journal_that_was_cut_anywhere_yields_what_is_whole(tmp_path: Path) -> None:
    """After a power cut its end may be missing, zeros, or rubbish; what comes back is what was written, up to there."""
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES)
    [path] = folder.iterdir()
    whole = path.read_bytes()
    seen = set()
    for end in range(0, len(whole), 5):
        for rest in (b"", bytes(len(whole) - end), b"\xff" * (len(whole) - end)):
            path.write_bytes(whole[:end] + rest)
            found = keep(folder, [])
            seen.add(len(found))
            assert found == images_first(SAMPLES[: len(found)])
            if not path.exists():  # it did not say any more whose it is
                path.write_bytes(b"")

    assert seen == set(range(len(SAMPLES)))


def test_defects_of_this_program_are_not_kept(tmp_path: Path) -> None:
    """A row that failed by one is tried again."""
    internal = failure(2, Status.FAILED_TO_DOWNLOAD, ErrorClass.INTERNAL, "a defect")
    keep(tmp_path / "00012.journal", [internal, SAMPLES[0]])

    assert keep(tmp_path / "00012.journal", []) == [SAMPLES[0]]


def test_journal_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Over all attempts at the shard; what came before it was reached is kept."""
    monkeypatch.setattr(journals, "JOURNAL_BYTES_MAX", 2700)
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES[:2])
    keep(folder, [SAMPLES[2], SAMPLES[2]])

    assert keep(folder, SAMPLES) == images_first(SAMPLES[:3])
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2700
    assert "has reached its size" in caplog.text


def test_full_disk_costs_the_rest_of_the_journal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was kept before stays, and of what did not fit there is no half."""
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES[:2])
    write_all = journals._write_all

    def full(file: FileIO, content: bytes) -> None:
        write_all(file, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journals, "_write_all", full)
        keep(folder, SAMPLES[2:])

    assert "is not gone on with ([Errno 28] No space left on device)" in caplog.text
    assert (folder / "0001").read_bytes() == b""
    assert keep(folder, SAMPLES[2:]) == images_first(SAMPLES[:2])
    assert len(keep(folder, [])) == len(SAMPLES)


def test_failures_are_not_taken_over_if_the_options_of_fetching_changed(tmp_path: Path) -> None:
    """With another resolver or time-out they may not fail; images are images."""
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES)
    images = [sample for sample in SAMPLES if sample.encoded is not None]

    assert keep(folder, [], asked_with=b"\1" * 32) == images
    assert len(keep(folder, [])) == len(SAMPLES) > len(images)


def test_image_stands_before_an_earlier_failure(tmp_path: Path) -> None:
    """A row that was asked for again, and has its image now, is not asked for a third time."""
    folder = tmp_path / "00012.journal"
    [image, *_] = [sample for sample in SAMPLES if sample.encoded is not None]
    keep(folder, [replace(image, status=Status.FAILED_TO_DOWNLOAD, encoded=None, error_class=ErrorClass.DNS_TIMEOUT)])
    keep(folder, [image], asked_with=b"\1" * 32)

    assert keep(folder, []) == [image]


def test_what_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rest is read; nothing that is not ours is touched, and no shard is lost for it."""
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES[:2])
    (folder / "@eaDir").mkdir()
    (folder / "0007").mkdir()
    (folder / "notes.txt").write_text("somebody's")

    assert keep(folder, SAMPLES[2:]) == images_first(SAMPLES[:2])
    assert "0007 cannot be read" in caplog.text
    assert (folder / "notes.txt").read_text() == "somebody's"
    assert len(keep(folder, [])) == len(SAMPLES)


def test_link_is_no_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it leads to is somebody's."""
    theirs = tmp_path / "theirs"
    keep(theirs, SAMPLES[:2], identity=identity_of(ROWS, {"theirs": True}))
    (tmp_path / "00012.journal").symlink_to(theirs)

    assert keep(tmp_path / "00012.journal", SAMPLES) == []
    assert [path.name for path in theirs.iterdir()] == ["0000"]
    assert "is a link and no folder of ours" in caplog.text


def test_what_has_waited_long_enough_is_written_though_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard may wait minutes for its last rows."""
    monkeypatch.setattr(journals, "GATHERED_S", 0.05)
    folder = tmp_path / "00012.journal"

    async def run() -> None:
        async with Attempt.open(LocalStore(tmp_path)) as attempt:
            journal = Journal(attempt, folder, IDENTITY, ASKED_WITH, ROWS, keeps=True)
            async with asyncio.TaskGroup() as tasks:
                keeping_up = tasks.create_task(journal.keep_up())
                await journal.keep(SAMPLES[0])
                await asyncio.to_thread(wait_until, lambda: folder.exists() and bool(journal_bytes(tmp_path)))
                keeping_up.cancel()

    asyncio.run(run())
    assert keep(folder, []) == SAMPLES[:1]


def test_switched_off_keeps_nothing_and_removes_what_others_kept(tmp_path: Path) -> None:
    """The shard is finished, whoever began it."""
    folder = tmp_path / "00012.journal"
    keep(folder, SAMPLES)

    async def run() -> list[Sample]:
        async with Attempt.open(LocalStore(tmp_path)) as attempt:
            journal = Journal(attempt, folder, IDENTITY, ASKED_WITH, ROWS, keeps=False)
            await journal.keep(SAMPLES[0])
            before = [sample async for sample in journal.kept()]
            await journal.drop()
            return before

    assert asyncio.run(run()) == []
    assert list(tmp_path.iterdir()) == []


def test_journals_of_an_object_store_lie_with_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each dataset has its own folder, the same in each run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, same, other = (open_store(f"memory://{name}") for name in ("a", "a", "b"))
    assert isinstance(one, RemoteStore)

    assert one.journals() == same.journals() != other.journals()
    assert tmp_path in one.journals().parents
    assert journals_in(one) == []
    journal_of(one, "00003").mkdir(parents=True)
    assert journals_in(same) == ["00003"]


@pytest.fixture
def logged(photographs: Path) -> Iterator[Origin]:
    """An origin that logs what it is asked for."""
    with origin_server.serve(photographs, logged=True) as server:
        yield server


ROWS_FETCHED = 300


def command(tmp_path: Path, origin: Origin, output_format: str) -> list[str]:
    """Return one that fetches slow photographs and missing ones as they come, in three shards."""
    names = ("slow/rocket.jpg", "no-such.jpg", "slow/motorcycle_left-baseline.jpg")
    urls = [origin.url(f"{names[number % 3]}?{number}") for number in range(ROWS_FETCHED)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    program = [str(Path(sys.executable).parent / "aimg2ds"), "fetch", str(tmp_path / "urls.txt")]
    options = {
        "output_format": output_format,
        "output_folder": tmp_path / "out",
        "number_sample_per_shard": 100,
        "processes_count": 2,
        "thread_count": 8,
        "disable_all_reencoding": True,  # large images, so that a megabyte is soon there
        "retries": 0,
        "allow_net": "127.0.0.0/8",
    }
    return [*program, *(f"--{name}={value}" for name, value in options.items())]


def journal_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.journal/*"))


def statuses(folder: Path) -> dict[str, str]:
    tables = [pq.read_table(path, columns=["url", "status"]).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return {row["url"]: row["status"] for table in tables for row in table}


@pytest.mark.parametrize("output_format", ["webdataset", "parquet", "files", "tfrecord"])
def test_killed_run_goes_on_within_its_shards(logged: Origin, tmp_path: Path, output_format: str) -> None:
    """After a kill, only rows are asked for again that were under way or came in the last megabyte of their shard."""
    run = command(tmp_path, logged, output_format)
    with subprocess.Popen(run, stderr=subprocess.PIPE) as process:
        wait_until(lambda: journal_bytes(tmp_path / "out") > 4_000_000)
        os.kill(process.pid, signal.SIGKILL)
    before = len(logged.requests())
    assert before < ROWS_FETCHED
    subprocess.run(run, check=True, capture_output=True)
    again = [path for path, count in Counter(logged.requests()).items() if count > 1]

    assert Counter(statuses(tmp_path / "out").values()) == {"success": 200, "failed_to_download": 100}
    assert len(again) < before / 2
    assert max(Counter(logged.requests()).values()) <= 2
    assert verify(str(tmp_path / "out"), deep=True, progress="none").good
    assert journals_in(open_store(str(tmp_path / "out"))) == []


def test_killed_worker_goes_on_within_its_shards(logged: Origin, tmp_path: Path) -> None:
    """The same within a run."""
    with subprocess.Popen(command(tmp_path, logged, "webdataset"), stderr=subprocess.PIPE) as process:
        wait_until(lambda: journal_bytes(tmp_path / "out") > 4_000_000)
        before = len(logged.requests())
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        process.communicate()

    assert process.returncode == 0
    assert 0 < before < ROWS_FETCHED
    assert len(logged.requests()) < ROWS_FETCHED + before / 2
    assert len(statuses(tmp_path / "out")) == ROWS_FETCHED
    assert journals_in(open_store(str(tmp_path / "out"))) == []


def test_stopped_run_loses_only_what_was_under_way(logged: Origin, tmp_path: Path) -> None:
    """SIGTERM writes down what was fetched of the shards that get no time to finish; what is left is told."""
    run = [*command(tmp_path, logged, "webdataset"), "--grace_s=0"]
    with subprocess.Popen(run, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(logged.requests()) > 80)
        process.terminate()
    found = verify(str(tmp_path / "out"), progress="none")
    subprocess.run(run, check=True, capture_output=True)

    assert process.returncode == 128 + signal.SIGTERM
    assert any("has what was fetched of it" in what for what in found.unfinished)
    assert len(logged.requests()) <= ROWS_FETCHED + 3 * 8  # under way in two processes, and some more
    assert len(statuses(tmp_path / "out")) == ROWS_FETCHED


def test_switched_off_leaves_nothing(logged: Origin, tmp_path: Path) -> None:
    """Nothing is written beside the shards, and a stopped run begins its shards anew."""
    run = [*command(tmp_path, logged, "webdataset"), "--grace_s=0", "--resume_within_shard=False"]
    with subprocess.Popen(run, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(logged.requests()) > 80)
        process.terminate()

    assert journals_in(open_store(str(tmp_path / "out"))) == []


def test_dummy_writes_nothing(logged: Origin, tmp_path: Path) -> None:
    """It is there to measure with, and keeps no images, not even for a while."""
    with subprocess.Popen([*command(tmp_path, logged, "dummy"), "--grace_s=0"], stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(logged.requests()) > 80)
        process.terminate()

    assert journals_in(open_store(str(tmp_path / "out"))) == []


@pytest.mark.parametrize("mode", ["extend", "extend_new", "overwrite"])
def test_runs_that_number_shards_anew_drop_journals(logged: Origin, tmp_path: Path, mode: str) -> None:
    """No shard of theirs could use them."""
    (tmp_path / "out" / "00000.journal").mkdir(parents=True)
    (tmp_path / "out" / "00000.journal" / "x").write_bytes(IDENTITY)
    (tmp_path / "out" / "holiday.journal").mkdir()
    subprocess.run([*command(tmp_path, logged, "webdataset"), f"--incremental_mode={mode}"], check=True)

    assert [path.name for path in (tmp_path / "out").glob("*.journal")] == ["holiday.journal"]
    assert LISTED.num_rows == len(ROWS)


def test_what_lists_of_before_have_left_goes_when_all_is_done(logged: Origin, tmp_path: Path) -> None:
    """Nobody would read it: the list was longer, or journals are switched off now."""
    keep(tmp_path / "out" / "00009.journal", SAMPLES)
    keep(tmp_path / "out" / "00001.journal", SAMPLES)
    run = [*command(tmp_path, logged, "webdataset"), "--resume_within_shard=False"]
    subprocess.run(run, check=True, capture_output=True)

    assert journals_in(open_store(str(tmp_path / "out"))) == []
    assert verify(str(tmp_path / "out"), progress="none").good
