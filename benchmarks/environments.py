"""A virtual environment below .nox for each program whose requirements are at odds with ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_typed", "commit", "environment", "python_of", "versions_in"]

ROOT: Final = Path(__file__).parent.parent
NOX: Final = ROOT / ".nox"


def environment(name: str, requirements: Sequence[str], pythons: Sequence[str] = ()) -> Path:
    """Return the folder of programs of environment *name*, in which *requirements* are; made the first time.

    Args:
        name: what its folder is called.
        requirements: what pip is asked for.
        pythons: the versions of Python that will do, the best first; any, if there are none.

    """
    folder = NOX / name
    done = folder / "requirements.json"
    wanted = json.dumps(list(requirements))
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {' '.join(requirements)} into {folder}", flush=True)
        subprocess.run([_python(pythons), "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *requirements], check=True)
        done.write_text(wanted)
    return folder / "bin"


def python_of(programs: Path) -> str:
    """Return the version of Python in a folder of programs: figures differ by it."""
    said = subprocess.run([str(programs / "python"), "--version"], check=True, capture_output=True, text=True)
    return said.stdout.split()[1]


def versions_in(programs: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the version of Python and of each of *packages* in a folder of programs."""
    asked = "import sys, importlib.metadata as m; print(*(m.version(name) for name in sys.argv[1:]))"
    said = subprocess.run(
        [str(programs / "python"), "-c", asked, *packages], check=True, capture_output=True, text=True
    )
    return {"python": python_of(programs), **dict(zip(packages, said.stdout.split(), strict=True))}


def commit() -> str:
    """Return which state of the sources this is, with a "+" if files were changed since; nothing without git."""
    asked = ["git", "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def as_typed(text: str, folder: Path) -> str:
    """Return *text* as one would type it in this repository: no paths of this machine, OUT for the passing *folder*."""
    places = {f"{folder}": "OUT", f"{Path(sys.executable).parent}/": "", f"{ROOT}/": ""}
    for place, name in places.items():
        text = text.replace(place, name)
    return text


def _python(wanted: Sequence[str]) -> str:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not wanted or own in wanted:
        return sys.executable
    for version in wanted:
        if found := shutil.which(f"python{version}"):
            return found
    raise RuntimeError(f"none of Python {', '.join(wanted)} is installed")
