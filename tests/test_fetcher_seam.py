"""The fetcher against a client that fails in ways no server can be made to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.fetcher import LOCAL_FAULT_WAITS_S, Complaints, Fetcher
from async_img2ds.options import FetchOptions
from async_img2ds.policy.urls import AddressPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from async_img2ds.fetch.client import Answer
    from async_img2ds.policy.urls import Target

URL = "http://8.8.8.8/x.jpg"


@dataclass
class FakeAnswer:
    """An answer made of its parts."""

    status: int = 200
    reason: str = "OK"
    content_length: int | None = None
    body: tuple[bytes, ...] = (b"image",)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def headers(self, name: str) -> list[str]:
        return self.lines.get(name, [])

    async def chunks(self) -> AsyncGenerator[bytes]:
        for chunk in self.body:
            yield chunk

    async def drain(self) -> None:
        pass


@dataclass
class FakeClient:
    """Gives what it was told to give, one after the other, and the last for ever."""

    script: list[FakeAnswer | Exception]
    asked: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def get(self, target: Target) -> AsyncIterator[Answer]:
        self.asked.append(target.url)
        step = self.script[min(len(self.asked), len(self.script)) - 1]
        if isinstance(step, Exception):
            raise step
        yield step

    async def overdue(self, _target: Target) -> None:
        pass


@dataclass
class FakeHold:
    """Lets a fetch go on, *full* times only after a wait."""

    full: int = 0
    delays: list[float] = field(default_factory=list)
    waits: int = 0
    wait_s: float = 0.0

    async def again(self, delay_s: float) -> None:
        self.delays.append(delay_s)

    def hold(self, _count: int) -> bool:
        return self.waits >= self.full

    async def wait_to_read(self) -> None:
        self.waits += 1
        await asyncio.sleep(self.wait_s)


def fetcher(*script: FakeAnswer | Exception, **options: Any) -> tuple[Fetcher, FakeClient]:
    client = FakeClient(list(script))
    return Fetcher(client, FetchOptions(**options), AddressPolicy(), lambda: 0.5), client


def test_local_fault_is_waited_out_and_is_no_attempt() -> None:
    """Running out of descriptors twice leaves a row that was fetched at its first attempt."""
    fetch, client = fetcher(LocalFault("too many open files"), LocalFault("too many open files"), FakeAnswer())
    hold = FakeHold()
    body = asyncio.run(fetch.fetch(URL, hold))

    assert body.attempts == 1
    assert len(client.asked) == 3
    assert hold.delays == list(LOCAL_FAULT_WAITS_S[:2])


def test_local_fault_that_stays_is_never_the_urls() -> None:
    """When the machine does not recover the fault itself travels up, and no failure of the row is made of it."""
    fetch, client = fetcher(LocalFault("no name server answers"))

    with pytest.raises(LocalFault):
        asyncio.run(fetch.fetch(URL, FakeHold()))
    assert len(client.asked) == len(LOCAL_FAULT_WAITS_S) + 1


def test_waiting_for_our_own_memory_is_not_charged_to_the_server() -> None:
    """A body that must wait longer than the whole attempt may take arrives all the same."""
    fetch, _ = fetcher(FakeAnswer(body=(b"one", b"two")), attempt_timeout_s=0.05)
    hold = FakeHold(full=1, wait_s=0.2)

    assert asyncio.run(fetch.fetch(URL, hold)).content == b"onetwo"
    assert hold.waits == 1


def test_refused_image_costs_no_body() -> None:
    """The opt-out is seen in the headers, and the body's first chunk is never asked for."""

    @dataclass
    class Untouchable(FakeAnswer):
        async def chunks(self) -> AsyncGenerator[bytes]:
            raise AssertionError("the body was read")
            yield b""

    fetch, _ = fetcher(Untouchable(lines={"X-Robots-Tag": ["noai"]}))

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(fetch.fetch(URL, FakeHold()))
    assert caught.value.error_class is ErrorClass.OPTOUT_HEADER


def test_each_hop_is_checked_like_a_first_url() -> None:
    """A redirect into a private network is not followed."""
    fetch, client = fetcher(FakeAnswer(302, lines={"Location": ["http://10.0.0.1/x.jpg"]}), FakeAnswer())

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(fetch.fetch(URL, FakeHold()))
    assert caught.value.error_class is ErrorClass.REDIRECT_BLOCKED
    assert client.asked == [URL]


@pytest.mark.parametrize("url", [None, "", "  ", "ftp://x/y", "http://", "nonsense", "http://a b/"])
def test_bad_urls_are_never_asked_for(url: str | None) -> None:
    """They fail before there is a request, with no attempt counted."""
    fetch, client = fetcher(FakeAnswer())

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(fetch.fetch(url, FakeHold()))
    assert caught.value.attempts == 0
    assert client.asked == []


def test_complaints_are_made_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """A machine that cannot fetch says so at once and then twice a minute, not once for each of a thousand rows."""
    now = 0.0
    complaints = Complaints(lambda: now)
    for second in range(61):
        now = float(second)
        for _ in range(10):
            complaints.make("no name server answers")

    assert len(caplog.records) == 3
