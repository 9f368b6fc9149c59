"""The two programs, run side by side on the same words."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from compat.datasets import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OUTPUT", "Pair", "Run", "Tools"]

OUTPUT: Final = "dataset"
# img2dataset imports Weights & Biases even where it is not used, in three processes a run; the stand-in takes no time.
STAND_INS: Final = str(Path(__file__).parent / "stand_in")
# Far beyond the slowest run, which takes half a minute on two busy cores.
SECONDS_MAX: Final = 300


@dataclass(frozen=True)
class Run:
    """How one program ended: its exit status, what it said, and where its dataset is."""

    status: int
    said: str
    dataset: Dataset


@dataclass(frozen=True)
class Pair:
    """The same run of both programs."""

    theirs: Run
    ours: Run


@dataclass
class Tools:
    """img2dataset and aimg2ds; each run has a folder of its own below *folder*."""

    img2dataset: Path
    folder: Path

    def run(
        self,
        name: str,
        words: Sequence[str],
        *,
        output: str = OUTPUT,
    ) -> Pair:
        """Run both on *words*, at the same time, and read the folder *output* of each."""
        with ThreadPoolExecutor(2) as both:
            theirs = both.submit(self.theirs, name, words, output=output)
            ours = both.submit(self.ours, name, words, output=output)
            return Pair(theirs.result(), ours.result())

    def theirs(self, name: str, words: Sequence[str], *, output: str = OUTPUT) -> Run:
        """Run img2dataset on *words*."""
        return _run([str(self.img2dataset), *words], self.folder / name / "theirs", output)

    def ours(self, name: str, words: Sequence[str], *, output: str = OUTPUT) -> Run:
        """Run aimg2ds on *words*, with this machine's own addresses opened to it."""
        command = [sys.executable, "-m", "async_img2ds", "fetch", *words, "--allow_net", "127.0.0.0/8"]
        return _run([*command, "--progress", "none"], self.folder / name / "ours", output)

    def scripts(self, name: str, text: str, *, output: str = OUTPUT) -> Pair:
        """Run the Python script *text* with either.

        In it ``PACKAGE`` stands for its package, and ``ALSO`` for what opens this machine's own addresses.
        """
        runs = []
        for which, package, also, python in (
            ("theirs", "img2dataset", "", str(self.img2dataset.parent / "python")),
            ("ours", "async_img2ds", "allow_net=['127.0.0.0/8'],", sys.executable),
        ):
            folder = self.folder / name / which
            folder.mkdir(parents=True)
            (folder / "script.py").write_text(text.replace("PACKAGE", package).replace("ALSO", also))
            runs.append(_run([python, "script.py"], folder, output))
        return Pair(*runs)


def _run(command: list[str], folder: Path, output: str) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    # The one knows nothing of the other's modules; both find the stand-ins first.
    known = [os.environ["PYTHONPATH"]] if command[0] == sys.executable and "PYTHONPATH" in os.environ else []
    path = os.pathsep.join([STAND_INS, *known])
    # Nor does either ask the Internet for news.
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": path}
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **quiet},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Run(ended.returncode, ended.stdout.decode(errors="replace"), Dataset(folder / output))
