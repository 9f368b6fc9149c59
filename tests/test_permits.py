"""Permits that processes share, with processes."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from async_img2ds.errors import OptionsError
from async_img2ds.fetch.permits import Permits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHER = """
import sys
from pathlib import Path
from async_img2ds.fetch.permits import Permits
with Permits.open(lambda host: 2, Path(sys.argv[1])) as permits:
    print(permits.take("a.test"), permits.take("b.test"), flush=True)
    sys.stdin.read()
"""
# Asks a host of which there is one permit as a pacer does: again at once when a request has ended, else soon.
BUSY = """
import sys, time
from pathlib import Path
from async_img2ds.fetch.permits import Permits
with Permits.open(lambda host: 1, Path(sys.argv[1])) as permits:
    asked, end = 0, time.monotonic() + 3
    print("ready", flush=True)
    while time.monotonic() < end:
        if permits.take("a.test"):
            asked += 1
            time.sleep(0.01)
            permits.give_back("a.test")
        else:
            time.sleep(0.05)
    print(asked, flush=True)
"""


@contextmanager
def permits_of(limit: int | None, folder: Path) -> Iterator[Permits]:
    with Permits.open(lambda host: None if host == "free.test" else limit, folder) as permits:
        assert permits is not None
        yield permits


def test_permits_are_shared_and_come_back_when_a_process_dies(tmp_path: Path) -> None:
    """No more than there are, each host by itself; whoever is killed gives back what it had."""
    with (
        permits_of(2, tmp_path) as permits,
        subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdin=-1, stdout=-1, text=True) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "True True\n"

        assert [permits.take("a.test") for _ in range(3)] == [True, False, False]
        permits.give_back("a.test")
        assert [permits.take("a.test") for _ in range(2)] == [True, False]
        assert all(permits.take("free.test") for _ in range(9))
        permits.give_back("free.test")
        other.kill()
        other.wait()

        assert [permits.take("a.test") for _ in range(2)] == [True, False]
        assert [permits.take("c.test") for _ in range(3)] == [True, True, False]


def test_processes_take_turns(tmp_path: Path) -> None:
    """None has a host for itself because it was there first."""
    command = [sys.executable, "-c", BUSY, str(tmp_path)]
    with (
        subprocess.Popen(command, stdout=-1, text=True) as one,
        subprocess.Popen(command, stdout=-1, text=True) as other,
    ):
        asked = [int(process.communicate()[0].split()[1]) for process in (one, other)]

    assert min(asked) >= 5


def test_line_is_left_by_those_who_want_nothing_any_more(tmp_path: Path) -> None:
    """Or others would leave permits to nobody."""
    now = time.monotonic()
    with permits_of(1, tmp_path) as permits:
        permits._clock = lambda: now
        assert permits.take("a.test")
        assert not permits.take("a.test")
        assert permits._in_line
        now += 1
        assert permits.take("b.test")
        assert not permits._in_line


def test_file_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    """Before anything is asked."""
    with permits_of(1, tmp_path):
        [made] = tmp_path.iterdir()
    made.unlink()
    made.symlink_to("/etc/hosts")

    with pytest.raises(OptionsError, match="max_per_host"), permits_of(1, tmp_path):
        pass
