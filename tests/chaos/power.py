"""Loss of power, worked out: what a file system may have kept at any moment of a commit.

While a shard is committed in this process, its operations on the output folder are recorded. From each prefix of them
follow the states in which a disk may be found after a loss of power: content that was not synced is there, not there,
empty, or torn at a page; names that were not followed by a sync of their folder have come and gone or not, each by
itself. In every such state, what counts as finished must be whole; and what the program has called done is finished.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import pyarrow as pa

import inspection
from async_img2ds.errors import ErrorClass
from async_img2ds.existing import finished_shards, remove_shards
from async_img2ds.outputs.base import WRITERS, Output, open_writer
from async_img2ds.policy.markers import SCHEMA_VERSION, Marker, digest_of_urls
from async_img2ds.policy.schema import Columns
from async_img2ds.policy.shards import Naming
from async_img2ds.records import Encoded, Row, Sample, Status, Tally
from async_img2ds.storage import Attempt, LocalStore, local
from outcome import Outcome, Trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["SCENARIOS", "power"]

PAGE_BYTES: Final = 4096
# Drawn at each prefix, beside the states in which all or nothing that was not synced is there.
STATES: Final = 24
ROWS: Final = 6
NAMING: Final = Naming(ROWS, 5)

# Those by which a shard that was committed is there at every moment, once the next run has begun.
LASTING: Final = frozenset({"replace"})

# Operations on a LocalStore; what has been done when one has yielded is promised to last.
Scenario = Callable[[LocalStore, str], "Iterator[None]"]


def commit(store: LocalStore, output_format: str) -> Iterator[None]:
    """A shard is committed in an empty folder."""
    _write(store, output_format, "first")
    yield


def commit_again(store: LocalStore, output_format: str) -> Iterator[None]:
    """A shard of which a killed run has left files without a stats file is committed."""
    _write(store, output_format, "first")
    (store._root / NAMING.stats(0)).unlink()
    store._sweep()
    os.sync()
    _write(store, output_format, "second")
    yield


def set_back(store: LocalStore, output_format: str) -> Iterator[None]:
    """A committed shard is set back to be fetched again, which is done."""
    _write(store, output_format, "first")
    yield
    remove_shards(store, [NAMING.shard(0)])
    _write(store, output_format, "second")
    yield


def replace(store: LocalStore, output_format: str) -> Iterator[None]:
    """A committed shard is replaced by another version of it."""
    _write(store, output_format, "first")
    yield
    _write(store, output_format, "second", base=hashlib.sha256(store.content(NAMING.stats(0))).hexdigest())
    yield


SCENARIOS: Final[dict[str, Scenario]] = {
    "commit": commit,
    "commit again": commit_again,
    "set back": set_back,
    "replace": replace,
}


def power(folder: Path, seed: int = 0, states: int = STATES, scenarios: Sequence[str] = tuple(SCENARIOS)) -> Outcome:
    """Try the *scenarios* in every format with so many *states* drawn by *seed* at each prefix."""
    began = time.monotonic()
    trials = [
        trial
        for name in scenarios
        for output_format in sorted(set(WRITERS) - {"dummy"})
        for trial in _tried(folder, name, output_format, seed, states)
    ]
    return Outcome.of("power", trials, time.monotonic() - began, seeded=False)


def _tried(folder: Path, name: str, output_format: str, seed: int, states: int) -> Iterator[Trial]:
    root = folder / "out"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    recorder = Recorder(root)
    with recorder.recording():
        for _ in SCENARIOS[name](LocalStore(root), output_format):
            recorder.promise()
    chance = random.Random(f"{seed} {name} {output_format}")  # noqa: S311  which states are looked at
    seen: dict[tuple[tuple[str, bytes], ...], Trial] = {}
    for at in range(len(recorder.operations) + 1):
        for state in states_at(recorder.operations[:at], chance, states):
            promised = any(promise == at for promise in recorder.promises)
            state_name = f"{output_format}, {name}, {at} of {len(recorder.operations)} operations"
            lasts = name in LASTING and at >= recorder.promises[0]
            known = tuple(sorted(state.items()))
            if known not in seen or promised or lasts:
                seen[known] = _looked_at(folder / "state", state_name, state, promised=promised, lasts=lasts)
                yield seen[known]


def _looked_at(place: Path, name: str, state: dict[str, bytes], *, promised: bool, lasts: bool) -> Trial:
    """See what counts as finished in *state*, or if it *lasts*, when the next run begins, and whether that is whole."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for path, content in state.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    if lasts:
        store = LocalStore(place)
        store.prepare()
        store.close()
        state = inspection.contents_of(place)
    finished = {NAMING.shard(shard_id) for shard_id in finished_shards(LocalStore(place))}
    dataset = inspection.inspect(state)
    defects = list(dataset.defects)
    defects += [f"{stem} counts as finished and cannot be read" for stem in finished - set(dataset.shards)]
    defects += [f"{stem} has {len(rows)} rows" for stem, rows in dataset.shards.items() if len(rows) != ROWS]
    if (promised or lasts) and not finished:
        defects.append("the shard was called done, and is not finished")
    return Trial(name, tuple(defects[:3]))


@dataclass(frozen=True, slots=True)
class Node:
    """A file or a folder, whatever its names."""

    number: int
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Write:
    """The content of a file has become another."""

    node: Node
    content: bytes


@dataclass(frozen=True, slots=True)
class Name:
    """An entry of a folder comes, or goes; a renaming is both at once, and a loss of power cannot part them.

    Attributes:
        node: whose name it is.
        gone: the folder and the name that go, if any.
        come: those that come, if any.

    """

    node: Node
    gone: tuple[Node, str] | None
    come: tuple[Node, str] | None


@dataclass(frozen=True, slots=True)
class Synced:
    """A file or a folder was put on disk, or all if there is none."""

    node: Node | None


Operation = Write | Name | Synced


@dataclass
class Recorder:
    """Writes down the operations on a folder that calls of :mod:`os` make, and what else is found done before each."""

    root: Path
    operations: list[Operation] = field(default_factory=list)
    promises: list[int] = field(default_factory=list)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _contents: dict[Node, bytes] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record during the block."""
        self._nodes["."] = Node(0, is_folder=True)
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(local, "_syncfs", None))  # os.sync does the same, and is seen
            for name in _RECORDED:
                stack.enter_context(mock.patch.object(os, name, self._recorded(name, getattr(os, name))))
            yield
        self._look()

    def promise(self) -> None:
        """Note that what has been done up to now is promised to last."""
        self._look()
        self.promises.append(len(self.operations))

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._look()
            operation = _RECORDED[name](self, *arguments, **named)
            result = function(*arguments, **named)
            if operation is not None:
                self._do(operation)
            return result

        return call

    def _look(self) -> None:
        """Note files that have come by other ways than the calls, and contents that have changed."""
        for place, _, names in os.walk(self.root):
            for name in names:
                path = self._known(os.path.join(place, name))  # noqa: PTH118  many of them
                assert path is not None
                if path not in self._nodes:
                    self._do(self._named(path, is_folder=False))
                node, content = self._nodes[path], (self.root / path).read_bytes()
                if self._contents.get(node) != content:
                    self._do(Write(node, content))

    def _do(self, operation: Operation) -> None:
        self.operations.append(operation)
        match operation:
            case Write(node, content):
                self._contents[node] = content
            case Name(node, gone, come):
                paths = {node: path for path, node in self._nodes.items()}
                if gone:
                    self._move(_joined(paths[gone[0]], gone[1]), come and _joined(paths[come[0]], come[1]))
                elif come:
                    self._nodes[_joined(paths[come[0]], come[1])] = node

    def _move(self, gone: str, come: str | None) -> None:
        """Have what is at *gone*, and all below, be at *come*, or nowhere."""
        for path in [path for path in self._nodes if path == gone or path.startswith(f"{gone}/")]:
            node = self._nodes.pop(path)
            if come is not None:
                self._nodes[come + path.removeprefix(gone)] = node

    def _known(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Return *path* as seen from the root; None if it lies elsewhere."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        elif dir_fd is not None:
            path = Path(f"/proc/self/fd/{dir_fd}").readlink() / path
        told = os.path.relpath(path, self.root)
        return None if told.startswith("..") else told

    def _place(self, path: str) -> tuple[Node, str]:
        folder, name = os.path.split(path)
        return self._nodes[folder or "."], name

    def _named(self, path: str, *, is_folder: bool) -> Name:
        made = sum(1 for operation in self.operations if isinstance(operation, Name)) + 1
        return Name(Node(made, is_folder), None, self._place(path))

    def _mkdir(self, path: Any, *_: Any, **named: Any) -> Operation | None:
        told = self._known(path, named.get("dir_fd"))
        if told is None or told in self._nodes:
            return None
        return self._named(told, is_folder=True)

    def _removed(self, path: Any, *_: Any, **named: Any) -> Operation | None:
        told = self._known(path, named.get("dir_fd"))
        if told is None or told not in self._nodes:
            return None
        return Name(self._nodes[told], self._place(told), None)

    def _renamed(self, source: Any, target: Any, *_: Any, **named: Any) -> Operation | None:
        gone, come = self._known(source, named.get("src_dir_fd")), self._known(target, named.get("dst_dir_fd"))
        if gone is None or come is None or gone not in self._nodes:
            return None
        return Name(self._nodes[gone], self._place(gone), self._place(come))

    def _fsynced(self, handle: Any) -> Operation | None:
        told = self._known(handle if isinstance(handle, int) else handle.fileno())
        return None if told is None else Synced(self._nodes[told])

    def _all_synced(self) -> Operation:
        return Synced(None)


# Which calls are recorded, and as what.
_RECORDED: Final[dict[str, Callable[..., Operation | None]]] = {
    "mkdir": Recorder._mkdir,
    "rmdir": Recorder._removed,
    "unlink": Recorder._removed,
    "remove": Recorder._removed,
    "rename": Recorder._renamed,
    "replace": Recorder._renamed,
    "fsync": Recorder._fsynced,
    "fdatasync": Recorder._fsynced,
    "sync": Recorder._all_synced,
}


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def states_at(operations: Sequence[Operation], chance: random.Random, count: int) -> Iterator[dict[str, bytes]]:
    """Yield states in which a disk may be found after *operations*: all there, as little as may be, *count* drawn."""
    kept, loose = _by_sync(operations)
    yield _state(operations, set(range(len(operations))), _whole)
    yield _state(operations, kept, _dropped)
    for number in range(count if loose else 0):
        # One by one, and then at random: most mistakes need but one that is there, or but one that is not.
        if number < 2 * len(loose):
            one = {loose[number // 2]}
            there = kept | one if number % 2 else set(range(len(operations))) - one
        else:
            there = kept | {at for at in loose if chance.random() < 1 / 2}
        yield _state(operations, there, chance.choice([_whole, _dropped, _emptied, _torn(chance)]))


def _by_sync(operations: Sequence[Operation]) -> tuple[set[int], list[int]]:
    """Return which of *operations* a loss of power cannot undo, and those that it may."""
    kept = set()
    for at, operation in enumerate(operations):
        match operation:
            case Write(node):
                synced = (node,)
            case Name(node, gone, come):
                # A renaming lasts when the folder is synced in which the new name is.
                synced = ((come or gone or (node, ""))[0],)
            case Synced():
                continue
        if any(isinstance(later, Synced) and later.node in (None, *synced) for later in operations[at:]):
            kept.add(at)
    loose = [at for at, operation in enumerate(operations) if at not in kept and isinstance(operation, Name)]
    return kept, loose


# What is found of a file: what of it was synced last, None if nothing was, and what was written since.
Found = Callable[[bytes | None, bytes], bytes]


def _whole(_synced: bytes | None, written: bytes) -> bytes:
    return written


def _dropped(synced: bytes | None, _written: bytes) -> bytes:
    return synced or b""


def _emptied(_synced: bytes | None, _written: bytes) -> bytes:
    return b""


def _torn(chance: random.Random) -> Found:
    """Return a way to find files with some of their pages, the others being zero, or cut off after some."""

    def found(synced: bytes | None, written: bytes) -> bytes:
        pages = [written[at : at + PAGE_BYTES] for at in range(0, len(written), PAGE_BYTES)]
        if chance.random() < 1 / 2:
            return b"".join(pages[: chance.randrange(len(pages) + 1)])
        before = (synced or b"").ljust(len(written), b"\0")
        return b"".join(
            page if chance.random() < 1 / 2 else before[at * PAGE_BYTES : at * PAGE_BYTES + len(page)]
            for at, page in enumerate(pages)
        )

    return found


def _state(operations: Sequence[Operation], there: set[int], found: Found) -> dict[str, bytes]:
    """Return the files of a disk that has kept the operations *there*, by place, and of contents what is *found*."""
    written: dict[Node, bytes] = {}
    synced: dict[Node, bytes] = {}
    for operation in operations:
        match operation:
            case Write(node, content):
                written[node] = content
            case Synced(None):
                synced |= written
            case Synced(node) if node in written:
                synced[node] = written[node]
    return {
        path: content if content == synced.get(node) else found(synced.get(node), content)
        for path, node in _files(operations, there)
        for content in [written.get(node, b"")]
    }


def _files(operations: Sequence[Operation], there: set[int]) -> Iterator[tuple[str, Node]]:
    """Yield the files that can be reached by names of which the operations *there* have come to be."""
    entries: dict[tuple[Node, str], Node] = {}
    for at, operation in enumerate(operations):
        if isinstance(operation, Name) and at in there:
            if operation.gone and entries.get(operation.gone) == operation.node:
                del entries[operation.gone]
            if operation.come:
                entries[operation.come] = operation.node
    folders = [(Node(0, is_folder=True), ".")]
    while folders:
        folder, path = folders.pop()
        for (place, name), node in entries.items():
            if place == folder and node.is_folder:
                folders.append((node, _joined(path, name)))
            elif place == folder:
                yield _joined(path, name), node


def _write(store: LocalStore, output_format: str, told: str, base: str | None = None) -> None:
    """Commit shard 0 with images that differ by what is *told*, as a worker does it, in the place of *base* if any."""
    urls = pa.table({"url": [f"http://h.example/{told}/{number}.jpg" for number in range(ROWS)]})

    async def write() -> None:
        tally = Tally()
        async with Attempt.open(store) as attempt:
            columns = Columns(exif=True, digest="sha256")
            output = Output(attempt, NAMING.shard(0), urls, columns, "jpg", captions=False)
            writer = await open_writer(output_format, output)
            for index, url in enumerate(urls.column("url").to_pylist()):
                sample = _sample(Row(index, NAMING.key(0, index), url), told)
                await writer.write(sample)
                tally.add(sample)
            await writer.finish()
            files, digest = await attempt.sums(), digest_of_urls(urls.column("url"))
            marker = Marker(tally, 0.0, 1.0, files, digest, {"output_format": output_format}, SCHEMA_VERSION)
            await attempt.commit(NAMING.stats(0), marker.to_json(), base)

    asyncio.run(write())


def _sample(row: Row, told: str) -> Sample:
    """Return a sample of several pages, or one that has failed: another in each version, so that samples go, too."""
    if row.index == len(told) % ROWS:  # "first": 5, "second": 0
        return Sample(row, Status.FAILED_TO_DOWNLOAD, None, ErrorClass.HTTP_STATUS_4XX, "not there", 404, 1)
    image = f"{told} {row.key} ".encode() * 600
    encoded = Encoded(image, 64, 64, 64, 64, "{}", "0" * 64)
    return Sample(row, Status.SUCCESS, encoded, None, None, 200, 1, len(image))
