"""Hosts of URLs, many at a time: the same as one by one."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_img2ds.inputs.hosts import host_of, hosts_of

_ODD = st.text(alphabet="abAZ09.-_:/?#@[]%\\ \t\n\x00\x7fäß。１٣x\ufffd", max_size=12)
_NAMES = st.lists(st.text(alphabet="aZ09-_x", max_size=66), max_size=6).map(".".join)
_URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://", "hTtPs://", "  http://", "http:", "http:///", "ftp://", "//", ""]),
        _NAMES | _ODD,
        st.sampled_from(["", ":80", ":0", ":09", ":9999", ":65536", ":", "@h.test"]),
        st.sampled_from(["", "/", "?", "#", " ", "/a?b#c"]),
        _ODD,
    ),
)
# At the bounds: of a name, of a URL, and of one that becomes longer when it is sent.
_LONG = st.sampled_from(
    [
        *(f"http://{'a.' * 125}{last}/" for last in ("aaa", "aaaa")),
        *(f"http://{'a' * length}.test/" for length in (58, 59, 63, 64)),
        *(f"http://h.test/{'x' * length}" for length in (5_300, 5_400, 16_370, 16_371)),
        *(f"http://h.test/{mark * 5_400}" for mark in ('"', "ä")),
    ]
)


@given(st.lists(st.none() | _URLS | _LONG | st.text(max_size=30), max_size=20))
@settings(max_examples=500)
def test_hosts_are_those_that_rows_are_paced_under(listed: list[str | None]) -> None:
    """Whatever stands in a list, a column of URLs has the hosts that each would have by itself."""
    texts = [None if url is None else url.encode(errors="replace").decode() for url in listed]

    assert hosts_of(pa.array(texts, pa.string())).to_pylist() == [host_of(url) for url in texts]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Images.Example.org/a.jpg?b", "images.example.org"),
        (" http://example.org:8080", "example.org"),
        ("http://example.org./a", "example.org"),
        ("http://user:password@example.org/a", "example.org"),
        ("http://example.org?a", "example.org"),
        ("http://192.0.2.1/a", "192.0.2.1"),
        ("http://[2001:DB8:0::1]/a", "2001:db8::1"),
        ("http://bücher.example/a", "xn--bcher-kva.example"),
        ("http://example.org:99999/a", None),
        ("ftp://example.org/a", None),
        ("http://exa mple.org/a", None),
        ("", None),
        (None, None),
    ],
)
def test_hosts_read_like_this(url: str | None, host: str | None) -> None:
    """One of each kind."""
    assert hosts_of(pa.array([url], pa.string())).to_pylist() == [host]
