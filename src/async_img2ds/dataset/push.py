"""push(output_folder, destination): put a finished dataset on the Hugging Face Hub, with a card; what is there stays.

Shards appear whole, many in one commit. A call that was cut off is gone on with by the same: a file that the Hub has
with the same sum is not sent again. Of a dataset that lies elsewhere few files at a time are copied to this machine.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.dataset.manifest import ASKED, READERS
from async_img2ds.dataset.manifest_files import ManifestFiles, described
from async_img2ds.dataset.stats import AddedUp, Found, each_ahead
from async_img2ds.dataset.verify import files_in
from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.hub import Addition, Destination, Hub
from async_img2ds.options import PushOptions
from async_img2ds.outputs.huggingface import features_of_table, features_of_tar
from async_img2ds.policy.card import BEGIN, CardFacts, card, renewed
from async_img2ds.preflight import check_importable, check_shared
from async_img2ds.progress import Totals, show_progress
from async_img2ds.records import Done, FileSum, Tally
from async_img2ds.storage import (
    LISTINGS_BEFORE,
    MANIFEST,
    SUMS,
    WIDS,
    LocalStore,
    file_system,
    open_store,
    protocols,
    sum_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from async_img2ds.dataset.manifest_files import DescribedShard
    from async_img2ds.hub import There
    from async_img2ds.storage import Store

__all__ = ["PushReport", "push", "run_push"]

CARD: Final = "README.md"
# The Hub advises fewer than a hundred files in a commit, ten thousand in a folder, a hundred thousand in a repository
# ("Storage limits").
COMMIT_FILES: Final = 100
FOLDER_FILES_MAX: Final = 9_000
REPO_FILES_MAX: Final = 100_000
# Where there are more files than a folder takes, so many shards lie in each.
PART_SHARDS: Final = 1_000
# What is sent at a time, and of a dataset elsewhere copied to this machine: so much, or one file.
GROUP_BYTES: Final = 2 * 2**30
_OURS: Final = re.compile(r"(part-[0-9]+/)?[0-9]+(_stats\.json|\.(tar|parquet|tfrecord|json))")
_PIECE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class PushReport:
    """What was put on the Hub: what ``push`` returns.

    Attributes:
        url: where, as fsspec knows it.
        shards: that are there now, all of which are finished ones.
        rows: that these have.
        successes: rows with an image among these.
        files_sent: files that were not there, or were others.
        bytes_sent: that these have.
        files_there: files that were there already.
        commits: in how many the rest was put there.
        card: what became of the card: written, renewed, the same, or left, as it is somebody's own without our marks.
        strays: files on the Hub that are called like those of shards, and are none of this dataset's.
        pruned: whether these were deleted there.
        unfinished: what the dataset does not have, in words; only with ``partial`` there may be something.
        seconds: wall time.

    """

    url: str
    shards: int
    rows: int
    successes: int
    files_sent: int
    bytes_sent: int
    files_there: int
    commits: int
    card: str
    strays: tuple[str, ...]
    pruned: bool
    unfinished: tuple[str, ...]
    seconds: float


def push(output_folder: str, destination: str, **options: Any) -> PushReport:  # noqa: ANN401  checked against their fields
    """Put a finished dataset on the Hugging Face Hub, with the options of ``aimg2ds push`` as keywords.

    Raises:
        OptionsError: an option cannot be used, the dataset is not finished, or the Hub refuses whoever asks.
        StorageError: the folder cannot be read, a file is not what was written, or the Hub fails.

    """
    return run_push(PushOptions(output_folder=output_folder, destination=destination, **options))


def run_push(options: PushOptions) -> PushReport:
    """Do the whole job as *options* say."""
    began = time.monotonic()
    destination = Destination.parse(options.destination)
    check_importable("push", "huggingface_hub", "hf")
    check_shared(options.output_folder)
    store = open_store(options.output_folder)
    try:
        with tempfile.TemporaryDirectory(prefix="aimg2ds-push-") as folder:
            dataset = _looked_at(store, options, Path(folder))
            hub = Hub(destination)
            hub.begin(private=options.private)
            pushed = _Push(hub, store, _Sources(store, options.output_folder), dataset, there=hub.there())
            pushed.send_shards(options.progress)
            if options.prune:
                pushed.prune()
            facts = _facts(store, dataset, destination.repo, options.contact)
            pushed.send_rest(facts, Path(folder))
    except OSError as error:
        raise StorageError(f"output_folder: {error}") from error
    finally:
        store.close()
    return PushReport(
        url=destination.url,
        shards=len(dataset.shards),
        rows=dataset.told["rows"],
        successes=dataset.told["images"],
        files_sent=pushed.files_sent,
        bytes_sent=pushed.bytes_sent,
        files_there=pushed.files_there,
        commits=pushed.commits,
        card=pushed.card,
        strays=pushed.strays(),
        pruned=options.prune,
        unfinished=dataset.unfinished,
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard on its way: the *folder* on the Hub that it goes to, its files by name, and its counts."""

    number: int
    folder: str
    files: Mapping[str, FileSum]
    tally: Tally


@dataclass(frozen=True, slots=True)
class _Dataset:
    """A dataset on its way: its shards, what its manifest tells of it as a whole, and what it does not have."""

    shards: Sequence[_Shard]
    told: Mapping[str, Any]
    manifest: tuple[str, ...]
    unfinished: tuple[str, ...]


def _looked_at(store: Store, options: PushOptions, folder: Path) -> _Dataset:
    """Look at all of the dataset in *store*, and write into *folder* the manifest of what will be on the Hub."""
    finished, unfinished = files_in(store)
    if store.is_in_use():
        unfinished = ["a run is writing to this folder", *unfinished]
    found = Found.in_store(store).without_torn()
    if not len(found):
        raise OptionsError(f"output_folder: there is no finished shard in {options.output_folder}; a fetch comes first")
    if unfinished and not options.partial:
        raise OptionsError(
            f"output_folder: the dataset is not finished: {unfinished[0]}"
            + (f", and {len(unfinished) - 1} more of the kind" if len(unfinished) > 1 else "")
            + "; run its fetch to the end, or push what is finished with --partial"
        )
    count = sum(len(each.sizes) for each in finished)
    if count > REPO_FILES_MAX:
        raise OptionsError(
            f"output_folder: {count:,} files are more than the {REPO_FILES_MAX:,} that the Hub takes in a repository; "
            "make larger shards (--number_sample_per_shard)"
        )
    sizes = {name: size for each in finished for name, size in each.sizes.items()}
    added, shards = AddedUp(), []
    with ManifestFiles.open(LocalStore(folder)) as written:
        files = added.each(store, found, "none")
        for shard in each_ahead(partial(described, store, compute=True), files, READERS, ASKED):
            _check_sendable(shard)
            _check_there(shard, sizes)
            number = shard.file.number
            part = "" if count <= FOLDER_FILES_MAX else f"part-{number // PART_SHARDS:05d}/"
            written.add(shard, added.place_of(shard.marker), part)
            shards.append(_Shard(number, part, shard.files, shard.marker.tally))
        told, names = written.publish(added, found)
    return _Dataset(shards, told, names, tuple(unfinished))


def _check_sendable(shard: DescribedShard) -> None:
    if any(one.files is not None for one in shard.files.values()):
        raise OptionsError(
            "output_folder: samples that lie in folders, as output_format files has them, are too many files for the "
            "Hub; fetch with output_format webdataset or parquet"
        )
    if len(shard.files) == 1:
        raise OptionsError("output_folder: output_format dummy has nothing that could be pushed")


def _check_there(shard: DescribedShard, sizes: Mapping[str, int | None]) -> None:
    """See that each file has the size that it should: what is cut off or missing is told before anything is sent."""
    for name, one in shard.files.items():
        if sizes.get(name) != one.bytes:
            lies = "is not there" if name not in sizes else f"has {sizes[name]:,} bytes and not {one.bytes:,}"
            raise StorageError(
                f"{name} {lies}; aimg2ds verify --repair sets its shard back, and the fetch, run again, makes it anew"
            )


class _Sources:
    """Files of a dataset on this machine: where they lie, or copies that are there as long as they are wanted."""

    def __init__(self, store: Store, url: str) -> None:
        """Have those of *store*, which is at *url*."""
        fs, root = file_system(url)
        self._root = Path(root) if "file" in protocols(fs) else None
        self._store = store
        self._copied: set[str] = set()

    def path(self, name: str) -> Path:
        """Return where the file *name* lies."""
        if self._root is not None:
            return self._root / name
        path = self._store.stage(name)
        self._copied.add(name)
        with self._store.open(name) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy, _PIECE_BYTES)
        return path

    def let_go(self, names: Sequence[str] | None = None) -> None:
        """Remove the copies of the files *names*, or all."""
        for name in self._copied.intersection(self._copied if names is None else names):
            self._store.discard(name)
            self._copied.discard(name)


@dataclass(slots=True)
class _Push:
    """What is sent, and what came of it; *there* is what the Hub had before."""

    hub: Hub
    store: Store
    sources: _Sources
    dataset: _Dataset
    there: Mapping[str, There]
    files_sent: int = 0
    bytes_sent: int = 0
    files_there: int = 0
    commits: int = 0
    card: str = ""

    def send_shards(self, progress: str) -> None:
        """Send the files of shards that are not there, and have them appear, shard by shard as a whole."""
        totals = Totals()
        with show_progress(progress, lambda: int(self.dataset.told["rows"])) as display:

            def tell(shard: _Shard) -> None:
                totals.add(Done(0, shard.number, shard.tally, 0.0))
                display.update(totals)

            batch: list[tuple[_Shard, list[str]]] = []
            for shard in self.dataset.shards:
                lacking = [name for name, one in shard.files.items() if not self._has(shard, name, one)]
                self.files_there += len(shard.files) - len(lacking)
                if not lacking:
                    tell(shard)
                    continue
                if batch and sum(len(names) for _, names in batch) + len(lacking) > COMMIT_FILES:
                    self._commit_batch(batch, tell)
                    batch = []
                batch.append((shard, lacking))
            if batch:
                self._commit_batch(batch, tell)

    def _commit_batch(self, batch: Sequence[tuple[_Shard, list[str]]], tell: Callable[[_Shard], None]) -> None:
        """Send what lacks of some shards, and have it appear; *tell* of each that is sent."""
        sent = 0
        waiting = deque(batch)
        try:
            wanted = [(shard.folder, name, shard.files[name]) for shard, names in batch for name in names]
            for group in _groups(wanted):
                paths = each_ahead(self.sources.path, [name for _, name, _ in group], READERS, READERS)
                additions = [
                    Addition(folder + name, path, one.sha256)
                    for (folder, name, one), path in zip(group, paths, strict=True)
                ]
                needed_no_more = self.hub.send(additions)
                names = [name for (_, name, _), is_sent in zip(group, needed_no_more, strict=True) if is_sent]
                self.sources.let_go(names)
                sent += len(group)
                while waiting and sent >= len(waiting[0][1]):
                    shard, lacking = waiting.popleft()
                    sent -= len(lacking)
                    tell(shard)
            first, last = batch[0][0].number, batch[-1][0].number
            self._commit(f"Add shards {first} to {last}" if first != last else f"Add shard {first}", self._untrue())
        finally:
            self.sources.let_go()
        self.files_sent += len(wanted)
        self.bytes_sent += sum(one.bytes for _, _, one in wanted)

    def _untrue(self) -> list[str]:
        """Return those of the files that tell of the whole which will not be true with the first commit."""
        return [] if self.commits else [name for name in (MANIFEST, SUMS, WIDS, *LISTINGS_BEFORE) if name in self.there]

    def send_rest(self, facts: CardFacts, folder: Path) -> None:
        """Send the card, and the manifest that lies in *folder*, behind all that they tell of."""
        written = LocalStore(folder)
        additions = []
        for name in self.dataset.manifest:
            one = sum_in(written, name, is_folder=False)
            if self.commits or not _is_same(self.there.get(name), one, written, name):
                additions.append(Addition(name, folder / name, one.sha256))
        text = self._card(facts)
        if text is not None:
            content = text.encode()
            additions.append(Addition(CARD, content, hashlib.sha256(content).hexdigest()))
        if additions:
            self.hub.send(additions)
            old = [] if self.commits else [name for name in LISTINGS_BEFORE if name in self.there]
            self._commit("Tell what the dataset has", old)
            self.files_sent += len(additions)

    def _card(self, facts: CardFacts) -> str | None:
        """Return the card as it should be, None if it stays as it is."""
        if CARD not in self.there:
            own = self.store.content(CARD).decode(errors="replace")
            self.card = "written"
            return renewed(own, facts) if own else card(facts)
        old = self.hub.read(CARD)
        new = renewed(old, facts)
        self.card = "renewed" if new != old else "the same" if BEGIN in old else "left"
        return new if new != old else None

    def _commit(self, message: str, deletions: Sequence[str] = ()) -> None:
        self.hub.commit(message, deletions)
        self.commits += 1

    def prune(self) -> None:
        """Delete the strays, behind what takes their place."""
        strays = self.strays()
        for at in range(0, len(strays), COMMIT_FILES):
            some = strays[at : at + COMMIT_FILES]
            self._commit(f"Delete {len(some)} files of shards that are no more", [*some, *self._untrue()])

    def _has(self, shard: _Shard, name: str, one: FileSum) -> bool:
        return _is_same(self.there.get(shard.folder + name), one, self.store, name)

    def strays(self) -> tuple[str, ...]:
        """Return the files on the Hub that are called like those of shards, and are none of this dataset's."""
        ours = {shard.folder + name for shard in self.dataset.shards for name in shard.files}
        return tuple(sorted(path for path in self.there if _OURS.fullmatch(path) and path not in ours))


def _is_same(there: There | None, one: FileSum, store: Store, name: str) -> bool:
    """Whether what is *there* is the file *name* of *store*, which is told to be *one*."""
    if there is None or there.size != one.bytes:
        return False
    if there.sha256 is not None:
        return there.sha256 == one.sha256
    content = store.content(name)  # what is kept as text is small
    if hashlib.sha256(content).hexdigest() != one.sha256:
        return False
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == there.git_sha1


def _groups(wanted: Sequence[tuple[str, str, FileSum]]) -> Iterator[list[tuple[str, str, FileSum]]]:
    """Yield them in order, some at a time."""
    group: list[tuple[str, str, FileSum]] = []
    size = 0
    for one in wanted:
        if group and size + one[2].bytes > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(one)
        size += one[2].bytes
    if group:
        yield group


def _facts(store: Store, dataset: _Dataset, repo: str, contact: str | None) -> CardFacts:
    """Return what the card says."""
    endings = {name.rpartition(".")[2] for shard in dataset.shards for name in shard.files}
    has_tars = "tar" in endings
    told = dataset.told
    return CardFacts(
        repo=repo,
        told=told,
        ending=next((ending for ending in ("tar", "tfrecord") if ending in endings), "parquet"),
        pattern=("part-*/" if dataset.shards[0].folder else "") + ("*.tar" if has_tars else "*.parquet"),
        examples=told["images"] if has_tars else told["rows"],
        features=_features(store, dataset),
        contact=contact,
    )


def _features(store: Store, dataset: _Dataset) -> list[dict[str, Any]] | None:
    """Return what the examples are made of, if all of them are alike."""
    made_with = [each["options"] for each in dataset.told["made_with"]]
    options = made_with[0] if len(made_with) == 1 else None
    table = next((name for name in dataset.shards[0].files if name.endswith(".parquet")), None)
    if options is None or table is None or options.get("output_format") not in ("webdataset", "parquet"):
        return None
    try:
        with store.open(table) as file:
            schema = pq.read_schema(file)
    except pa.ArrowException as error:
        raise StorageError(f"{table} cannot be read: {error}; aimg2ds verify says more") from error
    image = str(options["encode_format"])
    if options["output_format"] == "parquet":
        return features_of_table(schema, image)
    return features_of_tar(schema, image, captions=bool(options.get("caption_col")))
