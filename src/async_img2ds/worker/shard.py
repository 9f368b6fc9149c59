"""One shard, from its rows to its committed files."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from async_img2ds.errors import ErrorClass, StorageError
from async_img2ds.journal import Journal, drop_journals, identity_of, journal_of
from async_img2ds.outputs.base import Output, open_writer
from async_img2ds.outputs.ordered import OrderedWriter
from async_img2ds.outputs.stored import check_unchanged, stored_samples
from async_img2ds.policy.markers import SCHEMA_VERSION, Marker, digest_of_urls
from async_img2ds.policy.schema import Columns
from async_img2ds.policy.shards import rows_of
from async_img2ds.records import Tally, image_bytes
from async_img2ds.storage import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from async_img2ds.fetch.pacer import Pacer, Turn
    from async_img2ds.options import ImageOptions, OutputOptions
    from async_img2ds.outputs.base import ShardWriter
    from async_img2ds.policy.shards import Naming
    from async_img2ds.records import Row, Sample, Shard
    from async_img2ds.storage import Store
    from async_img2ds.worker.row import RowRunner

__all__ = ["ShardRunner"]


@dataclass(frozen=True, slots=True)
class ShardRunner:
    """What a process lends to each of its shards.

    *pacer* says when a row may start, and *rows* runs it. With *keeps_journals* what was fetched of a shard outlives an
    attempt that does not finish it. *made_with* are the options that shape the dataset, and *asked_with* is what those
    of fetching come to.
    """

    pacer: Pacer
    rows: RowRunner
    store: Store
    image: ImageOptions
    output: OutputOptions
    naming: Naming
    keeps_journals: bool
    made_with: Mapping[str, Any]
    asked_with: bytes

    async def run(self, shard: Shard, tally: Tally) -> tuple[Tally, float]:
        """Fetch, transform and write all rows of *shard*, and commit it; *tally* follows it as it goes.

        Returns:
            The counts of the rows that were fetched, which are all but for a finished shard that was done again, and
            how long it took, in seconds. If another attempt commits it first, or has done so before this one began,
            both are that one's.

        Raises:
            StorageError: its files cannot be written; nothing of them is left.

        """
        marker = self.naming.stats(shard.id)
        async with Attempt.open(self.store) as attempt:
            # An earlier attempt may have died between the files of its commit.
            torn = not await attempt.run(self.store.finish, self.naming.shard(shard.id))
            standing = await attempt.standing(marker)
            if self._is_done(shard, standing):  # its worker has died behind the commit
                await attempt.run(drop_journals, self.store, [self.naming.shard(shard.id)])
                return _told(shard, standing)
            begun = self._begun(attempt, shard, torn=torn)
            try:
                return await self._run(begun, tally, standing)
            except Exception:
                # Another attempt that commits takes away what this one has staged, which fails over it.
                if self._is_done(shard, standing := await attempt.standing(marker)):
                    await begun.journal.drop()
                    return _told(shard, standing)
                raise

    async def _run(self, begun: _Begun, tally: Tally, before: bytes) -> tuple[Tally, float]:
        started, began = time.time(), time.monotonic()
        attempt, shard, listed, rows, journal = begun.attempt, begun.shard, begun.listed, begun.rows, begun.journal
        writer = await open_writer(self.output.output_format, self._output(attempt, shard, listed))
        in_order = self.output.ordered or (shard.again is not None and shard.again.in_order)
        writer = OrderedWriter(writer) if in_order else writer
        left = dict(enumerate(rows))
        stored = Tally()
        if shard.again is not None and not begun.torn:
            await attempt.run(check_unchanged, self.store, Marker.parse(before).files)
        async for sample in journal.kept():
            # A row that has failed once more was asked for in the way that was chosen then.
            if shard.again is None or sample.encoded is not None:
                del left[sample.row.index]
                await self._write(sample, writer, tally)
        wanted = [row for index, row in left.items() if shard.again is None or index in shard.again.rows]
        async with asyncio.TaskGroup() as beside:
            keeping_up = beside.create_task(journal.keep_up())
            async with asyncio.TaskGroup() as samples, aclosing(self.pacer.turns(wanted)) as turns:
                async for turn in turns:
                    task = samples.create_task(self._run_sample(turn, writer, journal, tally))
                    # Not at the end of the coroutine: one that is cancelled before it begins never gets there.
                    task.add_done_callback(turn.end_with)
            keeping_up.cancel()
        if shard.again is not None:
            # Behind those that were fetched, which are few: in order all wait for the first that is not there.
            kept = left.keys() - shard.again.rows
            async for sample in attempt.each(self._stored(shard, [rows[index] for index in kept]), image_bytes):
                await self._write(sample, writer, stored)
            told = Marker.parse(before).tally  # of what few tables tell
            stored.body_bytes, stored.latencies_ms, stored.body_sizes = (
                told.body_bytes,
                told.latencies_ms,
                told.body_sizes,
            )
        await writer.finish()
        seconds = time.monotonic() - began
        files, urls = await attempt.sums(), digest_of_urls(listed.column("url"))
        whole = stored.plus(tally)
        if whole.count != len(rows):  # whatever has happened, such a shard would look finished
            raise StorageError(f"{whole.count} of its {len(rows)} rows have come to an end")
        stats = Marker(whole, started, seconds, files, urls, self.made_with, SCHEMA_VERSION).to_json()
        standing = await attempt.commit(self.naming.stats(shard.id), stats, shard.again.base if shard.again else None)
        await journal.drop()
        return (tally, seconds) if standing == stats else _told(shard, standing)

    def _is_done(self, shard: Shard, standing: bytes) -> bool:
        """Whether a stats file with *standing* in it says that there is nothing to do.

        Raises:
            StorageError: the shard was to be done again, and is not there; or it is another run's, with other rows or
                made with other options.

        """
        if shard.again is None:
            theirs = Marker.parse(standing) if standing else None
            if theirs is not None and theirs.urls not in (None, digest_of_urls(rows_of(shard).column("url"))):
                raise StorageError("another run has put other rows under its number")
            if theirs is not None and theirs.made_with not in (None, self.made_with):
                raise StorageError("another run has put what it made with other options under its number")
            return bool(standing)
        if not standing:
            raise StorageError("its stats file is gone; aimg2ds verify says more")
        return hashlib.sha256(standing).hexdigest() != shard.again.base

    def _stored(self, shard: Shard, rows: Sequence[Row]) -> Iterator[Sample]:
        stem, image = self.naming.shard(shard.id), self.image
        return stored_samples(
            self.store, stem, rows, self.output.output_format, image.encode_format, image.compute_hash
        )

    def _begun(self, attempt: Attempt, shard: Shard, *, torn: bool) -> _Begun:
        listed = rows_of(shard)
        rows = list(self._rows(shard, listed))
        folder = journal_of(self.store, self.naming.shard(shard.id))
        identity = identity_of(rows, self.made_with, shard.again.base if shard.again else None)
        journal = Journal(attempt, folder, identity, self.asked_with, rows, keeps=self.keeps_journals)
        return _Begun(attempt, shard, listed, rows, journal, torn)

    def _rows(self, shard: Shard, listed: pa.Table) -> Iterator[Row]:
        def withheld(index: int) -> ErrorClass | None:
            if shard.again is not None and shard.again.removes and index in shard.again.rows:
                return ErrorClass.OPTOUT_REMOVED
            return ErrorClass.DUPLICATE if index in shard.repeats else None

        key = partial(self.naming.key, shard.id)
        return self.rows.rows(lambda name: listed.column(name).to_pylist(), key, withheld)

    async def _run_sample(self, turn: Turn, writer: ShardWriter, journal: Journal, tally: Tally) -> None:
        """The life of one row."""
        sample = await self.rows.run(turn)
        await journal.keep(sample)
        await self._write(sample, writer, tally)

    async def _write(self, sample: Sample, writer: ShardWriter, tally: Tally) -> None:
        with self.rows.stages.writing:
            await writer.write(sample)
        tally.add(sample)

    def _output(self, attempt: Attempt, shard: Shard, listed: pa.Table) -> Output:
        return Output(
            attempt=attempt,
            stem=self.naming.shard(shard.id),
            listed=listed,
            columns=Columns(
                exif=self.image.extract_exif,
                digest=self.image.compute_hash,
                digest_listed=bool(self.rows.input.verify_hash),
                provenance=self.output.provenance,
            ),
            extension=self.image.encode_format,
            captions="caption" in listed.column_names,
            hf_image=self.output.hf_image,
            tar_index=self.output.tar_index,
        )


@dataclass(frozen=True, slots=True)
class _Begun:
    """An attempt at *shard*: its rows, as they are *listed* and as they are asked for, and what is kept of them.

    Of one that is *torn* an earlier replacement was cut off, and its files are not those of which its stats file tells.
    """

    attempt: Attempt
    shard: Shard
    listed: pa.Table
    rows: list[Row]
    journal: Journal
    torn: bool


def _told(shard: Shard, standing: bytes) -> tuple[Tally, float]:
    """Return what another attempt has counted of *shard*, and its seconds; of one done again that is not told."""
    if shard.again is not None:
        return Tally(), 0.0
    marker = Marker.parse(standing)
    return marker.tally, marker.seconds
