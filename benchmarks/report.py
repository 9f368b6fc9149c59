"""What is kept of a run under benchmarks/runs: figures as JSON, a page with tables, a picture."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import psutil

from environments import environment
from peers import PROGRAMS
from scenarios import value_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from contest import Contest
    from scenarios import Round, Scenario, Target

__all__ = [
    "RUNS",
    "keep",
    "keep_contest",
    "keep_json",
    "load",
    "machine",
    "moment",
    "own_versions",
    "table",
    "versions_of",
]

RUNS: Final = Path(__file__).parent / "runs"

# Figure → how its column is headed, and how its values are written. Those of no entry have no column.
COLUMNS: Final = {
    "rows": ("rows", "{:.0f}"),
    "success_share": ("success", "{:.2%}"),
    "cpu_s": ("CPU s", "{:.2f}"),
    "cpu_ms_per_row": ("CPU ms/row", "{:.3f}"),
    "cpu_ms_per_row_running": ("… without start", "{:.3f}"),
    "waits_per_row": ("waits/row", "{:.1f}"),
    "wall_s": ("wall s", "{:.2f}"),
    "rows_per_s": ("rows/s", "{:.0f}"),
    "driver_rss_mb": ("driver MB", "{:.0f}"),
    "worker_rss_mb": ("worker MB", "{:.0f}"),
    "first_request_s": ("first request s", "{:.2f}"),
    "serving_s": ("serving s", "{:.2f}"),
    "refused_share": ("429", "{:.2%}"),
    "queries_each": ("queries of each", "{:.4f}"),
}


def keep_contest(name: str, scenario: Scenario, contest: Contest, told: dict[str, Any]) -> Path:
    """Write what came of *scenario*, with what is *told* of its circumstances; return the page."""
    medians = {
        label: {figure: value for figure in COLUMNS if (value := _median(contest.rounds, label, figure)) is not None}
        for label in scenario.entries
    }
    targets = [_judged(target, contest.rounds) for target in scenario.targets]
    found = {
        "benchmark": name,
        "about": scenario.about,
        **told,
        "commands": contest.commands,
        "medians": medians,
        "targets": targets,
        "failures": contest.failures,
        "charted": {figure: COLUMNS[figure][0] for figure in scenario.charted},
        "rounds": contest.rounds,
    }
    ran = {label: figures for label, figures in medians.items() if figures}
    page = [f"# {name}", "", scenario.about, "", f"Medians of {len(contest.rounds)} rounds:", ""]
    page += [*_figures(ran), "", *_verdicts(targets)]
    page += [line for failure in contest.failures for line in ("", f"**Failed**, {failure}")]
    return keep(name, found, [*page, "", *_circumstances(told), "", *_commands(contest)])


def keep(name: str, found: dict[str, Any], page: Sequence[str], *, chart: bool = True) -> Path:
    """Write *found* as JSON, its picture, and *page*, which is shown, too; return the page's path."""
    stored = keep_json(name, found)
    drawn = stored.with_suffix(".svg")
    lines = list(page)
    if chart:
        # matplotlib needs Pillow, which would take the place of pillow-simd.
        python = environment("chart", ["matplotlib>=3.9"]) / "python"
        subprocess.run([str(python), str(Path(__file__).with_name("chart.py")), str(stored), str(drawn)], check=True)
        lines += ["", f"![{name}]({drawn.name})"]
    kept = stored.with_suffix(".md")
    kept.write_text("\n".join(lines) + "\n")
    print("", *lines, f"kept in {kept}", sep="\n")
    return kept


def keep_json(name: str, found: dict[str, Any]) -> Path:
    """Write *found*, in a file that is called after the time and *name*; return it."""
    RUNS.mkdir(exist_ok=True)
    stored = RUNS / f"{datetime.now(UTC):%Y-%m-%d-%H%M}-{name}.json"
    stored.write_text(json.dumps(found, indent=1) + "\n")
    return stored


def machine() -> dict[str, object]:
    """Return what this machine is."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
    }


def moment() -> dict[str, Any]:
    """Return the time, and how busy the machine is: figures of a busy one are worth little."""
    return {"started": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "load_before": load()}


def load() -> float:
    """Return how many processes wanted to run at a time in the last minute."""
    return round(os.getloadavg()[0], 2)


def own_versions() -> dict[str, str]:
    """Return the versions that our figures depend on."""
    return PROGRAMS["ours"].versions()


def versions_of(programs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the versions of *programs*, each installed if it is not yet."""
    return {name: PROGRAMS[name].versions() for name in dict.fromkeys(programs)}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown; all columns but the first are numbers."""
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    return lines + [f"| {' | '.join(cells)} |" for cells in rows]


def _median(rounds: list[Round], label: str, figure: str) -> float | None:
    values = [entries[label][figure] for entries in rounds if figure in entries.get(label, {})]
    return median(values) if values else None


def _judged(target: Target, rounds: list[Round]) -> dict[str, Any]:
    value = value_of(target, rounds)
    met = value is not None and value <= target.most
    return {"target": str(target), "most": target.most, "value": value and round(value, 4), "met": met}


def _figures(medians: dict[str, dict[str, float]]) -> list[str]:
    shown = {figure: column for figure, column in COLUMNS.items() if any(figure in row for row in medians.values())}
    rows = [
        [label, *(form.format(figures[figure]) if figure in figures else "" for figure, (_, form) in shown.items())]
        for label, figures in medians.items()
    ]
    return table(["", *(head for head, _ in shown.values())], rows)


def _verdicts(targets: list[dict[str, Any]]) -> list[str]:
    if not targets:
        return ["It has no targets."]
    words = {True: "yes", False: "**no**"}
    rows = [
        [
            str(judged["target"]),
            f"{judged['most']:g}",
            "not measured" if judged["value"] is None else f"{judged['value']:.3f}",
            "–" if judged["value"] is None else words[judged["met"]],
        ]
        for judged in targets
    ]
    return table(["target (median of the rounds)", "at most", "is", "met"], rows)


def _circumstances(told: dict[str, Any]) -> list[str]:
    where = told["machine"]
    lines = [
        f"{where['cpu']}, {where['cores']} cores, {where['memory_bytes'] / 2**30:.0f} GiB, {where['system']}; "
        f"load {told['load_before']:.1f} before and {told['load_after']:.1f} after. Started {told['started']}.",
        "",
    ]
    for name, versions in told["versions"].items():
        lines.append(f"- {name}: {', '.join(f'{package} {number}' for package, number in versions.items())}")
    return lines


def _commands(contest: Contest) -> list[str]:
    typed = [f"# {label}\n{command}" for label, command in contest.commands.items()]
    return [f"`{' '.join(['nox -s bench --', *sys.argv[1:]])}` ran in turn:", "", "```sh", *typed, "```"]


def _cpu_name() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
