"""Pauses that all processes know of."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from async_img2ds.fetch.pauses import Pauses

if TYPE_CHECKING:
    from pathlib import Path

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
        assert not pauses.is_paused("a.test")
        subprocess.run([sys.executable, "-c", OTHER, str(tmp_path)], check=True)

        assert pauses.is_paused("a.test")
        assert not pauses.is_paused("b.test")
        pauses.pause("a.test", 1)
        now = pauses._clock()
        pauses._clock = lambda: now + 29
        assert pauses.is_paused("a.test")
        pauses._clock = lambda: now + 31
        assert not pauses.is_paused("a.test")


def test_without_a_table_each_process_knows_its_own(tmp_path: Path) -> None:
    """It is no reason not to run."""
    with Pauses.open(tmp_path / "no such folder") as pauses:
        assert pauses is None
