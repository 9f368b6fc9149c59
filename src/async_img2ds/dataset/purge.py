"""purge(output_folder): remove the images of hosts and URLs on request, and leave their rows to say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from async_img2ds.blocking import waited_for
from async_img2ds.dataset.again import do_again, hindrance
from async_img2ds.distributors.base import Stop
from async_img2ds.errors import ErrorClass
from async_img2ds.existing import keep_removal
from async_img2ds.options import FetchOptions, PurgeOptions
from async_img2ds.policy.removal import Removal
from async_img2ds.preflight import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from async_img2ds.policy.markers import Marker
    from async_img2ds.storage import Store

__all__ = ["PurgeReport", "purge", "run_purge"]


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """How a removal ended: what ``purge`` returns.

    Attributes:
        rows: rows that say now that they were removed, with an image before or without.
        shards_done: shards that were put in their place.
        shards_lost: shards that stay as they were though there is something to remove, by number, with the reason.
        not_found: those of the hosts and URLs named of which there is no row.
        unfinished: shards of which a run that did not end had left something, by name; that is gone.
        seconds: wall time.
        interrupted: whether it was asked to stop before its end.

    """

    rows: int
    shards_done: int
    shards_lost: Mapping[int, str]
    not_found: tuple[str, ...]
    unfinished: tuple[str, ...]
    seconds: float
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether nothing that was meant is left in a finished shard."""
        return not (self.shards_lost or self.interrupted)


def purge(output_folder: str, **options: Any) -> PurgeReport:  # noqa: ANN401  checked against their fields
    """Remove images from a dataset, with the options of ``aimg2ds purge`` as keywords.

    From a script, a notebook, or inside a running event loop.

    Raises:
        OptionsError: an option cannot be used, a line of a file is no host or URL, or there is no such dataset.
        StorageError: the folder cannot be read or written to.
        WorkerError: worker processes cannot be kept running.

    """
    checked = PurgeOptions.of(output_folder=output_folder, **options)
    return waited_for(lambda: run_purge(checked))


async def run_purge(options: PurgeOptions, stop: Stop | None = None) -> PurgeReport:
    """Do the whole job as *options* say; *stop* is how to ask for an early end."""
    removal = Removal.parse(hosts=lines_of("hosts", options.removal.hosts), urls=lines_of("urls", options.removal.urls))
    meant = _Meant(removal)
    # Nothing is fetched, so that any options of fetching will do.
    outcome = await do_again(options.removal.output_folder, meant, FetchOptions(), options.run, stop or Stop())
    return PurgeReport(
        rows=outcome.totals.committed.count,
        shards_done=outcome.totals.shards_done,
        shards_lost=outcome.lost,
        not_found=tuple(sorted(removal.named - meant.found)),
        unfinished=tuple(outcome.unfinished),
        seconds=outcome.seconds,
        interrupted=outcome.interrupted,
    )


@dataclass(frozen=True, slots=True)
class _Meant:
    """The rows that a *removal* means, by where they were asked for and by where redirects led; removed once.

    *found* are those of its hosts and URLs that there are rows of.
    """

    removal: Removal
    found: set[str] = field(default_factory=set)
    removes = True
    columns = ("url", "final_url", "error_class")

    def begin(self, store: Store) -> None:
        """Have no fetch into this folder ask for them again."""
        keep_removal(store, self.removal)

    def hindrance(self, marker: Marker) -> str | None:
        """Return why a shard cannot be written anew, if so."""
        return hindrance(marker)

    def at_most(self, marker: Marker) -> int:
        """Return how many rows a shard has: which are meant its table alone tells."""
        return marker.tally.count

    def rows(self, table: pa.Table) -> frozenset[int]:
        """Return which rows of a shard are meant and still there; a failed one is, too, as it may heal."""
        blank = [None] * table.num_rows
        urls, final_urls, reasons = (
            table.column(name).to_pylist() if name in table.column_names else blank for name in self.columns
        )
        match = self.removal.match
        rows = []
        for index, (url, final_url, reason) in enumerate(zip(urls, final_urls, reasons, strict=True)):
            if (named := match(url) or match(final_url)) is not None:
                self.found.add(named)
                if reason != ErrorClass.OPTOUT_REMOVED:
                    rows.append(index)
        return frozenset(rows)
