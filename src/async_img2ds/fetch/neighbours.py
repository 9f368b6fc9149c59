"""What this process and those beside it on the machine owe a host together."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from async_img2ds.fetch.pauses import Pauses
from async_img2ds.fetch.permits import Permits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Neighbours"]

# When others have all that may be asked of a host, this is looked at again after so long.
ASK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Other processes, by what they have written down: *permits* taken, *pauses* asked for. None where not needed."""

    permits: Permits | None = None
    pauses: Pauses | None = None

    @classmethod
    @contextmanager
    def open(cls, limit_of: Callable[[str], int | None] | None, folder: Path | None = None) -> Iterator[Self]:
        """Yield those that use the same *folder*, by default that of temporary files.

        *limit_of* says how many permits there are for a host, None if it needs none; without it no host does.

        Raises:
            OptionsError: what permits are written in is not to be had.

        """
        with ExitStack() as stack:
            permits = None if limit_of is None else stack.enter_context(Permits.open(limit_of, folder))
            yield cls(permits, stack.enter_context(Pauses.open(folder)))

    def wait_s(self, host: str) -> float:
        """Return after how many seconds to ask again for *host*; none if it may be asked, then :meth:`end` follows."""
        if self.pauses is not None and (left_s := self.pauses.left_s(host)):
            return left_s
        return 0.0 if self.permits is None or self.permits.take(host) else ASK_AGAIN_S

    def end(self, host: str, pause_s: float) -> None:
        """Say that a request to *host* has ended, and for how long it wants to be left alone."""
        if pause_s and self.pauses is not None:
            self.pauses.pause(host, pause_s)
        if self.permits is not None:
            self.permits.give_back(host)
