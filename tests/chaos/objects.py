"""Uploads to an object store that fail at random requests, or are done though they seem to have failed, or are killed.

No object is seen of which half is missing, no stats file before what it tells of, and at the end there are the rows of
all shards and nothing else: no further objects, and no uploads that were begun and never ended.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import runs
import s3
from inspection import inspect, leftovers, settled
from outcome import Outcome, Trial
from runs import Job, fresh
from s3 import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from inspection import Row
    from s3 import Bucket, Proxy, Request

    Plan = Callable[[Request], Fault | None]

__all__ = ["killed_while_uploading", "objects"]

FORMATS: Final = ("webdataset", "parquet", "tfrecord", "files")
ROWS: Final = 36
ROWS_PER_SHARD: Final = 12
# A tar is of four of them or so.
PART_BYTES: Final = 16_384
WORDS: Final = ("--processes_count", "2", "--retries", "0")
RUNS_MAX: Final = 8
DONE, INCOMPLETE = 0, 3
# Which requests go wrong in a course: some of all that write, or each of one kind about one key, for a whole run.
NOW_AND_THEN: Final = 0.2


def objects(folder: Path, seeds: range) -> Outcome:
    """Try *seeds*."""
    began = time.monotonic()
    with _at_store(folder) as (bucket, proxy, expected):
        trials = [_Course(folder, bucket, proxy, expected, seed).run() for seed in seeds]
    return Outcome.of("objects", trials, time.monotonic() - began, seeded=True)


def killed_while_uploading(folder: Path) -> Trial:
    """Kill a run when a part of a tar has been uploaded, and go on with it."""
    with _at_store(folder) as (bucket, proxy, expected):
        course = _Course(folder, bucket, proxy, expected, seed=0)
        plans = iter([course.killing(Fault.KILL_AFTER, "UploadPart")])
        return course.run(lambda: next(plans, _nothing))


@contextmanager
def _at_store(folder: Path) -> Iterator[tuple[Bucket, Proxy, Mapping[str, Row]]]:
    """Run all servers during the block, with a list; yield what becomes of its rows when nothing goes wrong."""
    with runs.served(folder) as server, s3.serving() as (bucket, proxy):
        urls = runs.listed(server, ROWS)
        (folder / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
        out = str(fresh(folder / "golden"))
        yield (
            bucket,
            proxy,
            runs.golden(Job(folder / "urls.txt", out, folder / "temporary", ROWS_PER_SHARD, words=WORDS), urls),
        )


@dataclass
class _Course:
    """What happens with one seed."""

    folder: Path
    bucket: Bucket
    proxy: Proxy
    expected: Mapping[str, Row]
    seed: int
    defects: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311  a course of events
        self.prefix = f"seed-{self.seed}"
        variables = {
            **s3.CREDENTIALS,
            "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
            # s3fs tries again itself; what both do together takes minutes.
            "AWS_MAX_ATTEMPTS": "1",
            "CHAOS_PART_BYTES": str(PART_BYTES),
        }
        self.job = Job(
            self.folder / "urls.txt",
            f"s3://{s3.BUCKET}/{self.prefix}",
            fresh(self.folder / f"temporary-{self.seed}"),
            ROWS_PER_SHARD,
            FORMATS[self.seed % len(FORMATS)],
            WORDS,
            variables,
        )

    def run(self, planned: Callable[[], Plan] | None = None) -> Trial:
        """Run with the faults that are *planned*, or drawn, and then without, until it ends well."""
        for number in range(RUNS_MAX):
            self.proxy.plan, self.proxy.done = (planned or self._plan)(), self._look
            if number >= RUNS_MAX // 2:
                self.proxy.plan = _nothing
            before = self.bucket.versions(self.prefix)
            committed = inspect(self.bucket.contents(self.prefix)).files
            run = self.job.start()
            self.proxy.kill = run.kill_all
            ended = run.wait()
            if left := run.outlived_by():
                self.defects.append(f"{len(left)} processes outlived a run that {ended}")
            now = self.bucket.versions(self.prefix)
            changed = sorted(name for name in committed if now.get(name) != before[name])
            self.defects += [f"{name}, which was committed, was changed" for name in changed[:3]]
            if ended.status == DONE:
                break
            if ended.hung or ended.status not in {INCOMPLETE, -signal.SIGKILL}:
                self.defects.append(f"a run {ended}")
        else:
            self.defects.append(f"it was not done after {RUNS_MAX} runs; the last {ended}")
        return self._at_the_end()

    def _at_the_end(self) -> Trial:
        self.proxy.plan, self.proxy.done = _nothing, _nothing
        contents = self.bucket.contents(self.prefix)
        dataset = inspect(contents)
        rows, defects = settled(dataset, self.expected)
        defects += [f"{name} was left in the store" for name in leftovers(contents, dataset)]
        defects += [f"{name} was begun to be uploaded, and is pending" for name in self.bucket.pending(self.prefix)]
        defects += [f"{path.name} was left among temporary files" for path in runs.residue(self.job)]
        name = f"objects seed {self.seed} ({self.job.output_format}; {', '.join(sorted(self.faults))})"
        return Trial(name, (*self.defects, *defects), rows, {"faults": self.faults.total()})

    def _plan(self) -> Plan:
        """Return which requests of a run go wrong: now and then one, one that kills, or all of a kind about a key."""
        way = self.chance.random()
        if way < 1 / 3:
            return self._lasting(self.chance.choice([Fault.RESET, Fault.RESET_AFTER, Fault.ERROR, Fault.ERROR_AFTER]))
        if way < 2 / 3:
            return self.killing(self.chance.choice([Fault.KILL, Fault.KILL_AFTER]), "", self.chance.randrange(1, 25))
        return self._now_and_then

    def _now_and_then(self, request: Request) -> Fault | None:
        if not request.writes or self.chance.random() > NOW_AND_THEN:
            return None
        fault = self.chance.choice([Fault.RESET, Fault.RESET_AFTER, Fault.ERROR, Fault.ERROR_AFTER])
        return self._told(request, fault)

    def killing(self, fault: Fault, kind: str, number: int = 1) -> Plan:
        """Return a plan that kills at the request of this *number* among those of a *kind*, or among all that write."""
        left = number

        def plan(request: Request) -> Fault | None:
            nonlocal left
            left -= request.writes and request.kind.startswith(kind)
            if left or not request.writes:
                return None
            left = -1
            return self._told(request, fault)

        return plan

    def _lasting(self, fault: Fault) -> Plan:
        ending = self.chance.choice(["_stats.json", ".parquet", ".tar", ".tfrecord", ".jpg"])
        stem = f"{self.prefix}/0000{self.chance.randrange(ROWS // ROWS_PER_SHARD)}"
        kind = self.chance.choice(["PutObject", "CompleteMultipartUpload", "UploadPart", "CreateMultipartUpload", ""])

        def plan(request: Request) -> Fault | None:
            named = request.key.startswith(stem) and request.key.endswith(ending)
            return self._told(request, fault) if request.writes and named and request.kind.startswith(kind) else None

        return plan

    def _told(self, request: Request, fault: Fault) -> Fault:
        self.faults[f"{request.kind} {fault}"] += 1
        return fault

    def _look(self, request: Request) -> None:
        """See after each request that was done that all that counts as finished is whole."""
        dataset = inspect(self.bucket.contents(self.prefix))
        self.defects += [f"after {request.kind} {request.key}: {defect}" for defect in dataset.defects[:2]]


def _nothing(_: Request) -> None:
    """Have nothing go wrong."""
