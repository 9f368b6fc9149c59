"""In which libraries a whole run of ours spends its CPU time, driver and workers, by ``perf``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import web
from environments import as_typed
from peers import PROGRAMS, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from web import Web

__all__ = ["shares"]

# Samples a second of CPU; a run of 3,000 images takes some 15 of them.
RATE: Final = 499
# A line of the report: "  12.34%  libjpeg.so.62.3.0".
_LINE: Final = re.compile(r"\s*([\d.]+)%\s+(\S+)")
# Libraries by what they do. Wheels bundle theirs under names with a hash.
GROUPS: Final = {
    "images: decoding, resizing, encoding": r"_imaging|libjpeg|libpng|libz[.\-]|libwebp|libsharpyuv|_webp|libdeflate",
    "the interpreter and its modules": r"python|uvloop|_http_parser|pyarrow|libarrow|orjson|libparquet",
    "the kernel": r"\[kernel|\[guest|\[unknown|\[vdso",
    "the C library": r"libc[.\-]|ld-linux|libm[.\-]|libstdc|libgcc|libpthread",
    "OpenSSL: TLS and hashes": r"libssl|libcrypto",
}
OTHER: Final = "others"


def shares(folder: Path, rows: int) -> dict[str, dict[str, float]]:
    """Return for a clean run and one over HTTPS, of *rows* images each, the share of the CPU time by kind of library.

    Nothing where there is no ``perf`` that may look.
    """
    perf = shutil.which("perf")
    if perf is None:
        print("no shares of libraries: perf is not installed (apt-get install linux-perf)")
        return {}
    return {
        name: _shares(perf, folder / name, rows, serve) for name, serve in (("clean", web.http), ("https", web.https))
    }


def _shares(
    perf: str, folder: Path, rows: int, serve: Callable[[Path, int], AbstractContextManager[Web]]
) -> dict[str, float]:
    folder.mkdir()
    data = folder / "perf.data"
    with serve(folder, rows) as served:
        task = Task(urls=served.lists["urls"].path, rows=rows, out=folder / "out", pictures=served.pictures)
        command = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(RATE), "-o", str(data), "--"]
        subprocess.run(
            [*command, *PROGRAMS["ours"].command(task)],
            env={**os.environ, **served.environment},
            stdout=subprocess.DEVNULL,
            check=False,
        )
    told = subprocess.run(
        [perf, "report", "-q", "-i", str(data), "--sort", "dso", "--stdio", "-F", "overhead,dso"],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        print(as_typed(f"no shares of libraries: {told.stderr[-300:]}", folder))
    found = dict.fromkeys((*GROUPS, OTHER), 0.0)
    for share, library in _LINE.findall(told.stdout):
        group = next((name for name, pattern in GROUPS.items() if re.search(pattern, library)), OTHER)
        found[group] += float(share)
    return {group: round(share, 1) for group, share in found.items()}
