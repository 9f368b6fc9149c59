"""partition(url_list): write a list anew, each host's URLs in few shards far apart, and many hosts in each shard."""

from __future__ import annotations

import errno
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

import orjson
import pyarrow.parquet as pq

from async_img2ds.blocking import waited_for
from async_img2ds.distributors.base import Stop
from async_img2ds.errors import AsyncImg2dsError, NoRoom, OptionsError, StorageError
from async_img2ds.existing import finished_shards
from async_img2ds.inputs.whole_list import WholeList
from async_img2ds.lists.passes import Passes, UnwantedError
from async_img2ds.lists.reading import Lines, in_thread, say_nothing
from async_img2ds.lists.temporary import Disk
from async_img2ds.options import InputOptions, PartitionOptions, partition_flags
from async_img2ds.preflight import check_apart, check_shared
from async_img2ds.storage import (
    LIST_NAME,
    LIST_SUMMARY,
    file_system,
    open_store,
    protocols,
    sweep_staging,
    temporary_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from async_img2ds.lists.reading import Told
    from async_img2ds.options import Options
    from async_img2ds.storage import Store

__all__ = ["PartitionReport", "in_host_order", "partition", "run_partition"]

# The folder in a dataset's in which its list lies. Readers of whole folders pass over names that begin so.
BESIDE: Final = "_list"
# Rows in a file of the new list, about, and so much more or less that it has whole shards.
FILE_ROWS: Final = 2**20
# Another one when rows come in another order, so that no list is gone on with by a version that deals otherwise.
SCHEMA_VERSION: Final = 1
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Those that do not change what is written.
_UNSHAPING: Final = frozenset({"url_list", "recipe", "temp_folder"})


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """How a list was written anew: what ``partition`` returns.

    Attributes:
        rows: rows of the list, all of which are in the new one.
        hosts: about how many hosts their URLs have.
        shards: shards that a fetch of the new list has.
        files: files of the new list.
        bytes_written: their size.
        temporary_bytes: what lay on the disk meanwhile, at the most.
        is_old: whether it was all there before, so that nothing was done.
        seconds: wall time.
        interrupted: whether it was asked to stop before its end, and has left nothing.

    """

    rows: int = 0
    hosts: int = 0
    shards: int = 0
    files: int = 0
    bytes_written: int = 0
    temporary_bytes: int = 0
    is_old: bool = False
    seconds: float = 0.0
    interrupted: bool = False


def partition(url_list: Any, **options: Any) -> PartitionReport:  # noqa: ANN401  checked against their fields
    """Write a list anew, with the options of ``aimg2ds partition`` as keywords.

    From a script, a notebook, or inside a running event loop.

    Raises:
        OptionsError: an option cannot be used, or another list lies where this one would.
        InputError: the list cannot be read.
        StorageError: the folder cannot be written to, or there is no room for temporary files.

    """
    checked = PartitionOptions.of(url_list=url_list, **options)
    return waited_for(lambda: run_partition(checked))


async def run_partition(options: PartitionOptions, stop: Stop | None = None) -> PartitionReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    began = time.monotonic()
    told = Lines("by host") if options.output.progress != "none" else say_nothing
    made = await in_thread("partition", partial(_partition, options, told), stop or Stop())
    return replace(made or PartitionReport(interrupted=True), seconds=time.monotonic() - began)


def _partition(options: PartitionOptions, told: Told, is_wanted: Callable[[], bool]) -> PartitionReport | None:
    folder = options.output.output_folder
    check_shared(folder)
    listed = WholeList.open(options.input)
    check_apart(listed.files, folder)
    return _written(listed, options.input, folder, told, is_wanted)


async def in_host_order(options: Options, stop: Stop) -> Options | None:
    """Return *options*, if they have ``partition_by``, with the list that it asks for, written beside the dataset.

    If that lies there already it is taken as it is. None if *stop* was asked for first.

    Raises:
        OptionsError: an option cannot be used, or what lies there was made of another list.
        InputError: the list cannot be read.
        StorageError: the output folder cannot be used, or there is no room for temporary files.

    """
    if options.input.partition_by is None:
        return options
    beside = f"{options.output.output_folder.rstrip('/')}/{BESIDE}"
    told = Lines("by host") if options.run.progress != "none" else say_nothing
    if await in_thread("partition", partial(_write_beside, options, beside, told), stop) is None:
        return None
    listed = replace(options.input, url_list=(beside,), input_format="parquet", partition_by=None, recipe=None)
    return replace(options, input=listed)


def _write_beside(options: Options, beside: str, told: Told, is_wanted: Callable[[], bool]) -> PartitionReport | None:
    """Write the list of a dataset that goes to *options*' output folder, which is held meanwhile."""
    folder = options.output.output_folder
    check_shared(folder)
    listed = WholeList.open(options.input, every=False)
    check_apart(listed.files, folder)
    store = open_store(folder)
    with ExitStack() as held:
        held.callback(store.close)
        with _storage_errors():
            store.prepare()
            is_begun = options.output.incremental_mode != "overwrite" and bool(finished_shards(store))
            if is_begun and not store.content(f"{BESIDE}/{LIST_SUMMARY}"):
                raise OptionsError(
                    f"partition_by: the dataset in {folder} was begun without, so its shards are of another order; "
                    "go on without it, or choose another folder"
                )
        return _written(listed, options.input, beside, told, is_wanted, replaces=not is_begun)


def _written(
    listed: WholeList,
    options: InputOptions,
    folder: str,
    told: Told,
    is_wanted: Callable[[], bool],
    *,
    replaces: bool = False,
) -> PartitionReport | None:
    """Write *listed* anew to *folder*, unless it is there; another that is there is refused unless it *replaces* it.

    Return None, and leave nothing, if that is not wanted any more.
    """
    origin = _origin(listed, options)
    elsewhere = _folder_named(options.temp_folder)
    store = open_store(folder)
    with ExitStack() as held, suppress(UnwantedError):
        held.callback(store.close)
        with _storage_errors():
            store.prepare()
            standing = _standing(store)
            if standing and {name: standing.get(name) for name in origin} == origin:
                return _told_by(standing, is_old=True)
            if standing and not replaces:
                raise OptionsError(f"output_folder: {_difference(folder, standing, origin)}")
            _refuse_strangers(store, folder)
        with _storage_errors("temp_folder"):
            parent = elsewhere or store.disk()
            sweep_staging(parent)
            disk = Disk(held.enter_context(temporary_folder(parent)))
        passes = Passes(listed, options.number_sample_per_shard, disk, told, is_wanted)
        groups = passes.deal(passes.read())
        with _Files(store, options.number_sample_per_shard) as files:
            for shard, rows in passes.in_order(groups):
                files.write(shard, rows)
            if not passes.rows:
                files.write(0, listed.schema.empty_table())
            made = {"rows": passes.rows, "hosts": passes.hosts, "shards": passes.shards}
            summary = files.finish({**origin, **made})
        return replace(_told_by(summary), temporary_bytes=disk.bytes_most)
    return None


def _origin(listed: WholeList, options: InputOptions) -> dict[str, Any]:
    """Return what a new list is made of, and how, as values of JSON."""
    names = [flag.name for flag in partition_flags(InputOptions) if flag.name not in _UNSHAPING]
    told = {
        "schema_version": SCHEMA_VERSION,
        "made_of": [{"name": file.path.rpartition("/")[2], "bytes": file.size} for file in listed.files],
        "made_with": {"partition_by": "host", "every_column": listed.every}
        | {name: getattr(options, name) for name in names},
    }
    return cast("dict[str, Any]", orjson.loads(orjson.dumps(told)))


def _standing(store: Store) -> dict[str, Any] | None:
    """Return what is said of the list that lies in *store*, if it is whole."""
    try:
        told = orjson.loads(store.content(LIST_SUMMARY))
        is_whole = told["files"].items() <= dict(store.names()).items()
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return cast("dict[str, Any]", told) if is_whole else None


def _told_by(summary: Mapping[str, Any], *, is_old: bool = False) -> PartitionReport:
    counts = {name: summary[name] for name in ("rows", "hosts", "shards")}
    sizes = summary["files"].values()
    return PartitionReport(**counts, files=len(sizes), bytes_written=sum(sizes), is_old=is_old)


def _difference(folder: str, standing: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Say what list lies in *folder* that is not the one of *origin*."""
    advice = "choose another folder, or remove that list"
    if standing.get("made_of") != origin["made_of"]:
        made_of = [f"{file['name']} ({file['bytes']} bytes)" for file in standing.get("made_of", ())]
        told = ", ".join(made_of[:3]) + (f" and {len(made_of) - 3} more" if len(made_of) > 3 else "")  # noqa: PLR2004  named beside it
        return f"the list in {folder} was made of other files than this one: {told}; {advice}"
    before, now = standing.get("made_with", {}), origin["made_with"]
    told = ", ".join(f"{name} {before.get(name)!r}, not {now[name]!r}" for name in now if before.get(name) != now[name])
    return f"the list in {folder} was made with other options, or by another version: {told}; {advice}"


def _refuse_strangers(store: Store, folder: str) -> None:
    """Refuse a folder with files that would be read as parts of the list."""
    for name, _ in store.names():
        if name.endswith(".parquet") and not LIST_NAME.fullmatch(name):
            raise OptionsError(
                f"output_folder: {folder} has {name}, which would be read as a part of the list; choose another folder"
            )


def _folder_named(temp_folder: str | None) -> Path | None:
    if temp_folder is None:
        return None
    fs, path = file_system(temp_folder)
    if "file" not in protocols(fs) or not fs.isdir(path):
        raise OptionsError(f"temp_folder: {temp_folder} is no folder on this machine")
    return Path(path)


@contextmanager
def _storage_errors(option: str = "output_folder") -> Iterator[None]:
    """Tell what a file system refuses in words of ours, by the *option* that says where."""
    try:
        yield
    except OSError as error:
        kind = NoRoom if error.errno in _FULL else StorageError
        raise kind(f"{option}: cannot write: {error}") from error


class _Files:
    """Writes the shards of a list in files, in place of those that there are; all are removed if the block fails."""

    def __init__(self, store: Store, rows_per_shard: int) -> None:
        self._store = store
        self._rows_per_shard = rows_per_shard
        self._shards_each = max(1, FILE_ROWS // rows_per_shard)
        self._sizes: dict[str, int] = {}
        self._name = ""
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with suppress(Exception):  # whatever it is, it has failed for another reason before
                self._store.discard(self._name)
                self._store.remove(list(self._sizes))
        self._store.release()

    def write(self, shard: int, rows: pa.Table) -> None:
        """Append the *rows* of *shard*, which is that behind the last."""
        with _storage_errors():
            if shard % self._shards_each == 0:
                if shard:
                    self._publish()
                else:
                    self._remove_others()
                self._name = f"by-host-{shard // self._shards_each:05d}.parquet"
                self._writer = pq.ParquetWriter(self._store.stage(self._name), rows.schema, compression="zstd")
            assert self._writer is not None
            self._writer.write_table(rows, row_group_size=self._rows_per_shard)

    def finish(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Publish the last file, and then what is *told* of all; return that with their sizes."""
        with _storage_errors():
            self._publish()
            summary = {**told, "files": self._sizes}
            self._name = LIST_SUMMARY
            self._store.stage(LIST_SUMMARY).write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
            self._store.publish(LIST_SUMMARY)
        return summary

    def _publish(self) -> None:
        assert self._writer is not None
        self._writer.close()
        size = self._store.staged(self._name).stat().st_size
        try:
            self._store.publish(self._name)
        except AsyncImg2dsError:
            raise
        except Exception as error:  # each file system raises its own
            raise StorageError(f"output_folder: {self._name} cannot be written: {error}") from error
        self._sizes[self._name] = size

    def _remove_others(self) -> None:
        """Remove what there is of another list, first that it is whole."""
        there = {name for name, _ in self._store.names()}
        self._store.remove(sorted(there & {LIST_SUMMARY}))
        self._store.remove(sorted(filter(LIST_NAME.fullmatch, there)))
