"""The program as a user runs it, against a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stores.servers import Place

__all__ = ["Program"]

# A run that waits for anything for so long does not end.
RUN_MOST_S = 120
# The commands that start no workers.
ALONE = ("manifest", "partition", "summary")


@dataclass(frozen=True)
class Program:
    """The program as a user runs it: in a process of its own, led to *place* by nothing but the environment."""

    place: Place
    folder: Path
    further: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start ``aimg2ds`` with *words*."""
        command = [str(Path(sys.executable).parent / "aimg2ds"), *words, "--progress=none"]
        command += [] if words[0] in ALONE else ["--processes_count=2"]
        return subprocess.Popen(
            command, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *words: str, status: int = 0) -> str:
        """Run ``aimg2ds`` with *words*, which is to end with *status*; return what it says."""
        with self.start(*words) as process:
            try:
                said, _ = process.communicate(timeout=RUN_MOST_S)
            finally:
                process.kill()
        assert process.returncode == status, said
        return said

    def fetch(self, urls: str, out: str, status: int = 0, **further: Any) -> str:
        """Fetch the list at *urls* into *out*."""
        options = {"allow_net": "127.0.0.0/8", "retries": 0, "number_sample_per_shard": 10, **further}
        words = [f"--{name}={value}" for name, value in options.items()]
        return self.run("fetch", urls, f"--output_folder={out}", *words, status=status)

    def environment(self) -> dict[str, str]:
        """Return the environment: of this process, but for what leads to other places."""
        here = {name: value for name, value in os.environ.items() if not name.startswith(("FSSPEC_", "AWS_"))}
        folders = {"TMPDIR": str(self.folder / "staging"), "XDG_CACHE_HOME": str(self.folder / "cache")}
        (self.folder / "staging").mkdir(exist_ok=True)
        return {**here, **folders, **self.place.variables, **self.further}

    def staged(self) -> list[str]:
        """Return what is left in the temporary folder."""
        return [
            path.name for path in (self.folder / "staging").iterdir() if re.fullmatch("aimg2ds-[0-9a-f]{32}", path.name)
        ]
