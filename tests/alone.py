"""A fetch that nobody else is beside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds.errors import FetchFailure
from async_img2ds.fetch.client import HttpClient
from async_img2ds.fetch.fetcher import Fetcher, user_agent
from async_img2ds.nets import parse_net
from async_img2ds.options import FetchOptions
from async_img2ds.policy.host_rules import HostRules
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from async_img2ds.images.transform import Transformer
    from async_img2ds.policy.host import Outcome
    from async_img2ds.policy.urls import Target
    from async_img2ds.records import Body


class Alone:
    """Paces a single fetch: no waiting, and a record of the delays asked for."""

    def __init__(self) -> None:
        self.is_refused = False
        self.delays: list[float] = []
        self.outcomes: list[Outcome] = []
        self.moves: list[str] = []

    def pause(self, seconds: float) -> None:
        assert seconds >= 0

    def is_host_aside(self) -> bool:
        return False

    def is_host_wanted(self) -> bool:
        return True

    def heard(self) -> None:
        pass

    def leave_host(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    async def again(self, target: Target, delay_s: float) -> bool:
        assert target.host
        self.delays.append(delay_s)
        return True

    async def move(self, target: Target, outcome: Outcome) -> bool:
        self.moves.append(target.host)
        self.outcomes.append(outcome)
        return True

    def hold(self, count: int) -> bool:
        return count >= 0

    async def wait_to_read(self) -> None:
        raise AssertionError("nothing told it to wait")


def fetch(
    url: str | None,
    hold: Alone | None = None,
    *,
    rules: str = "",
    transformer: Transformer | None = None,
    **options: Any,
) -> Body:
    """Fetch one URL as a worker process does, with time-outs that suit a test."""
    chosen = FetchOptions(**{"timeout": 0.5, "retries": 0, "allow_net": ("127.0.0.0/8",), **options})
    addresses = AddressPolicy(map(parse_net, chosen.allow_net))
    looked_at = transformer.may_take if transformer else lambda _: True

    async def run() -> Body:
        async with HttpClient.open(chosen, addresses, user_agent("1.2.3", chosen), HostRules.parse(rules)) as client:
            return await Fetcher(client, chosen, addresses, lambda: 0.5, looked_at).fetch(url, hold or Alone())

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())


def failure_of(url: str | None, hold: Alone | None = None, **options: Any) -> FetchFailure:
    """Return how the fetch of a URL fails."""
    with pytest.raises(FetchFailure) as caught:
        fetch(url, hold, **options)
    return caught.value
