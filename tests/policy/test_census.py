"""What is counted of a long list in little memory: exact while it fits, near beyond, and honest about how near."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy.census import Different, Frequent, Ranked
from async_img2ds.policy.url_sets import KnownUrls

hashes = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=60)


def hashed(values: list[int]) -> list[int]:
    return [KnownUrls.hash_of(str(value)) for value in values]


@given(hashes)
def test_counts_are_exact_while_they_fit(values: list[int]) -> None:
    """Different values, and rows that repeat one."""
    counted = Different(held_most=60)
    counted.add(values)

    assert (counted.different().count, counted.repeats().count) == (len(set(values)), len(values) - len(set(values)))
    assert counted.different().is_exact
    assert counted.repeats().is_exact


def test_estimates_are_as_near_as_they_say() -> None:
    """Of many lists the truth is within the margin about as often as is promised, for different values and repeats."""
    near = [0, 0]
    for trial in range(60):
        values = [trial * 10**6 + number for number in range(4000)]
        values += values[:300] + values[:40] * 5
        counted = Different(held_most=256)
        counted.add(hashed(values))
        different, repeats = counted.different(), counted.repeats()
        near[0] += abs(different.count - 4000) <= different.margin
        near[1] += abs(repeats.count - 500) <= repeats.margin
        assert different.margin < 4000 * 0.2

    assert min(near) >= 50, "of 60; 95 in 100 are promised"


def test_memory_has_a_bound() -> None:
    """However many values come, no more are held."""
    counted = Different(held_most=100)
    counted.add(hashed(list(range(5000))))

    assert len(counted._rows_of) <= 100


def test_value_that_comes_most_often_is_told_once() -> None:
    """Whoever leads is returned when it takes the lead, so that its URL can be kept."""
    counted = Different()

    assert counted.add([1, 2, 3]) is None
    assert counted.add([2]) == 2
    assert counted.add([3]) is None, "it has as many, not more"
    assert counted.add([3]) == 3
    assert counted.most == 3


@given(st.lists(st.sampled_from("abcdefghij"), max_size=80), st.integers(2, 6))
def test_most_frequent_are_never_counted_too_often_nor_missed_by_more_than_is_said(rows: str, most: int) -> None:
    """The truth lies between what is counted and that with what may have been missed."""
    counted, truth = Frequent(named_most=most), Counter(rows)
    for row in rows:
        counted.add({row: 1})

    assert all(one.rows <= truth[one.value] <= one.rows + one.missed for one in counted.top(10))


def test_large_hosts_are_found_among_a_multitude_of_small_ones() -> None:
    """Although most of them are forgotten on the way."""
    chance, counted = random.Random(1), Frequent(named_most=50)  # noqa: S311  the same in every run
    for round_ in range(200):
        counted.add({f"small{round_}-{number}": 1 for number in range(20)} | {"large": 7, "next": 4})
        counted.add({f"small{chance.randrange(10**6)}": 1})

    assert counted.top(2) == [Ranked("large", 1400), Ranked("next", 800)]
