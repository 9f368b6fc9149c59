"""The command line: how it is typed, what it refuses, and its exit status."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import async_img2ds.cli
from async_img2ds.cli.outcome import say
from async_img2ds.cli.spelling import Spelling, joined
from async_img2ds.hints import FASTER
from async_img2ds.options import POSITIONAL, flags
from origin import free_port

if TYPE_CHECKING:
    from origin import Origin

FLAGS = {flag.name: flag for flag in flags()}


def aimg2ds(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "async_img2ds", *arguments], check=False, capture_output=True, text=True, cwd=cwd
    )


def test_what_the_run_waited_for_is_explained_on_request(origin: Origin, tmp_path: Path) -> None:
    """Each limit with its share and what would help; shares make up the whole."""
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url('rocket.jpg')}?{number}\n" for number in range(40)))
    words = ["fetch", "urls.txt", "--output_folder", "out", "--allow_net", "127.0.0.0/8", "--explain"]
    said = aimg2ds(*words, cwd=tmp_path).stdout.splitlines()

    begin = said.index("limited by, and faster with:")
    told = [line for line in said[begin + 1 :] if line.startswith("  ")]
    assert 99 <= sum(int(share) for line in told for share in re.findall(r"(\d+)%", line)) <= 101
    assert all(any(line.endswith(advice) for advice in FASTER.values()) for line in told)


def test_summary_says_what_came_of_it_and_why_not(origin: Origin, tmp_path: Path) -> None:
    """Counts, each reason with a hint, and where the dataset is."""
    (tmp_path / "urls.txt").write_text(
        "\n".join([origin.url("rocket.jpg"), origin.url("no-such.jpg"), "http://10.0.0.1/x.jpg"])
    )
    done = aimg2ds("fetch", "urls.txt", "--allow_net", "127.0.0.0/8", "--output_folder", "out", cwd=tmp_path)

    assert done.returncode == 0
    assert "1 of 3 images" in done.stdout
    assert "http_status_4xx" in done.stdout
    assert "--allow_net opens networks of yours" in done.stdout
    assert "dataset: out" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["urls.txt", "--resize_mode", "squash"], ["resize_mode", "keep_ratio", "squash"]),
        (["urls.txt", "--image_size", "big"], ["image_size", "whole number", "big"]),
        (["urls.txt", "--encode_format", "png"], ["encode_quality", "png", "0 to 9", "95"]),
        (["urls.txt", "--allow_net", "everything"], ["allow_net", "127.0.0.0/8", "everything"]),
        # A protection is not switched off by a value that was forgotten, as that of a variable that nobody set.
        (["urls.txt", "--disallowed_header_directives"], ["disallowed_header_directives", "a list", "[]"]),
        (["urls.txt", "--disallowed_header_directives="], ["disallowed_header_directives", "a list", "[]"]),
        (["urls.csv", "--input_format=csv", "--verify_hash", "[]"], ["verify_hash", "a column and a kind of hash"]),
        (["urls.txt", "--nonsense", "1"], ["--nonsense"]),
        (["urls.txt", "--image_sise", "1"], ["--image_sise", "image_size"]),
        (["no-such.txt"], ["url_list", "no-such.txt", "does not exist"]),
        (["urls.csv", "--input_format", "csv", "--url_col", "link"], ["url_col", "'link'", "url, text"]),
        (["urls.csv", "--input_format", "csv", "--caption_col", "words"], ["caption_col", "'words'", "url, text"]),
        (["urls.csv", "--input_format", "parquet"], ["url_list", "urls.csv", "parquet"]),
        (["urls.csv.gz"], ["urls.csv.gz", "is a parquet file", "--input_format parquet"]),
        (["urls.txt,urls.csv"], ["url_list", "urls.txt,urls.csv", "does not exist"]),
        (['["urls.txt","no-such.txt"]'], ["url_list", "no-such.txt", "does not exist"]),
        (["urls.txt", "--output_folder", "urls.csv/out"], ["output_folder", "urls.csv/out"]),
        (["urls.txt", "--output_folder", "nosuch://bucket/out"], ["nosuch"]),
        (["empty"], ["url_list", ".txt", "empty"]),
        ([], ["URL_LIST"]),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """Exit 2, the option and what it accepts, no traceback, and nothing created."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    (tmp_path / "urls.csv").write_text("url,text\nhttp://x.test/,x\n")
    (tmp_path / "urls.csv.gz").write_bytes(b"PAR1" + bytes(100))
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = aimg2ds("fetch", *arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert all(word in _joined(done.stderr) for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("said", ['["a.txt","b,c.txt.gz"]', "*.txt*"], ids=["list", "pattern"])
def test_several_lists_are_one_argument(tmp_path: Path, said: str) -> None:
    """A list of paths in brackets, or a pattern in quotes; a comma is part of a name."""
    (tmp_path / "a.txt").write_text("http://10.0.0.1/1.jpg\nhttp://10.0.0.1/2.jpg\n")
    (tmp_path / "b,c.txt.gz").write_bytes(gzip.compress(b"http://10.0.0.1/3.jpg\n"))
    done = aimg2ds("fetch", said, "--output_format", "dummy", "--shard_across_files", cwd=tmp_path)

    assert done.returncode == 0
    assert "0 of 3 images" in done.stdout
    assert "shards: 1 done" in done.stdout


def test_lost_shard_is_exit_status_3(origin: Origin, tmp_path: Path) -> None:
    """A run that could not commit everything does not look like one that could."""
    (tmp_path / "urls.txt").write_text(origin.url("rocket.jpg"))
    (tmp_path / "images" / "00000.parquet" / "in-the-way").mkdir(parents=True)
    done = aimg2ds("fetch", "urls.txt", "--allow_net", "127.0.0.0/8", cwd=tmp_path)

    assert done.returncode == 3
    assert "1 LOST" in done.stdout
    assert "shard 0: StorageError" in done.stdout


def test_list_at_a_server_that_does_not_answer_is_exit_status_3(tmp_path: Path) -> None:
    """Whoever starts it again, as Kubernetes does, need not give it up as one that was refused."""
    done = aimg2ds("fetch", f"http://127.0.0.1:{free_port()}/urls.txt", cwd=tmp_path)

    assert done.returncode == 3
    assert re.search(r"aimg2ds: url_list: http://127\.0\.0\.1:\d+/urls\.txt cannot be read now: .*onnect", done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_option_is_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its flag and its help text there."""
    monkeypatch.setenv("COLUMNS", "200")
    shown = aimg2ds("fetch", "--help").stdout

    for flag in flags():
        assert (flag.name.upper() if flag.required else f"--{flag.name}") in shown


def test_version_is_shown() -> None:
    """For bug reports."""
    assert aimg2ds("--version").stdout.startswith("aimg2ds 0.")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--resize_only_if_bigger"], ["--resize_only_if_bigger=True"]),
        (["--resize-only-if-bigger", "--timeout", "3"], ["--resize_only_if_bigger=True", "--timeout=3"]),
        (["--resize_only_if_bigger", "False"], ["--resize_only_if_bigger=False"]),
        (["--resize_only_if_bigger=True"], ["--resize_only_if_bigger=True"]),
        (["--noresize_only_if_bigger"], ["--resize_only_if_bigger=False"]),
        (["--resize_only_if_bigger", "my-list.txt"], ["--resize_only_if_bigger=True", "--", "my-list.txt"]),
        (["--image-size=384"], ["--image_size=384"]),
        (["-image_size", "384"], ["--image_size=384"]),
        (["--caption_col", "-text"], ["--caption_col=-text"]),
        (["--timeout", "--retries", "2"], ["--timeout=", "--retries=2"]),
        (["my-list.txt", "--output-folder", "my-out"], ["--output_folder=my-out", "--", "my-list.txt"]),
        (["--output-folder", "my-out", "my-list.txt"], ["--output_folder=my-out", "--", "my-list.txt"]),
        (["--no-such-flag"], ["--no-such-flag"]),
        (["--url_list=my-list.txt", "--timeout=3"], ["--timeout=3", "--", "my-list.txt"]),
        (["--url-list", "my-list.txt"], ["--", "my-list.txt"]),
        (["my-list.txt", "384", "my-out"], ["--image_size=384", "--output_folder=my-out", "--", "my-list.txt"]),
        (
            ["my-list.txt", "my-out", "--image_size=9"],
            ["--image_size=9", "--output_folder=my-out", "--", "my-list.txt"],
        ),
        (["--", "-my-list.txt"], ["--", "-my-list.txt"]),
    ],
)
def test_flags_are_typed_in_several_ways(typed: list[str], meant: list[str]) -> None:
    """All that Python Fire reads for img2dataset, and hyphens in values are never touched."""
    assert Spelling(tuple(flags()), POSITIONAL).in_one_spelling(typed) == meant


@pytest.mark.parametrize(
    ("words", "list_meant"),
    [
        (['["a","b"]'], ["a", "b"]),
        (["a,b"], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        (["[]"], []),
        (['["a","b"]', "c"], ["a", "b", "c"]),
        (["127.0.0.0/8,10.0.0.0/8", "[::1]:80"], ["127.0.0.0/8", "10.0.0.0/8", "[::1]:80"]),
    ],
)
def test_list_options_may_be_repeated(words: list[str], list_meant: list[str]) -> None:
    """Once with a list, or several times with an item each."""
    assert joined(FLAGS["allow_net"], words) == list_meant


def test_none_is_not_the_empty_list() -> None:
    """For the opt-out directives None means the defaults, and only [] turns the check off."""
    assert joined(FLAGS["disallowed_header_directives"], ["None"]) is None
    assert joined(FLAGS["disallowed_header_directives"], ["[]"]) == []


def test_without_an_image_library_the_two_lines_are_said(tmp_path: Path) -> None:
    """An environment with neither Pillow learns which of two lines to type."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    script = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'PIL' else find(name, *rest)\n"
        "from async_img2ds.cli import app\n"
        "app(['fetch', 'urls.txt'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=tmp_path)

    assert done.returncode == 2
    assert "pip install 'async-img2ds[simd]'" in done.stderr
    assert "pip install 'async-img2ds[pillow]'" in done.stderr


def _joined(boxed: str) -> str:
    """Return the words of a message that was folded into a box."""
    return " ".join(boxed.replace("│", " ").split())


def test_passwords_in_urls_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of folders nor of lists; Azure's container stands in the same place, and is none."""
    say('dataset: ssh://me:secret@host/x, list: https://a%40b:secret@host, {"url": "s3://secret@b"}')
    say("dataset: abfss://container@account.dfs.core.windows.net/x, abfs://me:secret@account", err=True)
    said = capsys.readouterr()

    assert said.out == 'dataset: ssh://host/x, list: https://host, {"url": "s3://b"}\n'
    assert said.err == "dataset: abfss://container@account.dfs.core.windows.net/x, abfs://account\n"


def test_commands_print_by_nothing_else() -> None:
    """So what one of them is told to print has no passwords in it, whatever it is."""
    printing = re.compile(r"\b(?:echo|secho|print)\(|std(?:out|err)\.write\(")
    folder = Path(async_img2ds.cli.__file__).parent
    found = {path.name for path in folder.rglob("*.py") if printing.search(path.read_text())}

    assert found == {"outcome.py"}


def test_help_shows_what_stands_in_brackets() -> None:
    """Lists of values are no markup."""
    told = " ".join(aimg2ds("fetch", "--help").stdout.replace("│", " ").split())

    assert "[x_min, y_min, x_max, y_max]" in told
