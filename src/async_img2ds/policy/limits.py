"""What keeps a worker from being faster at a moment, and how long a list takes at the worst."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["BACKLOG_LEAST", "BUSY_SHARE", "Limit", "Sight", "limit_of", "worst_case_s"]

# Bodies that wait for each core: enough that none runs out of work within the moment between two looks, which is
# half a second, would be a hundred; but each holds its bytes, and a body comes in while others are decoded.
BACKLOG_LEAST: Final = 2
# Of its cores' time; the rest is lost between waking up and going to sleep.
BUSY_SHARE: Final = 0.85


class Limit(StrEnum):
    """What a worker waits for."""

    CPU = "CPU"
    NETWORK = "network"
    HOSTS = "hosts' politeness"
    DNS = "DNS"
    DISK = "disk"
    LIST = "the list's end"


@dataclass(frozen=True, slots=True)
class Sight:
    """A worker at a moment.

    Attributes:
        at: which moment, in seconds by a clock that does not jump.
        cpu_share: CPU time since the last look, as a share of what its cores had.
        cores: that it may use.
        window: rows that may be under way.
        in_flight: rows that are.
        waiting: rows that have not begun.
        looking_up: rows that wait for the addresses of their hosts.
        fetching: rows being fetched, look-ups included, those between two attempts not.
        transforming: rows whose bodies wait for a thread or are in one.
        writing: rows that wait for their sample to be taken for writing.
        bodies: that have come so far.

    """

    at: float
    cpu_share: float
    cores: int
    window: int
    in_flight: int
    waiting: int
    looking_up: int
    fetching: int
    transforming: int
    writing: int
    bodies: int


def worst_case_s(rows: int, under_way: int, row_s: float, gap_s: float = 0.0) -> float:
    """Return how long *rows* take at the worst, in seconds: each uses up the *row_s* it has, *under_way* at a time.

    They start as others end, so none waits longer than for an even share of those before it (Graham, 1966); and each
    attempt *gap_s* after the one before, if one host has them all. Not in it is what this machine's own outages take,
    pauses that hosts ask for, and hosts so few that they are not asked for so many at a time.
    """
    return (rows / under_way + 1) * row_s + rows * gap_s


def limit_of(sight: Sight) -> Limit:
    """Return what limits the worker: the scarcest thing that would make it faster if there were more of it."""
    if sight.writing > max(sight.cores, sight.in_flight // 2):
        return Limit.DISK
    if sight.cpu_share >= BUSY_SHARE or sight.transforming > BACKLOG_LEAST * sight.cores:
        return Limit.CPU
    if sight.in_flight < sight.window:
        return Limit.HOSTS if sight.waiting else Limit.LIST
    return Limit.DNS if sight.looking_up > sight.fetching // 2 else Limit.NETWORK
