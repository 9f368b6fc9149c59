"""Options from a file and from the environment, and the file that a run leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from async_img2ds import Options, OptionsError, download
from async_img2ds.cli.spelling import Spelling, given
from async_img2ds.flags import flags_of
from async_img2ds.options import PLAN_GROUPS, POSITIONAL, flags
from async_img2ds.settings import in_environment, in_file, to_toml

if TYPE_CHECKING:
    from pathlib import Path

FETCH = Spelling(tuple(flags()), POSITIONAL)


def spelled(words: list[str], environment: dict[str, str]) -> dict[str, str]:
    """Return what each option is said to be, by its name; the argument is the list."""
    read = FETCH.in_one_spelling(words, environment)
    at = read.index("--")
    said = dict(word.removeprefix("--").split("=", 1) for word in read[:at])
    return {**said, "url_list": read[at + 1]}


def test_the_command_line_counts_more_than_the_environment_and_that_more_than_the_file(tmp_path: Path) -> None:
    """And what only the file says counts, too; so does a list that it names."""
    file = tmp_path / "run.toml"
    file.write_text(
        'url_list = "a.txt"\nimage_size = 1\nretries = 2\ntimeout = 3\nsave_additional_columns = ["a", "b"]\n'
    )
    said = spelled(["--image_size", "11", "--config", str(file)], {"AIMG2DS_IMAGE_SIZE": "22", "AIMG2DS_RETRIES": "4"})

    assert (said["url_list"], said["image_size"], said["retries"], said["timeout"]) == ("a.txt", "11", "4", "3")
    assert json.loads(said["save_additional_columns"]) == ["a", "b"]


def test_a_list_that_is_named_by_its_place_counts_more_than_the_environment() -> None:
    """What stands without a name is said on the command line, too."""
    assert spelled(["b.txt"], {"AIMG2DS_URL_LIST": "a.txt"})["url_list"] == "b.txt"


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    """As containers are told things."""
    file = tmp_path / "run.toml"
    file.write_text("image_size = 99\n")

    assert spelled(["b.txt"], {"AIMG2DS_CONFIG": str(file)})["image_size"] == "99"


def test_a_file_is_read_once_with_the_options_of_its_command(tmp_path: Path) -> None:
    """So that it may have those that a fetch has not; what it says is all that is left of it."""
    file = tmp_path / "plan.toml"
    file.write_text("sample = 500\n")
    known = tuple(flag for group in PLAN_GROUPS.values() for flag in flags_of(group))
    read = Spelling(known, POSITIONAL).in_one_spelling(["a.txt", "--config", str(file)])

    assert read == ["--sample=500", "--", "a.txt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image_sise = 1", "is it image_size?"),
        ("[image]\nimage_size = 1", "table"),
        ("image_size", "is not TOML"),
        ('config = "b.toml"', "no such option"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_in_words(tmp_path: Path, content: str, said: str) -> None:
    """Nothing of it is passed over."""
    file = tmp_path / "run.toml"
    file.write_text(content)

    with pytest.raises(OptionsError, match=said):
        in_file(str(file), flags())


def test_no_file_is_no_traceback(tmp_path: Path) -> None:
    """The command says it in a line, and ends as one that was refused."""
    command = [sys.executable, "-m", "async_img2ds", "fetch", "a.txt", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.startswith("aimg2ds: config: cannot read")
    assert done.stderr.count("\n") == 1


def test_variables_of_other_options_are_not_taken() -> None:
    """Only those that bear an option's name, and are not empty."""
    environment = {"AIMG2DS_IMAGE_SIZE": "", "AIMG2DS_NONE": "1", "IMAGE_SIZE": "3", "AIMG2DS_RETRIES": "1"}

    assert in_environment(environment, flags()) == {"retries": "1"}


def test_settings_are_read_as_they_were(tmp_path: Path) -> None:
    """Every option, whatever its type, comes back from the file as it was, but for what is nobody's to keep."""
    options = Options.of(
        url_list=["a b.csv", 'with "quotes" and \x7f.csv'],
        input_format="csv",
        save_additional_columns=["a", "ü"],
        timeout=2.5,
        dedupe=True,
        dns_servers="[::1]",
        max_aspect_ratio="inf",
        encode_format="webp",
        compute_hash=None,
    )
    file = tmp_path / "run.toml"
    file.write_text(options.settings())

    assert Options.of(**in_file(str(file), flags())) == options
    tomllib.loads(file.read_text())


def test_what_is_secret_is_not_kept() -> None:
    """It is said that it was given, and not what it was."""
    told = Options.of(url_list="https://joe:hush@lists.example/a.txt", header="Authorization: hush").settings()

    assert "hush" not in told
    assert "# url_list: given with a password" in told
    assert "# header: given" in told


def test_a_run_leaves_its_settings_and_can_be_repeated_by_them(tmp_path: Path) -> None:
    """The same file makes the same dataset again elsewhere; the finished one is left alone."""
    (tmp_path / "urls.txt").write_text("ftp://a.example/1.jpg\n" * 3)
    download(str(tmp_path / "urls.txt"), output_folder=str(tmp_path / "out"), progress="none", processes_count=1)
    kept = tmp_path / "out" / ".aimg2ds.toml"
    report = download(config=str(kept), output_folder=str(tmp_path / "again"))

    assert report.count == 3
    assert download(config=str(kept)).shards_skipped == 1


def test_given_words_are_those_of_the_file_too(tmp_path: Path) -> None:
    """What the command line has read is what the options are made of."""
    file = tmp_path / "run.toml"
    file.write_text("image_size = 77\n")
    words = {flag.name: None for flag in flags()} | {"url_list": ["a.txt"], "config": str(file)}

    assert Options.of(**given(words, tuple(flags()))).image.image_size == 77


def test_none_is_a_comment_where_it_is_the_default_and_a_word_where_it_is_not() -> None:
    """TOML has no such value, and what is not said is the default."""
    by_name = {flag.name: flag for flag in flags()}

    assert to_toml([(by_name["processes_count"], None)], {}) == "# processes_count: none\n"
    assert to_toml([(by_name["compute_hash"], None)], {}) == 'compute_hash = "none"\n'
