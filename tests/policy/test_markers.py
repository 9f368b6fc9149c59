"""Stats files: what is written is read again, img2dataset's are read, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.options import Options
from async_img2ds.policy.markers import SCHEMA_VERSION, Marker, differences, digest_of_urls
from async_img2ds.records import FileSum, Tally

# As img2dataset 1.47.0 writes it.
IMG2DATASETS = {
    "count": 10,
    "successes": 8,
    "failed_to_download": 1,
    "failed_to_resize": 1,
    "duration": 1.5,
    "start_time": 1700000000.25,
    "end_time": 1700000001.75,
    "status_dict": {"success": 8, "HTTP Error 404: Not Found": 1, "image decoding error": 1},
}
whole = st.integers(0, 2**40)


@given(
    st.builds(
        Marker,
        tally=st.builds(
            Tally, whole, whole, whole, whole, whole, whole, st.dictionaries(st.text(), whole).map(Counter)
        ),
        started=st.floats(0, 2e9),
        seconds=st.floats(0, 1e6),
        files=st.none() | st.dictionaries(st.text(), st.builds(FileSum, whole, st.text(), st.none() | whole)),
        urls=st.none() | st.text(),
        made_with=st.none() | st.dictionaries(st.text(), st.none() | st.booleans() | whole | st.lists(st.text())),
        schema_version=st.none() | whole,
    )
)
def test_what_is_written_is_read_again(marker: Marker) -> None:
    """Every field, whether it is there or not."""
    assert Marker.parse(marker.to_json()) == marker


def test_img2datasets_stats_are_read() -> None:
    """They tell the counts, and nothing of files, URLs and options."""
    marker = Marker.parse(json.dumps(IMG2DATASETS).encode())

    assert marker.tally.count == 10
    assert marker.tally.messages["success"] == 8
    assert (marker.started, marker.seconds) == (1700000000.25, 1.5)
    assert (marker.files, marker.urls, marker.made_with, marker.schema_version) == (None,) * 4


WRONG_FILES: list[Any] = [["a"], 7, {"a": 7}, {"a": {"size": 1}}]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"null", b"7"),
        *(json.dumps({**IMG2DATASETS, "count": wrong}).encode() for wrong in ("10", None, 1.5)),
        *(json.dumps({**IMG2DATASETS, "files": wrong}).encode() for wrong in WRONG_FILES),
        json.dumps({**IMG2DATASETS, "status_dict": None, "start_time": []}).encode(),
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    """With the one exception that callers expect."""
    with pytest.raises(ValueError, match=r"not the stats|unexpected|empty|JSON|input"):
        Marker.parse(content)


def test_the_options_that_shape_a_dataset_are_values_of_json() -> None:
    """So they are the same after a marker was read, and tell in words what differs; those of fetching do not matter."""
    then = json.loads(json.dumps(Options.of(url_list="a", caption_col="c", input_format="csv").shape()))
    now = Options.of(
        url_list="b", input_format="csv", image_size=512, max_image_area=100, save_additional_columns=["x"], timeout=3
    ).shape()

    defaults = Options.of(
        url_list="a", disallowed_header_directives=["NoML", "NoIndex", "noai", "noimageai", "noimageindex"]
    )
    assert differences(Options.of(url_list="a").shape(), defaults.shape()) == []
    assert differences(then, then) == []
    assert differences(then, now) == [
        "caption_col was c and is None",
        'save_additional_columns was [] and is ["x"]',
        "image_size was 256 and is 512",
        "max_image_area was None and is 100.0",
    ]
    assert differences({}, now) == differences({"image_depth": 3}, now) == []


def test_urls_are_the_same_however_they_are_cut() -> None:
    """A missing one counts as an empty one, and order matters."""
    urls = ["http://a/1", None, "http://b/ü"]
    together, apart = pa.chunked_array([urls]), pa.chunked_array([urls[:1], urls[1:]], pa.large_string())

    assert digest_of_urls(together) == digest_of_urls(apart)
    assert digest_of_urls(together) == hashlib.sha256("http://a/1\n\nhttp://b/ü\n".encode()).hexdigest()
    assert digest_of_urls(together) != digest_of_urls(pa.chunked_array([urls[::-1]]))
    assert SCHEMA_VERSION == 1
