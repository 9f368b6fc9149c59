"""Runs of the program in a world of their own: hours of them in seconds, and each seed the same every time.

``python tests/simulation/simulate.py --seeds N`` plays N of them and checks each; ``--seed X --trace`` plays one and
prints what happened. Scheduler, breaker, retries, limits, supervisor, writers and commits are the program's own; hosts,
time, chance, the pipe to a worker and what kills it are the simulation's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from async_img2ds.distributors.base import ShardFeed, Stop, obeying
from async_img2ds.distributors.crew import Crew
from async_img2ds.journal import JOURNAL, Journal, drop_journals, journals_in
from async_img2ds.options import Options
from async_img2ds.outputs.base import open_writer
from async_img2ds.policy.shards import Naming, packed
from async_img2ds.records import Done, Lost, Shard
from async_img2ds.worker import work as works
from mistakes import MISTAKES
from scripts import written
from virtual_loop import Standstill, VirtualLoop
from workers import Machine, SimStore
from world import World, image_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from async_img2ds.outputs.base import Output, ShardWriter
    from async_img2ds.records import Report, Sample
    from scripts import Line, Script

__all__ = ["Played", "play", "play_all"]

# Nothing the program waits for takes longer, but for what the script says does.
QUIET_MOST_S: Final = 300.0
LOOK_S: Final = 30.0
CALL_MOST_S: Final = 0.02
# Where it costs nothing to see that files are on disk.
MEMORY: Final = Path("/dev/shm")  # noqa: S108  folders in it are made by tempfile


@dataclass(slots=True)
class Played:
    """What came of a seed: *wrong* is empty if all was as it must be."""

    seed: int
    wrong: list[str] = field(default_factory=list)
    digest: str = ""
    virtual_s: float = 0.0
    most_s: float = 0.0
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def play(script: Script, tell: Callable[[str], None] | None = None) -> Played:
    """Play *script*, and pass each event to *tell*."""
    played = _play(script, tell)
    with warnings.catch_warnings():  # what was killed has closed nothing
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return played


def _play(script: Script, tell: Callable[[str], None] | None) -> Played:
    played = Played(script.seed, rows=script.lines)
    chance = Random(f"threads {script.seed}")
    loop = VirtualLoop(lambda: chance.uniform(0.0, CALL_MOST_S))
    world = World(script, loop, tell)
    played.most_s = script.longest_s()
    loop.end_at(played.most_s)
    loop.connects = world.connected
    loop.set_exception_handler(lambda _, told: world.breach(f"{told['message']}: {told.get('exception')!r}"))
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None))
        clock = SimpleNamespace(time=world.unix_time, monotonic=loop.time)
        for module in ("async_img2ds.worker.shard", "async_img2ds.fetch.fetcher"):
            stack.enter_context(mock.patch(f"{module}.time", clock))
        observed = _Observer(world)
        stack.enter_context(mock.patch("async_img2ds.worker.shard.open_writer", observed.open))
        stack.enter_context(mock.patch.object(Journal, "keep", observed.keep_with(Journal.keep)))
        machine = Machine(world)
        told = _Told()
        try:
            loop.run_until_complete(_run_all(script, world, machine, Path(name), told))
            _check(script, world, machine, Path(name), told)
        except Standstill as standstill:
            world.breach(str(standstill))
        except Exception as error:  # noqa: BLE001  whatever it is, it is not as it must be
            world.breach(f"the run broke: {error!r}")
        finally:
            played.wrong, played.digest, played.virtual_s = list(world.wrong), world.digest(), loop.time()
            played.counts = world.counts.copy()
            _bury(loop, machine)
    loop.close()
    return played


@dataclass(slots=True)
class _Told:
    """What workers have reported."""

    done: Counter[int] = field(default_factory=Counter)
    lost: dict[int, str] = field(default_factory=dict)

    def take_in(self, report: Report) -> None:
        match report:
            case Done(shard_id=shard_id):
                self.done[shard_id] += 1
            case Lost(shard_id=shard_id, reason=reason):
                self.lost[shard_id] = reason
            case _:
                pass


class _Observer:
    """Sees every sample as it is written."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines = {line.url: line for shard in world.script.shards for line in shard}

    async def open(self, output_format: str, output: Output) -> ShardWriter:
        return _Observed(await open_writer(output_format, output), self)

    def keep_with(self, keep: Callable[[Journal, Sample], Awaitable[None]]) -> Callable[[Journal, Sample], Any]:
        """Return a *keep* that sees samples at the moment they are made; they may be written long after."""

        async def kept(journal: Journal, sample: Sample) -> None:
            self._world.close_look(self._lines[sample.row.url], str(sample.error_class or ""))
            await keep(journal, sample)

        return kept

    def see(self, sample: Sample) -> None:
        kind = str(sample.error_class or "")
        self._world.event(f"sample {sample.row.key} {kind} {sample.attempts}")
        line = self._lines[sample.row.url]
        if self._world.is_excused(line.url, kind) and kind not in line.classes:
            self._world.counts["misjudged"] += 1
        elif kind not in line.classes:
            self._world.breach(f"{line.url} came to {kind or 'an image'}; it may come to {sorted(line.classes)}")
        self._world.at_moment("sample")


class _Observed:
    """A writer whose samples are seen."""

    def __init__(self, writer: ShardWriter, observer: _Observer) -> None:
        self._writer = writer
        self._observer = observer

    async def write(self, sample: Sample) -> None:
        self._observer.see(sample)
        await self._writer.write(sample)

    async def finish(self) -> None:
        await self._writer.finish()


async def _run_all(script: Script, world: World, machine: Machine, folder: Path, told: _Told) -> None:
    """Run until the list is done: once, and again after each time that it was stopped."""
    watch = asyncio.create_task(_watch(world))
    stops = [*script.stops, None]
    for number, stop_at in enumerate(stops):
        world.event(f"run {number + 1}")
        store = SimStore(folder / "out", world)
        store.prepare()
        run = asyncio.create_task(_run(script, world, machine, store, told, stop_at))
        await asyncio.wait((run, watch), return_when=asyncio.FIRST_COMPLETED)
        if not run.done():  # the watch has seen that nothing goes on
            run.cancel()
            return
        store.close()
        run.result()
        if run.result():
            break
    watch.cancel()
    await asyncio.sleep(1.0)
    if left := [task for task in world.loop.tasks_of(None) if task is not asyncio.current_task()]:
        world.breach(f"the run has ended and left {len(left)} tasks: {left[0]!r}")


async def _run(
    script: Script, world: World, machine: Machine, store: SimStore, told: _Told, stop_at: float | None
) -> bool:
    """Have what is not finished done, as ``run_local`` does; return whether that was to the end of the list."""
    options = Options.of(**script.options, output_folder=str(store._root))
    naming = Naming(options.input.number_sample_per_shard, options.output.oom_shard_count)
    finished = {Naming.finished_shard(name) for name, _ in store.names()}
    # As at the start of every run.
    drop_journals(store, [stem for stem in journals_in(store) if int(stem) in finished])
    shards = [_shard(number, lines) for number, lines in enumerate(script.shards) if number not in finished]
    assert naming.rows_per_shard == script.options["number_sample_per_shard"]
    feed, stop = ShardFeed(_listed(shards, world), options.run.max_shard_retry), Stop()
    crew = Crew(machine.start, feed, told.take_in)
    stopping = [] if stop_at is None else _asking(stop, world, stop_at)
    try:
        async with obeying(stop, feed, options.run.grace_s, crew.drop):
            world.processes = await feed.look_ahead(script.processes) or 1
            machine_of = works.Machine(world.processes, script.cores)
            await crew.run(works.ShardWork(options, store, machine_of, world.rules), world.processes)
    finally:
        feed.close()
        for timer in stopping:
            timer.cancel()
    if feed.error is not None:
        raise feed.error
    return not stop.drain.is_set()


def _asking(stop: Stop, world: World, at: float) -> list[asyncio.TimerHandle]:
    """Ask for an end at a time, and if it is an even second once more soon after."""

    def ask() -> None:
        world.event("asked to stop")
        stop.ask()

    return [world.loop.call_later(at, ask), *([world.loop.call_later(at + 1.5, ask)] if int(at) % 2 == 0 else [])]


def _shard(number: int, lines: Sequence[Line]) -> Shard:
    repeats = frozenset(index for index, line in enumerate(lines) if line.is_repeat)
    table = pa.table({"url": pa.array([line.url for line in lines], pa.string())})
    return Shard(number, packed(table), len(lines), repeats=repeats)


def _listed(shards: list[Shard], world: World) -> Iterator[Any]:
    """Yield shards, or futures of them where the list takes its time."""
    for shard in shards:
        if not world.script.slow_list_s:
            yield shard
            continue
        future = world.loop.create_future()
        world.loop.call_later(world.script.slow_list_s, future.set_result, shard)
        yield future


async def _watch(world: World) -> None:
    """End when nothing has happened for longer than anything may take."""
    script = world.script
    while True:
        await asyncio.sleep(LOOK_S)
        now = world.loop.time()
        waits = [end for begin, end in (*script.outages, *script.shortages) if begin <= now]
        since = max([world.last_event, *waits])
        if now - since > QUIET_MOST_S + max(script.starts.values(), default=0.0):
            world.breach(f"nothing has happened for {now - since:.0f} s")
            return


def _bury(loop: VirtualLoop, machine: Machine) -> None:
    """Have all tasks end that are left."""
    loop.end_at(float("inf"))
    loop.set_exception_handler(lambda _loop, _context: None)  # what the dead complain of
    logging.disable(logging.CRITICAL)
    try:
        for _ in range(20):
            for link in machine.links:
                loop.bury(link.process)
            for task in loop.tasks_of(None):
                task.cancel()
            if not (left := asyncio.all_tasks(loop)):
                break
            with suppress(Standstill):
                loop.run_until_complete(_wait_for(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        logging.disable(logging.NOTSET)


async def _wait_for(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=10)


def _check(script: Script, world: World, machine: Machine, folder: Path, told: _Told) -> None:
    """See that every row is in one shard, that no other is lost than the poisonous one, and that nothing is left."""
    _check_losses(script, world, told)
    out = folder / "out"
    names = {path.name for path in out.iterdir()}
    if left := sorted(name for name in names if name.endswith(".partial")):
        world.breach(f"left behind: {left}")
    committed = {Naming.finished_shard(name) for name in names} - {None}
    if kept := sorted(
        name for name in names if name.endswith(JOURNAL) and int(name.removesuffix(JOURNAL)) in committed
    ):
        world.breach(f"journals of finished shards are kept: {kept}")
    if missing := set(range(len(script.shards))) - committed - set(told.lost):
        world.breach(f"shards {missing} are nowhere")
    if not script.stops and committed != set(told.done):
        world.breach(f"shards {committed ^ set(told.done)} are done or said to be, and not both")
    if both := committed & set(told.lost):
        world.breach(f"shards {both} are lost and committed")
    for shard_id in sorted(number for number in committed if number is not None):
        _check_shard(script, world, out, shard_id)
    if visits := world.visits_left():
        world.breach(f"{visits} requests have not ended")
    if locks := machine.locks_left():
        world.breach(f"{locks} permits are still held")


def _check_losses(script: Script, world: World, told: _Told) -> None:
    """See that what was reported lost is the shard with the row that kills, and nothing else."""
    poisoned = {number for number, lines in enumerate(script.shards) if _has_poison(script, lines)}
    for shard_id, reason in told.lost.items():
        if shard_id not in poisoned or "died again and again" not in reason:
            world.breach(f"shard {shard_id} is lost: {reason}")
    if world.counts["poisoned"] and set(told.lost) != poisoned:
        world.breach(f"shard {poisoned} kills its workers, and {set(told.lost)} is lost")
    if twice := sorted(shard_id for shard_id, count in told.done.items() if count > 1):
        world.breach(f"shards {twice} are reported done more than once")


def _has_poison(script: Script, lines: Sequence[Line]) -> bool:
    return script.poison is not None and any(line.url == script.poison for line in lines)


def _check_shard(script: Script, world: World, out: Path, shard_id: int) -> None:
    """Read a shard back, and compare it with the list."""
    lines = script.shards[shard_id]
    naming = Naming(script.options["number_sample_per_shard"], 5)
    stats = json.loads((out / naming.stats(shard_id)).read_bytes())
    if missing := [name for name in stats["files"] if not (out / name).exists()]:
        world.breach(f"shard {shard_id} is finished and has no {missing}")
        return
    found = pq.read_table(out / f"{naming.shard(shard_id)}.parquet").to_pylist()
    keys = Counter(row["key"] for row in found)
    twice = [key for key, count in keys.items() if count > 1]
    world.counts["twice"] += len(twice)
    world.counts["missing"] += len(lines) - len(keys)
    if len(found) != len(lines) or twice or stats["count"] != len(lines):
        world.breach(f"shard {shard_id} has {len(found)} rows, {len(twice)} twice, and says {stats['count']}")
    images = _images(out, naming.shard(shard_id), script.options["output_format"], found)
    for row in found:
        index = int(row["key"][5:])
        line = lines[index]
        kind = row["error_class"] or ""
        if row["url"] != line.url:
            world.breach(f"row {row['key']} is of {row['url']}, and the list has {line.url}")
        if kind not in line.classes and not world.is_excused(line.url, kind):
            world.breach(f"{line.url} is in the dataset with {kind}")
        image = images.get(row["key"])
        if (image is not None) != (kind == ""):
            world.breach(f"{line.url} came to {kind or 'an image'}, and there is {'one' if image else 'none'}")
        shown = f"http://{line.url.split('/to/')[1]}" if line.url and "/to/" in line.url else line.url
        if image is not None and image != image_of(shown or ""):
            world.breach(f"{line.url} has another's image")
    if script.options["ordered"] and [row["key"] for row in found] != sorted(keys):
        world.breach(f"shard {shard_id} is not in order")


def _images(out: Path, stem: str, output_format: str, found: list[dict[str, Any]]) -> dict[str, bytes]:
    match output_format:
        case "webdataset":
            with tarfile.open(out / f"{stem}.tar") as tar:
                files = {member.name: tar.extractfile(member) for member in tar if member.name.endswith(".jpg")}
                return {name.removesuffix(".jpg"): file.read() for name, file in files.items() if file is not None}
        case "files":
            return {path.stem: path.read_bytes() for path in (out / stem).glob("*.jpg")}
        case _:
            return {row["key"]: row["jpg"] for row in found if row["jpg"] is not None}


def play_all(seeds: Sequence[int], tell: Callable[[str], None] = print) -> bool:
    """Play *seeds*, tell of each that went wrong and of all together; return whether none did."""
    began = time.monotonic()
    failed, total, virtual_s, rows = 0, Counter[str](), 0.0, 0
    for seed in seeds:
        played = play(written(seed))
        total.update(played.counts)
        virtual_s += played.virtual_s
        rows += played.rows
        if played.wrong:
            failed += 1
            tell(f"seed {seed}: {len(played.wrong)} wrong; {'; '.join(played.wrong[:3])}")
    took_s = time.monotonic() - began
    tell(
        f"{len(seeds) - failed} of {len(seeds)} seeds, {virtual_s / 3600:.1f} virtual hours in {took_s:.0f} s, "
        f"{rows} rows, {total['missing']} rows lost, {total['twice']} rows twice, {total['requests']} requests, "
        f"{total['kills']} workers killed, {total['poisoned']} by a row, {total['misjudged']} rows failed by the edge "
        "of an outage"
    )
    return not failed


def show_mistakes(seeds: Sequence[int]) -> bool:
    """Tell for each mistake the first of *seeds* that shows it; return whether all are seen."""
    unseen = 0
    for name, (mistaken, _) in MISTAKES.items():
        shown = next((seed for seed in seeds if _shows(seed, mistaken)), None)
        unseen += shown is None
        print(f"{name}: {'not seen' if shown is None else f'seed {shown}'}", flush=True)
    return not unseen


def _shows(seed: int, mistaken: Callable[[], AbstractContextManager[object]]) -> bool:
    with mistaken():
        return bool(play(written(seed)).wrong)


def main() -> int:
    """Play what was asked for; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--mistakes", action="store_true", help="see which seed shows each of the known mistakes")
    parser.add_argument("--trace", action="store_true", help="print what happens, with --seed")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # what workers complain of is of no interest here
    if asked.mistakes:
        return 0 if show_mistakes(range(asked.first, asked.first + asked.seeds)) else 1
    if asked.seed is None:
        return 0 if play_all(range(asked.first, asked.first + asked.seeds)) else 1
    script = written(asked.seed)
    if asked.trace:
        print(replace(script, shards=()))
    played = play(script, print if asked.trace else None)
    print(f"seed {played.seed}: {played.virtual_s:.1f} of at most {played.most_s:.0f} s, {played.digest}")
    print(*played.wrong or ["nothing went wrong"], sep="\n")
    return 1 if played.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
