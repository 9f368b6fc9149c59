"""What figures of a machine mean for a run on it: all is well, it could be better, or something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from async_img2ds.policy.estimates import percentile
from async_img2ds.policy.window import IN_FLIGHT_LEAST

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "Disk",
    "Finding",
    "Images",
    "Lookups",
    "Verdict",
    "of_clock",
    "of_cores",
    "of_descriptors",
    "of_disk",
    "of_extras",
    "of_images",
    "of_loop",
    "of_lookups",
    "of_memory",
    "of_proxies",
    "of_ways",
]


class Verdict(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about a *subject*, and what to do about it if there is anything to do."""

    subject: str
    verdict: Verdict
    said: str
    advice: str = ""


def _fine(subject: str, said: str) -> Finding:
    return Finding(subject, Verdict.OK, said)


def of_cores(usable: int, there: int, processes: int | None) -> Finding:
    """Judge the cores that may be used, of those that are there, for so many *processes* if they are named."""
    said = f"{usable} may be used" + (f", of {there}" if there > usable else "")
    if processes is not None and processes > usable:
        advice = f"--processes_count {processes} is more than there are: leave it out, and it is a process a core"
        return Finding("cores", Verdict.ADVICE, said, advice)
    if there > usable:
        advice = (
            "an affinity mask or a container's quota keeps the others; a run has a process for each that it may use"
        )
        return Finding("cores", Verdict.OK, said, advice)
    return _fine("cores", said)


def of_descriptors(room: int, limit: int | None, wanted: int) -> Finding:
    """Judge the *room* for rows under way in a process, where the most open files that it may have is *limit*.

    *wanted* is how many it would have under way at the most.
    """
    said = f"room for {room:,} URLs under way in each process"
    said += "" if limit is None else f" (a process may have {limit:,} files open)"
    advice = (
        f"raise the hard limit: ulimit -Hn {2 * wanted + 1024}, LimitNOFILE= of systemd, or --ulimit nofile= of Docker"
    )
    if room < min(wanted, IN_FLIGHT_LEAST):
        return Finding("descriptors", Verdict.PROBLEM, said, advice)
    return Finding("descriptors", Verdict.ADVICE, said, advice) if room < wanted else _fine("descriptors", said)


# A worker at full rate came to 280 to 350 MB in half an hour with bodies as the web has them, its parent to 115; a
# single large image may take 360 MB more while it is decoded.
WORKER_BYTES: Final = 350 * 10**6
PARENT_BYTES: Final = 115 * 10**6
LARGE_IMAGE_BYTES: Final = 360 * 10**6


def of_memory(free: int | None, processes: int) -> Finding:
    """Judge the bytes of memory that are *free* for so many *processes*; None if nobody says."""
    if free is None:
        return _fine("memory", "not checked: this system does not say how much is free")
    needed = PARENT_BYTES + processes * WORKER_BYTES
    said = f"{free / 1e9:,.1f} GB free; {processes} processes take some {needed / 1e9:,.1f} GB"
    fit = max(1, (free - PARENT_BYTES) // (WORKER_BYTES + LARGE_IMAGE_BYTES))
    advice = f"--processes_count {fit}, or a smaller --in_flight_bytes_max; else the system may kill processes"
    if free < needed:
        return Finding("memory", Verdict.PROBLEM, said, advice)
    if free < needed + processes * LARGE_IMAGE_BYTES:
        return Finding("memory", Verdict.ADVICE, said, f"large images take more: {advice}")
    return _fine("memory", said)


# A cache answers in a millisecond, a name server nearby in 20 or 30, and one that has to ask others in a few hundred.
DNS_SLOW_S: Final = 0.25
DNS_TAIL_S: Final = 1.0
# Of names for which no name server has an answer.
DNS_FAULTY: Final = 0.1
DNS_BROKEN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Lookups:
    """How name servers have answered.

    Attributes:
        of: whose names were looked up, in words.
        by: which name servers were asked, in words.
        seconds: how long each name took that was answered, whether it exists or not.
        found: names that have addresses.
        missing: names that do not exist, or have none.
        faults: names that nobody has told of, by the reason.

    """

    of: str
    by: str
    seconds: Sequence[float]
    found: int
    missing: int
    faults: Mapping[str, int]


_NAMED: Final = "name others by --dns_servers, best a resolver on this machine that caches, such as unbound"


def of_lookups(lookups: Lookups) -> Finding:
    """Judge how fast and how well names are looked up."""
    faulty = sum(lookups.faults.values())
    whole = lookups.found + lookups.missing + faulty
    if not whole:
        return _fine("DNS", "not checked: no name was to be looked up")
    said = f"{lookups.found} of {whole} names found ({lookups.of}), by {lookups.by}"
    told = [f"{lookups.missing} do not exist"] if lookups.missing else []
    told += [f"{count} {reason}" for reason, count in lookups.faults.items()]
    said += f": {', '.join(told)}" if told else ""
    if lookups.seconds:
        ordered = sorted(lookups.seconds)
        middle_s, tail_s = percentile(ordered, 0.5), percentile(ordered, 0.95)
        said += f"; p50 {1000 * middle_s:.0f} ms, p95 {1000 * tail_s:.0f} ms"
    else:
        advice = f"no name server answers: is this machine on line? Else look at /etc/resolv.conf, or {_NAMED}"
        return Finding("DNS", Verdict.PROBLEM, said, advice)
    if faulty >= DNS_BROKEN * whole:
        return Finding("DNS", Verdict.PROBLEM, said, f"most rows would fail by it: {_NAMED}")
    if not lookups.found:
        advice = f"they answer, but know of none of these names: is this a closed network? Else {_NAMED}"
        return Finding("DNS", Verdict.PROBLEM, said, advice)
    if faulty >= DNS_FAULTY * whole:
        return Finding("DNS", Verdict.ADVICE, said, f"such rows fail as dns_timeout or dns_servfail: {_NAMED}")
    if middle_s > DNS_SLOW_S or tail_s > DNS_TAIL_S:
        return Finding("DNS", Verdict.ADVICE, said, f"slow, and a list of many hosts waits for it: {_NAMED}")
    return _fine("DNS", said)


def of_ways(has_4: bool, has_6: bool, version: str) -> Finding:  # noqa: FBT001  a truth each
    """Judge the ways out by IPv4 and IPv6 of which this machine knows, where *version* of IP is asked for."""
    there = [name for name, has in (("IPv4", has_4), ("IPv6", has_6)) if has]
    said = f"ways out by {' and '.join(there)}" if there else "no way out by IPv4 or IPv6"
    if not there:
        advice = "only this machine and its own networks can be reached: look at its network"
        return Finding("network", Verdict.PROBLEM, said, advice)
    if (version == "4" and not has_4) or (version == "6" and not has_6):
        return Finding("network", Verdict.PROBLEM, said, f"--ip_version {version} has no way out: leave it out")
    if not has_4:
        advice = "most hosts have IPv4 alone, which takes a network that translates (NAT64)"
        return Finding("network", Verdict.ADVICE, said, advice)
    if has_6:
        advice = "no packet was sent; if many rows fail as connect_unreachable: --ip_version 4"
        return Finding("network", Verdict.OK, said, advice)
    return _fine("network", f"{said}; none by IPv6, which few hosts have alone")


def of_loop(version: str | None, has_it: bool) -> Finding:  # noqa: FBT001  whether this system has it
    """Judge the event loop: the *version* of uvloop, None if it is not there."""
    if version is not None:
        return _fine("event loop", f"uvloop {version}")
    if not has_it:
        return _fine("event loop", "asyncio's own: there is no uvloop for this system")
    return Finding("event loop", Verdict.ADVICE, "asyncio's own", "pip install uvloop, which takes less of the CPU")


@dataclass(frozen=True, slots=True)
class Images:
    """The image library: its name and version, whether it is pillow-simd and could be, and what it was built with."""

    library: str
    is_simd: bool
    may_be_simd: bool
    formats: Sequence[str]
    missing: Sequence[str]
    has_turbo: bool
    has_profiles: bool


def of_images(images: Images) -> Finding:
    """Judge the image library."""
    turbo = " by libjpeg-turbo" if images.has_turbo else ""
    parts = [f"{name}{turbo}" if name == "jpg" else name for name in images.formats]
    parts += ["colour profiles"] if images.has_profiles else []
    said = f"{images.library}, which has {', '.join(parts)}"
    said += f", and not {', '.join(images.missing)}" if images.missing else ""
    again = "install the headers and build it anew, or take the extra 'pillow'"
    if "jpg" in images.missing:
        return Finding("images", Verdict.PROBLEM, said, f"most images are jpg, and would fail: {again}")
    if not images.has_turbo:
        return Finding("images", Verdict.ADVICE, said, f"a libjpeg other than turbo is several times as slow: {again}")
    if images.missing:
        return Finding("images", Verdict.ADVICE, said, f"such images fail as decode_unsupported: {again}")
    if not images.is_simd and images.may_be_simd:
        advice = "pillow-simd is faster: pip uninstall pillow, then pip install 'async-img2ds[simd]'"
        return Finding("images", Verdict.ADVICE, said, advice)
    return _fine("images", said)


# So slow are network disks that are overloaded and cards; a core writes some 5 MB/s of images at the default size.
DISK_SLOW: Final = 20e6
# Some ten shards of the default size.
DISK_LITTLE: Final = 2e9


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of a *folder*: its *use*, *free* bytes, bytes *least* that a run wants free, bytes written a second.

    *fault* is why nothing could be written.
    """

    use: str
    folder: str
    free: int
    least: float
    bytes_per_s: float | None
    fault: str = ""


def of_disk(disk: Disk) -> Finding:
    """Judge the room on a disk, and its speed."""
    option = "--temp_folder or TMPDIR" if disk.use == "temp" else "--output_folder"
    if disk.fault:
        return Finding(disk.use, Verdict.PROBLEM, f"{disk.folder}: {disk.fault}", f"choose another {option}")
    speed = "" if disk.bytes_per_s is None else f", written at {disk.bytes_per_s / 1e6:,.0f} MB/s"
    said = f"{disk.folder}: {disk.free / 1e9:,.1f} GB free{speed}"
    if disk.free < disk.least:
        return Finding(
            disk.use, Verdict.PROBLEM, said, f"too little for anything to be fetched: choose another {option}"
        )
    if disk.free < DISK_LITTLE:
        advice = "little: aimg2ds plan LIST --sample 500 says how much is needed"
        return Finding(disk.use, Verdict.ADVICE, said, advice if disk.use == "output" else f"little: another {option}")
    if disk.bytes_per_s is not None and disk.bytes_per_s < DISK_SLOW:
        return Finding(
            disk.use, Verdict.ADVICE, said, f"slow: fetching may wait for it; another {option} may be faster"
        )
    return _fine(disk.use, said)


def of_clock(now: float, installed_at: float, said: str) -> Finding:
    """Judge the clock by that this program was installed before *now*, which is *said* in words."""
    if now < installed_at:
        advice = "certificates would fail as tls_expired: set it, by NTP (timedatectl set-ntp true)"
        return Finding("clock", Verdict.PROBLEM, f"{said}, which is before this program was installed", advice)
    advice = "not compared with any other; if many rows fail as tls_expired, compare it"
    return Finding("clock", Verdict.OK, said, advice)


def of_proxies(names: Collection[str], proxy: str) -> Finding:
    """Judge the variables that name proxies: they are set and not heeded."""
    if not names:
        return _fine("proxies", "none in the environment")
    said = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} set, and not used"
    return Finding("proxies", Verdict.ADVICE, said, proxy)


def of_extras(there: Sequence[str], missing: Sequence[str]) -> Finding:
    """Tell which optional sets of packages are installed."""
    said = f"installed: {', '.join(there) or 'none'}" + (f"; not: {', '.join(missing)}" if missing else "")
    advice = f"those that you need: pip install 'async-img2ds[{missing[0]}]'" if missing else ""
    return Finding("extras", Verdict.OK, said, advice)
