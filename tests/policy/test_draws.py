"""A random sample of a stream: each row has the same chance, and no more are drawn than there is room for."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy.draws import Draws


def drawn(batches: list[int], size: int, seed: int = 0) -> list[int]:
    """Return the rows of a stream that are in a sample, by their number in it."""
    draws = Draws(size, random.Random(seed).random)  # noqa: S311  the same in every run
    sample: dict[int, int] = {}
    before = 0
    for rows in batches:
        sample |= {place: before + position for position, place in draws.take(rows)}
        before += rows
    return [sample[place] for place in sorted(sample)]


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 30), st.integers(0, 99))
def test_sample_has_as_many_different_rows_as_there_are(batches: list[int], size: int, seed: int) -> None:
    """All of a short list, and of a long one so many."""
    rows = drawn(batches, size, seed)

    assert len(rows) == len(set(rows)) == min(size, sum(batches))
    assert all(0 <= row < sum(batches) for row in rows)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 30))
def test_how_the_stream_is_cut_makes_no_difference(batches: list[int], size: int) -> None:
    """The same seed draws the same rows of a list, whatever its batches."""
    assert drawn(batches, size) == drawn([sum(batches)], size)


def test_every_row_has_the_same_chance() -> None:
    """The first and the last as any other."""
    counts = Counter(row for seed in range(3000) for row in drawn([7, 13, 20], 5, seed))

    # 375 each on the average, with a standard deviation of 18.
    assert min(counts[row] for row in range(40)) > 375 - 4.5 * 18
    assert max(counts.values()) < 375 + 4.5 * 18


def test_another_seed_draws_other_rows() -> None:
    """Of a long list."""
    assert drawn([10_000], 10, seed=1) != drawn([10_000], 10, seed=2)


def test_greatest_chance_is_no_error() -> None:
    """A number so near 1, or 0 itself, ends nothing."""
    for number in (0.0, 1 - 2**-53):
        draws = Draws(3, lambda number=number: number)  # type: ignore[misc]  # bound at once
        assert len(draws.take(100)) >= 3
