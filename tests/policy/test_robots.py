"""robots.txt and tdmrep.json: what they say to us of a path."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy import robots, tdmrep
from async_img2ds.policy.robots import ROBOTS_BYTES_MAX


def forbids(text: str | bytes, path: str = "/images/a.jpg", our_name: str | None = None) -> str | None:
    """What a robots.txt says against *path*."""
    content = text if isinstance(text, bytes) else text.encode()
    return robots.parse(content, our_name).reservation(path)


# The examples of RFC 9309, 5.1 and 5.2, read as by a crawler of each name; then what its text says.
EXAMPLE = """
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("name", "path", "forbidden"),
    [
        (None, "/publications/a.gif", False),  # the longest pattern
        (None, "/a.gif", True),
        (None, "/a.gif?x", False),
        (None, "/example/a.jpg", True),
        ("foobot", "/", True),
        ("foobot", "/example/page.html", False),
        ("foobot", "/example/allowed.gif", False),
        ("BarBot", "/example/page.html", True),
        ("bazbot", "/example/page.html", True),
        ("bazbot", "/example/", False),
        ("quxbot", "/example/", False),
    ],
)
def test_examples_of_the_standard(name: str | None, path: str, forbidden: bool) -> None:  # noqa: FBT001
    """Groups for a name take the place of those for everybody, and an empty one forbids nothing."""
    assert (forbids(EXAMPLE, path, name) is not None) is forbidden


@pytest.mark.parametrize(
    "text",
    [
        "User-agent: *\nDisallow: /",
        "user-AGENT:*\nDISALLOW:/images",
        "User-agent: AsyncImgDS\nDisallow: /",
        "User-agent: asyncimgds/1.0\nDisallow: /",
        "User-agent: img2dataset\nDisallow: /\n\nUser-agent: *\nAllow: /",
        "User-agent: other\nUser-agent: img2dataset\nDisallow: /",
        "User-agent: img2dataset\nAllow: /\nUser-agent: AsyncImgDS\nDisallow: /images/",
        "User-agent: *\n# a comment\nDisallow: /images/ # and another",
        "User-agent: *\r\nDisallow: /\r\n",
        "User-agent: *\rDisallow: /",
        "\ufeffUser-agent: *\nDisallow: /",
        "User-agent: *\nSitemap: http://h/\nDisallow: /",
        "User-agent: *\nCrawl-delay: 1\nUser-agent: other\nDisallow: /",
        "User-agent: *\nDisallow: images",
        "User-agent: *\nDisallow: /*.jpg$",
        "User-agent: *\nDisallow: /*a*.jpg",
        "User-agent: *\nDisallow: *",
        "User-agent: *\nDisallow: /im%61ges/",
        "User-agent: *\nAllow: /images\nDisallow: /images/a",
        "User-agent: img2dataset\nAllow: /\n\nUser-agent: AsyncImgDS\nDisallow: /",
        "User-agent: AsyncImgDS\nAllow: /\n\nUser-agent: img2dataset\nDisallow: /",
        "rubbish\nUser-agent: *\nmore rubbish\nDisallow: /",
    ],
)
def test_what_forbids(text: str) -> None:
    """To us by either name, or to everybody."""
    assert forbids(text) == "disallow"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Disallow: /",
        "User-agent: *\nDisallow:",
        "User-agent: *\nDisallow: /other/",
        "User-agent: *\nDisallow: /\nAllow: /images/",
        "User-agent: *\nDisallow: /images/\nAllow: /images/",
        "User-agent: *\nDisallow: /a.jpg$",
        "User-agent: *\nDisallow: /images$",
        "User-agent: *\nDisallow: /Images/",
        "User-agent: img\nDisallow: /",
        "User-agent: img2dataset2\nDisallow: /",
        "User-agent: other\nDisallow: /",
        "User-agent: other\nCrawl-delay: 1\nDisallow: /",
        "User-agent: AsyncImgDS\nDisallow:\n\nUser-agent: *\nDisallow: /",
        "<html>Disallow: /</html>",
    ],
)
def test_what_forbids_nothing(text: str) -> None:
    """To us, of this path."""
    assert forbids(text) is None


@pytest.mark.parametrize(
    ("said", "reserved"),
    [
        ("Content-Signal: search=yes,ai-train=no", "Content-Signal ai-train=no"),
        ("content-signal: ai-train = NO", "Content-Signal ai-train=no"),
        ("Content-Signal: search=yes;ai-train=no;x", "Content-Signal ai-train=no"),
        ("Allow: /b\n" * (robots.RULES_MAX - 1) + "Content-Signal: ai-train=no", "Content-Signal ai-train=no"),
        ("Allow: /b\n" * robots.RULES_MAX, "more than 10000 rules"),
        ("Content-Signal: ai-train=yes, ai-input=no", None),
        ("Content-Usage: train-ai=n", "Content-Usage train-ai=n"),
        ("Content-Usage: /images/ train-ai=n", "Content-Usage train-ai=n"),
        ("Content-Usage: /other/ train-ai=n", None),
        ("Content-Usage: train-ai=n\nContent-Usage: /images/ train-ai=y", None),
        ("Content-Usage: train-ai=y\nContent-Usage: train-ai=n", "Content-Usage train-ai=n"),
        ("Content-Usage: TRAIN-AI=n", None),
    ],
)
def test_uses_that_a_site_reserves(said: str, reserved: str | None) -> None:
    """In a group, for all paths or some."""
    assert forbids(f"User-agent: *\n{said}\nAllow: /") == reserved
    assert forbids(f"User-agent: other\n{said}\nAllow: /") is None


def test_what_is_too_long_is_read_in_part() -> None:
    """Half a line at the end is none."""
    filler = b"# filler\n" * (ROBOTS_BYTES_MAX // 9)
    cut = ROBOTS_BYTES_MAX - len(b"User-agent: *\nDisallow: /images/a.jp")
    assert forbids(b"User-agent: *\nDisallow: /\n" + filler + filler) == "disallow"
    assert forbids(filler[:cut] + b"\nUser-agent: *\nDisallow: /images/a.jpg\nAllow: /") is None


@pytest.mark.parametrize(
    "text",
    [
        b"User-agent: *\nDisallow: /" + b"a*" * 200_000 + b"b",
        b"User-agent: *\n" + b"Disallow: /*a*a*a*a*a*a*a*a*b$\n" * 15_000,
        b"User-agent: x\n" * 35_000,
        b"User-agent: *\nDisallow: /\n" * 17_000,
        "User-agent: *\nDisallow: /".encode("utf-16"),
        bytes(range(256)) * 2_000,
    ],
)
def test_hostile_text_is_read_in_time(text: bytes) -> None:
    """Nothing in it makes matching go back."""
    began = time.process_time()
    for _ in range(3):
        forbids(text, "/" + "a" * 2_000)
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("pattern", "path", "forbidden"),
    [
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html", True),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-b.html", False),
        ("/path/foo-%24", "/path/foo-$", True),
        ("/path/foo-%24", "/path/foo-%24", True),
        ("/path/foo-$", "/path/foo-$", False),
        ("/a$b", "/a$b/c", True),
    ],
)
def test_signs_of_patterns_stand_for_themselves_when_they_are_quoted(
    pattern: str,
    path: str,
    forbidden: bool,  # noqa: FBT001
) -> None:
    """Examples of RFC 9309 2.2.3, and what follows from them."""
    assert (forbids(f"User-agent: *\nDisallow: {pattern}", path) == "disallow") is forbidden


PATHS = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda path: "/" + path)


@given(content=st.binary(max_size=300), path=PATHS)
def test_any_bytes_are_read(content: bytes, path: str) -> None:
    """And mostly say nothing."""
    robots.parse(content).reservation(path)
    tdmrep.parse(content).reserves(path)


NAMES = st.sampled_from(["*", "AsyncImgDS", "img2dataset", "AsyncImgDS/1.0", "other", ""])
SAID = st.one_of(
    st.tuples(
        st.sampled_from(["Allow", "Disallow", "disallow "]), PATHS | st.sampled_from(["/", "", "*", "/*$", "/a*b"])
    ),
    st.tuples(st.just("User-agent"), NAMES),
    st.tuples(st.sampled_from(["Content-Signal", "Content-Usage"]), st.text(max_size=20)),
    st.sampled_from([("Content-Signal", "ai-train=no"), ("Content-Usage", "/a train-ai=n"), ("Sitemap", "http://h/")]),
    st.tuples(st.text(max_size=10), st.text(max_size=10)),
)
ROBOTS = st.lists(SAID, max_size=12).map(lambda said: "\n".join(f"{key}: {value}" for key, value in said))


@given(text=ROBOTS, path=PATHS)
def test_any_statements_are_read(text: str, path: str) -> None:
    """In any order; and who forbids all of it to us at the end, in a group of ours, is heard whatever stands before."""
    assert forbids(text, path) is None or isinstance(forbids(text, path), str)
    assert (
        forbids(f"{text}\nSitemap: x\nAllow: /\nUser-agent: AsyncImgDS\nContent-Signal: ai-train=no", path) is not None
    )


RULES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "location": PATHS | st.sampled_from(["*", "/*", ""]) | st.none(),
            "tdm-reservation": st.integers(-1, 2) | st.text(max_size=2),
        },
    )
    | st.integers(),
    max_size=6,
)


@given(rules=RULES, path=PATHS)
def test_any_rules_of_a_tdmrep_are_read(rules: list[object], path: str) -> None:
    """And one for everything, at the beginning, is the first that fits."""
    assert reserves([{"location": "*", "tdm-reservation": 1}, *rules], path)
    assert not reserves([{"location": "*", "tdm-reservation": 0}, *rules], path)


@given(path=PATHS)
def test_path_is_the_same_however_it_is_quoted(path: str) -> None:
    """What is reserved in URLs is another thing when it is quoted; all else is the same."""
    text = f"User-agent: *\nDisallow: {quote(path, safe='/')}$"
    assert forbids(text, quote(path, safe="/")) == "disallow"
    assert forbids(text, quote(path, safe="/*$")) == "disallow"
    if not set(path) & set("!&'()+,;=:@?#[]%"):
        assert forbids(text, path) == "disallow"


@given(paths=st.lists(st.sampled_from(["/", "/a", "/a/b", "/*.jpg$", "/a*"]), max_size=6), path=PATHS)
def test_further_rule_that_forbids_lifts_nothing_that_was_forbidden(paths: list[str], path: str) -> None:
    """Unless it allows, a rule never allows."""
    text = "User-agent: *\n" + "".join(f"Disallow: {pattern}\n" for pattern in paths)
    before = forbids(text, path)
    assert forbids(text + "Disallow: /a\n", path) in (before, "disallow")


def reserves(rules: object, path: str = "/images/a.jpg") -> bool:
    """Whether a tdmrep.json reserves *path*."""
    return tdmrep.parse(json.dumps(rules).encode()).reserves(path)


@pytest.mark.parametrize(
    ("rules", "reserved"),
    [
        ([{"location": "/", "tdm-reservation": 1}], True),
        ([{"location": "/*.jpg$", "tdm-reservation": "1", "tdm-policy": "https://h/policy"}], True),
        ([{"location": "/images/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], False),
        ([{"location": "/", "tdm-reservation": 1}, {"location": "/images/", "tdm-reservation": 0}], True),
        ([{"location": "/other/", "tdm-reservation": 1}], False),
        ([{"location": "/", "tdm-reservation": True}, 1, {}, {"location": 1, "tdm-reservation": 1}], False),
        ([{"location": "/", "tdm-reservation": 2}], False),
        ({"location": "/", "tdm-reservation": 1}, False),
        ("/", False),
    ],
)
def test_first_rule_of_a_tdmrep_counts(rules: object, reserved: bool) -> None:  # noqa: FBT001
    """What is not understood is none."""
    assert reserves(rules) is reserved


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 200_000, b"\xff\xfe", b"null"])
def test_broken_tdmrep_says_nothing(content: bytes) -> None:
    """However it is broken."""
    assert not tdmrep.parse(content).reserves("/")
