"""retry(output_folder): fetch failed rows of finished shards again, and put the shards that change in their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from async_img2ds.blocking import waited_for
from async_img2ds.dataset.again import do_again, hindrance
from async_img2ds.distributors.base import Stop
from async_img2ds.options import RetryOptions
from async_img2ds.policy.sources import Sources
from async_img2ds.sources import parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.policy.markers import Marker
    from async_img2ds.storage import Store

__all__ = ["RetryReport", "retry", "run_retry"]


@dataclass(frozen=True, slots=True)
class RetryReport:
    """How a retry ended: what ``retry`` returns.

    Attributes:
        rows: failed rows that were fetched again, of shards that were put in their place.
        successes: those that have an image now.
        error_classes: those that failed again, by reason.
        shards_done: shards that were put in their place.
        shards_lost: shards that stay as they were though there was something to do, by number, with the reason.
        left_alone: how many shards cannot be done again, by reason.
        rows_closed: failed rows that stay as they were, as they name files or objects that ``allow_sources`` does not.
        seconds: wall time.
        interrupted: whether it was asked to stop before its end.

    """

    rows: int
    successes: int
    error_classes: Mapping[str, int]
    shards_done: int
    shards_lost: Mapping[int, str]
    left_alone: Mapping[str, int]
    rows_closed: int
    seconds: float
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether all rows that were meant were fetched again."""
        return not (self.shards_lost or self.interrupted)


def retry(output_folder: str, **options: Any) -> RetryReport:  # noqa: ANN401  checked against their fields
    """Fetch failed rows of a dataset again, with the options of ``aimg2ds retry`` as keywords.

    What shapes the dataset is taken from its stats files. From a script, a notebook, or inside a running event loop.

    Raises:
        OptionsError: an option cannot be used, or there is no such dataset.
        StorageError: the folder cannot be read or written to.
        WorkerError: worker processes cannot be kept running.

    """
    checked = RetryOptions.of(output_folder=output_folder, **options)
    return waited_for(lambda: run_retry(checked))


async def run_retry(options: RetryOptions, stop: Stop | None = None) -> RetryReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    sources = Sources(map(parse_source, options.fetch.allow_sources))
    failed = _Failed(frozenset(options.again.error_class), sources)
    outcome = await do_again(options.again.output_folder, failed, options.fetch, options.run, stop or Stop())
    counts = outcome.totals.committed
    return RetryReport(
        rows=counts.count,
        successes=counts.successes,
        error_classes=dict(counts.error_classes.most_common()),
        shards_done=outcome.totals.shards_done,
        shards_lost=outcome.lost,
        left_alone={reason: len(stems) for reason, stems in outcome.left_alone.items()},
        rows_closed=len(failed.closed),
        seconds=outcome.seconds,
        interrupted=outcome.interrupted,
    )


@dataclass(frozen=True, slots=True)
class _Failed:
    """The rows that failed for the reasons *classes*, but for files and objects that are not opened by *sources*.

    These would fail for that now, for good, and no other retry would mean them. *closed* has them by their keys.
    """

    classes: frozenset[str]
    sources: Sources
    closed: set[str] = field(default_factory=set)
    removes = False
    columns = ("error_class", "url", "key")

    def begin(self, store: Store) -> None:
        """Leave nothing behind: another retry may mean others."""

    def hindrance(self, marker: Marker) -> str | None:
        """Return why the failed rows of a shard cannot be fetched again, if so."""
        if (reason := hindrance(marker)) is not None:
            return reason
        if (marker.made_with or {}).get("verify_hash"):
            return "made with verify_hash, and the hashes that failed rows should have are in the list alone"
        return None

    def at_most(self, marker: Marker) -> int:
        """Return how many rows of a shard have failed so."""
        return sum(marker.tally.error_classes[name] for name in self.classes)

    def rows(self, table: pa.Table) -> frozenset[int]:
        """Return which rows of a shard have failed so."""
        reasons = table.column("error_class").to_pylist()
        meant = [index for index, reason in enumerate(reasons) if reason in self.classes]
        named = table.select(["url", "key"]).take(pa.array(meant, pa.int64())).to_pylist()
        closed = {
            index: row["key"] for index, row in zip(meant, named, strict=True) if self.sources.is_closed(row["url"])
        }
        self.closed.update(closed.values())
        return frozenset(meant) - closed.keys()
