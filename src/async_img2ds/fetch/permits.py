"""Permits to ask a host, of which there are few on a whole machine: for limits lower than the number of processes.

A permit is a lock on one byte of a file that all processes of a user share. The system takes it back when a process
ends, however it ends. Whoever finds none free locks another byte, the place next in line, and whoever gives a permit
back while somebody stands there leaves it to him.
"""

from __future__ import annotations

import os
import time
import zlib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Self

from async_img2ds.errors import OptionsError
from async_img2ds.fetch.shared import open_shared, shared_path

try:
    import fcntl
except ImportError:  # on Windows, where there are no such locks
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Permits"]

# Bytes for each host: its permits, of which there are fewer than processes on a machine, and the place next in line.
PER_HOST: Final = 1024
_NEXT_IN_LINE: Final = PER_HOST - 1
# A byte that is nobody's.
_TRIED: Final = PER_HOST * 2**32
# One that stands in line comes again within a twentieth of a second. So long a permit is left to him, and so long
# after it came last it is still in line.
REST_S: Final = 0.15


class Permits:
    """Permits for hosts of which *limit_of* says how many there are, None where nobody needs one. Use :meth:`open`."""

    def __init__(
        self, file: int, limit_of: Callable[[str], int | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Lock bytes of *file*; tell the time by *clock*, in seconds."""
        self._file = file
        self._limit_of = limit_of
        self._clock = clock
        self._held: dict[int, list[int]] = {}
        self._in_line: dict[int, float] = {}  # and when it came last
        self._resting: dict[int, float] = {}  # and until when

    @classmethod
    @contextmanager
    def open(cls, limit_of: Callable[[str], int | None], folder: Path | None = None) -> Iterator[Self | None]:
        """Yield permits that all processes share which use the same *folder*, by default that of temporary files.

        None on systems without such locks.

        Raises:
            OptionsError: their file is not to be had.

        """
        if fcntl is None:
            yield None
            return
        path = shared_path("hosts", "lock", folder)
        with ExitStack() as stack:
            try:
                file = open_shared(path)
                stack.callback(os.close, file)
                fcntl.lockf(file, fcntl.LOCK_SH, 1, _TRIED)  # not every file system can
            except OSError as error:
                raise OptionsError(
                    f"max_per_host below the number of processes needs locks on {path}, which are not to be had: "
                    f"{error}; let TMPDIR name a folder on a local disk"
                ) from error
            yield cls(file, limit_of)

    def take(self, host: str) -> bool:
        """Take a permit for *host*, if one is needed; return whether it may be asked."""
        limit = self._limit_of(host)
        if limit is None:
            return True
        now, place = self._clock(), _place(host)
        self._leave_lines(now)
        if self._resting.get(place, now) > now:
            return False
        self._resting.pop(place, None)
        held = self._held.get(place, [])
        for number in range(min(limit, _NEXT_IN_LINE)):
            if number not in held and self._lock(place + number):
                self._held[place] = [*held, number]
                if self._in_line.pop(place, None) is not None:
                    self._unlock(place + _NEXT_IN_LINE)
                return True
        if self._in_line.pop(place, None) is not None or self._lock(place + _NEXT_IN_LINE):
            self._in_line[place] = now
        return False

    def give_back(self, host: str) -> None:
        """Give a permit for *host* back, if it took one."""
        place = _place(host)
        if not (held := self._held.get(place)):
            return
        self._unlock(place + held.pop())
        if not held:
            del self._held[place]
        if place not in self._in_line:
            if self._lock(place + _NEXT_IN_LINE):
                self._unlock(place + _NEXT_IN_LINE)
            else:
                self._resting.pop(place, None)
                self._resting[place] = self._clock() + REST_S

    def _leave_lines(self, now: float) -> None:
        """Leave those where nobody wants a permit any more, and forget rests that are over."""
        while self._in_line and now - next(iter(self._in_line.values())) > REST_S:  # who came last stands last
            place = next(iter(self._in_line))
            del self._in_line[place]
            self._unlock(place + _NEXT_IN_LINE)
        while self._resting and next(iter(self._resting.values())) <= now:
            del self._resting[next(iter(self._resting))]

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:  # somebody has it, or the system has no more at the moment
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


def _place(host: str) -> int:
    """Return where the bytes of *host* begin; two hosts that have the same share their permits."""
    return zlib.crc32(host.encode()) * PER_HOST
