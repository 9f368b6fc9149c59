"""Totals, and how they are shown."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
from collections import Counter

import pytest
from rich.console import Console

from async_img2ds.errors import ErrorClass
from async_img2ds.hints import HINTS
from async_img2ds.progress import Totals, show_progress
from async_img2ds.progress.bars import Bars
from async_img2ds.progress.lines import Lines, in_json
from async_img2ds.progress.view import Pace, view_of
from async_img2ds.records import Done, Load, Lost, Progress, Tally


def tally(count: int, successes: int, **classes: int) -> Tally:
    return Tally(count=count, successes=successes, failed_to_download=count - successes, error_classes=Counter(classes))


def test_totals_count_open_shards_once() -> None:
    """What a worker has in hand is replaced by its next report.

    It is not counted beside the shard once that is done.
    """
    totals = Totals()
    totals.add(Progress(1, tally(10, 9), Load(5)))
    totals.add(Progress(1, tally(20, 18), Load(6)))
    totals.add(Progress(2, tally(5, 5), Load(7)))
    assert totals.so_far().count == 25
    assert [load.in_flight for load in totals.loads().values()] == [6, 7]

    totals.add(Done(1, 0, tally(30, 27), 1.0))
    assert (totals.so_far().count, totals.committed.count, totals.shards_done) == (35, 30, 1)

    totals.add(Lost(2, 1, "disk full"))
    assert totals.lost == {1: "disk full"}


def test_lines_are_complete_and_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal the last state is a line of its own, with rows, success and reasons."""
    totals = Totals()
    with show_progress("plain", lambda: 200) as display:
        totals.add(Done(1, 0, tally(100, 90, dns_nxdomain=10), 1.0))
        display.update(totals)
    out, err = capsys.readouterr()

    assert out == ""
    assert "rows 100 of 200" in err
    assert "success 90.0%" in err
    assert "dns_nxdomain 10" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("expected", [None, 0, 200])
def test_bars_fit_the_terminal(width: int, expected: int | None) -> None:
    """Before anything is known and in the middle of a run, no line is wider than the terminal."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, legacy_windows=False, color_system=None)
    totals = Totals()
    with show_progress("rich", lambda: expected, console) as display:
        display.update(totals)
        totals.add(
            Progress(
                1,
                tally(100, 60, dns_nxdomain=10, http_status_4xx=9, connect_timeout=8, not_image=7, too_small=6),
                Load(5),
            )
        )
        display.update(totals)
        renderable = display.render()  # type: ignore[attr-defined]
        with console.capture() as captured:
            console.print(renderable)
    lines = captured.get().splitlines()

    assert "100" in lines[0]
    assert "success 60.0%" in captured.get()
    assert max(map(len, lines)) <= width


def test_none_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A library call can be silent."""
    with show_progress("none", lambda: None) as display:
        display.update(Totals())

    assert capsys.readouterr() == ("", "")


def test_a_view_tells_the_last_minutes_from_the_run() -> None:
    """Now is the last ten seconds, the time left is by the last five minutes, and the mean is the run's."""
    totals, pace = Totals(), Pace(0.0)
    done = Done(1, 0, tally(1000, 1000), 1.0)
    totals.add(done)
    pace.see(totals, 100.0)
    for second in range(101, 411):
        totals.add(Progress(2, tally(10 * (second - 100), 8 * (second - 100), connect_timeout=2), Load(limit="DNS")))
        pace.see(totals, float(second))
    view = view_of(totals, pace, 1000 + 3100 + 2000, 410.0)

    assert view.images_now == pytest.approx(8, rel=0.01)
    assert view.left_s == pytest.approx(200, rel=0.02)
    assert view.images_mean == pytest.approx((1000 + 8 * 310) / 410)
    assert view.limit == "DNS"
    assert [(failure.name, failure.hint) for failure in view.failures] == [
        ("connect_timeout", HINTS[ErrorClass.CONNECT_TIMEOUT])
    ]


def test_nothing_is_made_up_before_there_is_anything_to_tell() -> None:
    """No time left, no requests, no limit; and a run of no rows has none left."""
    view = view_of(Totals(), Pace(5.0), None, 5.0)

    assert (view.left_s, view.p50_ms, view.limit, view.images_now) == (None, None, "", 0.0)
    assert view_of(Totals(), Pace(5.0), 0, 6.0).left_s == 0


def test_lines_become_rarer_and_programs_can_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A run of a day leaves some hundred lines, each a JSON object of its own, and one at its end."""
    now = 0.0
    lines = Lines(lambda: 10, in_json, clock=lambda: now)
    totals = Totals()
    totals.add(Done(1, 0, tally(8, 6, not_image=2), 1.0))
    while now < 86_400:
        now += 5
        lines.update(totals)
    lines.last()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert 200 < len(told) < 500
    assert {each["event"] for each in told[:-1]} == {"progress"}
    assert told[-1]["event"] == "progress_end"
    assert (told[-1]["rows"], told[-1]["successes"], told[-1]["expected"]) == (8, 6, 10)
    assert told[-1]["failures"][0]["name"] == "not_image"


def test_figures_are_never_torn_apart() -> None:
    """Where a line has no room for one, it begins the next line."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60, legacy_windows=False, color_system=None)
    bars = Bars(lambda: 200)
    totals = Totals()
    totals.add(Progress(1, tally(100, 60, dns_nxdomain=40), Load(64, 64, 10, 3, 60, 1, 12, 10**9, "DNS")))
    bars.update(totals)
    console.print(bars.render())
    lines = screen.getvalue().splitlines()

    assert max(map(len, lines)) <= 60
    for figure in ("images/s (mean ", "shards done 0", "in flight 64", "hosts set aside 12", "memory 1.0 GB"):
        assert any(figure in line for line in lines)


def test_what_libraries_say_does_not_garble_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed, such as warnings, and what is logged by others come in lines of their own, above."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    console = Console(file=screen, force_terminal=True, width=60, legacy_windows=False, color_system=None)
    other = logging.StreamHandler(screen)
    logging.getLogger().addHandler(other)
    totals = Totals()
    totals.add(Done(1, 0, tally(100, 90), 1.0))
    try:
        with show_progress("rich", lambda: 200, console) as display:
            display.update(totals)
            time.sleep(0.6)  # until the bars were drawn
            print("printed", file=sys.stderr)  # noqa: T201
            logging.getLogger("library").warning("logged by a library")
            logging.getLogger("async_img2ds").warning("logged by us")
            assert other.stream is not screen
    finally:
        logging.getLogger().removeHandler(other)
    lines = [re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", line).strip() for line in re.split("[\\r\\n]", screen.getvalue())]

    assert "printed" in lines
    assert "logged by a library" in lines
    assert "WARNING  logged by us" in lines
    assert other.stream is screen
