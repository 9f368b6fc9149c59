"""Which failures are worth another attempt, how many, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.policy.retry import RetryPolicy, next_delay

PATIENT = RetryPolicy(retries=5)
SEVERAL_TIMES = (
    *("dns_servfail", "connect_timeout", "connect_reset", "tls_timeout"),
    *("body_truncated", "body_reset"),
)
ONCE = ("dns_timeout", "connect_refused", "connect_unreachable", "body_empty")
NEVER = sorted(set(ErrorClass) - set(SEVERAL_TIMES) - set(ONCE))
STATUSES_THAT_HEAL = (408, 429, 500, 502, 503, 504, 522, 524)


def failure(error_class: str, status: int | None = None, retry_after_s: float | None = None) -> FetchFailure:
    return FetchFailure(ErrorClass(error_class), "why", http_status=status, retry_after_s=retry_after_s)


def status_failure(status: int, retry_after_s: float | None = None) -> FetchFailure:
    """The failure that an answer of this status is."""
    kinds = {4: "http_status_4xx", 5: "http_status_5xx"}
    kind = "http_rate_limited" if status == 429 else kinds.get(status // 100, "http_unexpected_status")
    return failure(kind, status, retry_after_s)


def attempts_made(policy: RetryPolicy, kind: FetchFailure) -> int:
    """How often a URL that always fails this way is asked for."""
    attempt = 1
    while attempt < 100 and next_delay(policy, attempt, kind, 0.5) is not None:
        attempt += 1
    return attempt


@pytest.mark.parametrize("error_class", SEVERAL_TIMES)
def test_failure_of_the_moment_is_tried_as_often_as_allowed(error_class: str) -> None:
    """What may be better in a second gets every retry."""
    assert attempts_made(PATIENT, failure(error_class)) == 6


@pytest.mark.parametrize("error_class", ONCE)
def test_failure_that_rarely_heals_is_tried_once_more(error_class: str) -> None:
    """One more look tells; the number of retries does not change that."""
    assert attempts_made(PATIENT, failure(error_class)) == 2


@pytest.mark.parametrize("error_class", NEVER)
def test_failure_for_good_is_not_tried_again(error_class: str) -> None:
    """What another attempt cannot change costs no second request."""
    assert attempts_made(PATIENT, failure(error_class)) == 1


@pytest.mark.parametrize("status", STATUSES_THAT_HEAL)
def test_status_of_the_moment_is_tried_as_often_as_allowed(status: int) -> None:
    """Overload and gateway errors get every retry."""
    assert attempts_made(PATIENT, status_failure(status)) == 6


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 451, 501, 505, 511])
def test_other_statuses_are_final(status: int) -> None:
    """An answer that says no means it."""
    assert attempts_made(PATIENT, status_failure(status)) == 1


@pytest.mark.parametrize(
    ("error_class", "status"),
    [
        *(("optout_header", 200), ("optout_header", 429), ("optout_header", 503)),
        *(("body_too_large", 200), ("content_encoding", 200), ("redirect_limit", 302)),
    ],
)
def test_the_reason_decides_before_the_status(error_class: str, status: int) -> None:
    """A reservation or a body that is refused stays so, whatever the status it came with."""
    assert next_delay(PATIENT, 1, failure(error_class, status), 0.5) is None


@pytest.mark.parametrize("error_class", ["body_reset", "body_truncated"])
def test_broken_body_of_a_good_answer_is_tried_again(error_class: str) -> None:
    """Status 200 does not make a broken body final."""
    assert next_delay(PATIENT, 1, failure(error_class, 200), 0.5) is not None


@pytest.mark.parametrize("error_class", [*SEVERAL_TIMES, *ONCE])
def test_no_retries_means_one_attempt(error_class: str) -> None:
    """Nothing is tried again if no retry is allowed."""
    assert attempts_made(RetryPolicy(retries=0), failure(error_class)) == 1


@pytest.mark.parametrize(
    ("attempt", "bound"),
    [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (6, 32.0), (7, 60.0), (8, 60.0)],
)
def test_bound_doubles_up_to_its_maximum(attempt: int, bound: float) -> None:
    """A draw of chance picks a point below a bound that doubles."""
    policy = RetryPolicy(retries=20)

    assert next_delay(policy, attempt, failure("connect_timeout"), 0.0) == 0.0
    assert next_delay(policy, attempt, failure("connect_timeout"), 0.5) == bound / 2


SECONDS = st.floats(0.01, 100)


@given(attempt=st.integers(1, 5000), jitter=st.floats(0, 1, exclude_max=True), first_s=SECONDS, most_s=SECONDS)
def test_delay_lies_within_its_bounds(attempt: int, jitter: float, first_s: float, most_s: float) -> None:
    """However many attempts were made, a delay is neither negative nor longer than the maximum."""
    delay = next_delay(RetryPolicy(10_000, first_s, most_s), attempt, failure("connect_timeout"), jitter)

    assert delay is not None
    assert 0 <= delay <= most_s


@pytest.mark.parametrize(
    ("retry_after_s", "delay_s"),
    [
        pytest.param(None, 0.5, id="not said"),
        pytest.param(0.0, 0.5, id="at once"),
        pytest.param(-5.0, 0.5, id="in the past"),
        pytest.param(0.25, 0.5, id="less than drawn"),
        pytest.param(3.0, 3.0, id="more than drawn"),
        pytest.param(60.0, 60.0, id="the maximum"),
        pytest.param(60.5, 60.0, id="beyond the maximum"),
        pytest.param(float("inf"), 60.0, id="for ever"),
    ],
)
def test_retry_after_is_a_floor(retry_after_s: float | None, delay_s: float) -> None:
    """A server is not asked sooner than it wants; one that wants too long is asked after the longest delay there is."""
    assert next_delay(PATIENT, 1, status_failure(429, retry_after_s), 0.5) == delay_s


def test_retry_after_gives_no_further_attempts() -> None:
    """A server that names a time does not change how often it is asked."""
    assert attempts_made(RetryPolicy(retries=2), status_failure(503, 1.0)) == 3


def test_retry_after_does_not_reopen_what_is_final() -> None:
    """A 404 with a Retry-After is a 404."""
    assert next_delay(PATIENT, 1, status_failure(404, 1.0), 0.5) is None
