"""Where a process makes samples of rows: who starts them, who runs them, and how many at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from async_img2ds.fetch.fetcher import Complaints, Fetcher
from async_img2ds.fetch.pacer import PER_ADDRESS_MAX, Pacer
from async_img2ds.policy.removal import Removal
from async_img2ds.policy.sources import Sources
from async_img2ds.policy.window import IN_FLIGHT_LEAST, IN_FLIGHT_MOST, Window, next_window
from async_img2ds.sources import parse_source
from async_img2ds.worker.gauge import Gauge, Stages
from async_img2ds.worker.row import RowRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.options import InputOptions
    from async_img2ds.worker.means import Means, Share, Web

__all__ = ["Workshop"]


@dataclass(slots=True)
class Workshop:
    """Turns for rows from *pacer*, samples from *rows*.

    *window* says how many rows are under way, and *in_flight_most* how many may become so by themselves, None where the
    number was given.
    """

    pacer: Pacer
    rows: RowRunner
    client: Web
    gauge: Gauge
    window: Window
    in_flight_most: int | None

    @classmethod
    def of(
        cls,
        means: Means,
        share: Share,
        options: InputOptions,
        *,
        cores: int,
        keeps_provenance: bool,
        removal: Removal | None = None,
        may_start: Callable[[int], bool] | None = None,
    ) -> Self:
        """Return that of a process that works with *means* on *cores* cores, and asks within its *share*.

        *removal* is what is not asked for; *may_start* says beside how many rows under way another may start.
        """
        fetch = share.fetch
        most = min(fetch.thread_count or IN_FLIGHT_MOST, means.connections_max)
        window = Window(most if fetch.thread_count else min(most, IN_FLIGHT_LEAST))
        sources = Sources(map(parse_source, fetch.allow_sources))
        pacer = Pacer(
            in_flight_max=window.size,
            connections_max=most,
            held_bytes_max=fetch.in_flight_bytes_max,
            manners=share.manners,
            neighbours=means.neighbours,
            per_address_max=max(1, PER_ADDRESS_MAX // share.processes),
            parse=sources.parse,
            may_start=may_start,
            clock=means.clock,
        )
        fetcher = Fetcher(
            means.client,
            fetch,
            means.addresses,
            means.jitter,
            means.may_be_image,
            complaints=Complaints(means.clock),
            clock=means.clock,
            keeps_provenance=keeps_provenance,
            host_rules=share.rules,
            removal=removal or Removal(),
            sources=sources,
            reader=means.reader,
        )
        stages = Stages.by(means.clock)
        gauge = Gauge(stages, cores, means.client.looking_up, means.clock, means.cpu_clock)
        by_itself = None if fetch.thread_count else most
        return cls(pacer, RowRunner(fetcher, means.transform, stages, options), means.client, gauge, window, by_itself)

    def look(self) -> None:
        """See how it is doing, and have more or fewer rows under way; to be called twice a second."""
        sight = self.gauge.look(self.pacer.statistics())
        if self.in_flight_most is not None:
            self.window = next_window(self.window, sight, self.in_flight_most)
            self.pacer.resize(self.window.size)
