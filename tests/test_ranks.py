"""Many machines share a list: each does its part, none asks another, and together they make one dataset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds import OptionsError, download, verify
from async_img2ds.errors import InUse, TakenOver
from async_img2ds.options import Options, RetryOptions, RunOptions
from async_img2ds.ranks import ALL, SCHEDULERS, Share, share_among
from async_img2ds.storage import open_store
from async_img2ds.storage.holders import HOLDER, RANKS, locked
from processes import wait_until, workers_of
from test_run import QUIET, contents, write_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.storage import Store
    from origin import Origin

WORLDS = st.integers(1, 200)


@given(WORLDS, st.integers(0, 10**7))
def test_each_shard_is_one_ranks(world_size: int, shard_id: int) -> None:
    """No shard is left out, and none is done twice."""
    assert sum(Share(rank, world_size).has(shard_id) for rank in range(world_size)) == 1


@given(WORLDS, st.integers(0, 1000), st.data())
def test_ranks_have_as_many_shards_but_for_one(world_size: int, shards: int, data: st.DataObject) -> None:
    """Wherever the list ends."""
    rank = data.draw(st.integers(0, world_size - 1))
    count = sum(map(Share(rank, world_size).has, range(shards)))

    assert count in (shards // world_size, -(-shards // world_size))


@pytest.mark.parametrize("world_size", [2, 3, 7, 10, 64])
@pytest.mark.parametrize("shards_in_a_file", [2, 3, 10, 63, 64, 65])
def test_short_shards_at_the_ends_of_files_fall_to_all_ranks(world_size: int, shards_in_a_file: int) -> None:
    """Whatever rhythm a list has: none of them has half again as many as there are for each, or half as many."""
    files = 400 * world_size
    last = range(shards_in_a_file - 1, files * shards_in_a_file, shards_in_a_file)
    counts = [sum(map(Share(rank, world_size).has, last)) for rank in range(world_size)]

    assert 200 < min(counts) <= max(counts) < 600


Scheduled = Callable[[dict[str, str]], Mapping[str, str]]


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> Scheduled:
    """The environment of this process, as a scheduler sets it; it takes no names but strings, as no dict does."""
    for each in SCHEDULERS:
        monkeypatch.delenv(each.rank, raising=False)

    def placed(environment: dict[str, str]) -> Mapping[str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return os.environ

    return placed


ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("environment", "given_by_hand", "expected"),
    [
        ({}, (3, 8), Share(3, 8)),
        (TORCHRUN, (None, None), Share(3, 8)),
        (TORCHRUN, (0, 2), Share(0, 2)),
        ({**ARRAY, **TORCHRUN}, (None, None), Share(3, 8)),
        ({**ARRAY, "SLURM_ARRAY_TASK_STEP": "2"}, (None, None), Share(3, 4)),
        # Of tasks that are run again the scheduler knows only those, so the whole number is said by hand.
        ({**ARRAY, "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "7"}, (None, 16), Share(7, 16)),
        # Each task of an array runs three processes.
        (
            {**ARRAY, "SLURM_ARRAY_TASK_STEP": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"},
            (None, None),
            Share(11, 12),
        ),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (None, None), Share(1, 2)),
        ({"JOB_COMPLETION_INDEX": "5"}, (None, 6), Share(5, 6)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (None, None), Share(1, 2)),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, (None, None), Share(0, 2)),
    ],
)
def test_rank_is_what_the_scheduler_says(
    scheduled: Scheduled, environment: dict[str, str], given_by_hand: tuple[int | None, int | None], expected: Share
) -> None:
    """Unless it is said by hand."""
    rank, world_size = given_by_hand
    placed = RunOptions(distributor="rank", rank=rank, world_size=world_size).placed(scheduled(environment))

    assert placed.share == expected
    assert placed.distributor == "rank"


@pytest.mark.parametrize(
    ("environment", "given_by_hand", "said"),
    [
        ({}, (None, None), "give --rank"),
        ({}, (None, 4), "give --rank"),
        ({}, (1, None), "give --world_size"),
        ({"JOB_COMPLETION_INDEX": "5"}, (None, None), "give --world_size"),
        # A batch script that is one process, whatever was asked for it.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (None, None), "give --world_size"),
        ({"JOB_COMPLETION_INDEX": "6"}, (None, 6), r"got 6 \(told by Kubernetes, as JOB_COMPLETION_INDEX\)"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, (None, None), "RANK is 'one'"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, (None, None), "got -1"),
    ],
)
def test_rank_that_is_not_known_is_asked_for(
    scheduled: Scheduled, environment: dict[str, str], given_by_hand: tuple[int | None, int | None], said: str
) -> None:
    """A guess would leave shards out, or have all machines do all of them."""
    with pytest.raises(OptionsError, match=said):
        share_among(*given_by_hand, scheduled(environment))


def test_what_a_scheduler_says_is_heeded_only_if_asked_for() -> None:
    """A run inside a job of another kind is the whole run."""
    assert RunOptions().placed(TORCHRUN).share == ALL
    assert RunOptions(distributor="rank").placed(TORCHRUN).ranks_per_node == 4
    assert RunOptions(rank=0, world_size=2).placed({}).distributor == "rank"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 2, "world_size": 2}, "rank: ranks go from 0 to world_size - 1, which is 1; got 2"),
        ({"rank": 0, "world_size": 2, "distributor": "pyspark"}, "pyspark shares the list out by itself"),
        *(({"rank": 0, "world_size": 2, "incremental_mode": mode}, mode) for mode in ("overwrite", "extend")),
        ({"distributor": "rank", "incremental_mode": "extend_new"}, "extend_new"),
        ({"distributor": "rank", "partition_by": "host"}, "aimg2ds partition"),
    ],
)
def test_what_ranks_cannot_do_is_refused(options: dict[str, Any], said: str) -> None:
    """Before anything is touched."""
    with pytest.raises(OptionsError, match=said):
        Options.of(url_list="urls.txt", **options)


def test_retry_is_for_one_run() -> None:
    """Two that change a finished dataset at a time would be in each other's way."""
    with pytest.raises(OptionsError, match="one run at a time"):
        RetryOptions.of(output_folder="out", distributor="rank")
    with pytest.raises(OptionsError, match="no option 'rank'"):
        RetryOptions.of(output_folder="out", rank=1)


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An output folder that knows locks, and one that does not."""
    name = uuid.uuid4().hex
    yield str(tmp_path / name) if request.param == "disk" else f"memory://{name}"
    memory = fsspec.filesystem("memory")
    if memory.exists(name):
        memory.rm(name, recursive=True)


def held(folder: str, share: Share = ALL) -> Store:
    store = open_store(folder, share)
    try:
        store.prepare()
    except InUse:
        store.close()
        raise
    return store


def test_ranks_write_beside_each_other(folder: str) -> None:
    """To others the folder is in use until the last of them has ended, and nothing of them is left in it then."""
    one, two = held(folder, Share(0, 2)), held(folder, Share(1, 2))
    one.check()
    two.check()
    onlooker = open_store(folder)
    assert onlooker.is_in_use()
    one.close()
    assert onlooker.is_in_use()
    two.check()
    two.close()
    assert not onlooker.is_in_use()
    fs, path = fsspec.core.url_to_fs(folder)

    assert not fs.exists(path) or fs.ls(path) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(Share(0, 2), ALL), (ALL, Share(0, 2)), (Share(0, 2), Share(0, 2)), (Share(0, 2), Share(1, 3))],
)
def test_nobody_else_writes_beside_ranks(folder: str, first: Share, second: Share) -> None:
    """Neither a run of all, nor one that counts otherwise, nor the same rank once more; and it is said who has it."""
    holding = held(folder, first)
    said = "another run is writing" if first.is_all else r"another run is writing to .* \(rank 0 of 2, process \d+ on"
    with pytest.raises(InUse, match=said):
        held(folder, second)
    holding.check()
    holding.close()
    held(folder, second).close()


def test_two_that_begin_at_the_same_moment_do_not_both_go_on(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says first who it is, and then looks who else is there."""
    if not folder.startswith("memory"):
        pytest.skip("where there are locks the second is refused before")
    store = open_store(folder)
    from async_img2ds.storage.holders import Lease

    seen_gone = Lease._see_gone

    def slowly(lease: Lease, paths: Any) -> None:
        seen_gone(lease, paths)
        if lease._share.is_all:
            held(folder, Share(1, 2))  # begins when the other has seen that nobody is there

    monkeypatch.setattr(Lease, "_see_gone", slowly)
    with pytest.raises(InUse, match="another run is writing"):
        store.prepare()
    store.close()

    assert not fsspec.filesystem("memory").exists(f"{folder.removeprefix('memory:/')}/{HOLDER}")


def test_run_that_was_killed_gives_way_to_ranks(tmp_path: Path) -> None:
    """Its lock is gone with it, and should it live after all, its hold is."""
    store = held(str(tmp_path))
    lost = store._lease  # type: ignore[attr-defined]  # a killed run renews nothing and leaves its file
    lost._ended.set()
    os.close(store._lock)  # type: ignore[attr-defined]
    rank = held(str(tmp_path), Share(0, 2))
    with pytest.raises(TakenOver):
        lost.check()
    rank.close()


def test_ranks_with_other_options_do_not_begin(folder: str) -> None:
    """Their shards would be mixed; one that was killed is in nobody's way."""
    first = held(folder, Share(0, 2, making="256 pixels"))
    with pytest.raises(InUse, match=r"rank 0 of 2, .* with other options for images"):
        held(folder, Share(1, 2, making="512 pixels"))
    first.check()
    held(folder, Share(1, 2, making="256 pixels")).close()
    first.close()
    held(folder, Share(1, 2, making="512 pixels")).close()


def test_files_of_others_are_no_ranks(folder: str) -> None:
    """Somebody has put something in the folder in which ranks say who they are: it stays, and nobody waits for it."""
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(f"{path}/{RANKS}", exist_ok=True)
    fs.pipe_file(f"{path}/{RANKS}/README", b"what is this?")
    held(folder).close()

    assert fs.cat_file(f"{path}/{RANKS}/README") == b"what is this?"


def test_rank_sweeps_what_is_of_its_own_shards(tmp_path: Path) -> None:
    """Others are writing theirs at this moment."""
    share = Share(0, 2)
    names = [f"{number:05d}.tar.partial" for number in range(20)]
    for name in names:
        (tmp_path / name).mkdir()
    held(str(tmp_path), share).close()
    left = {path.name for path in tmp_path.iterdir()}

    assert left == {name for number, name in enumerate(names) if not share.has(number)}
    assert 0 < len(left) < 20


def options(tmp_path: Path, out: str, **further: object) -> dict[str, Any]:
    return {
        **QUIET,
        "url_list": tmp_path / "urls.txt",
        "output_folder": tmp_path / out,
        "output_format": "webdataset",
        "number_sample_per_shard": 10,
        **further,
    }


def test_ranks_make_the_dataset_of_one_run(origin: Origin, tmp_path: Path) -> None:
    """One after the other, with other numbers of ranks in between: each does what is its own and is not yet done."""
    write_list(tmp_path / "urls.txt", origin, 95)
    assert download(**options(tmp_path, "whole")).complete
    first = download(**options(tmp_path, "out", rank=1, world_size=3))
    reports = [download(**options(tmp_path, "out", rank=rank, world_size=2)) for rank in range(2)]

    assert first.shards_done in (3, 4)
    assert sum(report.shards_done for report in (first, *reports)) == 10
    assert sum(report.count for report in (first, *reports)) == 95
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert verify(str(tmp_path / "out")).good


def test_rank_without_a_shard_has_nothing_to_do(origin: Origin, tmp_path: Path) -> None:
    """Which is no fault of it."""
    write_list(tmp_path / "urls.txt", origin, 5)
    counts = Counter(download(**options(tmp_path, "out", rank=rank, world_size=4)).count for rank in range(4))

    assert counts == {0: 3, 5: 1}


def command(tmp_path: Path, rank: int, world_size: int) -> list[str]:
    aimg2ds = str(Path(sys.executable).parent / "aimg2ds")
    given = {**options(tmp_path, "out", rank=rank, world_size=world_size, processes_count=1), "url_list": None}
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [aimg2ds, "fetch", str(tmp_path / "urls.txt"), *words]


def test_rank_that_is_killed_is_run_again_while_others_go_on(origin: Origin, tmp_path: Path) -> None:
    """Its processes and it; nothing is lost, nothing left, and each says which part was its own."""
    write_list(tmp_path / "urls.txt", origin, 600)
    assert download(**options(tmp_path, "whole")).complete
    out = tmp_path / "out"
    with (
        subprocess.Popen(command(tmp_path, 0, 3), stdout=subprocess.PIPE, text=True) as steady,
        subprocess.Popen(command(tmp_path, 1, 3), stdout=subprocess.PIPE) as killed,
    ):
        wait_until(lambda: any(Share(1, 3).has(int(path.name[:5])) for path in out.glob("*_stats.json")))
        workers = workers_of(killed.pid)
        killed.send_signal(signal.SIGKILL)
        said = subprocess.run(command(tmp_path, 2, 3), capture_output=True, text=True, check=True).stdout
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        subprocess.run(command(tmp_path, 1, 3), capture_output=True, check=True)
        steady.communicate()

    assert steady.returncode == 0
    assert "shards: 20 done by rank 2 of 3" in said
    assert contents(out) == contents(tmp_path / "whole")
    assert [path.name for path in out.iterdir() if path.suffix not in (".tar", ".parquet", ".json", ".toml")] == []
    assert verify(str(out)).good


def test_dataset_on_which_ranks_work_is_not_changed_by_others(tmp_path: Path) -> None:
    """A check sees that they do, and a repair is refused, as is any run of another kind."""
    (tmp_path / "00000.tar").touch()
    ranks = tmp_path / RANKS
    ranks.mkdir()
    lock = locked(ranks / "0-of-2")

    assert lock is not None
    assert verify(str(tmp_path)).is_in_use
    with pytest.raises(InUse, match="another run is writing"):
        verify(str(tmp_path), repair=True)
