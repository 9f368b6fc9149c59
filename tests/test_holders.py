"""One run at a time writes to a folder that knows no locks: an object tells whose it is."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import pickle
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from async_img2ds.dataset.retry import run_retry
from async_img2ds.errors import InUse, StorageError, TakenOver
from async_img2ds.options import RetryOptions
from async_img2ds.storage import Attempt, LocalStore, RemoteStore, holders, open_store
from async_img2ds.storage.holders import HOLDER, Held, Lease
from processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FS = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "LEASE_S", 1.0)
    monkeypatch.setattr(holders, "RENEWAL_S", 0.1)
    monkeypatch.setattr(holders, "SETTLED_S", 0.05)


@pytest.fixture
def root() -> Iterator[str]:
    folder = f"/held-{uuid.uuid4().hex}"
    yield folder
    if FS.exists(folder):
        FS.rm(folder, recursive=True)


def put(root: str, **changed: Any) -> None:
    """Have a run hold *root* that is on another host and renews nothing."""
    told = {"host": "elsewhere", "pid": 7, "since": "2026-01-01 00:00:00+00:00", "token": "theirs", **changed}
    FS.pipe_file(f"{root}/{HOLDER}", json.dumps(told).encode())


def told(root: str) -> Any:
    return json.loads(FS.cat_file(f"{root}/{HOLDER}"))


class GoneFs:
    """A file system whose server does not answer."""

    def __getattr__(self, name: str) -> Any:
        return getattr(FS, name)

    def makedirs(self, *_: object, **__: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def test_store_that_does_not_answer_is_not_refused(root: str, tmp_path: Path) -> None:
    """Nothing that was typed is wrong: the same command may go on when it answers."""
    store = RemoteStore(GoneFs(), root, tmp_path / "staging")
    with pytest.raises(StorageError, match=r"output_folder: .* cannot be reached now \(.*Connection refused\); run it"):
        store.prepare()
    store.close()


def test_second_run_is_refused_and_told_whose_the_folder_is(root: str) -> None:
    """For as long as the first renews it, however long that takes; then it may have it."""
    first = open_store(f"memory:/{root}")
    first.prepare()
    said = f"another run is writing to {root} \\(process {os.getpid()} on {socket.gethostname()}, since 20"
    second = open_store(f"memory:/{root}")
    assert second.is_in_use()
    with pytest.raises(InUse, match=said):
        second.prepare()
    second.close()
    assert second.is_in_use()  # what was refused gives nothing back
    first.close()
    assert not second.is_in_use()
    assert not FS.exists(f"{root}/{HOLDER}")
    second.prepare()
    second.close()


def test_hold_of_a_run_on_another_host_is_taken_over_when_it_is_renewed_no_more(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is watched, and said to be: whether a process lives elsewhere cannot be seen."""
    put(root)
    lease = Lease(FS, root)
    began = time.monotonic()
    lease.take()
    assert time.monotonic() - began >= holders.LEASE_S
    assert (
        "a run (process 7 on elsewhere, since 2026-01-01 00:00:00+00:00) holds the folder or was killed" in caplog.text
    )
    assert told(root)["pid"] == os.getpid()
    lease.give_back()


def test_hold_of_a_run_that_ends_meanwhile_is_had_at_once(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to be watched."""
    monkeypatch.setattr(holders, "LEASE_S", 600.0)
    monkeypatch.setattr(holders, "LOOK_S", 0.05)
    put(root)
    lease = Lease(FS, root)
    with ThreadPoolExecutor(1) as thread:
        taking = thread.submit(lease.take)
        FS.rm_file(f"{root}/{HOLDER}")
        taking.result(timeout=30)
    lease.give_back()


def test_hold_of_a_process_that_is_gone_is_had_at_once(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same host that can be seen; one of our own number was in a container of the same name."""
    monkeypatch.setattr(holders, "LEASE_S", 600.0)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    for pid in (gone.pid, os.getpid()):
        put(root, **{**holders.this_run(datetime.now(UTC)), "pid": pid})
        assert not Lease(FS, root).is_live()
        lease = Lease(FS, root)
        lease.take()
        lease.give_back()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"host": 1, "pid": "x"}'])
def test_damaged_hold_is_that_of_a_run_of_which_nothing_is_known(root: str, content: bytes) -> None:
    """Its run may live, so it is watched."""
    FS.pipe_file(f"{root}/{HOLDER}", content)
    lease = Lease(FS, root)
    assert not lease.is_live()
    lease.take()
    lease.check()
    lease.give_back()


def test_of_two_that_begin_at_a_time_one_goes_on(root: str, caplog: pytest.LogCaptureFixture) -> None:
    """The other sees it within seconds, and leaves the folder to it."""
    one, other = Lease(FS, root), Lease(FS, root)
    one.take()
    other._write()  # it had seen no hold just before
    wait_until(lambda: "has taken the output folder over" in caplog.text)
    other.check()
    with pytest.raises(TakenOver):
        one.check()
    one.give_back()
    other.check()
    assert FS.exists(f"{root}/{HOLDER}")


def test_run_that_was_taken_over_commits_nothing(root: str) -> None:
    """It slept longer than a lease; its workers know of it by the folder alone."""
    store = open_store(f"memory:/{root}")
    store.prepare()
    put(root, since=datetime.now(UTC).isoformat())

    theirs = pickle.loads(pickle.dumps(store))  # noqa: S301  our own bytes

    async def commit() -> None:
        async with Attempt.open(theirs) as attempt:
            file = await attempt.create("00000.tar")
            file.write(b"tar")
            file.close()
            await attempt.commit("00000_stats.json", b"{}")

    with pytest.raises(TakenOver, match=r"another run \(process 7 on elsewhere, since 20.*; this one ends"):
        asyncio.run(commit())
    assert list(store.names()) == []
    store.close()
    assert told(root)["host"] == "elsewhere"


def test_hold_that_is_gone_ends_its_run(root: str) -> None:
    """Another run may have taken it over and be done: what this one wrote behind it might replace that."""
    lease = Lease(FS, root)
    lease.take()
    FS.rm_file(f"{root}/{HOLDER}")
    with pytest.raises(TakenOver, match="is gone from the output folder"):
        lease.check()
    lease.give_back()


def test_process_of_another_namespace_is_not_taken_for_dead(root: str) -> None:
    """Containers may have one name, and one number for their first process."""
    for told in ({"host": socket.gethostname(), "pid": os.getpid()}, {"pids_of": "other", "pid": 2**22}):
        put(root, **told)
        began = time.monotonic()
        lease = Lease(FS, root)
        lease.take()
        assert time.monotonic() - began >= holders.LEASE_S
        lease.give_back()


def test_nothing_is_put_back_behind_the_end(root: str) -> None:
    """However a renewal and the end fall together."""
    for _ in range(30):
        lease = Lease(FS, root)
        lease.take()
        time.sleep(holders.SETTLED_S)
        lease.give_back()
        assert not FS.exists(f"{root}/{HOLDER}")


def test_process_that_bears_the_number_of_one_that_is_gone_holds_nothing(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began at another time."""
    monkeypatch.setattr(holders, "LEASE_S", 600.0)
    put(root, **{**holders.this_run(datetime.now(UTC)), "pid": os.getppid(), "born": 1})
    lease = Lease(FS, root)
    lease.take()
    lease.give_back()


def test_process_that_sleeps_on_this_machine_holds_what_it_held(root: str) -> None:
    """It renews nothing, but it can be seen to be there."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        put(root, **{**holders.this_run(datetime.now(UTC)), "pid": other.pid, "born": holders._born(other.pid)})
        with pytest.raises(Held, match=f"process {other.pid} on "):
            Lease(FS, root).take()
        other.communicate(b"\n")


def _moved_away(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _without_its_holder(folder: Path) -> None:
    (folder / HOLDER).unlink()


@pytest.mark.parametrize("lose", [_moved_away, _without_its_holder])
def test_run_that_lost_its_folder_on_disk_commits_no_more(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    """A lock is one of the file that it was made on; another run may make another under the same name."""
    folder = tmp_path / "out"
    one, other = LocalStore(folder), LocalStore(folder)
    one.prepare()
    theirs = pickle.loads(pickle.dumps(one))  # noqa: S301  our own bytes
    one.check()
    theirs.check()
    lose(folder)
    other.prepare()
    for store in (one, theirs):
        with pytest.raises(TakenOver):
            store.check()
    one.close()
    other.check()
    other.close()
    assert not (folder / HOLDER).exists()


def _refuse_to_lock(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes the file system have no locks, from then on."""
    return lambda: monkeypatch.setattr(fcntl, "flock", _refuse_to_lock)


def test_file_system_without_locks_is_had_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_locks: Callable[[], None]
) -> None:
    """Nobody has been there, and the file that the first look has made says nothing."""
    monkeypatch.setattr(holders, "LEASE_S", 600.0)
    without_locks()
    store = LocalStore(tmp_path)
    store.prepare()
    with pytest.raises(InUse, match="another run is writing to"):
        LocalStore(tmp_path).prepare()
    store.close()


def test_run_without_locks_sees_one_that_has_them(tmp_path: Path, without_locks: Callable[[], None]) -> None:
    """Two mounts of one disk may differ in that."""
    locked = LocalStore(tmp_path)
    locked.prepare()
    without_locks()
    assert LocalStore(tmp_path).is_in_use()
    with pytest.raises(InUse, match="another run is writing to"):
        LocalStore(tmp_path).prepare()
    locked.check()
    locked.close()


def test_run_with_locks_sees_one_that_has_none(tmp_path: Path) -> None:
    """That nobody has locked the file tells nothing of who does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", _refuse_to_lock)
        lockless = LocalStore(tmp_path)
        lockless.prepare()
    assert LocalStore(tmp_path).is_in_use()
    with pytest.raises(InUse, match="another run is writing to"):
        LocalStore(tmp_path).prepare()
    lockless.check()
    lockless.close()


def test_lock_that_fails_for_another_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a server is tired does not mean that nobody writes there."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StorageError, match=r"cannot be reached now .*Input/output error"):
        LocalStore(tmp_path).prepare()


def test_folder_is_let_go_of_though_nobody_waits_for_it_any_more(
    tmp_path: Path, without_locks: Callable[[], None]
) -> None:
    """A retry that is cancelled while it watches whether another run lives takes it behind that, and gives it back."""
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / HOLDER).write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "x", "token": "theirs"}))
    without_locks()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run_retry(RetryOptions.of(output_folder=str(tmp_path), progress="none"))

    asyncio.run(run())
    wait_until(lambda: not (tmp_path / HOLDER).exists())


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_connection_that_breaks_at_the_beginning_ends_no_run(
    root: str, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """What goes on failing is told."""
    monkeypatch.setattr(holders, "FIRST_PAUSE_S", 0.0)
    left = failures

    def put(path: str, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ConnectionResetError
        FS.pipe_file(path, content)

    lease = Lease(FS, root, put)
    with pytest.raises(ConnectionResetError) if failures >= holders.FIRST_TRIES else nullcontext():
        lease.take()
    lease.give_back()
