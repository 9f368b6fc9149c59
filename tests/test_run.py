"""The main job, end to end: real processes, a real server, real photographs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageChops, ImageStat
from tfrecord.reader import tfrecord_loader

import origin as origin_server
from async_img2ds import InputError, MissingExtraError, OptionsError, download, download_async, verify
from async_img2ds.inputs import UrlList
from async_img2ds.outputs.base import WRITERS
from async_img2ds.preflight import EXTRAS
from async_img2ds.storage import SETTINGS
from processes import is_alive, wait_until, workers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from async_img2ds.records import Shard
    from origin import Origin

PICTURES = (
    "rocket.jpg",
    "coffee.png",
    "chelsea.webp",
    "camera-gray.jpg",
    "astronaut-cmyk.jpg",
    "coins.gif",
    "motorcycle_left-rotated.jpg",
)
# How each of these ends, by path of the origin.
FAILURES = {
    "no-such.jpg": "http_status_4xx",
    "page.jpg": "not_image",
    "truncated.jpg": "decode_truncated",
    "loop": "redirect_limit",
    "reserved/rocket.jpg": "optout_header",
    "busy": "http_status_5xx",
}
QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 2}


def write_list(path: Path, origin: Origin, rows: int) -> dict[str, str | None]:
    """Write a txt list of *rows* URLs, a good many of them broken.

    Return what each should end as, None for an image.
    """
    outcomes: dict[str, str | None] = {}
    for number in range(rows):
        if number % 5 == 4:
            broken, outcome = list(FAILURES.items())[number // 5 % len(FAILURES)]
            outcomes[origin.url(f"{broken}?{number}")] = outcome
        else:
            outcomes[origin.url(f"{PICTURES[number % len(PICTURES)]}?{number}")] = None
    path.write_text("".join(f"{url}\n" for url in outcomes))
    return outcomes


def metadata(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def stored(folder: Path, kind: str = "jpg") -> dict[str, bytes]:
    """Return the images in the tars by key; fails on one that is there twice."""
    images: dict[str, bytes] = {}
    for file in sorted(folder.glob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if extension == kind:
                    assert key not in images
                    content = tar.extractfile(member)
                    assert content is not None
                    images[key] = content.read()
    return images


def contents(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what matters of each row, by key."""
    images = stored(folder)
    return {
        row["key"]: (
            row["url"],
            row["status"],
            row["error_class"],
            row["sha256"],
            hashlib.sha256(images.get(row["key"], b"")).hexdigest(),
        )
        for row in metadata(folder)
    }


@pytest.mark.parametrize("output_format", WRITERS)
def test_every_row_is_accounted_for_once(origin: Origin, tmp_path: Path, output_format: str) -> None:
    """Each URL ends in one metadata row with the class it deserves, and each image is stored under its key."""
    outcomes = write_list(tmp_path / "urls.txt", origin, 60)
    out = tmp_path / "out"
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": out, "number_sample_per_shard": 25}
    report = download(**options, output_format=output_format)
    successes = sum(outcome is None for outcome in outcomes.values())

    assert report.complete
    assert verify(str(out), progress="none").good
    assert (report.count, report.successes, report.shards_done) == (60, successes, 3)
    assert sum(report.error_classes.values()) == 60 - successes
    stats = [json.loads((out / f"0000{number}_stats.json").read_bytes()) for number in range(3)]
    assert [shard["count"] for shard in stats] == [25, 25, 10]
    assert all(
        shard["successes"] + shard["failed_to_download"] + shard["failed_to_resize"] == shard["count"]
        for shard in stats
    )
    if output_format == "dummy":
        assert len(list(out.glob("0*"))) == 3
        return
    rows = metadata(out)
    assert {row["url"]: row["error_class"] for row in rows} == outcomes
    assert len({row["key"] for row in rows}) == len(rows) == 60
    succeeded = {row["key"] for row in rows if row["status"] == "success"}
    stored_as: dict[str, Callable[[], dict[str, bytes]]] = {
        "files": lambda: {path.stem: path.read_bytes() for path in out.glob("*/*.jpg")},
        "webdataset": lambda: stored(out),
        "parquet": lambda: {row["key"]: row["jpg"] for row in rows if row["jpg"] is not None},
        "tfrecord": lambda: {
            features["key"].decode(): features["jpg"]
            for file in out.glob("*.tfrecord")
            for features in tfrecord_loader(str(file), None)
        },
    }
    found = stored_as[output_format]()
    assert set(found) == succeeded
    assert {Image.open(io.BytesIO(image)).size for image in found.values()} == {(256, 256)}


def test_columns_and_captions_travel_with_their_types(origin: Origin, tmp_path: Path) -> None:
    """Additional columns keep their Arrow types and come first; captions reach the samples."""
    table = pa.table(
        {
            "URL": [origin.url("rocket.jpg"), origin.url("no-such.jpg"), None],
            "TEXT": ["a rocket", None, "nothing"],
            "tags": [["a", "b"], [], None],
            "score": pa.array([0.5, float("nan"), None], pa.float32()),
            "left": [1, 2, 3],
        }
    )
    pq.write_table(table, tmp_path / "urls.parquet")
    options = {
        **QUIET,
        "url_list": tmp_path / "urls.parquet",
        "output_folder": tmp_path / "out",
        "output_format": "files",
    }
    download(
        **options, input_format="parquet", url_col="URL", caption_col="TEXT", save_additional_columns=["tags", "score"]
    )
    found = pq.read_table(tmp_path / "out" / "00000.parquet")
    sample = json.loads((tmp_path / "out" / "00000" / "000000000.json").read_bytes())

    assert found.schema.names[:5] == ["tags", "score", "caption", "url", "key"]
    assert found.schema.field("tags").type == pa.list_(pa.string())
    assert found.schema.field("score").type == pa.float32()
    assert {row["key"][-1]: row["error_class"] for row in found.to_pylist()} == {
        "0": None,
        "1": "http_status_4xx",
        "2": "url_invalid",
    }
    assert (sample["tags"], sample["score"], sample["caption"]) == (["a", "b"], 0.5, "a rocket")
    assert (tmp_path / "out" / "00000" / "000000000.txt").read_text() == "a rocket"


def test_images_can_be_stored_as_hugging_face_does(origin: Origin, tmp_path: Path) -> None:
    """With the option, the column of images is a struct that the schema declares as one of images."""
    write_list(tmp_path / "urls.txt", origin, 5)
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out"}
    download(**options, output_format="parquet", encode_format="png", encode_quality=1, hf_image=True)
    table = pq.read_table(tmp_path / "out" / "00000.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]

    assert features["png"] == {"_type": "Image"}
    assert {row["png"]["path"] for row in table.to_pylist() if row["png"]} == {f"00000000{n}.png" for n in range(4)}


BOXES: list[Any] = [
    [[0.0, 0.0, 1.0, 1.0]],
    [],
    None,
    [[0.1, 0.1, float("nan"), 0.2]],
    [[12.0, 40.0, 80.0, 99.0]],
    [[0.4, 0.3, 0.6, 0.5], [0.9, 0.9, 0.3, 0.3]],
]


def detail(content: bytes) -> float:
    """Return how much each pixel of an image differs from its neighbour, on the average."""
    image = Image.open(io.BytesIO(content)).convert("L")
    return ImageStat.Stat(ImageChops.difference(image, ImageChops.offset(image, 1, 1))).mean[0]


@pytest.mark.parametrize("input_format", ["parquet", "csv"])
@pytest.mark.parametrize("columns", [[], ["face_bboxes"]], ids=["once", "named-twice"])
def test_boxes_of_the_list_are_blurred(origin: Origin, tmp_path: Path, input_format: str, columns: list[str]) -> None:
    """What a column of boxes says is blurred in the stored images, rows of bad boxes fail, and the column is kept."""
    urls = [f"{origin.url('astronaut.png')}?{number}" for number in range(len(BOXES))]
    written = BOXES if input_format == "parquet" else ["" if boxes is None else json.dumps(boxes) for boxes in BOXES]
    table = pa.table({"url": urls, "face_bboxes": written, "other": range(len(BOXES))})
    {"parquet": pq.write_table, "csv": pa.csv.write_csv}[input_format](table, tmp_path / "urls")
    options = {**QUIET, "url_list": tmp_path / "urls", "input_format": input_format, "output_folder": tmp_path / "out"}
    report = download(
        **options,
        bbox_col="face_bboxes",
        save_additional_columns=columns,
        output_format="webdataset",
        encode_format="png",
        encode_quality=1,
    )
    rows = {row["url"]: row for row in metadata(tmp_path / "out")}
    images = stored(tmp_path / "out", "png")
    details = [detail(images[key]) if (key := rows[url]["key"]) in images else math.nan for url in urls]

    assert [rows[url]["error_class"] for url in urls] == [None, None, None, "bbox_invalid", "bbox_invalid", None]
    assert [rows[url]["status"] for url in urls[3:5]] == ["failed_to_resize"] * 2
    assert report.error_classes == {"bbox_invalid": 2}
    assert [math.isnan(each) for each in details] == [False, False, False, True, True, False]
    assert details[1] == details[2]  # whole
    assert details[0] < 0.3 * details[1]
    assert details[5] < 0.9 * details[1]
    assert list(rows[urls[0]])[:2] == ["face_bboxes", "url"]
    assert [rows[url]["face_bboxes"] for url in urls[4:]] == written[4:]


def test_build_that_cannot_convert_colours_is_refused_when_asked_to(tmp_path: Path) -> None:
    """Before anything is created, and with what to install; without the option it will do."""
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out"}
    (tmp_path / "urls.txt").write_text("")
    with mock.patch("async_img2ds.images.codec.features.check", lambda feature: feature != "littlecms2"):
        with pytest.raises(OptionsError, match=r"convert_to_srgb: .* was built without littlecms; .*liblcms2-dev"):
            download(**options, convert_to_srgb=True)

        assert not (tmp_path / "out").exists()
        assert download(**options).complete


def test_second_run_asks_for_nothing_again(photographs: Path, tmp_path: Path) -> None:
    """The same command on a finished dataset makes no request and changes no file."""
    with origin_server.serve(photographs, logged=True) as origin:
        write_list(tmp_path / "urls.txt", origin, 30)
        options = {
            **QUIET,
            "url_list": tmp_path / "urls.txt",
            "output_folder": tmp_path / "out",
            "number_sample_per_shard": 10,
        }
        first = download(**options, output_format="webdataset")
        asked = len(origin.requests())
        before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()}
        second = download(**options, output_format="webdataset")

        assert len(origin.requests()) == asked
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()} == before
    assert (first.shards_done, first.shards_skipped, second.shards_done, second.shards_skipped, second.count) == (
        3,
        0,
        0,
        3,
        0,
    )


def test_missing_shard_is_done_again_alone(origin: Origin, tmp_path: Path) -> None:
    """Removing a shard's stats file has that shard fetched again, and an empty one counts as removed."""
    write_list(tmp_path / "urls.txt", origin, 30)
    options = {
        **QUIET,
        "url_list": tmp_path / "urls.txt",
        "output_folder": tmp_path / "out",
        "number_sample_per_shard": 10,
    }
    download(**options, output_format="webdataset")
    expected = contents(tmp_path / "out")
    (tmp_path / "out" / "00001_stats.json").unlink()
    (tmp_path / "out" / "00002_stats.json").write_bytes(b"")
    report = download(**options, output_format="webdataset")

    assert (report.shards_done, report.shards_skipped) == (2, 1)
    assert contents(tmp_path / "out") == expected


def test_one_shard_uses_one_process(origin: Origin, tmp_path: Path) -> None:
    """A list that fits one shard starts one worker however many were asked for."""
    write_list(tmp_path / "urls.txt", origin, 20)
    started: list[int] = []

    async def run() -> None:
        fetching = asyncio.create_task(
            download_async(
                **{**QUIET, "processes_count": 4}, url_list=tmp_path / "urls.txt", output_folder=tmp_path / "out"
            )
        )
        while not fetching.done():
            started.extend(workers_of(os.getpid()))
            await asyncio.sleep(0.02)
        await fetching

    asyncio.run(run())

    assert len(set(started)) == 1


def test_download_works_inside_a_running_loop(origin: Origin, tmp_path: Path) -> None:
    """In a notebook, whose loop is running, the plain call does the job, too."""
    write_list(tmp_path / "urls.txt", origin, 5)

    async def cell() -> int:
        return download(**QUIET, url_list=tmp_path / "urls.txt", output_folder=tmp_path / "out").count

    assert asyncio.run(cell()) == 5


def test_script_needs_no_main_guard(origin: Origin, tmp_path: Path) -> None:
    """A plain script that calls download at its top level runs once, not once for each worker."""
    write_list(tmp_path / "urls.txt", origin, 20)
    script = tmp_path / "script.py"
    options = {
        **QUIET,
        "url_list": str(tmp_path / "urls.txt"),
        "output_folder": str(tmp_path / "out"),
        "number_sample_per_shard": 10,
    }
    script.write_text(f"print('once')\nfrom async_img2ds import download\nprint(download(**{options!r}).count)\n")
    out = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout

    assert out.split() == ["once", "20"]


def test_working_folder_cannot_shadow_modules(origin: Origin, tmp_path: Path) -> None:
    """A file called queue.py beside the list does not break the workers."""
    write_list(tmp_path / "urls.txt", origin, 5)
    (tmp_path / "queue.py").write_text("raise RuntimeError('shadowed')\n")
    done = subprocess.run(
        [_aimg2ds(), "fetch", "urls.txt", "--allow_net", "127.0.0.0/8"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def test_killed_worker_costs_nothing(origin: Origin, tmp_path: Path) -> None:
    """The dataset of a run whose worker was killed half way equals that of a run that was left alone."""
    write_list(tmp_path / "urls.txt", origin, 600)
    command = _command(tmp_path / "urls.txt")
    subprocess.run([*command, "--output_folder", str(tmp_path / "whole")], check=True, capture_output=True)
    with subprocess.Popen(
        [*command, "--output_folder", str(tmp_path / "hurt")], stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: len(list((tmp_path / "hurt").glob("*_stats.json"))) >= 3)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        _, said = process.communicate()

    assert process.returncode == 0
    assert "killed by SIGKILL" in said
    assert contents(tmp_path / "hurt") == contents(tmp_path / "whole")
    assert _leftovers(tmp_path / "hurt") == []


def test_killed_parent_takes_its_workers_along_and_the_next_run_goes_on(origin: Origin, tmp_path: Path) -> None:
    """Nothing outlives the parent; the same command finishes the dataset and leaves committed shards as they were."""
    write_list(tmp_path / "urls.txt", origin, 600)
    command = _command(tmp_path / "urls.txt")
    subprocess.run([*command, "--output_folder", str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "hurt"
    with subprocess.Popen([*command, "--output_folder", str(out)], stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(list(out.glob("*_stats.json"))) >= 3)
        workers = workers_of(process.pid)
        process.kill()
    assert len(workers) == 2
    wait_until(lambda: not any(is_alive(worker) for worker in workers), seconds=10)
    committed = {path.name.split("_")[0] for path in out.glob("*_stats.json")}
    before = {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for shard in committed
        for path in out.glob(f"{shard}[._]*")
        if not path.is_dir()  # its journal, if the kill came before that went
    }
    assert 3 <= len(committed) < 30
    subprocess.run([*command, "--output_folder", str(out)], check=True, capture_output=True)

    assert {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name in before for path in [out / name]} == before
    assert contents(out) == contents(tmp_path / "whole")
    assert _leftovers(out) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_drains_and_says_so(photographs: Path, tmp_path: Path, number: int, status: int) -> None:
    """Open shards are finished or dropped whole, the exit status names the signal, and the same command goes on."""
    with origin_server.serve(photographs) as origin:
        write_list(tmp_path / "urls.txt", origin, 600)
        command = [*_command(tmp_path / "urls.txt"), "--output_folder", str(tmp_path / "out")]
        with subprocess.Popen(
            [*command, "--grace_s", "0.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            wait_until(lambda: len(list((tmp_path / "out").glob("*_stats.json"))) >= 2)
            process.send_signal(number)
            _, said = process.communicate()
        assert process.returncode == status
        assert "run the same command again" in said
        assert [name for name in _leftovers(tmp_path / "out") if not name.endswith(".journal")] == []
        finished = len(list((tmp_path / "out").glob("*_stats.json")))
        assert 2 <= finished < 30

        subprocess.run(command, check=True, capture_output=True)
        assert len(contents(tmp_path / "out")) == 600


def test_signal_is_heeded_while_the_list_is_being_opened(tmp_path: Path) -> None:
    """A list whose server does not answer holds nobody who wants to leave."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = _command(f"http://127.0.0.1:{server.getsockname()[1]}/urls.txt")
        with subprocess.Popen(
            [*command, "--output_folder", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True
        ) as process:
            silent, _ = server.accept()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
            silent.close()

    assert process.returncode == 130
    assert "run the same command again" in said


def test_lost_shard_makes_the_run_fail_and_can_be_done_later(origin: Origin, tmp_path: Path) -> None:
    """A shard whose file cannot be put in place is lost with its reason.

    When the obstacle is gone the same call does it.
    """
    write_list(tmp_path / "urls.txt", origin, 30)
    obstacle = tmp_path / "out" / "00001.tar"
    obstacle.mkdir(parents=True)
    (obstacle / "somebody's").touch()
    options = {
        **QUIET,
        "url_list": tmp_path / "urls.txt",
        "output_folder": tmp_path / "out",
        "number_sample_per_shard": 10,
    }
    report = download(**options, output_format="webdataset")
    assert list(report.shards_lost) == [1]
    assert "StorageError" in report.shards_lost[1]
    assert not report.complete
    assert report.count == 20
    (obstacle / "somebody's").unlink()
    obstacle.rmdir()

    assert download(**options, output_format="webdataset").complete
    assert len(contents(tmp_path / "out")) == 30


def test_list_that_breaks_in_the_middle_keeps_what_was_done(origin: Origin, tmp_path: Path) -> None:
    """Shards cut before the broken file are committed, and the error names the file."""
    lists = tmp_path / "lists"
    lists.mkdir()
    pq.write_table(pa.table({"url": [origin.url(f"rocket.jpg?{n}") for n in range(10)]}), lists / "a.parquet")
    (lists / "b.parquet").write_bytes((lists / "a.parquet").read_bytes()[:-20])
    options = {
        **QUIET,
        "url_list": lists,
        "input_format": "parquet",
        "output_folder": tmp_path / "out",
        "output_format": "webdataset",
    }

    with pytest.raises(InputError, match=r"b\.parquet"):
        download(**options)
    assert len(contents(tmp_path / "out")) == 10


def test_refused_requests_touch_nothing(tmp_path: Path) -> None:
    """A request that is refused creates no output folder."""
    (tmp_path / "urls.csv").write_text("link,caption\nhttp://x.test/,x\n")
    out = tmp_path / "out"
    for wrong in (
        {"resize_mode": "squash"},
        {"input_format": "csv"},
        {"url_list": tmp_path / "no-such-file"},
        {"encode_format": "png"},
    ):
        with pytest.raises((OptionsError, InputError)):
            download(**{"url_list": tmp_path / "urls.csv", "output_folder": out, **wrong})

    assert not out.exists()


@pytest.mark.parametrize("option", EXTRAS)
def test_missing_package_is_named_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    """A choice whose package is not installed is refused with the line to type, and no folder is made."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    module, extra = EXTRAS[option]
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed

    with pytest.raises(MissingExtraError, match=rf"{option[1]} needs .* pip install 'async-img2ds\[{extra}\]'"):
        download(
            **{option[0].rpartition(".")[2]: option[1]},
            url_list=tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_output_among_the_lists_is_refused(tmp_path: Path) -> None:
    """Parquet files of a dataset would be read as lists by the next run."""
    pq.write_table(pa.table({"url": ["http://x.test/"]}), tmp_path / "a.parquet")

    with pytest.raises(OptionsError, match="output_folder"):
        download(url_list=tmp_path, input_format="parquet", output_folder=tmp_path)


def test_output_may_lie_beside_a_list_that_is_named(tmp_path: Path) -> None:
    """As with img2dataset; not where a pattern would find the dataset, or a shard take the list's own name."""
    (tmp_path / "lists").mkdir()
    for name in ("a.txt", "lists/b.txt", "lists/00000.txt"):
        (tmp_path / name).write_text("http://10.0.0.1/\n")
    out = {**QUIET, "output_folder": tmp_path / "lists"}

    for url_list in (f"{tmp_path}/*/b.txt", [tmp_path / "a.txt", tmp_path / "lists" / "00000.txt"]):
        with pytest.raises(OptionsError, match="output_folder is the folder of the list"):
            download(url_list=url_list, **out)
    assert {path.name for path in (tmp_path / "lists").iterdir()} == {"b.txt", "00000.txt"}
    assert download(url_list=[tmp_path / "a.txt", tmp_path / "lists" / "b.txt"], **out).count == 2


def _command(urls: Path | str) -> list[str]:
    """Return a command of 30 shards over two processes."""
    command = [_aimg2ds(), "fetch", str(urls), "--output_format", "webdataset", "--number_sample_per_shard", "20"]
    return [*command, "--processes_count", "2", "--retries", "0", "--allow_net", "127.0.0.0/8"]


def _aimg2ds() -> str:
    return str(Path(sys.executable).parent / "aimg2ds")


def _leftovers(folder: Path) -> list[str]:
    """Return what lies in *folder* and belongs to no committed shard."""

    def foreign() -> Iterator[str]:
        for path in folder.iterdir():
            if path.suffix not in (".tar", ".parquet", ".json") and path.name != SETTINGS:
                yield path.name

    return sorted(foreign())


def test_column_types_that_python_lacks_reach_every_format(origin: Origin, tmp_path: Path) -> None:
    """Nanoseconds and views keep their type in the table and become text in the JSON."""
    table = pa.table(
        {
            "url": [origin.url("rocket.jpg")],
            "at": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
            "took": pa.array([5], pa.duration("ns")),
            "day": pa.array([-800_000], pa.date32()),
            "words": pa.array(["a few"], pa.string_view()),
        }
    )
    pq.write_table(table, tmp_path / "urls.parquet", version="2.6")
    options = {**QUIET, "url_list": tmp_path / "urls.parquet", "input_format": "parquet"}
    columns = ["at", "took", "day", "words"]
    report = download(**options, output_folder=tmp_path / "out", save_additional_columns=columns)
    sample = json.loads((tmp_path / "out" / "00000" / "000000000.json").read_bytes())

    assert report.complete
    assert sample["at"].startswith("2023-11-14")
    assert sample["words"] == "a few"
    assert pq.read_schema(tmp_path / "out" / "00000.parquet").field("at").type == pa.timestamp("ns")


@pytest.fixture
def begun(origin: Origin, tmp_path: Path) -> dict[str, Any]:
    """Return the options of a run that has been made: ten rows, four to a shard."""
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out"}
    options["number_sample_per_shard"] = 4
    write_list(tmp_path / "urls.txt", origin, 10)
    assert download(**options).count == 10
    return options


@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("rows", [12, 9])
def test_finished_shards_of_a_longer_or_shorter_list_are_refused(
    origin: Origin, begun: dict[str, Any], rows: int, *, anyway: bool
) -> None:
    """Shards are known by their numbers, so rows would be left out; that nobody can want."""
    write_list(begun["url_list"], origin, rows)

    with pytest.raises(InputError, match=r"made of \d+ rows, and of this list it would have \d+: go on with the list"):
        download(**begun, resume_anyway=anyway)


def test_finished_shards_of_other_urls_are_refused(origin: Origin, begun: dict[str, Any]) -> None:
    """Unless that is what somebody wants, who has put their new addresses into the list, say."""
    write_list(begun["url_list"], origin, 10)
    lines = begun["url_list"].read_text().splitlines()
    begun["url_list"].write_text("\n".join([*lines[:5], lines[5] + "?other", *lines[6:]]))
    (begun["output_folder"] / "00002_stats.json").unlink()

    with pytest.raises(InputError, match=r"shard 1 in the output folder was made of other URLs .* --resume_anyway"):
        download(**begun)
    assert download(**begun, resume_anyway=True).shards_skipped == 2


def test_finished_shards_that_were_made_otherwise_are_refused_in_words(begun: dict[str, Any]) -> None:
    """A dataset of two kinds of images is nobody's wish; what is there stays as it is, unless told otherwise."""
    other = {**begun, "image_size": 128, "number_sample_per_shard": 5}
    before = {path: path.read_bytes() for path in begun["output_folder"].rglob("*.*")}

    with pytest.raises(OptionsError, match=r"number_sample_per_shard was 4 and is 5; image_size was 256 and is 128"):
        download(**other)
    assert {path: path.read_bytes() for path in begun["output_folder"].rglob("*.*")} == before
    assert download(**{**begun, "image_size": 128}, resume_anyway=True).shards_skipped == 3
    assert download(**{**begun, "timeout": 3, "retries": 1}).shards_skipped == 3


def test_nothing_is_done_for_a_wrong_list(begun: dict[str, Any]) -> None:
    """Or the right one would be refused afterwards, because of what was fetched of the other."""
    (begun["output_folder"] / "00000_stats.json").unlink()
    right = begun["url_list"].read_text()
    begun["url_list"].write_text(right.replace("?", "?other"))
    with pytest.raises(InputError, match="made of other URLs"):
        download(**begun)
    assert not (begun["output_folder"] / "00000_stats.json").exists()

    begun["url_list"].write_text(right)
    assert download(**begun).shards_done == 1


def test_shards_of_an_extension_may_be_made_otherwise(begun: dict[str, Any]) -> None:
    """They are not of this list, which goes on as it began."""
    download(**{**begun, "incremental_mode": "extend", "image_size": 128})
    (begun["output_folder"] / "00001_stats.json").unlink()

    assert download(**begun).shards_done == 1


def test_list_may_have_moved(begun: dict[str, Any], tmp_path: Path) -> None:
    """What counts is its rows, not where they lie or in which format."""
    begun["url_list"].rename(tmp_path / "moved.txt")
    urls = (tmp_path / "moved.txt").read_text().splitlines()
    pq.write_table(pa.table({"link": urls}), tmp_path / "urls.parquet")

    assert download(**{**begun, "url_list": tmp_path / "moved.txt"}).shards_skipped == 3
    moved = {"url_list": tmp_path / "urls.parquet", "input_format": "parquet", "url_col": "link"}
    assert download(**{**begun, **moved}).shards_skipped == 3


def test_shards_of_img2dataset_say_nothing_of_that(begun: dict[str, Any]) -> None:
    """Whoever has begun with it goes on here, with options of any names."""
    for path in begun["output_folder"].glob("*_stats.json"):
        told = json.loads(path.read_bytes())
        path.write_text(json.dumps({name: told[name] for name in list(told)[:8]}))

    assert download(**{**begun, "image_size": 128}).shards_skipped == 3


@pytest.mark.parametrize("output_format", sorted(WRITERS))
def test_marker_tells_the_files_of_its_shard(origin: Origin, tmp_path: Path, output_format: str) -> None:
    """By size and sha256, so that anybody can see whether they are what was written."""
    write_list(tmp_path / "urls.txt", origin, 5)
    out = tmp_path / "out"
    download(**QUIET, url_list=tmp_path / "urls.txt", output_folder=out, output_format=output_format)
    told = json.loads((out / "00000_stats.json").read_bytes())["files"]

    assert set(told) == {path.name for path in out.iterdir()} - {"00000_stats.json", SETTINGS}
    for name, file in told.items():
        if (path := out / name).is_file():
            assert file == {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        else:
            command = ["sh", "-c", "LC_ALL=C; export LC_ALL; sha256sum * | sha256sum"]
            said = subprocess.run(command, cwd=path, capture_output=True, check=True)
            sizes = [entry.stat().st_size for entry in path.iterdir()]
            assert file == {"bytes": sum(sizes), "sha256": said.stdout.split()[0].decode(), "files": len(sizes)}


def test_proxies_of_the_environment_are_said_not_to_be_used(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can reach the web through a proxy only would wonder why all rows fail."""
    write_list(tmp_path / "urls.txt", origin, 1)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    report = download(**QUIET, url_list=tmp_path / "urls.txt", output_folder=tmp_path / "out")

    assert report.successes == 1
    assert "http_proxy is set and not used" in caplog.text


def test_nothing_new_is_not_called_an_empty_list(
    origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows are all there; they are counted as known."""
    write_list(tmp_path / "urls.txt", origin, 3)
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out"}
    download(**options)

    assert download(**options, incremental_mode="extend_new").rows_known == 3
    assert "no rows" not in caplog.text


def test_second_run_into_a_folder_in_use_is_refused(origin: Origin, tmp_path: Path) -> None:
    """It says so and leaves the first alone, whose dataset is whole."""
    write_list(tmp_path / "urls.txt", origin, 600)
    command = [*_command(tmp_path / "urls.txt"), "--output_folder", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        wait_until(lambda: bool(list((tmp_path / "out").glob("*.partial"))))
        first.send_signal(signal.SIGSTOP)  # or it could end before the second has begun
        second = subprocess.run(command, check=False, capture_output=True, text=True)
        first.send_signal(signal.SIGCONT)
        first.communicate()

    assert (first.returncode, second.returncode) == (0, 3)
    assert "another run is writing" in second.stderr
    assert len(contents(tmp_path / "out")) == 600


def test_folders_that_no_worker_can_write_to_are_refused(tmp_path: Path) -> None:
    """memory:// would be another memory in each worker."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")

    with pytest.raises(OptionsError, match="memory"):
        download(url_list=tmp_path / "urls.txt", output_folder="memory://out")


def test_same_folder_is_recognised_under_another_name(tmp_path: Path) -> None:
    """file:// and a link lead to the folder of the list like its path."""
    pq.write_table(pa.table({"url": ["http://x.test/"]}), tmp_path / "a.parquet")
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)

    for name in (f"file://{tmp_path}", f"{tmp_path}-link", f"{tmp_path}/"):
        with pytest.raises(OptionsError, match="output_folder"):
            download(url_list=tmp_path, input_format="parquet", output_folder=name)


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&- 1>&- 2>&-", "> /dev/full 2> /dev/full"])
def test_run_goes_on_when_nobody_reads_what_it_says(origin: Origin, tmp_path: Path, closed: str) -> None:
    """Closed or full standard streams cost the words, not the work nor the exit status."""
    write_list(tmp_path / "urls.txt", origin, 5)
    command = f"{_aimg2ds()} fetch urls.txt --allow_net 127.0.0.0/8 --retries 0 {closed}"
    done = subprocess.run(["sh", "-c", command], check=False, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert len(metadata(tmp_path / "images")) == 5


def test_cancelled_while_planning_leaves_the_folder_free(origin: Origin, tmp_path: Path) -> None:
    """Whenever a run is cancelled, the next one in the same process may have its folder as soon as planning ends."""
    write_list(tmp_path / "urls.txt", origin, 5)
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out"}

    async def cancelled_after(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(download_async(**options), seconds)

    def is_free() -> bool:
        try:
            return download(**options).complete
        except OptionsError as error:
            if "another run is writing" not in str(error):
                raise
            return False

    for seconds in (0, 0.001, 0.01, 0.1):
        with contextlib.suppress(OptionsError):  # the one before still plans
            asyncio.run(cancelled_after(seconds))
    wait_until(is_free)

    assert len(metadata(tmp_path / "out")) == 5


def test_overwrite_deletes_nothing_for_a_run_that_was_cancelled(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its planning goes on in a thread; nobody would fetch what is deleted there."""
    write_list(tmp_path / "urls.txt", origin, 5)
    options = {**QUIET, "url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out"}
    download(**options)
    before = contents(tmp_path / "out")
    shards, reading, cancelled = UrlList.shards, threading.Event(), threading.Event()

    def slow(*arguments: Any, **names: Any) -> Iterator[Shard]:
        reading.set()
        cancelled.wait()
        return shards(*arguments, **names)

    monkeypatch.setattr(UrlList, "shards", slow)

    async def run() -> None:
        overwriting = asyncio.create_task(download_async(incremental_mode="overwrite", **options))
        await asyncio.to_thread(reading.wait)
        overwriting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await overwriting
        cancelled.set()

    asyncio.run(run())
    wait_until(lambda: "begun" not in [thread.name for thread in threading.enumerate()])

    assert contents(tmp_path / "out") == before


def test_overwrite_deletes_nothing_for_a_list_that_is_known_to_be_broken(origin: Origin, tmp_path: Path) -> None:
    """The columns of every file are looked at before the old dataset goes."""
    for name, header in (("a.csv", "url"), ("b.csv", "link")):
        (tmp_path / name).write_text(f"{header}\n{origin.url('rocket.jpg')}\n")
    out = {**QUIET, "input_format": "csv", "output_folder": tmp_path / "out", "output_format": "webdataset"}
    download(url_list=tmp_path / "a.csv", **out)
    before = contents(tmp_path / "out")

    with pytest.raises(OptionsError, match="no column 'url'"):
        download(url_list=[tmp_path / "a.csv", tmp_path / "b.csv"], incremental_mode="overwrite", **out)
    assert contents(tmp_path / "out") == before
