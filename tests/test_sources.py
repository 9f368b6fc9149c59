"""Images of the user's own, from folders and buckets: read as those of the web are, and nothing else is opened."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec.config
import pytest

from alone import Alone
from async_img2ds import MissingExtraError, download
from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch import sources as source_readers
from async_img2ds.fetch.fetcher import Fetcher
from async_img2ds.fetch.sources import THREADS, SourceReader
from async_img2ds.options import FetchOptions
from async_img2ds.policy.sources import Sources
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.sources import BUCKETS, parse_source
from test_fetcher_seam import FakeClient
from test_run import metadata, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.records import Body
    from origin import Origin
    from s3 import Bucket, Proxy, Request

needs_store = pytest.mark.skipif(find_spec("moto") is None or find_spec("s3fs") is None, reason="needs moto and s3fs")


class Hold(Alone):
    """Lets a fetch go on, and counts what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0

    def hold(self, count: int) -> bool:
        self.held += count
        return True


def fetched(url: str, hold: Hold | None = None, **options: Any) -> Body:
    """Fetch *url* with nobody of the web to ask."""

    async def run() -> Body:
        told = FetchOptions(**{"retries": 0, **options})
        # A fault of this machine would be waited for, for an hour.
        async with asyncio.timeout(60), SourceReader.open(told) as reader:
            sources = Sources(map(parse_source, told.allow_sources))
            nobody = FakeClient([AssertionError("nobody of the web is asked")])
            fetcher = Fetcher(nobody, told, AddressPolicy(), lambda: 0.0, sources=sources, reader=reader)
            return await fetcher.fetch(url, hold or Hold())

    return asyncio.run(run())


def fault(url: str, **options: Any) -> str:
    """Return what is said of this machine when *url* is read."""

    async def run() -> None:
        told = FetchOptions(**options)
        async with SourceReader.open(told) as reader:
            assert reader is not None
            async with reader.get(Sources(map(parse_source, told.allow_sources)).parse(url), lambda: True):
                pass

    with pytest.raises(LocalFault) as caught:
        asyncio.run(run())
    return str(caught.value)


def failure(url: str, **options: Any) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        fetched(url, **options)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that may be read, and beside it a file that may not."""
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "small.jpg").write_bytes(b"image")
    (tmp_path / "images" / "deep" / "a b.jpg").write_bytes(b"deep")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return tmp_path / "images"


# Files.


@pytest.mark.parametrize("listed", ["{}/deep/a b.jpg", "file://{}/deep/a%20b.jpg", "file://{}/deep/a b.jpg"])
def test_file_is_read_by_its_path_or_its_url(folder: Path, listed: str) -> None:
    """As the first attempt, with the status of an answer."""
    body = fetched(listed.format(folder), allow_sources=f"file:{folder}")

    assert (body.content, body.http_status, body.attempts, body.final_url) == (b"deep", 200, 1, None)


def test_large_file_comes_in_pieces_that_are_counted(folder: Path) -> None:
    """Each as it is read, so that not more is held than may be; of one that is too large nothing more is read."""
    content = os.urandom(3 * 2**20 + 5)
    (folder / "large.jpg").write_bytes(content)
    hold = Hold()

    assert fetched(f"{folder}/large.jpg", hold, allow_sources=f"file:{folder}").content == content
    assert hold.held == len(content)
    too_large = failure(f"{folder}/large.jpg", allow_sources=f"file:{folder}", body_bytes_max=3 * 2**20)
    assert too_large.error_class is ErrorClass.BODY_TOO_LARGE


def test_links_within_the_folder_are_followed_and_others_are_not(folder: Path) -> None:
    """Of files and of folders, through other links, and with as many dots as may be; the folder may be one itself."""
    outside = folder.parent
    (folder / "inner.jpg").symlink_to("deep/../small.jpg")
    (folder / "outer.jpg").symlink_to("../secret.jpg")
    (folder / "absolute.jpg").symlink_to(outside / "secret.jpg")
    (folder / "chained.jpg").symlink_to("outer.jpg")
    (folder / "up").symlink_to("..")
    (folder / "root").symlink_to("/")
    (outside / "images-more").mkdir()
    (outside / "images-more" / "x.jpg").write_bytes(b"beside")
    (folder / "beside").symlink_to("../images-more")
    (outside / "alias").symlink_to(folder)

    def read(name: str, allowed: Path = folder) -> Body:
        return fetched(f"{allowed}/{name}", allow_sources=f"file:{allowed}")

    assert read("inner.jpg").content == b"image"
    assert read("small.jpg", outside / "alias").content == b"image"
    for name in ("outer.jpg", "absolute.jpg", "chained.jpg", "up/secret.jpg", "root/etc/passwd", "beside/x.jpg"):
        refused = failure(f"{folder}/{name}", allow_sources=f"file:{folder}")
        assert (refused.error_class, refused.attempts) == (ErrorClass.SOURCE_BLOCKED, 0)


def test_link_that_is_changed_in_the_meantime_leads_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened counts, not what was looked at before."""
    (folder.parent / "a b.jpg").write_bytes(b"secret")
    look = source_readers._check_regular

    def look_and_change(told: os.stat_result) -> None:
        look(told)
        if not (folder / "was-deep").exists():
            (folder / "deep").rename(folder / "was-deep")
            (folder / "deep").symlink_to("..")

    monkeypatch.setattr(source_readers, "_check_regular", look_and_change)

    assert failure(f"{folder}/deep/a b.jpg", allow_sources=f"file:{folder}").error_class is ErrorClass.SOURCE_BLOCKED


def test_what_is_no_file_is_not_opened(folder: Path) -> None:
    """Nobody may ever write to a pipe, and a device does something when it is opened."""
    os.mkfifo(folder / "pipe.jpg")
    for name in ("pipe.jpg", "deep"):
        assert failure(f"{folder}/{name}", allow_sources=f"file:{folder}").error_class is ErrorClass.SOURCE_BLOCKED


@pytest.mark.parametrize("name", ["none.jpg", "small.jpg/x.jpg", "no/such/folder.jpg", "n" * 300, "loop.jpg"])
def test_file_that_is_not_there_is_a_404(folder: Path, name: str) -> None:
    """Which no second attempt finds."""
    (folder / "loop.jpg").symlink_to("loop.jpg")
    missing = failure(f"{folder}/{name}", allow_sources=f"file:{folder}", retries=3)

    assert (missing.error_class, missing.http_status) == (ErrorClass.HTTP_STATUS_4XX, 404)
    assert missing.attempts == 1


def test_empty_file_is_an_empty_body(folder: Path) -> None:
    """As with a server."""
    (folder / "empty.jpg").touch()

    assert failure(f"{folder}/empty.jpg", allow_sources=f"file:{folder}").error_class is ErrorClass.BODY_EMPTY


def test_folder_that_is_not_there_is_none_of_the_rows_fault(tmp_path: Path) -> None:
    """A disk that was not mounted is waited for."""
    assert "is no folder here" in fault(f"{tmp_path}/none/x.jpg", allow_sources=f"file:{tmp_path}/none")


def test_loop_goes_on_while_a_file_system_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading has its own threads, no more than so many; and what is opened for nobody is closed."""
    go_on, began, most = threading.Event(), threading.Semaphore(0), [0, 0]
    lock = threading.Lock()
    real = source_readers.opened

    def hang(path: str, folders: tuple[str, ...]) -> Any:
        with lock:
            most[0] += 1
            most[1] = max(most)
        began.release()
        go_on.wait()
        with lock:
            most[0] -= 1
        return real(path, folders)

    monkeypatch.setattr(source_readers, "opened", hang)
    (folder / "large.jpg").write_bytes(bytes(2**21))  # which stays open when its first piece has been read
    options = FetchOptions(allow_sources=f"file:{folder}")  # type: ignore[arg-type]  # as users write it
    target = Sources(map(parse_source, options.allow_sources)).parse(f"{folder}/large.jpg")

    async def run() -> int:
        async with SourceReader.open(options) as reader:
            assert reader is not None

            async def read() -> None:
                async with reader.get(target, lambda: True):
                    raise AssertionError("nothing is read")

            tasks = [asyncio.create_task(read()) for _ in range(3 * THREADS)]
            for _ in range(THREADS):
                await asyncio.to_thread(began.acquire)
            turns = 0
            for task in tasks:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                turns += 1
            go_on.set()
            return turns

    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    turns = asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name == "sources":
            thread.join(10)
    gc.collect()

    assert turns == 3 * THREADS
    assert most[1] <= THREADS
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before


# Objects.


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[Bucket, Proxy]]:
    """Moto, behind a proxy that fails when it is told to."""
    import s3 as object_store

    with object_store.serving() as (bucket, proxy), pytest.MonkeyPatch.context() as patch:
        variables = {
            **object_store.CREDENTIALS,
            "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": variables["FSSPEC_S3_ENDPOINT_URL"]})
        for key, content in {"a/small.jpg": b"image", "empty.jpg": b"", "exact.jpg": bytes(2**20)}.items():
            put(bucket, key, content)
        yield bucket, proxy


def put(bucket: Bucket, key: str, content: bytes) -> None:
    bucket._client.put_object(Bucket="chaos", Key=key, Body=content)


@pytest.fixture
def bucket(store: tuple[Bucket, Proxy]) -> Bucket:
    return store[0]


@pytest.fixture
def faulty(store: tuple[Bucket, Proxy]) -> Iterator[Proxy]:
    """The proxy, which fails no more behind the test."""
    proxy = store[1]
    proxy.seen.clear()
    yield proxy
    proxy.plan = lambda _: None


@needs_store
def test_object_is_read_by_one_request(faulty: Proxy) -> None:
    """That of a range, so that no more comes than may be held."""
    assert fetched("s3://chaos/a/small.jpg", allow_sources="s3").content == b"image"
    assert [(request.kind, request.key) for request, _ in faulty.seen] == [("Get", "a/small.jpg")]


@needs_store
def test_large_object_comes_in_pieces_that_are_counted(bucket: Bucket) -> None:
    """Also one that ends with a piece; of one that is too large no second one comes."""
    content = os.urandom(3 * 2**20 + 5)
    put(bucket, "large.jpg", content)
    hold = Hold()

    assert fetched("s3://chaos/large.jpg", hold, allow_sources="s3://chaos").content == content
    assert hold.held == len(content)
    assert fetched("s3://chaos/exact.jpg", allow_sources="s3").content == bytes(2**20)
    too_large = failure("s3://chaos/large.jpg", allow_sources="s3", body_bytes_max=2**21)
    assert too_large.error_class is ErrorClass.BODY_TOO_LARGE


@needs_store
@pytest.mark.parametrize(
    ("key", "error_class", "status"),
    [
        ("chaos/none.jpg", ErrorClass.HTTP_STATUS_4XX, 404),
        ("no-such-bucket/x.jpg", ErrorClass.HTTP_STATUS_4XX, 404),
        ("chaos/empty.jpg", ErrorClass.BODY_EMPTY, 200),
    ],
)
def test_object_that_is_not_there_fails_as_on_the_web(
    store: tuple[Bucket, Proxy], key: str, error_class: ErrorClass, status: int
) -> None:
    """With the status that its store says."""
    assert store
    failed = failure(f"s3://{key}", allow_sources="s3", retries=2)

    assert (failed.error_class, failed.http_status) == (error_class, status)


@needs_store
def test_store_that_fails_is_asked_again(faulty: Proxy) -> None:
    """As often as --retries says, each time once: the library does not multiply that."""
    import s3 as object_store

    faulty.plan = lambda _: object_store.Fault.ERROR if len(faulty.seen) < 2 else None
    body = fetched("s3://chaos/a/small.jpg", allow_sources="s3", retries=2)
    faulty.seen.clear()
    faulty.plan = lambda _: object_store.Fault.ERROR
    failed = failure("s3://chaos/a/small.jpg", allow_sources="s3", retries=2)

    assert (body.content, body.attempts) == (b"image", 3)
    assert (failed.error_class, failed.http_status, failed.attempts) == (ErrorClass.HTTP_STATUS_5XX, 500, 3)
    assert len(faulty.seen) == 3


@needs_store
@pytest.mark.parametrize("url", ["s3://$web/x.jpg", "s3://a--x-s3/x.jpg"])
def test_name_that_the_library_takes_for_none_is_the_rows(
    faulty: Proxy, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Nobody is asked, and no row is a defect of this program for it."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {})
    monkeypatch.delenv("FSSPEC_S3_ENDPOINT_URL")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # who has none is refused before the name is
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(BUCKETS, "s3", re.compile(".*"))
    refused = failure(url, allow_sources=url.rpartition("/")[0])

    assert refused.error_class is ErrorClass.URL_INVALID
    assert refused.attempts <= 1
    assert faulty.seen == []


@needs_store
@pytest.mark.parametrize("wrong", ["credentials", "endpoint"])
def test_what_is_wrong_here_is_none_of_the_rows_fault(
    store: tuple[Bucket, Proxy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    """Without credentials, or with nobody at the endpoint, every row waits."""
    assert store
    if wrong == "endpoint":
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:9"})
    else:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    assert {"credentials": "Unable to locate credentials", "endpoint": "Could not connect"}[wrong] in fault(
        "s3://chaos/a/small.jpg", allow_sources="s3"
    )


@needs_store
@pytest.mark.parametrize("answered", ["others", "nobody"])
def test_attempt_that_takes_too_long_is_the_rows_if_others_fare_better(
    faulty: Proxy, monkeypatch: pytest.MonkeyPatch, answered: str
) -> None:
    """A store that nothing comes from is this machine's trouble."""
    go_on = threading.Event()

    def plan(request: Request) -> None:
        if request.key == "exact.jpg":
            go_on.wait()

    faulty.plan = plan
    monkeypatch.setattr(faulty, "_one_by_one", contextlib.nullcontext())
    options = FetchOptions(allow_sources="s3", attempt_timeout_s=1, retries=0)  # type: ignore[arg-type]  # as typed
    sources = Sources(map(parse_source, options.allow_sources))

    class Paused(Exception):
        """It would be waited."""

    class Impatient(Hold):
        def pause(self, _seconds: float) -> None:
            raise Paused

    async def run() -> None:
        async with SourceReader.open(options) as reader:
            nobody = FakeClient([AssertionError("nobody of the web is asked")])
            fetcher = Fetcher(nobody, options, AddressPolicy(), lambda: 0.0, sources=sources, reader=reader)
            held_up = asyncio.create_task(fetcher.fetch("s3://chaos/exact.jpg", Impatient()))
            while answered == "others" and not held_up.done():
                await fetcher.fetch("s3://chaos/a/small.jpg", Impatient())
            await held_up

    try:
        with pytest.raises(FetchFailure if answered == "others" else Paused) as caught:
            asyncio.run(run())
    finally:
        go_on.set()
    assert getattr(caught.value, "error_class", None) is (ErrorClass.TOTAL_TIMEOUT if answered == "others" else None)


# Runs.


QUIET: dict[str, Any] = {"progress": "none", "retries": 0, "processes_count": 2, "allow_net": "127.0.0.0/8"}


@needs_store
def test_rows_of_all_kinds_make_one_dataset(
    store: tuple[Bucket, Proxy], origin: Origin, photographs: Path, tmp_path: Path
) -> None:
    """From folder, bucket and web; what is not there or may not be read fails by itself."""
    bucket, _ = store
    put(bucket, "rocket.jpg", (photographs / "rocket.jpg").read_bytes())
    (tmp_path / "outside.jpg").write_bytes((photographs / "rocket.jpg").read_bytes())
    listed = {
        f"{photographs}/rocket.jpg": None,
        f"file://{photographs}/coffee.png": None,
        "s3://chaos/rocket.jpg": None,
        origin.url("chelsea.webp"): None,
        f"{photographs}/none.jpg": "http_status_4xx",
        "s3://chaos/none.jpg": "http_status_4xx",
        f"{tmp_path}/outside.jpg": "source_blocked",
        "gs://chaos/rocket.jpg": "url_scheme",
        f"{photographs}/truncated.jpg": "decode_truncated",
        "memory://rocket.jpg": "url_scheme",
    }
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in listed))
    report = download(
        tmp_path / "urls.txt",
        output_folder=tmp_path / "out",
        output_format="webdataset",
        number_sample_per_shard=5,
        allow_sources=["s3://chaos", f"file:{photographs}"],
        **QUIET,
    )
    rows = metadata(tmp_path / "out")

    assert {row["url"]: row["error_class"] for row in rows} == listed
    assert report.complete
    assert len(stored(tmp_path / "out")) == 4


def test_without_the_option_nothing_is_read(photographs: Path, tmp_path: Path) -> None:
    """The rows fail as they always did."""
    listed = {
        f"{photographs}/rocket.jpg": "url_invalid",
        f"file://{photographs}/rocket.jpg": "url_scheme",
        "s3://chaos/rocket.jpg": "url_scheme",
    }
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in listed))
    download(tmp_path / "urls.txt", output_folder=tmp_path / "out", output_format="webdataset", **QUIET)

    assert {row["url"]: row["error_class"] for row in metadata(tmp_path / "out")} == listed


def test_source_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is begun, by the name of the extra."""
    import sys

    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.delitem(_registry, "az", raising=False)
    (tmp_path / "urls.txt").write_text("az://cats/x.jpg\n")

    with pytest.raises(MissingExtraError, match=r"async-img2ds\[azure\]"):
        download(tmp_path / "urls.txt", output_folder=tmp_path / "out", allow_sources="az", **QUIET)
    assert not (tmp_path / "out").exists()
