"""The life of one row: from the list to its sample."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_img2ds.errors import AsyncImg2dsError, ErrorClass, FetchFailure, SampleFailure, Trace
from async_img2ds.policy.optout import reserved_by_list
from async_img2ds.records import Row, Sample, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from async_img2ds.fetch.fetcher import Fetcher
    from async_img2ds.fetch.pacer import Turn
    from async_img2ds.options import InputOptions
    from async_img2ds.records import Body, Encoded
    from async_img2ds.worker.gauge import Stages

__all__ = ["RowRunner"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RowRunner:
    """What a process lends to each of its rows.

    *transform* turns the body of a row into an image in the thread pool; *stages* counts where rows are. *input* says
    which columns of the list are read for a purpose of their own.
    """

    fetcher: Fetcher
    transform: Callable[[bytes, Row], Awaitable[Encoded]]
    stages: Stages
    input: InputOptions

    def rows(
        self,
        column: Callable[[str], Sequence[Any]],
        key: Callable[[int], str],
        withheld: Callable[[int], ErrorClass | None],
        *,
        first: int = 0,
    ) -> Iterator[Row]:
        """Yield the rows of a part of a list, numbered from *first*.

        Args:
            column: the values of a column, by its name in the dataset.
            key: the key of the row at a place of the part.
            withheld: why that row is not asked for, whatever the list says of it; None if it is.
            first: the number of the first.

        """
        urls = column("url")
        blank = [None] * len(urls)
        boxes = column(self.input.bbox_col) if self.input.bbox_col else blank
        digests = column(self.input.verify_hash[1]) if self.input.verify_hash else blank
        reserved = column(self.input.optout_col) if self.input.optout_col else blank
        for place, (url, box, digest, said) in enumerate(zip(urls, boxes, digests, reserved, strict=True)):
            reason = withheld(place) or (ErrorClass.OPTOUT_LISTED if reserved_by_list(said) else None)
            yield Row(first + place, key(place), url, box, digest, reason)

    async def run(self, turn: Turn) -> Sample:
        """Return what becomes of the row whose *turn* it is.

        Raises:
            LocalFault: this machine could not fetch, for an hour on end.

        """
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
            told = body.http_status, body.attempts, len(body.content), body.final_url, body.trace, body.took_s
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
            trace=body.trace if body else failure.trace,
            took_s=body.took_s if body else failure.took_s,
        )

    async def _fetch(self, row: Row, turn: Turn) -> Body:
        if row.withheld is not None:
            raise self._withheld(row.withheld)
        return await self.fetcher.fetch(turn.target or row.url, turn)

    def _withheld(self, reason: ErrorClass) -> FetchFailure:
        """Return what becomes of a row that is not asked for."""
        column = self.input.optout_col
        message, optout = {
            ErrorClass.DUPLICATE: ("the list has the same URL before", None),
            ErrorClass.OPTOUT_LISTED: (f"reserved by the list, in {column}", f"{column} of the list"),
            ErrorClass.OPTOUT_REMOVED: ("removed from the dataset on request", "purge of the dataset"),
        }[reason]
        failure = FetchFailure(reason, message)
        failure.trace = Trace(optout=optout)
        return failure
