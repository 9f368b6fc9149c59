"""Drawings, the pace of shards and figures in words: pure, so that little of them needs a browser to be looked at."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.page import words
from async_img2ds.page.charts import Area, Column, Series, Tick, columns, lines, nice, share_bar, stacked_bar
from async_img2ds.page.timeline import BINS_LEAST, BINS_MOST, PAUSES_MOST, Pace, Times, pace_of
from async_img2ds.policy.markers import Marker
from async_img2ds.records import Tally

HOSTILE = "\"><script>alert('x')</script>&amp;\u202e"
AREA = Area(
    "pace", HOSTILE, HOSTILE, [Tick(0, "0 s"), Tick(0.5, HOSTILE, minor=True), Tick(1, "9 s")], [Tick(0.3, HOSTILE)]
)


def times(*shards: tuple[float, float, int, int]) -> Times:
    found = Times()
    for started, seconds, rows, images in shards:
        found.add(Marker(Tally(rows, images), started, seconds))
    return found


def pace(*shards: tuple[float, float, int, int]) -> Pace:
    found = pace_of(times(*shards))
    assert found is not None
    return found


SHARDS = st.lists(
    st.tuples(st.floats(1e9, 2e9), st.floats(0.1, 1e6), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1
)


@given(SHARDS)
def test_no_row_is_lost_over_time(shards: list[tuple[float, float, int, int]]) -> None:
    """However shards lie beside each other: rates times their time are all rows, and all images."""
    found = pace(*shards)
    width = found.worked / len(found.rows)

    assert BINS_LEAST <= len(found.rows) <= BINS_MOST
    assert sum(found.rows) * width == pytest.approx(sum(rows for _, _, rows, _ in shards), rel=1e-6, abs=1e-3)
    assert sum(found.images) * width == pytest.approx(sum(images for *_, images in shards), rel=1e-6, abs=1e-3)


@given(SHARDS)
def test_times_without_a_shard_are_left_out_and_no_other(shards: list[tuple[float, float, int, int]]) -> None:
    """Every moment of a shard is on the axis, moments come in order, and pauses are few."""
    found = pace(*shards)

    assert all(any(first <= at <= last for first, last in found.spans) for at, *_ in shards)
    assert all(before[1] < after[0] for before, after in pairwise(found.spans))
    assert len(found.pauses()) <= PAUSES_MOST
    assert found.moment(0) == min(at for at, *_ in shards)
    assert found.moment(1) == pytest.approx(max(at + seconds for at, seconds, *_ in shards))


def test_a_night_between_two_runs_is_left_out_and_told() -> None:
    """With where it was, and how long."""
    found = pace((1e9, 100, 1000, 900), (1e9 + 100, 100, 1000, 900), (1e9 + 40_000, 200, 2000, 1800))

    assert found.worked == 400
    assert found.pauses() == [(0.5, 39_800)]
    assert found.rows == pytest.approx([10] * len(found.rows))


def test_times_that_cannot_be_are_left_out_and_counted() -> None:
    """Whatever a stats file says; with no others there is no pace."""
    found = times((1e300, 1, 5, 5), (-1, 1, 5, 5), (1e9, float("nan"), 5, 5), (float("nan"), 1, 5, 5))

    assert (len(found), found.untold) == (0, 4)
    assert pace_of(found) is None
    assert pace_of(times((1e9, 0, 5, 5))) is None


@given(st.floats(min_value=1e-9, max_value=1e18), st.booleans())
def test_an_axis_has_room_and_no_more(value: float, whole: bool) -> None:  # noqa: FBT001  hypothesis calls it
    """For the largest value, and less than twice and a bit as much; counts have whole lines."""
    top = nice(value, whole=whole)

    assert top >= value * (1 - 1e-12)
    assert top <= 2.01 * value or (whole and top == 4)
    assert not whole or (top / 4).is_integer()


@pytest.mark.parametrize(
    "drawn",
    [
        share_bar(1, 3, "good"),
        share_bar(0, 0, "good"),
        stacked_bar([("good", 2), ("gone", 0), ("bad", 1)], HOSTILE),
        stacked_bar([("good", 0)], "nothing"),
        columns([Column(3, HOSTILE), Column(0, ""), Column(1e9, "")], AREA, "good", words.short),
        columns([], AREA, "good", words.short),
        lines([Series("good", [1, 2, None, 3], filled=True), Series("rows", [None])], AREA, words.short),
    ],
)
def test_drawings_are_whole_and_say_what_they_show(drawn: str) -> None:
    """As XML, with a name for whoever does not see them, or hidden where that is said beside; nothing is run."""
    elements = list(ET.fromstring(f"<figure>{drawn}</figure>").iter())  # noqa: S314  drawn here
    shown = [each for each in elements if each.get("role") == "img"]

    bars = [each for each in elements if each.get("class") == "bar"]

    assert shown or (bars and all(each.get("aria-hidden") for each in bars))
    assert all(each.get("aria-label") or each.get("aria-labelledby") for each in shown)
    assert not [each.tag for each in elements if each.tag in ("script", "style", "a", "image")]
    assert not [name for each in elements for name in each.attrib if name.startswith("on") or name in ("href", "style")]


def test_lengths_stay_in_their_place() -> None:
    """A bar is never longer than its place, and one of little is still seen."""
    assert 'width="100.00%"' in share_bar(5, 3, "good")
    assert 'class="good" width="0.40%"' in share_bar(1, 10**9, "good")
    assert 'class="good" width="0.00%"' in share_bar(0, 10**9, "good")


@pytest.mark.parametrize(
    ("said", "is_said"),
    [
        (words.share(1, 10**7), "< 0.1 %"),
        (words.share(10**7 - 1, 10**7), "> 99.9 %"),
        (words.share(10**7, 10**7), "100 %"),
        (words.share(0, 5), "0 %"),
        (words.share(0, 0), "–"),
        (words.share(1, 3), "33.3 %"),
        (words.amount(999), "999 B"),
        (words.amount(1.5e6), "1.5 MB"),
        (words.amount(2.5e15), "2,500 TB"),
        (words.duration(0.25), "250 ms"),
        (words.duration(90), "90 s"),
        (words.duration(86_400 * 3), "3 days"),
        (words.short(1_500_000), "1.5 M"),
        (words.short(0), "0"),
        (words.rate(0.123), "0.12"),
        (words.moment(1e300), "at a time unknown"),
    ],
)
def test_figures_are_worded_honestly(said: str, is_said: str) -> None:
    """Nothing is all or none unless it is; units suit."""
    assert said == is_said


def test_texts_of_strangers_are_plain_and_short() -> None:
    """Without what is not seen, what turns the text around it, and what has no end."""
    assert words.cut("a\u202eb\0c\u200bd", 100) == "a b c d"
    assert words.cut("x" * 5000, 10) == "x" * 9 + "…"
    assert words.cut(None, 10) == ""
    assert words.cut("\ud800", 10) == ""
    assert words.cut('猫 😀 "cat"', 100) == '猫 😀 "cat"'
