"""Seeing worker processes from outside, through /proc."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def workers_of(pid: int) -> list[int]:
    """Return the worker processes that *pid* has started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        return [child for child in children if b"distributors.local" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except (FileNotFoundError, ProcessLookupError):  # one has ended meanwhile
        return []


def is_alive(pid: int) -> bool:
    """Whether *pid* is there and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Return as soon as *condition* holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def below(pid: int, name: str) -> list[int]:
    """Return the processes called *name* that *pid* has started, or that those have."""
    found: list[int] = []
    for child in _children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [child] if Path(f"/proc/{child}/comm").read_text().strip() == name else []
        found += below(child, name)
    return found


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []
