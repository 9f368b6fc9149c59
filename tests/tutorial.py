"""The tutorial, walked through as a reader would: its files written, its commands run in a shell, its output compared.

``python tests/tutorial.py`` does it in the environment of that Python.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).parents[1] / "docs" / "tutorial.md"
# On which the page serves pictures; another may be free here.
PORT: Final = "8000"

_BLOCK: Final = re.compile(r"^```(sh|text|python)(?: title=\"(\S+)\")?\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_END: Final = "end of step"


@dataclass
class Step:
    """What the reader types, and what then is shown at least."""

    typed: str
    shown: tuple[str, ...] = ()
    output: str = ""
    status: int = 0

    def lacks(self) -> list[str]:
        """Return the lines that should be shown and were not, in their order; … stands for anything."""
        lines = iter(self.output.splitlines())
        return [line for line in self.shown if not any(_fits(line, said) for said in lines)]


def _fits(line: str, said: str) -> bool:
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
    return re.fullmatch(r"\s*" + ".*".join(parts) + r"\s*", said) is not None


def walk(folder: Path) -> list[Step]:
    """Do in *folder* what the page says; return each step with what came of it."""
    page = PAGE.read_text().replace(PORT, str(_free_port()))
    steps = list(_steps(page, folder))
    script = "".join(f"{step.typed}\necho\necho '{_END}' $?\n" for step in steps)
    # With monitoring %1 is the server; a terminal has it by itself. Where a step before it fails, it is ended, too.
    shell = ["bash", "-m", "-c", f"trap 'kill $(jobs -p) 2> /dev/null' EXIT\n{{ {script} }} 2>&1"]
    # As after activating the environment, in a terminal of 80 columns.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80"}
    ran = subprocess.run(shell, check=False, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    parts = re.split(rf"^{_END} (\d+)\n", ran.stdout, flags=re.MULTILINE)
    for step, output, status in zip(steps, parts[::2], parts[1::2], strict=False):
        step.output, step.status = output, int(status)
    return steps


def _steps(page: str, folder: Path) -> Iterator[Step]:
    """Yield what is to be run, but for installing, which whoever runs this has done; write the files."""
    step: Step | None = None
    for kind, name, text in _BLOCK.findall(page):
        if kind == "python":
            (folder / name).write_text(text)
        elif kind == "sh":
            if step is not None:
                yield step
            step = None if "pip install" in text else Step(text.rstrip())
        elif step is not None and not text.startswith("aimg2ds"):
            step.shown = tuple(text.splitlines())
    if step is not None:
        yield step


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert isinstance(port, int)
        return port


def main() -> int:
    """Walk, and say what is not as the page has it; return how many steps that is."""
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        steps = walk(Path(folder))
    wrong = [step for step in steps if step.status or step.lacks()]
    for step in wrong:
        sys.stdout.write(f"$ {step.typed}\n{step.output}\nstatus {step.status}; not there: {step.lacks()}\n\n")
    sys.stdout.write(f"{len(steps) - len(wrong)} of {len(steps)} steps of the tutorial are as it says\n")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
