"""Each parameter of img2dataset, in its order: what it changes, so that none is taken and forgotten."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import io
import os
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme
from PIL import Image, ImageChops, ImageStat

import faulty
from async_img2ds import MissingExtraError, OptionsError, download
from async_img2ds import run as run_module
from async_img2ds.options import POSITIONAL
from processes import workers_of
from test_wandb import FakeWandb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from async_img2ds.distributors.base import ShardFeed
    from origin import Origin

# A photograph in landscape (427 × 640 px as rows × columns), a square one, and a small grey one.
NAMES = ("rocket.jpg", "astronaut.png", "coins-gray.jpg")
SIZES = ((640, 427), (512, 512), (384, 303))


class Runs:
    """Fetches one small list again and again, with an option more or less."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        """Write the list."""
        self.folder = folder
        self.origin = origin
        self.urls = [origin.url(name) for name in NAMES]
        table = pa.table(
            {
                "url": self.urls,
                "link": list(reversed(self.urls)),
                "text": ["a rocket", None, "coins"],
                "score": [0.5, 1.5, None],
                "md5": [self.digest(name) for name in NAMES[:2]] + ["0" * 32],
                "faces": [[[0.25, 0.25, 0.75, 0.75]], [], None],
            }
        )
        pq.write_table(table, folder / "list.parquet")
        self.made = 0

    def digest(self, name: str) -> str:
        """Return the MD5 of a photograph."""
        return hashlib.md5(self.content(name), usedforsecurity=False).hexdigest()

    def content(self, name: str) -> bytes:
        """Return a photograph as the server sends it."""
        return (self.origin.pictures / name).read_bytes()

    def fetch(self, **options: Any) -> Path:
        """Fetch the list with *options* into a folder of its own; return it."""
        self.made += 1
        chosen: dict[str, Any] = {
            "url_list": self.folder / "list.parquet",
            "input_format": "parquet",
            "output_folder": self.folder / f"out-{self.made}",
            "allow_net": "127.0.0.0/8",
            "progress": "none",
            "processes_count": 1,
        }
        chosen |= options
        download(**chosen)
        return self.folder / str(chosen["output_folder"])

    def rows(self, **options: Any) -> list[dict[str, Any]]:
        """Fetch, and return the metadata in the order of the list."""
        return rows_in(self.fetch(**options))

    def images(self, **options: Any) -> list[bytes]:
        """Fetch, and return the images in the order of the list."""
        return [row["jpg"] for row in self.rows(output_format="parquet", **options)]


def rows_in(folder: Path) -> list[dict[str, Any]]:
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: str(row["key"]))


def sizes(images: list[bytes]) -> list[tuple[int, int]]:
    return [Image.open(io.BytesIO(image)).size for image in images]


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file()}


def difference(one: bytes, other: bytes) -> float:
    """Return by how many levels two images of one size differ in the mean."""
    pictures = [Image.open(io.BytesIO(image)).convert("L") for image in (one, other)]
    return ImageStat.Stat(ImageChops.difference(*pictures)).mean[0]


@pytest.fixture
def runs(tmp_path: Path, origin: Origin) -> Runs:
    return Runs(tmp_path, origin)


@contextmanager
def slow_server(delay_s: float) -> Iterator[tuple[str, list[int]]]:
    """Answer every request with 404 after *delay_s*; yield the URL and how many requests were open at each arrival."""
    opened: list[int] = []
    now = 0
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    port = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        try:
            while await reader.read(4096):
                now += 1
                opened.append(now)
                await asyncio.sleep(delay_s)
                now -= 1
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except ConnectionError:  # a client that did not wait
            pass
        finally:
            writer.close()

    async def listen() -> None:
        nonlocal port
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(listen()))
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port}/", opened
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0.05))  # in which connections end that were closed
        loop.close()


class FakeDistributor:
    """Stands where workers would be started, and fails every shard."""

    def __init__(self) -> None:
        self.tries = 0

    async def __call__(self, _work: object, feed: ShardFeed, _emit: object, _stop: object, _options: object) -> None:
        """Take every shard and give it back as failed."""
        while (shard := await feed.next(alone=True)) is not None:
            self.tries += 1
            feed.failed(shard)


@pytest.fixture
def distributor(monkeypatch: pytest.MonkeyPatch) -> FakeDistributor:
    fake = FakeDistributor()
    monkeypatch.setattr(run_module, "distributor", lambda _name: fake)
    return fake


def test_every_parameter_has_a_test_here() -> None:
    """All 38, in img2dataset's order, and none besides."""
    tested = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]

    assert tested[1:] == list(POSITIONAL)


def test_url_list(runs: Runs, tmp_path: Path) -> None:
    """The rows are those of the list."""
    (tmp_path / "other.txt").write_text(runs.urls[1] + "\n")

    assert [row["url"] for row in runs.rows()] == runs.urls
    assert [row["url"] for row in runs.rows(url_list=tmp_path / "other.txt", input_format="txt")] == [runs.urls[1]]


def test_image_size(runs: Runs) -> None:
    """The side of the images, in pixels."""
    assert sizes(runs.images(image_size=64)) == [(64, 64)] * 3


def test_output_folder(runs: Runs, tmp_path: Path) -> None:
    """The dataset lies there."""
    runs.fetch(output_folder=tmp_path / "deep" / "down")

    assert (tmp_path / "deep" / "down" / "00000_stats.json").exists()


def test_processes_count(tmp_path: Path, runs: Runs) -> None:
    """As many processes as are asked for, as long as there are shards for them."""
    for count in (1, 3):
        with slow_server(0.5) as (url, _), ThreadPoolExecutor(1) as thread:
            (tmp_path / "slow.txt").write_text("".join(f"{url}{number}\n" for number in range(3)))
            slow = {"url_list": tmp_path / "slow.txt", "input_format": "txt", "number_sample_per_shard": 1}
            running = thread.submit(runs.fetch, processes_count=count, **slow)
            seen: set[int] = set()
            while not running.done():
                seen.update(workers_of(os.getpid()))
                time.sleep(0.01)
            running.result()

        assert len(seen) == count


@pytest.mark.parametrize(
    ("mode", "first"),
    [
        ("no", (640, 427)),
        ("keep_ratio", (192, 128)),
        ("keep_ratio_largest", (128, 85)),
        ("center_crop", (128, 128)),
        ("border", (128, 128)),
    ],
)
def test_resize_mode(runs: Runs, mode: str, first: tuple[int, int]) -> None:
    """How the image is brought to its size."""
    images = runs.images(resize_mode=mode, image_size=128)
    corner = Image.open(io.BytesIO(images[0])).convert("L").getpixel((2, 2))

    assert sizes(images)[0] == first
    assert (corner == 255) == (mode == "border")  # the sky is dark


def test_resize_only_if_bigger(runs: Runs) -> None:
    """A smaller image is left as large as it is."""
    assert sizes(runs.images(image_size=400, resize_only_if_bigger=True)) == [(400, 400), (400, 400), (384, 303)]
    assert sizes(runs.images(image_size=400, resize_only_if_bigger=False)) == [(400, 400)] * 3


def test_upscale_interpolation(runs: Runs) -> None:
    """Only enlargements differ."""
    bordered = {"image_size": 480, "resize_mode": "keep_ratio_largest"}
    blocky, smooth = (runs.images(upscale_interpolation=name, **bordered) for name in ("nearest", "cubic"))

    assert blocky[:2] == smooth[:2]
    assert blocky[2] != smooth[2]


def test_downscale_interpolation(runs: Runs) -> None:
    """Only reductions differ."""
    bordered = {"image_size": 480, "resize_mode": "keep_ratio_largest"}
    sharp, smooth = (runs.images(downscale_interpolation=name, **bordered) for name in ("nearest", "area"))

    assert all(one != other for one, other in zip(sharp[:2], smooth[:2], strict=True))
    assert sharp[2] == smooth[2]


def test_encode_quality(runs: Runs) -> None:
    """Less quality, fewer bytes."""
    assert sum(map(len, runs.images(encode_quality=20))) * 2 < sum(map(len, runs.images(encode_quality=95)))


@pytest.mark.parametrize(
    ("name", "quality", "start"), [("jpg", 90, b"\xff\xd8"), ("png", 1, b"\x89PNG"), ("webp", 90, b"RIFF")]
)
def test_encode_format(runs: Runs, name: str, quality: int, start: bytes) -> None:
    """The format of the images is also the name of their column and the ending of their files."""
    rows = runs.rows(encode_format=name, encode_quality=quality, output_format="parquet")

    assert all(row[name].startswith(start) for row in rows)


def test_skip_reencode(runs: Runs) -> None:
    """A JPEG that is not changed is stored as it came."""
    kept = runs.images(skip_reencode=True, resize_mode="no")
    made = runs.images(skip_reencode=False, resize_mode="no")
    originals = [runs.content(name) for name in NAMES]

    assert [one == original for one, original in zip(kept, originals, strict=True)] == [True, False, True]
    assert [one == original for one, original in zip(made, originals, strict=True)] == [False, False, False]


@pytest.mark.parametrize(
    ("output_format", "names"),
    [
        ("files", {"00000.parquet", *(f"00000/00000000{n}.{e}" for n in range(3) for e in ("jpg", "json"))}),
        ("webdataset", {"00000.parquet", "00000.tar"}),
        ("parquet", {"00000.parquet"}),
        ("tfrecord", {"00000.parquet", "00000.tfrecord"}),
        ("dummy", set()),
    ],
)
def test_output_format(runs: Runs, output_format: str, names: set[str]) -> None:
    """Which files a shard is."""
    assert names_in(runs.fetch(output_format=output_format)) == {*names, "00000_stats.json"}


def test_input_format(runs: Runs, tmp_path: Path) -> None:
    """The same file is read in another way."""
    (tmp_path / "list.txt").write_text(f"url\n{runs.urls[0]}\n")

    assert [row["status"] for row in runs.rows(url_list=tmp_path / "list.txt", input_format="csv")] == ["success"]
    assert [row["url"] for row in runs.rows(url_list=tmp_path / "list.txt", input_format="txt")] == [
        "url",
        runs.urls[0],
    ]


def test_url_col(runs: Runs) -> None:
    """The column whose URLs are fetched; it becomes url."""
    assert [row["url"] for row in runs.rows(url_col="link")] == list(reversed(runs.urls))


def test_caption_col(runs: Runs) -> None:
    """Captions are stored with each image, and none without the option."""
    captioned = runs.fetch(caption_col="text")

    assert [(captioned / "00000" / f"00000000{n}.txt").read_text() for n in range(3)] == ["a rocket", "", "coins"]
    assert [row["caption"] for row in rows_in(captioned)] == ["a rocket", None, "coins"]
    assert not any(name.endswith(".txt") for name in names_in(runs.fetch()))


def test_bbox_col(runs: Runs) -> None:
    """What lies in a box is blurred, what does not is not."""
    plain, blurred = runs.images(image_size=256), runs.images(image_size=256, bbox_col="faces")

    assert difference(plain[0], blurred[0]) > 1
    assert plain[1:] == blurred[1:]


def test_thread_count(tmp_path: Path, runs: Runs) -> None:
    """How many URLs of a process are under way at a time."""
    for count in (2, 6):
        with slow_server(0.1) as (url, opened):
            (tmp_path / "slow.txt").write_text("".join(f"{url}{number}\n" for number in range(12)))
            runs.fetch(url_list=tmp_path / "slow.txt", input_format="txt", thread_count=count)

        assert max(opened) == count


def test_number_sample_per_shard(runs: Runs) -> None:
    """Rows in a shard, and with it the digits of a key."""
    for count, keys in ((1, ["00000", "00001", "00002"]), (2, ["000000", "000001", "000010"]), (1000, ["00000000"])):
        folder = runs.fetch(number_sample_per_shard=count)
        assert [row["key"] for row in rows_in(folder)][: len(keys)] == keys
        assert len(list(folder.glob("*.parquet"))) == -(-3 // count)


def test_extract_exif(runs: Runs) -> None:
    """The column is there or not."""
    assert [row["exif"] for row in runs.rows()][1:] == ["{}", "{}"]
    assert "exif" not in runs.rows(extract_exif=False)[0]


def test_save_additional_columns(runs: Runs) -> None:
    """Columns of the list in the metadata."""
    assert [row["score"] for row in runs.rows(save_additional_columns=["score"])] == [0.5, 1.5, None]
    assert "score" not in runs.rows()[0]


def test_timeout(tmp_path: Path, runs: Runs) -> None:
    """A server may be silent that long and no longer."""
    with slow_server(1.0) as (url, _):
        (tmp_path / "slow.txt").write_text(url)
        said = [
            runs.rows(url_list=tmp_path / "slow.txt", input_format="txt", timeout=seconds, retries=0)[0]
            for seconds in (0.2, 30)
        ]

    assert [row["error_message"] for row in said] == ["timed out", "HTTP Error 404: Not Found"]


def test_enable_wandb(monkeypatch: pytest.MonkeyPatch, runs: Runs) -> None:
    """Figures are reported, or not."""
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    runs.fetch(enable_wandb=False)
    assert not wandb.logged

    runs.fetch(enable_wandb=True)
    assert wandb.logged[0]["total/count"] == 3


def test_wandb_project(monkeypatch: pytest.MonkeyPatch, runs: Runs) -> None:
    """Where they are reported to."""
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    runs.fetch(enable_wandb=True, wandb_project="mine")

    assert wandb.begun["project"] == "mine"


def test_oom_shard_count(runs: Runs) -> None:
    """Digits of the shard number, and of the key."""
    folder = runs.fetch(oom_shard_count=3, output_format="webdataset")

    assert names_in(folder) == {"000.tar", "000.parquet", "000_stats.json"}
    assert rows_in(folder)[1]["key"] == "0000001"


@pytest.mark.parametrize("name", ["md5", "sha256", "sha512", None])
def test_compute_hash(runs: Runs, name: str | None) -> None:
    """The hash of what was downloaded, in a column of its name."""
    row = runs.rows(compute_hash=name, image_size=64)[0]
    found = {other: row[other] for other in ("md5", "sha256", "sha512") if other in row}

    assert row["error_message"] is None
    assert found == ({name: hashlib.new(name, runs.content(NAMES[0])).hexdigest()} if name else {})


def test_verify_hash(runs: Runs) -> None:
    """What is not what the list says is not stored."""
    rows = runs.rows(compute_hash="md5", verify_hash=["md5", "md5"])

    assert [row["error_message"] for row in rows] == [None, None, "hash mismatch"]
    assert [row["status"] for row in rows] == ["success", "success", "failed_to_download"]


@pytest.mark.parametrize(("name", "extra"), [("pyspark", "spark"), ("ray", "ray")])
def test_distributor(monkeypatch: pytest.MonkeyPatch, runs: Runs, name: str, extra: str) -> None:
    """What runs the workers; where it is not installed, nothing is done and that is said."""
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingExtraError, match=extra):
        runs.fetch(distributor=name)
    assert not (runs.folder / "out-1").exists()


def test_subjob_size(runs: Runs) -> None:
    """Shards in one Spark job; refused where there is none. That Spark heeds it is tested with Spark."""
    with pytest.raises(OptionsError, match="subjob_size"):
        runs.fetch(subjob_size=0)


def test_retries(tmp_path: Path, runs: Runs) -> None:
    """Further attempts after a failure that can heal; the server recovers at its third answer."""
    for retries, outcome in ((1, "failed_to_download"), (2, "failed_to_resize")):  # the body is no image
        with faulty.serve() as bad:
            (tmp_path / "heals.txt").write_text(bad.url("heals"))
            rows = runs.rows(url_list=tmp_path / "heals.txt", input_format="txt", retries=retries)

        assert (rows[0]["status"], rows[0]["attempts"], len(bad.asked)) == (outcome, retries + 1, retries + 1)


def test_disable_all_reencoding(runs: Runs) -> None:
    """Bodies as they came, their sizes unknown."""
    rows = runs.rows(disable_all_reencoding=True, output_format="parquet")

    assert [row["jpg"] for row in rows] == [runs.content(name) for name in NAMES]
    assert {row["width"] for row in rows} == {None}


def refusals(runs: Runs, **limit: Any) -> list[str | None]:
    """Return the messages of the rows."""
    return [row["error_message"] for row in runs.rows(**limit)]


def test_min_image_size(runs: Runs) -> None:
    """The shorter side has at least so many pixels."""
    assert refusals(runs, min_image_size=427) == [None, None, "image too small"]


def test_max_image_area(runs: Runs) -> None:
    """There are at most so many pixels."""
    assert refusals(runs, max_image_area=512 * 512) == ["image area too large", None, None]


def test_max_aspect_ratio(runs: Runs) -> None:
    """The longer side is at most so many times the shorter."""
    assert refusals(runs, max_aspect_ratio=1.4) == ["aspect ratio too large", None, None]


def test_incremental_mode(runs: Runs, tmp_path: Path) -> None:
    """What is there already is completed, replaced, or added to."""
    (tmp_path / "one.txt").write_text(runs.urls[0])
    out = {"output_folder": tmp_path / "out", "number_sample_per_shard": 1}
    first = runs.fetch(url_list=tmp_path / "one.txt", input_format="txt", **out)
    before = (first / "00000_stats.json").stat().st_mtime_ns

    assert len(rows_in(runs.fetch(incremental_mode="incremental", **out))) == 3
    assert (first / "00000_stats.json").stat().st_mtime_ns == before
    assert len(rows_in(runs.fetch(incremental_mode="extend", **out))) == 6
    (tmp_path / "more.txt").write_text("".join(f"{url}\n" for url in (*runs.urls, runs.origin.url("coffee.png"))))
    added = runs.fetch(
        incremental_mode="extend_new", **out | {"url_list": tmp_path / "more.txt", "input_format": "txt"}
    )
    assert [row["url"] for row in rows_in(added)] == [*runs.urls, *runs.urls, runs.origin.url("coffee.png")]
    assert len(rows_in(runs.fetch(incremental_mode="overwrite", **out | {"number_sample_per_shard": 2}))) == 3
    assert (first / "00000_stats.json").stat().st_mtime_ns != before


def test_max_shard_retry(runs: Runs, distributor: FakeDistributor) -> None:
    """A shard that fails as a whole is tried so many times more."""
    for retries in (0, 2):
        distributor.tries = 0
        runs.fetch(max_shard_retry=retries)
        assert distributor.tries == retries + 1


def test_user_agent_token(tmp_path: Path, runs: Runs) -> None:
    """It is sent, and opt-outs that are addressed to it are obeyed."""
    with faulty.serve() as bad:
        (tmp_path / "fine.txt").write_text(bad.url("fine"))
        runs.fetch(url_list=tmp_path / "fine.txt", input_format="txt", user_agent_token="ourbot")
        runs.fetch(url_list=tmp_path / "fine.txt", input_format="txt")
    (tmp_path / "others.txt").write_text(runs.origin.url("others/rocket.jpg"))  # X-Robots-Tag: otherbot: noai
    rows = [
        runs.rows(url_list=tmp_path / "others.txt", input_format="txt", user_agent_token=token)[0]
        for token in ("otherbot", "ourbot")
    ]

    assert ["compatible; ourbot; " in head for head in bad.headers] == [True, False]
    assert [row["status"] for row in rows] == ["failed_to_download", "success"]


def test_disallowed_header_directives(tmp_path: Path, runs: Runs) -> None:
    """Which opt-outs count; none of them where the list is empty."""
    (tmp_path / "reserved.txt").write_text(runs.origin.url("reserved/rocket.jpg"))  # noai, noimageai
    rows = [
        runs.rows(url_list=tmp_path / "reserved.txt", input_format="txt", disallowed_header_directives=chosen)[0]
        for chosen in (None, [], ["noindex"], ["noimageai"])
    ]

    assert [row["status"] == "success" for row in rows] == [False, True, True, False]


def test_ignore_ssl_certificate(tmp_path: Path, runs: Runs) -> None:
    """A server whose certificate nobody vouches for is trusted or not."""
    with untrusted_server() as url:
        (tmp_path / "tls.txt").write_text(url)
        rows = [
            runs.rows(url_list=tmp_path / "tls.txt", input_format="txt", ignore_ssl_certificate=ignored)[0]
            for ignored in (False, True)
        ]

    assert [row["error_class"] for row in rows] == ["tls_untrusted", "not_image"]


@contextmanager
def untrusted_server() -> Iterator[str]:
    """Serve a page under a certificate of an authority that is not known."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
