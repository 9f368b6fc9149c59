"""What a sample says of a whole list, and how sure; and the settings that follow."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy.estimates import (
    Estimate,
    Pace,
    Wanted,
    host_hours,
    mean_of,
    middle_rate,
    pace_of,
    percentile,
    settings_for,
    share_of,
)

WANTED = Wanted(
    rows=1_000_000,
    repeats=0,
    is_deduped=False,
    image_bytes=20_000,
    image_share=0.8,
    output_format="webdataset",
    rows_per_shard=10_000,
    shard_digits=5,
    cores=4,
    processes=4,
    threads=None,
    limits={},
    errors={},
    has_servers=False,
)


def resample(values: list[float]) -> list[float]:
    return CHANCE.choices(values, k=len(values))


CHANCE = random.Random(0)  # noqa: S311  the same in every run


def test_share_is_wilsons() -> None:
    """As Newcombe (1998) has it for 81 of 263."""
    found = share_of(81, 263)

    assert (round(found.low, 4), round(found.likely, 4), round(found.high, 4)) == (0.2553, 0.3080, 0.3662)


@given(st.integers(0, 500), st.integers(1, 500))
def test_share_is_one_even_of_none_and_all(part: int, more: int) -> None:
    """Between 0 and 1, around what was seen, and never certain."""
    found = share_of(part, part + more)

    assert 0 <= found.low <= found.likely + 1e-12
    assert found.likely - 1e-12 <= found.high <= 1
    assert found.low < found.high


def test_mean_is_within_what_is_said_about_as_often_as_is_said() -> None:
    """Of sizes as images have them, a few of which are large."""
    chance, near = random.Random(7), 0  # noqa: S311  likewise
    truth = math.exp(10 + 0.8**2 / 2)
    for _ in range(60):
        found = mean_of([chance.lognormvariate(10, 0.8) for _ in range(200)], resample)  # type: ignore[arg-type]
        near += found.low <= truth <= found.high

    assert near >= 50, "of 60; 95 in 100 are promised, a little less is known of the bootstrap for such sizes"


def test_nothing_drawn_says_nothing() -> None:
    """No number stands for it."""
    assert math.isnan(mean_of([], resample).likely)  # type: ignore[arg-type]
    assert math.isnan(percentile([], 0.5))
    assert (share_of(0, 0).low, share_of(0, 0).high) == (0, 1)


def test_middle_of_a_sample_is_neither_its_start_nor_its_end() -> None:
    """A hundred answers in ten seconds, after a start of thirty and before a minute's wait for the last."""
    moments = [30 + number / 10 for number in range(100)] + [100.0]

    assert middle_rate(moments, 101) == pytest.approx(10, rel=0.05)
    assert middle_rate(moments[:10], 10) is None
    assert middle_rate([5.0] * 50, 50) is None


def test_pace_lies_between_the_whole_and_the_middle() -> None:
    """And is never said to be sure."""
    assert pace_of(Pace(10, 40)) == Estimate(20, 10, 40, pace_of(Pace(10, 40)).how)
    assert pace_of(Pace(10, 4)).high == 10
    assert pace_of(Pace(10, None)).high == 10
    assert pace_of(Pace(10, 40)).how.startswith("rough")


@pytest.mark.parametrize(("each_s", "hours"), [(0.0, 0.5), (1.0, 10.0)])
def test_one_host_takes_as_long_as_it_may_be_asked_for(each_s: float, hours: float) -> None:
    """Ten at a time of half a second each, or one every second, whichever is slower."""
    assert host_hours(36_000, 10, 0.5, each_s) == hours


def changes(**others: object) -> dict[str, str]:
    settings = settings_for(replace(WANTED, **others))  # type: ignore[arg-type]
    return {setting.option: setting.value for setting in settings if setting.is_change}


def test_nothing_is_changed_where_all_is_well() -> None:
    """The four that each run has are told all the same, with the reason."""
    settings = settings_for(WANTED)

    assert changes() == {}
    assert [one.option for one in settings] == [
        *("processes_count", "thread_count", "number_sample_per_shard", "dns_servers")
    ]
    assert all(one.why for one in settings)


@pytest.mark.parametrize(
    ("others", "option", "value"),
    [
        ({"processes": 2}, "processes_count", "4"),
        ({"threads": 8, "limits": {"network": 0.9}}, "thread_count", "auto"),
        ({"image_bytes": 1_000_000}, "number_sample_per_shard", "1000"),
        ({"image_bytes": 150_000}, "number_sample_per_shard", "1000"),
        ({"rows": 40_000}, "number_sample_per_shard", "2000"),
        ({"rows": 10**9, "shard_digits": 4}, "oom_shard_count", "5"),
        ({"errors": {"dns_timeout": 0.1}}, "dns_servers", "127.0.0.1"),
        ({"limits": {"DNS": 0.5}}, "dns_servers", "127.0.0.1"),
        ({"output_format": "files", "rows": 10**7}, "output_format", "webdataset"),
        ({"repeats": 50_000}, "dedupe", "True"),
    ],
)
def test_setting_is_changed_for_a_reason(others: dict[str, object], option: str, value: str) -> None:
    """Each by the figure that speaks for it."""
    assert changes(**others)[option] == value


@given(st.integers(1, 10**10), st.floats(1, 1e8), st.integers(1, 128), st.integers(1, 10**6))
def test_shards_are_never_absurd(rows: int, image_bytes: float, cores: int, now: int) -> None:
    """There is at least a row in each, and where their number was changed not fewer than a thousand."""
    said = changes(rows=rows, image_bytes=image_bytes, cores=cores, rows_per_shard=now)

    assert int(said.get("number_sample_per_shard", 1000)) >= 1000
