"""Samples without files: each row once, no faster than they are taken, and nothing left behind by whoever leaves."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import queue
import subprocess
import sys
import threading
import warnings
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import origin as origin_server
from async_img2ds import InputError, LocalFault, OptionsError, StreamSample, blocking, download, stream, stream_async
from async_img2ds.images import codec
from async_img2ds.streaming.backlog import Backlog
from async_img2ds.streaming.stream import samples_of
from async_img2ds.worker import guard
from async_img2ds.worker.process import loop_factory
from async_img2ds.worker.row import RowRunner
from test_run import PICTURES, write_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from async_img2ds.fetch.pacer import Turn
    from origin import Origin

LOOPBACK: dict[str, Any] = {"allow_net": "127.0.0.0/8", "retries": 0}
# Rows that are refused before anybody is asked, so that a test about lists needs no server.
REFUSED = [f"http://10.0.0.1/{number}.jpg" for number in range(5)]


async def collected(listed: Any = None, **options: Any) -> list[StreamSample[Any]]:
    return [sample async for sample in stream_async(listed, **LOOPBACK, **options)]


def all_of(listed: Any = None, **options: Any) -> list[StreamSample[Any]]:
    return asyncio.run(collected(listed, **options))


# What comes out.


def test_samples_are_the_rows_of_a_dataset(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row once, with the key, the image and all else that the same list has as a dataset; and no file is made."""
    write_list(tmp_path / "urls.txt", origin, 25)
    urls = (tmp_path / "urls.txt").read_text().split()
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("url", "text", "place"), *((url, f"über {url[-2:]}", url[-1:]) for url in urls)])
    chosen: dict[str, Any] = {
        **LOOPBACK,
        "input_format": "csv",
        "caption_col": "text",
        "save_additional_columns": ["place"],
        "number_sample_per_shard": 10,
        "provenance": True,
        "image_size": 64,
        "encode_format": "png",
        "encode_quality": 1,
    }
    told = {"output_format": "parquet", "processes_count": 1, "progress": "none"}
    download(url_list=str(tmp_path / "list.csv"), output_folder=str(tmp_path / "out"), **chosen, **told)
    table = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet")))
    rows = {row["key"]: row for row in table.to_pylist()}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    samples = asyncio.run(_all(stream_async(str(tmp_path / "list.csv"), **chosen)))

    varying = ("fetched_at", "etag")
    assert len(samples) == len(rows) == 25
    for sample in samples:
        row = rows[sample.key]
        metadata = sample.metadata()
        assert sample.image == row.pop("png")
        assert {name: metadata[name] for name in row if name not in varying} == {
            name: value for name, value in row.items() if name not in varying
        }
        assert (sample.fetched_at is None) == (row["fetched_at"] is None)
    assert list((tmp_path / "here").iterdir()) == []


async def _all(samples: AsyncIterator[StreamSample[Any]]) -> list[StreamSample[Any]]:
    return [sample async for sample in samples]


@pytest.mark.parametrize("ahead", [1, 3, 1000])
def test_ordered_samples_come_in_the_order_of_the_list(origin: Origin, ahead: int) -> None:
    """Also where the first is the slowest, and where hardly anything may wait."""
    names = ["slow/astronaut.jpg", *PICTURES, "no-such.jpg"]
    urls = [origin.url(f"{name}?{number}") for number, name in enumerate(names * 2)]

    samples = all_of(urls, ordered=True, samples_ahead_max=ahead, bytes_ahead_max=20_000)

    assert [sample.url for sample in samples] == urls
    assert [sample.key for sample in samples] == [f"{number:09d}" for number in range(len(urls))]


def test_failures_can_be_left_out(origin: Origin) -> None:
    """In either order nothing but images is left, and none is missing."""
    urls = [origin.url(name) for name in ("rocket.jpg", "no-such.jpg", "coffee.png", "page.jpg")]
    for ordered in (False, True):
        samples = all_of(urls, failures=False, ordered=ordered)

        assert sorted(str(sample.url) for sample in samples if sample.ok) == sorted([urls[0], urls[2]])


def test_image_may_come_decoded(origin: Origin) -> None:
    """As an array or as an image of Pillow, with all else that is told of it."""
    for decode, kind in (("numpy", np.ndarray), ("pil", Image.Image)):
        [sample] = all_of([origin.url("rocket.jpg")], decode=decode, image_size=80)

        assert type(sample.image) is kind
        assert (sample.width, sample.height, sample.original_width) == (80, 80, 640)


def test_sample_says_what_there_is_in_a_line(origin: Origin) -> None:
    """In a notebook nobody wants to see bytes, or fields that are not there."""
    [sample] = all_of([origin.url("rocket.jpg")])
    [failed] = all_of(REFUSED[:1])

    assert "width=256" in repr(sample)
    assert "None" not in repr(sample)
    assert len(repr(sample)) < 500
    assert "addr_blocked" in repr(failed)


# What a list may be.


def _generated() -> Iterator[dict[str, Any]]:
    for number, url in enumerate(REFUSED):
        yield {"url": url, "text": f"t{number}", "more": [number]}


async def _awaited() -> AsyncIterator[dict[str, Any]]:
    for row in _generated():
        yield row


COLUMNS: dict[str, list[Any]] = {
    "url": REFUSED,
    "text": [f"t{number}" for number in range(5)],
    "more": [[number] for number in range(5)],
    "left out": [*range(5)],
}
LISTS: dict[str, Callable[[], Any]] = {
    "list of mappings": lambda: list(_generated()),
    "generator": _generated,
    "async generator": _awaited,
    "table": lambda: pa.table(COLUMNS),
    "batches": lambda: pa.table(COLUMNS).to_reader(2),
    "columns": lambda: COLUMNS,
    "pandas": lambda: pd.DataFrame(COLUMNS, index=range(7, 12)),
}


@pytest.mark.parametrize("kind", LISTS)
def test_list_may_be_whatever_a_program_has(kind: str) -> None:
    """Of each the columns that are asked for come out with each sample, as they are."""
    samples = all_of(LISTS[kind](), caption_col="text", save_additional_columns=["more"], ordered=True)

    assert [sample.url for sample in samples] == REFUSED
    assert [sample.caption for sample in samples] == ["t0", "t1", "t2", "t3", "t4"]
    assert [[*sample.columns["more"]] for sample in samples] == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    "urls", [REFUSED, tuple(REFUSED), iter(REFUSED), pd.Series(REFUSED), np.array(REFUSED), pa.array(REFUSED)]
)
def test_list_may_be_urls_alone(urls: Any) -> None:
    """In anything that can be gone through."""
    assert [sample.url for sample in all_of(urls, ordered=True)] == REFUSED


def test_files_are_read_as_by_a_fetch(tmp_path: Path) -> None:
    """By one path, or by several in url_list."""
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path in paths:
        path.write_text("\n".join(REFUSED))

    assert len(all_of(paths[0])) == 5
    assert [sample.key for sample in all_of(url_list=[str(path) for path in paths], ordered=True)][4:6] == [
        "000000004",
        "000010000",
    ]


def test_rows_without_url_come_out_too() -> None:
    """What is missing, or no URL at all, is a row that fails."""
    samples = all_of([None, float("nan"), "", {}, {"url": 5}, "http://[", "\ud800"], ordered=True)

    assert [sample.error_class for sample in samples] == ["url_invalid"] * 7


def test_credentials_of_urls_are_not_handed_on() -> None:
    """They are never sent, as in a dataset they are never kept."""
    for listed in (["http://me:secret@10.0.0.1/x.jpg"], pa.table({"url": ["http://me:secret@10.0.0.1/x.jpg"]})):
        assert all_of(listed)[0].url == "http://10.0.0.1/x.jpg"


def test_rows_that_are_not_asked_for_come_out_too(origin: Origin) -> None:
    """What the list has before, and what it reserves, fails as it does in a dataset."""
    rows = [{"url": origin.url("rocket.jpg"), "keep out": said} for said in ("", "", "yes")]

    samples = all_of(rows, dedupe=True, optout_col="keep out", ordered=True)

    assert [sample.error_class for sample in samples] == [None, "duplicate", "duplicate"]
    assert all_of(rows[2:], optout_col="keep out")[0].error_class == "optout_listed"


@pytest.mark.parametrize("shape", ["generator", "async generator"])
def test_list_may_wait_for_what_came_of_its_rows(shape: str, origin: Origin) -> None:
    """A row is done as soon as it is there, not when enough have come to be worth it."""
    came: queue.SimpleQueue[None] = queue.SimpleQueue()
    came_here = asyncio.Semaphore(0)

    def rows() -> Iterator[str]:
        for number in range(3):
            yield origin.url(f"rocket.jpg?{number}")
            came.get(timeout=20)

    async def later_rows() -> AsyncIterator[str]:
        for number in range(3):
            yield origin.url(f"rocket.jpg?{number}")
            await came_here.acquire()

    async def run() -> int:
        count = 0
        async for sample in stream_async(rows() if shape == "generator" else later_rows(), **LOOPBACK):
            count += sample.ok
            came.put(None)
            came_here.release()
        return count

    assert asyncio.run(run()) == 3


class Broken(Exception):
    """What a list of somebody's own raises."""


@pytest.mark.parametrize("ordered", [False, True])
def test_error_of_the_list_comes_behind_the_rows_before_it(ordered: bool) -> None:  # noqa: FBT001  a parameter
    """As it was raised, and once."""

    def rows() -> Iterator[str]:
        yield from REFUSED
        raise Broken("no more")

    async def later_rows() -> AsyncIterator[str]:
        for row in rows():
            yield row

    async def run(listed: Any) -> list[str]:
        urls = []
        async for sample in stream_async(listed, ordered=ordered):
            urls.append(str(sample.url))
            if len(urls) == len(REFUSED):
                break
        return urls

    for listed in (rows, later_rows):
        assert sorted(asyncio.run(run(listed()))) == REFUSED
        with pytest.raises(Broken, match="no more"):
            all_of(listed(), ordered=ordered)


@pytest.mark.parametrize(
    ("listed", "error", "said"),
    [
        ([5], InputError, "a row is a URL, or a mapping with the column 'url'; got '5'"),
        (pa.table({"link": REFUSED}), OptionsError, "url_col: the table has no column 'url'; it has link"),
        (pd.DataFrame({"link": REFUSED}), OptionsError, "url_col: the table has no column 'url'; it has link"),
        ("no-such-list.txt", InputError, "no-such-list.txt does not exist"),
    ],
)
def test_what_is_no_list_is_refused_in_words(listed: Any, error: type[Exception], said: str) -> None:
    """When the first sample is asked for, as looking may take long."""
    with pytest.raises(error, match=said):
        all_of(listed)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("https://example.org/cat.jpg", r"give it in a list: \['https://example.org/cat.jpg'\]"),
        ({"url": REFUSED[0], "caption": "one"}, "one row is given in a list"),
        (b"http://10.0.0.1/", "a list of URLs is URLs or mappings .*; got bytes"),
        (5, "a table, or a path; got int"),
    ],
)
def test_what_is_taken_for_a_list_by_mistake_is_refused_at_once(listed: Any, said: str) -> None:
    """Each of them could be read as rows, none of which would be what was meant."""
    with pytest.raises(OptionsError, match=said):
        stream_async(listed)


# Its options.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_folder": "x"}, "output_folder is for datasets: a stream writes nothing"),
        ({"processes_count": 4}, "processes_count is for datasets"),
        ({"distributor": "ray"}, r"leave it out, or call download\(\)"),
        ({"input_format": "csv"}, "input_format says how files are read"),
        ({"image_sizes": 5}, "did you mean 'image_size'"),
        ({"url_list": "x.txt"}, "a stream takes one list"),
        ({"decode": "torch"}, "decode takes numpy or pil, or None; got 'torch'"),
        ({"decode": "pil", "encode_format": "png"}, "encode_format: nothing is encoded with decode pil"),
        ({"decode": "pil", "disable_all_reencoding": True}, "disable_all_reencoding keeps bodies as they came"),
        ({"samples_ahead_max": 0}, "a whole number of at least 1"),
        ({"verify_hash": ["h", "md5"]}, "verify_hash and compute_hash must be the same"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_words(options: dict[str, Any], said: str) -> None:
    """At once, by the call itself."""
    for call in (stream, stream_async):
        with pytest.raises(OptionsError, match=said):
            call(REFUSED, **options)


def test_options_are_in_the_signature() -> None:
    """Where help() and notebooks look."""
    told = signature(stream_async).parameters

    assert next(iter(told)) == "urls"
    assert told["image_size"].default == 256
    assert told["ordered"].default is False
    assert told.keys() == signature(stream).parameters.keys()
    assert not {"output_folder", "processes_count", "partition_by"} & told.keys()


# How fast.


def test_fetching_pauses_while_nobody_takes_samples(photographs: Path) -> None:
    """Of a list without end, no more is asked for than may wait; taking one lets one more be asked for."""

    async def run(server: Origin) -> list[int]:
        urls = (server.url(f"rocket.jpg?{number}") for number in iter(int, 1))
        asked = []
        async with contextlib.aclosing(stream_async(urls, samples_ahead_max=5, **LOOPBACK)) as samples:
            for _ in range(3):
                await anext(samples)
                backlog = _backlog_of(samples)
                while len(backlog._ready) < 5:  # from then on there is nothing that could begin
                    await asyncio.sleep(0.001)
                asked.append(len(server.requests()))
        return asked

    with origin_server.serve(photographs, logged=True) as server:
        assert asyncio.run(run(server)) == [6, 7, 8]


def _backlog_of(samples: Any) -> Backlog[Any]:
    backlog: Backlog[Any] = samples.ag_frame.f_locals["stream"].backlog
    return backlog


def test_bytes_that_wait_are_bounded(origin: Origin) -> None:
    """Once it is known how large samples are, as many are made as fit."""

    async def run(*, ordered: bool) -> int:
        urls = (origin.url(f"rocket.jpg?{number}") for number in iter(int, 1))
        options = {**LOOPBACK, "decode": "numpy", "image_size": 100, "bytes_ahead_max": 100_000, "ordered": ordered}
        most = 0
        async with contextlib.aclosing(stream_async(urls, thread_count=4, **options)) as samples:
            for number in range(40):
                await anext(samples)
                if number > 20:  # the first few were begun before any size was known
                    most = max(most, _backlog_of(samples)._bytes)
        return most

    assert asyncio.run(run(ordered=False)) <= 100_000
    assert asyncio.run(run(ordered=True)) <= 100_000


def test_backlog_has_room_for_something_whatever_its_bounds() -> None:
    """Or nothing would ever come: one sample may be larger than all that may wait."""

    async def run() -> None:
        backlog: Backlog[str] = Backlog(3, 10, 2, ordered=False, taken=lambda: None)
        assert (backlog.room(0), backlog.room(1), backlog.room(3)) == (3, 2, 0)
        backlog.put(0, "large", 100)
        assert backlog.room(0) == 0
        assert await backlog.take() == "large"
        assert backlog.room(0) == 1
        assert backlog.room(1) == 0  # which may be as large again

    asyncio.run(run())


# How it ends.

WAYS = ["break", "aclose", "cancel", "error"]


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def _sockets() -> set[str]:
    """Return the sockets, pipes and queues that this process has open."""
    return {name for path in Path("/proc/self/fd").iterdir() if "[" in (name := _leads_to(path))}


def _leads_to(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:  # it was there to list them
        return ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("way", WAYS)
def test_leaving_early_ends_all_that_was_begun(way: str, loop: str, origin: Origin) -> None:
    """Tasks, threads, connections and the list's generator, with no word of complaint."""
    closed: list[bool] = []

    def rows() -> Iterator[str]:
        try:
            for number in iter(int, 1):
                yield origin.url(f"{PICTURES[number % 7]}?{number}")
        finally:
            closed.append(True)

    async def run() -> None:
        # What stays for the life of a process is there after the first use.
        await collected([*REFUSED[:1], origin.url("rocket.jpg")])
        tasks, threads, sockets = asyncio.all_tasks(), _threads(), _sockets()

        await LEAVING[way](stream_async(rows(), **LOOPBACK))
        async with asyncio.timeout(20):
            while asyncio.all_tasks() != tasks:  # after a break Python closes the generator in a task of its own
                await asyncio.sleep(0.001)
            while _sockets() - sockets:  # they are closed in the loop's next rounds
                await asyncio.sleep(0.001)

        assert _threads() == threads

    with asyncio.Runner(loop_factory=loop_factory() if loop == "uvloop" else None) as runner:
        runner.run(run())
    assert closed == [True]


async def _break(samples: Any) -> None:
    async for _ in samples:
        break


async def _aclose(samples: Any) -> None:
    await anext(samples)
    await samples.aclose()


async def _cancel(samples: Any) -> None:
    begun = asyncio.Event()

    async def consume() -> None:
        async for _ in samples:
            begun.set()

    consuming = asyncio.create_task(consume())
    await begun.wait()
    consuming.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await consuming


async def _error(samples: Any) -> None:
    with contextlib.suppress(Broken):
        async for _ in samples:
            raise Broken


LEAVING: dict[str, Callable[[Any], Awaitable[None]]] = {
    "break": _break,
    "aclose": _aclose,
    "cancel": _cancel,
    "error": _error,
}


def test_program_may_end_in_the_midst_of_streams(origin: Origin) -> None:
    """One that it has broken off, one that it holds, and one in a thread: it ends at once, and says nothing."""
    code = f"""
import asyncio
from async_img2ds import stream, stream_async

urls = ["{origin.url("rocket.jpg")}"] * 1000

async def main():
    global held
    async for sample in stream_async(urls, allow_net="127.0.0.0/8"):
        break
    held = stream_async(urls, allow_net="127.0.0.0/8")
    await anext(held)

asyncio.run(main())
waiting = stream(urls, allow_net="127.0.0.0/8")
print(next(waiting).status, flush=True)
"""
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ran.stdout, ran.returncode) == ("success\n", 0)
    assert [line for line in ran.stderr.splitlines() if "was built without" not in line] == []


def test_process_of_somebody_else_is_left_as_it_was(origin: Origin) -> None:
    """Its filters of warnings, and what it has chosen of its image library."""
    from PIL import ImageFile

    before = list(warnings.filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        [sample] = all_of([origin.url("truncated.jpg")])

        assert sample.ok
        assert ImageFile.LOAD_TRUNCATED_IMAGES
    assert warnings.filters == before


def test_shortage_of_this_machine_travels_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As itself, not in a group, and no row is blamed for it."""

    async def fail(_self: RowRunner, _turn: Turn) -> None:
        raise LocalFault("no descriptors")

    monkeypatch.setattr(RowRunner, "run", fail)

    with pytest.raises(LocalFault, match="no descriptors"):
        all_of(REFUSED)


def test_row_that_something_else_cancels_comes_out_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may cancel a future that a row waits for, and each row comes out once whatever happens to it."""

    async def cancelled(_self: RowRunner, _turn: Turn) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(RowRunner, "run", cancelled)

    assert [sample.error_class for sample in all_of(REFUSED)] == ["internal"] * 5


def test_generator_that_waits_for_ever_is_not_waited_for(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can end a call that blocks, so the stream ends without it; it ends with the next row that comes."""
    monkeypatch.setattr(blocking, "PATIENCE_S", 0.01)
    more = threading.Event()

    def rows() -> Iterator[str]:
        yield origin.url("rocket.jpg")
        more.wait(20)
        yield "never asked for"

    async def run() -> None:
        async with contextlib.aclosing(stream_async(rows(), **LOOPBACK)) as samples:
            assert (await anext(samples)).ok

    asyncio.run(run())
    [reading] = [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
    more.set()
    reading.join(20)
    assert not reading.is_alive()


def test_decoder_that_does_not_end_costs_its_row_and_a_thread(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are decoded by another thread, and leaving the stream does not wait for it."""
    monkeypatch.setattr(guard, "CPU_MOST_S", 0.05)
    monkeypatch.setattr("async_img2ds.streaming.stream.LOOK_S", 0.01)
    released, render = threading.Event(), codec.render

    def endless(source: codec.Source, *values: Any, **names: Any) -> Any:
        while source.format == "png" and not released.is_set():
            pass
        return render(source, *values, **names)

    monkeypatch.setattr(codec, "render", endless)
    urls = [origin.url("coffee.png"), *(origin.url(f"rocket.jpg?{number}") for number in range(5))]
    try:
        samples = all_of(urls, image_threads=1, ordered=True)
    finally:
        released.set()

    assert [sample.error_class for sample in samples] == ["decode_timeout", *[None] * 5]
    assert "a thread of this process is lost over it" in caplog.text
    while any(name.startswith("transform-") for name in _threads()):  # it ends with what it was at
        threading.Event().wait(0.001)


# For code that blocks.


def test_stream_in_a_thread_yields_the_same(origin: Origin) -> None:
    """To code that knows no event loop, and inside one that runs; what the list raises comes up there."""
    urls = [origin.url(f"{name}?") for name in PICTURES]

    def rows() -> Iterator[str]:
        yield from urls
        raise Broken

    async def inside() -> list[str | None]:
        return [sample.url for sample in stream(urls, ordered=True, **LOOPBACK)]

    assert [sample.url for sample in stream(urls, ordered=True, **LOOPBACK)] == urls
    assert asyncio.run(inside()) == urls
    samples = stream(rows(), ordered=True, **LOOPBACK)
    assert [next(samples).url for _ in urls] == urls
    with pytest.raises(Broken):
        next(samples)
    with pytest.raises(StopIteration):
        next(samples)


@pytest.mark.parametrize("way", ["break", "close", "with", "never begun"])
def test_leaving_a_stream_in_a_thread_ends_the_thread(way: str, origin: Origin) -> None:
    """And all that was begun in it, before the next line of the program."""
    urls = (origin.url(f"rocket.jpg?{number}") for number in iter(int, 1))
    samples = stream(urls, samples_ahead_max=20, **LOOPBACK)
    if way == "break":
        for _ in samples:
            break
        del samples
    elif way == "close":
        next(samples)
        samples.close()
    elif way == "with":
        with samples:
            next(samples)

    assert not _threads() & {"async-img2ds", "read-ahead", "transform-0"}


def test_streams_beside_each_other_do_not_mix(origin: Origin) -> None:
    """Two in one loop, each with its own options."""

    async def run() -> tuple[list[StreamSample[Any]], list[StreamSample[Any]]]:
        urls = [origin.url(f"rocket.jpg?{number}") for number in range(10)]
        return await asyncio.gather(collected(urls, image_size=32), collected(urls, image_size=64))

    small, large = asyncio.run(run())
    assert {sample.width for sample in small} == {32}
    assert {sample.width for sample in large} == {64}
    assert len(small) == len(large) == 10


def test_samples_are_made_only_when_they_are_asked_for() -> None:
    """A stream that nobody goes through has begun nothing that would have to end."""
    threads = _threads()
    for unused in (stream_async(REFUSED), stream(REFUSED)):
        assert unused is not None

    assert _threads() == threads
    assert samples_of.__module__ == "async_img2ds.streaming.stream"
