"""What fails, fails alike: the same status and message for the same cause, but for what ``differences.py`` lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import faulty
import origin as origin_server
from compat import failing_urls
from compat.differences import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat.tools import Pair, Tools
    from faulty import FaultyServer
    from origin import Origin

# Ours obey noml, too.
THEIR_DIRECTIVES: Final = ("--disallowed_header_directives", '["noai", "noimageai", "noindex", "noimageindex"]')

_CASES: Final = tuple(failing_urls.urls(origin_server.Origin(0, Path(), Path()), faulty.FaultyServer(), 0))


@pytest.fixture(scope="module")
def faults(photographs: Path) -> Iterator[FaultyServer]:
    """The misbehaving server."""
    failing_urls.add_faults((photographs / "size-200x150.jpg").read_bytes())
    with faulty.serve() as server:
        yield server


@pytest.fixture(scope="module")
def tls_port(photographs: Path) -> Iterator[int]:
    """A server whose certificate nobody trusts."""
    with failing_urls.serve_tls(photographs) as port:
        yield port


@pytest.fixture(scope="module")
def answers(tools: Tools, photographs: Path, origin: Origin, faults: FaultyServer, tls_port: int) -> Pair:
    """What both make of the failing URLs, asked once each."""
    picture = (photographs / "size-200x150.jpg").read_bytes()
    copies = [photographs / name for name in ("size-200x150 copy.jpg", "größe.jpg")]
    for copy in copies:
        copy.write_bytes(picture)
    cases = failing_urls.urls(origin, faults, tls_port)
    path = tools.folder / "failing.parquet"
    pq.write_table(pa.table({"url": list(cases.values()), "case": list(cases)}), path)
    words = [str(path), "--input_format", "parquet", "--save_additional_columns", '["case"]']
    pair = tools.run("failing", [*words, "--timeout", "3", "--retries", "0", "--output_folder", "dataset"])
    for copy in copies:  # lists that are made of the folder later on do not have them
        copy.unlink()
    return pair


def test_both_end_well_whatever_fails(answers: Pair) -> None:
    """Failures are rows, not the end of the run."""
    assert answers.theirs.status == 0, answers.theirs.said
    assert answers.ours.status == 0, answers.ours.said


@pytest.mark.parametrize("case", _CASES)
def test_a_failure_has_the_same_status_and_message(case: str, answers: Pair) -> None:
    """Byte by byte, because people count failures by their messages."""
    [theirs], [ours] = (
        [row for row in run.dataset.rows.values() if row["case"] == case] for run in (answers.theirs, answers.ours)
    )
    difference = ANSWERS.get(case)

    if difference is None:
        assert _outcome(ours) == _outcome(theirs)
    else:
        assert _outcome(ours) == difference.ours
        # OpenCV's messages hold line numbers of its sources.
        assert difference.theirs == ("failed_to_resize", "OpenCV") or _outcome(theirs) == difference.theirs


def test_what_fails_in_the_same_way_is_counted_alike(answers: Pair) -> None:
    """The messages of the stats file are those of the rows, for the same rows."""
    [theirs], [ours] = (run.dataset.stats.values() for run in (answers.theirs, answers.ours))
    # What several cases share; 404 is not among them, because of a server with words of its own.
    shared = (
        *("HTTP Error 410: Gone", "HTTP Error 403: Forbidden", "HTTP Error 500: Internal Server Error"),
        *("Remote end closed connection without response", "<urlopen error no host given>", "unknown url type: 'None'"),
    )

    assert {message: ours["status_dict"].get(message) for message in shared} == {
        message: theirs["status_dict"].get(message) for message in shared
    }
    assert sum(ours["status_dict"].values()) == ours["count"] == theirs["count"]


@pytest.mark.parametrize(
    "words",
    [
        ["--user_agent_token", "MyBot", "--retries", str(failing_urls.FALTERING_TIMES), *THEIR_DIRECTIVES],
        ["--disallowed_header_directives", "[]", "--retries", "0"],
        ["--disallowed_header_directives", '["noml", "NOAI"]', "--retries", "0"],
    ],
    ids=["token", "none", "some"],
)
def test_consent_is_read_alike(words: list[str], tools: Tools, faults: FaultyServer, origin: Origin) -> None:
    """The options for X-Robots-Tag mean the same, and a server that falters is asked again."""
    path = tools.folder / "reserved.txt"
    names = ("robots-for-me", "robots-noml", "robots-in-capitals", "robots-behind-others", "picture", "falters")
    pictures = ("reserved/chelsea.png", "others/chelsea.png", "chelsea.png")
    path.write_text("".join(f"{url}\n" for url in [*map(faults.url, names), *map(origin.url, pictures)]))
    faults.asked.clear()
    faults.headers.clear()
    pair = tools.run("consent " + " ".join(words), [str(path), *words, "--output_folder", "dataset"])
    theirs, ours = ({key: _outcome(row) for key, row in run.dataset.rows.items()} for run in (pair.theirs, pair.ours))

    assert theirs
    assert ours == theirs
    if "--user_agent_token" in words:
        agents = [line.lower() for head in faults.headers for line in head.splitlines() if "User-Agent" in line]
        assert agents
        assert all("(compatible; mybot; +https://" in agent for agent in agents)


def test_a_certificate_is_not_asked_for_where_that_is_wanted(tools: Tools, tls_port: int) -> None:
    """--ignore_ssl_certificate, which img2dataset has since its last release, takes any certificate."""
    path = tools.folder / "untrusted.txt"
    path.write_text(f"https://127.0.0.1:{tls_port}/chelsea.png\n")
    run = tools.ours("untrusted", [str(path), "--ignore_ssl_certificate", "True", "--output_folder", "dataset"])

    assert run.status == 0, run.said
    [row] = run.dataset.rows.values()
    assert _outcome(row) == ("success", None)


def _outcome(row: dict[str, Any]) -> tuple[str, str | None]:
    return row["status"], row["error_message"]
