"""Run a scenario: every entry in turn, round by round, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import measure
from environments import as_typed
from peers import PROGRAMS, Task

if TYPE_CHECKING:
    from pathlib import Path

    from measure import Run
    from origin import Origin
    from scenarios import Entry, Round, Scenario
    from web import Web

__all__ = ["Contest", "hold"]

# Of what a failed run said last.
LINES_SHOWN: Final = 20
# So small a share of the rows may fail that are served: one in a thousand, as time-outs of a busy machine.
SHORTFALL: Final = 0.001


@dataclass
class Contest:
    """What came of a scenario.

    Attributes:
        rounds: the figures of each round, in order.
        commands: what was typed for each entry, the first time.
        failures: what went wrong, with the round and the entry.

    """

    rounds: list[Round] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def hold(scenario: Scenario, folder: Path, rows: int, pairs: int) -> Contest:
    """Return what *pairs* rounds of *scenario* show, over a list of *rows* rows; *folder* is for what lies between."""
    contest = Contest()
    with scenario.serve(folder, rows) as web:
        entries = {label: entry for label, entry in scenario.entries.items() if entry.urls in web.lists}
        for number in range(1, pairs + 1):
            figures: Round = {}
            for label, entry in entries.items():
                print(f"round {number} of {pairs}: {label}", flush=True)
                run, seen = _run(entry, web, folder / "out")
                contest.commands.setdefault(label, as_typed(shlex.join(run.command), folder))
                if seen is not None:
                    figures[label] = seen
                if fault := _fault(run, seen, web.live if entry.whole else 0.0):
                    contest.failures.append(as_typed(f"round {number}: {label}: {fault}", folder))
                    print(contest.failures[-1], flush=True)
            _take_off_start(figures, scenario)
            contest.rounds.append(figures)
    return contest


def _fault(run: Run, seen: dict[str, float] | None, live: float) -> str:
    """Say what is wrong with a run, if anything: how fast it failed is of no interest."""
    if seen is None:
        return f"exit status {run.exit_status}: " + "\n".join(run.summary[-LINES_SHOWN:])
    share = seen.get("success_share", live)
    return "" if share >= live - SHORTFALL else f"only {share:.1%} of the rows came to an image"


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
        figures["waits_per_row"] = run.waits / rows
        figures["rows_per_s"] = rows / figures["wall_s"]
        figures["success_share"] = figures["successes"] / rows
        figures["failed_share"] = 1 - figures["success_share"]
    return {name: round(value, 4) for name, value in figures.items()}


def _run(entry: Entry, web: Web, out: Path) -> tuple[Run, dict[str, float] | None]:
    """Run an entry once; its figures are None if it failed."""
    program, urls = PROGRAMS[entry.program], web.lists[entry.urls]
    named = web.names.address if web.names else None
    task = Task(urls=urls.path, rows=urls.rows, out=out, pictures=web.pictures, name_server=named, **entry.changes)
    shutil.rmtree(out, ignore_errors=True)
    if web.server:
        web.server.forget_requests()
    if web.names:
        web.names.forget_queries()
    run = measure.run(program.command(task), {**web.environment, **dict(program.environment)}, entry.stop_after_s)
    if run.exit_status and (entry.stop_after_s is None or run.wall_s < entry.stop_after_s):
        return run, None
    made = program.made(task, run) if entry.stop_after_s is None else {}
    if web.server and (first := web.server.first_request_at()):
        made |= {"first_request_s": first - run.started, **_told_by(web.server)}
    if web.names and (queries := web.names.queries()):
        made["queries_each"] = sum(queries.values()) / len(queries)
    shutil.rmtree(out, ignore_errors=True)
    return run, figures_of(run, made)


def _told_by(server: Origin) -> dict[str, float]:
    """Return what a server's log says of a run: how long it took to hand out its images, and how often it refused."""
    answers = server.answers()
    good = [at for status, at in answers if status == HTTPStatus.OK]
    refused = sum(status == HTTPStatus.TOO_MANY_REQUESTS for status, _ in answers)
    return {"serving_s": max(good, default=0.0) - min(good, default=0.0), "refused_share": refused / len(answers)}


def _take_off_start(figures: Round, scenario: Scenario) -> None:
    """Add what each row took once the program ran, where a scenario shows what starting it takes."""
    starts = {
        entry.program: figures[label]["cpu_s"]
        for label, entry in scenario.entries.items()
        if entry.urls == "start" and label in figures
    }
    for label, seen in figures.items():
        entry = scenario.entries[label]
        start_s = starts.get(entry.program) if PROGRAMS[entry.program].starts else 0.0
        if starts and entry.urls != "start" and start_s is not None:
            seen["cpu_ms_per_row_running"] = round(1000 * (seen["cpu_s"] - start_s) / seen["rows"], 4)
