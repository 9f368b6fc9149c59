"""Which images a process is decoding, written where another can read it when this one has died over one of them.

A few kilobytes of shared memory: what is written there by a process is there whatever ends it.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from typing import Final

__all__ = ["HUNG_STATUS", "RECORD_BYTES", "Decoding", "Recorder", "decodings_in", "record_file", "recorder", "set_up"]

# The exit status of a process that ended itself as a decoder would not come back; nothing else that we start has it.
HUNG_STATUS: Final = 86
# More threads than a machine has cores are not told of, and nobody has so many.
PLACES: Final = 512
# Whether there is anything, whether it has hung, when it was begun in nanoseconds of the machine's monotonic clock, the
# first bytes of the body's hash, the row's key.
_PLACE: Final = struct.Struct("<BBxxxxxxQ32s32s")
RECORD_BYTES: Final = PLACES * _PLACE.size


@dataclass(frozen=True, slots=True)
class Decoding:
    """An image that was being decoded: its bytes' *digest*, the *key* of its row, since when, and whether it *hung*."""

    digest: bytes
    key: str
    since_ns: int
    hung: bool


class Recorder:
    """Keeps what each of a process's threads decodes in *memory*, of :data:`RECORD_BYTES`."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        """Begin with nothing."""
        self._memory = memory

    def begin(self, place: int, digest: bytes, key: str, now_ns: int) -> None:
        """Say that the thread at *place* decodes the body with *digest* for the row *key*."""
        if place < PLACES:
            at = place * _PLACE.size
            _PLACE.pack_into(self._memory, at, 0, 0, now_ns, digest, key.encode())
            self._memory[at] = 1  # last, so that nothing half written is taken for anything

    def end(self, place: int) -> None:
        """Say that it decodes nothing."""
        if place < PLACES:
            self._memory[place * _PLACE.size] = 0

    def hung(self, place: int) -> None:
        """Say that what it decodes will not end."""
        if place < PLACES:
            self._memory[place * _PLACE.size + 1] = 1


def record_file() -> int:
    """Return a descriptor of the memory for a recorder, to be handed to the process that is to be watched."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("aimg2ds-decoding")
    else:  # not on Linux
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, RECORD_BYTES)
    return descriptor


def decodings_in(descriptor: int) -> list[Decoding]:
    """Return what the process was decoding that a recorder's memory was handed to."""
    content = os.pread(descriptor, RECORD_BYTES, 0)
    return [
        Decoding(digest, key.rstrip(b"\0").decode(errors="replace"), since_ns, bool(hung))
        for there, hung, since_ns, digest, key in _PLACE.iter_unpack(content)
        if there
    ]


# That of this process: nobody reads it unless somebody has handed it the memory for it.
_of_this_process = Recorder(bytearray(RECORD_BYTES))


def set_up(descriptor: int) -> None:
    """Keep what this process decodes in the memory that it was handed at its start."""
    global _of_this_process  # noqa: PLW0603  there is one process
    _of_this_process = Recorder(mmap.mmap(descriptor, RECORD_BYTES))


def recorder() -> Recorder:
    """Return that of this process."""
    return _of_this_process
