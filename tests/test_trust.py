"""The matrix of attacks: all of them come to the end that the security page promises, and nobody inside is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matrix
import pytest
from hostile import CLOSED, probes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> matrix.Report:
    """The whole matrix, fetched by the program with its default policy."""
    if reason := matrix.hindrance():
        pytest.skip(reason)
    return matrix.run(tmp_path_factory.mktemp("matrix"))


def test_every_attack_ends_as_it_should(report: matrix.Report) -> None:
    """Each row has one of the reasons that it may have; none is lost, and the run ends well."""
    assert report.surprises() == []
    assert report.status == 0, report.said


def test_nobody_is_contacted_who_should_not_be(report: matrix.Report) -> None:
    """Nor are credentials or cookies sent to anybody; of the closed addresses most could be connected to there."""
    assert dict(report.forbidden) == {}
    assert dict(report.told) == {}
    assert report.reachable > 0.8 * len(CLOSED)


def test_no_file_is_opened_that_should_not_be(report: matrix.Report) -> None:
    """None outside of the folder that is open, by whatever name; strace would have seen it."""
    assert list(report.opened) == []


def test_no_program_is_started_but_our_own(report: matrix.Report) -> None:
    """No interpreter of PostScript, nor anything else, whatever an image calls for."""
    assert {program.rpartition("/")[2].rstrip("0123456789.") for program in report.programs} == {"python"}


def test_memory_stays_bounded(report: matrix.Report) -> None:
    """With bombs of every kind under way together; some 320 MB were measured, most of it the program itself."""
    assert report.peak_kb < 700_000


def test_figures_of_the_page_are_those_of_the_matrix(photographs: Path) -> None:
    """The page says what is tried, as it is tried; ``python tests/trust/matrix.py --write`` brings it up to date."""
    assert matrix.table(matrix.PAGE.read_text()) == matrix.tabulated(probes(photographs))
