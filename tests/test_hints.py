"""Every reason for a failure has a hint for whoever reads the summary."""

from __future__ import annotations

import re

import pytest

from async_img2ds.errors import ErrorClass
from async_img2ds.hints import HINTS
from async_img2ds.options import flags


def test_every_reason_has_a_hint_and_no_hint_is_left_over() -> None:
    """The hints are exactly those of the closed list of reasons."""
    assert set(HINTS) == set(ErrorClass)


@pytest.mark.parametrize("error_class", ErrorClass)
def test_hint_is_one_short_line(error_class: ErrorClass) -> None:
    """A hint fits beside its count in the summary."""
    hint = HINTS[error_class]

    assert hint == " ".join(hint.split())
    assert 10 <= len(hint) <= 100
    assert not hint.endswith(".")


def test_hints_differ() -> None:
    """No two reasons are explained by the same words."""
    assert len(set(HINTS.values())) == len(HINTS)


@pytest.mark.parametrize("error_class", ErrorClass)
def test_options_named_in_a_hint_exist(error_class: ErrorClass) -> None:
    """What a hint tells the reader to type is an option there is."""
    named = set(re.findall(r"--(\w+)", HINTS[error_class]))

    assert named <= {flag.name for flag in flags()}
