"""Permits to ask a host, of which there are few on a whole machine: for limits lower than the number of processes.

A permit is a lock on one byte of a file that all processes of a user share. The system takes it back when a process
ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

try:
    import fcntl
except ImportError:  # on Windows, where there are no such locks
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Permits"]

# Bytes for each host; limits that need permits are below the number of processes of a machine.
PER_HOST: Final = 1024


class Permits:
    """Permits for hosts of which *limit_of* says how many there are, None where nobody needs one. Use :meth:`open`."""

    def __init__(self, path: Path, limit_of: Callable[[str], int | None]) -> None:
        """Lock bytes of the file at *path*, which is made when the first permit is needed."""
        self._path = path
        self._file: int | None = None
        self._limit_of = limit_of
        self._held: dict[str, list[int]] = {}

    @classmethod
    @contextmanager
    def open(cls, limit_of: Callable[[str], int | None], folder: Path | None = None) -> Iterator[Self]:
        """Yield permits that all processes share which use the same *folder*, by default that of temporary files."""
        if fcntl is None:
            yield cls(Path(), lambda _: None)
            return
        permits = cls((folder or Path(tempfile.gettempdir())) / f"aimg2ds-hosts-{os.getuid()}.lock", limit_of)
        try:
            yield permits
        finally:
            if permits._file is not None:
                os.close(permits._file)

    def take(self, host: str) -> bool:
        """Take a permit for *host*, if one is needed; return whether it may be asked."""
        limit = self._limit_of(host)
        if limit is None:
            return True
        if self._file is None:  # a link of somebody else's making is not followed
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        held = self._held.setdefault(host, [])
        for number in range(min(limit, PER_HOST)):
            if number not in held and _lock(self._file, _place(host) + number):
                held.append(number)
                return True
        if not held:
            del self._held[host]
        return False

    def give_back(self, host: str) -> None:
        """Give a permit for *host* back, if it took one."""
        if self._file is not None and (held := self._held.get(host)):
            _unlock(self._file, _place(host) + held.pop())
            if not held:
                del self._held[host]


def _place(host: str) -> int:
    """Return where the bytes of *host* begin; two hosts that have the same share their permits."""
    return zlib.crc32(host.encode()) * PER_HOST


def _lock(file: int, place: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError:  # somebody has it; or there are no locks left, and then to wait is right, too
        return False
    return True


def _unlock(file: int, place: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_UN, 1, place)
