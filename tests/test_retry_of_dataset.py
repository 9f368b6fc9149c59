"""Fetching failed rows again: those that have healed get their images, and everything else stays what it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from async_img2ds import OptionsError, RetryReport, RunReport, download, retry, verify
from async_img2ds.errors import MAY_HEAL, ErrorClass, StorageError
from async_img2ds.journal import journals_in
from async_img2ds.options import FetchOptions, Options, RunOptions, shaped_as
from async_img2ds.outputs.base import WRITERS
from async_img2ds.outputs.example import byte_features
from async_img2ds.outputs.stored import READERS, stored_samples
from async_img2ds.records import Status
from async_img2ds.storage import REDO, LocalStore, RemoteStore
from origin import free_port
from processes import wait_until
from samples import COLUMNS, LISTED, SAMPLES, write
from test_cli import aimg2ds

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = sorted(set(WRITERS) - {"dummy"})
NET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "retries": 0, "processes_count": 2, "progress": "none"}
ROWS = 40


@contextmanager
def serving(pictures: Path, port: int, silent_at: str = "\0") -> Iterator[None]:
    """Serve *pictures* at *port* during the block, and refuse connections before and after.

    Paths with *silent_at* in them are not answered.
    """
    over = Event()

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if silent_at in self.path:
                over.wait()
            with suppress(ConnectionError):
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(pictures))) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield
        finally:
            over.set()
            server.shutdown()


class Web:
    """Two servers: one is up, one may be; every fourth row of the list is of the second, every fifth a 404."""

    def __init__(self, folder: Path, pictures: Path) -> None:
        self.pictures = folder / "pictures"
        shutil.copytree(pictures, self.pictures)
        self.up, self.down = free_port(), free_port()
        urls = []
        for number in range(ROWS):
            name = ("rocket.jpg", "coffee.png", "camera-gray.jpg", "truncated.jpg", "chelsea.webp")[number % 5]
            port = self.down if number % 4 == 1 else self.up
            urls.append(f"http://127.0.0.1:{port}/{f'late-{number}.jpg' if number % 5 == 4 else name}?{number}")
        captions = [f"caption {number} ü" for number in range(ROWS)]
        self.list = folder / "urls.parquet"
        pq.write_table(pa.table({"url": urls, "caption": captions, "price": [n / 3 for n in range(ROWS)]}), self.list)

    def fetch(self, out: Path, **options: Any) -> RunReport:
        chosen = {"input_format": "parquet", "caption_col": "caption", "save_additional_columns": ["price"]}
        with serving(self.pictures, self.up):
            return download(self.list, output_folder=out, number_sample_per_shard=10, **{**NET, **chosen, **options})

    def retry(self, out: Path | str, **options: Any) -> RetryReport:
        with serving(self.pictures, self.up), serving(self.pictures, self.down):
            return retry(str(out), **{**NET, **options})


@pytest.fixture
def web(tmp_path: Path, photographs: Path) -> Web:
    return Web(tmp_path, photographs)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata by key, without what only the order of events decides."""
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return {row["key"]: row for table in tables for row in table}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


@pytest.mark.parametrize("output_format", FORMATS)
def test_what_has_healed_gets_its_images(web: Web, tmp_path: Path, output_format: str) -> None:
    """The dataset is then what it had been, had the servers been up at first; in every format."""
    web.fetch(tmp_path / "out", output_format=output_format)
    before = rows(tmp_path / "out")
    report = web.retry(tmp_path / "out")
    with serving(web.pictures, web.down):
        web.fetch(tmp_path / "whole", output_format=output_format)

    assert (report.rows, report.successes, report.shards_done) == (10, 6, 4)
    assert report.error_classes == {"http_status_4xx": 2, "decode_truncated": 2}
    assert report.complete
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert rows(tmp_path / "out") != before
    assert verify(str(tmp_path / "out"), deep=True, progress="none").good
    for path in sorted((tmp_path / "out").glob("*_stats.json")):
        told, expected = (json.loads((tmp_path / name / path.name).read_bytes()) for name in ("out", "whole"))
        for name in ("count", "successes", "failed_to_download", "failed_to_resize", "error_classes", "status_dict"):
            assert told[name] == expected[name]
        assert told["bytes_received"] == expected["bytes_received"]
        assert (told["made_with"], told["urls_sha256"]) == (expected["made_with"], expected["urls_sha256"])


@pytest.mark.parametrize("output_format", FORMATS)
def test_order_is_kept(web: Web, tmp_path: Path, output_format: str) -> None:
    """A dataset whose rows are in the order of the list is byte for byte what it had been."""
    web.fetch(tmp_path / "out", output_format=output_format, ordered=True)
    web.retry(tmp_path / "out")
    with serving(web.pictures, web.down):
        web.fetch(tmp_path / "whole", output_format=output_format, ordered=True)

    found, expected = (files(tmp_path / name) for name in ("out", "whole"))
    assert found.keys() == expected.keys()
    assert [name for name in found if "stats" not in name and found[name] != expected[name]] == []


def test_twice_is_as_once(web: Web, tmp_path: Path) -> None:
    """When nothing is left that may heal, no server is asked and no file touched."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    web.retry(tmp_path / "out")
    before = files(tmp_path / "out")
    report = retry(str(tmp_path / "out"), **NET)  # no server is up

    assert (report.rows, report.shards_done) == (0, 0)
    assert files(tmp_path / "out") == before


def test_classes_choose_the_rows(web: Web, tmp_path: Path) -> None:
    """What is not meant is not asked for again, and shards without any such row stay untouched."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    shutil.copy(web.pictures / "rocket.jpg", web.pictures / "late-4.jpg")
    before = files(tmp_path / "out")
    report = web.retry(tmp_path / "out", error_class=["http_status_4xx"])
    after = files(tmp_path / "out")

    assert (report.rows, report.successes) == (6, 1)
    assert {row["error_class"] for row in rows(tmp_path / "out").values()} >= {"connect_refused", "http_status_4xx"}
    assert rows(tmp_path / "out")["000004"]["status"] == "success"
    [shard] = {name[:5] for name in before if name.endswith(".tar") and after[name] != before[name]}
    assert shard == "00000"


def test_retry_with_other_options_of_fetching(web: Web, tmp_path: Path) -> None:
    """A server that needs a header gets it now; what shapes the dataset is its own."""
    web.fetch(tmp_path / "out", output_format="webdataset", image_size=64, encode_format="webp", compute_hash=None)
    report = web.retry(tmp_path / "out", header="X-Key: 1", timeout=5, distributor="multiprocessing")

    assert report.successes == 6
    assert {row["width"] for row in rows(tmp_path / "out").values()} == {64, None}
    assert verify(str(tmp_path / "out"), deep=True, progress="none").good


def test_fetch_goes_on_behind_a_retry(web: Web, tmp_path: Path) -> None:
    """The fetch that made the dataset takes what was retried as finished, and a retry half way is no harm."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    for name in ("00003_stats.json", "00003.tar", "00003.parquet"):
        (tmp_path / "out" / name).unlink()
    web.retry(tmp_path / "out")
    before = files(tmp_path / "out")
    web.fetch(tmp_path / "out", output_format="webdataset")
    after = files(tmp_path / "out")

    assert {name: after[name] for name in before} == before
    assert len(rows(tmp_path / "out")) == ROWS


@pytest.mark.parametrize("moved", range(4))
def test_a_replacement_that_was_cut_off_is_finished(web: Web, tmp_path: Path, moved: int) -> None:
    """Once all new files of a shard are there, the next run goes on, whichever of them were moved before the end."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    old = files(tmp_path / "out")
    web.retry(tmp_path / "out")
    new = files(tmp_path / "out")
    out, redo = tmp_path / "out", tmp_path / "out" / f"00001{REDO}"
    redo.mkdir()
    names = ["00001.tar", "00001.parquet", "00001_stats.json"]
    for name in names[moved:]:
        (redo / name).write_bytes(new[name])
        (out / name).write_bytes(old[name])
    if moved:
        (out / names[-1]).unlink()
    if moved == len(names):
        (out / names[-1]).write_bytes(new[names[-1]])
    found = verify(str(out), progress="none")
    report = retry(str(out), **NET)

    assert not found.defects
    assert any("shard 00001 is being replaced" in what for what in found.unfinished)
    assert report.rows == 0
    assert files(out) == new


class _Cut(OSError):
    pass


@pytest.mark.parametrize("uploads", range(3))
def test_an_upload_that_was_cut_off_is_done_again(
    web: Web, tmp_path: Path, uploads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store has no step for all files of a shard; the next retry sees it, and no image is lost meanwhile."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    fs = fsspec.filesystem("dir", path=str(tmp_path / "out"), fs=fsspec.filesystem("local"))
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    web.retry(tmp_path / "out")
    store = RemoteStore(fs, "", tmp_path / "staging")
    names = ["00001.tar", "00001.parquet", "00001_stats.json"]
    for name in names:
        store.stage(name).write_bytes((tmp_path / "out" / name).read_bytes())
    shutil.rmtree(tmp_path / "out")
    shutil.move(tmp_path / "before", tmp_path / "out")
    store.prepare()
    done: list[str] = []

    def put(source: str, target: str) -> None:
        if len(done) == uploads:
            raise _Cut
        done.append(target)
        shutil.copy(source, str(tmp_path / "out") + target)

    monkeypatch.setattr(fs, "put_file", put)
    with pytest.raises(StorageError, match="until the same command has put that right"):
        store.replace(names)
    store.close()
    fetched = web.fetch(tmp_path / "out", output_format="webdataset")
    assert "a replacement of its files was cut off" in fetched.shards_lost[1]
    assert (
        "shard 00001 was being replaced: the same retry or purge does it again"
        in verify(str(tmp_path / "out")).unfinished
    )
    report = web.retry(f"simplecache::file://{tmp_path}/out" if uploads else tmp_path / "out")

    assert report.complete
    assert not list((tmp_path / "out").glob("*.redo"))
    assert verify(str(tmp_path / "out"), deep=True, progress="none").good
    assert sum(row["status"] == "success" for row in rows(tmp_path / "out").values()) == 24


def test_retry_on_an_fsspec_url(web: Web, tmp_path: Path) -> None:
    """Images are read from there, and shards uploaded again."""
    web.fetch(tmp_path / "out", output_format="files")
    report = web.retry(f"simplecache::file://{tmp_path}/out")

    assert report.successes == 6
    assert verify(str(tmp_path / "out"), deep=True, progress="none").good


def test_damage_is_told_and_left_alone(web: Web, tmp_path: Path) -> None:
    """A shard that cannot be read back stays as it is, and the others are done."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    whole = (tmp_path / "out" / "00001.tar").read_bytes()
    (tmp_path / "out" / "00001.tar").write_bytes(whole[:5000])
    (tmp_path / "out" / "00002.parquet").write_bytes(b"PAR1")
    (tmp_path / "out" / "00003_stats.json").write_bytes(b"{}")
    before = files(tmp_path / "out")
    report = web.retry(tmp_path / "out", max_shard_retry=0)

    assert report.shards_done == 1
    assert set(report.shards_lost) == {1, 2, 3}
    assert "aimg2ds verify says what is wrong" in report.shards_lost[1]
    assert not report.complete
    assert {name: content for name, content in files(tmp_path / "out").items() if name[4] != "0"} == {
        name: content for name, content in before.items() if name[4] != "0"
    }


@pytest.mark.parametrize("output_format", FORMATS)
def test_damaged_image_is_not_signed_again(web: Web, tmp_path: Path, output_format: str) -> None:
    """A bit that has flipped is found by the sum of its file, and would be by none once that is made anew."""
    web.fetch(tmp_path / "out", output_format=output_format)
    [path, *_] = sorted(
        path
        for path in (tmp_path / "out").rglob("*")
        if path.suffix in {".tar", ".tfrecord", ".jpg"} or (output_format == "parquet" and path.suffix == ".parquet")
    )
    content = path.read_bytes()
    at = content.index(b"\xff\xd8\xff") + 900  # inside of an image
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    report = web.retry(tmp_path / "out", max_shard_retry=0)

    assert set(report.shards_lost) == {0}
    assert "was changed since it was written; aimg2ds verify says what is wrong" in report.shards_lost[0]
    assert report.shards_done == 3
    assert any("was changed since" in str(defect) for defect in verify(str(tmp_path / "out")).defects)


def test_file_of_others_hinders_no_retry(web: Web, tmp_path: Path) -> None:
    """It lies among the samples, and stays there."""
    web.fetch(tmp_path / "out", output_format="files")
    (tmp_path / "out" / "00000" / "annotations.csv").write_text("theirs")

    assert web.retry(tmp_path / "out").shards_done == 4
    assert (tmp_path / "out" / "00000" / "annotations.csv").read_text() == "theirs"


def test_stats_file_that_is_not_understood_costs_its_own_shard(web: Web, tmp_path: Path) -> None:
    """It may be of a later version, or be unreadable; the others are done."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    path = tmp_path / "out" / "00002_stats.json"
    told = json.loads(path.read_bytes())
    told["made_with"]["upside_down"] = True
    path.write_text(json.dumps(told))
    (tmp_path / "out" / "00003_stats.json").unlink()
    (tmp_path / "out" / "00003_stats.json").symlink_to("/proc/self/mem")  # which says that it cannot be read
    report = web.retry(tmp_path / "out")

    assert report.shards_done == 2
    assert "which this version has not" in report.shards_lost[2]
    assert not report.complete


def test_classes_of_a_retry_that_was_stopped_need_not_be_those_of_the_next(web: Web, tmp_path: Path) -> None:
    """What the first has kept is put in, as it is paid for; until then the dataset is whole."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    out = tmp_path / "out"
    words = ["retry", str(out), "--class=connect_refused", "--class=http_status_4xx", "--allow_net=127.0.0.0/8"]
    command = [str(Path(sys.executable).parent / "aimg2ds"), *words, "--grace_s=0", "--timeout=60", "--retries=0"]
    quiet: dict[str, Any] = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with (
        serving(web.pictures, web.up, silent_at="late"),
        serving(web.pictures, web.down),
        subprocess.Popen(command, **quiet) as process,
    ):
        wait_until(lambda: any(out.glob("*.journal/*")))
        process.terminate()
    assert process.returncode == 143
    assert verify(str(out), progress="none").good
    report = web.retry(out, error_class=["http_status_4xx"])

    assert report.complete
    assert report.error_classes == {"http_status_4xx": 6}
    assert journals_in(LocalStore(out)) == []
    assert sum(row["status"] == "success" for row in rows(out).values()) == 18 + report.successes > 18
    assert verify(str(out), deep=True, progress="none").good


def test_what_cannot_be_retried_is_counted(web: Web, tmp_path: Path) -> None:
    """Shards that do not say what they were made with, and those without images."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    path = tmp_path / "out" / "00000_stats.json"
    told = json.loads(path.read_bytes())
    path.write_text(json.dumps({name: value for name, value in told.items() if name not in ("made_with", "files")}))
    web.fetch(tmp_path / "dummy", output_format="dummy")

    assert "img2dataset" in next(iter(web.retry(tmp_path / "out").left_alone))
    assert sum(web.retry(tmp_path / "dummy").left_alone.values()) == 4


def test_nothing_to_retry_is_refused(tmp_path: Path) -> None:
    """An empty folder, a class that is none, and options that would make another dataset."""
    with pytest.raises(OptionsError, match="there is no finished shard"):
        retry(str(tmp_path))
    with pytest.raises(OptionsError, match=r"error_class takes .*; got 'dns_timeuot', which may mean dns_timeout"):
        retry(str(tmp_path), error_class="dns_timeuot")
    with pytest.raises(OptionsError, match="error_class takes"):  # it was left out so as to be there once
        retry(str(tmp_path), error_class="duplicate")
    with pytest.raises(OptionsError, match="error_class takes"):  # nor does what was removed come back by a word
        retry(str(tmp_path), error_class="optout_removed")
    with pytest.raises(OptionsError, match="error_class names no reason"):
        retry(str(tmp_path), error_class=[])
    for name in ("image_size", "encode_format", "disallowed_header_directives", "enable_wandb"):
        with pytest.raises(OptionsError, match="there is no option"):
            retry(str(tmp_path), **{name: "1"})


def test_files_that_are_not_opened_are_left_alone(tmp_path: Path, photographs: Path) -> None:
    """As no later retry would mean them if they failed for that; with the option of the fetch they are read."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    (images / "late.jpg").touch()
    (tmp_path / "urls.txt").write_text(f"{images}/late.jpg\n")
    download(tmp_path / "urls.txt", output_folder=out, allow_sources=f"file:{images}", **NET)
    (images / "late.jpg").write_bytes((photographs / "rocket.jpg").read_bytes())
    before = files(out)
    said = aimg2ds("retry", str(out), "--progress=none").stdout
    untouched = files(out) == before
    report = retry(str(out), allow_sources=f"file:{images}", **NET)

    assert "0 failed rows fetched again" in said
    assert "left alone: 1 failed rows that name files or objects; --allow_sources opens them" in said
    assert untouched
    assert (report.rows, report.successes, report.rows_closed) == (1, 1, 0)


def test_command_line(web: Web, tmp_path: Path) -> None:
    """The flag is --class, repeatable; the end is told in words."""
    web.fetch(tmp_path / "out", output_format="webdataset")
    words = ["retry", str(tmp_path / "out"), "--class", "CONNECT_refused", "--class=host_circuit_open"]
    with serving(web.pictures, web.up), serving(web.pictures, web.down):
        done = aimg2ds(*words, "--allow_net=127.0.0.0/8", "--timeout", "3", "--retries", "0")

    assert done.returncode == 0, done.stderr
    assert "10 failed rows fetched again" in done.stdout
    assert "6 have images now" in done.stdout
    assert "http_status_4xx" in done.stdout
    refused = aimg2ds("retry", str(tmp_path / "out"), "--class", "nonsense")
    assert refused.returncode == 2
    assert "dns_timeout" in refused.stderr


def test_shape_comes_back_from_what_is_written() -> None:
    """Whatever options a dataset is made with, those of its retry make the same, infinity and None included."""
    chosen = {"caption_col": "c", "max_image_area": 5.0, "compute_hash": None, "disallowed_header_directives": []}
    for given in ({}, chosen, {"max_aspect_ratio": 2, "extract_exif": False, "output_format": "parquet"}):
        options = Options.of(url_list="x.parquet", input_format="parquet", **given)
        told = json.loads(json.dumps(options.shape()))
        again = shaped_as(told, "out", FetchOptions(), RunOptions())
        assert again.shape() == options.shape()
        assert (again.image, again.input.caption_col) == (options.image, options.input.caption_col)
    with pytest.raises(OptionsError, match="which this version has not"):
        shaped_as({"upside_down": True}, "out", FetchOptions(), RunOptions())


def test_what_may_heal() -> None:
    """Time-outs and refusals may; what was answered for good does not, nor what its owner has reserved."""
    assert {ErrorClass.DNS_TIMEOUT, ErrorClass.HTTP_STATUS_5XX, ErrorClass.HOST_CIRCUIT_OPEN} <= MAY_HEAL
    assert not MAY_HEAL & {ErrorClass.OPTOUT_HEADER, ErrorClass.HTTP_STATUS_4XX, ErrorClass.NOT_IMAGE}


@pytest.mark.parametrize("output_format", FORMATS)
def test_samples_are_read_back_as_they_were_written(tmp_path: Path, output_format: str) -> None:
    """Images, failures, sizes, EXIF, hashes; but for the bytes received, which no table has."""
    write(output_format, tmp_path)
    listed_rows = [sample.row for sample in sorted(SAMPLES, key=lambda sample: sample.row.index)]
    found = list(stored_samples(LocalStore(tmp_path), "00012", listed_rows, output_format, "jpg", COLUMNS.digest))

    def told(sample: Any) -> tuple[Any, ...]:
        return (sample.row, sample.status, sample.encoded, sample.error_class, sample.error_message, sample.attempts)

    assert list(map(told, found)) == list(map(told, SAMPLES))
    assert [sample.encoded is not None for sample in found] == [s.status is Status.SUCCESS for s in SAMPLES]
    assert set(READERS) == set(FORMATS)
    assert LISTED.num_rows == len(found)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_shard_that_lacks_an_image_is_not_read_back(tmp_path: Path, output_format: str) -> None:
    """Rather than an image being lost, the shard stays."""
    write(output_format, tmp_path)
    if output_format == "files":
        next((tmp_path / "00012").glob("*.jpg")).unlink()
    else:
        ending = {"webdataset": "tar"}.get(output_format, output_format)
        path = tmp_path / f"00012.{ending}"
        path.write_bytes(path.read_bytes()[:700])
    listed_rows = [sample.row for sample in sorted(SAMPLES, key=lambda sample: sample.row.index)]

    with pytest.raises(StorageError, match="aimg2ds verify says what is wrong"):
        list(stored_samples(LocalStore(tmp_path), "00012", listed_rows, output_format, "jpg", COLUMNS.digest))


@pytest.mark.parametrize("damaged", [b"\x0a", b"\x0a\x05ab", b"\x0a\xff\xff", b"\x0a\x02\x0a\x09"])
def test_damaged_examples_are_no_examples(damaged: bytes) -> None:
    """Lengths that lead nowhere raise, and do not loop."""
    with pytest.raises(ValueError, match="cut off"):
        byte_features(damaged, {"key"})
