"""Figures for Prometheus, as its own parser reads them over HTTP."""

from __future__ import annotations

import json
import socket
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from async_img2ds import OptionsError
from async_img2ds.errors import ErrorClass
from async_img2ds.options import RunOptions
from async_img2ds.prometheus import Figures, serving_metrics
from async_img2ds.records import Done, Load, Progress, Spent, Tally
from origin import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARD = Path(__file__).parent.parent / "docs" / "grafana.json"


@contextmanager
def serving() -> Iterator[tuple[Figures, int]]:
    """Yield what is told the reports, and the port at which they are served."""
    port = free_port()
    with serving_metrics(RunOptions(metrics_port=port)) as figures:
        assert figures is not None
        yield figures, port


def scraped(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what is served: the values by name and labels."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def tally(count: int, successes: int) -> Tally:
    failed = count - successes
    return Tally(
        count=count,
        successes=successes,
        failed_to_download=failed,
        body_bytes=1000 * count,
        error_classes=Counter(dns_timeout=failed),
        latencies_ms=Counter({10: successes, 20: failed}),
        body_sizes=Counter({20: count}),
    )


def test_a_run_is_served_while_it_lasts() -> None:
    """Counts, what limited it, and histograms whose bounds are in seconds and bytes; afterwards nobody listens."""
    with serving() as (figures, port):
        figures.rows_expected = lambda: 50
        figures.take(Done(1, 0, tally(20, 15), 1.0, Spent({"DNS": 3.5}, {"fetching": 9.0})))
        figures.take(Progress(1, tally(10, 8), Load(in_flight=7, hosts_aside=2, memory_bytes=5_000_000)))
        told = scraped(port)

    assert told["aimg2ds_rows_total", (("status", "success"),)] == 23
    assert told["aimg2ds_failures_total", (("error_class", "dns_timeout"),)] == 7
    assert told["aimg2ds_limited_seconds_total", (("limit", "DNS"),)] == 3.5
    assert told["aimg2ds_expected_rows", ()] == 50
    assert told["aimg2ds_in_flight_rows", ()] == 7
    # Bucket 10 is 32 to 45 ms, bucket 20 is 1.02 to 1.45 s.
    assert told["aimg2ds_request_seconds_bucket", (("le", "0.032"),)] == 0
    assert told["aimg2ds_request_seconds_bucket", (("le", "0.064"),)] == 23
    assert told["aimg2ds_request_seconds_bucket", (("le", "2.048"),)] == 30
    assert told["aimg2ds_request_seconds_bucket", (("le", "+Inf"),)] == 30
    assert told["aimg2ds_body_bytes_sum", ()] == 30_000
    with pytest.raises(OSError, match="refused"):
        scraped(port)


def test_counts_do_not_fall_when_a_worker_dies() -> None:
    """What it had open is done again by another, and a fall would look like a restart."""
    with serving() as (figures, port):
        figures.take(Progress(1, tally(10, 8)))
        before = scraped(port)["aimg2ds_rows_total", (("status", "success"),)]
        figures.take(Progress(1, Tally()))
        after = scraped(port)["aimg2ds_rows_total", (("status", "success"),)]

    assert before == after == 8


def test_labels_are_few_whatever_the_web_says() -> None:
    """Reasons are a closed list, and workers are numbered, so that days of runs leave no more series than one."""
    with serving() as (figures, port):
        everything = Tally(count=99, error_classes=Counter({str(name): 1 for name in ErrorClass}))
        for process in range(10_000, 10_003):
            figures.take(Progress(process, everything, Load(memory_bytes=1)))
        told = scraped(port)

    assert {labels for name, labels in told if name == "aimg2ds_memory_bytes"} == {
        (("worker", str(number)),) for number in range(3)
    }
    assert len(told) < 300


def test_a_port_that_is_taken_is_refused() -> None:
    """Before anything is fetched, in words."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionsError, match=f"metrics_port: cannot serve at 127.0.0.1:{port}"):
            serving_metrics(RunOptions(metrics_port=port)).__enter__()


def test_the_dashboard_asks_for_figures_that_there_are() -> None:
    """Each name that a panel of docs/grafana.json has is served."""
    with serving() as (figures, port):
        figures.rows_expected = lambda: 50
        figures.take(Done(1, 0, tally(20, 15), 1.0, Spent({"DNS": 3.5}, {"fetching": 9.0})))
        figures.take(Progress(1, tally(10, 8), Load(memory_bytes=1)))
        names = {name for name, _ in scraped(port)}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]

    assert len(panels) >= 8
    for expression in asked:
        words = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in expression).split()
        assert {word for word in words if word.startswith("aimg2ds_")} <= names
