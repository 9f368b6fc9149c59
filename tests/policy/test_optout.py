"""Which headers of an answer, words of a list and metadata of an image keep an image out."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from signals import NOT_RESERVING, RESERVING, TDM, USAGE

from async_img2ds.errors import ErrorClass
from async_img2ds.options import DEFAULT_DISALLOWED_DIRECTIVES
from async_img2ds.policy.optout import ROBOTS_TOKEN, Consent, in_text, reserved_by_list, seen_in_image

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

DEFAULTS = frozenset(DEFAULT_DISALLOWED_DIRECTIVES)


NOW_S = datetime(2026, 11, 23, tzinfo=UTC).timestamp()


def signals(
    directives: Collection[str] = DEFAULTS, our_name: str | None = None, **headers: str | list[str]
) -> list[str]:
    """What is seen in an answer with these headers."""
    consent = Consent(frozenset(directives), our_name=our_name)
    return [str(signal) for signal in consent.seen_in(_getter(headers), NOW_S)]


def _getter(headers: Mapping[str, str | list[str]]) -> Callable[[str], list[str]]:
    def get(name: str) -> list[str]:
        value = headers.get(name.lower().replace("-", "_"), [])
        return value if isinstance(value, list) else [value]

    return get


def refusal(*lines: str, directives: Collection[str] = DEFAULTS, our_name: str | None = None) -> str | None:
    """The rule in these lines of X-Robots-Tag that keeps an image out."""
    consent = Consent(frozenset(directives), our_name=our_name)
    found = consent.refusal(consent.seen_in(_getter({"x_robots_tag": list(lines)}), NOW_S))
    return None if found is None else found.words


def blocked(*lines: str, our_name: str | None = None) -> bool:
    """Whether the default directives find a reservation in these header lines."""
    return refusal(*lines, our_name=our_name) is not None


@pytest.mark.parametrize("directive", DEFAULT_DISALLOWED_DIRECTIVES)
def test_each_default_directive_blocks(directive: str) -> None:
    """A directive alone blocks, and is named."""
    assert refusal(directive) == directive


EDGES = [
    *("unavailable_after: 2026-11-22", "unavailable_after: 22 Nov 2026 15:00:00 PST"),
    *("unavailable_after: Sunday, 22-Nov-26 13:09:53 GMT", "unavailable_after: 2026-11-23T00:59:59+01:00"),
]


@pytest.mark.parametrize("line", [*RESERVING, *EDGES])
def test_reservation_blocks(line: str) -> None:
    """A reservation addressed to everybody or to us blocks, wherever it stands in its line."""
    assert blocked(line)


@pytest.mark.parametrize("line", [*NOT_RESERVING, "unavailable_after: 2026-11-24"])
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
    """Only the directives asked for block, whatever they are; those that we know are seen all the same."""
    assert refusal("noarchive", directives={"noarchive"}) == "noarchive"
    assert refusal("noai", directives={"noarchive"}) is None
    assert refusal("unavailable_after: 2020-01-01, none", directives={"noai"}) is None
    assert signals({"noarchive"}, x_robots_tag="noai, noarchive") == ["X-Robots-Tag: noai", "X-Robots-Tag: noarchive"]


def test_no_directives_block_nothing() -> None:
    """An empty choice switches the check off; what was said is told."""
    assert refusal("noai, noindex, none", directives=()) is None
    assert in_text(Consent(frozenset()).seen_in(_getter({"x_robots_tag": "noai, none"}), NOW_S)) == (
        "X-Robots-Tag: noai, X-Robots-Tag: none"
    )


@pytest.mark.parametrize(("lines", "reserves"), TDM)
def test_reservation_against_data_mining(lines: list[str], reserves: bool) -> None:  # noqa: FBT001
    """1 reserves, and nothing else does."""
    assert signals(tdm_reservation=lines) == (["TDM-Reservation: 1"] if reserves else [])


@pytest.mark.parametrize(("lines", "reserved"), USAGE)
def test_preferences_of_use(lines: list[str], reserved: str | None) -> None:
    """As structured fields are read: by case, the last of a name, and not at all if anything is wrong."""
    assert signals(content_usage=lines) == ([] if reserved is None else [f"Content-Usage: {reserved}"])


@pytest.mark.parametrize(
    ("level", "headers", "refused_by"),
    [
        ("headers", {"x_robots_tag": "noai", "tdm_reservation": "1"}, ErrorClass.OPTOUT_HEADER),
        ("headers", {"tdm_reservation": "1"}, ErrorClass.OPTOUT_TDM),
        ("strict", {"content_usage": "train-ai=n"}, ErrorClass.OPTOUT_USAGE),
        ("none", {"x_robots_tag": "noai", "tdm_reservation": "1", "content_usage": "train-ai=n"}, None),
    ],
)
def test_what_is_seen_keeps_an_image_out_at_its_level(
    level: str, headers: dict[str, str], refused_by: ErrorClass | None
) -> None:
    """Each reservation has its own reason in the metadata."""
    consent = Consent(DEFAULTS, level)
    seen = consent.seen_in(_getter(headers), NOW_S)
    found = consent.refusal(seen)

    assert len(seen) == len(headers)
    assert (None if found is None else found.error_class) is refused_by


@pytest.mark.parametrize(
    "said",
    [True, 1, 1.0, "1", "true", "yes", "noai", "reserved", "no-train", ["x"], " Y ", b"1", {"a": 1}, "unknown", "0.5"],
)
def test_list_reserves_with_anything_that_is_not_no(said: object) -> None:
    """A reservation in words that we do not know is one."""
    assert reserved_by_list(said)


@pytest.mark.parametrize(
    "said",
    [
        None,
        False,
        0,
        0.0,
        "",
        " ",
        "0",
        "False",
        "no",
        "N",
        "null",
        "nan",
        "off",
        "0.00",
        -0.0,
        Decimal("0.00"),
        timedelta(0),
        [],
        {},
        b"",
        b"0",
    ],
)
def test_list_reserves_nothing_with_no(said: object) -> None:
    """Nor with nothing."""
    assert not reserved_by_list(said)


_VOCABULARY = "http://ns.useplus.org/ldf/vocab/"


@pytest.mark.parametrize(
    ("xmp", "reserved"),
    [
        (f"<plus:DataMining>{_VOCABULARY}DMI-PROHIBITED-GENAIML</plus:DataMining>", "DMI-PROHIBITED-GENAIML"),
        (f'plus:DataMining="{_VOCABULARY}DMI-PROHIBITED"', "DMI-PROHIBITED"),
        (
            f'<plus:DataMining rdf:resource="{_VOCABULARY}DMI-PROHIBITED-SEECONSTRAINT"/>',
            "DMI-PROHIBITED-SEECONSTRAINT",
        ),
        (f"<plus:DataMining>{_VOCABULARY}DMI-ALLOWED</plus:DataMining>", None),
        (f"<plus:DataMining>{_VOCABULARY}DMI-UNSPECIFIED</plus:DataMining>", None),
        ("a caption about DMI-PROHIBITED", None),
    ],
)
@pytest.mark.parametrize("before", [0, 100, 65_530, 2**20 - 60, 3 * 2**20])
def test_metadata_of_an_image(xmp: str, reserved: str | None, before: int) -> None:
    """Wherever it lies in the first megabyte, or the last."""
    seen = seen_in_image(bytes(before) + xmp.encode() + bytes(1000))

    assert [signal.words for signal in seen] == ([] if reserved is None else [reserved])


WORDS = f'<x plus:DataMining="{_VOCABULARY}DMI-PROHIBITED-AIMLTRAINING"/>'


def test_metadata_may_be_wide_or_packed() -> None:
    """As UTF-16 of either order, and as the compressed text of a PNG."""
    packed = zlib.compress(WORDS.encode())
    for content in (
        WORDS.encode("utf-16-le"),
        WORDS.encode("utf-16-be"),
        b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + packed,
        b"iTXtXML:com.adobe.xmp\0\1\0en\0title\0" + packed,
    ):
        assert [signal.words for signal in seen_in_image(b"\x89PNG" + content + bytes(9))] == [
            "DMI-PROHIBITED-AIMLTRAINING"
        ]


PIECES = [
    *(b"DMI-PROHIBITED", b"plus:DataMining", b"XML:com.adobe.xmp\0\1\0", b"\0\0", b"D\0M\0I", b"DMI-ALLOWED", b'="')
]


@given(content=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=12).map(b"".join))
def test_any_bytes_are_looked_into(content: bytes) -> None:
    """What is found stands there, and it stands behind the name of its property."""
    for signal in seen_in_image(content):
        assert signal.words.encode() in content
        assert content.index(b"DataMining") < content.rindex(signal.words.encode())


@given(
    name=st.sampled_from(["x_robots_tag", "tdm_reservation", "content_usage"]), lines=st.lists(st.text(), max_size=4)
)
def test_any_headers_are_read_without_an_error(name: str, lines: list[str]) -> None:
    """They are hostile text, with halves of characters in it."""
    consent = Consent(DEFAULTS)
    for signal in consent.seen_in(_getter({name: lines}), NOW_S):
        str(signal).encode()


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
    assert refusal(*lines, our_name=our_name) in {*DEFAULTS, "none", "unavailable_after", None}


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
