"""Whether this machine is cut off: then what cannot be reached is not to blame for it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Uplink"]

# What looks the same from here whether a host has gone or the way to all of them.
_SUSPECT: Final = frozenset(
    {
        ErrorClass.CONNECT_TIMEOUT,
        ErrorClass.CONNECT_UNREACHABLE,
        ErrorClass.TLS_TIMEOUT,
        ErrorClass.READ_TIMEOUT,
        ErrorClass.TOTAL_TIMEOUT,
        ErrorClass.TOO_SLOW,
    }
)
# Hosts that have answered, to be tried when in doubt: several, as one may have gone.
WITNESSES: Final = 3
WITNESS_S: Final = 3.0
# What the witnesses say holds for this long.
FRESH_S: Final = 2.0
# While answers come as thick as this nobody is asked whether any do.
HEARD_LEAST_S: Final = 0.05


class Uplink:
    """Knows when something was heard last, and whom to ask when nothing is heard."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Tell the time by *clock*, in seconds."""
        self._clock = clock
        self._heard_at = -math.inf
        self._down_at = -math.inf
        self._witnesses: deque[tuple[str, int]] = deque(maxlen=WITNESSES)
        self._is_up = Finding(self._find_out, FRESH_S, clock)

    def now(self) -> float:
        """Return the time by its clock."""
        return self._clock()

    def heard(self) -> None:
        """Say that an answer has come."""
        self._heard_at = self._clock()

    def reached(self, address: str, port: int) -> None:
        """Say that a connection was made."""
        self.heard()
        if address and (address, port) not in self._witnesses:
            self._witnesses.append((address, port))

    async def judge(self, failure: FetchFailure | LocalFault, since: float) -> FetchFailure | LocalFault:
        """Return *failure*, of a wait that began at *since*; or LocalFault if nothing could be reached meanwhile.

        That something was heard early in the wait does not say that it could be later.
        """
        if not isinstance(failure, FetchFailure) or failure.error_class not in _SUSPECT:
            return failure
        if self._down_at < since:
            now = self._clock()
            heard_lately = now - self._heard_at <= min(WITNESS_S, max(HEARD_LEAST_S, (now - since) / 2))
            if heard_lately or not self._witnesses or await self._is_up.get(since):
                return failure
        return LocalFault("hosts that have answered before cannot be reached: the network of this machine seems down")

    async def close(self) -> None:
        """End what is under way."""
        await self._is_up.close()

    async def _find_out(self) -> bool:
        """Ask the witnesses."""
        asked = [asyncio.create_task(_connects(*witness)) for witness in self._witnesses]
        try:
            for answer in asyncio.as_completed(asked):
                if await answer:
                    return True
            self._down_at = self._clock()
            return False
        finally:
            for task in asked:
                task.cancel()


async def _connects(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(WITNESS_S):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
    except ConnectionRefusedError:
        return True  # somebody said so
    except OSError:
        return False
    transport.abort()
    return True
