"""Which queued item may start: a limit for each host, first come first served below it, and nothing kept."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy.hosts import HostSchedule


def take_all(schedule: HostSchedule[str]) -> list[str]:
    """Take until everything left must wait."""
    taken = []
    while (found := schedule.take()) is not None:
        taken.append(found[1])
    return taken


def schedule_of(per_host_max: int, items: str) -> HostSchedule[str]:
    """Queue items such as ``a1``, whose first letter is their host."""
    schedule = HostSchedule[str](per_host_max)
    for item in items.split():
        schedule.add(item[0], item)
    return schedule


def test_empty_schedule_hands_out_nothing() -> None:
    """Without items there is nothing to take."""
    assert HostSchedule[str](3).take() is None


def test_take_names_the_host() -> None:
    """An item comes with the host it is counted under."""
    assert schedule_of(1, "a1").take() == ("a", "a1")


def test_host_at_its_limit_waits() -> None:
    """No more than the limit of one host's items are active."""
    schedule = schedule_of(2, "a1 a2 a3 a4")

    assert take_all(schedule) == ["a1", "a2"]
    assert schedule.waiting == 2


def test_release_makes_room_for_one() -> None:
    """An item that ends lets exactly one more of its host start, in the order they came."""
    schedule = schedule_of(2, "a1 a2 a3 a4")
    take_all(schedule)

    schedule.release("a")

    assert take_all(schedule) == ["a3"]


def test_busy_host_does_not_hold_up_others() -> None:
    """Items behind those of a host at its limit start at once."""
    schedule = schedule_of(1, "a1 a2 a3 a4 b1 a5 c1")

    assert take_all(schedule) == ["a1", "b1", "c1"]


def test_release_of_one_host_gives_no_room_to_another() -> None:
    """Room belongs to the host whose item ended."""
    schedule = schedule_of(1, "a1 a2 b1 b2")
    take_all(schedule)

    schedule.release("b")

    assert take_all(schedule) == ["b2"]


def test_items_come_in_order_while_there_is_room() -> None:
    """A list is worked through in its own order as long as no host is at its limit."""
    schedule = schedule_of(9, "a1 a2 b1 c1 a3 b2 a4")

    assert take_all(schedule) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_item_that_waited_goes_before_later_ones() -> None:
    """Once its host has room, an item takes the place it came with."""
    schedule = schedule_of(1, "a1 a2 b1 c1")
    schedule.take()

    schedule.release("a")

    assert take_all(schedule) == ["a2", "b1", "c1"]


def test_waiting_counts_what_was_not_taken() -> None:
    """The count follows every add and take."""
    schedule = schedule_of(1, "a1 a2 b1")
    before = schedule.waiting
    schedule.take()

    assert (before, schedule.waiting) == (3, 2)


def test_nothing_is_kept_of_a_host_that_is_done() -> None:
    """A list of millions of hosts leaves no entry behind."""
    schedule = HostSchedule[int](2)
    for number in range(1000):
        schedule.add(f"h{number}", number)
    while (found := schedule.take()) is not None:
        schedule.release(found[0])

    assert not schedule._hosts
    assert not schedule._line


# Add to a host; take; or let an active item of some host end.
STEPS = st.tuples(st.sampled_from(["add", "take", "release"]), st.sampled_from("abcd"))


@given(per_host_max=st.integers(1, 3), script=st.lists(STEPS, max_size=80))
def test_any_history_keeps_limit_and_order(per_host_max: int, script: list[tuple[str, str]]) -> None:
    """Whatever happens, the first in line whose host has room is next, each comes once, and nothing is left."""
    schedule = HostSchedule[int](per_host_max)
    line: list[tuple[int, str]] = []  # what waits, as a plain list in the order in which it should start
    active: Counter[str] = Counter()
    taken: list[int] = []

    def take() -> bool:
        found = schedule.take()
        due = next(((host, item) for item, host in line if active[host] < per_host_max), None)

        assert found == due

        if found is None:
            return False
        host, item = found
        line.remove((item, host))
        active[host] += 1
        taken.append(item)
        return True

    for number, (step, host) in enumerate(script):
        if step == "add":
            schedule.add(host, number)
            line.append((number, host))
        elif step == "take":
            take()
        elif active[host]:
            schedule.release(host)
            active[host] -= 1

        assert schedule.waiting == len(line)

    while take() or active.total():
        host = next(host for host, count in active.items() if count)
        schedule.release(host)
        active[host] -= 1

    assert sorted(taken) == [number for number, (step, _) in enumerate(script) if step == "add"]
    assert not schedule._hosts
    assert not schedule._line
