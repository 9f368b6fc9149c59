"""Which shard each row is dealt to: shards are full, hosts are together, and what is large is spread."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from async_img2ds.policy.dealing import HOSTS_LEAST, Dealing, most_of_a_host, stride, turns

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTS = st.lists(st.integers(0, 5) | st.integers(0, 60) | st.integers(0, 3000), max_size=60)
# More than what a fraction is off when it has been multiplied by so many again; less than turns are apart.
ROUNDING = 1e-12
HEIGHTS = st.integers(1, 70) | st.sampled_from([100, 400, 1000])


@dataclass
class Dealt:
    """What was dealt: to each shard so many rows of each host."""

    rows: int
    shards: list[Counter[int]]

    def shards_of(self, host: int) -> list[int]:
        return [number for number, hosts in enumerate(self.shards) if hosts[host]]


def dealt(counts: Sequence[int], rows_per_shard: int, at_once: int = 7) -> Dealt:
    """Deal all rows, some of each host in turn, as they come in a list."""
    dealing = Dealing(counts, rows_per_shard)
    shards: dict[int, Counter[int]] = defaultdict(Counter)
    left = dict(enumerate(counts))
    while left:
        for host, count in list(left.items()):
            taken = min(count, at_once)
            for shard, rows in dealing.deal(host, taken):
                shards[shard][host] += rows
            left[host] -= taken
            if not left[host]:
                del left[host]
    return Dealt(dealing.rows, [shards[number] for number in range(dealing.shards)])


def zipf(hosts: int, largest: int) -> list[int]:
    """So many hosts, of which each has half as many rows as one that comes half as late."""
    return [max(1, largest // (place + 1)) for place in range(hosts)]


@given(counts=COUNTS, rows_per_shard=HEIGHTS)
@settings(max_examples=300)
def test_every_row_is_dealt_once_and_all_shards_but_the_last_are_full(counts: list[int], rows_per_shard: int) -> None:
    """Whatever hosts a list has, and in whatever order their rows come."""
    found = dealt(counts, rows_per_shard)

    assert sum(found.shards, Counter[int]()) == Counter({host: count for host, count in enumerate(counts) if count})
    assert [hosts.total() for hosts in found.shards[:-1]] == [rows_per_shard] * (len(found.shards) - 1)
    assert len(found.shards) == -(-sum(counts) // rows_per_shard)


# The second host's rows meet a column twice if the layers of pieces are not about as high as each other.
@example(counts=[6, 10, 268], rows_per_shard=100)
@given(counts=COUNTS, rows_per_shard=HEIGHTS)
@settings(max_examples=300)
def test_no_shard_has_more_of_a_host_than_it_may(counts: list[int], rows_per_shard: int) -> None:
    """A twentieth, or the host's part of the list if that is more; so it is in the last, too, which is short."""
    found = dealt(counts, rows_per_shard)

    for hosts in found.shards:
        for host, rows in hosts.items():
            part = -(-counts[host] * rows_per_shard // found.rows)
            assert rows <= max(rows_per_shard // HOSTS_LEAST, 1, part)


@given(counts=COUNTS, rows_per_shard=HEIGHTS)
@settings(max_examples=300)
def test_host_that_fits_into_a_shard_is_in_one(counts: list[int], rows_per_shard: int) -> None:
    """But for cuts that fill shards, of which there are no more than shards."""
    found = dealt(counts, rows_per_shard)
    small = [host for host, count in enumerate(counts) if 0 < count <= most_of_a_host(rows_per_shard)]

    assert sum(len(found.shards_of(host)) - 1 for host in small) <= len(found.shards)


@given(counts=COUNTS, rows_per_shard=st.sampled_from([100, 400, 1000]))
@settings(max_examples=300)
def test_larger_host_is_in_few_shards(counts: list[int], rows_per_shard: int) -> None:
    """No more than its rows need, but for two that it has to begin and end in, and one that is short."""
    found, most = dealt(counts, rows_per_shard), most_of_a_host(rows_per_shard)
    # Where hosts that are dealt row by row take half of all, the others find less than their pieces in a shard.
    single = [count for count in counts if count > max(most, (most // 2 - 1) * found.rows // rows_per_shard)]
    if 2 * sum(single) > found.rows:
        return

    for host, count in enumerate(counts):
        if count > most and count not in single:
            assert len(found.shards_of(host)) <= math.ceil(count / (most * 10 // 11 - 1)) + 2


@pytest.mark.parametrize(("hosts", "largest", "rows_per_shard"), [(3000, 3000, 100), (20_000, 20_000, 1000)])
def test_no_host_is_cut_where_many_have_a_single_row(hosts: int, largest: int, rows_per_shard: int) -> None:
    """As in any list of the web: they fill what is left."""
    counts = zipf(hosts, largest)
    found = dealt(counts, rows_per_shard)
    where = Counter(host for shard in found.shards for host in shard)

    assert {where[host] for host, count in enumerate(counts) if count <= most_of_a_host(rows_per_shard)} == {1}


@pytest.mark.parametrize("among", [8, 32, 100])
def test_shards_beside_each_other_rarely_share_a_host(among: int) -> None:
    """Of any so many consecutive ones a host is in its part of them, and at most four more."""
    counts = zipf(20_000, 20_000)
    found = dealt(counts, 200)

    for host in range(200):
        shards = found.shards_of(host)
        most = max(sum(first <= shard < first + among for shard in shards) for first in shards)
        assert most <= among * len(shards) / len(found.shards) + 4


@given(shards=st.integers(2, 3000))
def test_stride_leads_to_every_shard(shards: int) -> None:
    """Before it comes to one again."""
    step = stride(shards)

    assert len({place * step % shards for place in range(shards)}) == shards


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 50)), max_size=20))
def test_rows_of_a_host_take_turns_as_far_apart_as_they_can(runs: list[tuple[int, int]]) -> None:
    """Each in its own part of the shard, and all at the same distance."""
    when = turns(runs)
    at = 0

    for _, count in runs:
        own = when[at : at + count]
        at += count
        assert [math.floor(turn * count + ROUNDING) for turn in own] == list(range(count))
        assert all(later - earlier == pytest.approx(1 / count) for earlier, later in itertools.pairwise(own))
    assert at == len(when)


def test_hosts_with_one_row_do_not_all_have_their_turn_at_once() -> None:
    """They are spread over the shard."""
    when = turns((host, 1) for host in range(1000))
    tenths = Counter(math.floor(10 * turn) for turn in when)

    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 110
