"""The pages that are made from the program have all of it, and what the pages say that it prints it does print."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
import typer.main

import async_img2ds
import offline
import reference
import repository
from async_img2ds import cli
from async_img2ds.errors import ErrorClass

ROOT = Path(__file__).parents[1]
TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("name", reference.commands())
def test_page_of_a_command_has_its_options(name: str) -> None:
    """Each with its help, and by the name that is typed."""
    page = reference.command_page(name)
    declared = [flag for _, flag in reference.commands()[name].declared]
    typed = {option for parameter in _parameters(name) for option in parameter}

    assert set(re.findall(r"\{ #(\w+) \}", page)) == {flag.name for flag in declared}
    assert {f"--{option}" for option in re.findall(r"^### `--(\w+)`", page, flags=re.MULTILINE)} <= typed
    assert page.count("{ .facts }") == len(declared)


def _parameters(name: str) -> list[list[str]]:
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]  # typer's group, which no type has
    return [parameter.opts for parameter in command.params]


def test_every_reason_is_in_one_group_and_told_once() -> None:
    """On the page of reasons, and among the troubles, with an anchor to link to."""
    grouped = [reason for members in reference.reasons_by_group().values() for reason in members]
    page = reference.filled((ROOT / "docs" / "reference" / "reasons.md").read_text())
    troubles = reference.filled(TROUBLES)

    assert sorted(grouped) == sorted(ErrorClass)
    for reason in ErrorClass:
        assert page.count(f"| [`{reason}`](../troubleshooting.md#{reason}) |") == 1
        assert troubles.count(f"`{reason}`{{ #{reason} }}") == 1


def test_every_public_name_is_told_of() -> None:
    """With its signature, if it is called."""
    page = reference.MADE["api"]("")

    for name in set(async_img2ds.__all__) - {"__version__"}:
        assert page.count(f"### `{name}` {{ #{name} }}") == 1
    assert "await download_async(url_list, **options) -> RunReport" in page
    assert "push(output_folder: str, destination: str, **options: Any) -> PushReport" in page


def test_statuses_are_those_of_the_command_line() -> None:
    """Each with its meaning."""
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", reference.MADE["statuses"](""), flags=re.MULTILINE)

    assert [status for status, _ in rows] == ["0", "1", "2", "3", "130, 143"]
    assert dict(rows)["2"] == "the request was refused: an option or the list"


def test_pages_ask_for_nothing_that_is_not_made() -> None:
    """A name between marks that nobody knows would stop the site from being built."""
    for path in (ROOT / "docs").rglob("*.md"):
        assert "<!-- made: " not in reference.filled(path.read_text())


def _printed() -> list[str]:
    """Return what the page of troubles says that the program prints."""
    section = TROUBLES.partition("## What the tool prints")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", section, flags=re.MULTILINE)
    return [row for row in rows if row not in ("it prints", "---")]


def test_what_the_page_says_is_printed_stands_in_the_program() -> None:
    """Each line of the log, but for the names and numbers in it."""
    code = "\n".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", code)
    lines = _printed()

    assert len(lines) > 15
    for line in lines:
        parts = [re.escape(part) for part in line.split("…") if part]
        assert re.search(r"[^\n]*?".join(parts), joined), line


def test_links_out_of_the_pages_lead_into_the_site() -> None:
    """Where the site has what lies in the repository; what stands in code is left alone."""
    page = "[a](../benchmarks/README.md#x) `[b](../LICENSE)` [c](hosts.md) [d](../website/links.py) [e](../examples)"
    place = PurePosixPath("docs/page.md")

    assert repository.rewritten(page, place) == (
        "[a](repository/benchmarks/README.md#x) `[b](../LICENSE)` [c](hosts.md) "
        "[d](repository/website/links.py.md) [e](repository/examples/index.md)"
    )
    assert repository.linked(page, place) == {
        PurePosixPath(name) for name in ("benchmarks/README.md", "website/links.py", "examples")
    }


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ("<img alt=x src=//img.example/1.png>", ["//img.example/1.png"]),
        ('<link rel=stylesheet href="https://fonts.example/css">', ["https://fonts.example/css"]),
        ("a { background: url(https://img.example/1.png) }", ["https://img.example/1.png"]),
        ('@import "http://css.example/x.css";', ["http://css.example/x.css"]),
        ('<a href="https://example.org/">there</a> <img src="pictures/live.svg">', []),
        ('<link href="https://docs.example/page/" rel="canonical">', []),
        ('<svg xmlns="http://www.w3.org/2000/svg"><path fill="url(#a)"/></svg>', []),
    ],
)
def test_page_that_asks_other_servers_is_noticed(page: str, asked: list[str]) -> None:
    """Whatever makes it ask; a link that people may follow does not."""
    assert list(offline.asked_elsewhere(page)) == asked
