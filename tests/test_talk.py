"""HTTP over one connection: the same answer comes out however its bytes come in, and nothing of another answer."""

from __future__ import annotations

import asyncio
import gzip
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
import pytest
from aiohttp import http_exceptions
from hypothesis import example, given
from hypothesis import strategies as st

from async_img2ds.fetch.client import INTERIMS_MAX, READ_BUFFER_BYTES, _is_interim, _Talk
from async_img2ds.fetch.connections import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE = b"\xff\xd8\xff\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + bytes(range(256))
LENGTH = b"Content-Length: %d\r\n" % len(IMAGE)
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
ZIPPED = gzip.compress(IMAGE, mtime=0)
# Each ends by itself, and has the image in it.
WHOLE = [
    OK + LENGTH + b"\r\n" + IMAGE,
    HINT + OK + LENGTH + b"\r\n" + IMAGE,
    b"HTTP/1.1 100 Continue\r\n\r\n" * INTERIMS_MAX + OK + LENGTH + b"\r\n" + IMAGE,
    OK + LENGTH + b"Connection: close\r\n\r\n" + IMAGE,
    OK + b"X: " + b"x" * 4000 + b"\r\n" + LENGTH + b"\r\n" + IMAGE,
    OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(IMAGE) + IMAGE + b"\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in IMAGE) + b"0\r\n\r\n",
    OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(ZIPPED) + ZIPPED,
]


async def _answered(pieces: Sequence[bytes], *, ends: bool = False) -> tuple[int, bytes, bool]:
    """Return the status and body of the answer that comes in *pieces*, and whether its connection may serve again."""
    talk = _Talk(asyncio.get_running_loop())
    talk.connection_made(mock.create_autospec(asyncio.Transport, instance=True))
    talk.set_response_params(read_until_eof=True, read_bufsize=READ_BUFFER_BYTES, auto_decompress=True)
    talk.expect(is_first=True)
    for piece in pieces:
        talk.data_received(piece)
    if ends:
        talk.connection_lost(None)

    async def read() -> tuple[int, bytes, bool]:
        message, body = await talk.read()
        while _is_interim(message.code):
            message, body = await talk.read()
        return message.code, await body.read(), not talk.should_close

    return await asyncio.wait_for(read(), 5)


def answered(pieces: Sequence[bytes], **options: Any) -> tuple[int, bytes, bool]:
    return asyncio.run(_answered(pieces, **options))


def cut(content: bytes, places: Sequence[int]) -> list[bytes]:
    """Return *content* in pieces, cut at *places*."""
    at = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[begin:end] for begin, end in pairwise(at)]


@given(answer=st.sampled_from(WHOLE), places=st.lists(st.integers(0, 10_000), max_size=8))
def test_pieces_make_the_same_answer(answer: bytes, places: list[int]) -> None:
    """Wherever the network has cut it, and every byte by itself, too."""
    usable = b"Connection: close" not in answer

    assert answered(cut(answer, places)) == (200, IMAGE, usable)


@pytest.mark.parametrize("answer", WHOLE, ids=range(len(WHOLE)))
def test_single_bytes_make_the_same_answer(answer: bytes) -> None:
    """As a slow sender has them."""
    assert answered(cut(answer, range(len(answer))))[:2] == (200, IMAGE)


@given(
    surplus=st.one_of(st.binary(min_size=1, max_size=40), st.just(WHOLE[0])),
    places=st.lists(st.integers(0, 10_000), max_size=4),
)
@example(surplus=b"\r\n", places=[])
@example(surplus=b" ", places=[len(OK + LENGTH)])
@example(surplus=b" ", places=[len(OK + LENGTH) + 1])
@example(surplus=b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", places=[])
def test_what_comes_behind_the_announced_length_is_nothing(surplus: bytes, places: list[int]) -> None:
    """The image is whole, and the connection serves no more."""
    answer = OK + LENGTH + b"\r\n" + IMAGE
    pieces = cut(answer + surplus, places)

    assert answered(pieces) == (200, IMAGE, False)


@given(content=st.binary(max_size=400), places=st.lists(st.integers(0, 400), max_size=4), head=st.booleans())
def test_any_bytes_are_an_answer_or_an_error(*, content: bytes, places: list[int], head: bool) -> None:
    """And never nothing: whoever waits hears of it when the connection ends, if not before."""
    answer = (OK + b"Transfer-Encoding: chunked\r\n\r\n" if head else b"") + content
    try:
        status, _, _ = answered(cut(answer, places), ends=True)
    except (aiohttp.ClientError, http_exceptions.HttpProcessingError, asyncio.IncompleteReadError):
        return
    assert status >= 100


def test_more_hints_than_anybody_needs_are_an_error() -> None:
    """Whether they come at once or one by one."""
    flood = [HINT] * (INTERIMS_MAX + 1)
    for pieces in (flood, [b"".join(flood)], [*flood, WHOLE[0]]):
        with pytest.raises(http_exceptions.BadHttpMessage, match="more than 8 interim answers"):
            answered(pieces)


def test_chunk_that_is_none_is_heard_of_at_once() -> None:
    """Though it comes when the answer is being read, and the connection stays open."""
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    for pieces in ([head, b"zz\r\n"], [head + b"zz\r\n"], [head, b"z", b"z\r\n"]):
        with pytest.raises((http_exceptions.HttpProcessingError, aiohttp.ClientPayloadError)):
            answered(pieces)


@given(st.text())
@example("a\0b\r\nX: \udcff\x85\x9f")
def test_any_text_of_a_server_can_be_stored(text: str) -> None:
    """On one line, as UTF-8, and not without end."""
    stored = clean(text)

    assert len(stored) <= 200
    assert len(stored.encode()) <= 800
    assert stored == clean(stored)
    assert not set(stored) & {*map(chr, range(32)), *map(chr, range(127, 160))}
