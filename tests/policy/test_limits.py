"""What is said to limit a worker, and how many rows it has under way because of it."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.hints import FASTER
from async_img2ds.policy.limits import (
    IN_FLIGHT_LEAST,
    IN_FLIGHT_MOST,
    Limit,
    Sight,
    limit_of,
    next_in_flight,
    worst_case_s,
)

# A worker of one core whose window is full of rows that wait for servers.
WAITING = Sight(
    cpu_share=0.2,
    cores=1,
    window=64,
    in_flight=64,
    waiting=500,
    looking_up=0,
    fetching=64,
    transforming=0,
    writing=0,
)


@pytest.mark.parametrize(
    ("seen", "limit"),
    [
        ({}, Limit.NETWORK),
        ({"cpu_share": 0.95}, Limit.CPU),
        ({"fetching": 54, "transforming": 10}, Limit.CPU),  # on a machine that others keep busy, too
        ({"looking_up": 60}, Limit.DNS),
        ({"in_flight": 8, "fetching": 8}, Limit.HOSTS),
        ({"in_flight": 8, "fetching": 8, "waiting": 0}, Limit.LIST),
        ({"fetching": 20, "writing": 44}, Limit.DISK),
    ],
)
def test_limit_is_what_is_scarce(seen: dict[str, int], limit: Limit) -> None:
    """Of what a worker needs, it names the one that there is too little of."""
    assert limit_of(replace(WAITING, **seen)) is limit


def test_rows_under_way_grow_while_threads_run_dry() -> None:
    """From the least to the most within some seconds, when servers are slow."""
    sight, looks = WAITING, 0
    while sight.window < IN_FLIGHT_MOST:
        size = next_in_flight(sight)
        sight, looks = replace(sight, window=size, in_flight=size, fetching=size), looks + 1

    assert sight.window == IN_FLIGHT_MOST
    assert looks < 10
    assert next_in_flight(sight, most=700) == 700


@pytest.mark.parametrize(
    "enough", [{"cpu_share": 0.9}, {"transforming": 5}, {"in_flight": 60}, {"in_flight": 3, "waiting": 0}]
)
def test_rows_under_way_do_not_grow_where_that_helps_nothing(enough: dict[str, int]) -> None:
    """A busy core, bodies that wait for it, hosts at their limit, and a list at its end need no more rows."""
    assert next_in_flight(replace(WAITING, **enough)) == WAITING.window


def test_rows_under_way_become_fewer_when_bodies_pile_up() -> None:
    """Each holds its bytes; there is no end of it below the least."""
    sight = replace(WAITING, window=1024, transforming=900)
    while (size := next_in_flight(sight)) != sight.window:
        sight = replace(sight, window=size)

    assert sight.window == IN_FLIGHT_LEAST


whole = st.integers(0, 2000)
sights = st.builds(
    Sight,
    cpu_share=st.floats(0, 4),
    cores=st.integers(1, 64),
    window=st.integers(1, IN_FLIGHT_MOST),
    in_flight=whole,
    waiting=whole,
    looking_up=whole,
    fetching=whole,
    transforming=whole,
    writing=whole,
)


@given(sights, st.integers(1, IN_FLIGHT_MOST))
def test_rows_under_way_stay_within_bounds(sight: Sight, most: int) -> None:
    """Whatever is seen, one limit is named, there is advice for it, and the window is a window."""
    size = next_in_flight(replace(sight, window=min(sight.window, most)), most)

    assert 1 <= size <= most
    assert str(limit_of(sight)) in FASTER


def test_every_limit_has_advice_and_no_other() -> None:
    """--explain has something to say of each."""
    assert set(FASTER) == {str(limit) for limit in Limit}


def test_worst_case_is_never_exceeded() -> None:
    """By rows that take any time up to the most, begun in order as others end."""
    chance = random.Random(1)  # noqa: S311  the same rows in every run
    for _ in range(50):
        rows, under_way = chance.randint(1, 300), chance.randint(1, 40)
        ends = [0.0] * under_way
        for _ in range(rows):
            heapq.heapreplace(ends, ends[0] + chance.choice([0.1, 5.0, 10.0]))
        assert max(ends) <= worst_case_s(rows, under_way, 10.0)
