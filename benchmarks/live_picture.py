"""Draw the live display as it is on a terminal: a real run over photographs on this machine, looked at in tmux.

``python benchmarks/live_picture.py`` writes docs/pictures/live.svg and live-dark.svg. Needs nginx and tmux.
"""

from __future__ import annotations

import argparse
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI, TerminalTheme
from rich.text import Text

import origin
import photographs

PICTURES: Final = Path(__file__).parent.parent / "docs" / "pictures"
ROWS: Final = 30_000
SESSION: Final = "aimg2ds-picture"
LIGHT: Final = TerminalTheme(
    (255, 255, 255),
    (36, 41, 47),
    [
        (36, 41, 47),
        (207, 34, 46),
        (17, 99, 41),
        (77, 45, 0),
        (9, 105, 218),
        (130, 80, 223),
        (27, 124, 131),
        (110, 119, 129),
    ],
    [
        (175, 184, 193),
        (164, 14, 38),
        (26, 127, 55),
        (99, 60, 1),
        (33, 139, 255),
        (164, 117, 249),
        (49, 146, 170),
        (140, 149, 159),
    ],
)
# What a row leads to, and how many of a hundred do.
KINDS: Final = {"picture": 86, "gone": 7, "page": 2, "reserved": 2, "dead": 2, "inside": 1}


def main() -> None:
    """Make the list, run, look, and write the pictures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--columns", type=int, default=100)
    arguments.add_argument(
        "--seconds", type=float, default=25.0, help="how long the run goes on before it is looked at"
    )
    asked = arguments.parse_args()
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = list(photographs.write_all(folder / "pictures"))
        hosts = [f"127.0.{number // 250}.{number % 250 + 2}" for number in range(300)]
        with origin.serve(folder / "pictures", addresses=hosts) as server:
            nobody = origin.free_port()
            kinds = chance.choices(list(KINDS), list(KINDS.values()), k=ROWS)
            (folder / "urls.txt").write_text(
                "".join(
                    f"{_url(kind, server, chance.choice(hosts), chance.choice(pictures), nobody)}\n" for kind in kinds
                )
            )
            screen = _looked_at(folder, asked.columns, asked.seconds)
    print(screen)
    for file, theme in (("live.svg", LIGHT), ("live-dark.svg", DIMMED_MONOKAI)):
        with Path("/dev/null").open("w") as nowhere:
            console = Console(file=nowhere, record=True, width=asked.columns, force_terminal=True)
            console.print(Text.from_ansi(screen), soft_wrap=True)
            drawn = console.export_svg(title="aimg2ds fetch urls.txt", theme=theme)
            # Without the fonts that it would load from elsewhere; the reader's own will do.
            (PICTURES / file).write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))


def _url(kind: str, server: origin.Origin, host: str, picture: str, nobody: int) -> str:
    match kind:
        case "gone":
            return server.url("gone.jpg", host)
        case "page":
            return server.url("page.jpg")
        case "reserved":
            return server.url("reserved/coffee.png")
        case "dead":
            return f"http://{host}:{nobody}/x.jpg"
        case "inside":
            return "http://192.168.0.1/x.jpg"
        case _:
            return server.url(picture, host)


def _looked_at(folder: Path, columns: int, seconds: float) -> str:
    """Return what is on the terminal of a run after so many *seconds*, with colours."""
    program = [sys.executable, "-m", "async_img2ds", "fetch", "urls.txt", "--output_format", "webdataset"]
    options = ["--number_sample_per_shard", "1000", "--allow_net", "127.0.0.0/8", "--retries", "0"]
    command = f"cd {shlex.quote(str(folder))}; clear; {shlex.join([*program, *options])}; sleep 60"
    _tmux("new-session", "-d", "-s", SESSION, "-x", str(columns), "-y", "30", command)
    try:
        time.sleep(seconds)
        return _tmux("capture-pane", "-p", "-e", "-t", SESSION).rstrip()
    finally:
        _tmux("kill-session", "-t", SESSION)


def _tmux(*words: str) -> str:
    return subprocess.run(["tmux", *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
