"""Processes of the program's own start without what they do not need, and leave nothing changed for others."""

from __future__ import annotations

import subprocess
import sys

from async_img2ds.distributors import local

SCRIPT = """
import gc, os, sys
from async_img2ds import startup
startup.begin()
import numpy
assert not os.path.exists("/proc/self/task") or len(os.listdir("/proc/self/task")) == 1
startup.keep_pandas_out()
import pyarrow as pa
assert pa.array(["a"]).to_pylist() == ["a"]
assert "pandas" not in sys.modules
before = list(sys.meta_path)
startup.settle()
assert gc.isenabled() and gc.get_freeze_count() > 1000
import pandas
assert pa.table({"x": [1]}).to_pandas()["x"].tolist() == [1]
startup.keep_pandas_out()
assert sys.meta_path == before
"""


def test_pandas_is_not_imported_for_an_array_and_can_be_imported_after() -> None:
    """Arrow looks for it at its first array, and takes it where somebody else imports it.

    Nor are threads started for linear algebra.
    """
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_a_worker_begins_without_pandas() -> None:
    """It is half a second of each worker's start. One that is told nothing ends at once."""
    script = (
        f"import sys, {local.__name__} as l\n"
        "sys.argv = ['', str(l.record_file())]\n"
        "try: l.child()\n"
        "except EOFError: sys.exit(40 + ('pandas' in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", script], input=b"", check=False).returncode == 40
