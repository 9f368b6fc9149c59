"""What is remembered of names, with a name server of our own making whose answers have any TTL."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiodns
import pytest
from aiodns import error as codes

from async_img2ds.errors import ErrorClass
from async_img2ds.fetch.resolver import (
    KEPT_LEAST_S,
    KEPT_MISSING_S,
    KEPT_MOST_S,
    QUERIES_FIRST,
    QUERIES_MOST,
    ResolveError,
    Resolver,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class NameServer:
    """Stands where aiodns does: answers with one address and *ttl_s*, or with *error*; counts what it is asked."""

    def __init__(self, ttl_s: int = 300, error: int | None = None) -> None:
        self.ttl_s = ttl_s
        self.error = error
        self.error_of_others: int | None = None
        self.queried: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def query_dns(self, name: str, kind: str) -> None:
        self.queried.append((name, kind))
        if self.error_of_others is not None:
            raise aiodns.error.DNSError(self.error_of_others, "as told")

    async def getaddrinfo(self, name: str, **_: Any) -> Any:
        self.asked.append(name)
        await self.answering.wait()
        if self.error is not None:
            raise aiodns.error.DNSError(self.error, "as told")
        return SimpleNamespace(
            nodes=[SimpleNamespace(family=socket.AF_INET, ttl=self.ttl_s, addr=(b"192.0.2.1", 0))], cnames=[]
        )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def check(test: Callable[[NameServer, Resolver, Clock], Awaitable[None]], **of_server: Any) -> None:
    async def run() -> None:
        server, clock = NameServer(**of_server), Clock()
        await test(server, Resolver(cast("aiodns.DNSResolver", server), clock), clock)

    asyncio.run(run())


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0, KEPT_LEAST_S), (120, 120.0), (86_400, KEPT_MOST_S)])
def test_answer_is_kept_for_its_ttl_within_bounds(ttl_s: int, kept_s: float) -> None:
    """A name is asked for again when its answer has had its time, and not before."""

    async def test(server: NameServer, resolver: Resolver, clock: Clock) -> None:
        for clock.now in (0.0, kept_s - 0.1, kept_s, kept_s + 1):
            assert await resolver.look_up("a.test") == [(socket.AF_INET, "192.0.2.1")]
        assert server.asked == ["a.test"] * 2

    check(test, ttl_s=ttl_s)


@pytest.mark.parametrize(
    ("code", "error_class"),
    [(codes.ARES_ENOTFOUND, ErrorClass.DNS_NXDOMAIN), (codes.ARES_ENODATA, ErrorClass.DNS_NODATA)],
)
def test_name_that_does_not_exist_is_remembered(code: int, error_class: ErrorClass) -> None:
    """A thousand rows of a dead name cost one query a minute."""

    async def test(server: NameServer, resolver: Resolver, clock: Clock) -> None:
        for clock.now in (0.0, KEPT_MISSING_S - 1, KEPT_MISSING_S):
            with pytest.raises(ResolveError) as caught:
                await resolver.look_up("a.test")
            assert caught.value.error_class is error_class
        assert len(server.asked) == (4 if code == codes.ARES_ENODATA else 2), "that there is no address is asked twice"

    check(test, error=code)


def test_half_an_answer_is_not_taken_for_a_whole_one() -> None:
    """One family has no address, and the query for the other failed, which c-ares tells as if there were none."""

    class Half(NameServer):
        async def getaddrinfo(self, name: str, *, family: int = 0, **others: Any) -> Any:
            self.error = codes.ARES_ENODATA if family == socket.AF_UNSPEC else self.error_of_others
            return await super().getaddrinfo(name, **others)

    async def test() -> None:
        server = Half()
        resolver = Resolver(cast("aiodns.DNSResolver", server), Clock())
        assert await resolver.look_up("a.test") == [(socket.AF_INET, "192.0.2.1")]
        server.error_of_others = codes.ARES_ECONNREFUSED
        with pytest.raises(ResolveError) as caught:
            await resolver.look_up("b.test")
        assert caught.value.error_class is None, "nobody could be asked"

    asyncio.run(test())


@pytest.mark.parametrize("code", [codes.ARES_ESERVFAIL, codes.ARES_EREFUSED])
def test_failure_of_a_name_server_is_not_remembered(code: int) -> None:
    """It may heal by the next attempt."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        with pytest.raises(ResolveError):
            await resolver.look_up("a.test")
        server.error = None

        assert await resolver.look_up("a.test") == [(socket.AF_INET, "192.0.2.1")]

    check(test, error=code)


def test_one_query_serves_all_who_wait() -> None:
    """Rows of one host that begin together ask once, and one that gives up does not take the answer from the others."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        server.answering.clear()
        waiting = [asyncio.create_task(resolver.look_up("a.test")) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(resolver._pending) == 1
        waiting[0].cancel()
        await asyncio.sleep(0)
        server.answering.set()

        assert await waiting[1] == await waiting[2] == [(socket.AF_INET, "192.0.2.1")]
        assert server.asked == ["a.test"]
        assert not resolver._pending

    check(test)


@pytest.mark.parametrize("code", [codes.ARES_ESERVFAIL, codes.ARES_EREFUSED, codes.ARES_ETIMEOUT])
def test_failure_of_every_name_is_the_name_servers_own(code: int) -> None:
    """When a name below one that was good a moment ago gets no answer either, nothing can be said about this one."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        await resolver.look_up("good.test")
        server.error = server.error_of_others = code
        with pytest.raises(ResolveError) as caught:
            await resolver.look_up("a.test")

        assert caught.value.error_class is None
        [(name, kind)] = server.queried
        assert name.endswith(".good.test")  # a new name: what is remembered on the way would say nothing
        assert kind == "A"

    check(test)


def test_failure_of_one_name_is_its_own() -> None:
    """Others are found, or found not to exist, at the same time."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        await resolver.look_up("good.test")
        server.error = codes.ARES_ESERVFAIL
        server.error_of_others = codes.ARES_ENOTFOUND
        with pytest.raises(ResolveError) as caught:
            await resolver.look_up("a.test")

        assert caught.value.error_class is ErrorClass.DNS_SERVFAIL

    check(test)


def test_many_failures_at_once_cost_one_query_more() -> None:
    """Whether the name servers are there is found out once for all who wonder."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        await resolver.look_up("good.test")
        server.error = server.error_of_others = codes.ARES_ESERVFAIL
        failed = await asyncio.gather(*(resolver.look_up(f"{n}.test") for n in range(40)), return_exceptions=True)

        assert {getattr(error, "error_class", "?") for error in failed} == {None}
        assert len(server.queried) == 1

    check(test)


def test_queries_under_way_are_bounded_and_fewer_after_time_outs() -> None:
    """A router at home drops packets long before a name server does."""

    async def test(server: NameServer, resolver: Resolver, clock: Clock) -> None:
        server.answering.clear()
        first = [asyncio.create_task(resolver.look_up(f"a{n}.test")) for n in range(1000)]
        await asyncio.sleep(0.01)
        assert len(server.asked) == QUERIES_FIRST

        server.error = codes.ARES_ETIMEOUT
        clock.now = 10
        server.answering.set()
        await asyncio.wait(first)
        server.asked.clear()
        server.answering.clear()
        second = [asyncio.create_task(resolver.look_up(f"b{n}.test")) for n in range(1000)]
        await asyncio.sleep(0.01)
        assert len(server.asked) == QUERIES_FIRST / 2

        server.error = None
        server.answering.set()
        await asyncio.wait(second)
        assert not [task for task in second if task.exception()]

    check(test)


def test_names_whose_servers_are_gone_do_not_hold_up_others() -> None:
    """One in ten of an old list; the name servers that are asked are well."""

    class Old(NameServer):
        async def getaddrinfo(self, name: str, **others: Any) -> Any:
            self.error = codes.ARES_ETIMEOUT if name.endswith("0.test") else None
            return await super().getaddrinfo(name, **others)

    async def test() -> None:
        server, clock = Old(), Clock()
        server.error_of_others = codes.ARES_ENOTFOUND
        resolver = Resolver(cast("aiodns.DNSResolver", server), clock)
        for clock.now in range(0, 300, 3):
            await asyncio.gather(
                *(resolver.look_up(f"{clock.now}-{n}.test") for n in range(20)), return_exceptions=True
            )
        server.answering.clear()
        server.asked.clear()
        waiting = [asyncio.create_task(resolver.look_up(f"a{n}.test")) for n in range(1000)]
        await asyncio.sleep(0.01)

        assert len(server.asked) == QUERIES_MOST
        for task in waiting:
            task.cancel()

    asyncio.run(test())


def test_name_that_nobody_was_asked_for_is_no_slow_name() -> None:
    """A row whose time is over before its look-up began has waited for ourselves."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        server.answering.clear()
        waiting = [asyncio.create_task(resolver.look_up(f"a{n}.test")) for n in range(QUERIES_FIRST + 1)]
        await asyncio.sleep(0.01)
        server.error_of_others = codes.ARES_ENOTFOUND
        asked, queued = await resolver.overdue("a0.test"), await resolver.overdue(f"a{QUERIES_FIRST}.test")
        for task in waiting:
            task.cancel()

        assert asked is not None
        assert asked.error_class is ErrorClass.DNS_TIMEOUT
        assert queued is not None
        assert queued.error_class is None

    check(test)


def test_name_servers_that_are_cut_off_from_the_start_are_no_fault_of_a_name() -> None:
    """They say that they cannot find anything, the root's name servers included."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        server.error_of_others = codes.ARES_ESERVFAIL
        with pytest.raises(ResolveError) as caught:
            await resolver.look_up("a.test")
        assert caught.value.error_class is None

    check(test, error=codes.ARES_ESERVFAIL)


def test_name_that_was_looked_up_during_an_outage_is_asked_for_again() -> None:
    """Though names are found again when its time is over, and though some were found when it began."""

    async def test(server: NameServer, resolver: Resolver, clock: Clock) -> None:
        await resolver.look_up("good.test")
        server.answering.clear()
        server.error = codes.ARES_ETIMEOUT
        slow = asyncio.create_task(resolver.look_up("slow.test"))
        await asyncio.sleep(0.01)
        server.error_of_others = codes.ARES_ETIMEOUT
        clock.now = 3
        assert await resolver.overdue("slow.test") is not None  # found out: nobody answers
        server.error_of_others = codes.ARES_ENOTFOUND
        clock.now = 6
        server.answering.set()
        with pytest.raises(ResolveError) as caught:
            await slow

        assert caught.value.error_class is None

    check(test)


def test_one_who_gives_up_in_the_queue_takes_nobodys_place() -> None:
    """Places are handed on."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        server.answering.clear()
        waiting = [asyncio.create_task(resolver.look_up(f"a{n}.test")) for n in range(200)]
        await asyncio.sleep(0.01)
        for task in waiting[::2]:
            task.cancel()
        server.answering.set()

        assert all(await asyncio.gather(*waiting[1::2]))
        await asyncio.sleep(0.01)
        assert not resolver._pending

    check(test)


def test_names_that_are_found_meanwhile_do_not_disturb_finding_out() -> None:
    """While the name servers are put to the test others get their answers, or not."""

    async def test(server: NameServer, resolver: Resolver, _clock: Clock) -> None:
        await resolver.look_up("good.test")
        await resolver.look_up("better.test")
        finding_out = asyncio.Event()

        async def slowly(name: str, kind: str) -> None:
            server.queried.append((name, kind))
            await finding_out.wait()
            raise aiodns.error.DNSError(codes.ARES_ESERVFAIL, "as told")

        server.query_dns = slowly  # type: ignore[method-assign]
        server.error = codes.ARES_ESERVFAIL
        failing = asyncio.create_task(resolver.look_up("a.test"))
        await asyncio.sleep(0.01)
        server.error = None
        await resolver.look_up("late.test")
        finding_out.set()
        with pytest.raises(ResolveError):
            await failing

    check(test)
