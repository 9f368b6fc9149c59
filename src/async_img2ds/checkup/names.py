"""How fast and how well names are looked up, by the resolver that a run uses; and the names of a list's own hosts."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass, OptionsError
from async_img2ds.fetch.resolver import FAMILIES, ResolveError, Resolver
from async_img2ds.inputs.hosts import hosts_of
from async_img2ds.inputs.whole_list import WholeList
from async_img2ds.policy.draws import Draws
from async_img2ds.policy.findings import Lookups
from async_img2ds.policy.urls import is_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_img2ds.options import FetchOptions, InputOptions

__all__ = ["LOOKING_S", "hosts_in", "look_up"]

# In all, whatever becomes of it.
LOOKING_S: Final = 6.0
# Hosts of a list that are looked up, and how far the list is read for them.
HOSTS_MOST: Final = 200
ROWS_MOST: Final = 200_000
READING_S: Final = 3.0

_REASONS: Final = {
    ErrorClass.DNS_TIMEOUT: "timed out",
    ErrorClass.DNS_SERVFAIL: "failed (SERVFAIL)",
    ErrorClass.URL_INVALID: "are no names",
}
_MISSING: Final = frozenset({ErrorClass.DNS_NXDOMAIN, ErrorClass.DNS_NODATA})


def hosts_in(options: InputOptions) -> list[str]:
    """Return some of the names of a list's hosts, at random out of its beginning.

    Raises:
        InputError: the list cannot be read.
        OptionsError: it has no such column.

    """
    began, rows = time.monotonic(), 0
    draws, drawn = Draws(HOSTS_MOST, random.Random(0).random), [""] * HOSTS_MOST  # noqa: S311  any will do
    seen: set[str] = set()
    for _, urls in WholeList.open(options, every=False).batches():
        fresh = [host for host in hosts_of(urls).drop_null().unique().to_pylist() if host not in seen]
        names = [host for host in fresh if not is_address(host)]
        for position, place in draws.take(len(names)):
            drawn[place] = names[position]
        seen.update(fresh)
        rows += len(urls)
        if rows >= ROWS_MOST or time.monotonic() - began > READING_S:
            break
    return [name for name in drawn if name]


async def look_up(names: Sequence[str], of: str, options: FetchOptions) -> Lookups:
    """Look *names* up, which are *of* something, as a run with *options* would."""
    seconds: list[float] = []
    ends: Counter[str] = Counter()

    async def one(name: str) -> None:
        began = time.monotonic()
        end = await _end(resolver, name)
        ends[end] += 1
        if end in (_FOUND, _NOT_THERE):
            seconds.append(time.monotonic() - began)

    try:
        async with Resolver.open(options.dns_servers, FAMILIES[options.ip_version]) as resolver:
            tasks = [asyncio.create_task(one(name)) for name in dict.fromkeys(names)]
            _, late = await asyncio.wait(tasks, timeout=LOOKING_S) if tasks else ((), ())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
    except OSError as error:
        raise OptionsError(f"dns_servers: {error}") from error
    if late:
        ends[f"had no answer within {LOOKING_S:g} s"] += len(late)
    faults = {end: count for end, count in ends.most_common() if end not in (_FOUND, _NOT_THERE)}
    by = ", ".join(options.dns_servers) or "the system's name servers"
    return Lookups(of, by, seconds, ends[_FOUND], ends[_NOT_THERE], faults)


_FOUND: Final = "found"
_NOT_THERE: Final = "not there"


async def _end(resolver: Resolver, name: str) -> str:
    """Return what became of looking *name* up."""
    try:
        await resolver.look_up(name)
    except ResolveError as error:
        if error.error_class in _MISSING:
            return _NOT_THERE
        return "could not be asked" if error.error_class is None else _REASONS.get(error.error_class, "failed")
    return _FOUND
