"""The programs that are compared: how each is installed, told what to do, and what it has made.

A program is a function from a task to its command line. Words that img2dataset and we have in common are spelled once.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from environments import commit, environment, python_of, versions_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Run

__all__ = ["PROGRAMS", "Program", "Task"]

HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a program is asked to do.

    Attributes:
        urls: the list, a parquet file with a column ``url``.
        rows: how many rows it has.
        out: the folder for what is made, which is not there yet.
        pictures: the files that the URLs lead to, for those that measure without a network.
        pixels: whether images are decoded, resized to 256 with a border and encoded, and their hash and EXIF taken.
        exact: whether JPEGs are decoded at full size.
        processes: workers; None is the program's default.
        in_flight: URLs under way at a time in each worker; None is the program's default.
        retries: further attempts; None is the program's default.
        shards: how many the list is cut into, or more; None is the default of both programs, 10,000 rows a shard.
        words: anything else to say to it.
        name_server: where ours is to look names up, as address and port; None is the system's.

    """

    urls: Path
    rows: int
    out: Path
    pictures: Path
    output_format: str = "webdataset"
    pixels: bool = True
    exact: bool = False
    processes: int | None = 2
    in_flight: int | None = None
    retries: int | None = None
    shards: int | None = 6
    words: tuple[str, ...] = ()
    name_server: str | None = None

    @property
    def shard_rows(self) -> int:
        """Rows of a shard."""
        return min(10_000, max(1, -(-self.rows // (self.shards or 1))))


@dataclass(frozen=True, slots=True)
class Program:
    """One of those compared.

    Attributes:
        command: what to type for a task.
        made: rows and successes, from what it made and what was seen of it; further figures replace those measured.
        versions: of it and of what it stands on.
        environment: variables it needs.
        starts: whether its figures have its start in them.

    """

    command: Callable[[Task], list[str]]
    made: Callable[[Task, Run], dict[str, float]]
    versions: Callable[[], dict[str, str]]
    environment: tuple[tuple[str, str], ...] = ()
    starts: bool = True


def _ours(task: Task) -> list[str]:
    program = shutil.which("aimg2ds", path=str(Path(sys.executable).parent)) or "aimg2ds"
    words = [program, "fetch", str(task.urls), *_common_words(task), "--allow_net", "127.0.0.0/8"]
    words += ["--dns_servers", task.name_server] if task.name_server else []
    return [*words, *(["--exact_decode"] if task.exact else []), *task.words]


def _help(_task: Task) -> list[str]:
    return [shutil.which("aimg2ds", path=str(Path(sys.executable).parent)) or "aimg2ds", "--help"]


def _img2dataset(task: Task) -> list[str]:
    program = str(_img2dataset_environment() / "img2dataset")
    return [program, "--url_list", str(task.urls), *_common_words(task), *task.words]


def _img2dataset_help(_task: Task) -> list[str]:
    return [str(_img2dataset_environment() / "img2dataset"), "--help"]


def _img2dataset_environment() -> Path:
    # It imports imghdr, which Python 3.13 has no more.
    return environment("peer-img2dataset", ["img2dataset==1.47.0"], ("3.11", "3.12", "3.10"))


def _common_words(task: Task) -> list[str]:
    """Return the options that both programs have, spelled alike."""
    words = ["--input_format", "parquet", "--url_col", "url", "--output_folder", str(task.out)]
    words += ["--output_format", task.output_format]
    words += ["--number_sample_per_shard", str(task.shard_rows)] if task.shards else []
    if task.pixels:
        words += ["--image_size", "256", "--resize_mode", "border", "--compute_hash", "sha256"]
    else:
        words += ["--disable_all_reencoding", "True", "--compute_hash", "None", "--extract_exif", "False"]
    given = {"processes_count": task.processes, "thread_count": task.in_flight, "retries": task.retries}
    return words + [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


def _daft(task: Task) -> list[str]:
    return [str(_daft_environment() / "python"), str(HERE / "daft_job.py"), str(task.urls), str(task.out)]


def _daft_environment() -> Path:
    return environment("peer-daft", ["daft==0.7.26"])


def _bare_pixels(task: Task) -> list[str]:
    command = [sys.executable, str(HERE / "bare.py"), "pixels", str(task.pictures)]
    return [*command, *(["--exact"] if task.exact else []), *task.words]


def _bare_requests(task: Task) -> list[str]:
    in_flight = (task.in_flight or 1) * (task.processes or 1)
    return [sys.executable, str(HERE / "bare.py"), "requests", str(task.urls), "--in-flight", str(in_flight)]


def _dataset(task: Task, _run: Run) -> dict[str, float]:
    """Count what lies in a dataset of ours or of img2dataset: an image is a member of an archive, not a status."""
    stats = [json.loads(file.read_bytes()) for file in task.out.glob("*_stats.json")]
    rows, successes = (sum(shard[name] for shard in stats) for name in ("count", "successes"))
    if task.output_format == "webdataset":
        tables = [pq.read_metadata(file).num_rows for file in task.out.glob("*.parquet")]
        rows, successes = sum(tables), sum(_images_in(archive) for archive in task.out.glob("*.tar"))
    return {"rows": rows, "successes": successes}


def _images_in(archive: Path) -> int:
    with tarfile.open(archive) as tar:
        return sum(member.name.endswith(".jpg") and member.size > 0 for member in tar)


def _daft_table(task: Task, _run: Run) -> dict[str, float]:
    columns = [pq.read_table(file, columns=["image"])["image"] for file in task.out.rglob("*.parquet")]
    return {"rows": sum(map(len, columns)), "successes": sum(len(column) - column.null_count for column in columns)}


def _told(_task: Task, run: Run) -> dict[str, float]:
    """Return the figures that a loop of bare.py says of itself, without the start of its process."""
    figures: dict[str, float] = json.loads(run.summary[-1])
    return figures


def _nothing(_task: Task, _run: Run) -> dict[str, float]:
    return {}


def _our_versions() -> dict[str, str]:
    from async_img2ds.images import codec

    packages = ("async-img2ds", "aiohttp", "aiodns", "uvloop", "pyarrow", "orjson")
    return {**versions_in(Path(sys.executable).parent, packages), "images": codec.library(), "commit": commit()}


def _img2dataset_versions() -> dict[str, str]:
    packages = ("img2dataset", "opencv-python-headless", "albumentations", "pyarrow")
    return versions_in(_img2dataset_environment(), packages)


def _daft_versions() -> dict[str, str]:
    return versions_in(_daft_environment(), ("daft", "pyarrow"))


def _bare_versions() -> dict[str, str]:
    return {"python": python_of(Path(sys.executable).parent)}


# albumentations asks PyPI for news at every start unless told not to; nobody's start should wait for that.
_QUIET: Final = (("NO_ALBUMENTATIONS_UPDATE", "1"),)

PROGRAMS: Final = {
    "ours": Program(_ours, _dataset, _our_versions),
    "ours, unchecked": Program(_ours, _dataset, _our_versions, (("PYTHONPATH", str(HERE / "unchecked")),)),
    "our help": Program(_help, _nothing, _our_versions),
    "img2dataset": Program(_img2dataset, _dataset, _img2dataset_versions, _QUIET),
    "img2dataset's help": Program(_img2dataset_help, _nothing, _img2dataset_versions, _QUIET),
    "daft": Program(_daft, _daft_table, _daft_versions),
    "bare pixels": Program(_bare_pixels, _told, _bare_versions, starts=False),
    "bare requests": Program(_bare_requests, _told, _bare_versions, starts=False),
}
