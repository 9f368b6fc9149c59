"""Attempts at one shard that commit to an object store at the same time: the files of one appear, whole."""

from __future__ import annotations

import random
import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.storage import REDO, ContestedStore, RemoteStore, open_store
from async_img2ds.storage.base import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FS = fsspec.filesystem("memory")
MARKER = "00000_stats.json"
NAMES = ("00000.tar", "00000", "00000.parquet", MARKER)


class Died(BaseException):
    """A worker was killed."""


class SteppedFs:
    """A file system of which each call is told before it is made, and may be the last."""

    def __init__(self, before: Callable[[str], None], protocol: str = "memory") -> None:
        self._before = before
        self.protocol = protocol

    def __getattr__(self, name: str) -> Any:
        found = getattr(FS, name)
        if not callable(found) or name in ("invalidate_cache", "split_path"):
            return found

        def call(*arguments: Any, **keywords: Any) -> Any:
            self._before(name)
            if name == "pipe_file" and keywords.get("mode") == "create":
                return create(*arguments)
            return found(*arguments, **keywords)

        return call


MAKING = threading.Lock()


def create(path: str, content: bytes) -> None:
    """Make an object in one step, as object stores do and the file system in memory does not."""
    with MAKING:
        if FS.exists(path):
            raise FileExistsError(path)
        FS.pipe_file(path, content)


@pytest.fixture
def root() -> Iterator[str]:
    folder = f"/contested-{uuid.uuid4().hex}"
    FS.makedirs(folder)
    yield folder
    FS.rm(folder, recursive=True)


class Run:
    """A run whose workers try one shard, each with files of its own."""

    def __init__(self, root: str, folder: Path, protocol: str = "memory") -> None:
        self.root = root
        self.protocol = protocol
        self.store = ContestedStore(FS, root, folder / "driver")
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.store.prepare()
        self.attempts = 0

    def attempt(self, name: str, before: Callable[[str], None] = lambda _: None) -> ContestedStore:
        """Return what an attempt called *name* commits with, all of its files staged."""
        self.attempts += 1
        store = ContestedStore(
            SteppedFs(before, self.protocol), self.root, self.folder / f"worker-{self.attempts}"
        ).apart()
        store._lease = self.store._lease
        for staged in ("00000.tar", "00000.parquet", MARKER):
            store.stage(staged).write_text(name)
        samples = store.stage("00000")
        samples.mkdir()
        for number in range(2) if name == "small" else range(3):
            (samples / f"00000000{number}.jpg").write_text(name)
        return store

    def made(self) -> dict[str, str]:
        """Return the files of the dataset, and what is in each."""
        paths = (path.removeprefix(f"{self.root}/") for path in FS.find(self.root))
        return {path: FS.cat_file(f"{self.root}/{path}").decode() for path in paths if not path.startswith(".")}

    def end(self) -> list[str]:
        """End the run; return what is left of it beside the dataset."""
        self.store.close()
        return [path for path in FS.find(self.root) if "/." in path]


@pytest.fixture
def run(root: str, tmp_path: Path) -> Run:
    return Run(root, tmp_path)


def commit(store: ContestedStore) -> None:
    """Do as an attempt at a shard that is not finished does."""
    if not store.content(MARKER):
        for name in NAMES:
            if name == MARKER and store.content(MARKER):
                return
            store.publish(name)


def redo(store: ContestedStore, base: str) -> None:
    """Do as an attempt does that replaces a finished shard, if it is still the one it knows."""
    if store.content(MARKER).decode() == base:
        store.replace(NAMES)


def whole(name: str) -> dict[str, str]:
    samples = [f"00000/00000000{number}.jpg" for number in (range(2) if name == "small" else range(3))]
    return dict.fromkeys([*samples, "00000.tar", "00000.parquet", MARKER], name)


def calls_of(run: Run, work: Callable[[ContestedStore], None], name: str) -> int:
    calls = 0

    def count(_: str) -> None:
        nonlocal calls
        calls += 1

    work(run.attempt(name, count))
    return calls


def test_attempt_that_is_alone_commits(run: Run) -> None:
    """All files under their final names, and at the end nothing else."""
    store = run.attempt("one")
    commit(store)
    store.release()

    assert run.made() == whole("one")
    assert run.end() == []


def test_second_attempt_finds_the_first_and_yields(run: Run) -> None:
    """However late; what it has uploaded goes."""
    first, second = run.attempt("one"), run.attempt("two")
    for name in NAMES[:-1]:
        second.publish(name)
    commit(first)
    second.publish(MARKER)
    for store in (first, second):
        store.release()

    assert run.made() == whole("one")
    assert FS.find(f"{run.root}/{ATTEMPTS}") == []


def killed_at(number: int) -> Callable[[str], None]:
    calls = 0

    def before(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Died

    return before


# What copies in one step, and what does not but renames.
PROTOCOLS = ["memory", "sftp"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_worker_killed_at_any_call_leaves_no_mixture(root: str, tmp_path: Path, protocol: str) -> None:
    """The next attempt finishes what was decided, or counts itself; nothing of either is left over."""
    outcomes = []
    total = calls_of(Run(root, tmp_path / "count", protocol), commit, "one")
    for number in range(1, total + 1):
        run = Run(f"{root}/{number}", tmp_path / str(number), protocol)
        with pytest.raises(Died):
            commit(run.attempt("one", killed_at(number)))
        second = run.attempt("small")
        assert second.finish("00000")
        commit(second)
        second.release()
        made = run.made()
        assert made in (whole("one"), whole("small")), number
        assert run.end() == []
        outcomes.append(made["00000.tar"])

    # Before it has decided the other counts, and from then on it does.
    assert outcomes == sorted(outcomes, reverse=True)
    assert {"one", "small"} == set(outcomes)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_replacement_killed_at_any_call_leaves_no_mixture(root: str, tmp_path: Path, protocol: str) -> None:
    """Neither the old files nor those of two attempts; and what says that it was cut off goes."""
    outcomes = set()
    for number in range(1, 1000):
        run = Run(f"{root}/{number}", tmp_path / str(number), protocol)
        commit(run.attempt("base"))
        try:
            redo(run.attempt("one", killed_at(number)), "base")
        except Died:
            second = run.attempt("small")
            assert second.finish("00000")
            redo(second, "base")
            second.release()
        made = run.made()
        assert made in (whole("one"), whole("small")), number
        assert run.end() == []
        assert not FS.exists(f"{run.root}/00000{REDO}")
        if number > 60 and made == whole("one") and "small" in outcomes:
            break
        outcomes.add(made["00000.tar"])

    assert outcomes == {"one", "small"}


class Steps:
    """Lets several threads make one call at a time, chosen by *chance*."""

    def __init__(self, chance: random.Random, count: int) -> None:
        self._chance = chance
        self._turn = threading.Condition()
        self._waiting: set[int] = set()
        self._live = set(range(count))
        self._next: int | None = None

    def before(self, number: int) -> None:
        with self._turn:
            self._waiting.add(number)
            self._choose()
            while self._next != number:
                assert self._turn.wait(30)
            self._next = None
            self._waiting.discard(number)

    def ended(self, number: int) -> None:
        with self._turn:
            self._live.discard(number)
            self._choose()

    def _choose(self) -> None:
        if self._next is None and self._live and self._waiting >= self._live:
            self._next = self._chance.choice(sorted(self._waiting))
            self._turn.notify_all()


@pytest.mark.parametrize("kind", ["new", "again"])
@pytest.mark.parametrize("seed", range(60))
def test_attempts_that_commit_at_a_time_never_mix(root: str, tmp_path: Path, kind: str, seed: int) -> None:
    """Three of them, one of which may be killed, whatever call of one falls between which of another."""
    chance = random.Random(seed)  # noqa: S311  no key
    run = Run(root, tmp_path, PROTOCOLS[seed % 2])
    if kind == "again":
        commit(run.attempt("base"))
    names = ["one", "small", "three"]
    steps = Steps(chance, len(names))
    doomed, last_call = chance.choice([0, None]), chance.randrange(1, 30)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        calls = 0

        def before(_: str) -> None:
            nonlocal calls
            calls += 1
            if number == doomed and calls == last_call:
                raise Died
            steps.before(number)

        store = run.attempt(names[number], before)
        try:
            if store.finish("00000"):
                commit(store) if kind == "new" else redo(store, "base")
            store.release()
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001  told to the test
            failed.append(error)
        finally:
            steps.ended(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed
    assert run.made() in [whole(name) for name in names]
    assert run.end() == []
    assert not FS.exists(f"{root}/00000{REDO}")


def test_attempt_whose_word_comes_through_late_does_not_block_the_shard(run: Run) -> None:
    """It gave up as the store did not answer, and took its files away; then the object appeared that names it."""
    lost = run.attempt("one")
    for name in NAMES[:-1]:
        lost.publish(name)
    lost._upload_apart(MARKER)
    lost.release()
    lost._uploaded = {name: ["000000000.jpg"] if name == "00000" else None for name in NAMES}
    with suppress(StorageError):
        lost._decided("00000", None)
    late = run.attempt("two")
    with pytest.raises(StorageError, match="is not there"):
        late.finish("00000")
    late.release()
    again = run.attempt("three")
    assert again.finish("00000")
    commit(again)
    again.release()

    assert run.made() == whole("three")
    assert run.end() == []


def test_files_of_an_attempt_that_counts_are_not_taken_away_by_it(run: Run) -> None:
    """It was told that the store did not answer, though it had: whoever comes next carries it out."""
    lost = run.attempt("one")
    for name in NAMES[:-1]:
        lost.publish(name)
    lost._upload_apart(MARKER)
    lost._decided("00000", None)
    lost.release()
    second = run.attempt("two")
    assert second.finish("00000")

    assert run.made() == whole("one")
    assert run.end() == []


@pytest.mark.parametrize("kind", [ContestedStore, RemoteStore])
def test_run_sweeps_what_the_last_one_left(root: str, tmp_path: Path, kind: type[RemoteStore]) -> None:
    """One that was killed as a whole, with its attempts; also if it goes on without an engine."""
    FS.pipe_file(f"{root}/{ATTEMPTS}/00007/abc/00007.tar", b"half a day")
    store = kind(FS, root, tmp_path / "staging")
    store.prepare()
    left = FS.find(f"{root}/{ATTEMPTS}")
    store.close()

    assert left == []


def test_only_runs_on_engines_pay_for_it(root: str) -> None:
    """Elsewhere a shard is tried by one worker at a time."""
    kinds = [type(open_store(f"memory:/{root}", contested=contested)).__name__ for contested in (True, False)]

    assert kinds == ["ContestedStore", "RemoteStore"]


class ToldFs:
    """A file system that does with what is to be made only where there is none as it is told."""

    def __init__(self, create: Callable[[str, bytes], None]) -> None:
        self._create = create

    def __getattr__(self, name: str) -> Any:
        return getattr(FS, name)

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        self._create(path, content) if mode == "create" else FS.pipe_file(path, content)


def take_no_condition(_path: str, _content: bytes) -> None:
    raise TypeError("pipe_file() got an unexpected keyword argument 'mode'")


def not_answer(_path: str, _content: bytes) -> None:
    raise ConnectionResetError("the connection was reset")


@pytest.mark.parametrize(
    ("create", "expected", "said"),
    [
        (FS.pipe_file, OptionsError, "cannot make a file only where there is none, .*--distributor rank"),
        (take_no_condition, OptionsError, r"only where there is none \(pipe_file\(\) got .*update the package"),
        (not_answer, StorageError, r"cannot be reached now \(the connection was reset\)"),
    ],
)
def test_file_system_that_lets_two_attempts_count_is_refused(
    root: str, tmp_path: Path, create: Callable[[str, bytes], None], expected: type[Exception], said: str
) -> None:
    """Before anything is fetched: some servers take the condition for nothing, as do old releases of libraries."""
    store = ContestedStore(ToldFs(create), root, tmp_path / "staging")
    with pytest.raises(expected, match=said):
        store.prepare()
    store.close()

    assert FS.find(root) == []
