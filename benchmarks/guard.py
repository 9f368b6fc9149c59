"""A guard against becoming slower that does not look at the clock: CPU beside that of plain loops on the same machine.

The bounds are wide, because neighbours on a machine disturb caches even where they do not disturb the count of seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import contest
import report
import web
from scenarios import NETWORK, Entry, Scenario, Target, start_of, value_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["examine"]

ROUNDS: Final = 3

# Each bound is about one and a half times what was seen when it was set.
GUARDS: Final = {
    "pixels": Scenario(
        about="CPU of an image in a clean run beside that of its pixels alone.",
        rows=600,
        serve=web.http,
        entries={
            "start": start_of("ours"),
            "ours": Entry("ours"),
            "bare pixels": Entry("bare pixels"),
        },
        targets=(Target("cpu_ms_per_row_running", "ours", 1.9, "bare pixels"),),
    ),
    "network": Scenario(
        about="CPU of a request beside that of one in a plain aiohttp loop.",
        rows=30_000,
        serve=web.small_bodies,
        entries={
            "start": start_of("ours", NETWORK),
            "ours": Entry("ours", {**NETWORK, "in_flight": 64}),
            "bare requests": Entry("bare requests", {"in_flight": 64}),
        },
        targets=(Target("cpu_ms_per_row_running", "ours", 1.6, "bare requests"),),
    ),
}


def examine(folder: Path, rows: int | None) -> int:
    """Return 1 if anything costs more than it may, or could not be measured."""
    exceeded = 0
    found: dict[str, object] = {"benchmark": "guard", **report.own_versions(), "machine": report.machine()}
    for name, scenario in GUARDS.items():
        between = folder / name
        between.mkdir()
        came = contest.hold(scenario, between, rows or scenario.rows, ROUNDS)
        for target in scenario.targets:
            value = value_of(target, came.rounds)
            good = value is not None and value <= target.most
            exceeded += not good
            found[f"{name}: {target}"] = {"value": value, "most": target.most, "good": good}
            shown = "not measured" if value is None else f"{value:.2f}"
            print(f"{name}: {target} is {shown}, at most {target.most}: {'good' if good else 'EXCEEDED'}")
        for failure in came.failures:
            exceeded += 1
            print(f"{name}: {failure}")
    print(f"kept in {report.keep_json('guard', found)}")
    return 1 if exceeded else 0
