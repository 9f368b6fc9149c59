"""The tutorial does what it says, command by command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tutorial

if TYPE_CHECKING:
    from pathlib import Path


def test_each_step_of_the_tutorial_is_as_it_says(tmp_path: Path) -> None:
    """No command fails, and each shows the lines that stand below it."""
    steps = tutorial.walk(tmp_path)

    assert {step.typed: step.output for step in steps if step.status} == {}
    assert {step.typed: (step.lacks(), step.output) for step in steps if step.lacks()} == {}
    assert sum(bool(step.shown) for step in steps) >= 6


def test_line_that_is_not_shown_is_noticed() -> None:
    """In another order, too; … stands for anything, and blanks for each other."""
    step = tutorial.Step("aimg2ds", ("24 of … images", "good"), "24 of 26   images\nat the end: good\n")

    assert step.lacks() == ["good"]
    assert tutorial.Step("", ("b", "a"), "a\nb\n").lacks() == ["a"]
