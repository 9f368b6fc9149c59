"""What is sent to Weights & Biases: the same project, settings, metrics and table.

For both programs ``stand_in/wandb.py`` takes the place of the package, and writes down what it is told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from compat.stand_in.wandb import SAID

if TYPE_CHECKING:
    from pathlib import Path

    from compat.tools import Pair, Tools


@pytest.fixture(scope="module")
def said(tools: Tools, lists: Path) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """What both told the stand-in, in order."""
    words = [str(lists / "few.txt"), "--number_sample_per_shard", "5", "--enable_wandb", "True"]
    words += ["--wandb_project", "pictures", "--output_folder", "dataset"]
    pair: Pair = tools.run("wandb", words)
    assert pair.theirs.status == 0, pair.theirs.said
    assert pair.ours.status == 0, pair.ours.said
    theirs, ours = (
        [tuple(json.loads(line)) for line in (run.dataset.folder.parent / SAID).read_text().splitlines()]
        for run in (pair.theirs, pair.ours)
    )
    return theirs, ours


def test_the_run_has_the_project_and_the_settings(said: tuple[list[tuple[str, Any]], ...]) -> None:
    """One run, begun with all options under their names, and ended."""
    for told in said:
        assert [kind for kind, _ in told].count("init") == 1
        assert told[-1][0] == "finish"
    (_, theirs), (_, ours) = said[0][0], said[1][0]

    assert ours["project"] == theirs["project"] == "pictures"
    assert theirs["config"].keys() <= ours["config"].keys()


def test_the_metrics_have_the_same_names_and_counts(said: tuple[list[tuple[str, Any]], ...]) -> None:
    """``worker/…`` for each shard and ``total/…`` for all: boards that people have built go on working."""
    names, counts = [], []
    for told in said:
        metrics = [value for kind, value in told if kind == "log"]
        names.append({name for value in metrics for name in value})
        counts.append(sorted(value["worker/count"] for value in metrics if "worker/count" in value))
        assert [value["total/count"] for value in metrics if "total/count" in value][-1] == 12

    assert names[1] == names[0]
    assert counts[1] == counts[0]


def test_the_table_of_outcomes_is_the_same(said: tuple[list[tuple[str, Any]], ...]) -> None:
    """Each message, its share and its count."""
    theirs, ours = (
        [value["status"] for kind, value in told if kind == "log" and "status" in value][-1] for told in said
    )

    assert ours["columns"] == theirs["columns"]
    assert sorted(ours["data"]) == sorted(theirs["data"])
