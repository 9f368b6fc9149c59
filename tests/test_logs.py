"""What a command says, to programs or to nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def fetched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "urls.txt").write_text("ftp://a.example/1.jpg\n\n")
    command = [sys.executable, "-m", "async_img2ds", "fetch", "urls.txt", "--processes_count", "1", "--retries", "0"]
    return subprocess.run([*command, *words], check=False, capture_output=True, text=True, cwd=folder)


def test_everything_is_json_for_programs(tmp_path: Path) -> None:
    """Each line is an object: warnings and progress on standard error, the report on standard output."""
    done = fetched(tmp_path, "--log_format", "json", "--optout", "none")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    (end,) = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0
    assert {each["event"] for each in told} == {"log", "progress_end"}
    assert any("optout" in each["message"] for each in told if each["event"] == "log")
    assert (end["event"], end["count"], end["complete"]) == ("end", 2, True)
    assert end["error_classes"] == {"url_invalid": 1, "url_scheme": 1}


def test_quiet_says_nothing_unless_something_is_wrong(tmp_path: Path) -> None:
    """Neither progress nor a summary; what needs attention is said all the same."""
    well = fetched(tmp_path, "--quiet")
    refused = fetched(tmp_path, "--quiet", "--image_size", "11", "--output_format", "parquet")

    assert (well.returncode, well.stdout) == (0, "")
    assert "images/s" not in well.stderr
    assert refused.returncode == 2
    assert "image_size" in refused.stderr


def test_verbose_says_when_a_shard_is_done(tmp_path: Path) -> None:
    """A line for each."""
    done = fetched(tmp_path, "--verbose", "--number_sample_per_shard", "1")

    assert (
        sum(line.startswith("shard ") and " is done: 0 of 1 images" in line for line in done.stderr.splitlines()) == 2
    )
