"""The matrix of attacks, run in a network of its own, and its figures: ``python tests/trust/matrix.py [--write]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hostile import CLOSED, GROUPS, probes

import photographs as pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hostile import Probe

__all__ = ["PAGE", "Report", "hindrance", "run", "table", "tabulated"]

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "docs" / "security.md"
_BEGIN: Final = "<!-- made by tests/trust/matrix.py -->\n"
_END: Final = "<!-- end -->\n"
_UNSHARE: Final = ("unshare", "--net", "--map-root-user")


@dataclass(frozen=True, slots=True)
class Report:
    """What came of the *matrix*.

    Attributes:
        matrix: what was tried.
        outcomes: of each, the reason for which its row failed, or ``success``.
        messages: of each, what its row says.
        status: the exit status of the run.
        said: the end of what it said.
        forbidden: who was contacted that never should be, and how often.
        told: headers that were sent and should not be, and how often.
        reachable: of the closed addresses, how many a program can connect to there that does not mind.
        programs: what was executed in the course of the run.
        opened: files that were opened and never should be.
        peak_kb: the largest memory of one of its processes.

    """

    matrix: Sequence[Probe]
    outcomes: Sequence[str]
    messages: Sequence[str | None]
    status: int
    said: str
    forbidden: Mapping[str, int]
    told: Mapping[str, int]
    reachable: int
    programs: Sequence[str]
    opened: Sequence[str]
    peak_kb: int

    def surprises(self) -> list[str]:
        """Return what came otherwise than it should, a line for each."""
        return [
            f"{probe.group}, {probe.kind}: {probe.url} number {number} ended as {outcome} ({message}), "
            f"not as {', '.join(sorted(probe.expected))}"
            for number, (probe, outcome, message) in enumerate(
                zip(self.matrix, self.outcomes, self.messages, strict=True)
            )
            if outcome not in probe.expected
        ]


def hindrance() -> str | None:
    """Return why there cannot be a network of its own here, if so."""
    try:
        ended = subprocess.run(
            [*_UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    return f"no network namespace is permitted here: {ended.stderr.strip()}" if ended.returncode else None


def run(folder: Path) -> Report:
    """Run all of it in *folder*."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [*_UNSHARE, sys.executable, str(HERE / "internet.py"), str(folder)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONPATH": path})
    told: dict[str, Any] = json.loads(ended.stdout)
    return Report(probes(folder / "photographs"), **told)


def tabulated(matrix: Sequence[Probe]) -> str:
    """Return the figures of *matrix* as a table in Markdown."""
    counts = Counter((probe.group, probe.kind) for probe in matrix)
    ends: dict[tuple[str, str], set[str]] = {}
    for probe in matrix:
        ends.setdefault((probe.group, probe.kind), set()).update(probe.expected)
    lines = ["| of | what | tried | each ends as |", "|---|---|---|---|"]
    lines += [
        f"| {group} | {kind} | {count:,} | {', '.join(sorted(ends[group, kind]))} |"
        for (group, kind), count in sorted(counts.items(), key=lambda item: GROUPS.index(item[0][0]))
    ]
    sums = Counter(probe.group for probe in matrix)
    told = ", ".join(f"{sums[group]:,} of {group}" for group in GROUPS)
    lines += [
        "",
        f"{len(matrix):,} in all: {told}. {len(CLOSED)} closed addresses are in them, each in four ways or five.",
    ]
    return "\n".join(lines) + "\n"


def table(page: str) -> str:
    """Return the table in *page*."""
    return page.partition(_BEGIN)[2].partition(_END)[0]


def main(words: Sequence[str]) -> int:
    """Run it, say what came otherwise than it should, and with ``--write`` put the table into the page."""
    with tempfile.TemporaryDirectory() as name:
        if "--write" in words:
            pictures.write_all(Path(name))
            page = PAGE.read_text()
            before, rest = page.partition(_BEGIN)[::2]
            PAGE.write_text(before + _BEGIN + tabulated(probes(Path(name))) + _END + rest.partition(_END)[2])
            return 0
        report = run(Path(name))
    found = report.surprises()
    found += [f"contacted: {who}, {count} times" for who, count in report.forbidden.items()]
    found += [f"opened: {name}" for name in report.opened]
    found += [f"sent: {header}, {count} times" for header, count in report.told.items()]
    summary = (
        f"{len(report.matrix)} tried, {len(found)} surprises; of {len(CLOSED)} closed addresses {report.reachable} can "
        f"be connected to there, and {sum(report.forbidden.values())} were; status {report.status}; "
        f"{report.peak_kb // 1024} MB at the most; programs: {' '.join(report.programs)}"
    )
    sys.stdout.write("\n".join([*found, summary]) + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
