"""Starting rows as their host and the window have room."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from async_img2ds.fetch.pacer import SILENT_S, Pacer
from async_img2ds.policy import urls
from async_img2ds.policy.host import Manners, Outcome, Sign
from async_img2ds.records import Row

if TYPE_CHECKING:
    import pytest

    from async_img2ds.fetch.pacer import Turn


def rows(*urls: str | None) -> list[Row]:
    return [Row(index, f"{index:04}", url) for index, url in enumerate(urls)]


def pacer(in_flight: int = 10, held_bytes: int = 1000, per_host: int = 10) -> Pacer:
    return Pacer(in_flight_max=in_flight, held_bytes_max=held_bytes, manners=lambda _: Manners(per_host))


async def again_of(turn: Turn, delay_s: float) -> bool:
    """Have *turn* try again, for the same URL."""
    assert turn.target is not None
    return await turn.again(turn.target, delay_s)


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Shard:
    """Takes turns as they come, in a task, like an open shard."""

    def __init__(self, paced: Pacer, shard_rows: list[Row]) -> None:
        self.turns: list[Turn] = []
        self.task = asyncio.create_task(self._take(paced, shard_rows))

    async def _take(self, paced: Pacer, shard_rows: list[Row]) -> None:
        async with aclosing(paced.turns(shard_rows)) as turns:
            async for turn in turns:
                self.turns.append(turn)


def test_window_bounds_rows_under_way_over_all_shards() -> None:
    """Two shards together never have more under way than the window, and all rows get their turn once."""

    async def run() -> None:
        paced = pacer(in_flight=3)
        shards = [Shard(paced, rows(*(f"http://h{n}.test/" for n in range(5)))) for _ in range(2)]
        ended: list[Turn] = []
        while len(ended) < 10:
            await settle()
            running = [turn for shard in shards for turn in shard.turns if turn not in ended]
            assert 0 < len(running) <= 3
            running[0].end()
            ended.append(running[0])
        await asyncio.gather(*(shard.task for shard in shards))

        assert sorted(turn.row.index for turn in ended) == sorted([*range(5), *range(5)])
        assert paced.statistics().in_flight == 0

    asyncio.run(run())


def test_busy_host_does_not_hold_up_others() -> None:
    """Rows behind ten of a host at its limit start at once; the next of that host starts when one leaves it."""

    async def run() -> None:
        paced = pacer(per_host=1)
        shard = Shard(paced, rows(*(["http://busy.test/"] * 10), "http://free.test/"))
        await settle()
        assert [turn.site.host for turn in shard.turns] == ["busy.test", "free.test"]

        shard.turns[0].leave_host()
        await settle()
        assert [turn.site.host for turn in shard.turns] == ["busy.test", "free.test", "busy.test"]

        shard.task.cancel()

    asyncio.run(run())


def test_row_between_attempts_leaves_the_window_and_comes_back_first() -> None:
    """While a row waits to try again another takes its place; then it goes before rows that never started."""

    async def run() -> None:
        paced = pacer(in_flight=1)
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(3))))
        await settle()
        [first] = shard.turns
        again = asyncio.create_task(again_of(first, 0))
        await settle()
        assert [turn.row.index for turn in shard.turns] == [0, 1]
        assert not again.done()

        shard.turns[1].end()
        await settle()
        assert again.done()
        assert len(shard.turns) == 2

        shard.task.cancel()

    asyncio.run(run())


def test_row_between_attempts_leaves_its_host_to_others() -> None:
    """While it waits the next row of the same host starts, and then it takes its turn before those after it."""

    async def run() -> None:
        paced = pacer(per_host=1)
        shard = Shard(paced, rows(*["http://one.test/"] * 3))
        await settle()
        again = asyncio.create_task(again_of(shard.turns[0], 0))
        await settle()
        assert [turn.row.index for turn in shard.turns] == [0, 1]
        assert not again.done()
        assert paced.statistics().late == 1

        shard.turns[1].end()
        await settle()
        assert again.done()
        assert len(shard.turns) == 2
        assert paced.statistics().late == 0

        shard.turns[0].end()
        await shard.task

    asyncio.run(run())


def test_too_many_rows_between_attempts_are_no_hunger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: at the limit no more shards are opened."""
    monkeypatch.setattr("async_img2ds.fetch.pacer.LATE_MAX", 2)

    async def run() -> None:
        paced = pacer(in_flight=2)
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(2))))
        await settle()
        assert paced.is_hungry()
        waiting = [asyncio.create_task(again_of(turn, 60)) for turn in shard.turns]
        await settle()
        assert not paced.is_hungry()

        waiting[0].cancel()
        await settle()
        assert paced.is_hungry()

        waiting[1].cancel()

    asyncio.run(run())


def test_redirect_to_another_host_waits_for_room_there() -> None:
    """The old host's slot is free meanwhile."""

    async def run() -> None:
        paced = pacer(per_host=1)
        shard = Shard(paced, rows("http://old.test/", "http://new.test/", "http://old.test/"))
        await settle()
        old, new = shard.turns
        assert new.target is not None
        moved = asyncio.create_task(old.move(new.target, Outcome(Sign.ANSWERED)))
        await settle()
        assert [turn.row.index for turn in shard.turns] == [0, 1, 2]
        assert not moved.done()

        new.end()
        assert await moved
        assert (old.site.host, old.at_host, old.in_window) == ("new.test", True, True)
        await shard.task

    asyncio.run(run())


def test_rows_of_a_dead_host_get_their_turn_refused() -> None:
    """Two find out, one looks again, the rest are told at once; one that waits to try again is told, too."""
    now = 0.0

    async def run() -> None:
        nonlocal now
        paced = Pacer(in_flight_max=9, held_bytes_max=1000, manners=lambda _: Manners(9), clock=lambda: now)
        shard = Shard(paced, rows(*["http://dead.test/"] * 6))
        await settle()
        assert len(shard.turns) == 2
        absent = Outcome(Sign.ABSENT, took_s=1.0)
        for turn in shard.turns:
            turn.leave_host(absent)
        again = asyncio.create_task(again_of(shard.turns[0], 0))
        await settle()
        now = 2.0
        shard.turns[1].end()
        await settle()
        assert len(shard.turns) == 3  # the look is that of another row
        also_again = asyncio.create_task(again_of(shard.turns[1], 0))
        await settle()
        shard.turns[2].leave_host(absent)

        assert not await again
        assert not await also_again
        await shard.task
        assert [turn.is_refused for turn in shard.turns] == [False, False, False, True, True, True]
        assert paced.statistics().waiting == 0

    asyncio.run(run())


def test_rows_of_silent_hosts_leave_the_window_to_others() -> None:
    """After a while; when they are answered they count again, and never are there more than connections allow."""
    now = 0.0

    async def run() -> None:
        nonlocal now
        paced = Pacer(
            in_flight_max=2, connections_max=3, held_bytes_max=99, manners=lambda _: Manners(9), clock=lambda: now
        )
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(6))))
        await settle()
        assert len(shard.turns) == 2
        shard.turns[1].heard()

        now = SILENT_S
        paced.resize(2)  # nothing new
        paced.pause(0)
        await settle()
        assert [turn.row.index for turn in shard.turns] == [0, 1, 2], "the first is silent, the second was answered"
        assert (paced.statistics().in_flight, paced.statistics().silent) == (2, 1)

        now = 2 * SILENT_S
        paced.pause(0)
        await settle()
        assert len(shard.turns) == 3, "there are as many as connections allow"

        shard.turns[0].heard()
        assert (paced.statistics().in_flight, paced.statistics().silent) == (3, 0)
        for turn in shard.turns[:2]:
            turn.end()
        await settle()
        assert len(shard.turns) == 5, "the third has become silent, too"
        assert (paced.statistics().in_flight, paced.statistics().silent) == (2, 1)
        while len(shard.turns) < 6:
            shard.turns[-1].end()
            await settle()
        for turn in shard.turns:
            turn.end()
        await shard.task
        assert (paced.statistics().in_flight, paced.statistics().silent) == (0, 0)

    asyncio.run(run())


def test_redirect_on_one_host_keeps_its_slot_unless_its_requests_are_to_be_apart() -> None:
    """It is one visit; but two requests, where these have a gap between them."""

    async def run(gap_s: float) -> list[bool]:
        paced = Pacer(in_flight_max=9, held_bytes_max=1000, manners=lambda _: Manners(9, gap_s))
        shard = Shard(paced, rows("http://a.test/"))
        await settle()
        moving = asyncio.create_task(shard.turns[0].move(urls.parse("https://a.test./2"), Outcome(Sign.ANSWERED)))
        await settle()
        at_once = moving.done()
        assert await moving
        assert shard.turns[0].at_host
        shard.turns[0].end()
        await shard.task
        return [at_once, paced.statistics().in_flight == 0]

    assert asyncio.run(run(0.0)) == [True, True]
    assert asyncio.run(run(0.2)) == [False, True]


def test_full_memory_and_silence_do_not_keep_the_loop_busy() -> None:
    """What makes room then is bytes that are let go, not time."""

    async def run() -> int:
        paced = Pacer(in_flight_max=2, connections_max=9, held_bytes_max=10, manners=lambda _: Manners(9))
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(5))))
        await settle()
        first, second = shard.turns
        first.heard()
        first.hold(100)
        await asyncio.sleep(SILENT_S + 0.1)
        pumped = 0
        pump = paced._pump

        def counted() -> None:
            nonlocal pumped
            pumped += 1
            pump()

        paced._pump = counted  # type: ignore[method-assign]
        await asyncio.sleep(0.1)
        first.end()
        await settle()
        assert len(shard.turns) == 4
        while len(shard.turns) < 5:
            shard.turns[-1].end()
            await settle()
        for turn in (second, *shard.turns):
            turn.end()
        await shard.task
        return pumped

    assert asyncio.run(run()) < 30


def test_silence_makes_room_by_itself() -> None:
    """Nothing else need happen."""

    async def run() -> None:
        paced = Pacer(in_flight_max=1, connections_max=9, held_bytes_max=99, manners=lambda _: Manners(9))
        shard = Shard(paced, rows("http://mute.test/", "http://good.test/"))
        while len(shard.turns) < 2:
            await asyncio.sleep(0.01)
        for turn in shard.turns:
            turn.end()
        await shard.task

    asyncio.run(asyncio.wait_for(run(), SILENT_S + 10))


def test_host_is_wanted_while_others_come() -> None:
    """Its connection is worth keeping then, and at the end of a redirect, where many lead to."""

    async def run() -> None:
        paced = pacer()
        shard = Shard(paced, rows(*["http://busy.test/"] * 3, "http://rare.test/", "http://short.test/"))
        await settle()
        busy, rare, short = (
            [turn for turn in shard.turns if turn.site.host == f"{name}.test"] for name in ("busy", "rare", "short")
        )
        assert busy[0].is_host_wanted()
        assert not rare[0].is_host_wanted()
        assert await short[0].move(urls.parse("http://rare.test/2"), Outcome(Sign.ANSWERED))
        assert short[0].is_host_wanted()
        for turn in (*busy, *rare, *short):
            turn.end()
        await settle()
        assert not shard.turns[-1].is_host_wanted()
        shard.turns[-1].end()
        await shard.task

    asyncio.run(run())


def test_names_of_coming_rows_are_known_before_they_start() -> None:
    """Of two windows of them; addresses need no look-up."""

    async def run() -> None:
        paced = pacer(in_flight=2)
        shard = Shard(paced, rows("http://a.test/", "http://192.0.2.1/", *(f"http://h{n}.test/" for n in range(9))))
        await settle()

        assert paced.names_ahead() == ["a.test", "h0.test", "h1.test", "h2.test", "h3.test"]
        assert paced.names_ahead() == []

        shard.task.cancel()

    asyncio.run(run())


def test_nothing_starts_during_a_pause() -> None:
    """Of the whole process, for what this machine is short of; it ends by itself."""

    async def run() -> None:
        paced = pacer()
        paced.pause(0.1)
        shard = Shard(paced, rows("http://a.test/", "http://b.test/"))
        await settle()
        assert shard.turns == []
        assert not paced.is_hungry()

        await asyncio.wait_for(shard.task, 5)
        assert len(shard.turns) == 2

    asyncio.run(run())


def test_pause_of_a_host_ends_by_itself() -> None:
    """Nothing else has to happen for its next row to start."""

    async def run() -> None:
        paced = Pacer(in_flight_max=9, held_bytes_max=1000, manners=lambda _: Manners(9, gap_s=0.05))
        shard = Shard(paced, rows(*["http://one.test/"] * 2))

        await asyncio.wait_for(shard.task, 5)

    asyncio.run(run())


def test_full_memory_is_no_hunger() -> None:
    """While bytes hold rows back, more rows would not help, so none are asked for."""

    async def run() -> None:
        paced = pacer(in_flight=2, held_bytes=100)
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(9))))
        await settle()
        shard.turns[0].hold(101)
        shard.turns[1].end()
        await settle()
        hungry = asyncio.create_task(paced.wait_hungry())
        await settle()

        assert not hungry.done()

        hungry.cancel()
        shard.task.cancel()

    asyncio.run(run())


def test_nothing_starts_while_whoever_takes_samples_has_no_room() -> None:
    """However long others have been silent, and whoever comes back; as soon as there is room, as many start as fit."""

    async def run() -> None:
        room = 2
        now = 0.0
        paced = Pacer(
            in_flight_max=10,
            held_bytes_max=1000,
            manners=lambda _: Manners(10),
            may_start=lambda under_way: under_way < room,
            clock=lambda: now,
        )
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(6))))
        await settle()
        assert len(shard.turns) == 2

        now = SILENT_S + 1
        again = asyncio.create_task(again_of(shard.turns[0], 0))
        paced.nudge()
        await settle()
        assert len(shard.turns) == 3  # the next has the room that the first has left
        assert not again.done()

        room = 4
        paced.nudge()
        await settle()
        assert again.done()
        assert len(shard.turns) == 4

        shard.task.cancel()
        for turn in shard.turns:
            turn.end()

    asyncio.run(run())


def test_bytes_held_stop_new_rows() -> None:
    """No row starts while too many bytes of bodies are held, and one starts when they are dropped."""

    async def run() -> None:
        paced = pacer(in_flight=2, held_bytes=100)
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(4))))
        await settle()
        first, second = shard.turns
        assert first.hold(101)  # the oldest holder always reads on
        second.end()
        await settle()
        assert len(shard.turns) == 2

        first.end()
        await settle()
        assert len(shard.turns) == 4
        assert paced.statistics().held_bytes == 0

        shard.task.cancel()

    asyncio.run(run())


def test_only_the_oldest_reads_on_when_memory_is_full() -> None:
    """A younger body waits until the older one is done with, so that one always comes to its end."""

    async def run() -> None:
        paced = pacer(held_bytes=100)
        shard = Shard(paced, rows("http://a.test/", "http://b.test/"))
        await settle()
        older, younger = shard.turns
        assert older.hold(90)
        assert not younger.hold(90)
        waiting = asyncio.create_task(younger.wait_to_read())
        await settle()
        assert older.hold(500)
        assert not waiting.done()

        older.end()
        await settle()
        assert waiting.done()

        await shard.task

    asyncio.run(run())


def test_closing_a_shard_gives_back_all_it_had() -> None:
    """Rows of a dropped shard leave nothing behind for the other shards.

    Whether they wait, are granted or are between attempts.
    """

    async def run() -> None:
        paced = pacer(in_flight=2, per_host=1)
        dropped = Shard(paced, rows(*(["http://one.test/"] * 5), "http://two.test/"))
        await settle()
        again = asyncio.create_task(again_of(dropped.turns[0], 0))
        await settle()
        again.cancel()
        dropped.task.cancel()
        await settle()
        for turn in dropped.turns:
            turn.end()
        other = Shard(paced, rows("http://one.test/", "http://two.test/"))
        await asyncio.wait_for(other.task, 1)

        assert len(other.turns) == 2
        assert paced.statistics().waiting == 0

    asyncio.run(run())


def test_hunger_is_felt_before_the_window_runs_dry() -> None:
    """More rows are asked for when fewer wait than the window holds, not before."""

    async def run() -> None:
        paced = pacer(in_flight=2)
        shard = Shard(paced, rows(*(f"http://h{n}.test/" for n in range(8))))
        await settle()
        hungry = asyncio.create_task(paced.wait_hungry())
        await settle()
        assert not hungry.done()

        for number in range(5):
            shard.turns[number].end()
            await settle()
        assert hungry.done()

        shard.task.cancel()

    asyncio.run(run())


def test_rows_without_a_usable_url_get_their_turn() -> None:
    """They must become rows of the metadata, so they are yielded like any other."""

    async def run() -> None:
        shard = Shard(pacer(), rows(None, "", "nonsense", "http://ok.test/"))
        await asyncio.wait_for(shard.task, 1)

        assert sorted(turn.row.index for turn in shard.turns) == [0, 1, 2, 3]

    asyncio.run(run())
