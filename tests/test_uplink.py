"""A machine that is cut off blames nobody else for it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch import uplink
from async_img2ds.fetch.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SILENCE = FetchFailure(ErrorClass.CONNECT_TIMEOUT, "timed out")


class World:
    """An uplink, a clock, and witnesses that can be reached or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, int]] = []
        self.reachable: set[str] = set()
        self.uplink = Uplink(lambda: self.now)
        monkeypatch.setattr(uplink, "_connects", self._connects)

    async def _connects(self, address: str, port: int) -> bool:
        self.asked.append((address, port))
        return address in self.reachable


def check(monkeypatch: pytest.MonkeyPatch, test: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World(monkeypatch)
        await test(world)
        await world.uplink.close()

    asyncio.run(run())


def test_silence_of_one_host_while_others_answer_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs to be asked."""

    async def test(world: World) -> None:
        world.uplink.reached("192.0.2.1", 80)
        world.now = 10
        world.uplink.heard()

        assert await world.uplink.judge(SILENCE, 5) is SILENCE
        assert world.asked == []

    check(monkeypatch, test)


def test_silence_of_all_hosts_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing has been heard since, and those that were reached before cannot be reached."""

    async def test(world: World) -> None:
        for number in range(5):
            world.uplink.reached(f"192.0.2.{number}", 443)
        world.now = 20
        judged = await asyncio.gather(*(world.uplink.judge(SILENCE, 10) for _ in range(50)))

        assert {type(one) for one in judged} == {LocalFault}
        assert len(world.asked) == 3  # the last ones, once for all who wanted to know

    check(monkeypatch, test)


def test_one_witness_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts come and go, and a quiet moment is no outage."""

    async def test(world: World) -> None:
        for number in range(3):
            world.uplink.reached(f"192.0.2.{number}", 443)
        world.reachable = {"192.0.2.1"}
        world.now = 20

        assert await world.uplink.judge(SILENCE, 10) is SILENCE

    check(monkeypatch, test)


def test_what_witnesses_said_holds_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they are asked again, and the run goes on by itself."""

    async def test(world: World) -> None:
        world.uplink.reached("192.0.2.1", 443)
        world.now = 20
        assert isinstance(await world.uplink.judge(SILENCE, 10), LocalFault)
        world.reachable = {"192.0.2.1"}
        assert isinstance(await world.uplink.judge(SILENCE, 20), LocalFault)
        world.now += uplink.FRESH_S + 0.1

        assert await world.uplink.judge(SILENCE, 20.1) is SILENCE
        assert isinstance(await world.uplink.judge(SILENCE, 19), LocalFault), "it was down for a part of that wait"

    check(monkeypatch, test)


@pytest.mark.parametrize(
    "error_class",
    [ErrorClass.CONNECT_REFUSED, ErrorClass.HTTP_STATUS_4XX, ErrorClass.DNS_NXDOMAIN, ErrorClass.TLS_EXPIRED],
)
def test_what_somebody_said_is_an_answer(monkeypatch: pytest.MonkeyPatch, error_class: ErrorClass) -> None:
    """Only silence is in doubt."""
    failure = FetchFailure(error_class, "said")

    async def test(world: World) -> None:
        world.uplink.reached("192.0.2.1", 443)
        world.now = 20

        assert await world.uplink.judge(failure, 10) is failure
        assert world.asked == []

    check(monkeypatch, test)


def test_what_was_heard_early_in_a_wait_says_nothing_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cable was pulled while it waited."""

    async def test(world: World) -> None:
        world.uplink.reached("192.0.2.1", 443)
        world.now = 10
        world.uplink.heard()
        world.now = 19.9

        assert isinstance(await world.uplink.judge(SILENCE, 9.9), LocalFault)

    check(monkeypatch, test)


def test_what_was_found_before_a_wait_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A route that is lost is told at once, a moment after all was well."""

    async def test(world: World) -> None:
        world.uplink.reached("192.0.2.1", 443)
        world.reachable = {"192.0.2.1"}
        world.now = 20
        assert await world.uplink.judge(SILENCE, 10) is SILENCE
        world.reachable = set()
        world.now = 20.5

        assert isinstance(await world.uplink.judge(SILENCE, 20.4), LocalFault)
        assert len(world.asked) == 2

    check(monkeypatch, test)


def test_nothing_is_claimed_before_anything_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first list of dead hosts is a list of dead hosts."""

    async def test(world: World) -> None:
        assert await world.uplink.judge(SILENCE, 0) is SILENCE

    check(monkeypatch, test)


def test_witnesses_are_asked_over_real_sockets() -> None:
    """One that listens and one that refuses are both there; an address without a way to it is not."""

    async def run() -> None:
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                assert await uplink._connects("127.0.0.1", port)
                assert await uplink._connects("127.0.0.1", closed.getsockname()[1])
            assert not await uplink._connects("255.255.255.255", 80)  # the machine itself refuses

    asyncio.run(run())
