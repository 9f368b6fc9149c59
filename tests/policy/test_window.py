"""How many rows a worker has under way, against lines and servers that are simulated."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds.policy.limits import Sight
from async_img2ds.policy.window import IN_FLIGHT_LEAST, IN_FLIGHT_MOST, REST_S, Window, next_window
from sights import WAITING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.5


@dataclass
class Course:
    """A worker that is looked at twice a second; *rate* says how many bodies a window of some size brings a second."""

    rate: Callable[[int], float]
    most: int = IN_FLIGHT_MOST
    window: Window = field(default_factory=lambda: Window(IN_FLIGHT_LEAST))
    seen: dict[str, Any] = field(default_factory=dict)
    at: float = 100.0
    bodies: float = 0.0

    def run(self, seconds: float, noise: float = 0.0) -> list[int]:
        """Go on for so long, at rates that differ by up to *noise*; return the sizes there were."""
        chance = random.Random(3)  # noqa: S311  the same in every run
        sizes = []
        for _ in range(round(seconds / LOOK_S)):
            self.at += LOOK_S
            self.bodies += self.rate(self.window.size) * LOOK_S * (1 + chance.uniform(-noise, noise))
            full = replace(WAITING, at=self.at, bodies=int(self.bodies), in_flight=self.window.size)
            sight = replace(full, **self.seen)
            self.window = next_window(self.window, sight, self.most)
            sizes.append(self.window.size)
        return sizes


def late(seconds: float) -> Callable[[int], float]:
    """Servers that answer so late, however many are asked."""
    return lambda size: size / seconds


def test_it_grows_to_the_most_while_servers_are_slow() -> None:
    """Within some seconds, and no further than there are descriptors for."""
    assert Course(late(0.5)).run(10)[-1] == IN_FLIGHT_MOST
    assert Course(late(0.5), most=700).run(10)[-1] == 700


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_it_settles_where_a_full_line_brings_no_more(noise: float) -> None:
    """A line of 300 bodies a second is full with 100 rows under way: twice as many is the most that is ever tried."""
    course = Course(lambda size: min(size / 0.33, 300.0))
    sizes = course.run(1200, noise)

    assert max(sizes) <= 256
    assert sizes.count(128) / len(sizes) > 0.9


def test_it_goes_back_where_hosts_begin_to_fail() -> None:
    """Such as a router that forgets connections: what counts is bodies, not answers."""
    sizes = Course(lambda size: size / 0.2 if size <= 128 else size / 0.8).run(120)

    assert max(sizes) == 256
    assert sizes.count(128) / len(sizes) > 0.8


def test_it_tries_again_when_things_may_have_changed() -> None:
    """After a rest, which is longer each time that it was in vain."""
    course = Course(lambda _: 200.0)
    tries = [number for number, (size, then) in enumerate(pairwise(course.run(300))) if then > size]
    rests = [(then - number) * LOOK_S for number, then in pairwise(tries)]
    course.rate = late(1.0)

    assert rests == sorted(rests)
    assert min(rests) > REST_S
    assert course.run(600)[-1] == IN_FLIGHT_MOST


@pytest.mark.parametrize("enough", [{"cpu_share": 0.9}, {"transforming": 5}, {"in_flight": 60}])
def test_it_does_not_grow_where_that_helps_nothing(enough: dict[str, Any]) -> None:
    """A busy core, bodies that wait for it, and hosts at their limit need no more rows."""
    assert set(Course(late(0.5), seen=enough).run(100)) == {IN_FLIGHT_LEAST}


def test_it_shrinks_while_bodies_pile_up() -> None:
    """Each holds its bytes; there is no end of it below the least."""
    course = Course(late(0.5), window=Window(1024), seen={"transforming": 900})

    assert course.run(10)[-1] == IN_FLIGHT_LEAST


@given(
    st.lists(
        st.builds(
            Sight,
            at=st.floats(0, 1e5),
            cpu_share=st.floats(0, 4),
            cores=st.integers(1, 64),
            window=st.integers(1, IN_FLIGHT_MOST),
            in_flight=st.integers(0, 2000),
            waiting=st.integers(0, 2000),
            looking_up=st.integers(0, 2000),
            fetching=st.integers(0, 2000),
            transforming=st.integers(0, 2000),
            writing=st.integers(0, 2000),
            bodies=st.integers(0, 10**9),
        ),
        max_size=30,
    ),
    st.integers(1, IN_FLIGHT_MOST),
)
def test_it_stays_within_bounds(sights: list[Sight], most: int) -> None:
    """Whatever is seen, as time goes by."""
    window, bodies = Window(min(most, IN_FLIGHT_LEAST)), 0
    for sight in sorted(sights, key=lambda sight: sight.at):
        bodies += sight.bodies
        window = next_window(window, replace(sight, bodies=bodies), most)
        assert min(most, IN_FLIGHT_LEAST) <= window.size <= most
