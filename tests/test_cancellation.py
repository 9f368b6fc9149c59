"""Cancel a shard at each of its stages: nothing half written remains, and what was lent is given back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from async_img2ds.errors import LocalFault, StorageError
from async_img2ds.fetch.pacer import Pacer
from async_img2ds.options import Options
from async_img2ds.outputs.base import WRITERS
from async_img2ds.policy.host import Manners
from async_img2ds.policy.shards import Naming, packed
from async_img2ds.records import Body, Encoded, Shard, Tally
from async_img2ds.storage import LocalStore
from async_img2ds.worker.gauge import Stages
from async_img2ds.worker.row import RowRunner
from async_img2ds.worker.shard import ShardRunner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from async_img2ds.fetch.fetcher import Hold

FORMATS = sorted(set(WRITERS) - {"dummy"})  # which has no file to commit but the marker
IMAGE = Encoded(b"\xff\xd8\xff" + bytes(1000), 1, 1, 1, 1, "{}", "0" * 64)


class Gate:
    """A stage that tells when it is reached and can be made to stay there, or to fail."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.error: BaseException | None = None
        self.closed = False

    async def pass_through(self) -> None:
        self.reached.set()
        if self.error:
            raise self.error
        if self.closed:
            await asyncio.Event().wait()


class FakeFetcher:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def fetch(self, _url: str | None, hold: Hold) -> Body:
        hold.hold(100)
        await self._gate.pass_through()
        return Body(b"body", 200, 1)


class GatedStore(LocalStore):
    """Tells the loop when it is about to publish, and waits in its thread for leave."""

    def __init__(self, root: Path, gate: Gate) -> None:
        super().__init__(root)
        self._gate = gate
        self._loop = asyncio.get_running_loop()

    def publish(self, name: str) -> None:
        asyncio.run_coroutine_threadsafe(self._gate.pass_through(), self._loop).result(
            timeout=1 if self._gate.closed else None
        )
        super().publish(name)


def shard(rows: int = 20) -> Shard:
    table = pa.table({"url": [f"http://h{number}.test/" for number in range(rows)]})
    return Shard(0, packed(table), rows)


class Gated:
    """A shard runner whose stages are gates."""

    def __init__(self, folder: Path, output_format: str) -> None:
        options = Options.of(url_list="x", output_format=output_format)
        self.fetch, self.transform, self.commit = Gate(), Gate(), Gate()
        self.pacer = Pacer(in_flight_max=5, held_bytes_max=10_000, manners=lambda _: Manners(5))
        self.runner = ShardRunner(
            pacer=self.pacer,
            rows=RowRunner(FakeFetcher(self.fetch), self._transform, Stages(), options.input),  # type: ignore[arg-type]
            store=GatedStore(folder, self.commit),
            image=options.image,
            output=options.output,
            naming=Naming(10_000, 5),
            keeps_journals=False,
            made_with=options.shape(),
            asked_with=b"",
        )

    async def _transform(self, _content: bytes, _boxes: object) -> Encoded:
        await self.transform.pass_through()
        return IMAGE


STAGES: dict[str, Callable[[Gated], Gate]] = {
    "fetch": lambda stages: stages.fetch,
    "transform": lambda stages: stages.transform,
    "commit": lambda stages: stages.commit,
}


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("stage", STAGES)
def test_cancelled_shard_leaves_nothing(tmp_path: Path, stage: str, output_format: str) -> None:
    """Wherever it is cancelled, the folder is empty, no slot is held, and no byte is counted as held."""

    async def run() -> None:
        stages = Gated(tmp_path, output_format)
        gate = STAGES[stage](stages)
        gate.closed = True
        running = asyncio.create_task(stages.runner.run(shard(), Tally()))
        await gate.reached.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        left = stages.pacer.statistics()

        assert (left.in_flight, left.waiting, left.late, left.held_bytes) == (0, 0, 0, 0)

    asyncio.run(run())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output_format", FORMATS)
def test_uncancelled_shard_is_committed(tmp_path: Path, output_format: str) -> None:
    """The same stages, left alone, commit a shard: the tests above could fail."""

    async def run() -> None:
        await Gated(tmp_path, output_format).runner.run(shard(), Tally())

    asyncio.run(run())

    assert (tmp_path / "00000_stats.json").exists()


@pytest.mark.parametrize("error", [LocalFault("no descriptors"), StorageError("disk full")])
def test_fault_of_this_machine_drops_the_shard_instead_of_failing_rows(tmp_path: Path, error: Exception) -> None:
    """It travels up, no row is counted as failed, and nothing is committed."""
    tally = Tally()

    async def run() -> None:
        stages = Gated(tmp_path, "webdataset")
        stages.fetch.error = error
        with pytest.raises(ExceptionGroup) as caught:
            await stages.runner.run(shard(), tally)
        assert caught.group_contains(type(error))
        assert stages.pacer.statistics().in_flight == 0

    asyncio.run(run())

    assert tally.count == 0
    assert list(tmp_path.iterdir()) == []


def test_defect_of_ours_costs_one_row_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception becomes a row of class internal, with its traceback logged; the shard is committed."""
    tally = Tally()

    async def run() -> None:
        stages = Gated(tmp_path, "webdataset")
        stages.transform.error = ZeroDivisionError("a bug")
        await stages.runner.run(shard(3), tally)

    asyncio.run(run())

    assert tally.error_classes == {"internal": 3}
    assert "ZeroDivisionError: a bug" in caplog.text
    assert (tmp_path / "00000_stats.json").exists()


def test_row_that_comes_to_no_end_costs_the_shard(tmp_path: Path) -> None:
    """A task that ends as cancelled, by a future that some library has cancelled, is no error to those around it."""
    tally = Tally()

    async def run() -> None:
        stages = Gated(tmp_path, "webdataset")
        stages.transform.error = asyncio.CancelledError()
        await stages.runner.run(shard(3), tally)

    with pytest.raises(StorageError, match="0 of its 3 rows have come to an end"):
        asyncio.run(run())

    assert list(tmp_path.iterdir()) == []


def test_shard_that_another_attempt_has_finished_is_not_done_again(tmp_path: Path) -> None:
    """Its rows are not asked for a second time, and its counts are those that were committed."""

    async def run() -> tuple[tuple[Tally, float], tuple[Tally, float]]:
        first = await Gated(tmp_path, "webdataset").runner.run(shard(), Tally())
        stages = Gated(tmp_path, "webdataset")
        stages.fetch.error = AssertionError("asked for again")
        return first, await stages.runner.run(shard(), Tally())

    first, second = asyncio.run(run())

    assert first[0].count == 20
    assert second == first


def test_shard_of_other_rows_is_not_taken_for_its_own(tmp_path: Path) -> None:
    """Another run may have come between, with another list; its rows are not these."""

    async def run() -> None:
        await Gated(tmp_path, "webdataset").runner.run(shard(19), Tally())
        with pytest.raises(StorageError, match="another run has put other rows under its number"):
            await Gated(tmp_path, "webdataset").runner.run(shard(20), Tally())

    asyncio.run(run())


class Overtaking(Gate):
    """A stage at which another attempt at the same shard is made, from its beginning to its end."""

    def __init__(self, other: Gated) -> None:
        super().__init__()
        self._other = other

    async def pass_through(self) -> None:
        await self._other.runner.run(shard(1), Tally())


def test_attempt_that_is_overtaken_tells_the_counts_of_the_other(tmp_path: Path) -> None:
    """What is reported is what lies in the store: the other found no image where this one would have written some."""

    async def run() -> tuple[Tally, float]:
        stages, other = Gated(tmp_path, "webdataset"), Gated(tmp_path, "webdataset")
        other.transform.error = ZeroDivisionError("a bug")
        stages.transform = Overtaking(other)
        return await stages.runner.run(shard(1), Tally())

    tally, _ = asyncio.run(run())

    assert (tally.count, tally.successes, tally.error_classes) == (1, 0, {"internal": 1})
