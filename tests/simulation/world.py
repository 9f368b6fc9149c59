"""The world that a simulated run is in: hosts that do as their script says, and a ledger of how they were treated."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import math
import socket
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.resolver import ResolveError
from async_img2ds.fetch.uplink import WITNESS_S, Uplink
from async_img2ds.policy.host import PAUSE_MOST_S
from async_img2ds.policy.host_rules import HostRules
from scripts import CLASSES, Site
from virtual_loop import PROCESS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from async_img2ds.policy.urls import Target
    from scripts import Line, Script
    from virtual_loop import Process, VirtualLoop

__all__ = ["SimClient", "World", "image_of"]

EPOCH_S: Final = 1_800_000_000.0
# What the moments between a decision and the request that follows it come to.
MOMENT_S: Final = 0.001
DNS_S: Final = 6.0
BODY_BYTES: Final = 900


@dataclass(eq=False, slots=True)
class _Visit:
    """A request, as its host sees it."""

    process: Process
    target: Target
    began: float
    chance: Random
    answer: _Answer | None = None


@dataclass(slots=True)
class _Ledger:
    """How one host has been treated."""

    visits: set[_Visit] = field(default_factory=set)
    closed_until: float = -math.inf
    closed_by: Process | None = None
    closed_at: float = -math.inf
    closed_before: float = -math.inf
    last: dict[Process, float] = field(default_factory=dict)
    tokens: float = 3.0
    tokens_at: float = 0.0


class World:
    """Hosts, time and chance of one run, and what went wrong in it: *wrong* has every breach of what must hold."""

    def __init__(self, script: Script, loop: VirtualLoop, tell: Callable[[str], None] | None = None) -> None:
        self.script = script
        self.loop = loop
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.last_event = 0.0
        self.at_moment: Callable[[str], None] = lambda _moment: None
        self.rules = HostRules.parse(script.rules)
        self.processes = script.processes
        self._tell = tell
        self._digest = hashlib.sha256()
        self._ledgers: defaultdict[str, _Ledger] = defaultdict(_Ledger)
        self._asked: Counter[str] = Counter()
        self._excused: defaultdict[str, set[str]] = defaultdict(set)

    def unix_time(self) -> float:
        return EPOCH_S + self.loop.time()

    def event(self, what: str) -> None:
        """Have *what* in the trace."""
        self.last_event = self.loop.time()
        line = f"{self.last_event:.6f} {PROCESS.get() or 'parent'} {what}"
        self._digest.update(line.encode())
        if self._tell is not None:
            self._tell(line)

    def breach(self, what: str) -> None:
        self.event(f"WRONG {what}")
        self.wrong.append(f"at {self.loop.time():.3f} s: {what}")

    def digest(self) -> str:
        return self._digest.hexdigest()

    # The network.

    def is_cut_off(self, begin: float, end: float) -> bool:
        return any(first < end and begin < last for first, last in self.script.outages)

    async def passes(self, seconds: float, wait_s: float, late: ErrorClass, url: str = "") -> None:
        """Wait for what takes *seconds* on a network that works, *wait_s* at the most; then it failed with *late*.

        What is lost in an outage is sent again after 0.2 s, and after twice as long each time.
        """
        began = self.loop.time()
        there = began + seconds
        for first, last in self.script.outages:
            if there < math.inf and first < there and began < last:
                there, again_s = max(began, first), 0.2
                while there < last:
                    there, again_s = there + again_s, 2 * again_s
        await asyncio.sleep(min(there, began + wait_s) - began)
        if there > began + wait_s:
            if seconds <= wait_s and self._looks_well(began):
                self._excused[_name(url)].add(late)
            raise FetchFailure(late, "timed out")

    def _looks_well(self, began: float) -> bool:
        """Whether the network has failed since *began* and others are heard now: that is known not to be told apart.

        It has come back, or does while others are tried, or it has failed so late that most of the wait was before.
        """
        now = self.loop.time()
        return any(
            first < now
            and began < last
            and (last <= now + WITNESS_S or now - first <= min(WITNESS_S, (now - began) / 2))
            for first, last in self.script.outages
        )

    def is_excused(self, url: str | None, kind: str) -> bool:
        """Whether a row may have come to *kind* because an outage looked like its host's own silence."""
        return kind in self._excused.get(_name(url or ""), ())

    async def connected(self, address: str) -> asyncio.Transport:
        """Connect to *address*, as somebody who only wants to know whether that can be done."""
        sites = [site for site in self.script.sites.values() if site.address == address]
        is_deaf = all(site.kind == "dead" or self.is_deaf(site) for site in sites)
        await self.passes(math.inf if is_deaf else 0.05, math.inf, ErrorClass.CONNECT_TIMEOUT)
        return _Connected()

    def check_descriptors(self, chance: Random) -> None:
        if any(first <= self.loop.time() < last for first, last in self.script.shortages) and chance.random() < 0.8:
            raise LocalFault("too many open files")

    # What hosts see.

    def begin(self, process: Process, target: Target) -> _Visit:
        now, ledger = self.loop.time(), self._ledgers[target.host]
        self._asked[target.url] += 1
        number = self._asked[target.url]
        chance = Random(f"{self.script.seed} {target.url} {number}")
        visit = _Visit(process, target, now, chance)
        self.event(f"ask {target.url} ({number})")
        self.counts["requests"] += 1
        if now < ledger.closed_until - MOMENT_S:
            self.breach(f"{target.host} was asked {ledger.closed_until - now:.3f} s before its Retry-After was over")
        ledger.visits.add(visit)
        self._check_crowd(target.host, process, ledger)
        self._check_gap(target.host, process, ledger, now)
        self.at_moment("ask")
        return visit

    def _check_crowd(self, host: str, process: Process, ledger: _Ledger) -> None:
        most = self.rules.of(host).max_per_host or self.script.options["max_per_host"]
        share = max(1, most // self.processes)
        at_once, own = len(ledger.visits), sum(visit.process is process for visit in ledger.visits)
        if at_once > most or own > share:
            self.breach(f"{host} has {at_once} requests, {own} of one process; it may have {most} and {share}")

    def _check_gap(self, host: str, process: Process, ledger: _Ledger, now: float) -> None:
        rule = self.rules.of(host)
        delay_s = self.script.options["crawl_delay"] if rule.crawl_delay is None else rule.crawl_delay
        gap_s = delay_s * self.processes
        passed_s = now - ledger.last.get(process, -math.inf)
        if passed_s < gap_s - MOMENT_S:
            self.breach(f"{host} was asked again after {passed_s:.3f} s; the crawl delay is {gap_s:g} s a process")
        ledger.last[process] = now

    def end(self, visit: _Visit, *, told: bool) -> None:
        """Take note that a request has ended; *told* says that whoever asked has taken the answer in."""
        ledger, answer = self._ledgers[visit.target.host], visit.answer
        ledger.visits.discard(visit)
        self.event(f"end {visit.target.url} {answer.status if answer else '-'}")
        if told and answer is not None and answer.status in (429, 503) and answer.retry_after_s:
            now = self.loop.time()
            ledger.closed_before, ledger.closed_at, ledger.closed_by = ledger.closed_until, now, visit.process
            ledger.closed_until = max(ledger.closed_until, now + min(PAUSE_MOST_S, answer.retry_after_s))
        self.at_moment("answer")

    def forget(self, process: Process) -> None:
        """Take note that *process* is dead: its connections are gone, and what it was told a moment ago."""
        for ledger in self._ledgers.values():
            ledger.visits = {visit for visit in ledger.visits if visit.process is not process}
            if ledger.closed_by is process and self.loop.time() - ledger.closed_at < MOMENT_S:
                ledger.closed_until = ledger.closed_before

    def visits_left(self) -> int:
        return sum(len(ledger.visits) for ledger in self._ledgers.values())

    def visits_of(self, host: str) -> int:
        return len(self._ledgers[host].visits)

    def has_token(self, site: Site) -> bool:
        """Whether a host that limits how often it is asked bears one more now."""
        ledger, now = self._ledgers[site.name], self.loop.time()
        ledger.tokens = min(3.0, ledger.tokens + (now - ledger.tokens_at) * site.rate)
        ledger.tokens_at = now
        if ledger.tokens < 1:
            return False
        ledger.tokens -= 1
        return True

    def is_down(self, site: Site, at: float) -> bool:
        return any(first <= at < last for first, last in site.down)

    def is_deaf(self, site: Site) -> bool:
        return site.down_silently and self.is_down(site, self.loop.time())

    def up_since(self, site: Site, at: float) -> float:
        """Return since when a flapping host is up at *at*; the time itself if it is not."""
        if self.is_down(site, at):
            return at
        return max((last for _, last in site.down if last <= at), default=-math.inf)

    def close_look(self, line: Line, kind: str) -> None:
        """See that a row of a flapping host has not failed long after it came back."""
        site, script, at = self.script.sites.get(line.host), self.script, self.loop.time()
        if site is None or site.kind != "flapping" or kind not in CLASSES["refusing"] | CLASSES["dead"]:
            return
        patience_s = 60.0 + 2 * script.options["timeout"] + 30.0
        waited = any(first < at and at - last < patience_s for first, last in script.outages)
        if at - self.up_since(site, at) > patience_s and not waited:
            self.breach(f"a row of {line.host} failed with {kind} although it was back for {patience_s:g} s")


@dataclass(slots=True)
class _Answer:
    """What a host says."""

    world: World
    visit: _Visit
    uplink: Uplink
    status: int
    latency_s: float
    location: str | None = None
    retry_after_s: int | None = None
    by_date: bool = False
    breaks: bool = False
    drips: bool = False
    reason: str = "said so"
    content_length: int | None = None
    address: str | None = None
    tls_verified: bool | None = None

    def headers(self, name: str) -> list[str]:
        if name == "Location" and self.location:
            return [self.location]
        if name == "Retry-After" and self.retry_after_s:
            if self.by_date:  # in whole seconds, and so never later than it is meant
                at = math.ceil(self.world.unix_time()) + self.retry_after_s
                return [email.utils.formatdate(at, usegmt=True)]
            return [str(self.retry_after_s)]
        return []

    async def chunks(self) -> AsyncGenerator[bytes]:
        content = image_of(self.visit.target.url)
        size = -(-len(content) // self.visit.chance.choice((1, 2, 3)))
        for start in range(0, len(content), 1 if self.drips else size):
            wait_s = 4.0 if self.drips else self.visit.chance.uniform(0.0, 0.05)
            began = self.uplink.now()
            try:
                timeout, url = self.world.script.options["timeout"], self.visit.target.url
                await self.world.passes(wait_s, timeout, ErrorClass.READ_TIMEOUT, url)
            except FetchFailure as failure:
                raise await self.uplink.judge(failure, began) from None
            if self.breaks:
                raise FetchFailure(ErrorClass.BODY_RESET, "[Errno 104] Connection reset by peer")
            yield content[start : start + (1 if self.drips else size)]

    async def drain(self) -> None:
        await asyncio.sleep(self.visit.chance.choice((0.0, 0.0, 0.0, 2.0)))


def _name(url: str) -> str:
    """Return what is the same of the URLs that redirects lead a row over."""
    return url.rpartition("/")[2]


def image_of(url: str) -> bytes:
    """Return what is behind *url*."""
    return f"image of {url} ".encode().ljust(BODY_BYTES, b".")


class _Connected(asyncio.Transport):
    """A connection that nobody speaks over."""

    def abort(self) -> None:
        pass


class SimClient:
    """Asks the hosts of a world for a process of it, and judges failures as the program's own client does."""

    def __init__(self, world: World, process: Process) -> None:
        self.uplink = Uplink(world.loop.time)
        self._world = world
        self._process = process
        self._looking_up = 0

    @asynccontextmanager
    async def get(self, target: Target, keep: Callable[[], bool]) -> AsyncIterator[Any]:
        visit = self._world.begin(self._process, target)
        told = False
        try:
            began = self.uplink.now()
            try:
                visit.answer = await self._answered(visit)
            except (FetchFailure, LocalFault) as failure:
                raise await self.uplink.judge(failure, began) from None
            self.uplink.heard()
            yield visit.answer
            keep()
        except FetchFailure:
            told = True
            raise
        finally:
            if self._process.alive:
                self._world.end(visit, told=told)

    async def overdue(self, _target: Target, failure: FetchFailure, took_s: float) -> FetchFailure | LocalFault:
        return await self.uplink.judge(failure, self.uplink.now() - took_s)

    async def look_up(self, name: str) -> list[tuple[int, str]]:
        site = self._world.script.sites[name]
        try:
            await self._resolve(site, Random(name))
        except FetchFailure as failure:
            raise ResolveError(failure.error_class, failure.message) from None
        except LocalFault as fault:
            raise ResolveError(None, str(fault)) from None
        return [(socket.AF_INET, site.address)]

    def looking_up(self) -> int:
        return self._looking_up

    async def _resolve(self, site: Site, chance: Random) -> None:
        self._looking_up += 1
        try:
            takes_s = math.inf if site.kind == "lost-name" else chance.uniform(0.001, 0.3)
            began = self._world.loop.time()
            try:
                await self._world.passes(takes_s, DNS_S, ErrorClass.DNS_TIMEOUT)
            except FetchFailure:
                if self._world.is_cut_off(began, self._world.loop.time()):
                    raise LocalFault("no name server answers") from None
                raise
            if site.kind == "nameless":
                raise FetchFailure(ErrorClass.DNS_NXDOMAIN, "Name or service not known")
        finally:
            self._looking_up -= 1

    async def _answered(self, visit: _Visit) -> _Answer:
        world, chance = self._world, visit.chance
        site = world.script.sites[visit.target.host]
        timeout = world.script.options["timeout"]
        world.check_descriptors(chance)
        await self._resolve(site, chance)
        down = world.is_down(site, world.loop.time())
        is_deaf = site.kind == "dead" or self._world.is_deaf(site)
        connects_s, url = math.inf if is_deaf else chance.uniform(0.0, 0.1), visit.target.url
        await world.passes(connects_s, timeout, ErrorClass.CONNECT_TIMEOUT, url)
        if site.kind == "refusing" or down:
            raise FetchFailure(ErrorClass.CONNECT_REFUSED, "Connection refused")
        self.uplink.reached(site.address, visit.target.port)
        if site.kind == "resetting" and chance.random() < 0.2:
            raise FetchFailure(ErrorClass.CONNECT_RESET, "Connection reset by peer")
        began = world.loop.time()
        await world.passes(self._thinks_s(site, chance), timeout, ErrorClass.READ_TIMEOUT, url)
        return self._said(site, visit, world.loop.time() - began)

    def _thinks_s(self, site: Site, chance: Random) -> float:
        if site.kind == "silent":
            return math.inf
        crowd = self._world.visits_of(site.name) if site.kind == "crowded" else 1
        return site.latency_s * chance.uniform(0.5, 1.5) * min(crowd, 4)

    def _said(self, site: Site, visit: _Visit, latency_s: float) -> _Answer:
        world, chance = self._world, visit.chance
        path = visit.target.url.split("/", 3)[3]
        by_date = chance.random() < 0.3
        answer = _Answer(world, visit, self.uplink, 200, latency_s, by_date=by_date)
        if site.kind == "gone" or path.startswith("missing-"):
            answer.status = 404
        elif path.startswith("to/"):
            _, host, rest = path.split("/", 2)
            answer.status, answer.location = 302, f"http://{host}/{rest}"
        elif site.kind == "limited" and not world.has_token(site):
            answer.status, answer.retry_after_s = 429, site.retry_after_s
        elif site.kind == "strained" and chance.random() < 0.3:
            answer.status, answer.retry_after_s = 503, site.retry_after_s
        answer.breaks = site.kind == "resetting" and chance.random() < 0.2
        answer.drips = site.kind == "dripping"
        return answer
