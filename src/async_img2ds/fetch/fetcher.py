"""One URL → its bytes: attempts, redirects, opt-out, and limits on size and time."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.policy import optout, urls
from async_img2ds.policy.retry import RetryPolicy, next_delay
from async_img2ds.records import Body

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.fetch.client import Answer, Client
    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.urls import AddressPolicy, Target

__all__ = ["Fetcher", "Hold", "user_agent"]

logger = logging.getLogger(__name__)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# 203 is a 200 that a proxy has touched; any other 2xx carries no image or only a part of one.
_WHOLE: Final = frozenset({200, 203})
# A shortage of this machine is waited out, from a second to half a minute a time, for about five minutes in all; then
# the shard is given back and with it all its rows, because nothing can be said about them.
LOCAL_FAULT_WAITS_S: Final = (1.0, 2.0, 5.0, 10.0, *(30.0,) * 9)


COMPLAINT_S: Final = 30.0
# A new connection costs less than waiting this long for the rest of an old one.
DRAIN_S: Final = 1.0


class Hold(Protocol):
    """What a fetch asks of whoever paces it."""

    async def again(self, delay_s: float) -> None:
        """Wait before another attempt."""

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


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches URLs with *client*, within *options*; *jitter* draws from [0, 1)."""

    client: Client
    options: FetchOptions
    addresses: AddressPolicy
    jitter: Callable[[], float]
    complaints: Complaints = field(default_factory=lambda: Complaints(time.monotonic))

    async def fetch(self, url: str | Target | None, hold: Hold) -> Body:
        """Return the body behind *url*, as the list has it or read already.

        Raises:
            FetchFailure: for a reason that is the URL's own; its ``attempts`` says how often it was asked for.
            LocalFault: this machine could not ask, for minutes on end.

        """
        target = url if isinstance(url, urls.Target) else urls.parse(url)
        policy = RetryPolicy(self.options.retries)
        attempt = 1
        faults = 0
        while True:
            try:
                content, status = await self._attempt(target, hold)
                return Body(content, status, attempt)
            except FetchFailure as failure:
                delay = next_delay(policy, attempt, failure, self.jitter())
                if delay is None:
                    failure.attempts = 0 if failure.error_class is ErrorClass.ADDR_BLOCKED else attempt
                    raise
                attempt += 1
            except LocalFault as fault:  # not the URL's doing, so not one of its attempts
                if faults == len(LOCAL_FAULT_WAITS_S):
                    raise
                delay = LOCAL_FAULT_WAITS_S[faults]
                faults += 1
                self.complaints.make(f"this machine cannot fetch at the moment ({fault}); trying again")
            await hold.again(delay)

    async def _attempt(self, target: Target, hold: Hold) -> tuple[bytes, int]:
        """Follow *target* to an image within the time for one attempt; return it with the status."""
        try:
            async with asyncio.timeout(self.options.attempt_deadline_s) as deadline:
                for _ in range(self.options.redirects_max + 1):
                    self._check_address(target)
                    async with self.client.get(target) as answer:
                        if answer.status not in _REDIRECTS:
                            await self._check_status(answer)
                            self._check_consent(answer)
                            return await self._read(answer, hold, deadline), answer.status
                        self._check_consent(answer)
                        locations = answer.headers("Location")
                        await _drain(answer)
                    if not locations:
                        raise FetchFailure(ErrorClass.REDIRECT_INVALID, _status_line(answer), http_status=answer.status)
                    target = self._redirected(target, locations[0])
                raise FetchFailure(
                    ErrorClass.REDIRECT_LIMIT, _status_line(answer, _REDIRECT_LOOP), http_status=answer.status
                )
        except TimeoutError:
            message = f"timed out: the whole attempt took more than {self.options.attempt_deadline_s:g} s"
            raise (await self.client.overdue(target)) or FetchFailure(ErrorClass.TOTAL_TIMEOUT, message) from None

    def _redirected(self, source: Target, location: str) -> Target:
        target = urls.redirect(source, location)
        try:
            self._check_address(target)
        except FetchFailure as failure:
            raise FetchFailure(ErrorClass.REDIRECT_BLOCKED, f"redirect refused: {failure.message}") from None
        return target

    def _check_address(self, target: Target) -> None:
        """Refuse an address written into the URL; names are checked once they are resolved."""
        if target.is_literal and not self.addresses.allows(target.host, target.port):
            raise FetchFailure(
                ErrorClass.ADDR_BLOCKED, f"{target.host} is not a public address; --allow_net opens networks"
            )

    def _check_consent(self, answer: Answer) -> None:
        """Refuse an image that a header of any answer on the way to it reserves; its body is never read."""
        if (lines := answer.headers("X-Robots-Tag")) and self.options.directives:
            rule = optout.disallowing_directive(lines, self.options.directives, self.options.user_agent_token)
            if rule is not None:
                message = "Use of image disallowed by X-Robots-Tag directive"
                raise FetchFailure(ErrorClass.OPTOUT_HEADER, message, http_status=answer.status)

    async def _check_status(self, answer: Answer) -> None:
        if answer.status in _WHOLE:
            return
        failure = _status_failure(answer)
        if failure.error_class is not ErrorClass.HTTP_UNEXPECTED_STATUS:
            await _drain(answer)
        raise failure

    async def _read(self, answer: Answer, hold: Hold, deadline: asyncio.Timeout) -> bytes:
        most = self.options.body_bytes_max
        if (answer.content_length or 0) > most:
            raise _too_large(most, answer)
        pieces: list[bytes] = []
        count = 0
        try:
            async with aclosing(answer.chunks()) as chunks:
                async for piece in chunks:
                    pieces.append(piece)
                    count += len(piece)
                    if count > most:
                        raise _too_large(most, answer)
                    if not hold.hold(len(piece)):
                        await _wait_off_the_clock(hold, deadline)
        except FetchFailure as failure:
            failure.http_status = answer.status
            raise
        if not count:
            raise FetchFailure(ErrorClass.BODY_EMPTY, "empty body", http_status=answer.status)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(most: int, answer: Answer) -> FetchFailure:
    return FetchFailure(ErrorClass.BODY_TOO_LARGE, f"body of more than {most} bytes", http_status=answer.status)


async def _drain(answer: Answer) -> None:
    """Read a short body that nobody wants, to keep its connection; if that fails or takes long, the connection goes."""
    with suppress(FetchFailure, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await answer.drain()


async def _wait_off_the_clock(hold: Hold, deadline: asyncio.Timeout) -> None:
    """Wait for room in our own memory without charging it to the server's time."""
    loop = asyncio.get_running_loop()
    left_s = (deadline.when() or loop.time()) - loop.time()
    deadline.reschedule(None)
    await hold.wait_to_read()
    deadline.reschedule(loop.time() + left_s)


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
