"""Run a scenario: every entry in turn, round by round, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import measure
from peers import PROGRAMS, Task

if TYPE_CHECKING:
    from pathlib import Path

    from measure import Run
    from scenarios import Entry, Round, Scenario
    from web import Web

__all__ = ["Contest", "hold"]


@dataclass
class Contest:
    """What came of a scenario.

    Attributes:
        rounds: the figures of each round, in order.
        commands: what was typed for each entry, the first time.
        failures: the last words of entries that failed, with the round they failed in.

    """

    rounds: list[Round] = field(default_factory=list)
    commands: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def hold(scenario: Scenario, folder: Path, rows: int, pairs: int) -> Contest:
    """Return what *pairs* rounds of *scenario* show, over a list of *rows* rows; *folder* is for what lies between."""
    contest = Contest()
    with scenario.serve(folder, rows) as web:
        entries = {label: entry for label, entry in scenario.entries.items() if entry.urls in web.lists}
        for number in range(pairs):
            figures: Round = {}
            for label, entry in entries.items():
                print(f"round {number + 1} of {pairs}: {label}", flush=True)
                run, seen = _run(entry, web, folder / "out")
                contest.commands.setdefault(label, run.command)
                if seen is None:
                    contest.failures.append(f"round {number + 1}: {label}: " + "\n".join(run.summary[-20:]))
                    print(contest.failures[-1], flush=True)
                else:
                    figures[label] = seen
            _take_off_start(figures, scenario)
            contest.rounds.append(figures)
    return contest


def figures_of(run: Run, made: dict[str, float]) -> dict[str, float]:
    """Return all figures of a run of which *made* is what it made; what *made* says of its time counts more."""
    seconds = {"cpu_s": run.cpu_s, "wall_s": run.wall_s}
    figures = {
        **seconds,
        "driver_rss_mb": run.driver_rss_bytes_max / 1e6,
        "worker_rss_mb": run.worker_rss_bytes_max / 1e6,
        **made,
    }
    if rows := figures.get("rows"):
        figures["cpu_ms_per_row"] = 1000 * figures["cpu_s"] / rows
        figures["rows_per_s"] = rows / figures["wall_s"]
        figures["success_share"] = figures["successes"] / rows
    return {name: round(value, 4) for name, value in figures.items()}


def _run(entry: Entry, web: Web, out: Path) -> tuple[Run, dict[str, float] | None]:
    """Run an entry once; its figures are None if it failed."""
    program, urls = PROGRAMS[entry.program], web.lists[entry.urls]
    task = Task(urls=urls.path, rows=urls.rows, out=out, pictures=web.pictures, **entry.changes)
    shutil.rmtree(out, ignore_errors=True)
    if web.server:
        web.server.forget_requests()
    run = measure.run(program.command(task), {**web.environment, **dict(program.environment)}, entry.stop_after_s)
    if run.exit_status and entry.stop_after_s is None:
        return run, None
    made = program.made(task, run) if entry.stop_after_s is None else {}
    if web.server and (first := web.server.first_request_at()):
        made["first_request_s"] = first - run.started
    shutil.rmtree(out, ignore_errors=True)
    return run, figures_of(run, made)


def _take_off_start(figures: Round, scenario: Scenario) -> None:
    """Add what each row took once the program ran, where a scenario has an entry that shows what starting takes."""
    if scenario.start not in figures:
        return
    start_s = figures[scenario.start]["cpu_s"]
    for label, seen in figures.items():
        if label != scenario.start:
            taken = seen["cpu_s"] - (start_s if PROGRAMS[scenario.entries[label].program].starts else 0)
            seen["cpu_ms_per_row_running"] = round(1000 * taken / seen["rows"], 4)
