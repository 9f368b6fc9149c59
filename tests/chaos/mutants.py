"""The program with a known mistake, one at a time: each must be caught by the part of the harness that looks for it.

Without this a harness that finds nothing has shown little. A mutant is a copy of the sources in which a few lines are
others; lines that are not there any more are an error, so that no mutant is lost unnoticed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import async_img2ds
from outcome import Outcome, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MUTANTS", "Mutant", "mutants"]

PACKAGE: Final = Path(async_img2ds.__file__).parent
HANGS_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake.

    Attributes:
        mistake: in words.
        changes: for each line or lines of a source, by its path in the package, what stands there instead.
        caught_by: that part of the harness which must catch it, and what is typed behind its name.

    """

    mistake: str
    changes: tuple[tuple[str, str, str], ...]
    caught_by: tuple[str, ...]

    @property
    def part(self) -> str:
        """The part of the harness that must catch it."""
        return self.caught_by[0]


_ATTEMPT: Final = "storage/attempt.py"
_LOCAL: Final = "storage/local.py"
_POWER: Final = ("power", "--scenarios", "commit")
_SYNCS: Final = ("faults", "--formats", "webdataset", "--calls", "fsync", "--errors", "EIO")
_RENAMES: Final = ("points", "--formats", "webdataset", "--calls", "rename", "--points", "3")
_REPLACES: Final = ("retries", "--formats", "webdataset", "--calls", "rename")
_SAMPLES_GO: Final = ("power", "--scenarios", "replace")

_MARKER_FIRST: Final = (
    _ATTEMPT,
    "        for name in list(self._staged):\n",
    "        for name in self._staged[::-1]:\n",
)

MUTANTS: Final = (
    Mutant(
        "the stats file before the data",
        (_MARKER_FIRST,),
        _POWER,
    ),
    Mutant(
        "the stats file before the data, seen by kills",
        (_MARKER_FIRST,),
        (*_RENAMES[:-1], "6"),
    ),
    Mutant(
        "no sync of a file before it is renamed",
        ((_LOCAL, "            _sync(staged)\n        # Taken", "            pass\n        # Taken"),),
        _POWER,
    ),
    Mutant(
        "no sync of the folder after a renaming",
        ((_LOCAL, "        _sync(self._root)\n        shutil", "        shutil"),),
        _POWER,
    ),
    Mutant(
        "no sync of the files in a folder",
        ((_LOCAL, "            self._sync_all()  #", "            pass  #"),),
        _POWER,
    ),
    Mutant(
        "the stats file written in its place",
        (
            (
                _LOCAL,
                "        staged, final = self.staged(name), self._root / name\n",
                "        staged, final = self.staged(name), self._root / name\n"
                "        if name.endswith('.json'):\n"
                "            final.write_bytes(staged.read_bytes())\n"
                "            return _sync(self._root)\n",
            ),
        ),
        _POWER,
    ),
    Mutant(
        "the data of a shard that is set back goes before its stats file",
        (
            ("existing.py", "    store.remove([stem + MARKER for stem in stems])\n", ""),
            (
                "existing.py",
                "_is_sample(name)])\n",
                "_is_sample(name)])\n    store.remove([stem + MARKER for stem in stems])\n",
            ),
        ),
        ("power", "--scenarios", "set back"),
    ),
    Mutant(
        "no sync of the new files of a shard that is replaced",
        ((_LOCAL, "                _sync(staged)\n            staged", "                pass\n            staged"),),
        ("power", "--scenarios", "replace"),
    ),
    Mutant(
        "samples are moved before their folder is known to be moving",
        ((_LOCAL, "        _sync(redone.parent)\n", ""),),
        _SAMPLES_GO,
    ),
    Mutant(
        "samples that a replaced shard has no more stay",
        ((_LOCAL, "                old.unlink()\n", "                pass\n"),),
        _SAMPLES_GO,
    ),
    Mutant(
        "the stats file of a shard that is replaced stays",
        ((_LOCAL, "        (root / marker.name).unlink(missing_ok=True)\n", "        pass\n"),),
        _REPLACES,
    ),
    Mutant(
        "a replacement that was cut off is not finished",
        (
            (
                _LOCAL,
                "                    _move_out(entry)\n            self",
                "                    pass\n            self",
            ),
            (_LOCAL, "        if redo.is_dir():\n            _move_out(redo)\n", ""),
        ),
        _REPLACES,
    ),
    Mutant(
        "a sync that has failed is tried again",
        (
            (
                _LOCAL,
                "        os.fsync(handle)\n",
                "        try:\n            os.fsync(handle)\n        except OSError:\n            os.fsync(handle)\n",
            ),
        ),
        _SYNCS,
    ),
    Mutant(
        "a sync that has failed is passed over",
        ((_LOCAL, "        os.fsync(handle)\n", "        with suppress(OSError):\n            os.fsync(handle)\n"),),
        _SYNCS,
    ),
    Mutant(
        "what was half written is left",
        (
            (
                _LOCAL,
                "            if LEFTOVER_NAME.fullmatch(entry.name) and is_of(self._share, entry.name):\n",
                "            if not entry:\n",
            ),
        ),
        _RENAMES,
    ),
    Mutant(
        "a shard that is gone on with lacks its last row",
        (
            (
                "worker/shard.py",
                "        rows = list(self._rows(shard, listed))\n",
                "        rows = list(self._rows(shard, listed))\n"
                "        stem = self.naming.shard(shard.id)\n"
                "        if any(n.startswith(stem) and not n.endswith('.partial') for n, _ in self.store.names()):\n"
                "            rows.pop()\n",
            ),
        ),
        (*_RENAMES[:-1], "6"),
    ),
    Mutant(
        "a shard whose worker died counts as done",
        (
            (
                "distributors/crew.py",
                "        worker.open.orphan(list(worker.open), link.number, link.ending)\n",
                "        for orphan in list(worker.open):\n"
                "            worker.open.settle(Done(link.number, orphan, Tally(), 0.0))\n",
            ),
        ),
        ("kills", "--seeds", "3", "--rows", "800"),
    ),
    Mutant("the stats file before the data, in an object store", (_MARKER_FIRST,), ("objects", "--seeds", "1")),
    Mutant(
        "a worker lives on without its parent",
        (
            (
                "distributors/local.py",
                "        except EOFError:\n            self.gone.set_result(None)\n",
                "        except EOFError:\n            threading.Event().wait()\n",
            ),
        ),
        ("kills", "--seeds", "3", "--rows", "800"),
    ),
)


def mutants(folder: Path, chosen: Sequence[Mutant] = MUTANTS) -> Outcome:
    """See whether each of the mutants *chosen* is caught; one that is not is a defect of the harness."""
    began = time.monotonic()
    trials = [_caught(folder, number, mutant) for number, mutant in enumerate(chosen)]
    return Outcome.of("mutants", trials, time.monotonic() - began, seeded=False)


def _caught(folder: Path, number: int, mutant: Mutant) -> Trial:
    copy, record = folder / f"mutant-{number}", folder / f"mutant-{number}.json"
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, was, becomes in mutant.changes:
        source = copy / PACKAGE.name / path
        text = source.read_text()
        assert text.count(was) == 1, f"{mutant.mistake}: {path} has not these lines: {was!r}"
        source.write_text(text.replace(was, becomes))
    part, *words = mutant.caught_by
    script = str(Path(__file__).with_name("chaos.py"))
    path = os.pathsep.join([str(copy), *filter(None, [os.environ.get("PYTHONPATH")])])
    tried = subprocess.run(
        [sys.executable, script, "--parts", part, *words, "--outcomes", str(record)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    if not record.exists():
        return Trial(mutant.mistake, (f"the harness broke on it: {tried.stderr[-500:]}",))
    [found] = json.loads(record.read_text())
    missed = not found["defects"] and not found["rows_lost"] and not found["rows_twice"]
    return Trial(mutant.mistake, ("it was not caught",) if missed else ())
