"""A flame graph of a clean run of ours, driver and workers, sampled by py-spy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import web
from environments import as_typed
from peers import PROGRAMS, Task

__all__ = ["record"]

# On a busy machine py-spy and what it looks at have been seen to wait for each other for ever.
WITHIN_S: Final = 60
ROW_S: Final = 0.05
# How it heads the tower of a process: with its command, paths and all.
_COMMAND: Final = re.compile(r"(process \d+):&quot;[^<(]*")


def record(folder: Path, rows: int) -> Path | None:
    """Return an SVG of where a run over *rows* images spends its time; None where py-spy may not look.

    Time in a library written in C is counted for the line of Python that called it. Threads that wait are left out as
    far as py-spy knows that they do: of some, such as idle ones of a pool, it does not.
    """
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        return None
    drawn = folder / "profile.svg"
    watching = [spy, "record", "--subprocesses", "--function", "--rate", "200", "--format", "flamegraph"]
    with web.http(folder, rows) as served:
        task = Task(urls=served.lists["urls"].path, rows=rows, out=folder / "out", pictures=served.pictures)
        watched = [sys.executable, *PROGRAMS["ours"].command(task)]
        said = _end_in_time([*watching, "--output", str(drawn), "--", *watched], WITHIN_S + rows * ROW_S)
    if not drawn.exists():
        print(f"no profile: {said[-500:]}")
        return None
    drawn.write_text(_COMMAND.sub(r"\1 ", as_typed(drawn.read_text(), folder)))
    return drawn


def _end_in_time(command: list[str], seconds: float) -> str:
    """Run *command*, and end it with all it has started if it takes longer than *seconds*; return what it said."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"it did not end within {seconds:.0f} seconds"
