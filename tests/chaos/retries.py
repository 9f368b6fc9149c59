"""Everything killed at each call by which a shard of which rows were done again takes the place of the old one.

After each kill the shard is the old one or the new one, or will be when the next run begins; the same command then ends
well, and all is as if nothing had happened.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import runs
from async_img2ds.storage import LocalStore
from inspection import contents_of, inspect
from outcome import Outcome
from points import ROWS, Choice, Scene
from runs import Job, fresh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from inspection import Row
    from outcome import Trial

__all__ = ["retries"]

MISSING = "not-there.jpg"


def retries(folder: Path, choice: Choice, formats: Sequence[str]) -> Outcome:
    """Try the points of a replacement in *formats*, as many as are the *choice* in each."""
    began = time.monotonic()
    with runs.served(folder) as server, ThreadPoolExecutor(2) as pool:
        (server.pictures / MISSING).unlink(missing_ok=True)
        urls = runs.listed(server, ROWS)
        (folder / "urls.txt").write_text("".join(f"{url}\n" for url in urls))
        (folder / "removed.txt").write_text(urls[0])
        commands = {
            "retry": ("--class", "http_status_4xx", "--allow_net", "127.0.0.0/8", "--retries", "0"),
            "purge": ("--urls", str(folder / "removed.txt")),
        }
        scenes = [
            _Replacement.of(fresh(folder / f"{command}-{name}"), name, folder / "urls.txt", urls, (command, *words))
            for name in formats
            for command, words in commands.items()
        ]
        some = min(server.pictures.iterdir())
        shutil.copy(some, server.pictures / MISSING)  # what was not there is there now
        trials = [trial for of_scene in pool.map(lambda scene: scene.tried(choice), scenes) for trial in of_scene]
    return Outcome.of("retries", trials, time.monotonic() - began, seeded=False)


@dataclass(frozen=True)
class _Replacement(Scene):
    """One shard done again; *before* is what its rows were, and what the rows are after it is *expected*."""

    before: Mapping[str, Row] = field(default_factory=dict)

    @classmethod
    def of(
        cls, own: Path, output_format: str, listed: Path, urls: Sequence[str], again: tuple[str, ...]
    ) -> _Replacement:
        words = ("--processes_count", "1", "--retries", "0")
        fetch = Job(listed, str(own / "before"), own / "temporary", ROWS, output_format, words)
        rows = runs.golden(fetch, urls)
        return cls(own, replace(fetch, out=str(own / "out"), again=(*again, "--processes_count", "1")), {}, rows)

    def begin(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.folder / "before", self.out)

    def tried(self, choice: Choice) -> list[Trial]:
        """Return what came of the points that are the *choice*."""
        self.begin()
        ended = self.job.run()
        after = inspect(contents_of(self.out)).rows
        assert ended.status == 0, ended
        assert sum(after[key] != row for key, row in self.before.items()) == 1
        scene = replace(self, expected=after)
        return [scene.kill(point) for point in choice.of(scene.points())]

    def unsafe(self) -> list[str]:
        now = inspect(contents_of(self.out))
        found = [*now.defects]
        if now.rows and now.rows not in (self.before, self.expected):
            found.append("the shard is neither the old one nor the new one")
        again = fresh(self.folder / "again")
        shutil.copytree(self.out, again, dirs_exist_ok=True)
        store = LocalStore(again)
        store.prepare()
        store.close()
        return (
            found if inspect(contents_of(again)).rows else [*found, "the shard is not there when the next run begins"]
        )
