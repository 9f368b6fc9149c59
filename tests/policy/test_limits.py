"""What is said to limit a worker, and how long a list takes at the worst."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.hints import FASTER
from async_img2ds.policy.limits import Limit, Sight, limit_of, worst_case_s
from sights import WAITING


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


whole = st.integers(0, 2000)
sights = st.builds(
    Sight,
    at=st.floats(0, 1e6),
    cpu_share=st.floats(0, 4),
    cores=st.integers(1, 64),
    window=st.integers(1, 1024),
    in_flight=whole,
    waiting=whole,
    looking_up=whole,
    fetching=whole,
    transforming=whole,
    writing=whole,
    bodies=whole,
)


@given(sights)
def test_there_is_always_a_limit(sight: Sight) -> None:
    """Whatever is seen, one is named, and there is advice for it."""
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
