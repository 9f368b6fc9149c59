"""A machine looked at: by real name servers, disks and memory; and what is wrong shows in the exit status."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import origin as origin_server
from async_img2ds import InputError, doctor
from async_img2ds.checkup.libraries import extras_installed
from async_img2ds.checkup.machine import free_memory
from async_img2ds.checkup.names import hosts_in
from async_img2ds.options import InputOptions
from async_img2ds.policy.findings import Verdict
from lists import written
from test_cli import aimg2ds
from test_no_ipv6 import isolated

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.policy.findings import Finding


def finding(subject: str, *values: Any, **options: Any) -> Finding:
    return next(one for one in doctor(*values, **{"names": [], **options}).findings if one.subject == subject)


def test_names_are_looked_up_as_a_run_does(dns: str) -> None:
    """Those that are there, those that are not, and those of which nobody tells, each counted by itself."""
    names = ["pictures.example.test", "mixed.example.test", "no.such.test", "broken.failing.test"]
    found = finding("DNS", names=names, dns_servers=dns)

    assert found.said.startswith(f"2 of 4 names found (names that are there for it), by {dns}: 1 do not exist, 1 ")
    assert "p95" in found.said
    assert found.verdict is Verdict.ADVICE


def test_hosts_of_a_list_are_looked_up(dns: str, tmp_path: Path) -> None:
    """Each once, addresses left out."""
    urls = (
        "http://pictures.example.test/1\nhttp://pictures.example.test/2\nhttp://mixed.example.test/\nhttp://8.8.8.8/\n"
    )
    path = written(tmp_path / "urls.txt", urls.encode())

    assert sorted(hosts_in(InputOptions(url_list=(str(path),)))) == ["mixed.example.test", "pictures.example.test"]
    assert finding("DNS", path, dns_servers=dns).said.startswith("2 of 2 names found (hosts of the list)")


def test_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """As by any command."""
    with pytest.raises(InputError, match="does not exist"):
        doctor(tmp_path / "no-such.txt", names=[])


def test_no_name_server_is_a_problem_and_no_crash() -> None:
    """Status 1, what to do, no traceback."""
    nobody = f"127.0.0.1:{origin_server.free_port()}"
    began = time.monotonic()
    done = aimg2ds("doctor", "--dns_servers", nobody, "--names", "a.test,b.test")

    assert done.returncode == 1
    assert "no name server answers" in " ".join(done.stdout.split())
    assert done.stderr == ""
    assert time.monotonic() - began < 30


def test_machine_off_line_is_told(tmp_path: Path) -> None:
    """In a network namespace from which nothing leads away, as a program reads it."""
    if isolated("true").returncode:
        pytest.skip("this user may not make a network namespace")
    words = (sys.executable, "-m", "async_img2ds", "doctor", "--names", "[]", "--json")
    done = isolated(*words, "--output_folder", str(tmp_path))
    told = json.loads(done.stdout)

    assert done.returncode == 1, done.stderr
    assert [one["subject"] for one in told["findings"] if one["verdict"] == "problem"] == ["network"]
    assert told["problems"] == 1


def test_disks_are_measured_and_left_as_they_were(tmp_path: Path) -> None:
    """An output folder that is not there yet is looked at where it would be made, and is not made."""
    found = finding("output", output_folder=str(tmp_path / "a" / "b"))

    assert found.said.startswith(f"{tmp_path}: ")
    assert "MB/s" in found.said
    assert finding("temp", temp_folder=str(tmp_path)).said.startswith(f"{tmp_path}: ")
    assert list(tmp_path.iterdir()) == []


def test_output_folder_that_cannot_be_is_a_problem(tmp_path: Path) -> None:
    """Below a file, or at a place of which no file system is known."""
    written(tmp_path / "file", b"")

    assert finding("output", output_folder=str(tmp_path / "file" / "x")).verdict is Verdict.PROBLEM
    assert finding("output", output_folder="nosuch://bucket/x").verdict is Verdict.PROBLEM


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  3 kB\n"}, 3072),
        (
            {
                "proc/meminfo": "MemAvailable: 9000 kB\n",
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "700\n",
                "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 100\n",
            },
            400,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 9 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "700\n",
            },
            9216,
        ),
    ],
)
def test_free_memory_is_that_of_the_container_if_it_is_less(
    tmp_path: Path, files: dict[str, str], free: int | None
) -> None:
    """As the system's files tell it; copies of files that are in its memory are given up when it is short."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    assert free_memory(tmp_path) == free


def test_extras_are_told_by_their_package() -> None:
    """As metadata name them; the image libraries, of which one is always there, are told elsewhere."""
    requirements = ["pyarrow>=17", "pytest>=1; extra == 's3'", 'no-such-package; extra == "gcs"', "x; extra == 'simd'"]

    assert extras_installed(requirements) == (["s3"], ["gcs"])


def test_help_names_what_can_be_asked() -> None:
    """Of a fetch's options those that matter to a machine, and the list without a name."""
    done = subprocess.run(
        [sys.executable, "-m", "async_img2ds", "doctor", "--help"], check=True, capture_output=True, text=True
    )

    assert all(f"--{name}" in done.stdout for name in ("url_list", "dns_servers", "names", "output_folder", "json"))
    assert "--image_size" not in done.stdout
