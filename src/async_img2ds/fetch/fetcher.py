"""One URL → its bytes: attempts, redirects, opt-out, and limits on size and time."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault, Trace
from async_img2ds.fetch.connections import clean
from async_img2ds.fetch.sites import Sites
from async_img2ds.policy import optout, urls
from async_img2ds.policy.host import Outcome, Sign, sign_of
from async_img2ds.policy.host_rules import NO_RULES
from async_img2ds.policy.optout import Consent, Signal
from async_img2ds.policy.removal import Removal
from async_img2ds.policy.retry import RetryPolicy, next_delay
from async_img2ds.policy.sources import NO_SOURCES, Sources
from async_img2ds.records import Body
from async_img2ds.sources import KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from async_img2ds.fetch.client import Answer, Client
    from async_img2ds.fetch.sites import SiteRules
    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.host_rules import HostRules
    from async_img2ds.policy.urls import AddressPolicy, Target

__all__ = ["Fetcher", "Hold", "user_agent"]

logger = logging.getLogger(__name__)

# Reasons for which an URL is not asked for at all.
_NOT_ASKED: Final = frozenset(
    {
        ErrorClass.ADDR_BLOCKED,
        ErrorClass.PORT_BLOCKED,
        ErrorClass.SOURCE_BLOCKED,
        ErrorClass.OPTOUT_LISTED,
        ErrorClass.OPTOUT_REMOVED,
        ErrorClass.OPTOUT_ROBOTS,
        ErrorClass.ROBOTS_UNREACHABLE,
    }
)
# What is asked for, and those that servers use without being asked (RFC 9110 8.4.1).
_UNDONE: Final = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
# 203 is a 200 that a proxy has touched; any other 2xx carries no image or only a part of one.
_WHOLE: Final = frozenset({200, 203})
# A shortage of this machine is waited out, looked at after so long, the last time over and over, for an hour, as most
# outages end sooner; then the shard is given back and with it all its rows, because nothing can be said about them.
LOCAL_FAULT_WAITS_S: Final = (1.0, 2.0, 5.0, 10.0)
LOCAL_FAULT_MOST_S: Final = 3600.0

COMPLAINT_S: Final = 30.0
# A new connection costs less than waiting this long for the rest of an old one.
DRAIN_S: Final = 1.0
# So many first bytes show what a body is: an AVIF names its brands in its first 128, and a web page has begun.
HEAD_BYTES: Final = 512
# A body that comes more slowly than this, for as long as this, is given up (curl's --speed-limit and --speed-time): it
# would hold its slot until the whole time of the attempt is over. The first seconds are not looked at.
RATE_LEAST_BYTES_PER_S: Final = 2048
RATE_WINDOW_S: Final = 10.0
RATE_GRACE_S: Final = 5.0


class Hold(Protocol):
    """What a fetch asks of whoever paces it."""

    @property
    def is_refused(self) -> bool:
        """Whether the host was given up before the first attempt."""

    def is_host_aside(self) -> bool:
        """Whether the host is set aside, as it does not answer."""

    def is_host_wanted(self) -> bool:
        """Whether the host is likely to be asked again soon."""

    def heard(self) -> None:
        """Say that an answer has come."""

    def leave_host(self, outcome: Outcome) -> None:
        """Say that a request to the host has ended."""

    def pause(self, seconds: float) -> None:
        """Have no row start for so long: it is this machine that is short of something."""

    async def again(self, target: Target, delay_s: float) -> bool:
        """Wait before another attempt on *target*; return False if its host was given up instead."""

    async def move(self, target: Target, outcome: Outcome) -> bool:
        """Wait until the host of *target*, to which a redirect that ended with *outcome* leads, may be asked.

        Return False if it was given up.
        """

    def hold(self, count: int) -> bool:
        """Count bytes received; return whether to read on at once."""

    async def wait_to_read(self) -> None:
        """Wait until reading may go on."""


class Complaints:
    """Says in the log what is wrong with this machine: at once, and then now and then, not once for each row."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Tell the time by *clock*, in seconds."""
        self._clock = clock
        self._next = -math.inf

    def make(self, text: str) -> None:
        """Say *text*, unless something was said a moment ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + COMPLAINT_S
            logger.warning("%s", text)


@dataclass(slots=True)
class _Course:
    """One attempt: where redirects have led, when its last request began, and how long it has waited for ourselves.

    *asked_at* is later by what was waited since. *signals* are the reservations that were seen, *trace* what else is
    told; *site* is what the last host says of all that it has, where that is asked.
    """

    trail: list[Target]
    asked_at: float
    waited_s: float = 0.0
    signals: list[Signal] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    site: SiteRules | None = None

    @property
    def target(self) -> Target:
        return self.trail[-1]

    @property
    def led_to(self) -> str | None:
        """The URL that redirects have led to, None if there were none."""
        return self.trail[-1].url if len(self.trail) > 1 else None

    @property
    def told(self) -> Trace:
        """What is told of it in the end."""
        return replace(self.trace, optout=optout.in_text(self.signals)) if self.signals else self.trace


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches URLs with *client*, within *options*; *jitter* draws from [0, 1).

    *host_rules* say which hosts are not asked at all, *removal* what its owners do not want asked for. *may_be_image*
    looks at the first bytes of a body; of what cannot become one the rest is not read. With *keeps_provenance* it is
    told when and from whom each answer came. *sources* are read by *reader*.
    """

    client: Client
    options: FetchOptions
    addresses: AddressPolicy
    jitter: Callable[[], float]
    may_be_image: Callable[[bytes], bool] = lambda _: True
    complaints: Complaints = field(default_factory=lambda: Complaints(time.monotonic))
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    keeps_provenance: bool = False
    host_rules: HostRules = NO_RULES
    removal: Removal = field(default_factory=Removal)
    sources: Sources = NO_SOURCES
    reader: Client | None = None
    _consent: Consent = field(init=False)
    _sites: Sites | None = field(init=False)

    def __post_init__(self) -> None:
        """Take from the options which reservations are obeyed."""
        told = self.options.directives, self.options.optout, self.options.user_agent_token
        object.__setattr__(self, "_consent", Consent(*told))
        sites = Sites(self.client, self._check_address, self.clock, self.options.user_agent_token)
        object.__setattr__(self, "_sites", sites if self._consent.asks_sites else None)

    async def fetch(self, url: str | Target | None, hold: Hold) -> Body:
        """Return the body behind *url*, as the list has it or read already.

        Raises:
            FetchFailure: for a reason that is the URL's own; its ``attempts`` says how often it was asked for.
            LocalFault: this machine could not ask, for an hour on end.

        """
        target = url if isinstance(url, urls.Target) else self.sources.parse(url)
        if hold.is_refused:
            raise _circuit_open(target)
        policy = RetryPolicy(self.options.retries)
        left_s = self.options.row_deadline_s
        sign_before: Sign | None = None
        attempt = 1
        faults, fault_at = 0, 0.0
        while True:
            began = self.clock()
            course = _Course([target], began)
            try:
                content, status = await self._attempt(course, hold, min(left_s, self.options.attempt_deadline_s))
                took_s = self.clock() - course.asked_at
                return Body(content, status, attempt, course.led_to, course.told, took_s)
            except FetchFailure as failure:
                left_s -= self.clock() - began - course.waited_s
                sign = sign_of(failure)
                took_s = self.clock() - course.asked_at
                hold.leave_host(Outcome(sign, took_s, pause_s=failure.retry_after_s or 0.0, again=sign is sign_before))
                sign_before = sign
                if failure.error_class is ErrorClass.ADDR_BLOCKED and course.led_to:
                    failure = FetchFailure(ErrorClass.REDIRECT_BLOCKED, f"redirect refused: {failure.message}")
                failure.attempts = 0 if failure.error_class in _NOT_ASKED else attempt
                failure.final_url, failure.trace = course.led_to, course.told
                failure.took_s = took_s if failure.attempts else None
                delay = next_delay(policy, attempt, failure, self.jitter()) if left_s > 0 else None
                # A host that is set aside is looked at by those who have not seen it fail twice.
                if delay is None or (attempt > 1 and hold.is_host_aside()) or not await hold.again(target, delay):
                    raise failure from None
                attempt += 1
                faults = 0
            except LocalFault as fault:  # not the URL's doing, so not one of its attempts
                hold.leave_host(Outcome(Sign.NOTHING))
                fault_at = fault_at if faults else began
                if self.clock() - fault_at >= LOCAL_FAULT_MOST_S:
                    raise
                wait_s = LOCAL_FAULT_WAITS_S[min(faults, len(LOCAL_FAULT_WAITS_S) - 1)]
                self.complaints.make(f"this machine cannot fetch at the moment ({fault}); everything waits")
                hold.pause(wait_s)
                if not await hold.again(target, wait_s):
                    given_up = _circuit_open(target)
                    given_up.attempts = attempt - 1
                    raise given_up from None
                faults += 1

    async def _attempt(self, course: _Course, hold: Hold, most_s: float) -> tuple[bytes, int]:
        """Follow *course* to an image within *most_s* seconds, and give its host back; return it with the status."""
        try:
            async with asyncio.timeout(most_s) as deadline:
                return await self._follow(course, hold, deadline)
        except TimeoutError:
            message = f"timed out: the whole attempt took more than {most_s:g} s"
        failure = FetchFailure(ErrorClass.TOTAL_TIMEOUT, message)
        raise await self._client(course.target).overdue(course.target, failure, most_s)

    async def _follow(self, course: _Course, hold: Hold, deadline: asyncio.Timeout) -> tuple[bytes, int]:
        """Ask for the end of *course*, which redirects make longer, until it is an image."""
        for _ in range(self.options.redirects_max + 1):
            target = course.target
            self._check_address(target)
            client = self._client(target)
            if self._sites is not None and client is self.client:
                await self._off_the_clock(self._ask_site(self._sites, target, course), course, deadline)
            course.asked_at = asked = self.clock()
            async with client.get(target, hold.is_host_wanted) as answer:
                hold.heard()
                latency_s = answer.latency_s
                unverified = course.trace.tls_verified is False  # on the way here
                course.trace = self._trace(answer)
                if unverified:
                    course.trace = replace(course.trace, tls_verified=False)
                if answer.status not in urls.REDIRECTS:
                    await self._check_status(answer)
                    self._check_consent(answer, course)
                    content = await self._read(answer, hold, course, deadline)
                    self._check_metadata(content, course, answer.status)
                    hold.leave_host(Outcome(Sign.ANSWERED, self.clock() - course.asked_at, latency_s))
                    return content, answer.status
                self._check_consent(answer, course)
                locations = answer.headers("Location")
                await _drain(answer)
            if not locations:
                raise FetchFailure(ErrorClass.REDIRECT_INVALID, _status_line(answer), http_status=answer.status)
            elsewhere = self._redirected(target, locations[0])
            course.trail.append(elsewhere)
            outcome = Outcome(Sign.ANSWERED, self.clock() - asked, latency_s)
            await self._off_the_clock(self._move(hold, elsewhere, outcome), course, deadline)
        raise FetchFailure(ErrorClass.REDIRECT_LIMIT, _status_line(answer, _REDIRECT_LOOP), http_status=answer.status)

    def _client(self, target: Target) -> Client:
        """Return who asks for *target*: of the web, or of the user's own."""
        return self.reader if self.reader is not None and target.scheme in KINDS else self.client

    async def _move(self, hold: Hold, target: Target, outcome: Outcome) -> None:
        if not await hold.move(target, outcome):
            raise _circuit_open(target)

    async def _off_the_clock(self, wait: Awaitable[None], course: _Course, deadline: asyncio.Timeout) -> None:
        """Wait for room of our own, in memory or at a host, without charging it to the server's time or the row's."""
        loop = asyncio.get_running_loop()
        began, left_s = self.clock(), (deadline.when() or loop.time()) - loop.time()
        deadline.reschedule(None)
        try:
            await wait
        finally:
            waited_s = self.clock() - began
            course.waited_s += waited_s
            course.asked_at += waited_s
            deadline.reschedule(loop.time() + left_s)

    def _redirected(self, source: Target, location: str) -> Target:
        target = urls.redirect(source, location)
        try:
            self._check_address(target)
        except FetchFailure as failure:
            raise FetchFailure(ErrorClass.REDIRECT_BLOCKED, f"redirect refused: {failure.message}") from None
        return target

    def _check_address(self, target: Target) -> None:
        """Refuse a host, a port, and an address written into the URL; names are checked once they are resolved."""
        if self.removal.match(target.url) is not None:
            raise FetchFailure(ErrorClass.OPTOUT_REMOVED, "removed from the dataset on request")
        if self.host_rules.of(target.host).refuse:
            raise FetchFailure(ErrorClass.OPTOUT_LISTED, f"{target.host} is refused by the hosts_file")
        if not self.addresses.allows_port(target.port):
            said = f"port {target.port} is that of another service; --allow_net opens a port of a network"
            raise FetchFailure(ErrorClass.PORT_BLOCKED, said)
        if target.is_literal and not self.addresses.allows(target.host, target.port):
            raise FetchFailure(ErrorClass.ADDR_BLOCKED, urls.refused(target.host))

    def _trace(self, answer: Answer) -> Trace:
        """Return what is told of *answer*."""
        if not self.keeps_provenance:
            return _TRACES[answer.tls_verified]

        def said(name: str) -> str | None:
            values = answer.headers(name)
            return clean(values[0]) if values else None

        return Trace(
            tls_verified=answer.tls_verified,
            fetched_at=datetime.fromtimestamp(self.wall_clock(), UTC).isoformat(timespec="milliseconds"),
            address=answer.address,
            content_type=said("Content-Type"),
            etag=said("ETag"),
            last_modified=said("Last-Modified"),
        )

    def _check_consent(self, answer: Answer, course: _Course) -> None:
        """Refuse an image that a header of any answer on the way to it reserves; its body is never read."""
        signals = self._consent.seen_in(answer.headers, self.wall_clock())
        if course.site is not None and course.site.reserves(course.target) and not answer.headers("TDM-Reservation"):
            signals.append(Signal(ErrorClass.OPTOUT_TDM, "tdmrep.json", "1"))
        if signals:
            course.signals += signals
            self._obey(signals, answer.status)

    async def _ask_site(self, sites: Sites, target: Target, course: _Course) -> None:
        """Refuse what the site of *target* reserves, which is not asked for then."""
        course.site = await sites.rules(target)
        if signals := course.site.signals(target):
            course.signals += signals
            self._obey(signals, None)

    def _check_metadata(self, content: bytes, course: _Course, http_status: int) -> None:
        """Refuse an image that says itself that it is reserved."""
        if self._sites is not None and (signals := optout.seen_in_image(content)):
            course.signals += signals
            self._obey(signals, http_status)

    def _obey(self, signals: list[Signal], http_status: int | None) -> None:
        if (refusal := self._consent.refusal(signals)) is not None:
            raise FetchFailure(refusal.error_class, _refused(refusal), http_status=http_status)

    async def _check_status(self, answer: Answer) -> None:
        if answer.status in _WHOLE:
            return
        failure = _status_failure(answer)
        if failure.error_class is not ErrorClass.HTTP_UNEXPECTED_STATUS:
            await _drain(answer)
        raise failure

    async def _read(self, answer: Answer, hold: Hold, course: _Course, deadline: asyncio.Timeout) -> bytes:
        most = self.options.body_bytes_max
        if (answer.content_length or 0) > most:
            raise _too_large(most, answer)
        pieces: list[bytes] = []
        count = 0
        is_dropped = False
        pace = _Pace(self.clock())
        try:
            async with aclosing(answer.chunks()) as chunks:
                async for piece in chunks:
                    pieces.append(piece)
                    count += len(piece)
                    if count > most:
                        raise _too_large(most, answer)
                    if count - len(piece) < HEAD_BYTES <= count and not self.may_be_image(b"".join(pieces)):
                        is_dropped = True
                        break
                    pace.check(len(piece), self.clock())
                    if not hold.hold(len(piece)):
                        await self._off_the_clock(hold.wait_to_read(), course, deadline)
                        pace = _Pace(self.clock())
        except FetchFailure as failure:
            failure.http_status = answer.status
            raise
        if is_dropped:
            await _drain(answer)
        if not count:
            raise FetchFailure(ErrorClass.BODY_EMPTY, "empty body", http_status=answer.status)
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if (coding := _still_coded(answer)) and not self.may_be_image(content[:HEAD_BYTES]):
            raise FetchFailure(ErrorClass.CONTENT_ENCODING, f"compressed by {coding}", http_status=answer.status)
        return content


def _still_coded(answer: Answer) -> str | None:
    """Return what the body is coded with, if that is not what the client undoes: one coding that it knows."""
    codings = ", ".join(answer.headers("Content-Encoding")).lower()
    return clean(codings) if codings not in _UNDONE else None


def _too_large(most: int, answer: Answer) -> FetchFailure:
    return FetchFailure(ErrorClass.BODY_TOO_LARGE, f"body of more than {most} bytes", http_status=answer.status)


async def _drain(answer: Answer) -> None:
    """Read a short body that nobody wants, to keep its connection; if that fails or takes long, the connection goes."""
    with suppress(FetchFailure, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await answer.drain()


class _Pace:
    """How fast a body comes, looked at with each piece of it."""

    __slots__ = ("_bytes", "_since")

    def __init__(self, now: float) -> None:
        self._since = now + RATE_GRACE_S
        self._bytes = 0

    def check(self, count: int, now: float) -> None:
        """Count *count* bytes; raise FetchFailure if those of the last while were too few."""
        self._bytes += count
        passed_s = now - self._since
        if passed_s >= RATE_WINDOW_S:
            if self._bytes < RATE_LEAST_BYTES_PER_S * passed_s:
                said = f"less than {RATE_LEAST_BYTES_PER_S} bytes a second for {passed_s:.0f} s"
                raise FetchFailure(ErrorClass.TOO_SLOW, said)
            self._since, self._bytes = now, 0


# What is told of most answers: nothing but this.
_TRACES: Final = {verified: Trace(tls_verified=verified) for verified in (None, True, False)}


def _refused(signal: Signal) -> str:
    """Say which reservation keeps an image out; of a header that img2dataset knows in its words."""
    if signal.error_class is ErrorClass.OPTOUT_HEADER:
        return "Use of image disallowed by X-Robots-Tag directive"
    return f"Use of image reserved by {signal}"


def _circuit_open(target: Target) -> FetchFailure:
    return FetchFailure(ErrorClass.HOST_CIRCUIT_OPEN, f"not asked: {target.host} has failed several times in a row")


def _status_failure(answer: Answer) -> FetchFailure:
    status = answer.status
    kind = ErrorClass.HTTP_UNEXPECTED_STATUS
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = ErrorClass.HTTP_RATE_LIMITED
    elif 400 <= status < 500:  # noqa: PLR2004  the class of client errors
        kind = ErrorClass.HTTP_STATUS_4XX
    elif 500 <= status < 600:  # noqa: PLR2004  the class of server errors
        kind = ErrorClass.HTTP_STATUS_5XX
    retry_after = answer.headers("Retry-After")
    asked_s = retry_after_s(retry_after[0], time.time()) if retry_after else None
    return FetchFailure(kind, _status_line(answer), http_status=status, retry_after_s=asked_s)


# The words of Python's urllib, and with them img2dataset's: people count failures by them.
_REDIRECT_LOOP: Final = (
    "The HTTP server returned a redirect error that would lead to an infinite loop.\nThe last 30x error message was:\n"
)


def _status_line(answer: Answer, before: str = "") -> str:
    """Return a status in Python's words: the server's own, as they are what it said, unless they cannot be printed."""
    words = answer.reason[:100] if answer.reason.isprintable() else ""
    return f"HTTP Error {answer.status}: {before}{words}"


def retry_after_s(text: str, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110 10.2.3): seconds, or a date against *now*, a Unix time.

    None if it is neither.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def user_agent(version: str, options: FetchOptions) -> str:
    """Return the User-Agent: who we are, the user's own token if any, and where to read about it."""
    token = f"compatible; {options.user_agent_token.strip()}; " if options.user_agent_token else ""
    return f"{optout.ROBOTS_TOKEN}/{version} ({token}+{options.contact})"
