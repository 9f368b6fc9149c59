"""A fetch that nobody else is beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_img2ds.policy.host import Outcome
    from async_img2ds.policy.urls import Target


class Alone:
    """Paces a single fetch: no waiting, and a record of the delays asked for."""

    is_refused = False

    def __init__(self) -> None:
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
