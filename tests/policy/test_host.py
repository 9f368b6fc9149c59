"""What one host can bear, over time that the tests make pass."""

from __future__ import annotations

import heapq
import random
from collections import deque
from itertools import count

import pytest

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.policy.host import (
    FAILURES_MOST,
    FAILURES_MOST_AT_FIRST,
    LOOK_AFTER_MOST_S,
    LOOK_AFTER_S,
    PATIENCE_S,
    PAUSE_MOST_S,
    Host,
    Manners,
    Outcome,
    Pace,
    Sign,
    sign_of,
)

GOOD = Outcome(Sign.ANSWERED, took_s=0.01, latency_s=0.01)
ABSENT = Outcome(Sign.ABSENT, took_s=1.0)


def fill(host: Host, now: float) -> int:
    """Start as many requests as the host may have at a time; return how many are under way."""
    while host.has_room() and host.may_start_at(urgent=False) <= now:
        host.start(now)
    return host.active


def drain(host: Host, outcome: Outcome, now: float) -> None:
    while host.active:
        host.end(outcome, now)


def answer_well(host: Host, rounds: int, now: float = 0.0) -> float:
    """Let *rounds* full windows be answered well; return the time after it."""
    for _ in range(rounds):
        fill(host, now)
        now += 0.01
        drain(host, GOOD, now)
    return now


def test_a_host_that_answers_well_is_asked_twice_as_much_each_round() -> None:
    """A list of one fast host is at full speed after a few round trips."""
    host = Host(Pace(Manners(64)))
    seen = []
    for turn in range(7):
        seen.append(fill(host, turn))
        drain(host, GOOD, turn)

    assert seen == [2, 4, 8, 16, 32, 64, 64]


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    """One request at a time says nothing about a hundred."""
    host = Host(Pace(Manners(64)))
    for now in range(50):
        host.start(now)
        host.end(GOOD, now)

    assert host.pace.limit == 2


@pytest.mark.parametrize("sign", [Sign.BUSY, Sign.ABSENT])
def test_trouble_halves_the_limit_once_for_all_that_were_under_way(sign: Sign) -> None:
    """Ten refusals at a time are one piece of news."""
    host = Host(Pace(Manners(64)))
    now = answer_well(host, 5)
    assert fill(host, now) == 64

    for _ in range(4):
        host.end(Outcome(sign, took_s=0.5), now + 0.5)

    assert host.pace.limit == 32


def test_after_trouble_the_limit_grows_by_one_a_round() -> None:
    """As TCP does once it has met the ceiling."""
    host = Host(Pace(Manners(64)))
    now = answer_well(host, 5)
    fill(host, now)
    host.end(Outcome(Sign.ABSENT, took_s=0.1), now + 0.1)
    now += 1
    drain(host, GOOD, now)
    before = host.pace.limit
    answer_well(host, 3, now)

    assert before < host.pace.limit <= before + 4


def test_answers_that_come_much_later_than_before_are_trouble() -> None:
    """A host that slows down under load says so by that alone; one that was always slow does not."""
    slow = Outcome(Sign.ANSWERED, took_s=3.0, latency_s=3.0)
    slowing, always = Host(Pace(Manners(64))), Host(Pace(Manners(64)))
    now = answer_well(slowing, 4)
    for host in (slowing, always):
        for _ in range(4):
            fill(host, now)
            now += 3
            drain(host, slow, now)

    assert slowing.pace.limit < 16
    assert always.pace.limit == 32


def test_retry_after_holds_for_the_whole_host() -> None:
    """Nobody asks it before, and however long it asks for, nobody waits for ever."""
    host = Host(Pace(Manners(8)))
    host.start(0)
    host.end(Outcome(Sign.BUSY, took_s=0.1, pause_s=3), 10)
    assert host.may_start_at(urgent=False) == 13

    host.start(13)
    host.end(Outcome(Sign.BUSY, took_s=0.1, pause_s=10**9), 14)
    assert host.may_start_at(urgent=False) == 14 + PAUSE_MOST_S


def test_a_gap_that_was_asked_for_is_kept() -> None:
    """A crawl delay holds between any two starts, however well the host does."""
    host = Host(Pace(Manners(8, gap_s=2.0)))
    starts = []
    now = 0.0
    for _ in range(5):
        now = max(now, host.may_start_at(urgent=False))
        host.start(now)
        starts.append(now)
        host.end(GOOD, now + 0.1)

    assert starts == [0.0, 2.0, 4.0, 6.0, 8.0]


class Throttle:
    """Answers *rate* requests a second and *burst* beyond it, as nginx's limit_req does; refuses the rest."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.excess, self.last = rate, burst, 0.0, 0.0

    def answers(self, now: float) -> bool:
        excess = max(0.0, self.excess - self.rate * (now - self.last) + 1)
        if excess > self.burst + 1:
            return False
        self.excess, self.last = excess, now
        return True


def simulate(throttle: Throttle, rows: int, clients: int, latency_s: float = 0.005) -> tuple[float, int]:
    """Ask until *rows* are answered, from *clients* that know nothing of each other; return the time and refusals."""
    hosts, left, refused, order = (
        [Host(Pace(Manners(32))) for _ in range(clients)],
        [rows // clients] * clients,
        0,
        count(),
    )
    events: list[tuple[float, int, int, float | None, bool]] = [
        (0.0003 * client, next(order), client, None, True) for client in range(clients)
    ]
    now = 0.0
    while events:
        now, _, client, began, answered = heapq.heappop(events)
        host = hosts[client]
        if began is not None:
            sign = Sign.ANSWERED if answered else Sign.BUSY
            host.end(Outcome(sign, took_s=now - began, latency_s=now - began), now)
            left[client] += not answered
            refused += not answered
        while left[client] and host.has_room():
            at = host.may_start_at(urgent=False)
            if at > now:
                heapq.heappush(events, (at, next(order), client, None, True))
                break
            host.start(now)
            left[client] -= 1
            heapq.heappush(events, (now + latency_s, next(order), client, now, throttle.answers(now)))
    return now, refused


@pytest.mark.parametrize(
    ("rate", "burst", "rows", "clients"), [(50, 0, 3000, 2), (50, 5, 3000, 2), (50, 20, 3000, 2), (5, 5, 2000, 4)]
)
def test_a_throttling_host_is_asked_about_as_often_as_it_bears(
    rate: float, burst: int, rows: int, clients: int
) -> None:
    """Of a hundred answers fewer than five are refusals, and the list takes less than twice its least time."""
    seconds, refused = simulate(Throttle(rate, burst), rows, clients)

    assert refused < 0.05 * rows
    assert seconds < 2 * rows / rate


@pytest.mark.parametrize(("of", "sign"), [(50, Sign.STRAINED), (50, Sign.BUSY), (1000, Sign.BUSY)])
def test_urls_that_are_refused_for_ever_do_not_slow_their_host_down(of: int, sign: Sign) -> None:
    """One answer in many is a refusal, whatever the rate: asking less would not help."""
    host, rows, latency_s = Host(Pace(Manners(16))), 20_000, 0.05
    now, coming = 0.0, 0
    again: list[tuple[float, bool]] = []  # rows that were refused, from when they may be asked once more
    under_way: deque[tuple[float, bool, bool]] = deque()
    while coming < rows:
        while host.has_room() and host.may_start_at(urgent=False) <= now:
            host.start(now)
            if again and again[0][0] <= now:
                again.pop(0)
                under_way.append((now, True, True))
            else:
                coming += 1
                under_way.append((now, coming % of == 0, False))
        if not under_way:
            now = host.may_start_at(urgent=False)
            continue
        began, refused, is_again = under_way.popleft()
        now = max(now, began + latency_s)
        said = sign if refused else Sign.ANSWERED
        host.end(Outcome(said, took_s=now - began, latency_s=latency_s, again=is_again), now)
        if refused and not is_again:
            again.append((now + 1, True))

    assert now < 2 * rows * latency_s / 16


def paced_answers(host: Host, count: int, now: float) -> float:
    """Have *count* requests answered one after the other, as soon as they may start; return when."""
    for _ in range(count):
        now = max(now, host.may_start_at(urgent=False))
        host.start(now)
        host.end(GOOD, now + 0.001)
        now += 0.001
    return now


def test_idle_time_does_not_count_as_asking_seldom() -> None:
    """A host that nobody wanted for an hour and then says 429 was not asked too often once an hour."""
    host = Host(Pace(Manners(9)))
    now = paced_answers(host, 50, 0.0)
    since = now + 3600
    host.start(since, since=since)
    host.end(Outcome(Sign.BUSY, took_s=0.001), since + 0.001)

    assert host.pace.gap_s < 0.05


def test_one_refusal_halves_the_rate_at_the_most() -> None:
    """However seldom it was asked lately, for reasons of our own."""
    host = Host(Pace(Manners(9)))
    now = paced_answers(host, 50, 0.0)
    host.start(now)
    host.end(Outcome(Sign.BUSY, took_s=0.001), now + 0.001)
    before = host.pace.gap_s
    now = paced_answers(host, 3, now + 1)
    host.start(now + 60)
    host.end(Outcome(Sign.BUSY, took_s=0.001), now + 60.001)

    assert 0 < before < host.pace.gap_s <= 4 * before


def test_host_that_answers_for_long_is_soon_asked_as_fast_as_it_bears() -> None:
    """What was taken for too much may have had another cause."""
    host = Host(Pace(Manners(9, gap_s=0.0)))
    host.start(0.0)
    host.end(Outcome(Sign.BUSY, took_s=0.001), 0.001)
    for number in range(6):
        at = 10.0 * (number + 1)
        host.start(at)
        host.end(Outcome(Sign.BUSY, took_s=0.001), at + 0.001)
    slow = host.pace.gap_s
    paced_answers(host, 1000, 80.0)

    assert slow > 0.1
    assert host.pace.gap_s < slow / 20


@pytest.mark.parametrize(("answered_before", "most"), [(0, FAILURES_MOST_AT_FIRST), (1, FAILURES_MOST)])
def test_failures_in_a_row_set_a_host_aside(answered_before: int, most: int) -> None:
    """Sooner if it has never answered: then there is nothing to be patient for."""
    host = Host(Pace(Manners(1)))
    answer_well(host, answered_before)
    for number in range(most):
        assert not host.is_aside, number
        host.start(10)
        host.end(ABSENT, 11)

    assert host.is_aside


def set_aside(now: float, *, answered: bool = False) -> Host:
    host = Host(Pace(Manners(4)))
    if answered:
        answer_well(host, 1, now - 1)
    for _ in range(FAILURES_MOST if answered else FAILURES_MOST_AT_FIRST):
        host.start(now)
        host.end(ABSENT, now)
    return host


def test_answers_in_between_start_the_count_anew() -> None:
    """A host that fails every other time is there."""
    host = Host(Pace(Manners(1)))
    answer_well(host, 1)
    for _ in range(20):
        for outcome in (ABSENT, GOOD):
            host.start(5)
            host.end(outcome, 6)

    assert not host.is_aside


def test_one_at_a_time_looks_whether_a_host_is_back() -> None:
    """After a while, and less often each time."""
    host = set_aside(0)
    waits = []
    now = 0.0
    for _ in range(7):
        at = host.may_start_at(urgent=False)
        waits.append(at - now)
        now = at
        host.start(now)
        assert not host.has_room()
        host.end(ABSENT, now)

    assert waits[0] == LOOK_AFTER_S - ABSENT.took_s, "counted from when the request began that failed"
    assert waits[1:] == [LOOK_AFTER_S * 2**n for n in range(1, 5)] + [LOOK_AFTER_MOST_S] * 2


def test_host_that_let_a_request_time_out_is_looked_at_at_once() -> None:
    """It has had its time: to wait any longer would tell nothing."""
    host = Host(Pace(Manners(9)))
    host.start(0.0)
    host.start(3.0)
    host.end(Outcome(Sign.ABSENT, took_s=10.0), 10.0)

    assert host.is_aside
    assert host.has_room()
    assert host.may_start_at(urgent=False) == 10.0
    host.start(10.0)
    host.end(Outcome(Sign.ABSENT, took_s=10.0), 13.0)
    assert not host.is_hopeless(13.0, 10.0, urgent=True), "the look is still under way"
    host.end(Outcome(Sign.ABSENT, took_s=10.0), 20.0)
    assert host.is_hopeless(20.0, 10.0, urgent=True)


def test_a_good_look_brings_a_host_back() -> None:
    """From then on it is asked as any other, beginning small."""
    host = set_aside(0)
    host.start(2)
    host.end(GOOD, 3)

    assert not host.is_aside
    assert host.may_start_at(urgent=False) <= 3
    assert fill(host, 3) <= 2


def test_a_look_that_says_nothing_is_made_again() -> None:
    """One that was cancelled neither brings a host back nor ends it."""
    host = set_aside(0)
    host.start(2)
    host.end(Outcome(Sign.NOTHING), 3)

    assert host.is_aside
    assert host.has_room()
    assert not host.is_hopeless(3, 0, urgent=True)


def test_nobody_is_given_up_before_a_second_look() -> None:
    """Not even when there is nothing else to do."""
    host = set_aside(0)
    assert not host.is_hopeless(1000, 0, urgent=True)

    host.start(2)
    host.end(ABSENT, 3)

    assert host.is_hopeless(3, 0, urgent=True)
    assert not host.is_hopeless(3, 0, urgent=False)  # others have work: it may yet come back
    assert host.is_hopeless(PATIENCE_S, 0, urgent=False)


def test_an_old_look_does_not_count_for_those_who_came_later() -> None:
    """Rows of a later shard get a look of their own."""
    host = set_aside(0)
    host.start(2)
    host.end(ABSENT, 3)

    assert not host.is_hopeless(500, 400, urgent=True)

    host.start(500)
    host.end(ABSENT, 501)

    assert host.is_hopeless(501, 400, urgent=True)


def test_when_there_is_nothing_else_to_do_looks_come_sooner() -> None:
    """The end of a list waits for nobody's minute."""
    host = set_aside(0)
    for now in (2, 10, 30):
        host.start(now)
        host.end(ABSENT, now)

    assert host.may_start_at(urgent=False) > 40
    assert host.may_start_at(urgent=True) == 30 + LOOK_AFTER_S


def test_host_that_has_answered_is_looked_after_for_a_minute() -> None:
    """Even if there is nothing else to do: it may be the only one of a list, and restart."""
    host = set_aside(0, answered=True)
    looks = []
    while not host.is_hopeless(now := host.may_start_at(urgent=True), 0, urgent=True):
        host.start(now)
        host.end(Outcome(Sign.ABSENT, took_s=1.0), now + 1)
        looks.append(now)

    assert PATIENCE_S - 5 < looks[-1] < PATIENCE_S + 5
    assert len(looks) > 10


def test_look_before_an_outage_of_ours_says_nothing() -> None:
    """Those who have waited meanwhile see one more."""
    host = set_aside(0)
    host.start(2)
    host.end(ABSENT, 2)
    assert host.is_hopeless(3, 0, urgent=True)
    assert not host.is_hopeless(600, 0, urgent=True)
    host.start(600)
    host.end(ABSENT, 601)

    assert host.is_hopeless(601, 0, urgent=False)


def test_host_may_be_dead_for_years() -> None:
    """Thousands of looks later it is looked at once a minute."""
    host = set_aside(0)
    now = 2.0
    for _ in range(5000):
        host.start(now)
        host.end(ABSENT, now)
        now = host.may_start_at(urgent=False)

    assert host.may_start_at(urgent=False) - now <= 60


def test_one_quick_answer_does_not_make_all_others_late() -> None:
    """Such as an error page of a server that takes its time for images."""
    host = Host(Pace(Manners(32)))
    chance = random.Random(5)  # noqa: S311  the same in every run
    now = 0.0
    for _ in range(500):
        count = fill(host, now)
        now += 1.8
        for _ in range(count):
            latency_s = 0.25 if chance.random() < 0.01 else chance.uniform(1.2, 1.8)
            host.end(Outcome(Sign.ANSWERED, took_s=1.8, latency_s=latency_s), now)

    assert host.pace.limit >= 16


def test_host_that_has_become_slow_for_good_is_asked_as_before() -> None:
    """What was its quickest answer is forgotten as others come."""
    host = Host(Pace(Manners(32)))
    now = 0.0
    for latency_s in (*([0.1] * 100), *([1.5] * 1000)):
        fill(host, now)
        now += latency_s
        drain(host, Outcome(Sign.ANSWERED, took_s=latency_s, latency_s=latency_s), now)

    assert host.pace.limit >= 16


def test_what_ends_after_a_host_was_set_aside_is_no_look() -> None:
    """Requests that were under way together fail together."""
    host = Host(Pace(Manners(8)))
    answer_well(host, 3)
    assert fill(host, 1) == 8
    for _ in range(8):
        host.end(ABSENT, 2)

    assert host.is_aside
    assert not host.is_hopeless(2, 0, urgent=True)


def test_only_a_host_that_has_had_trouble_is_worth_remembering() -> None:
    """Millions of hosts that are well leave nothing behind."""
    well, ill = Host(Pace(Manners(8))), Host(Pace(Manners(8)))
    answer_well(well, 3)
    fill(ill, 0)
    drain(ill, Outcome(Sign.BUSY), 1)

    assert well.is_plain
    assert well.pace.is_plain
    assert not ill.pace.is_plain


@pytest.mark.parametrize(
    ("error_class", "status", "sign"),
    [
        (ErrorClass.HTTP_RATE_LIMITED, 429, Sign.BUSY),
        (ErrorClass.HTTP_STATUS_5XX, 503, Sign.STRAINED),
        (ErrorClass.HTTP_STATUS_5XX, 500, Sign.ANSWERED),
        (ErrorClass.HTTP_STATUS_4XX, 404, Sign.ANSWERED),
        (ErrorClass.CONNECT_REFUSED, None, Sign.ABSENT),
        (ErrorClass.READ_TIMEOUT, None, Sign.ABSENT),
        (ErrorClass.READ_TIMEOUT, 200, Sign.ABSENT),
        (ErrorClass.DNS_NXDOMAIN, None, Sign.NOTHING),
        (ErrorClass.URL_INVALID, None, Sign.NOTHING),
    ],
)
def test_failures_say_something_of_their_host(error_class: ErrorClass, status: int | None, sign: Sign) -> None:
    """What the URL is to blame for is no news of the host."""
    assert sign_of(FetchFailure(error_class, "why", http_status=status)) is sign
