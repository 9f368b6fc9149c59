"""Run one command and see what it takes: CPU of its whole process tree, wall time, the peak memory of each process."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Run", "run"]

# Looking at every process of the machine takes milliseconds; at this pace it is a hundredth of a core.
SAMPLE_S: Final = 0.4
SOON_S: Final = 0.05
# Of what a program says, these many last lines are kept.
LINES_KEPT: Final = 60


@dataclass
class Run:
    """What was seen of one run. Memory is resident set size, in bytes.

    Attributes:
        command: what was run.
        started: when, as a Unix time in seconds.
        summary: the end of what it said.
        waits: how often a thread of its whole process tree gave up its core to wait: for a socket, for another thread,
            or for the interpreter's lock to be handed over.
        driver_rss_bytes: the memory of the first process over time, in pairs of seconds and bytes.

    """

    command: list[str]
    started: float = 0.0
    exit_status: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    waits: int = 0
    driver_rss_bytes_max: int = 0
    worker_rss_bytes_max: int = 0
    driver_rss_bytes: list[tuple[float, int]] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, stop_after_s: float | None = None) -> Run:
    """Run *command* until it ends by itself, or is sent SIGTERM after *stop_after_s* seconds.

    Args:
        command: the program and its arguments.
        environment: variables to set beside those there are.
        stop_after_s: when to have had enough, if ever.

    """
    print("$", " ".join(command), flush=True)
    seen = Run(list(command))
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        seen.started, began = time.time(), time.monotonic()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        ) as process:
            watch = _Watch(seen, process.pid)
            watch.start()
            stop = threading.Timer(stop_after_s or 0, os.kill, (process.pid, signal.SIGTERM))
            if stop_after_s is not None:
                stop.start()
            # Not by Popen, which forgets what its child used. The figure has every descendant that was waited for.
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                os.kill(process.pid, signal.SIGTERM)  # or leaving the block would wait for all of its list
                stop.cancel()
                raise
            seen.wall_s = time.monotonic() - began
            process.returncode = seen.exit_status = os.waitstatus_to_exitcode(status)
            stop.cancel()
            watch.end()
        said.seek(0)
        seen.summary = said.read().splitlines()[-LINES_KEPT:]
    seen.waits = usage.ru_nvcsw
    # Both fall short: one of what nobody waited for, the other of what came after the last look.
    seen.cpu_s = max(usage.ru_utime + usage.ru_stime, watch.cpu_s())
    return seen


class _Watch(threading.Thread):
    """Looks at a process and all below it from time to time, and keeps what it sees in a Run."""

    def __init__(self, seen: Run, pid: int) -> None:
        super().__init__(name="watch", daemon=True)
        self._seen = seen
        self._pid = pid
        self._ended = threading.Event()
        self._cpu: dict[int, float] = {}

    def run(self) -> None:
        """Look until told to end."""
        began = time.monotonic()
        while True:
            second = time.monotonic() - began
            self._look(second)
            if self._ended.wait(min(SAMPLE_S, SOON_S + second / 4)):  # what is short is looked at more often
                return

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()

    def cpu_s(self) -> float:
        """Return the CPU seconds that all processes had used when they were last looked at."""
        return sum(self._cpu.values())

    def _look(self, second: float) -> None:
        try:
            driver = psutil.Process(self._pid)
            members = [driver, *driver.children(recursive=True)]
        except psutil.Error:
            return
        for member in members:
            try:
                times, rss = member.cpu_times(), member.memory_info().rss
                peak = max(rss, _peak_rss_bytes(member.pid))
            except (psutil.Error, OSError):
                continue
            self._cpu[member.pid] = times.user + times.system
            if member.pid == self._pid:
                self._seen.driver_rss_bytes_max = max(self._seen.driver_rss_bytes_max, peak)
                self._seen.driver_rss_bytes.append((round(second, 1), rss))
            else:
                self._seen.worker_rss_bytes_max = max(self._seen.worker_rss_bytes_max, peak)


def _peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process has had so far, which Linux keeps; 0 elsewhere."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines.get("VmHWM", "0 kB").split()[0]) * 1024
