"""Reports → figures that Prometheus asks for, at a port of this machine while a run lasts.

Labels are few and bounded: reasons for failures are a closed list, and workers are counted by number, not by process.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import MissingExtraError, OptionsError
from async_img2ds.histograms import BUCKETS_PER_OCTAVE, least_of
from async_img2ds.progress import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from async_img2ds.options import RunOptions
    from async_img2ds.records import Report

__all__ = ["Figures", "serving_metrics"]

logger = logging.getLogger(__name__)

# The last buckets that are told; what is above counts as more. Two minutes is longer than any attempt may take by
# default, and 128 MB is larger than most bodies may be.
LATENCY_BUCKET_MOST: Final = 17 * BUCKETS_PER_OCTAVE
SIZE_BUCKET_MOST: Final = 27 * BUCKETS_PER_OCTAVE


@contextmanager
def serving_metrics(options: RunOptions) -> Iterator[Figures | None]:
    """Yield what is to be told each report of a run, and serve what they come to; None if *options* do not ask for it.

    Raises:
        MissingExtraError: prometheus-client is not installed.
        OptionsError: the port cannot be had.

    """
    if options.metrics_port is None:
        yield None
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise MissingExtraError("metrics_port", "metrics") from error
    figures, registry = Figures(), CollectorRegistry()
    registry.register(figures)
    where = f"{options.metrics_address}:{options.metrics_port}"
    try:
        server, thread = start_http_server(options.metrics_port, options.metrics_address, registry)
    except OSError as error:
        raise OptionsError(f"metrics_port: cannot serve at {where}: {error.strerror or error}") from None
    logger.info("figures for Prometheus at http://%s/metrics", where)
    try:
        yield figures
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(slots=True, eq=False)
class Figures:
    """What the reports come to, as Prometheus wants it when it asks."""

    totals: Totals = field(default_factory=Totals)
    rows_expected: Callable[[], int | None] = lambda: None
    began: float = field(default_factory=time.time)
    _highest: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, report: Report) -> None:
        """Take in one report."""
        with self._lock:
            self.totals.add(report)

    def collect(self) -> list[Metric]:
        """Return the figures as they are now; asked for in a thread of the server."""
        with self._lock:
            return list(self._metrics())

    def _counted(self, name: str, count: int) -> int:
        """Return *count*, or what it was before it fell: what a worker had open that died is done again."""
        self._highest[name] = max(count, self._highest.get(name, 0))
        return self._highest[name]

    def _metrics(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        tally, loads = self.totals.so_far(), list(self.totals.loads().values())
        rows = CounterMetricFamily("aimg2ds_rows", "Rows that have come to an end.", labels=["status"])
        rows.add_metric(["success"], self._counted("success", tally.successes))
        rows.add_metric(["failed_to_download"], self._counted("not downloaded", tally.failed_to_download))
        rows.add_metric(["failed_to_resize"], self._counted("not resized", tally.failed_to_resize))
        yield rows
        failures = CounterMetricFamily("aimg2ds_failures", "Rows without an image, by reason.", labels=["error_class"])
        for name, count in sorted(tally.error_classes.items()):
            failures.add_metric([name], self._counted(name, count))
        yield failures
        received, written = self._counted("received", tally.body_bytes), self._counted("written", tally.image_bytes)
        yield CounterMetricFamily("aimg2ds_received_bytes", "Bytes of bodies received.", value=received)
        yield CounterMetricFamily("aimg2ds_written_bytes", "Bytes of images stored.", value=written)
        shards = CounterMetricFamily("aimg2ds_shards", "Shards that have come to an end.", labels=["outcome"])
        shards.add_metric(["done"], self.totals.shards_done)
        shards.add_metric(["lost"], len(self.totals.lost))
        yield shards
        limits = CounterMetricFamily(
            "aimg2ds_limited_seconds", "Time of workers, by what they waited for.", labels=["limit"]
        )
        for name, seconds in sorted(self.totals.limits.items()):
            limits.add_metric([name], seconds)
        yield limits
        stages = CounterMetricFamily("aimg2ds_stage_seconds", "Time that rows were in each stage.", labels=["stage"])
        for name, seconds in sorted(self.totals.stages.items()):
            stages.add_metric([name], seconds)
        yield stages
        latencies = HistogramMetricFamily("aimg2ds_request_seconds", "How long the last attempt of each row took.")
        latencies.add_metric([], _buckets(tally.latencies_ms, LATENCY_BUCKET_MOST, 1e-3), None)
        yield latencies
        sizes = HistogramMetricFamily("aimg2ds_body_bytes", "Sizes of bodies.")
        sizes.add_metric([], _buckets(tally.body_sizes, SIZE_BUCKET_MOST, 1.0), tally.body_bytes)
        yield sizes
        for name, help_, value in (
            ("in_flight_rows", "Rows under way.", sum(load.in_flight for load in loads)),
            ("window_rows", "Rows that may be under way.", sum(load.window for load in loads)),
            ("waiting_rows", "Rows of open shards that have not begun.", sum(load.waiting for load in loads)),
            (
                "hosts_aside",
                "Hosts that do not answer, summed over workers.",
                sum(one.hosts_aside for one in loads),
            ),
            ("workers", "Workers that have shards open.", len(loads)),
            ("start_time_seconds", "When the run began, as Unix time.", self.began),
        ):
            yield GaugeMetricFamily(f"aimg2ds_{name}", help_, value=value)
        memory = GaugeMetricFamily("aimg2ds_memory_bytes", "Resident memory of each worker.", labels=["worker"])
        for number, load in enumerate(loads):
            memory.add_metric([str(number)], load.memory_bytes)
        yield memory
        if (expected := self.rows_expected()) is not None:
            yield GaugeMetricFamily("aimg2ds_expected_rows", "Rows of the list that are to be done.", value=expected)


def _buckets(counts: Mapping[int, int], most: int, unit: float) -> list[tuple[str, float]]:
    """Return *counts* as Prometheus wants them: how many there are up to each of some bounds, and without one."""
    below, told = 0, []
    for bucket in range(most):
        below += counts.get(bucket, 0)
        if (bucket + 1) % BUCKETS_PER_OCTAVE == 0:  # whole octaves are as fine as anybody draws
            told.append((f"{unit * least_of(bucket + 1):g}", float(below)))
    return [*told, ("+Inf", float(sum(counts.values())))]
