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
from async_img2ds.existing import STARTS
from async_img2ds.inputs.whole_list import WholeList
from async_img2ds.lists.passes import Passes, UnwantedError
from async_img2ds.lists.reading import Lines, in_thread, say_nothing
from async_img2ds.lists.temporary import Disk
from async_img2ds.options import InputOptions, PartitionOptions, partition_flags
from async_img2ds.policy.markers import digest_of_urls
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

    from async_img2ds.existing import Start
    from async_img2ds.lists.reading import Told
    from async_img2ds.options import Options
    from async_img2ds.policy.markers import Made
    from async_img2ds.storage import Store

__all__ = ["PartitionReport", "in_host_order", "partition", "run_partition"]

# The folder in a dataset's in which its list lies. All readers of whole folders pass over names that begin with a dot;
# of others Hugging Face's datasets would read it as a part of the dataset.
BESIDE: Final = ".aimg2ds-list"
# What versions before called it.
BESIDE_BEFORE: Final = "_list"
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
    told = Lines("by host") if options.run.progress != "none" else say_nothing
    beside = await in_thread("partition", partial(_write_beside, options, told), stop)
    if beside is None:
        return None
    listed = replace(options.input, url_list=(beside,), input_format="parquet", partition_by=None, recipe=None)
    return replace(options, input=listed)


def _write_beside(options: Options, told: Told, is_wanted: Callable[[], bool]) -> str | None:
    """Write the list of a dataset that goes to *options*' output folder, which is held meanwhile; return where."""
    folder = options.output.output_folder
    check_shared(folder)
    listed = WholeList.open(options.input, every=False)
    check_apart(listed.files, folder)
    store = open_store(folder)
    with ExitStack() as held:
        held.callback(store.close)
        with _storage_errors():
            store.prepare()
            start = STARTS["overwrite" if options.output.incremental_mode == "overwrite" else "incremental"](store)
            name = BESIDE
            if store.content(f"{BESIDE_BEFORE}/{LIST_SUMMARY}") and not store.content(f"{BESIDE}/{LIST_SUMMARY}"):
                if start.finished:
                    name = BESIDE_BEFORE
                else:
                    there = (entry for entry, _ in store.names(BESIDE_BEFORE) if is_of_list(entry))
                    store.remove([f"{BESIDE_BEFORE}/{entry}" for entry in there])
        beside = f"{folder.rstrip('/')}/{name}"
        report = _written(listed, options.input, beside, told, is_wanted, start=start)
    return None if report is None else beside


def _written(
    listed: WholeList,
    options: InputOptions,
    folder: str,
    told: Told,
    is_wanted: Callable[[], bool],
    *,
    start: Start | None = None,
) -> PartitionReport | None:
    """Write *listed* anew to *folder*, unless it is there; another that is there is refused.

    If it is the list of a dataset, *start* says what finished shards of that were made of: one that would be made of
    other rows is refused, and where there are none another list is replaced. Return None, and leave nothing, if that
    is not wanted any more.
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
            if standing and (start is None or start.finished):
                advice = _TO_PARTITION if start is None else _TO_FETCH
                raise OptionsError(f"output_folder: {_difference(folder, standing, origin)}; {advice}")
            _refuse_strangers(store, folder, origin if start is None else None)
        with _storage_errors("temp_folder"):
            parent = elsewhere or store.disk()
            sweep_staging(parent)
            disk = Disk(held.enter_context(temporary_folder(parent)))
        passes = Passes(listed, options.number_sample_per_shard, disk, told, is_wanted)
        groups = passes.deal(passes.read())
        with _Files(store, options.number_sample_per_shard, origin) as files:
            for shard, rows in passes.in_order(groups):
                if start is not None and shard in start.made:
                    _check_begun(shard, start.made[shard], rows.column(options.url_col))
                files.write(shard, rows)
            if not passes.rows:
                files.write(0, listed.schema.empty_table())
            made = {"rows": passes.rows, "hosts": passes.hosts, "shards": passes.shards}
            summary = files.finish({**origin, **made})
        return replace(_told_by(summary), temporary_bytes=disk.bytes_most)
    return None


def _check_begun(shard: int, made: Made, urls: pa.ChunkedArray) -> None:
    """Refuse a list of which *shard*, with these *urls*, is not what the finished one was *made* of."""
    if made.rows != len(urls) or made.urls not in (None, digest_of_urls(urls)):
        raise OptionsError(
            f"partition_by: shard {shard} that lies in the output folder has other rows than it would have: the "
            "dataset was begun without partition_by, or of another list; go on as it was begun, or choose another "
            "folder, or begin it anew with --incremental_mode overwrite"
        )


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
    """Return what is said of the list that lies in *store*, if it is finished and whole."""
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
    if standing.get("made_of") != origin["made_of"]:
        made_of = [f"{file['name']} ({file['bytes']} bytes)" for file in standing.get("made_of", ())]
        told = ", ".join(made_of[:3]) + (f" and {len(made_of) - 3} more" if len(made_of) > 3 else "")  # noqa: PLR2004  named beside it
        return f"the list in {folder} was made of other files than this one: {told}"
    before, now = standing.get("made_with", {}), origin["made_with"]
    told = ", ".join(f"{name} {before.get(name)!r}, not {now[name]!r}" for name in now if before.get(name) != now[name])
    return f"the list in {folder} was made with other options, or by another version: {told}"


# What to do about another list.
_TO_PARTITION: Final = "choose another folder, or remove that list"
_TO_FETCH: Final = "choose another folder, or begin the dataset anew with --incremental_mode overwrite"


def is_of_list(name: str) -> bool:
    """Whether a file of that name is one of a list that was written anew."""
    return name == LIST_SUMMARY or LIST_NAME.fullmatch(name) is not None


def _refuse_strangers(store: Store, folder: str, origin: Mapping[str, Any] | None) -> None:
    """Refuse a folder with files that would be read as parts of the list of that *origin*, or are those of another one.

    What is left of the same list is neither, nor what a run that was killed has begun of any. No *origin* says that
    the folder is for such lists alone.
    """
    may_go = origin is None or _is_remainder(store, origin)
    for name, _ in store.names():
        if not name.endswith(".parquet") or (may_go and LIST_NAME.fullmatch(name)):
            continue
        said = ", of a list of which nothing is known or a part is gone" if LIST_NAME.fullmatch(name) else ""
        raise OptionsError(
            f"output_folder: {folder} has {name}{said}, which would be read as a part of the list; choose another "
            "folder, or remove it"
        )


def _is_remainder(store: Store, origin: Mapping[str, Any]) -> bool:
    """Whether what lies in *store* is of the list of that *origin*, or was begun of another and never finished."""
    try:
        told = orjson.loads(store.content(LIST_SUMMARY))
        return "files" not in told or {name: told.get(name) for name in origin} == origin
    except (ValueError, TypeError, AttributeError):
        return False


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
    """Writes the shards of a list in files, in place of those that there are; all are removed if the block fails.

    As long as it is not finished its summary names no files: by that what a kill leaves is known.
    """

    def __init__(self, store: Store, rows_per_shard: int, origin: Mapping[str, Any]) -> None:
        self._store = store
        self._origin = origin
        self._rows_per_shard = rows_per_shard
        self._shards_each = max(1, FILE_ROWS // rows_per_shard)
        self._sizes: dict[str, int] = {}
        self._name = ""
        self._is_begun = False
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with suppress(Exception):  # whatever it is, it has failed for another reason before
                self._store.discard(self._name)
                self._store.remove([*self._sizes, LIST_SUMMARY] if self._is_begun else [])
        self._store.release()

    def write(self, shard: int, rows: pa.Table) -> None:
        """Append the *rows* of *shard*, which is that behind the last."""
        with _storage_errors():
            if shard % self._shards_each == 0:
                if shard:
                    self._publish()
                else:
                    self._begin()
                self._name = f"by-host-{shard // self._shards_each:05d}.parquet"
                self._writer = pq.ParquetWriter(self._store.stage(self._name), rows.schema, compression="zstd")
            assert self._writer is not None
            self._writer.write_table(rows, row_group_size=self._rows_per_shard)

    def finish(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Publish the last file, and then what is *told* of all; return that with their sizes."""
        with _storage_errors():
            self._publish()
            summary = {**told, "files": self._sizes}
            self._sum_up(summary)
        return summary

    def _begin(self) -> None:
        """Say that a list is begun, and remove what there is of another one."""
        self._is_begun = True
        self._sum_up(self._origin)
        there = sorted(name for name, _ in self._store.names() if LIST_NAME.fullmatch(name))
        self._store.remove(there)

    def _sum_up(self, told: Mapping[str, Any]) -> None:
        self._name = LIST_SUMMARY
        self._store.stage(LIST_SUMMARY).write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        self._store.publish(LIST_SUMMARY)

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
