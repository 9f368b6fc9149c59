"""Everything killed at each call by which the commit of a shard reaches the disk, and gone on with from there.

The calls are found by a run without a fault. After each kill what is committed must be whole; the same command then
ends well, and all is as if nothing had happened.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import runs
import traces
from outcome import Outcome, Trial
from runs import Job, fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from inspection import Row
    from runs import Ended
    from traces import Call, Point

__all__ = ["FORMATS", "Choice", "Scene", "in_scenes", "points"]

FORMATS: Final = ("webdataset", "files", "parquet", "tfrecord")
ROWS: Final = 12
# Of the calls of a kind that are made for each piece of a file, so many are tried, evenly spread.
SAMPLED: Final = {"write": 8, "writev": 8, "pwrite64": 8, "openat": 12}
# What the attempts of a run call their files, where processes are counted and each counts its attempts.
FIRST_ATTEMPT: Final = "00010001"
LATER_ATTEMPTS: Final = ("00010002", "00010003", "00020001", "00020002", "00030001")


def points(folder: Path, choice: Choice, formats: Sequence[str] = FORMATS) -> Outcome:
    """Try the points of a commit in *formats*, as many as are the *choice* in each."""
    began = time.monotonic()
    trials = in_scenes(folder, formats, lambda scene: [scene.kill(point) for point in choice.of(scene.points())])
    return Outcome.of("points", trials, time.monotonic() - began, seeded=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which points are tried: *most*, drawn by *seed*, or all; if *calls* are named, of these only."""

    seed: int = 0
    most: int | None = None
    calls: tuple[str, ...] = ()

    def of(self, found: Sequence[Point]) -> list[Point]:
        """Return those of *found* that are tried, in their order."""
        named = [point for point in found if not self.calls or point.call.name in self.calls]
        if self.most is None or self.most >= len(named):
            return named
        drawn = random.Random(self.seed).sample(range(len(named)), self.most)  # noqa: S311  which are tried
        return [named[at] for at in sorted(drawn)]


def in_scenes(folder: Path, formats: Sequence[str], tried: Callable[[Scene], list[Trial]]) -> list[Trial]:
    """Return what is *tried* in a run of one shard for each of *formats*, two of them at a time."""
    with runs.served(folder) as server, ThreadPoolExecutor(2) as pool:
        urls = runs.listed(server, ROWS)
        (folder / "urls.txt").write_text("".join(f"{url}\n" for url in urls))

        def in_scene(output_format: str) -> list[Trial]:
            own = fresh(folder / output_format)
            # A host that refuses is not asked again, as that would be waited for.
            words = ("--processes_count", "1", "--retries", "0")
            job = Job(folder / "urls.txt", str(own / "out"), own / "temporary", ROWS, output_format, words)
            return tried(Scene(own, job, runs.golden(job, urls)))

        return [trial for trials in pool.map(in_scene, formats) for trial in trials]


@dataclass(frozen=True)
class Scene:
    """A run of one shard, whose calls are the same each time."""

    folder: Path
    job: Job
    expected: Mapping[str, Row]

    def begin(self) -> None:
        """Have the folder be as it is before the run."""
        shutil.rmtree(self.out, ignore_errors=True)

    def unsafe(self) -> list[str]:
        """Return what is wrong with what is committed at this moment."""
        return runs.unsafe(self.out, self.expected)[1]

    @property
    def out(self) -> Path:
        """Where its dataset lies."""
        return Path(self.job.out)

    def points(self) -> list[Point]:
        """Return the calls on the folder: those of its worker, and then those of its parent."""
        found = []
        for by_parent in (False, True):
            ended, calls = self._traced(by_parent=by_parent)
            assert ended.status == 0, ended
            found += _sampled(traces.points(calls, self.out, by_parent=by_parent))
        return found

    def kill(self, point: Point) -> Trial:
        """Kill everything at *point*, look, and go on."""
        ended, _ = self.hurt(point, "signal=SIGKILL")
        defects = [] if ended.status == -signal.SIGKILL else [f"it was not killed but {ended}"]
        return self.go_on(f"killed at {point}", [*defects, *self.unsafe()])

    def hurt(self, point: Point, fault: str, *, lasting: bool = False) -> tuple[Ended, list[Call]]:
        """Run with *fault* at *point*, as strace has it; return how that ended, and the calls that were seen.

        It is *lasting* if it is there for all attempts, and not for the first one only. That can be had where what an
        attempt calls its files is in the call; any other is lasting.
        """
        # The one call that has no path is not seen where paths are looked for.
        paths: Collection[str] = () if point.call.name == "sync" else point.paths
        if lasting:
            paths = {path.replace(FIRST_ATTEMPT, name) for path in paths for name in [FIRST_ATTEMPT, *LATER_ATTEMPTS]}
        inject = f"{point.call.name}:{fault}:when={point.number}"
        return self._traced(paths, inject, by_parent=point.by_parent)

    def go_on(self, name: str, defects: Sequence[str]) -> Trial:
        """Run the same command again, and see that all is well then."""
        ended = self.job.run()
        again = [] if ended.status == 0 else [f"the run after it {ended}"]
        rows, last = runs.whole(self.job, self.expected)
        return Trial(f"{self.job.output_format}, {name}", (*defects, *again, *last), rows=rows)

    def _traced(self, paths: Collection[str] = (), inject: str = "", *, by_parent: bool) -> tuple[Ended, list[Call]]:
        """Run from the beginning, and have the calls of the worker told, or those of its parent."""
        self.begin()
        fresh(self.job.temporary)
        names, trace = fresh(self.folder / "names"), self.folder / "trace"
        trace.unlink(missing_ok=True)
        job = self.job.with_variables(CHAOS_NAMES=str(names))
        strace = traces.command(trace, paths, inject, children=not by_parent)
        if by_parent:
            run = job.start(strace)
        else:
            script = traces.worker_script(self.folder / "worker", strace)
            run = job.with_variables(CHAOS_WORKER=str(script)).start()
        ended = run.wait()
        if orphans := run.outlived_by():
            raise AssertionError(f"{len(orphans)} processes outlived a run that {ended}")
        return ended, traces.read(trace)


def _sampled(found: Sequence[Point]) -> list[Point]:
    """Return *found*, of some kinds of calls only so many as SAMPLED says, evenly spread."""
    kept = []
    for name in dict.fromkeys(point.call.name for point in found):
        of_kind = [point for point in found if point.call.name == name]
        most = min(len(of_kind), SAMPLED.get(name, len(of_kind)))
        kept += [of_kind[at * len(of_kind) // most] for at in range(most)]
    return sorted(kept, key=found.index)
