"""What one host can bear: how many requests at a time, how soon one after another, and whether it is there at all.

Three rules beside each other, each of which may keep the next request waiting. The first two are the host's as a whole
(:class:`Pace`), the third is each port's, as one may be dead while another lives (:class:`Host`).

- How many: few at first, one more for each good answer, and half as many when the host says that it is busy, does not
  answer, or answers much later than it used to.
- How soon: as soon as there is room, until a host says that it is asked too often (429, or 503s that come thick); then
  no sooner than what it bore, and from there slowly nearer to what it did not bear.
- Whether at all: after a few failures in a row it is set aside. Now and then a single request, a look, finds out
  whether it is back; :meth:`Host.is_hopeless` says when nothing is to be expected any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import NOT_REACHED, ErrorClass

if TYPE_CHECKING:
    from async_img2ds.errors import FetchFailure

__all__ = ["Host", "Manners", "Outcome", "Pace", "Sign", "sign_of"]

# Browsers open up to six connections to a host; two is what RFC 2616 8.1.4 allowed a client that is nobody's browser.
LIMIT_FIRST: Final = 2.0
# An answer that comes so much later than the quickest one says that the host, or the way there, is full.
LATENCY_BLOW_UP: Final = 4.0
LATENCY_LEAST_S: Final = 1.0
# Weight of the last answer in the smoothed latency: that of TCP's round-trip time (RFC 6298 2.3).
LATENCY_WEIGHT: Final = 1 / 8
# The quickest latency follows quicker answers by this much, as single ones may be of another kind (an error page); and
# slower ones by this much for each time that all places of the host are answered, as what has become slow for good is
# not our doing.
QUICKER_WEIGHT: Final = 1 / 4
SLOWER_WEIGHT: Final = 1 / 32
# After "asked too often" the rate falls to this part of what it was, and the host is left alone for a second.
RATE_DECREASE: Final = 0.5
BUSY_PAUSE_S: Final = 1.0
# However long a host asks to be left alone, this is how long: rows wait for it, and with them their shard.
PAUSE_MOST_S: Final = 60.0
# Of the way back to the rate that was too much, this part is made up each second. From there this much more is tried a
# second, and no more than this much an answer: so that, at any rate, of a hundred answers two or three are refusals.
RATE_RETURN: Final = 0.1
RATE_TRY: Final = 0.03
RATE_TRY_EACH: Final = 0.002
# After each so many answers in a row it is twice that: what was taken for too much may have been something else.
CALM_ANSWERS: Final = 40
DOUBLINGS_MAX: Final = 10
# Some hosts refuse some URLs for ever, and asking less often does not help. That is what it looks like when a URL is
# refused again after so many others were answered; a host of which it has been seen so often is believed to be well
# while it answers so many in between.
ANSWERS_PLENTY: Final = 4
REFUSED_FOR_ITSELF: Final = 3
# A gap so small limits nothing; and none grows larger by itself than this: sixteen processes together still ask four
# times a second, and a host that bears less can be given a --crawl_delay.
GAP_LEAST_S: Final = 0.001
GAP_MOST_S: Final = 4.0
# Weight of the last gap between two starts in the smoothed one.
GAP_WEIGHT: Final = 1 / 8
# Failures in a row after which a host is set aside; one that has never answered gets no more than its first requests,
# and only one if that was waited for until the first look would be due.
FAILURES_MOST: Final = 5
FAILURES_MOST_AT_FIRST: Final = 2
# The first look comes soon, as what has restarted is back in seconds: so long after the request began that set the host
# aside, so at once if that was waited for longer. Each further one comes after twice the time.
LOOK_AFTER_S: Final = 2.0
LOOK_AFTER_MOST_S: Final = 60.0
# Rows wait for a host that is set aside for this long at the most while there is other work to do, and even if there is
# none for one that has answered before: a server that restarts is back within a minute, and a list may have no other.
PATIENCE_S: Final = 60.0
# A look is worth as much as a new one for so long.
LOOK_FRESH_S: Final = 10.0


class Sign(Enum):
    """What the end of an attempt says of its host."""

    ANSWERED = auto()
    """It is well, whatever it said of the URL."""
    BUSY = auto()
    """It says that it is asked too often: 429."""
    STRAINED = auto()
    """It says that it cannot now: 503. Which may be for the same reason, or because this URL never works."""
    ABSENT = auto()
    """It could not be reached, or did not go on answering."""
    NOTHING = auto()
    """The attempt ended for another reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an attempt.

    Attributes:
        sign: what it says.
        took_s: how long ago it began, in seconds.
        latency_s: from the request to the headers of its answer, in seconds; None where there was none.
        pause_s: for how long the host asks to be left alone (Retry-After), in seconds.
        again: whether the last attempt on the same URL ended with the same sign.

    """

    sign: Sign
    took_s: float = 0.0
    latency_s: float | None = None
    pause_s: float = 0.0
    again: bool = False

    @property
    def wanted_pause_s(self) -> float:
        """For how long the host is to be left alone because it has said so, in seconds."""
        is_busy = self.sign in (Sign.BUSY, Sign.STRAINED)  # what comes with a 404 is not meant for others
        return min(PAUSE_MOST_S, self.pause_s) if is_busy else 0.0


# RFC 6585 4, RFC 9110 15.6.4.
_BY_STATUS: Final = {429: Sign.BUSY, 503: Sign.STRAINED}
_ABSENT: Final = NOT_REACHED | {
    ErrorClass.READ_TIMEOUT,
    ErrorClass.TOTAL_TIMEOUT,
    ErrorClass.TOO_SLOW,
    ErrorClass.BODY_RESET,
}


def sign_of(failure: FetchFailure) -> Sign:
    """Return what a failure says of the host."""
    if failure.http_status in _BY_STATUS:
        return _BY_STATUS[failure.http_status]
    if failure.error_class in _ABSENT:
        return Sign.ABSENT
    return Sign.NOTHING if failure.http_status is None else Sign.ANSWERED


@dataclass(frozen=True, slots=True)
class Manners:
    """How a host is treated whatever it bears: requests at a time at the most, and seconds between two at the least."""

    at_once_max: int
    gap_s: float = 0.0


class Pace:
    """How many requests a host bears, and how soon one after another: for all its ports.

    Times are seconds on a clock that never goes back; :meth:`start` and :meth:`end` frame each request.
    """

    __slots__ = (
        "_answers_since",
        "_between_s",
        "_decreased_at",
        "_doubtful",
        "_for_itself",
        "_gap_before_s",
        "_gap_s",
        "_latency_s",
        "_limit",
        "_limit_before",
        "_manners",
        "_quickest_s",
        "_rate_seen_at",
        "_started_at",
        "_too_soon_s",
        "_used",
        "active",
        "next_at",
    )

    def __init__(self, manners: Manners) -> None:
        """Know nothing of it yet."""
        self._manners = manners
        self.active = 0
        # How many.
        self._limit = min(LIMIT_FIRST, float(manners.at_once_max))
        self._doubtful = False  # whether it has ever been too many: from then on the limit grows slowly
        self._used = 0  # so many of those under way, when they are answered, show that a limit that was used was borne
        self._decreased_at = -math.inf
        self._latency_s: float | None = None
        self._quickest_s: float | None = None
        # How soon.
        self.next_at = -math.inf
        self._gap_s = 0.0
        self._too_soon_s = 0.0  # the gap at which it last said that it was asked too often
        self._rate_seen_at = -math.inf
        self._gap_before_s = 0.0
        self._limit_before = self._limit
        self._answers_since = 0  # it last refused
        self._for_itself = 0  # URLs that it seems to refuse for ever
        self._started_at: float | None = None
        self._between_s: float | None = None  # between two starts, smoothed, pauses left out

    @property
    def limit(self) -> int:
        """How many requests it may have at a time."""
        return max(1, int(self._limit))

    @property
    def at_once_max(self) -> int:
        """How many requests it may ever have at a time."""
        return self._manners.at_once_max

    @property
    def gap_s(self) -> float:
        """Seconds that pass between the starts of two requests at the least."""
        return max(self._gap_s, self._manners.gap_s)

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing about it that is worth remembering while nobody asks it."""
        return not (self.active or self.gap_s or self._doubtful)

    def start(self, now: float, since: float) -> None:
        """Begin a request, of those that have waited since *since*."""
        self.active += 1
        if self.active >= self.limit:
            self._used = self.active
        if self._started_at is not None:
            # Neither a pause that it asked for, nor that there was nobody to ask for, tells how often it is asked.
            between_s = now - max(self._started_at, min(now, max(self.next_at, since)))
            self._between_s = _smoothed(self._between_s, between_s, GAP_WEIGHT)
        self._started_at = now
        self.next_at = max(self.next_at, now + self.gap_s)

    def end(self, outcome: Outcome, now: float) -> None:
        """End a request."""
        self.active -= 1
        if outcome.sign is Sign.ABSENT:
            self._fewer(outcome, now)
        elif outcome.sign is Sign.ANSWERED:
            self._answers(outcome, now)
        elif outcome.sign is not Sign.NOTHING:
            self._is_busy(outcome, now)

    def begin_anew(self) -> None:
        """Begin with one request, as it was not there for a while."""
        self._limit = 1.0

    def _answers(self, outcome: Outcome, now: float) -> None:
        self._answers_since += 1
        if outcome.latency_s is not None and self._is_late(outcome.latency_s):
            self._fewer(outcome, now)
            return
        if self._used:
            self._used -= 1
            grown = self._limit + (1 / self._limit if self._doubtful else 1)
            self._limit = min(grown, float(self._manners.at_once_max))
        if self._gap_s:
            self._sooner(now)

    def _is_late(self, latency_s: float) -> bool:
        """Take a latency in, and return whether answers have come to take much longer than the quickest."""
        if self._quickest_s is None:
            self._quickest_s = latency_s
        quicker = latency_s < self._quickest_s
        weight = QUICKER_WEIGHT if quicker else SLOWER_WEIGHT / self.limit
        self._quickest_s = _smoothed(self._quickest_s, latency_s, weight)
        self._latency_s = _smoothed(self._latency_s, latency_s, LATENCY_WEIGHT)
        return self._latency_s > max(LATENCY_LEAST_S, LATENCY_BLOW_UP * self._quickest_s)

    def _fewer(self, outcome: Outcome, now: float) -> None:
        """Halve the limit, once for all requests that were under way together."""
        if self._is_news(outcome, now):
            self._decreased_at = now
            self._doubtful = True
            self._limit = max(1.0, self._limit / 2)
            self._latency_s = None  # what comes next is judged by itself

    def _is_news(self, outcome: Outcome, now: float) -> bool:
        """Whether a request began after the last decrease, so that it has seen what that did."""
        return now - outcome.took_s >= self._decreased_at

    def _is_busy(self, outcome: Outcome, now: float) -> None:
        had_plenty = self._answers_since >= ANSWERS_PLENTY
        self._answers_since = 0
        if outcome.wanted_pause_s:
            self._fewer(outcome, now)
            self.next_at = max(self.next_at, now + outcome.wanted_pause_s)
        elif had_plenty and outcome.again:
            self._for_itself += 1
            self._gap_s, self._limit = min(self._gap_s, self._gap_before_s), max(self._limit, self._limit_before)
        elif had_plenty and self._for_itself >= REFUSED_FOR_ITSELF:
            pass
        elif had_plenty and outcome.sign is Sign.STRAINED:
            self._fewer(outcome, now)
        else:
            self._slower(outcome, now)

    def _slower(self, outcome: Outcome, now: float) -> None:
        """Ask half as often, once for all requests that were under way together, and after a pause."""
        if self._is_news(outcome, now):
            self._gap_before_s, self._limit_before = self._gap_s, self._limit
            between_s = self._between_s or 0.0
            if self._gap_s:
                between_s = min(between_s, self._gap_s / RATE_DECREASE)
            self._too_soon_s = max(between_s, self._gap_s, GAP_LEAST_S)
            self._gap_s = min(GAP_MOST_S, self._too_soon_s / RATE_DECREASE)
            self._rate_seen_at = now
        self._fewer(outcome, now)
        self.next_at = max(self.next_at, now + BUSY_PAUSE_S)

    def _sooner(self, now: float) -> None:
        """Let the rate come back to what was too much, and then try a little more."""
        passed_s = min(1.0, now - self._rate_seen_at)
        self._rate_seen_at = now
        rate, too_much = 1 / self._gap_s, 1 / self._too_soon_s
        each = RATE_TRY_EACH * 2 ** min(self._answers_since / CALM_ANSWERS, DOUBLINGS_MAX)
        rate += max(passed_s * RATE_RETURN * (too_much - rate), min(passed_s * RATE_TRY, each) * rate)
        self._gap_s = 1 / rate
        if self._gap_s < GAP_LEAST_S:
            self._gap_s = 0.0


class Host:
    """A port of a host, with the host's *pace*. Times as there; :meth:`start` and :meth:`end` frame each request."""

    __slots__ = (
        "_absences",
        "_aside_at",
        "_has_answered",
        "_look_at",
        "_looked_at",
        "_looking",
        "_looks",
        "active",
        "is_aside",
        "pace",
    )

    def __init__(self, pace: Pace) -> None:
        """Know nothing of it yet."""
        self.pace = pace
        self.active = 0
        self.is_aside = False
        self._aside_at = -math.inf
        self._has_answered = False
        self._absences = 0
        self._looking = False
        self._looks = 0
        self._look_at = -math.inf
        self._looked_at = -math.inf

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing about it that is worth remembering while nobody asks it."""
        return not (self.active or self.is_aside or self._absences)

    def has_room(self) -> bool:
        """Whether it may have one request more as far as their number is concerned."""
        if self.is_aside:  # those that hang do not keep a look from being taken
            return not self._looking and self.pace.active < self.pace.at_once_max
        return self.pace.active < self.pace.limit

    def may_start_at(self, *, urgent: bool) -> float:
        """Return when the next request may start, if there is room; *urgent* if there is nothing else to do."""
        if not self.is_aside:
            return self.pace.next_at
        return max(self.pace.next_at, self._looked_at + LOOK_AFTER_S if urgent else self._look_at)

    def start(self, now: float, since: float = -math.inf) -> None:
        """Begin a request, of those that have waited since *since*."""
        self.active += 1
        self._looking = self._looking or self.is_aside
        self.pace.start(now, since)

    def end(self, outcome: Outcome, now: float) -> None:
        """End a request."""
        self.active -= 1
        is_look = self._looking and self.active == 0  # what was under way when it was set aside ends before or with it
        self.pace.end(outcome, now)
        if outcome.sign is Sign.NOTHING:
            self._looking = self._looking and not is_look
        elif outcome.sign is Sign.ABSENT:
            self._is_absent(outcome, now, is_look=is_look)
        else:
            self._is_back()

    def is_hopeless(self, now: float, since: float, *, urgent: bool) -> bool:
        """Whether those who wait for it, the first since *since*, should wait no more.

        No sooner than a look has failed that is later than their coming, or fresh. Then as soon as there is nothing
        else to do (*urgent*), if it has never answered or has long been set aside; or when their patience is at its
        end.
        """
        if not self.is_aside or self._looking or not self._looks:
            return False
        if now - self._looked_at > LOOK_AFTER_MOST_S:  # such as after an outage of this machine
            return False
        seen = self._looked_at >= since or now - self._looked_at <= LOOK_FRESH_S
        hurried = urgent and now >= self.hurried_from()
        return seen and (hurried or now - since >= PATIENCE_S)

    def hurried_from(self) -> float:
        """Return from when on nobody waits for it longer than for a look if there is nothing else to do."""
        return self._aside_at + PATIENCE_S if self._has_answered else self._aside_at

    def _is_absent(self, outcome: Outcome, now: float, *, is_look: bool) -> None:
        self._absences += 1
        if is_look:
            self._looking = False
            self._looks += 1
            self._looked_at = now
            self._look_at = now + min(LOOK_AFTER_MOST_S, LOOK_AFTER_S * 2 ** min(self._looks, DOUBLINGS_MAX))
        elif not self.is_aside and self._absences >= self._absences_most(outcome):
            self.is_aside = True
            self._aside_at = now
            self._looks = 0
            self._looked_at = now - min(LOOK_AFTER_S, outcome.took_s)
            self._look_at = self._looked_at + LOOK_AFTER_S

    def _absences_most(self, last: Outcome) -> int:
        if self._has_answered:
            return FAILURES_MOST
        return 1 if last.took_s >= LOOK_AFTER_S else FAILURES_MOST_AT_FIRST

    def _is_back(self) -> None:
        self._has_answered = True
        self._absences = 0
        if self.is_aside:
            self.is_aside = self._looking = False
            self._looks = 0
            self.pace.begin_anew()


def _smoothed(before: float | None, now: float, weight: float) -> float:
    """Return an average in which the last value has *weight*; the first one is all there is."""
    return now if before is None else before + weight * (now - before)
