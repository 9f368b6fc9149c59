"""What limited a worker is told with its shards, and by the command at the end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from async_img2ds.fetch.pacer import PacerStatistics
from async_img2ds.worker.gauge import Gauge, Stage, Stages

FULL = PacerStatistics(window=4, in_flight=4, silent=0, waiting=10, late=0, held_bytes=0)


def test_time_is_counted_for_what_limited_it_and_told_once() -> None:
    """Idle before a full window of rows is time that the network took; working is the CPU's."""
    stages = Stages()
    gauge = Gauge(stages, 1, lambda: 0)
    with stages.fetching:
        time.sleep(0.1)
        assert gauge.look(FULL).fetching == 1
    assert gauge.look(FULL).fetching == 0
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    with ExitStack() as busy:
        for _ in range(9):
            busy.enter_context(stages.transforming)
        gauge.look(FULL)
    told = gauge.take()

    assert told.limits["network"] == pytest.approx(0.1, abs=0.09)
    assert told.limits["CPU"] >= 0.09
    assert gauge.take().limits == {}


def test_load_is_what_can_be_seen_at_the_moment() -> None:
    """Rows by stage, memory, and what the last look has found to be the limit."""
    stages = Stages()
    wall = iter((0.0, 1.0))
    gauge = Gauge(stages, 1, lambda: 0, clock=lambda: next(wall), cpu_clock=lambda: 0.0)
    with stages.fetching, stages.fetching, stages.writing:
        gauge.look(FULL)
        load = gauge.load(replace(FULL, silent=2, hosts_aside=3))

    assert (load.fetching, load.transforming, load.writing, load.in_flight, load.hosts_aside) == (2, 0, 1, 6, 3)
    assert load.limit == "network"
    assert 10e6 < load.memory_bytes < 10e9


def test_time_in_a_stage_is_added_up_over_its_rows() -> None:
    """Those that are still in it included, and each second once."""
    stage = Stage()
    with stage:
        time.sleep(0.05)
        first = stage.take()
        with stage:
            time.sleep(0.05)
    both = stage.take()

    assert first == pytest.approx(0.05, abs=0.04)
    assert both == pytest.approx(0.1, abs=0.08)
    assert stage.take() == pytest.approx(0, abs=1e-6)
