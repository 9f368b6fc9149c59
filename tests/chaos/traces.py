"""Calls of the system that a run makes on its output folder, and having one of them kill it or fail, by strace."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["CALLS", "Call", "Point", "command", "points", "read", "worker_script"]

# Those by which a file or a name comes, goes, or is put on disk.
CALLS: Final = (
    *("fsync", "fdatasync", "sync", "syncfs", "rename", "renameat", "renameat2", "link", "linkat"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "ftruncate", "openat", "write", "writev", "pwrite64"),
)
_LINE: Final = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_RESUMED: Final = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>")
_PATHS: Final = re.compile(r'"([^"]*)"|<([^<>]*)>')


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: in which thread, its name, the paths in it, and the line in which strace tells it."""

    thread: int
    name: str
    paths: tuple[str, ...]
    line: str

    @property
    def failed(self) -> bool:
        """Whether it was made to fail."""
        return "(INJECTED)" in self.line


@dataclass(frozen=True, slots=True)
class Point:
    """The call at which something goes wrong.

    Attributes:
        call: as it was when nothing went wrong.
        number: which by its name it is of those of its thread that concern *paths*, from 1.
        paths: all that were of concern.
        by_parent: whether it is made by the parent, and not by a worker.

    """

    call: Call
    number: int
    paths: frozenset[str]
    by_parent: bool

    def __str__(self) -> str:
        return f"{self.call.name} {self.number}{' of the parent' if self.by_parent else ''}"


def command(trace: Path, paths: Iterable[str] = (), fault: str = "", *, children: bool = True) -> list[str]:
    """Return what stands before a command to have its calls written to *trace*.

    Args:
        trace: the file.
        paths: only calls that concern one of these, if there are any.
        fault: what happens to a call, as strace's ``inject`` has it.
        children: whether those of the processes that it starts, too, or of its threads alone.

    """
    words = ["strace", "-f", "-y", "-qq", "-A", "-o", str(trace), "-e", f"trace={','.join(CALLS)}", "-e", "signal=none"]
    words += [] if children else ["--detach-on=execve"]
    # A filter in the kernel spares all other calls, but at the stops that it makes no signal is delivered.
    words += ["--seccomp-bpf"] if children and "signal=" not in fault else []
    words += [word for path in sorted(set(paths)) for word in ("-P", path)]
    return [*words, *(["-e", f"inject={fault}"] if fault else [])]


def worker_script(script: Path, before: Sequence[str]) -> Path:
    """Write a program that stands in for Python where workers are started, with *before* before it.

    If the worker is killed, it kills everything: a machine that goes down at that moment.
    """
    started = f'{shlex.join([*before, sys.executable])} "$@"'
    script.write_text(f"#!/bin/sh\n{started}\nstatus=$?\n[ $status -eq 137 ] && kill -KILL 0\nexit $status\n")
    script.chmod(0o755)
    return script


def read(trace: Path) -> list[Call]:
    """Return the calls in *trace*, in the order in which they were begun."""
    calls: list[Call] = []
    begun: dict[int, int] = {}
    for line in trace.read_text(errors="replace").splitlines() if trace.exists() else ():
        if found := _RESUMED.match(line):  # another thread's call was told between the two halves of this one
            at = begun.pop(int(found["thread"]))
            calls[at] = replace(calls[at], line=f"{calls[at].line} {line}")
        elif found := _LINE.match(line):
            thread = int(found["thread"])
            begun[thread] = len(calls)
            paths = tuple(quoted or told for quoted, told in _PATHS.findall(found["rest"]))
            calls.append(Call(thread, found["name"], paths, line))
    return calls


def points(calls: Iterable[Call], folder: Path, *, by_parent: bool) -> list[Point]:
    """Return the points of *calls* that concern *folder*."""
    concerned = [call for call in calls if call.name == "sync" or any(_is_in(path, folder) for path in call.paths)]
    paths = frozenset(path for call in concerned for path in call.paths if _is_in(path, folder))
    counted: Counter[tuple[int, str]] = Counter()
    found: dict[tuple[str, int], Point] = {}
    for call in concerned:
        counted[call.thread, call.name] += 1
        point = Point(call, counted[call.thread, call.name], paths, by_parent)
        found.setdefault((call.name, point.number), point)
    return list(found.values())


def _is_in(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}/")
