"""The machine itself: cores, descriptors, memory, ways out, clock, proxies."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from async_img2ds.distributors.local import usable_cores
from async_img2ds.policy.findings import (
    of_clock,
    of_cores,
    of_descriptors,
    of_memory,
    of_proxies,
    of_ways,
)
from async_img2ds.policy.window import IN_FLIGHT_MOST
from async_img2ds.preflight import proxies_in
from async_img2ds.worker.means import room_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.options import DoctorOptions
    from async_img2ds.policy.findings import Finding

__all__ = ["findings_of_machine", "free_memory"]

# Addresses that are nobody's (RFC 5737, RFC 3849): asked for the way to them, the system sends nothing.
_NOBODY_4: Final = "192.0.2.1"
_NOBODY_6: Final = "2001:db8::1"
_GLOBAL_6: Final = 0x2000 >> 13
# A container's own bounds, in the two versions of control groups.
_MEMORY: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def findings_of_machine(options: DoctorOptions) -> Iterator[Finding]:
    """Yield what there is to say of the machine; nothing is sent and nothing written."""
    cores = usable_cores()
    processes = options.run.processes_count or cores
    yield of_cores(cores, os.cpu_count() or cores, options.run.processes_count)
    limit = _files_at_most()
    wanted = options.fetch.thread_count or IN_FLIGHT_MOST
    yield of_descriptors(wanted if limit is None else room_within(limit), limit, wanted)
    yield of_memory(free_memory(), processes)
    yield of_ways(_has_way_4(), _has_way_6(), options.fetch.ip_version)
    now = time.time()
    yield of_clock(now, _installed_at(), datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
    advice = "--proxy is what a run uses" if options.fetch.proxy is None else "--proxy is used instead"
    yield of_proxies(proxies_in(os.environ), advice)


def _files_at_most() -> int | None:
    """Return how many files a process may have open, as far as a worker raises that; None where there is no limit."""
    try:
        import resource
    except ImportError:  # on Windows, where sockets have no such limit
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def free_memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes of memory are free for this process, by the system and by its container; None if unsaid."""
    told = [_available(root), *(_left(*(root / path.lstrip("/") for path in paths)) for paths in _MEMORY)]
    return min((free for free in told if free is not None), default=None)


def _available(root: Path) -> int | None:
    with suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    return None


def _left(most: Path, used: Path, told: Path) -> int | None:
    """Return what a container may still take; files that its memory only keeps copies of are given up for it."""
    with suppress(OSError, ValueError):
        whole, taken = int(most.read_text()), int(used.read_text())
        told_of = dict(line.split() for line in told.read_text().splitlines())
        return max(0, whole - taken + int(told_of.get("inactive_file", 0)))
    return None  # there is none, or its bound is "max"


def _has_way_4() -> bool:
    return _source_for(socket.AF_INET, _NOBODY_4) not in (None, "127.0.0.1")


def _has_way_6() -> bool:
    """Whether there is a way, from an address by which others can answer."""
    source = _source_for(socket.AF_INET6, _NOBODY_6)
    return source is not None and int(IPv6Address(source.partition("%")[0])) >> 125 == _GLOBAL_6


def _source_for(family: socket.AddressFamily, address: str) -> str | None:
    """Return from which address of this machine packets to *address* would go, None if none would."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _installed_at() -> float:
    """Return when this program was installed, as a Unix time; 0 if its files do not say."""
    try:
        return Path(__file__).stat().st_mtime
    except OSError:
        return 0.0
