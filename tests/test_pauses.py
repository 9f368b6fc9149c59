"""Pauses that all processes know of."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from async_img2ds.fetch.pauses import Pauses

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

OTHER = """
import sys
from pathlib import Path
from async_img2ds.fetch.pauses import Pauses
with Pauses.open(Path(sys.argv[1])) as pauses:
    pauses.pause("a.test", 30)
"""


def test_what_one_process_is_told_all_know(tmp_path: Path) -> None:
    """Of that host, for that time; a shorter pause takes nothing from a longer one."""
    with Pauses.open(tmp_path) as pauses:
        assert pauses is not None
        assert pauses.left_s("a.test") == 0
        subprocess.run([sys.executable, "-c", OTHER, str(tmp_path)], check=True)

        assert 25 < pauses.left_s("a.test") <= 30
        assert pauses.left_s("b.test") == 0
        pauses.pause("a.test", 1)
        now = pauses._clock()
        pauses._clock = lambda: now + 29
        assert 0 < pauses.left_s("a.test") <= 1
        pauses._clock = lambda: now + 31
        assert pauses.left_s("a.test") == 0


def test_pause_that_a_wrong_clock_has_written_is_none(tmp_path: Path) -> None:
    """Or a host would not be asked for a day; the next one that is asked for counts again."""
    with Pauses.open(tmp_path) as pauses:
        assert pauses is not None
        now = pauses._clock()
        pauses._clock = lambda: now + 86_400
        pauses.pause("a.test", 30)
        pauses._clock = lambda: now
        assert pauses.left_s("a.test") == 0
        pauses.pause("a.test", 5)

        assert 0 < pauses.left_s("a.test") <= 5


def test_full_disk_is_no_reason_to_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with holes would kill whoever writes to it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with Pauses.open(tmp_path) as pauses:
        assert pauses is None
    monkeypatch.undo()
    with Pauses.open(tmp_path) as pauses:
        assert pauses is not None
    [table] = tmp_path.iterdir()
    assert table.stat().st_blocks * 512 >= table.stat().st_size


def test_without_a_table_each_process_knows_its_own(tmp_path: Path) -> None:
    """It is no reason not to run."""
    with Pauses.open(tmp_path / "no such folder") as pauses:
        assert pauses is None
