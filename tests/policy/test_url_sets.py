"""Sets of URLs in a few bytes each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy import url_sets
from async_img2ds.policy.url_sets import KnownUrls, SeenUrls


@given(parts=st.lists(st.lists(st.sampled_from([None, "", *"abcdefghijklmnop"]))), recent=st.integers(1, 9))
def test_what_has_come_before_is_found(parts: list[list[str | None]], recent: int) -> None:
    """Whatever is put together when: like a set, which missing and empty URLs are never in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(url_sets, "RECENT_MAX", recent)
        seen, plain = SeenUrls(), set[str]()
        for part in parts:
            expected = set()
            for position, url in enumerate(part):
                if url and url in plain:
                    expected.add(position)
                elif url:
                    plain.add(url)
            assert seen.repeats_in(part) == expected


@given(one=st.sets(st.text()), other=st.sets(st.text()), third=st.text())
def test_two_sets_make_one(one: set[str], other: set[str], third: str) -> None:
    """With the members of both."""
    sets = [KnownUrls(map(KnownUrls.hash_of, urls)) for urls in (one, other)]
    both = sets[0].with_all(sets[1])

    assert all(url in both for url in one | other)
    assert (third in both) == (third in one | other)
