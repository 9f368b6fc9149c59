"""Runs of the program as a user starts them, on a list of small photographs; killed, and gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

import origin
import photographs
from async_img2ds.dataset.shards import ShardFiles, check_shard
from async_img2ds.images import codec
from async_img2ds.storage import LocalStore
from inspection import contents_of, inspect, leftovers, settled
from processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from inspection import Dataset, Row
    from origin import Origin
    from outcome import Rows

__all__ = ["Ended", "Job", "Running", "fresh", "served", "unsafe", "whole"]

# No run here takes more than a few seconds; one that takes this long hangs.
HANGS_S: Final = 90.0
# A worker that has lost its parent ends within two seconds, and a machine may be busy.
ORPHANED_S: Final = 20.0
PICTURE_PIXELS: Final = 96
SEAMS: Final = Path(__file__).parent / "seams"
_LOOK_S: Final = 0.005
_SAID_CHARACTERS: Final = 600
_TOLD_MAX: Final = 5


@dataclass(frozen=True)
class Job:
    """A list, and how the program is asked to fetch it into *out*."""

    urls: Path
    out: str
    temporary: Path
    rows_per_shard: int
    output_format: str = "webdataset"
    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    again: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Return what is typed; if rows of a dataset that is there are done *again*, the command and words for that."""
        if self.again:
            command, *words = self.again
            return [sys.executable, "-m", "async_img2ds", command, self.out, *words, "--progress", "none"]
        options = {
            "output_folder": self.out,
            "output_format": self.output_format,
            "number_sample_per_shard": str(self.rows_per_shard),
            "image_size": "64",
            "allow_net": "127.0.0.0/8",
            "progress": "none",
        }
        spelled = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [sys.executable, "-m", "async_img2ds", "fetch", str(self.urls), *spelled, *self.words]

    def with_variables(self, **variables: str) -> Job:
        """Return it with further variables of the environment."""
        return replace(self, variables={**self.variables, **variables})

    def start(self, before: Sequence[str] = ()) -> Running:
        """Start it in a process group of its own, *before* standing before the command."""
        path = os.pathsep.join([str(SEAMS), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"TMPDIR": str(self.temporary), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self.temporary.mkdir(exist_ok=True)
        said = self.temporary.with_name(f"{self.temporary.name}.said")
        with said.open("wb") as log:
            process = subprocess.Popen(
                [*before, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own, **self.variables},
                start_new_session=True,
            )
        return Running(process, said)

    def run(self, before: Sequence[str] = ()) -> Ended:
        """Run it until it ends."""
        return self.start(before).wait()


@dataclass(frozen=True)
class Ended:
    """How a run ended: its status, below zero if it was killed by that signal, and the end of what it said."""

    status: int
    said: str
    hung: bool = False

    def __str__(self) -> str:
        how = f"hung for {HANGS_S:g} s" if self.hung else f"ended with {self.status}"
        return f"{how}, and said: {self.said[-_SAID_CHARACTERS:].strip() or 'nothing'}"


class Running:
    """A run that is under way."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self._process = process
        self._said = said

    @property
    def pid(self) -> int:
        """The process that was started, and its group."""
        return self._process.pid

    def wait(self, seconds: float = HANGS_S) -> Ended:
        """Wait for its end and for those that it has started; one that hangs is killed."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill_all()
            self._process.wait()
            return Ended(self._process.returncode, self._words(), hung=True)
        return Ended(self._process.returncode, self._words())

    def ended_within(self, seconds: float) -> bool:
        """Wait for *seconds* at the most; return whether it has ended by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return True
        return False

    def kill_all(self) -> None:
        """Kill it and all that it has started, at one moment."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def outlived_by(self, seconds: float = ORPHANED_S) -> list[int]:
        """Wait until no process of its group is left; return those that are after *seconds*, which are killed then."""
        end = time.monotonic() + seconds
        while members := _members(self.pid):
            if time.monotonic() > end:
                self.kill_all()
                return members
            time.sleep(_LOOK_S)
        return []

    def _words(self) -> str:
        return self._said.read_text(errors="replace")


def _members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == group and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


@contextmanager
def served(folder: Path) -> Iterator[Origin]:
    """Serve small photographs from nginx, with a log, until the end of the block."""
    pictures = folder / "pictures"
    if not pictures.exists():
        photographs.write_all(folder / "large")
        pictures.mkdir()
        for path in sorted((folder / "large").glob("*.jpg"))[:12]:
            with Image.open(path) as image:
                small = image.convert("RGB")
            small.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
            small.save(pictures / path.name, "JPEG", quality=85)
        shutil.rmtree(folder / "large")
    with origin.serve(pictures, logged=True) as server:
        yield server


def listed(server: Origin, rows: int) -> list[str]:
    """Return URLs of *rows* rows, most of them alive: some are not there, some refused, some no images."""
    names = sorted(path.name for path in server.pictures.iterdir())
    dead = {
        1: lambda number: server.url(f"not-there.jpg?{number}"),
        # An address each: one that refuses again and again is set aside, for how long is a matter of time.
        4: lambda number: f"http://127.{3 + number // 60_000}.{number // 250 % 240}.{number % 250 + 1}:9/{number}.jpg",
        7: lambda number: server.url(f"page.jpg?{number}"),
        11: lambda number: server.url(f"gone?{number}"),
    }
    alive = lambda number: server.url(f"{names[number % len(names)]}?{number}")  # noqa: E731  one of a kind with those above
    return [dead.get(number % 20, alive)(number) for number in range(rows)]


def keys(rows: int, rows_per_shard: int) -> list[str]:
    """Return the keys of *rows* rows, as the formats' description says it."""
    digits = len(str(rows_per_shard - 1))
    return [f"{number // rows_per_shard:05d}{number % rows_per_shard:0{digits}d}" for number in range(rows)]


def golden(job: Job, urls: Sequence[str]) -> dict[str, Row]:
    """Return the rows that *job* makes when nothing goes wrong, by key; *urls* are those of its list."""
    ended = job.run()
    contents = contents_of(Path(job.out))
    dataset = inspect(contents)
    rows = dataset.rows
    told = dict(zip(keys(len(urls), job.rows_per_shard), urls, strict=True))
    if ended.status or dataset.defects or {key: row[0] for key, row in rows.items()} != told:
        raise AssertionError(f"a run without faults {ended}; {dataset.defects[:3]}; {len(rows)} rows of {len(urls)}")
    return rows


def fresh(folder: Path) -> Path:
    """Return *folder*, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def unsafe(folder: Path, expected: Mapping[str, Row], verified: Collection[str] = ()) -> tuple[Dataset, list[str]]:
    """Return what is committed at this moment, and what is wrong with it, by the program's own eyes and by others'.

    The program's own need not look again at the shards that are *verified*.
    """
    contents = contents_of(folder)
    dataset = inspect(contents)
    defects = list(dataset.defects)
    defects += [f"{key} is {row}, and not as expected" for key, row in dataset.rows.items() if expected.get(key) != row]
    for stem, shard in dataset.shards.items():
        missing = sum(1 for key in expected if key.startswith(stem) and key not in shard)
        defects += [f"{stem} is finished without {missing} of its rows"] if missing else []
    return dataset, [*defects[:_TOLD_MAX], *_seen_by_program(folder, contents, dataset, verified)]


def _seen_by_program(
    folder: Path, contents: Mapping[str, bytes], dataset: Dataset, verified: Collection[str] = ()
) -> list[str]:
    """Return what the program's own verification finds wrong with finished shards, images decoded."""
    codec.prepare()
    found = []
    for stem in sorted(set(dataset.shards).difference(verified)):
        mine = {name.partition("/")[0] for name in dataset.files if name.partition("/")[0].startswith(stem)}
        sizes = {name: len(contents[name]) if name in contents else None for name in mine}
        _, defects, _ = check_shard(LocalStore(folder), ShardFiles(stem, sizes), deep=True)
        found += [f"verify: {defect}" for defect in defects]
    return found[:_TOLD_MAX]


def whole(job: Job, expected: Mapping[str, Row], verified: Collection[str] = ()) -> tuple[Rows, list[str]]:
    """Return what is wrong with a folder after a run that has ended well: rows, files that should not be there."""
    folder = Path(job.out)
    contents = contents_of(folder)
    dataset = inspect(contents)
    rows, defects = settled(dataset, expected)
    defects += [f"{name} was left in the folder" for name in leftovers(contents, dataset)[:5]]
    empty = [path.name for path in folder.iterdir() if path.is_dir() and path.name not in dataset.shards]
    defects += [f"the folder {name} was left" for name in empty]
    defects += [f"{path.name} was left among temporary files" for path in residue(job)]
    return rows, [*defects, *_seen_by_program(folder, contents, dataset, verified)]


def residue(job: Job) -> list[Path]:
    """Return what lies in the folder of temporary files, but for what processes of one user share by design."""
    return [path for path in job.temporary.iterdir() if not path.name.startswith(("aimg2ds-pauses", "aimg2ds-hosts"))]
