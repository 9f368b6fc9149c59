"""Workers, their parent and all of them killed at random moments, several times a run, and gone on with until done.

After every kill what is committed must be whole and as it was; what is committed is not fetched again; and at the end
every row is in one shard, as if nothing had happened, and nothing else is left.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import runs
from inspection import identities
from outcome import Outcome, Trial
from processes import workers_of
from runs import Job, fresh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inspection import Dataset, Row
    from origin import Origin
    from runs import Running

__all__ = ["kills"]

FORMATS: Final = ("webdataset", "parquet", "files", "tfrecord")
ROWS_PER_SHARD: Final = 100
KILLS: Final = 5
# From the start of a run to a kill: before there is a worker, while it fetches, while it commits.
KILL_AFTER_S: Final = (0.2, 1.8)
# A run that does not end well within so many starts never will.
STARTS_MAX: Final = 12
# A shard over which so many workers have died one after the other is given up, and the run says so.
GIVEN_UP_AFTER: Final = 3
INCOMPLETE: Final = 3
WORKER, PARENT, GROUP = "a worker", "the parent", "the group"


def kills(folder: Path, seeds: range, rows: int = 2000) -> Outcome:
    """Try *seeds* on a list of *rows* rows."""
    began = time.monotonic()
    with runs.served(folder) as server:
        urls = runs.listed(server, rows)
        (folder / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
        job = Job(folder / "urls.txt", str(fresh(folder / "golden")), folder / "temporary", ROWS_PER_SHARD)
        expected = runs.golden(job, urls)
        trials = [_Course(folder, server, expected, seed).run() for seed in seeds]
    return Outcome.of("kills", trials, time.monotonic() - began, seeded=True)


@dataclass
class _Course:
    """What happens with one seed."""

    folder: Path
    server: Origin
    expected: Mapping[str, Row]
    seed: int
    defects: list[str] = field(default_factory=list)
    killed: int = 0
    started: list[Running] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    verified: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311  a course of events
        words = ["--processes_count", "2"]
        words += ["--ordered", "true"] if self.chance.random() < 1 / 3 else []
        self.job = Job(
            self.folder / "urls.txt",
            str(self.folder / "out"),
            fresh(self.folder / f"temporary-{self.seed}"),
            ROWS_PER_SHARD,
            FORMATS[self.seed % len(FORMATS)],
            tuple(words),
        )
        self.out = fresh(Path(self.job.out))
        self.before: dict[str, tuple[int, int, str]] = {}
        self.committed: set[str] = set()

    def run(self) -> Trial:
        """Start, kill and go on until the program says that it is done."""
        for _ in range(STARTS_MAX):
            killed, run = self.killed, self.job.start()
            self._kill_some(run)
            ended = run.wait()
            self.started.append(run)
            if self.chance.random() < 1 / 2:  # or it is gone on with at once, while workers still end
                self.defects += self._orphans([run])
            if ended.status == 0:
                break
            if ended.hung or ended.status not in self._allowed(deaths=self.killed - killed):
                self.defects.append(f"a run {ended}")
                break
        else:
            self.defects.append(f"it was not done after {STARTS_MAX} starts")
        self.defects += self._orphans(self.started)
        self._look("the end")
        rows, defects = runs.whole(self.job, self.expected, self.verified)
        figures = {"kills": self.killed, "requests again": self._asked_again()}
        return Trial(self._name(), (*self.defects, *defects), rows=rows, figures=figures)

    def _name(self) -> str:
        return f"kills seed {self.seed} ({' '.join([self.job.output_format, *self.job.words])})"

    def _allowed(self, *, deaths: int) -> set[int]:
        """Return how a run may end in which so many were killed."""
        return {-signal.SIGKILL, INCOMPLETE} if deaths >= GIVEN_UP_AFTER else {-signal.SIGKILL} if deaths else set()

    def _asked_again(self) -> int:
        """Return how many requests were made for what had been asked for before."""
        return self.requests.total() - len(self.requests)

    def _kill_some(self, run: Running) -> None:
        """Kill what chance says while it runs, until it ends or there was enough."""
        while self.killed < KILLS:
            if run.ended_within(self.chance.uniform(*KILL_AFTER_S)):
                return
            target = self.chance.choice([WORKER, WORKER, PARENT, GROUP])
            workers = workers_of(run.pid)
            if target == WORKER and not workers:
                continue
            self.killed += 1
            with suppress(ProcessLookupError):
                if target == GROUP:
                    run.kill_all()
                else:
                    os.kill(self.chance.choice(workers) if target == WORKER else run.pid, signal.SIGKILL)
            self._look(f"kill {self.killed}, of {target},")
            if target != WORKER:
                return

    def _orphans(self, runs: Sequence[Running]) -> list[str]:
        """Say which of *runs* are outlived for too long by a process that they have started."""
        return [f"{len(left)} processes outlived a run by far" for run in runs if (left := run.outlived_by())]

    def _look(self, when: str) -> None:
        """See that what is committed is safe, that it is what it was, and that it was not fetched again."""
        # In this order: all that was asked for what is committed now is in the log by now.
        dataset, defects = runs.unsafe(self.out, self.expected, self.verified)
        asked = self.server.requests()
        self.server.forget_requests()
        again = sum(1 for path in asked if self.server.url(path) in self.committed)
        if again:
            self.defects.append(f"before {when} {again} rows were asked for whose shard was committed")
        self.defects += [f"after {when} {defect}" for defect in defects]
        self._compare(dataset, when)
        self.requests.update(asked)
        self.verified |= dataset.shards.keys()
        self.committed = dataset.urls
        self.before = identities(self.out, dataset.files)

    def _compare(self, dataset: Dataset, when: str) -> None:
        """See that what was committed before is still there, untouched."""
        now = identities(self.out, frozenset(self.before))
        changed = sorted(name for name, was in self.before.items() if now.get(name) != was)
        gone = sorted(set(self.before) - dataset.files)
        self.defects += [f"before {when} {name}, which was committed, was changed" for name in changed[:3]]
        self.defects += [f"before {when} {name}, which was committed, was taken away" for name in gone[:3]]
