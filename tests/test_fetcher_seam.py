"""The fetcher against a client that fails in ways no server can be made to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from alone import Alone
from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.fetcher import LOCAL_FAULT_WAITS_S, Complaints, Fetcher
from async_img2ds.options import FetchOptions
from async_img2ds.policy.host import Sign
from async_img2ds.policy.urls import AddressPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from async_img2ds.fetch.client import Answer
    from async_img2ds.policy.host import Outcome
    from async_img2ds.policy.urls import Target

URL = "http://8.8.8.8/x.jpg"


@dataclass
class FakeAnswer:
    """An answer made of its parts."""

    status: int = 200
    reason: str = "OK"
    content_length: int | None = None
    body: tuple[bytes, ...] = (b"image",)
    latency_s: float = 0.1
    address: str | None = "192.0.2.1"
    tls_verified: bool | None = None
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
    async def get(self, target: Target, _keep: Callable[[], bool]) -> AsyncIterator[Answer]:
        self.asked.append(target.url)
        step = self.script[min(len(self.asked), len(self.script)) - 1]
        if isinstance(step, Exception):
            raise step
        yield step

    async def overdue(self, _target: Target, failure: FetchFailure, took_s: float) -> FetchFailure:
        assert took_s > 0
        return failure


class FakeHold(Alone):
    """Lets a fetch go on, *full* times only after a wait.

    Hosts in *given_up* get no more requests, and those in *aside* are set aside.
    """

    def __init__(
        self,
        *,
        full: int = 0,
        wait_s: float = 0.0,
        given_up: tuple[str, ...] = (),
        is_refused: bool = False,
        aside: bool = False,
    ) -> None:
        super().__init__()
        self.is_refused = is_refused
        self.full = full
        self.wait_s = wait_s
        self.given_up = given_up
        self.aside = aside
        self.waits = 0

    def pause(self, seconds: float) -> None:
        assert seconds > 0

    def is_host_aside(self) -> bool:
        return self.aside

    async def again(self, target: Target, delay_s: float) -> bool:
        await super().again(target, delay_s)
        return target.host not in self.given_up

    async def move(self, target: Target, outcome: Outcome) -> bool:
        await super().move(target, outcome)
        await asyncio.sleep(self.wait_s)
        return target.host not in self.given_up

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
    hold = FakeHold()

    with pytest.raises(LocalFault):
        # Each attempt takes three seconds, of which the clock knows as of those that are waited.
        asyncio.run(replace(fetch, clock=lambda: 3.0 * len(client.asked) + sum(hold.delays)).fetch(URL, hold))
    assert 3600 <= sum(hold.delays) + 3 * len(client.asked) < 3620


def test_local_faults_between_attempts_are_counted_by_themselves() -> None:
    """A row that has been tried meanwhile is not given back for the sum of all outages of a day."""
    dead, busy = LocalFault("no name server answers"), FetchFailure(ErrorClass.HTTP_STATUS_5XX, "busy", http_status=503)
    fetch, _ = fetcher(*([dead] * 5), busy, *([dead] * 5), FakeAnswer())
    hold = FakeHold()

    assert asyncio.run(fetch.fetch(URL, hold)).attempts == 2
    assert hold.delays[:5] == hold.delays[6:11] == [*LOCAL_FAULT_WAITS_S, LOCAL_FAULT_WAITS_S[-1]]


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


def test_host_of_a_redirect_is_waited_for_like_a_first_one() -> None:
    """The old host gets its slot back with an answer, and the wait is not charged to the new one's time."""
    fetch, client = fetcher(
        FakeAnswer(302, lines={"Location": ["http://8.8.4.4/y.jpg"]}), FakeAnswer(), attempt_timeout_s=0.1
    )
    hold = FakeHold(wait_s=0.3)

    assert asyncio.run(fetch.fetch(URL, hold)).content == b"image"
    assert hold.moves == ["8.8.4.4"]
    assert [outcome.sign for outcome in hold.outcomes] == [Sign.ANSWERED] * 2
    assert hold.outcomes[1].took_s < 0.3
    assert client.asked == [URL, "http://8.8.4.4/y.jpg"]


def test_waiting_for_room_is_not_charged_to_the_row() -> None:
    """Neither for the host of a redirect nor for memory: what was waited leaves the time for further attempts."""
    redirect = FakeAnswer(302, lines={"Location": ["http://8.8.4.4/y.jpg"]})
    fetch, client = fetcher(redirect, FakeAnswer(503), retries=2, row_timeout_s=0.2)
    hold = FakeHold(wait_s=0.3)

    with pytest.raises(FetchFailure):
        asyncio.run(fetch.fetch(URL, hold))
    assert len(client.asked) == 4


def test_row_of_a_host_that_was_given_up_is_not_asked_for() -> None:
    """It fails at once, with no attempt, and says why."""
    fetch, client = fetcher(FakeAnswer())

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(fetch.fetch(URL, FakeHold(is_refused=True)))
    assert caught.value.error_class is ErrorClass.HOST_CIRCUIT_OPEN
    assert caught.value.attempts == 0
    assert client.asked == []


def test_row_that_saw_its_host_fail_keeps_what_it_saw() -> None:
    """When the host is given up while it waits to try again, its own failure is what is recorded."""
    fetch, _ = fetcher(FetchFailure(ErrorClass.CONNECT_TIMEOUT, "timed out"))

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(fetch.fetch(URL, FakeHold(given_up=("8.8.8.8",))))
    assert (caught.value.error_class, caught.value.attempts) == (ErrorClass.CONNECT_TIMEOUT, 1)


def test_row_that_saw_its_host_fail_twice_leaves_further_looks_to_others() -> None:
    """A host that is set aside costs nobody a third time-out."""
    fetch, client = fetcher(FetchFailure(ErrorClass.CONNECT_TIMEOUT, "timed out"))

    with pytest.raises(FetchFailure):
        asyncio.run(fetch.fetch(URL, FakeHold(aside=True)))
    assert len(client.asked) == 2


def test_redirect_to_a_host_that_was_given_up_fails() -> None:
    """It would have to wait for a host that does not answer."""
    fetch, _ = fetcher(FakeAnswer(302, lines={"Location": ["http://8.8.4.4/y.jpg"]}), retries=0)

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(fetch.fetch(URL, FakeHold(given_up=("8.8.4.4",))))
    assert caught.value.error_class is ErrorClass.HOST_CIRCUIT_OPEN


@pytest.mark.parametrize(("answer", "sign"), [(429, Sign.BUSY), (503, Sign.STRAINED), (404, Sign.ANSWERED)])
def test_host_is_told_how_it_did(answer: int, sign: Sign) -> None:
    """What its answers say decides how it is asked next, Retry-After included."""
    fetch, _ = fetcher(FakeAnswer(answer, lines={"Retry-After": ["7"]}), retries=0)
    hold = FakeHold()

    with pytest.raises(FetchFailure):
        asyncio.run(fetch.fetch(URL, hold))
    [outcome] = hold.outcomes
    assert (outcome.sign, outcome.pause_s) == (sign, 7)


def test_body_that_drips_is_given_up() -> None:
    """A byte every nine seconds beats every time-out for silence; the rate is what shows it."""
    now = 0.0

    @dataclass
    class Dripping(FakeAnswer):
        async def chunks(self) -> AsyncGenerator[bytes]:
            nonlocal now
            while True:
                now += 9
                yield b"x"

    client = FakeClient([Dripping()])
    dripping = Fetcher(client, FetchOptions(retries=0), AddressPolicy(), lambda: 0.5, clock=lambda: now)

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(dripping.fetch(URL, FakeHold()))
    assert caught.value.error_class is ErrorClass.TOO_SLOW
    assert now < 30


def test_all_attempts_together_have_their_time() -> None:
    """The worst case of one row can be computed."""
    now = 0.0

    class Slow(FakeClient):
        @asynccontextmanager
        async def get(self, target: Target, keep: Callable[[], bool]) -> AsyncIterator[Answer]:
            nonlocal now
            now += 10
            async with super().get(target, keep) as answer:
                yield answer

    client = Slow([FetchFailure(ErrorClass.CONNECT_TIMEOUT, "timed out")])
    slow = Fetcher(client, FetchOptions(retries=9, row_timeout_s=25), AddressPolicy(), lambda: 0.5, clock=lambda: now)

    with pytest.raises(FetchFailure) as caught:
        asyncio.run(slow.fetch(URL, FakeHold()))
    assert caught.value.attempts == 3


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
