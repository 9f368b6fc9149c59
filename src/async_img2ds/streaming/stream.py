"""Rows in, samples out: fetched as by a worker of a run, in the loop of whoever wants them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.blocking import DaemonThread
from async_img2ds.distributors.local import usable_cores
from async_img2ds.errors import ErrorClass, TransformFailure, first_of
from async_img2ds.fetch.ahead import look_ahead
from async_img2ds.images import codec
from async_img2ds.images.transform import Transformer
from async_img2ds.preflight import host_rules
from async_img2ds.recorder import RECORD_BYTES, Recorder
from async_img2ds.records import Sample, Status
from async_img2ds.streaming.backlog import Backlog
from async_img2ds.streaming.listed import opened
from async_img2ds.streaming.sample import StreamSample
from async_img2ds.worker.guard import Guard, cpu_seconds
from async_img2ds.worker.means import Means, Share, room_for_connections
from async_img2ds.worker.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from async_img2ds.fetch.pacer import Turn
    from async_img2ds.options import StreamOptions
    from async_img2ds.records import Encoded, Row
    from async_img2ds.streaming.listed import Listed, Piece

__all__ = ["samples_of"]

logger = logging.getLogger(__name__)

# Rows that wait for their hosts beside each other, as in a worker: of a list with slow hosts others are done meanwhile.
OPEN_ROWS_MAX: Final = 40_000
LOOK_S: Final = 0.5
# A file of the default size has a third of it; those that are kept as they come are larger.
GUESS_BYTES: Final = 2**16


async def samples_of(listed: Listed | None, options: StreamOptions) -> AsyncGenerator[StreamSample[Any]]:
    """Yield a sample for each row of *listed*, or of the files that *options* name if it is None.

    When it is closed, all that it has begun has ended.
    """
    stream = Stream(options)
    running = asyncio.create_task(stream.run(listed), name="async-img2ds stream")
    try:
        while True:
            # Whoever takes samples without ever waiting would keep others from being made.
            await asyncio.sleep(0)
            try:
                sample = await stream.backlog.take()
            except StopAsyncIteration:
                return
            yield sample
    finally:
        running.cancel()
        await asyncio.wait([running])


class Stream:
    """A stream while it runs; *options* say how."""

    def __init__(self, options: StreamOptions) -> None:
        """Begin with nothing."""
        delivery = options.delivery
        self.options = options
        self.backlog: Backlog[StreamSample[Any]] = Backlog(
            samples_max=delivery.samples_ahead_max,
            bytes_max=delivery.bytes_ahead_max,
            guess_bytes=3 * options.image.image_size**2 if delivery.decode else GUESS_BYTES,
            ordered=delivery.ordered,
            taken=self._taken,
        )
        self._open = self._numbers = 0
        self._changed = asyncio.Event()
        self._workshop: Workshop | None = None

    async def run(self, listed: Listed | None) -> None:
        """Make a sample of each row of *listed* until they end, or until this is cancelled."""
        try:
            error = await self._run(listed)
        except BaseException as raised:
            self.backlog.end(first_of(raised))
            if not isinstance(raised, Exception):  # to be told by whoever takes samples alone
                raise
        else:
            self.backlog.end(error)

    async def _run(self, listed: Listed | None) -> BaseException | None:
        """Return what the list has raised behind the last of its rows, None if it has ended."""
        options, cores = self.options, usable_cores()
        threads = options.delivery.image_threads or cores
        async with AsyncExitStack() as stack:
            share = Share(options.fetch, await _called(host_rules, options.fetch.hosts_file), processes=1)
            shows = codec.SHOWN[options.delivery.decode] if options.delivery.decode else None
            guard = Guard(Recorder(bytearray(RECORD_BYTES)), cpu_seconds)
            transformer = Transformer(options.image, bool(options.input.verify_hash), guard.decoding, shows=shows)
            stack.enter_context(codec.quiet())
            means = await stack.enter_async_context(
                Means.open(share, transformer, threads, room_for_connections(options.fetch.thread_count), guard)
            )
            self._workshop = workshop = Workshop.of(
                means,
                share,
                options.input,
                cores=min(cores, threads),
                keeps_provenance=options.delivery.provenance,
                may_start=None if options.delivery.ordered else self._may_start,
            )
            pieces = await stack.enter_async_context(opened(listed, options.input))
            async with asyncio.TaskGroup() as beside:
                tasks = [
                    beside.create_task(look_ahead(workshop.pacer, workshop.client)),
                    beside.create_task(_look(workshop, means)),
                ]
                error = await self._run_all(pieces, workshop)
                for task in tasks:
                    task.cancel()
        return error

    async def _run_all(self, pieces: AsyncIterator[Piece], workshop: Workshop) -> BaseException | None:
        async with asyncio.TaskGroup() as parts:
            while True:
                try:
                    piece = await anext(pieces, None)
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # noqa: BLE001  the list's own; it comes behind the rows before it
                    return error
                if piece is None:
                    return None
                first, self._numbers = self._numbers, self._numbers + len(piece)

                def withheld(place: int, piece: Piece = piece) -> ErrorClass | None:
                    return ErrorClass.DUPLICATE if place in piece.repeats else None

                rows = workshop.rows.rows(piece.columns.__getitem__, piece.key, withheld, first=first)
                async for part in self._parts(list(rows), workshop):
                    self._open += len(part)
                    parts.create_task(self._run_part(part, piece, first, workshop))

    async def _parts(self, rows: list[Row], workshop: Workshop) -> AsyncIterator[list[Row]]:
        """Yield *rows* in parts as there is room for them."""
        while rows:
            count = await self._room(workshop)
            yield rows[:count]
            rows = rows[count:]
            await asyncio.sleep(0)  # or it would be hungry yet

    async def _room(self, workshop: Workshop) -> int:
        """Wait until rows may be taken up; return how many."""
        while True:
            if self.options.delivery.ordered:
                # All that is taken up must come to its end without anybody's taking what is behind it.
                count = self.backlog.room(self._open)
            else:
                await workshop.pacer.wait_hungry()
                count = OPEN_ROWS_MAX - self._open
            if count > 0:
                return count
            self._changed.clear()
            await self._changed.wait()

    async def _run_part(self, rows: Iterable[Row], piece: Piece, first: int, workshop: Workshop) -> None:
        async with asyncio.TaskGroup() as samples, aclosing(workshop.pacer.turns(rows)) as turns:
            async for turn in turns:
                task = samples.create_task(self._run_row(turn, piece, turn.row.index - first, workshop))
                task.add_done_callback(turn.end_with)

    async def _run_row(self, turn: Turn, piece: Piece, place: int, workshop: Workshop) -> None:
        """The life of one row."""
        try:
            sample = await workshop.rows.run(turn)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # By a future that some library has cancelled; the row has come to an end all the same.
            said = "cancelled by something else than this program"
            sample = Sample(turn.row, Status.FAILED_TO_DOWNLOAD, None, ErrorClass.INTERNAL, said)
        self._open -= 1
        is_wanted = sample.encoded is not None or self.options.delivery.failures
        handed = self._handed(sample, piece, place) if is_wanted else None
        self.backlog.put(sample.row.index, handed, _size(sample.encoded))
        self._changed.set()

    def _may_start(self, under_way: int) -> bool:
        return self.backlog.room(under_way) > 0

    def _taken(self) -> None:
        self._changed.set()
        if self._workshop is not None and not self.options.delivery.ordered:
            self._workshop.pacer.nudge()

    def _handed(self, sample: Sample, piece: Piece, place: int) -> StreamSample[Any]:
        row, encoded, trace, options = sample.row, sample.encoded, sample.trace, self.options
        values = {name: piece.columns[name][place] for name in options.input.carried_columns}
        made: dict[str, Any] = {}
        if encoded is not None:
            made = {
                "image": encoded.image if encoded.pixels is None else encoded.pixels,
                "width": encoded.width,
                "height": encoded.height,
                "original_width": encoded.original_width,
                "original_height": encoded.original_height,
                "exif": encoded.exif,
            }
            if options.image.compute_hash:
                made[options.image.compute_hash] = encoded.digest
        return StreamSample(
            key=row.key,
            url=row.url,
            status=sample.status,
            caption=piece.columns["caption"][place] if options.input.caption_col else None,
            columns=values,
            error_class=sample.error_class,
            error_message=sample.error_message,
            http_status=sample.http_status,
            attempts=sample.attempts,
            final_url=sample.final_url,
            body_bytes=sample.body_bytes,
            optout=trace.optout,
            tls_verified=trace.tls_verified,
            fetched_at=trace.fetched_at,
            address=trace.address,
            content_type=trace.content_type,
            etag=trace.etag,
            last_modified=trace.last_modified,
            **made,
        )


def _size(encoded: Encoded | None) -> int:
    """Return how many bytes an image takes in memory."""
    if encoded is None:
        return 0
    return len(encoded.image) if encoded.pixels is None else 3 * (encoded.width or 0) * (encoded.height or 0)


async def _look(workshop: Workshop, means: Means) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        workshop.look()
        if means.guard is not None and means.give_up is not None and (overdue := means.guard.look()) is not None:
            # Nothing but the end of its process ends a decoder, and this one is somebody else's.
            logger.error(
                "decoding %s has taken %s; a thread of this process is lost over it", overdue.key, overdue.said
            )
            means.guard.forget(overdue)
            said = f"decoding has taken {overdue.said}"
            means.give_up(overdue.thread, TransformFailure(ErrorClass.DECODE_TIMEOUT, said))


async def _called(function: Any, *values: Any) -> Any:  # noqa: ANN401  what it takes and returns is its own
    """Return what *function* does, called in a thread that is gone afterwards."""
    thread = DaemonThread("stream")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, function, *values)
    finally:
        thread.shutdown()
