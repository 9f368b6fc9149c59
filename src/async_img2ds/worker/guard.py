"""Decoding under guard: images that may have ended a process are decoded alone, and those that have are not."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import TransformFailure
from async_img2ds.records import Quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from async_img2ds.recorder import Recorder

__all__ = ["Guard", "Overdue", "cpu_seconds"]

# The largest image that is decoded takes two to four seconds on a core of 2020; what computes for so long does not end.
CPU_MOST_S: Final = 20.0
# What neither ends nor computes waits for something that does not come. In looks, as a clock goes on while a process is
# stopped.
LOOKS_MOST: Final = 240
LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Overdue:
    """What will not end: the thread's *place*, the row's *key*, how long it has gone on, in words, and which thread."""

    place: int
    key: str
    said: str
    thread: int


@dataclass(slots=True)
class _Call:
    key: str
    began_cpu_s: float
    thread: int
    looks: int = 0


@dataclass(slots=True)
class Guard:
    """Lets threads decode, records what, and sees that it ends.

    *cpu_s* tells the seconds of CPU that a thread has used, *clock_ns* the time that the recorder keeps.
    """

    recorder: Recorder
    cpu_s: Callable[[int], float]
    clock_ns: Callable[[], int] = time.monotonic_ns
    _quarantine: Quarantine = field(default_factory=Quarantine)
    _calls: dict[int, _Call] = field(default_factory=dict)
    _places: Iterator[int] = field(default_factory=itertools.count)
    _place_of: threading.local = field(default_factory=threading.local)
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _decoding: int = 0
    _alone: bool = False

    def learn(self, quarantine: Quarantine) -> None:
        """Take in which images are suspect and which have been found guilty; nobody is ever cleared of that."""
        self._quarantine = self._quarantine.plus(quarantine)

    @contextmanager
    def decoding(self, content: bytes, digest: str | None, key: str) -> Iterator[None]:
        """Decode, in this thread and during this block, *content* with the hash *digest*, if there is one, for a row.

        Raises:
            TransformFailure: it has ended a process before.

        """
        hashed = bytes.fromhex(digest)[:32].ljust(32, b"\0") if digest else hashlib.sha256(content).digest()
        quarantine = self._quarantine
        if (verdict := quarantine.verdict(hashed, key)) is not None:
            raise TransformFailure(verdict, f"not decoded: it has ended worker processes ({verdict})")
        alone = hashed in quarantine.suspects or key in quarantine.suspect_keys
        place = self._place()
        thread = threading.get_ident()
        self._enter(alone=alone)
        try:
            self._calls[place] = _Call(key, self.cpu_s(thread), thread)
            self.recorder.begin(place, hashed, key, self.clock_ns())
            try:
                yield
            finally:
                self.recorder.end(place)
                self._calls.pop(place, None)
        finally:
            self._leave()

    def look(self) -> Overdue | None:
        """Return a decoder that will not end, None if there is none; to be asked twice a second."""
        for place, call in list(self._calls.items()):
            call.looks += 1
            try:
                used_s = self.cpu_s(call.thread) - call.began_cpu_s
            except OSError:  # its thread has just ended
                continue
            if used_s > CPU_MOST_S:
                return Overdue(place, call.key, f"{used_s:.0f} s of CPU", call.thread)
            if call.looks > LOOKS_MOST:
                return Overdue(place, call.key, f"{call.looks * LOOK_S:.0f} s", call.thread)
        return None

    def forget(self, overdue: Overdue) -> None:
        """Look at what will not end no more."""
        self._calls.pop(overdue.place, None)

    def _place(self) -> int:
        place: int | None = getattr(self._place_of, "number", None)
        if place is None:
            place = self._place_of.number = next(self._places)
        return place

    def _enter(self, *, alone: bool) -> None:
        with self._turn:
            while self._alone or (alone and self._decoding):
                self._turn.wait()
            self._alone = alone
            self._decoding += 1

    def _leave(self) -> None:
        with self._turn:
            self._decoding -= 1
            self._alone = False
            self._turn.notify_all()


def cpu_seconds(thread: int) -> float:
    """Return the seconds of CPU that the *thread* of this process has used; 0.0 where the system does not tell."""
    if not hasattr(time, "pthread_getcpuclockid"):  # not on macOS and Windows
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread))
