"""Stores and attempts: nothing appears before it is whole, the marker last, and nothing half-written stays."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import fsspec
import pytest
from fsspec.registry import _registry

from async_img2ds.errors import InUse, MissingExtraError, OptionsError, StorageError
from async_img2ds.storage import REDO, AppendFile, Attempt, LocalStore, RemoteStore, file_system, listing, open_store
from async_img2ds.storage import local as local_stores
from async_img2ds.storage.attempt import APPEND_BYTES
from async_img2ds.storage.holders import locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.storage import Store


@dataclass
class Place:
    """A store under test; its published files, and what is staged and not published, both seen without the store."""

    store: Store
    files: Callable[[], dict[str, bytes]]
    leftovers: Callable[[], list[str]]


def local(folder: Path) -> Place:
    root = folder / "dataset"

    def files() -> dict[str, bytes]:
        found = (path for path in root.rglob("*") if path.is_file())
        dataset = (path for path in found if ".partial" not in str(path) and path.name[0] != ".")
        return {str(path.relative_to(root)): path.read_bytes() for path in dataset}

    return Place(LocalStore(root), files, lambda: [path.name for path in root.rglob("*.partial*")])


def remote(folder: Path) -> Place:
    fs = fsspec.filesystem("memory")
    root = f"/test_storage{folder}"

    def files() -> dict[str, bytes]:
        dataset = (path for path in fs.find(root) if path.rpartition("/")[2][0] != ".")
        return {path.removeprefix(root + "/"): fs.cat_file(path) for path in dataset}

    return Place(
        RemoteStore(fs, root, folder / "aimg2ds-staging"),
        files,
        lambda: [path.name for path in folder.glob("aimg2ds-*/**/*")],
    )


@pytest.fixture(params=[local, remote])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the remote store stages
    made: Place = request.param(tmp_path)
    made.store.prepare()
    return made


async def stage_shard(attempt: Attempt) -> None:
    """Write a file and a folder."""
    (await attempt.stage("00000.tar")).write_bytes(b"images")
    folder = await attempt.stage("00000")
    folder.mkdir()
    (folder / "000000001.jpg").write_bytes(b"image")


async def commit_shard(store: Store) -> None:
    async with Attempt.open(store) as attempt:
        await stage_shard(attempt)
        await attempt.commit("00000_stats.json", b"{}")


WHOLE = {"00000.tar": b"images", "00000/000000001.jpg": b"image", "00000_stats.json": b"{}"}


def test_files_appear_together_when_committed(place: Place) -> None:
    """Until the commit nothing lies under a final name, after it everything does and nothing else."""

    async def run() -> dict[str, bytes]:
        async with Attempt.open(place.store) as attempt:
            await stage_shard(attempt)
            before = place.files()
            await attempt.commit("00000_stats.json", b"{}")
        return before

    before = asyncio.run(run())

    assert before == {}
    assert place.files() == WHOLE
    assert place.leftovers() == []


def test_exception_inside_an_attempt_leaves_nothing(place: Place) -> None:
    """What goes wrong travels up as it is, and the files go."""

    async def run() -> None:
        async with Attempt.open(place.store) as attempt:
            await stage_shard(attempt)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())

    assert (place.files(), place.leftovers()) == ({}, [])


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_cancelled_attempt_leaves_nothing(place: Place, times: int) -> None:
    """Cancelled in the middle of a write, and perhaps again during the clean-up, an attempt still removes its files."""
    gate = threading.Event()
    attempts: list[Attempt] = []

    async def hold(writing: asyncio.Event) -> None:
        async with Attempt.open(place.store) as attempt:
            attempts.append(attempt)
            await stage_shard(attempt)
            writing.set()
            await attempt.run(gate.wait)

    async def run() -> None:
        writing = asyncio.Event()
        task = asyncio.create_task(hold(writing))
        await writing.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)  # to let the cancellation arrive
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    attempts[0]._thread.shutdown()  # its work may outlive a task that was cancelled twice

    assert (place.files(), place.leftovers()) == ({}, [])


class RecordingStore(LocalStore):
    """Writes down what appears, in order; fails where told to."""

    def __init__(self, root: Path, refused: str = "") -> None:
        super().__init__(root)
        self.appeared: list[str] = []
        self.refused = refused

    def publish(self, name: str) -> None:
        """Make what was staged for *name* appear."""
        if name == self.refused:
            raise OSError(28, "No space left on device")
        super().publish(name)
        self.appeared.append(name)


def test_marker_appears_last(tmp_path: Path) -> None:
    """The file that says that a shard is finished appears when all others have."""
    store = RecordingStore(tmp_path)

    asyncio.run(commit_shard(store))

    assert store.appeared == ["00000.tar", "00000", "00000_stats.json"]


def test_commit_that_fails_halfway_leaves_no_marker(tmp_path: Path) -> None:
    """If one of the files cannot be published, the shard does not count as finished and nothing stays staged."""
    store = RecordingStore(tmp_path, refused="00000")

    with pytest.raises(StorageError, match=r"cannot write: .*No space left"):
        asyncio.run(commit_shard(store))

    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]


def test_shard_written_again_replaces_what_was_there(place: Place) -> None:
    """A shard whose marker was removed is done anew: only the files of that attempt are left, in the same places."""

    async def run(image: str) -> None:
        async with Attempt.open(place.store) as attempt:
            (await attempt.stage("00000.tar")).write_bytes(image.encode())
            folder = await attempt.stage("00000")
            folder.mkdir()
            (folder / image).write_bytes(b"image")
            await attempt.commit("00000_stats.json", image.encode())

    asyncio.run(run("1.jpg"))
    place.store.remove(["00000_stats.json"])
    asyncio.run(run("2.jpg"))

    assert place.files() == {"00000.tar": b"2.jpg", "00000/2.jpg": b"image", "00000_stats.json": b"2.jpg"}


async def stage_image(attempt: Attempt, image: str) -> None:
    """Write two files that tell whose they are."""
    for name in ("00000.tar", "00000.parquet"):
        (await attempt.stage(name)).write_bytes(image.encode())


def test_second_of_two_attempts_publishes_nothing(place: Place) -> None:
    """Both write at the same time under the same names; the one that commits first counts, and the other is told so."""

    async def run() -> tuple[bytes, bytes]:
        async with Attempt.open(place.store) as first, Attempt.open(place.store) as second:
            await stage_image(first, "first")
            await stage_image(second, "second")
            return await first.commit("00000_stats.json", b"1"), await second.commit("00000_stats.json", b"2")

    standing = asyncio.run(run())

    assert standing == (b"1", b"1")
    assert place.files() == {"00000.tar": b"first", "00000.parquet": b"first", "00000_stats.json": b"1"}
    assert place.leftovers() == []


class OvertakenStore(LocalStore):
    """Lets another attempt commit in the middle of a commit: before or after a file is published."""

    def __init__(self, root: Path, before: str, after: str, overtake: Callable[[], None]) -> None:
        super().__init__(root)
        self._before, self._after, self._overtake = before, after, overtake

    def publish(self, name: str) -> None:
        if name == self._before:
            self._overtake()
        super().publish(name)
        if name == self._after:
            self._overtake()


@pytest.mark.parametrize(
    ("before", "after", "wins"),
    [
        ("00000.tar", "", "second"),
        ("", "00000.tar", "first"),
        ("", "00000.parquet", "first"),
        ("", "00000_stats.json", "first"),
    ],
)
def test_files_of_two_commits_at_a_time_never_mix(tmp_path: Path, before: str, after: str, wins: str) -> None:
    """However they meet, all files are those of the one whose first file was first; the other fails or gives way."""

    async def run() -> list[bytes | BaseException]:
        loop, overtaken = asyncio.get_running_loop(), threading.Event()
        outcomes: list[bytes | BaseException] = []

        async def commit(attempt: Attempt, name: str) -> None:
            outcomes.extend(
                await asyncio.gather(attempt.commit("00000_stats.json", name.encode()), return_exceptions=True)
            )

        def overtake() -> None:
            asyncio.run_coroutine_threadsafe(commit(second, "second"), loop).result()
            overtaken.set()

        store = OvertakenStore(tmp_path, before, after, overtake)
        async with Attempt.open(store) as first, Attempt.open(LocalStore(tmp_path)) as second:
            await stage_image(first, "first")
            await stage_image(second, "second")
            await commit(first, "first")
        assert overtaken.is_set()
        return outcomes

    of_second, of_first = asyncio.run(run())

    assert {path.name: path.read_bytes().decode() for path in tmp_path.iterdir()} == dict.fromkeys(
        ["00000.tar", "00000.parquet", "00000_stats.json"], wins
    )
    winner, loser = (of_first, of_second) if wins == "first" else (of_second, of_first)
    assert winner == wins.encode()
    assert loser == winner or isinstance(loser, StorageError)


def test_what_dead_attempts_have_staged_goes_with_the_commit(tmp_path: Path) -> None:
    """Workers that are killed over a shard leave nothing beside it when it is done at last."""
    for _ in range(3):
        LocalStore(tmp_path).stage("00000.tar").write_bytes(b"half an arch")

    asyncio.run(commit_shard(LocalStore(tmp_path)))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000", "00000.tar", "00000_stats.json"]


def test_what_killed_workers_left_goes_with_the_run(tmp_path: Path) -> None:
    """Also if nobody has done their shards again."""
    store = LocalStore(tmp_path)
    store.prepare()
    LocalStore(tmp_path).stage("00000.tar").write_bytes(b"half an arch")
    store.close()

    assert list(tmp_path.iterdir()) == []


def test_staging_removes_what_a_crash_left(place: Place) -> None:
    """What a killed process left half-written does not get into the next attempt."""
    place.store.stage("00000.tar").write_bytes(b"half an arch")

    assert not place.store.stage("00000.tar").exists()


def test_discarding_removes_what_is_staged_if_anything(place: Place) -> None:
    """A file and a folder are removed, and what was never staged is no error."""
    place.store.discard("never staged")
    place.store.stage("file").write_bytes(b"half")
    place.store.stage("folder").mkdir()

    place.store.discard("file")
    place.store.discard("folder")

    assert (place.files(), place.leftovers()) == ({}, [])


def test_names_are_those_of_the_files_in_the_folder(place: Place) -> None:
    """Files are told with their sizes; folders and what they hold are not."""
    for name, content in (("00000_stats.json", b"{}"), ("00001_stats.json", b"")):
        place.store.stage(name).write_bytes(content)
        place.store.publish(name)
    folder = place.store.stage("00000")
    folder.mkdir()
    (folder / "000000001.jpg").write_bytes(b"image")
    place.store.publish("00000")

    assert sorted(place.store.names()) == [("00000_stats.json", 2), ("00001_stats.json", 0)]


def test_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    """A path below a regular file is refused before any work, by the option's name."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OptionsError, match=r"output_folder: cannot write to .*file/below"):
        open_store(str(tmp_path / "file" / "below")).prepare()


def test_preparing_makes_the_folder_and_no_dataset_in_it(tmp_path: Path) -> None:
    """Folders above it are made too, and a note of who holds it; opening a store alone makes nothing."""
    store = open_store(str(tmp_path / "a" / "b"))

    assert not (tmp_path / "a").exists()

    store.prepare()

    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "b"]
    assert list(store.names()) == []
    assert [path.name[0] for path in (tmp_path / "a" / "b").iterdir()] == ["."]
    store.close()
    assert not (tmp_path / "a" / "b").exists()


def test_refusal_of_the_file_system_is_a_storage_error(place: Place, tmp_path: Path) -> None:
    """What the operating system refuses to the attempt's thread is told as the destination's fault."""

    async def run() -> None:
        async with Attempt.open(place.store) as attempt:
            await attempt.run((tmp_path / "no" / "such" / "folder").mkdir)

    with pytest.raises(StorageError, match=r"cannot write: .*No such file or directory"):
        asyncio.run(run())


def test_pieces_appended_together_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many append at a time, and whenever the file is flushed, the pieces of one call lie side by side."""
    monkeypatch.setattr("async_img2ds.storage.attempt.APPEND_BYTES", 50)

    async def run() -> bytes:
        async with Attempt.open(LocalStore(tmp_path)) as attempt:
            file = await AppendFile.open(attempt, "file")
            async with asyncio.TaskGroup() as tasks:
                for n in range(100):
                    tasks.create_task(file.append(b"<%02d" % n, b"-" * n, b"%02d>" % n))
            await file.finish()
            await attempt.commit("0_stats.json", b"{}")
        return (tmp_path / "file").read_bytes()

    content = asyncio.run(run())

    assert sorted(content.split(b"<")[1:]) == [b"%02d" % n + b"-" * n + b"%02d>" % n for n in range(100)]


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [
        ("s3", "s3fs", "s3"),
        ("gs", "gcsfs", "gcs"),
        ("az", "adlfs", "azure"),
        ("abfs", "adlfs", "azure"),
        ("ssh", "sshfs", "ssh"),
        ("sftp", "sshfs", "ssh"),
        ("hf", "huggingface_hub", "hf"),
    ],
)
def test_missing_file_system_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, extra: str
) -> None:
    """Without the optional package the message says what to type."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(_registry, scheme, raising=False)  # where fsspec keeps what was imported before
    monkeypatch.delitem(sys.modules, "async_img2ds.storage.ssh", raising=False)

    with pytest.raises(MissingExtraError, match=rf"pip install 'async-img2ds\[{extra}\]'") as caught:
        file_system(f"{scheme}://bucket/folder")

    assert caught.value.extra == extra


def test_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hadoop's library is no package, so no extra has it."""
    monkeypatch.setenv("JAVA_HOME", "/nonexistent")
    monkeypatch.setenv("ARROW_LIBHDFS_DIR", "/nonexistent")

    with pytest.raises(OptionsError, match=r"hdfs:// .*install Java and a Hadoop client.*JAVA_HOME.*CLASSPATH"):
        file_system("hdfs://127.0.0.1:9/folder")


def test_folder_of_a_server_that_refuses_is_told_in_words() -> None:
    """Also where the library connects when it is asked for nothing yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(StorageError, match=rf"output_folder: ftp://127.0.0.1:{port}/x cannot be reached: .*refused"):
        open_store(f"ftp://me:secret@127.0.0.1:{port}/x")


def test_looking_at_a_server_that_fails_is_an_error_of_its_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library raises, and at the first look already: whether somebody else writes there."""
    store = remote(Path("/unreachable")).store

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    for method in ("cat_file", "ls"):
        with monkeypatch.context() as patch:
            patch.setattr(type(fsspec.filesystem("memory")), method, fail)
            with pytest.raises(OSError, match="RuntimeError: no credentials"):
                store.is_in_use()


@pytest.mark.parametrize("url", ["s3://", "s3:///", "s3a://"])
def test_folder_without_a_bucket_is_refused(url: str) -> None:
    """In words, before the library asks for a bucket without a name."""
    with pytest.raises(OptionsError, match=r"output_folder: .* names no bucket"):
        open_store(url)


def test_credentials_in_the_url_of_a_bucket_are_refused_untold() -> None:
    """Nobody reads them there: they would be the name of a bucket, in whatever is said of it."""
    with pytest.raises(OptionsError, match=r"s3://bucket/x: credentials .* are not read") as caught:
        file_system("s3://KEY:s3cr3t@bucket/x")

    assert "s3cr3t" not in str(caught.value)


class Uploads:
    """Tells of *begun* uploads as S3's reference has it: page by page, each behind the key and the id named last."""

    def __init__(self, begun: list[tuple[str, str]]) -> None:
        self.begun = sorted(begun)

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(self, method: str, **asked: Any) -> dict[str, Any]:
        assert (method, asked["Bucket"]) == ("list_multipart_uploads", "bucket")
        last = (asked.get("KeyMarker", ""), asked.get("UploadIdMarker", ""))
        left = [each for each in self.begun if each[0].startswith(asked["Prefix"]) and each > last]
        page = left[: asked["MaxUploads"]]
        told = [{"Key": key, "UploadId": name} for key, name in page]
        if len(left) == len(page):
            return {"IsTruncated": False, **({"Uploads": told} if told else {})}
        return {"IsTruncated": True, "Uploads": told, "NextKeyMarker": page[-1][0], "NextUploadIdMarker": page[-1][1]}


@pytest.mark.parametrize("count", [0, 2, 5, 6])
def test_uploads_that_were_begun_are_found_on_all_pages(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Several of one key among them; a server for tests tells all of them at once."""
    monkeypatch.setattr(listing, "UPLOADS", 2)
    begun = [(f"out/0000{number // 3}.tar", str(number)) for number in range(count)]
    found = listing.uploads_below(Uploads([*begun, ("other/x", "9")]), "bucket/out/")

    assert [(upload["Key"], upload["UploadId"]) for upload in found] == begun


def test_unknown_file_system_is_refused() -> None:
    """A scheme that nobody knows is the caller's mistake, and is shown."""
    with pytest.raises(OptionsError, match=r"nosuch://folder.*nosuch"):
        file_system("nosuch://folder")


def test_store_fits_the_url() -> None:
    """Paths and file URLs are local, anything else is remote."""
    kinds = [type(open_store(url)) for url in ("folder", "file:///folder", "memory://folder")]

    assert kinds == [LocalStore, LocalStore, RemoteStore]


def test_two_runs_cannot_have_one_folder(tmp_path: Path) -> None:
    """The second is refused until the first lets go."""
    first, second = LocalStore(tmp_path), LocalStore(tmp_path)
    first.prepare()
    with pytest.raises(InUse, match=rf"another run is writing to .* \(process {os.getpid()} on .*, since 20"):
        second.prepare()
    first.close()
    second.prepare()
    second.close()

    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """What was half written is removed before work begins; what belongs to others is not."""
    (tmp_path / "00000.tar.0123abcd.partial").touch()
    (tmp_path / "00001.0123abcd.partial").mkdir()
    (tmp_path / "00001.0123abcd.partial" / "000010000.jpg").touch()
    (tmp_path / "notes.txt").touch()
    store = LocalStore(tmp_path)
    store.prepare()
    store.close()

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    """A request that is refused after the folder was made leaves no empty one."""
    store = LocalStore(tmp_path / "out")
    store.prepare()
    store.close()

    assert not (tmp_path / "out").exists()


def test_file_that_vanishes_is_not_committed(tmp_path: Path) -> None:
    """Somebody who removes a staged file while it is written makes the shard fail, not shrink."""

    def remove_staged() -> None:
        [staged] = (path for path in tmp_path.glob("00000.tar.partial/*") if path.suffix != ".claim")
        staged.unlink()

    async def run() -> None:
        async with Attempt.open(LocalStore(tmp_path)) as attempt:
            file = await AppendFile.open(attempt, "00000.tar")
            await file.append(bytes(APPEND_BYTES))
            await attempt.run(remove_staged)
            await file.append(bytes(APPEND_BYTES))
            await file.finish()
            await attempt.commit("00000_stats.json", b"{}")

    with pytest.raises(StorageError):
        asyncio.run(run())

    assert list(tmp_path.iterdir()) == []


def test_files_of_others_in_a_folder_of_samples_stay(place: Place) -> None:
    """A folder that bears a shard's name is not emptied for it; what an earlier attempt has left there is."""

    async def run() -> None:
        for content in (b"first", b"second"):
            async with Attempt.open(place.store) as attempt:
                folder = await attempt.stage("00000")
                folder.mkdir()
                (folder / "000000001.jpg").write_bytes(content)
                if content == b"first":
                    (folder / "000000002.jpg").write_bytes(content)
                    (folder / "annotations.csv").write_bytes(b"kept")
                await attempt.commit("00000_stats.json", b"{}")
            place.store.remove(["00000_stats.json"])

    asyncio.run(run())

    assert place.files() == {"00000/000000001.jpg": b"second", "00000/annotations.csv": b"kept"}
    assert place.leftovers() == []


def test_file_that_vanishes_while_a_folder_is_looked_at_hides_no_other(tmp_path: Path) -> None:
    """Editors and rsync make and remove files all the time; a link to nothing is no file either."""
    for number in range(20):
        (tmp_path / f"{number:05d}_stats.json").write_text("{}")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    names = LocalStore(tmp_path).names()
    first = next(names)
    for number in range(0, 20, 2):
        if f"{number:05d}_stats.json" != first[0]:
            (tmp_path / f"{number:05d}_stats.json").unlink()
    found = {first[0], *(name for name, _ in names)}

    assert {f"{number:05d}_stats.json" for number in range(1, 20, 2)} <= found
    assert "loop" not in found


def test_attempts_leave_no_descriptors(place: Place) -> None:
    """A run of days makes a million of them."""
    asyncio.run(commit_shard(place.store))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        place.store.remove(["00000_stats.json"])
        asyncio.run(commit_shard(place.store))

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    place.store.close()


def test_only_what_this_program_has_named_is_swept(tmp_path: Path) -> None:
    """Other programs have partial files, too, and people call folders what they like."""
    theirs = ["movie.mp4.partial", "x.redo/notes.txt", "a.redo", "00007.redo.txt", "00007.redos/a", "notes.partial/a"]
    for name in [*theirs, "00001.tar.partial/0badcafe", "00002.0badcafe.partial/00002.jpg", "00003_stats.json.partial"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    store = LocalStore(tmp_path)
    store.prepare()
    store.close()

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(theirs)


def test_staging_of_others_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the temporary folder anybody may call theirs after this program."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ["aimg2ds-birds", f"aimg2ds-{'0' * 32}-kept", f"aimg2ds-{'0' * 32}"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "00000.tar").touch()
    store = open_store(f"memory:/{tmp_path}")
    store.prepare()
    store.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[:2])


def test_full_disk_is_no_reason_not_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There will be room; who holds the folder is for people to read."""
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    store = LocalStore(tmp_path)
    store.prepare()
    with pytest.raises(InUse, match="another run is writing"):
        LocalStore(tmp_path).prepare()
    store.close()


def test_file_system_without_locks_is_held_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an object store is."""
    monkeypatch.setattr(local_stores, "locked", lambda *_, **__: None)
    monkeypatch.setattr("async_img2ds.storage.holders.RENEWAL_S", 0.1)
    monkeypatch.setattr("async_img2ds.storage.holders.SETTLED_S", 0.1)
    monkeypatch.setattr("async_img2ds.storage.holders.LEASE_S", 2.0)
    first, second = LocalStore(tmp_path), LocalStore(tmp_path)
    first.prepare()
    assert second.is_in_use()
    with pytest.raises(InUse, match=r"another run is writing to .* \(process"):
        second.prepare()
    first.close()
    second.prepare()
    asyncio.run(commit_shard(second))
    second.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000", "00000.tar", "00000_stats.json"]


def test_replacement_that_an_attempt_has_begun_is_finished_by_the_next(tmp_path: Path) -> None:
    """Its worker has died between two files; the shard is not lost for this run."""
    store = LocalStore(tmp_path)
    asyncio.run(commit_shard(store))
    redo = tmp_path / "00000.redo"
    redo.mkdir()
    for name in ("00000.tar", "00000_stats.json"):
        (redo / name).write_text("new")
    (tmp_path / "00000_stats.json").unlink()
    store.finish("00000")

    assert store.content("00000_stats.json") == store.content("00000.tar") == b"new"
    assert not redo.exists()
    store.finish("00000")


def test_replacement_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gets its room back at once, not when the run ends."""
    store = LocalStore(tmp_path)
    asyncio.run(commit_shard(store))
    before = sorted(tmp_path.rglob("*"))
    base = hashlib.sha256(store.content("00000_stats.json")).hexdigest()

    async def again() -> None:
        async with Attempt.open(store) as attempt:
            (await attempt.stage("00000.tar")).write_bytes(b"new")
            await attempt.commit("00000_stats.json", b"{}", base)

    monkeypatch.setattr(local_stores, "_sync", Mock(side_effect=[None, OSError(errno.EIO, "broken")]))
    with pytest.raises(StorageError):
        asyncio.run(again())
    assert sorted(tmp_path.rglob("*")) == before


def test_attempt_that_ends_takes_nothing_from_one_that_has_not_written_yet(place: Place) -> None:
    """A table is written when all its rows are there, and the folder for it is empty until then."""

    async def run() -> None:
        async with Attempt.open(place.store) as slow:
            table = await slow.stage("00000.parquet")
            async with Attempt.open(place.store) as other:
                await other.stage("00000.parquet")
            table.write_bytes(b"table")
            await slow.commit("00000_stats.json", b"{}")

    asyncio.run(run())

    assert place.files() == {"00000.parquet": b"table", "00000_stats.json": b"{}"}
    assert not place.leftovers()


def test_folder_in_which_the_last_process_of_a_killed_run_still_moves_files_is_in_use(tmp_path: Path) -> None:
    """It ends soon, and whoever comes then finds all in its place; the folder is not said to be unwritable."""
    redo = tmp_path / f"00001{REDO}"
    redo.mkdir()
    (redo / "00001_stats.json").write_bytes(b"new")
    held = locked(redo)
    store = LocalStore(tmp_path)
    with pytest.raises(InUse, match="whose last process is ending; wait for it"):
        store.prepare()
    store.close()
    assert held is not None
    os.close(held)
    store.prepare()
    store.close()

    assert (tmp_path / "00001_stats.json").read_bytes() == b"new"
