"""Mistakes that a program of this kind may have, each as a patch of this one: a simulation must see all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from async_img2ds.distributors.base import OpenShards, ShardFeed
from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.fetcher import Fetcher
from async_img2ds.fetch.neighbours import Neighbours
from async_img2ds.fetch.pacer import Pacer, Turn
from async_img2ds.fetch.uplink import Uplink
from async_img2ds.policy.host import Host, Outcome, Pace, Sign
from async_img2ds.policy.hosts import HostSchedule
from async_img2ds.storage import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from async_img2ds.fetch.fetcher import Hold

__all__ = ["MISTAKES"]

_leave_host, _leave_window, _end_host = Turn.leave_host, Pacer.leave_window, Host.end
_attempt, _put_on_clock, _end_ask = Fetcher._attempt, HostSchedule._put_on_clock, Neighbours.end


def _slot_of_a_host_is_kept(turn: Turn, outcome: Outcome = Outcome(Sign.NOTHING)) -> None:  # noqa: B008  it is frozen
    if outcome.sign is Sign.ABSENT:
        turn.at_host = False
    _leave_host(turn, outcome)


def _slot_of_the_window_is_kept(pacer: Pacer, turn: Turn) -> None:
    if turn.row.index % 5:
        _leave_window(pacer, turn)


def _orphans_are_forgotten(shards: OpenShards, shard_ids: Iterable[int], _worker: int, _cause: str) -> bool:
    for shard_id in shard_ids:
        shards._shards.pop(shard_id)
    return False


def _failed_shard_is_forgotten(_feed: ShardFeed, _shard: object) -> bool:
    return True


def _breaker_stays_open(host: Host) -> None:
    host._has_answered = True
    host._absences = 0


def _outage_is_the_hosts_own(host: Host, outcome: Outcome, now: float) -> None:
    _end_host(host, Outcome(Sign.ABSENT, outcome.took_s) if outcome.sign is Sign.NOTHING else outcome, now)


async def _outage_is_the_rows_own(fetcher: Fetcher, course: Any, hold: Hold, most_s: float) -> tuple[bytes, int]:
    try:
        return await _attempt(fetcher, course, hold, most_s)
    except LocalFault as fault:
        raise FetchFailure(ErrorClass.CONNECT_UNREACHABLE, str(fault)) from None


async def _failure_is_believed(_uplink: Uplink, failure: Exception, _since: float) -> Exception:
    return failure


def _hopeless_at_once(host: Host, _now: float, _since: float, *, urgent: bool) -> bool:
    return host.is_aside or (urgent and host.is_aside)


def _neighbours_are_not_told(neighbours: Neighbours, host: str, _pause_s: float) -> None:
    _end_ask(neighbours, host, 0.0)


def _permit_is_kept(neighbours: Neighbours, host: str, pause_s: float) -> None:
    if pause_s and neighbours.pauses is not None:
        neighbours.pauses.pause(host, pause_s)


def _marker_comes_first(attempt: Attempt, marker: str, content: bytes, _base: str | None) -> bytes:
    attempt._store.stage(marker).write_bytes(content)
    attempt._staged.insert(0, marker)
    for name in list(attempt._staged):
        attempt._store.publish(name)
        attempt._staged.remove(name)
    return content


def _looks_at_a_held_host_without_end(
    schedule: HostSchedule[Any], site: Any, queue: Any, at: float, now: float, **_: float
) -> None:
    _put_on_clock(schedule, site, queue, at, now)


def _of(owner: type, name: str, wrong: object) -> Callable[[], AbstractContextManager[object]]:
    return lambda: mock.patch.object(owner, name, wrong)


# Name → what puts the mistake there for a block, and a seed that shows it.
MISTAKES: Final[dict[str, tuple[Callable[[], AbstractContextManager[object]], int]]] = {
    "the slot of a host is kept": (_of(Turn, "leave_host", _slot_of_a_host_is_kept), 0),
    "the slot of the window is kept": (_of(Pacer, "leave_window", _slot_of_the_window_is_kept), 0),
    "shards of a dead worker are forgotten": (_of(OpenShards, "orphan", _orphans_are_forgotten), 2),
    "a shard that failed is forgotten": (_of(ShardFeed, "failed", _failed_shard_is_forgotten), 0),
    "Retry-After is ignored": (_of(Outcome, "wanted_pause_s", 0.0), 1),
    "Retry-After is kept from other processes": (_of(Neighbours, "end", _neighbours_are_not_told), 1),
    "a permit is kept": (_of(Neighbours, "end", _permit_is_kept), 1),
    "the breaker never closes": (_of(Host, "_is_back", _breaker_stays_open), 11),
    "a host that is set aside is given up": (_of(Host, "is_hopeless", _hopeless_at_once), 1296),
    "an outage counts against hosts": (_of(Host, "end", _outage_is_the_hosts_own), 5),
    "an outage counts against rows": (_of(Fetcher, "_attempt", _outage_is_the_rows_own), 2),
    "an outage is not looked for": (_of(Uplink, "judge", _failure_is_believed), 61),
    "limits of hosts are ignored": (_of(Pace, "limit", 1000), 0),
    "crawl delays are ignored": (_of(Pace, "gap_s", 0.0), 1),
    "the stats file comes before the images": (_of(Attempt, "_publish", _marker_comes_first), 0),
    "the loop turns for nothing": (_of(HostSchedule, "_put_on_clock", _looks_at_a_held_host_without_end), 5),
}
