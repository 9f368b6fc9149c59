"""Whether and after how long to try again, given the attempt, the failure and a draw of chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from async_img2ds.errors import NOT_REACHED, ErrorClass, FetchFailure

__all__ = ["RetryPolicy", "next_delay"]

# Answers that a later attempt may change: curl's --retry set and Scrapy's RETRY_HTTP_CODES, which agree.
_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504, 522, 524})
_CLASSES: Final = NOT_REACHED | {ErrorClass.BODY_TRUNCATED, ErrorClass.BODY_RESET, ErrorClass.BODY_EMPTY}
# Of these the status decides; anything else, an opt-out above all, means the same whatever status it came with.
_BY_STATUS: Final = frozenset({ErrorClass.HTTP_STATUS_4XX, ErrorClass.HTTP_STATUS_5XX, ErrorClass.HTTP_RATE_LIMITED})
# Refused, unreachable and empty rarely heal within seconds; one more look tells. So does one more look-up, which asks
# a name server twice by itself. What was silent once it was connected is not asked again: it costs the whole time-out.
_ONCE: Final = frozenset(
    {ErrorClass.CONNECT_REFUSED, ErrorClass.CONNECT_UNREACHABLE, ErrorClass.DNS_TIMEOUT, ErrorClass.BODY_EMPTY}
)
# More doublings than any bound needs; a float has room for about a thousand.
DOUBLINGS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be.

    Attributes:
        retries: further attempts at the most.
        first_delay_s: upper end of the first delay, doubled for each further attempt
            (curl's --retry starts at 1 s, too).
        delay_s_max: no delay is longer, whatever a server asks for.

    """

    retries: int
    first_delay_s: float = 1.0
    delay_s_max: float = 60.0


def next_delay(policy: RetryPolicy, attempt: int, failure: FetchFailure, jitter: float) -> float | None:
    """Return how many seconds to wait before attempt *attempt* + 1, or None to give up.

    Delays are drawn evenly between nothing and a bound that doubles ("full jitter", AWS Architecture Blog, 2015), and
    are never shorter than the server's Retry-After.

    Args:
        policy: how patient to be.
        attempt: attempts made so far, from 1.
        failure: how the last one ended.
        jitter: a draw from [0, 1).

    """
    if not _can_heal(failure) or attempt > (min(policy.retries, 1) if failure.error_class in _ONCE else policy.retries):
        return None
    delay = jitter * min(policy.delay_s_max, policy.first_delay_s * 2.0 ** min(attempt - 1, DOUBLINGS_MAX))
    return max(delay, min(policy.delay_s_max, failure.retry_after_s or 0.0))


def _can_heal(failure: FetchFailure) -> bool:
    if failure.error_class in _BY_STATUS:
        return failure.http_status in _STATUSES
    return failure.error_class in _CLASSES
