"""One shard, from its rows to its committed files."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_img2ds.errors import AsyncImg2dsError, ErrorClass, FetchFailure, SampleFailure
from async_img2ds.outputs.base import Output, open_writer
from async_img2ds.outputs.ordered import OrderedWriter
from async_img2ds.policy.markers import SCHEMA_VERSION, Marker, digest_of_urls
from async_img2ds.policy.schema import Columns
from async_img2ds.policy.shards import rows_of
from async_img2ds.records import Row, Sample, Status
from async_img2ds.storage import Attempt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    import pyarrow as pa

    from async_img2ds.fetch.fetcher import Fetcher
    from async_img2ds.fetch.pacer import Pacer, Turn
    from async_img2ds.options import ImageOptions, InputOptions, OutputOptions
    from async_img2ds.outputs.base import ShardWriter
    from async_img2ds.policy.shards import Naming
    from async_img2ds.records import Body, Encoded, Shard, Tally
    from async_img2ds.storage import Store
    from async_img2ds.worker.gauge import Stages

__all__ = ["ShardRunner"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardRunner:
    """What a process lends to each of its shards.

    *transform* turns the body of a row into an image in the thread pool; *stages* counts where rows are. *made_with*
    are the options that shape the dataset.
    """

    pacer: Pacer
    fetcher: Fetcher
    transform: Callable[[bytes, Row], Awaitable[Encoded]]
    stages: Stages
    store: Store
    input: InputOptions
    image: ImageOptions
    output: OutputOptions
    naming: Naming
    made_with: Mapping[str, Any]

    async def run(self, shard: Shard, tally: Tally) -> tuple[Tally, float]:
        """Fetch, transform and write all rows of *shard*, and commit it; *tally* follows it as it goes.

        Returns:
            The counts of the shard as it stands in the store, and how long it took, in seconds. If another attempt
            commits it first, or has done so before this one began, both are that one's.

        Raises:
            StorageError: its files cannot be written; nothing of them is left.

        """
        marker = self.naming.stats(shard.id)
        async with Attempt.open(self.store) as attempt:
            if standing := await attempt.standing(marker):
                return _told(standing)
            try:
                return await self._run(attempt, marker, shard, tally)
            except Exception:
                # Another attempt that commits takes away what this one has staged, which fails over it.
                if standing := await attempt.standing(marker):
                    return _told(standing)
                raise

    async def _run(self, attempt: Attempt, marker: str, shard: Shard, tally: Tally) -> tuple[Tally, float]:
        started, began = time.time(), time.monotonic()
        listed = rows_of(shard)
        rows = list(self._rows(shard, listed))
        writer = await open_writer(self.output.output_format, self._output(attempt, shard, listed))
        writer = OrderedWriter(writer) if self.output.ordered else writer
        async with asyncio.TaskGroup() as samples, aclosing(self.pacer.turns(rows)) as turns:
            async for turn in turns:
                sample = samples.create_task(self._run_sample(turn, writer, tally))
                # Not at the end of the coroutine: one that is cancelled before it begins never gets there.
                sample.add_done_callback(turn.end_with)
        await writer.finish()
        seconds = time.monotonic() - began
        files, urls = await attempt.sums(), digest_of_urls(listed.column("url"))
        stats = Marker(tally, started, seconds, files, urls, self.made_with, SCHEMA_VERSION).to_json()
        standing = await attempt.commit(marker, stats)
        return (tally, seconds) if standing is stats else _told(standing)

    def _rows(self, shard: Shard, listed: pa.Table) -> Iterator[Row]:
        blank = [None] * listed.num_rows
        boxes = listed.column(self.input.bbox_col).to_pylist() if self.input.bbox_col else blank
        digests = listed.column(self.input.verify_hash[1]).to_pylist() if self.input.verify_hash else blank
        urls = listed.column("url").to_pylist()
        for index, (url, box, digest) in enumerate(zip(urls, boxes, digests, strict=True)):
            yield Row(index, self.naming.key(shard.id, index), url, box, digest, index in shard.repeats)

    async def _run_sample(self, turn: Turn, writer: ShardWriter, tally: Tally) -> None:
        """The life of one row."""
        sample = await self._make_sample(turn)
        with self.stages.writing:
            await writer.write(sample)
        tally.add(sample)

    async def _make_sample(self, turn: Turn) -> Sample:
        row, body, encoded = turn.row, None, None
        failure: SampleFailure | None = None
        try:
            with self.stages.fetching:
                body = await self._fetch(row, turn)
            with self.stages.transforming:
                encoded = await self.transform(body.content, row)
        except SampleFailure as expected:
            failure = expected
        except AsyncImg2dsError:
            raise
        except Exception:
            # A defect of ours on one row must not cost the shard its other rows. It is
            # told, counted apart, and makes the run fail.
            logger.exception("internal error on %s (%s); please report it", row.key, row.url)
            failure = SampleFailure(ErrorClass.INTERNAL, traceback.format_exc(limit=0).strip()[:200])
        if failure is None and body is not None and encoded is not None:
            told = body.http_status, body.attempts, len(body.content), body.final_url
            return Sample(row, Status.SUCCESS, encoded, None, None, *told)
        assert failure is not None
        downloaded = body is not None
        status = (
            Status.FAILED_TO_DOWNLOAD
            if isinstance(failure, FetchFailure) or not downloaded
            else Status.FAILED_TO_RESIZE
        )
        return Sample(
            row,
            status,
            error_class=failure.error_class,
            error_message=failure.message,
            http_status=body.http_status if body else failure.http_status,
            attempts=body.attempts if body else failure.attempts,
            body_bytes=len(body.content) if body else 0,
            final_url=body.final_url if body else failure.final_url,
        )

    async def _fetch(self, row: Row, turn: Turn) -> Body:
        if row.is_repeat:
            raise FetchFailure(ErrorClass.DUPLICATE, "the list has the same URL before")
        return await self.fetcher.fetch(turn.target or row.url, turn)

    def _output(self, attempt: Attempt, shard: Shard, listed: pa.Table) -> Output:
        return Output(
            attempt=attempt,
            stem=self.naming.shard(shard.id),
            listed=listed,
            columns=Columns(
                exif=self.image.extract_exif,
                digest=self.image.compute_hash,
                digest_listed=bool(self.input.verify_hash),
            ),
            extension=self.image.encode_format,
            captions="caption" in listed.column_names,
            hf_image=self.output.hf_image,
        )


def _told(standing: bytes) -> tuple[Tally, float]:
    """Return the counts and the seconds that a stats file tells."""
    marker = Marker.parse(standing)
    return marker.tally, marker.seconds
