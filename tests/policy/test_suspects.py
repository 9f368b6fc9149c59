"""What looks wrong with a URL, whether it is asked for all the same, and that the quick look misses nothing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.inputs.hosts import hosts_of
from async_img2ds.nets import parse_net
from async_img2ds.policy.sources import NO_SOURCES, Sources
from async_img2ds.policy.suspects import ODD, SUSPICIONS, Suspicion, caption_columns, hash_columns, suspicion_of
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.sources import parse_source

PUBLIC = AddressPolicy()
EXAMPLES: dict[Suspicion | None, list[str | None]] = {
    Suspicion.BLANK: [None, "", "  \t"],
    Suspicion.CONTROL: ["http://a.org/x.jpg\tA cat", "http://a.org/x\x00.jpg"],
    Suspicion.TOO_LONG: ["http://a.org/" + "x" * 20_000],
    Suspicion.SCHEME: ["ftp://a.org/x.jpg", "data:image/png;base64,AAAA", "s3://bucket/x.jpg"],
    Suspicion.NO_URL: ["images/cat.jpg", "/images/cat.jpg", "A cat", "//a.org/x.jpg"],
    Suspicion.HOST: ["http:///x.jpg", "http://a b.org/x.jpg", "https://[::1/x.jpg", "http://1.2.3.4.5/x.jpg"],
    Suspicion.ADDRESS: ["http://10.0.0.1/x.jpg", "https://[::1]/x.jpg", "http://169.254.169.254/x.jpg"],
    Suspicion.PORT: ["http://a.org:25/x.jpg"],
    Suspicion.LOCAL: [
        "http://localhost/x.jpg",
        "http://server/x.jpg",
        "https://nas.local/x.jpg",
        "http://a.LAN./x.jpg",
    ],
    Suspicion.PLACEHOLDER: ["http://example.com/x.jpg", "https://www.example.org/x.jpg", "http://a.test/x.jpg"],
    Suspicion.ESCAPED: ["http://a.org/x?a=1&amp;b=2"],
    Suspicion.SPACE: ["http://a.org/my cat.jpg", " http://a.org/x.jpg", "http://a.org/x.jpg "],
    Suspicion.CREDENTIALS: ["http://me:secret@a.org/x.jpg"],
    Suspicion.ENDING: ["http://a.org/x.html", "http://a.org/x.PDF?v=1", "http://a.org/x.svg#a"],
    None: ["http://a.org/x.jpg", "https://a.org:8080/x?y=1&z=2", "http://8.8.8.8/x.jpg", "https://a.org/@me/x.jpg"],
}
each = [(url, what) for what, urls in EXAMPLES.items() for url in urls]


@pytest.mark.parametrize(("url", "what"), each)
def test_what_looks_wrong_is_named(url: str | None, what: Suspicion | None) -> None:
    """Each in the word for it, and nothing where nothing is."""
    assert suspicion_of(url, NO_SOURCES, PUBLIC) is what


def test_every_suspicion_has_an_example_here_and_advice() -> None:
    """The table says of each what to do."""
    assert set(SUSPICIONS) == set(Suspicion)
    assert set(Suspicion) - {Suspicion.SOURCE} == EXAMPLES.keys() - {None}
    assert all(told.advice for told in SUSPICIONS.values())


def test_what_the_user_allows_is_not_suspicious() -> None:
    """Networks, ports and sources of one's own."""
    ours = AddressPolicy([parse_net("10.0.0.0/8"), parse_net("127.0.0.0/8:25")])
    bucket = Sources([parse_source("s3://bucket")])

    assert suspicion_of("http://10.0.0.1/x.jpg", NO_SOURCES, ours) is None
    assert suspicion_of("http://127.0.0.1:25/x.jpg", NO_SOURCES, ours) is None
    assert suspicion_of("s3://bucket/x.jpg", bucket, PUBLIC) is None
    assert suspicion_of("s3://other/x.jpg", bucket, PUBLIC) is Suspicion.SOURCE


hosts = st.sampled_from(
    ["a.org", "server", "10.0.0.1", "8.8.8.8", "[::1]", "nas.local", "www.example.com", "b.test.", ""]
)
made = st.builds(
    "{}{}{}{}/{}{}".format,
    st.sampled_from(["http://", "HTTPS://", " http://", "ftp://", ""]),
    st.sampled_from(["", "me@", "me:x@"]),
    hosts,
    st.sampled_from(["", ":25", ":8080", ":80"]),
    st.text("ab.@: &;?#", max_size=6),
    st.sampled_from([".jpg", ".html", ".svg?x", "&amp;", " ", ""]),
)


@given(made | st.sampled_from([url for url, _ in each if url]))
def test_quick_look_misses_nothing(url: str) -> None:
    """What it passes over would not have been suspicious."""
    listed = pa.array([url])
    is_odd = hosts_of(listed)[0].as_py() is None or pc.match_substring_regex(listed, ODD)[0].as_py()

    assert is_odd or suspicion_of(url, NO_SOURCES, PUBLIC) is None


@pytest.mark.parametrize(
    ("columns", "captions"),
    [
        (["URL", "TEXT", "similarity"], ["TEXT"]),
        (["url", "title", "caption"], ["caption", "title"]),
        (["url", "Alt Text"], ["Alt Text"]),
        (["url", "caption_reference_description"], ["caption_reference_description"]),
        (["url", "width", "context"], []),
    ],
)
def test_captions_are_found_by_their_names(columns: list[str], captions: list[str]) -> None:
    """The most telling first."""
    assert caption_columns(columns) == captions


def test_hashes_are_found_by_their_names() -> None:
    """Each with its kind, as verify_hash takes it."""
    assert hash_columns(["url", "MD5", "sha256"]) == [("MD5", "md5"), ("sha256", "sha256")]
