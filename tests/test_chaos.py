"""A short part of each kind of harm, with seeds of its own; ``nox -s chaos`` does all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import inspection
import power
from async_img2ds.storage import LocalStore

CHAOS = Path(__file__).parent / "chaos" / "chaos.py"
needs_store = pytest.mark.skipif(find_spec("moto") is None or find_spec("s3fs") is None, reason="needs moto and s3fs")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def chaos(*words: str) -> str:
    """Run the harness as a program, and return what it says."""
    folders = [str(CHAOS.parents[2] / name) for name in ("benchmarks", "tests")]
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), *folders])
    command = [sys.executable, str(CHAOS), *words]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    return ran.stdout.splitlines()[-1]


def test_runs_that_are_killed_lose_no_row() -> None:
    """Workers, parent and group are killed at random; each time what is committed is whole, and all at the end."""
    assert chaos("--parts", "kills", "--seeds", "2", "--first_seed", "100", "--rows", "400") == (
        "0 of 0 points, 2 of 2 seeds, 0 rows lost, 0 rows twice"
    )


@needs_strace
def test_run_that_is_killed_in_a_commit_loses_no_row() -> None:
    """Everything dies at one of the calls by which a shard gets on disk, and the same command goes on."""
    words = ["--parts", "points", "--formats", "webdataset,files", "--calls", "fsync,sync,rename", "--points", "3"]

    assert chaos(*words) == "6 of 6 points, 0 of 0 seeds, 0 rows lost, 0 rows twice"


@needs_strace
def test_call_that_fails_in_a_commit_loses_no_row() -> None:
    """A full disk, a broken one and too few descriptors cost a second try or an honest status, and no row a thing."""
    said = chaos("--parts", "faults", "--formats", "webdataset", "--calls", "fsync,write,rename", "--points", "1")

    assert said.endswith("0 of 0 seeds, 0 rows lost, 0 rows twice")


def test_loss_of_power_in_a_commit_leaves_nothing_false() -> None:
    """In no state that a disk may be found in does a shard count as finished that is not whole."""
    assert chaos("--parts", "power", "--states", "2").endswith("0 of 0 seeds, 0 rows lost, 0 rows twice")


@needs_store
def test_uploads_that_fail_leave_nothing_false() -> None:
    """Requests to an object store fail, or seem to, or kill the run; the end is as if nothing had happened."""
    assert chaos("--parts", "objects", "--seeds", "1", "--first_seed", "10") == (
        "0 of 0 points, 1 of 1 seeds, 0 rows lost, 0 rows twice"
    )


def test_known_mistakes_are_caught() -> None:
    """Versions of the program that sync too little or publish in another order do not pass."""
    assert chaos("--parts", "mutants", "--caught_by", "power").endswith("9 of 9 mutants caught")


@needs_store
def test_killed_run_leaves_no_part_of_an_upload(tmp_path: Path) -> None:
    """When the same command has ended well, no parts are pending in the bucket, and no files among temporary ones."""
    import objects  # needs moto

    assert objects.killed_while_uploading(tmp_path).defects == ()


@needs_strace
def test_replacement_that_is_killed_leaves_the_old_shard_or_the_new_one() -> None:
    """At whatever call by which one takes the place of the other."""
    words = ["--parts", "retries", "--formats", "webdataset,files", "--calls", "rename,unlink,rmdir", "--points", "2"]

    assert chaos(*words) == "8 of 8 points, 0 of 0 seeds, 0 rows lost, 0 rows twice"


@pytest.mark.parametrize("output_format", ["webdataset", "parquet", "files", "tfrecord"])
def test_a_changed_byte_is_seen(output_format: str, tmp_path: Path) -> None:
    """The eyes of the harness see one that is another in the data of a shard, and nothing wrong before."""
    power._write(LocalStore(tmp_path), output_format, "told")
    contents = inspection.contents_of(tmp_path)
    name = max((name for name in contents if "_stats" not in name), key=lambda name: len(contents[name]))
    changed = bytearray(contents[name])
    changed[len(changed) // 2] ^= 1

    assert inspection.inspect(contents).defects == ()
    assert inspection.inspect({**contents, name: bytes(changed)}).defects
