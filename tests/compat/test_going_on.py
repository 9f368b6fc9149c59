"""A second run over the same folder: what is done again, what is left alone, and what is added."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

from compat.aspects import ASPECTS, views
from compat.datasets import Dataset
from compat.lists import FEW
from compat.tools import Pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compat.tools import Tools

_WORDS: Final = ("--number_sample_per_shard", "4", "--output_format", "webdataset", "--output_folder", "dataset")
_SHARDS: Final = -(-len(FEW) // 4)


@pytest.fixture(scope="module")
def begun(tools: Tools, lists: Path) -> Pair:
    """Both programs' datasets of three shards; copied by whoever changes them."""
    return tools.run("begun", [str(lists / "few.txt"), *_WORDS])


def continued(tools: Tools, name: str, begun: Pair, lists: Path, *also: str, swapped: bool = False) -> Pair:
    """Run both again on copies of *begun*, in which one shard is undone; *swapped*: each on the other's copy."""
    for which, run in (("theirs", begun.theirs), ("ours", begun.ours)):
        other = {"theirs": "ours", "ours": "theirs"}[which] if swapped else which
        folder = tools.folder / name / other / "dataset"
        shutil.copytree(run.dataset.folder, folder)
        (folder / "00001_stats.json").unlink()
        (folder / "00001.tar").write_bytes(b"half a tar")
        (folder / "00002.tar").write_bytes(b"moved away")
    return tools.run(name, [str(lists / "few.txt"), *_WORDS, *also])


@pytest.mark.parametrize("swapped", [False, True], ids=["own", "other's"])
def test_what_is_done_is_left_alone(
    swapped: bool,  # noqa: FBT001  a parameter of the test
    tools: Tools,
    lists: Path,
    begun: Pair,
    original: Callable[[str], bytes | None],
) -> None:
    """A shard with a stats file is not touched, whatever else became of it; one without is done again.

    This holds for a dataset that the other program began, too.
    """
    pair = continued(tools, f"incremental-{swapped}", begun, lists, swapped=swapped)
    theirs, ours = views(pair, "going-on", original)

    for run, view in ((pair.theirs, theirs), (pair.ours, ours)):
        assert run.status == 0, run.said
        done_before = run.dataset.folder / "00002.tar"
        assert done_before.read_bytes() == b"moved away"
        done_before.unlink()  # it is no tar
        assert ASPECTS["file-names"](view) == [name for name in begun.theirs.dataset.names if name != "00002.tar"]
    assert ASPECTS["outcomes"](ours) == ASPECTS["outcomes"](theirs)
    assert ASPECTS["parts"](ours) == ASPECTS["parts"](theirs)


def test_extending_adds_the_list_again(
    tools: Tools, lists: Path, begun: Pair, original: Callable[[str], bytes | None]
) -> None:
    """Its shards get the numbers behind those that are there."""
    for which, run in (("theirs", begun.theirs), ("ours", begun.ours)):
        shutil.copytree(run.dataset.folder, tools.folder / "extend" / which / "dataset")
    pair = tools.run("extend", [str(lists / "few.txt"), *_WORDS, "--incremental_mode", "extend"])
    theirs, ours = views(pair, "extend", original)

    assert pair.theirs.status == pair.ours.status == 0, pair.ours.said
    assert len(pair.theirs.dataset.stats) == 2 * _SHARDS
    for name, aspect in ASPECTS.items():
        assert (name, aspect(ours)) == (name, aspect(theirs))


def test_overwriting_leaves_nothing_of_what_was_there(
    tools: Tools, lists: Path, begun: Pair, original: Callable[[str], bytes | None]
) -> None:
    """The folder then holds what a first run writes.

    img2dataset removes its own temporary folder in this mode, on local disk, and ends after minutes of tries.
    """
    folder = tools.folder / "overwrite" / "ours" / "dataset"
    shutil.copytree(begun.ours.dataset.folder, folder)
    (folder / "00007_stats.json").write_text("{}")
    (folder / "00007.tar").write_text("of a longer list")
    run = tools.ours("overwrite", [str(lists / "few.txt"), *_WORDS, "--incremental_mode", "overwrite"])
    theirs, ours = views(Pair(begun.theirs, run), "overwrite", original)

    assert run.status == 0, run.said
    for name, aspect in ASPECTS.items():
        assert (name, aspect(ours)) == (name, aspect(theirs))


def test_nothing_but_the_dataset_is_left(begun: Pair) -> None:
    """No temporary folder, no empty one."""
    for run in (begun.theirs, begun.ours):
        assert all(path.is_file() for path in Dataset(run.dataset.folder).folder.iterdir())
