"""Which queued item may start: hosts beside each other, first come first served, and nothing kept."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy.host import FAILURES_MOST, LOOK_AFTER_S, Manners, Outcome, Sign
from async_img2ds.policy.hosts import HostSchedule, Site

GOOD = Outcome(Sign.ANSWERED, took_s=0.1, latency_s=0.1)
ABSENT = Outcome(Sign.ABSENT, took_s=0.1)
MANY = 10**6


def at(host: str, port: int = 80) -> Site:
    """Return a port of *host*."""
    return Site(host, port)


def take_all(schedule: HostSchedule[str], now: float = 0.0) -> list[str]:
    """Take until everything left must wait."""
    taken = []
    while (found := schedule.take(now)) is not None:
        taken.append(found[1])
    return taken


def schedule_of(at_once_max: int, items: str, per_address_max: int = MANY) -> HostSchedule[str]:
    """Queue items such as ``a1``, whose first letter is their host."""
    schedule = HostSchedule[str](lambda _: Manners(at_once_max), per_address_max)
    for item in items.split():
        schedule.add(at(item[0]), item, 0.0)
    return schedule


def test_empty_schedule_hands_out_nothing() -> None:
    """Without items there is nothing to take."""
    assert HostSchedule[str](lambda _: Manners(3), MANY).take(0.0) is None


def test_take_names_the_host() -> None:
    """An item comes with the host it is counted under."""
    assert schedule_of(1, "a1").take(0.0) == (at("a"), "a1")


def test_host_at_its_limit_waits() -> None:
    """No more than the limit of one host's items are active."""
    schedule = schedule_of(2, "a1 a2 a3 a4")

    assert take_all(schedule) == ["a1", "a2"]
    assert schedule.waiting == 2


def test_end_makes_room_for_one() -> None:
    """An item that ends lets exactly one more of its host start, in the order they came."""
    schedule = schedule_of(2, "a1 a2 a3 a4")
    take_all(schedule)

    schedule.end(at("a"), GOOD, 1.0)

    assert take_all(schedule, 1.0) == ["a3"]


def test_busy_host_does_not_hold_up_others() -> None:
    """Items behind those of a host at its limit start at once."""
    schedule = schedule_of(1, "a1 a2 a3 a4 b1 a5 c1")

    assert take_all(schedule) == ["a1", "b1", "c1"]


def test_end_at_one_host_gives_no_room_to_another() -> None:
    """Room belongs to the host whose item ended."""
    schedule = schedule_of(1, "a1 a2 b1 b2")
    take_all(schedule)

    schedule.end(at("b"), GOOD, 1.0)

    assert take_all(schedule, 1.0) == ["b2"]


def test_item_that_waited_goes_before_later_ones() -> None:
    """Once its host has room, an item takes the place it came with."""
    schedule = schedule_of(1, "a1 a2 b1 c1")
    schedule.take(0.0)

    schedule.end(at("a"), GOOD, 1.0)

    assert take_all(schedule, 1.0) == ["a2", "b1", "c1"]


def test_item_that_comes_again_takes_its_old_place() -> None:
    """A row that tries again goes before rows that have not begun."""
    schedule = HostSchedule[str](lambda _: Manners(1), MANY)
    order = schedule.add(at("a"), "first", 0.0)
    schedule.add(at("a"), "second", 0.0)
    schedule.take(0.0)
    schedule.end(at("a"), GOOD, 1.0)
    schedule.add(at("a"), "first again", 1.0, order)

    assert take_all(schedule, 1.0) == ["first again"]


def test_slow_host_at_the_head_of_a_list_leaves_room_for_others() -> None:
    """With dozens of requests under way its next one stands behind rows that came a little later."""
    schedule = HostSchedule[str](lambda _: Manners(MANY), MANY)
    for number in range(200):
        schedule.add(at("slow"), f"slow{number}", 0.0)
    now = 0.0
    for _ in range(5):  # it has shown that it can take many at a time
        taken = take_all(schedule, now)
        for item in taken:
            schedule.end(at("slow"), GOOD, now)
            schedule.add(at("slow"), item, now)
        now += 1
    for number in range(200):
        schedule.add(at(f"other{number}"), f"other{number}", now)
    first = [found[1] for _ in range(100) if (found := schedule.take(now))]

    assert sum(item.startswith("other") for item in first) > 50
    assert sum(item.startswith("slow") for item in first) > 10


def test_waiting_counts_what_was_not_taken() -> None:
    """The count follows every add and take."""
    schedule = schedule_of(1, "a1 a2 b1")
    before = schedule.waiting
    schedule.take(0.0)

    assert (before, schedule.waiting) == (3, 2)


def test_nothing_is_kept_of_a_host_that_is_done() -> None:
    """A list of millions of hosts leaves no entry behind."""
    schedule = HostSchedule[int](lambda _: Manners(2), 10)
    for number in range(1000):
        schedule.add(at(f"h{number}"), number, 0.0)
        schedule.locate(f"h{number}", f"address {number % 7}")
    while (found := schedule.take(0.0)) is not None:
        schedule.end(found[0], GOOD, 0.0)

    assert not schedule._queues
    assert not schedule._names
    assert not schedule._paces
    assert not schedule._hosts
    assert not schedule._addresses
    assert not schedule._line


def test_host_that_was_in_trouble_is_remembered() -> None:
    """Its next rows, however much later, find it as it was left."""
    schedule = schedule_of(4, "a1 a2")
    take_all(schedule)
    for _ in range(2):
        schedule.end(at("a"), ABSENT, 1.0)
    schedule.add(at("a"), "a3", 1.5)

    assert schedule.is_aside(at("a"))
    assert take_all(schedule, 1.6) == []


def test_hosts_that_share_an_address_share_its_room() -> None:
    """Thousands of hosts of one network are one machine to it; an end at one lets another go on, in turn."""
    schedule = schedule_of(2, "a1 a2 b1 c1 d1", per_address_max=2)
    for name in "abc":
        schedule.locate(name, "192.0.2.1")

    assert take_all(schedule) == ["a1", "b1", "d1"]

    schedule.end(at("a"), GOOD, 1.0)
    schedule.end(at("b"), GOOD, 1.0)

    assert sorted(take_all(schedule, 1.0)) == ["a2", "c1"]


def test_requests_under_way_count_once_their_address_is_known() -> None:
    """What began before the look-up ended is there, too."""
    schedule = schedule_of(2, "a1 b1", per_address_max=1)
    schedule.take(0.0)
    for name in "ab":
        schedule.locate(name, "192.0.2.1")

    assert take_all(schedule) == []

    schedule.end(at("a"), GOOD, 1.0)

    assert take_all(schedule, 1.0) == ["b1"]


def test_pause_is_waited_for_without_holding_up_others() -> None:
    """The clock says when a host that asked for patience may be asked again."""
    schedule = schedule_of(1, "a1 a2 b1")
    schedule.take(0.0)
    schedule.end(at("a"), Outcome(Sign.BUSY, took_s=0.1, pause_s=5), 1.0)

    assert take_all(schedule, 1.0) == ["b1"]
    assert schedule.next_at() == 6.0
    assert take_all(schedule, 5.9) == []
    assert take_all(schedule, 6.0) == ["a2"]


def test_rows_of_a_dead_host_are_given_up_after_a_second_look() -> None:
    """A hundred rows cost three requests, and not one time-out each."""
    schedule = schedule_of(4, " ".join(f"a{number}" for number in range(100)))
    asked = take_all(schedule)
    for _ in asked:
        schedule.end(at("a"), ABSENT, 10.0)
    assert schedule.given_up() == []
    assert schedule.next_at() == 10.0 + LOOK_AFTER_S - ABSENT.took_s

    [look] = take_all(schedule, 12.0)
    schedule.end(at("a"), ABSENT, 22.0)
    take_all(schedule, 22.0)

    assert len(asked) == 2
    assert schedule.given_up() == [f"a{number}" for number in range(100) if f"a{number}" not in (*asked, look)]
    assert schedule.waiting == 0


def test_rows_wait_for_a_dead_host_while_there_is_other_work() -> None:
    """It may come back; when all else is done there is no more to wait for."""
    schedule = schedule_of(1, "a1 a2 a3 a4 b1 b2")
    now = 0.0
    for _ in range(2):
        assert schedule.take(now) is not None
        schedule.end(at("a"), ABSENT, now)
    assert schedule.take(now) == (at("b"), "b1")
    now = LOOK_AFTER_S
    assert schedule.take(now) == (at("a"), "a4")  # from behind: it is not like those that have failed
    schedule.end(at("a"), ABSENT, now)
    assert take_all(schedule, now) == []
    assert schedule.given_up() == []

    schedule.end(at("b"), GOOD, now)
    assert schedule.take(now) == (at("b"), "b2")
    assert take_all(schedule, now) == []

    assert schedule.given_up() == ["a3"]


def test_host_that_comes_back_serves_those_who_waited() -> None:
    """Nothing is lost by having been set aside."""
    schedule = schedule_of(2, "a1 a2 a3 a4")
    for _ in take_all(schedule):
        schedule.end(at("a"), ABSENT, 1.0)
    assert take_all(schedule, 3.0) == ["a4"]

    schedule.end(at("a"), GOOD, 3.5)

    assert take_all(schedule, 3.5) == ["a3"]
    assert not schedule.is_aside(at("a"))


def test_names_are_known_before_their_rows_start() -> None:
    """Each once, and only those of the rows that come next."""
    schedule = schedule_of(1, "a1 a2 b1 c1 d1")

    assert schedule.coming(3) == ["a", "b"]
    schedule.take(0.0)
    assert schedule.coming(3) == ["c"]
    assert schedule.coming(3) == []


def test_rows_that_were_given_up_or_come_again_do_not_shift_what_comes_next() -> None:
    """A dead host of a thousand rows, and a row that is tried a hundred times, leave the names ahead as they were."""
    schedule = HostSchedule[str](lambda _: Manners(2), MANY)
    for number in range(1000):
        schedule.add(at("dead"), f"dead{number}", 0.0)
    for now in (0.0, 2.0):
        for _ in take_all(schedule, now):
            schedule.end(at("dead"), ABSENT, now)
    take_all(schedule, 2.0)
    assert len(schedule.given_up()) == 997
    for _ in range(100):
        schedule.add(at("again"), "again", 3.0, 1000)
        schedule.take(3.0)
        schedule.end(at("again"), GOOD, 3.0)
    for number in range(50):
        schedule.add(at(f"h{number}"), f"h{number}", 4.0)

    assert schedule.coming(10) == [f"h{number}" for number in range(10)]


OUTCOMES = {
    "good": GOOD,
    "busy": Outcome(Sign.BUSY, took_s=0.1, pause_s=2),
    "absent": ABSENT,
    "nothing": Outcome(Sign.NOTHING),
}
SITES = [*(at(host, port) for host in "ab" for port in (80, 443)), at("c"), at("d")]
# Add to a site, or learn its host's address; take; let an active item of some site end; or let time pass.
STEPS = st.tuples(st.sampled_from(["add", "locate", "take", "wait", *OUTCOMES]), st.sampled_from(SITES))


class History:
    """A schedule, and beside it what must be true of it."""

    def __init__(self, at_once_max: int, per_address_max: int) -> None:
        self.schedule = HostSchedule[int](lambda _: Manners(at_once_max), per_address_max)
        self.at_once_max = at_once_max
        self.per_address_max = per_address_max
        self.now = 0.0
        self.active: Counter[Site] = Counter()
        self.added: dict[int, Site] = {}
        self.out: list[int] = []

    def step(self, number: int, what: str, site: Site) -> None:
        self.now += 0.01
        if what == "add":
            self.schedule.add(site, number, self.now)
            self.added[number] = site
        elif what == "take":
            self.take()
        elif what == "wait":
            self.now += 3
        elif what == "locate":
            self.schedule.locate(site.host, "192.0.2.1")
        elif self.active[site]:
            self.end(site, OUTCOMES[what])

    def take(self) -> bool:
        found = self.schedule.take(self.now)
        given_up = self.schedule.given_up()
        self.out += given_up
        if found is None:
            return bool(given_up)
        site, item = found
        self.active[site] += 1
        self.out.append(item)

        assert self.added[item] == site
        assert sum(count for other, count in self.active.items() if other.host == site.host) <= self.at_once_max
        return True

    def end(self, site: Site, outcome: Outcome) -> None:
        self.active[site] -= 1
        self.schedule.end(site, outcome, self.now)

    def finish(self) -> None:
        """Take what can be taken, and answer well, until nothing is left."""
        for _ in range(10_000):
            if self.take():
                continue
            if not self.active.total() and not self.schedule.waiting:
                break
            for site in list(self.active.elements()):
                self.end(site, GOOD)
            self.now += 1


@given(at_once_max=st.integers(1, 3), per_address_max=st.integers(1, 4), script=st.lists(STEPS, max_size=120))
def test_any_history_ends_with_every_item_handed_out_once(
    at_once_max: int, per_address_max: int, script: list[tuple[str, Site]]
) -> None:
    """Whatever hosts do, limits hold, items of one that is there come in order, and none is lost or comes twice."""
    history = History(at_once_max, per_address_max)
    for number, (what, site) in enumerate(script):
        history.step(number, what, site)
    history.finish()

    assert sorted(history.out) == sorted(history.added)
    for site in set(SITES) - {site for what, site in script if what == "absent"}:
        of_site = [item for item in history.added if history.added[item] == site]
        assert [item for item in history.out if item in of_site] == of_site
    assert history.schedule.waiting == 0
    assert not history.schedule._queues
    assert not history.schedule._names
    assert not history.schedule._addresses


@given(per_address_max=st.integers(1, 4), script=st.lists(STEPS, max_size=120))
def test_any_history_keeps_to_the_room_of_an_address(per_address_max: int, script: list[tuple[str, Site]]) -> None:
    """However many hosts there are behind it."""
    history = History(9, per_address_max)
    for number, (what, site) in enumerate(script):
        if what == "add":
            history.step(number, what, site)
            history.step(number, "locate", site)
        elif what != "locate":
            history.step(number, what, site)

        assert history.active.total() <= per_address_max
    history.finish()
    assert sorted(history.out) == sorted(history.added)


def test_gap_is_kept_by_those_who_come_one_by_one() -> None:
    """That nobody waits for a host for a moment does not let the next one start sooner."""
    schedule = HostSchedule[int](lambda _: Manners(9, gap_s=5.0), MANY)
    starts = []
    for item in range(3):
        schedule.add(at("a"), item, now := 0.1 * item)
        while schedule.take(now) is None:
            next_at = schedule.next_at()
            assert next_at is not None
            now = max(now, next_at)
        starts.append(now)
        schedule.end(at("a"), GOOD, now + 0.01)

    assert starts == [0.0, 5.0, 10.0]


def test_those_who_want_nothing_any_more_take_nobodys_time() -> None:
    """Neither a place nor the gap between two requests."""
    gone = {1, 2, 4}
    schedule = HostSchedule[int](lambda _: Manners(9, gap_s=5.0), MANY, is_wanted=lambda item: item not in gone)
    for item in range(5):
        schedule.add(at("a"), item, 0.0)

    assert schedule.take(0.0) == (at("a"), 0)
    assert schedule.take(0.0) is None
    assert schedule.take(5.0) == (at("a"), 3)
    schedule.end(at("a"), GOOD, 5.0)
    schedule.end(at("a"), GOOD, 5.0)
    assert schedule.take(10.0) is None
    assert schedule.waiting == 0


def test_port_that_is_dead_leaves_those_of_another_alone() -> None:
    """An old site may answer at http and refuse https; how many requests and how soon is the host's as a whole."""
    schedule = HostSchedule[str](lambda _: Manners(3), MANY)
    for number in range(4):
        schedule.add(at("a", 443), f"dead{number}", 0.0)
        schedule.add(at("a", 80), f"live{number}", 0.0)
    assert take_all(schedule) == ["dead0", "live0"]
    schedule.end(at("a", 443), ABSENT, 0.1)
    schedule.end(at("a", 80), GOOD, 0.1)
    served: list[str] = []
    now = 0.1
    while schedule.waiting and now < 30:
        while (found := schedule.take(now)) is not None:
            site, item = found
            served += [item] if site.port == 80 else []
            schedule.end(site, GOOD if site.port == 80 else ABSENT, now)
        now += 0.1

    assert served == ["live1", "live2", "live3"]
    assert len(schedule.given_up()) == 1


def test_host_that_has_answered_is_waited_for_though_there_is_nothing_else() -> None:
    """A list may have no other, and a server that restarts is back within seconds."""
    schedule = schedule_of(4, " ".join(f"a{number}" for number in range(100)))
    now, ended = 0.0, Counter[Sign]()
    under_way: list[Site] = []
    while (schedule.waiting or under_way) and now < 100:
        for site in under_way:
            outcome = ABSENT if 1.0 < now < 7.0 else GOOD
            schedule.end(site, outcome, now)
            ended[outcome.sign] += 1
        under_way = []
        while (found := schedule.take(now)) is not None:
            under_way.append(found[0])
        now += 0.1

    assert schedule.given_up() == []
    assert ended.total() == 100
    assert ended[Sign.ABSENT] <= FAILURES_MOST + 4


def test_host_that_has_answered_and_stays_away_is_given_up_within_two_minutes() -> None:
    """So the run ends, and rows that come later do not wait for it again."""
    schedule = schedule_of(1, " ".join(f"a{number}" for number in range(100)))
    schedule.take(0.0)
    schedule.end(at("a"), GOOD, 0.1)
    now = 0.1
    while schedule.waiting and now < 300:
        while (found := schedule.take(now)) is not None:
            schedule.end(found[0], ABSENT, now)
        now = schedule.next_at() or now + 1
    assert 60 < now < 120

    schedule.add(at("a"), "later", now + 30)
    take_all(schedule, now + 30)
    schedule.end(at("a"), ABSENT, now + 30)
    take_all(schedule, now + 30)
    assert schedule.waiting == 0


def test_thousands_of_hosts_that_are_set_aside_cost_others_nothing() -> None:
    """A row that comes and goes beside them looks at none of them, though they are all there is before and after it."""
    schedule = HostSchedule[str](lambda _: Manners(2), MANY)
    for number in range(2000):
        for turn in range(3):
            schedule.add(at(f"dead{number}"), f"{turn}", 0.0)
    while (found := schedule.take(0.0)) is not None:
        schedule.end(found[0], ABSENT, 0.0)
    entries = len(schedule._clock) + len(schedule._hurry)
    for number in range(1000):
        schedule.add(at("well"), "row", 0.1 + number / 1e6)
        found = schedule.take(0.1 + number / 1e6)
        assert found is not None
        schedule.end(found[0], GOOD, 0.1 + number / 1e6)

    assert len(schedule._clock) + len(schedule._hurry) - entries < 10
    assert schedule.waiting == 2000


def test_those_who_are_wanted_no_more_may_be_given_up_at_the_same_moment() -> None:
    """A shard that is lost while its host is looked at takes nothing away twice."""
    gone: set[str] = set()
    schedule = HostSchedule[str](lambda _: Manners(2), MANY, is_wanted=lambda item: item not in gone)
    for number in range(5):
        schedule.add(at("a"), f"a{number}", 0.0)
    for _ in take_all(schedule):
        schedule.end(at("a"), ABSENT, 0.0)
    [_] = take_all(schedule, 2.0)
    gone.add("a2")
    schedule.end(at("a"), ABSENT, 2.0)
    schedule.add(at("b"), "b", 3.0)
    gone |= {"a3", "a4"}

    assert take_all(schedule, 100.0) == ["b"]
    assert schedule.waiting == 0


def test_host_that_others_ask_for_to_be_left_alone_is_not_asked_until_then() -> None:
    """Neither now and then nor all the time."""
    asked: list[float] = []
    now = 0.0

    def leave(_host: str) -> float:
        asked.append(now)
        return max(0.0, 7.0 - now)

    schedule = HostSchedule[str](lambda _: Manners(2), MANY, leave)
    schedule.add(at("a"), "a", 0.0)
    assert schedule.take(0.0) is None
    assert schedule.next_at() == 7.0
    now = 7.0

    assert schedule.take(7.0) == (at("a"), "a")
    assert asked == [0.0, 7.0]


def test_host_set_aside_that_others_ask_is_not_looked_at_until_they_are_done() -> None:
    """Though there is nothing else to do: whoever asks again at once, and at once again, does nothing but that."""
    held_until = 0.0
    schedule = HostSchedule[str](lambda _: Manners(1), MANY, lambda _: max(0.0, held_until - now))
    now = 0.0
    for item in ("a1", "a2", "a3"):
        schedule.add(at("a"), item, now)
    assert take_all(schedule, now) == ["a1"]
    now = 10.0
    schedule.end(at("a"), Outcome(Sign.ABSENT, 10.0), now)
    held_until = now + 5

    assert take_all(schedule, now) == []
    assert schedule.next_at() == held_until
    now = held_until
    assert take_all(schedule, now) == ["a3"]


def test_names_that_redirects_lead_to_are_known_before_others() -> None:
    """Their rows come at the places they have had."""
    schedule = HostSchedule[str](lambda _: Manners(1), MANY)
    for number in range(100):
        schedule.add(at(f"h{number}"), f"h{number}", 0.0)
    schedule.add(at("elsewhere"), "h0", 0.0, 1)

    assert "elsewhere" in schedule.coming(3)
