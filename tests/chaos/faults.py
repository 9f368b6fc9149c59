"""The calls at which the commit of a shard reaches the disk, failing: no room, a broken disk, no descriptors.

The run tries the shard again or ends with a status that says so, nothing false lies on disk, and no row is told to have
failed for it. A file of which a sync has failed is neither synced again nor published: its pages count as clean
afterwards, and are lost.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import runs
from outcome import Outcome
from points import FIRST_ATTEMPT, in_scenes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outcome import Trial
    from points import Choice, Scene
    from traces import Call, Point

__all__ = ["ERRORS", "faults"]

# Those of which files are appended to and folders are filled.
FORMATS: Final = ("webdataset", "files")
ERRORS: Final = ("ENOSPC", "EIO", "EMFILE")
# All shards were written, or it is said that some were not and the same command goes on; and, before there is anything
# to go on with, that the folder cannot be written to.
DONE, REFUSED, INCOMPLETE = 0, 2, 3
SYNCS: Final = frozenset({"fsync", "fdatasync"})
RENAMES: Final = frozenset({"rename", "renameat", "renameat2"})
PARTIAL: Final = ".partial"


def faults(
    folder: Path,
    choice: Choice,
    formats: Sequence[str] = FORMATS,
    errors: Sequence[str] = ERRORS,
) -> Outcome:
    """Try the points of a commit in *formats* with each of *errors*, as many as are the *choice* in each."""
    began = time.monotonic()

    def tried(scene: Scene) -> list[Trial]:
        found = scene.points()
        return [
            trial
            for number, error in enumerate(errors)
            for point in replace(choice, seed=choice.seed + number).of(found)
            for trial in _fail(scene, point, error)
        ]

    return Outcome.of("faults", in_scenes(folder, formats, tried), time.monotonic() - began, seeded=False)


def _fail(scene: Scene, point: Point, error: str) -> list[Trial]:
    """Have the call at *point* fail in each attempt and, where they can be told apart, in the first one only."""
    once = any(FIRST_ATTEMPT in path for path in point.call.paths)
    return [_fail_with(scene, point, error, lasting=lasting) for lasting in ([True, False] if once else [True])]


def _fail_with(scene: Scene, point: Point, error: str, *, lasting: bool) -> Trial:
    ended, calls = scene.hurt(point, f"error={error}", lasting=lasting)
    how = f"{error} at {point}{' of each attempt' if lasting else ''}"
    defects = [] if any(call.failed for call in calls) else ["the call was not made"]
    allowed = {DONE, INCOMPLETE, *([REFUSED] if point.by_parent else [])}
    defects += [] if ended.status in allowed and not ended.hung else [f"the run {ended}"]
    defects += _synced_again(calls, scene.out)
    dataset, unsafe = runs.unsafe(scene.out, scene.expected)
    defects += unsafe
    if ended.status == DONE and dataset.rows.keys() != scene.expected.keys():
        defects.append(f"the run ended well with {len(dataset.rows)} rows of {len(scene.expected)}")
    return scene.go_on(how, defects)


def _synced_again(calls: Sequence[Call], out: Path) -> list[str]:
    """Say which files were synced again or published after a sync of them had failed. Folders are no files of ours."""
    broken: set[str] = set()
    found = []
    for call in calls:
        known = broken.intersection(call.paths)
        if call.name in SYNCS and known:
            found.append(f"{_short(known, out)} was synced again after that had failed")
        elif call.name in RENAMES:
            source, target = call.paths[-2:]
            moved = {path for path in broken if path == source or path.startswith(f"{source}/")}
            if moved and not target.endswith(PARTIAL):
                found.append(f"{_short(moved, out)} was published after its sync had failed")
            broken |= {target + path.removeprefix(source) for path in moved}
        if call.name in SYNCS and call.failed:
            # The folder of the dataset, and one of samples, are synced for the names in them.
            folders = {path for path in call.paths if path == str(out) or Path(path).parent == out}
            broken.update(set(call.paths) - folders)
    return found


def _short(paths: set[str], out: Path) -> str:
    return ", ".join(sorted(os.path.relpath(path, out) for path in paths))
