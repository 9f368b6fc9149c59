"""A flame graph of a clean run of ours, driver and workers, sampled by py-spy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import web
from environments import as_typed
from peers import PROGRAMS, Task

__all__ = ["record"]


def record(folder: Path, rows: int) -> Path | None:
    """Return an SVG of where a run over *rows* images spends its time; None where py-spy may not look.

    Threads that wait are left out. Time in a library written in C is counted for the line of Python that called it.
    """
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        return None
    drawn = folder / "profile.svg"
    with web.http(folder, rows) as served:
        task = Task(urls=served.lists["urls"].path, rows=rows, out=folder / "out", pictures=served.pictures)
        command = [
            spy,
            "record",
            "--subprocesses",
            "--function",
            "--rate",
            "200",
            "--format",
            "flamegraph",
            "--output",
            str(drawn),
        ]
        ended = subprocess.run(
            [*command, "--", sys.executable, *PROGRAMS["ours"].command(task)],
            check=False,
            capture_output=True,
            text=True,
        )
    shutil.rmtree(folder / "out", ignore_errors=True)
    if ended.returncode or not drawn.exists():
        print(f"no profile: {ended.stderr.strip().splitlines()[-1:]}")
        return None
    drawn.write_text(as_typed(drawn.read_text(), folder))
    return drawn
