"""Counts by half octaves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.histograms import bucket_of, least_of, quantile


@given(st.floats(0, 1e15))
def test_each_value_is_in_the_bucket_that_holds_it(value: float) -> None:
    """No value is below its bucket, or above it."""
    bucket = bucket_of(value)

    assert least_of(bucket) <= value * (1 + 1e-9)
    assert value < least_of(bucket + 1) * (1 + 1e-9)


@given(st.lists(st.floats(0.5, 1e9), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(values: list[float], share: float) -> None:
    """Within half an octave it is what sorting all of them would tell."""
    told = quantile(Counter(map(bucket_of, values)), share)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]

    assert told is not None
    assert least_of(bucket_of(exact)) * (1 - 1e-9) <= told <= least_of(bucket_of(exact) + 1) * (1 + 1e-9)


def test_nothing_counted_has_no_quantiles() -> None:
    """Rather than one of 0."""
    assert quantile({}, 0.5) is None


def test_the_middle_of_one_bucket_is_told() -> None:
    """In proportion to those below."""
    assert quantile({4: 10}, 0.5) == pytest.approx((4 + 2**2.5) / 2)
