"""Totals, and how they are shown."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from async_img2ds.progress import Totals, show_progress
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
    assert (totals.so_far().count, totals.in_flight()) == (25, 13)

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
