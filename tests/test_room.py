"""A disk without room: everything waits and says so, and goes on when there is some."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from async_img2ds import verify
from async_img2ds.worker import room
from async_img2ds.worker.room import DiskRoom, least_room
from processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from origin import Origin

GB = 10**9


@dataclass
class Disk:
    """As much room as is said."""

    total: int = 1000 * GB
    free: int = 500 * GB
    pauses: list[float] = field(default_factory=list)

    def usage(self, _folder: Path) -> Disk:
        return self

    def room(self) -> DiskRoom:
        return DiskRoom(Path("/no/such/folder"), self.usage, self.pauses.append)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.01)


def test_small_disks_need_less() -> None:
    """A share of them rather than all."""
    assert least_room(1000 * GB) == 256 * 2**20
    assert least_room(100 * 2**20) == 5 * 2**20


def test_rows_wait_while_there_is_too_little(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once when it begins, and once when it is over; twice as much must be there to go on."""
    disk = Disk()

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(disk.room().watch())
            await asyncio.sleep(0.1)
            assert disk.pauses == []
            disk.free = 200 * 2**20
            await asyncio.sleep(0.1)
            before = len(disk.pauses)
            assert before
            disk.free = 300 * 2**20
            await asyncio.sleep(0.1)
            assert len(disk.pauses) > before
            disk.free = 600 * 2**20
            await asyncio.sleep(0.1)
            disk.pauses.clear()
            await asyncio.sleep(0.1)
            assert disk.pauses == []
            watch.cancel()

    asyncio.run(run())
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "disk full",
        "there is room again in /no/such/folder; going on",
    ]


def test_what_did_not_fit_waits_for_its_size() -> None:
    """A shard that has found the disk full is not begun again for the room that it gave back itself."""
    disk = Disk(free=300 * 2**20)

    async def run() -> None:
        rooms = disk.room()
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(rooms.watch())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await rooms.wait_for(2**30)
            disk.free = 2 * 2**30
            async with asyncio.timeout(5):
                await rooms.wait_for(2**30)
            watch.cancel()

    asyncio.run(run())


def test_shard_that_waits_for_its_size_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Those that are open may be done with what there is, and give back what they do not need."""
    disk = Disk(free=600 * 2**20)

    async def run() -> None:
        rooms = disk.room()
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(rooms.watch())
            waiting = tasks.create_task(rooms.wait_for(2**30))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            assert disk.pauses == []
            disk.free = 2 * 2**30
            await waiting
            watch.cancel()

    asyncio.run(run())
    assert "a shard waits for room" in caplog.text


def test_disk_without_entries_for_files_is_full(tmp_path: Path) -> None:
    """However many bytes are left."""
    script = 'mount -t tmpfs -o nr_inodes=100,size=100m none "$0" && exec "$@"'
    program = "import sys; from async_img2ds.worker.room import disk_usage; print(disk_usage(sys.argv[1]).free)"
    filled = f'touch $(seq -f "{tmp_path}/%g" 97); exec "$@"'
    looked = [sys.executable, "-c", program, str(tmp_path)]
    frees = []
    for words in (looked, ["sh", "-c", filled, "sh", *looked]):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, str(tmp_path), *words], check=False, capture_output=True, text=True
        )
        if "mount" in done.stderr or "unshare" in done.stderr:
            pytest.skip("this user may not mount")
        frees.append(int(done.stdout))

    assert frees == [100 * 2**20, 0]


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour the watch returns, so that whoever set it gives up."""
    monkeypatch.setattr(room, "PATIENCE_S", 0.2)
    disk = Disk(free=1)

    async def run() -> None:
        async with asyncio.timeout(5):
            await disk.room().watch()

    asyncio.run(run())
    assert disk.pauses


# What runs apart in a mount namespace of its own, with a small disk at the first argument.
_ON_A_SMALL_DISK = 'mount -t tmpfs -o size="$1"m none "$0" && shift && exec "$@"'


@contextmanager
def small_disk(folder: Path, megabytes: int, *command: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run *command* where *folder* is a disk of so many megabytes; yield it, and where the folder is seen from here."""
    folder.mkdir(exist_ok=True)
    words = ["unshare", "-m", "sh", "-c", _ON_A_SMALL_DISK, str(folder), str(megabytes)]
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    with subprocess.Popen([*words, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, Path(f"/proc/{process.pid}/root{folder}")
        finally:
            process.kill()


def hear(process: subprocess.Popen[str], words: str) -> None:
    """Read what *process* says until it says *words*."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        said += process.stderr.readline()
        assert process.poll() is None


def fetch(urls: Path, out: Path, output_format: str, *words: str) -> list[str]:
    program = [str(Path(sys.executable).parent / "aimg2ds"), "fetch", str(urls), "--output_folder", str(out)]
    shape = ["--output_format", output_format, "--disable_all_reencoding", "--number_sample_per_shard", "20"]
    return [*program, *shape, "--processes_count", "2", "--allow_net", "127.0.0.0/8", "--retries", "0", *words]


@pytest.mark.parametrize("output_format", ["webdataset", "parquet", "files"])
def test_full_disk_pauses_the_run(origin: Origin, tmp_path: Path, output_format: str) -> None:
    """Somebody else's file fills it; when that is gone the run goes on, and no row has suffered."""
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url('rocket.jpg')}?{n}\n" for n in range(200)))
    # Of 67.1 MB: what is left is less than a twentieth, and too little for the list in any format. Parquet keeps what
    # is the same in 20 rows once.
    script = f'mkdir "{tmp_path}/disk/out"; head -c 66500000 /dev/zero > "{tmp_path}/disk/ballast"; exec "$@"'
    out = tmp_path / "disk" / "out"
    command = fetch(tmp_path / "urls.txt", out, output_format, "--thread_count", "4")
    with small_disk(tmp_path / "disk", 64, "sh", "-c", script, "sh", *command) as (process, disk):
        hear(process, "everything waits for room")
        (disk / "ballast").unlink()
        _, rest = process.communicate(timeout=120)

    assert process.returncode == 0, rest
    assert "there is room again" in rest


def test_disk_that_is_too_small_ends_resumable(origin: Origin, tmp_path: Path) -> None:
    """What is finished is whole, and the same command goes on elsewhere; no row failed for it."""
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url('rocket.jpg')}?{n}\n" for n in range(400)))
    out, kept = tmp_path / "disk" / "out", tmp_path / "kept"
    script = f'"$@"; status=$?; cp -r "{out}" "{kept}"; exit $status'
    command = fetch(tmp_path / "urls.txt", out, "webdataset", "--grace_s", "1")
    with small_disk(tmp_path / "disk", 32, "sh", "-c", script, "sh", *command) as (process, _):
        hear(process, "waits for room")
        for pid in _below(process.pid):
            with suppress(ProcessLookupError):
                if b"fetch" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 143
    found = verify(str(kept), deep=True, progress="none")
    subprocess.run(fetch(tmp_path / "urls.txt", kept, "webdataset"), check=True, capture_output=True)

    assert not found.defects
    assert 0 < found.rows < 400
    assert verify(str(kept), deep=True, progress="none").good
    statuses = [pq.read_table(path).column("status").to_pylist() for path in kept.glob("*.parquet")]
    assert sum(map(len, statuses)) == 400
    assert {status for of_shard in statuses for status in of_shard} == {"success"}


def _below(pid: int) -> list[int]:
    """Return the processes that *pid* has started."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    wait_until(lambda: bool(tasks))
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
