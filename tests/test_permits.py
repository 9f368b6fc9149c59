"""Permits that processes share, with processes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from async_img2ds.fetch.permits import Permits

if TYPE_CHECKING:
    from pathlib import Path

OTHER = """
import sys
from pathlib import Path
from async_img2ds.fetch.permits import Permits
with Permits.open(lambda host: 2, Path(sys.argv[1])) as permits:
    print(permits.take("a.test"), permits.take("b.test"), flush=True)
    sys.stdin.read()
"""


def test_permits_are_shared_and_come_back_when_a_process_dies(tmp_path: Path) -> None:
    """No more than there are, each host by itself; whoever is killed gives back what it had."""
    with (
        Permits.open(lambda host: None if host == "free.test" else 2, tmp_path) as permits,
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


def test_no_file_is_made_for_permits_that_nobody_needs(tmp_path: Path) -> None:
    """Most runs need none."""
    with Permits.open(lambda _: None, tmp_path) as permits:
        assert permits.take("a.test")
        permits.give_back("a.test")

    assert not list(tmp_path.iterdir())
