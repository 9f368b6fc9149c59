"""Which X-Robots-Tag headers keep an image out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_img2ds.options import DEFAULT_DISALLOWED_DIRECTIVES
from async_img2ds.policy.optout import ROBOTS_TOKEN, disallowing_directive

DEFAULTS = frozenset(DEFAULT_DISALLOWED_DIRECTIVES)


def blocked(*lines: str, our_name: str | None = None) -> bool:
    """Whether the default directives find a reservation in these header lines."""
    return disallowing_directive(lines, DEFAULTS, our_name) is not None


@pytest.mark.parametrize("directive", DEFAULT_DISALLOWED_DIRECTIVES)
def test_each_default_directive_blocks(directive: str) -> None:
    """A directive alone blocks, and is named."""
    assert disallowing_directive([directive], DEFAULTS) == directive


@pytest.mark.parametrize(
    "line",
    [
        "max-image-preview:large, noai",
        "noai, max-snippet:-1",
        "noindex, nofollow, max-snippet:0",
        "max-snippet : 5, max-video-preview: 0, noai",
        "unavailable_after: 25 Jun 2030 15:00:00 PST, noai",
        "unavailable_after: 2030-06-25T15:00:00+00:00, noai",
        "unavailable_after: Wed, 03 Dec 2031 13:09:53 GMT, noai",
        "unavailable_after: Wednesday, 03-Dec-31 13:09:53 GMT, noai",
        "unavailable_after: sunset, noai",
        "noai, unavailable_after: Wed, 03 Dec 2031 13:09:53 GMT",
        "googlebot: noindex, img2dataset: noai",
        "BadBot: noindex, nofollow, AsyncImgDS: noimageai",
        "img2dataset : noai",
        "img2dataset: nofollow, noai",
        "img2dataset: max-snippet:0, noai",
        "*: noindex",
        "robots: noimageindex",
        "googlebot: nofollow, *: noai",
        "all, noai",
        "noai, all",
        "noai, otherbot: nofollow",
        "something-new, noai",
        ",,  ,noai,",
        "\tNoAI ",
        pytest.param("none", id="none is short for noindex, nofollow"),
    ],
)
def test_reservation_blocks(line: str) -> None:
    """A reservation addressed to everybody or to us blocks, wherever it stands in its line."""
    assert blocked(line)


@pytest.mark.parametrize(
    "line",
    [
        *("", " ", ",", ":", ",:,:", "all", "nofollow", "noarchive, notranslate, nosnippet", "noml"),
        *("noaix", "no ai", "noai;", "noai=1", "xnoindex", "noai: nofollow"),
        *("max-snippet:0", "max-image-preview:none", "max-image-preview: noai", "max-video-preview:noindex"),
        *("unavailable_after: 2030-06-25T15:00:00+00:00", "unavailable_after: Wed, 03 Dec 2031 13:09:53 GMT"),
        *("otherbot: noai", "otherbot: nofollow, noai", "otherbot: max-snippet:0, noai"),
        "googlebot: noindex, bingbot: noai, noimageai",
        *("not-img2dataset: noai", "img2dataset2: noai", "img2dataset: nofollow, otherbot: noai"),
    ],
)
def test_what_reserves_nothing_from_us_passes(line: str) -> None:
    """Rules of other kinds, values that look like rules, and rules addressed to others do not block."""
    assert not blocked(line)


def test_every_header_line_counts() -> None:
    """The most restrictive of several lines wins."""
    assert blocked("all", "otherbot: nofollow", "noai")


def test_name_holds_to_the_end_of_its_line_only() -> None:
    """The next line is addressed to everybody again."""
    assert blocked("otherbot: nofollow", "noai")


@pytest.mark.parametrize("our_name", ["mybot", "MyBot", " MyBot "])
def test_further_name_is_obeyed(our_name: str) -> None:
    """Whoever runs this under a name of their own is addressed by it, too."""
    assert blocked("MyBot: noai", our_name=our_name)
    assert blocked(f"{ROBOTS_TOKEN}: noai", our_name=our_name)
    assert not blocked("otherbot: noai", our_name=our_name)


def test_other_directives_can_be_chosen() -> None:
    """Only the directives asked for block."""
    assert disallowing_directive(["noml"], {"noml"}) == "noml"
    assert disallowing_directive(["noai"], {"noml"}) is None


def test_no_directives_block_nothing() -> None:
    """An empty choice switches the check off."""
    assert disallowing_directive(["noai, noindex, none"], frozenset()) is None


RULES = st.sampled_from(["noai", "NOINDEX", "nofollow", "all", "noimageai", "whatever", " noimageindex ", "", "noaix"])
VALUED = st.sampled_from(
    [
        *("max-snippet:-1", "max-image-preview:large", "max-video-preview: 0", "MAX-SNIPPET : 20"),
        *("unavailable_after: 25 Jun 2030 15:00:00 PST", "unavailable_after: Wed, 03 Dec 2031 13:09:53 GMT"),
    ]
)
NAMES = st.sampled_from(["", "", "otherbot: ", "img2dataset:", "AsyncImgDS : ", "*:", "googlebot:"])
ITEMS = st.tuples(NAMES, st.one_of(RULES, VALUED)).map("".join)
LINES = st.lists(ITEMS, max_size=6).map(",".join)


@given(lines=st.lists(st.text(), max_size=5), our_name=st.none() | st.text())
@example(lines=["unavailable_after:"], our_name=None)
@example(lines=["\ud800: noai"], our_name="\ud800")
@example(lines=["," * 100_000], our_name=None)
def test_any_text_is_read_without_an_error(lines: list[str], our_name: str | None) -> None:
    """A header is hostile text; the answer is a directive or None."""
    assert disallowing_directive(lines, DEFAULTS, our_name) in {*DEFAULTS, "none", None}


@given(items=st.lists(ITEMS, max_size=6), valued=VALUED, place=st.integers(0, 6))
def test_valued_rule_never_lifts_a_reservation(items: list[str], valued: str, place: int) -> None:
    """A rule with a value, put anywhere between other rules, changes nothing."""
    longer = [*items[:place], valued, *items[place:]]

    assert blocked(",".join(longer)) == blocked(",".join(items))


@given(lines=st.lists(LINES, max_size=4))
def test_case_does_not_matter(lines: list[str]) -> None:
    """Names and rules mean the same in any case."""
    assert blocked(*(line.upper() for line in lines)) == blocked(*(line.lower() for line in lines)) == blocked(*lines)


@given(lines=st.lists(LINES, max_size=5), data=st.data())
def test_order_of_lines_does_not_matter(lines: list[str], data: st.DataObject) -> None:
    """Header lines may arrive in any order."""
    assert blocked(*data.draw(st.permutations(lines))) == blocked(*lines)


@given(lines=st.lists(LINES, min_size=1, max_size=4), more=LINES)
def test_further_line_never_lifts_a_reservation(lines: list[str], more: str) -> None:
    """A line that allows does not outweigh one that forbids."""
    assert blocked(*lines, more) >= blocked(*lines)
