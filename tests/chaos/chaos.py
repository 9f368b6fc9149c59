"""Everything that can die does, and no row is lost: ``nox -s chaos``.

Each part prints a line. The last line says how many points and seeds left every row in exactly one committed shard, and
how many versions of the program with a known mistake were caught; the status is 1 if any was not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from faults import ERRORS, faults
from faults import FORMATS as FAULTS_FORMATS
from kills import kills
from mutants import MUTANTS, mutants
from points import FORMATS, Choice, points
from power import SCENARIOS, STATES, power
from retries import retries

if TYPE_CHECKING:
    from collections.abc import Callable

    from outcome import Outcome

# Part → what runs it, in a folder of its own.
PARTS: Final[dict[str, Callable[[Path, argparse.Namespace], Outcome]]] = {
    "kills": lambda folder, asked: kills(folder, _seeds(asked), asked.rows),
    "points": lambda folder, asked: points(folder, _choice(asked), asked.formats or FORMATS),
    "faults": lambda folder, asked: faults(folder, _choice(asked), asked.formats or FAULTS_FORMATS, asked.errors),
    "power": lambda folder, asked: power(folder, asked.first_seed, asked.states, asked.scenarios),
    "objects": lambda folder, asked: _objects(folder, asked),  # noqa: PLW0108  it is defined below
    "retries": lambda folder, asked: retries(folder, _choice(asked), asked.formats or FORMATS),
    "mutants": lambda folder, asked: mutants(folder, [each for each in MUTANTS if each.part in asked.caught_by]),
}


def main() -> int:
    """Run the parts that were asked for; return 1 if anything was not as it must be."""
    asked = _asked()
    # As Ctrl-C does: servers and programs end with this one, and nothing is left in temporary folders.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    outcomes = []
    for part in asked.parts:
        with tempfile.TemporaryDirectory(prefix="chaos-") as name:
            outcomes.append(PARTS[part](Path(name), asked))
        print(outcomes[-1], *(f"  {defect}" for defect in outcomes[-1].defects), sep="\n", flush=True)
    if asked.outcomes:
        asked.outcomes.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    said = report(outcomes)
    print(said)
    if asked.record:
        _record(asked.record, outcomes, said)
    return 0 if all(outcome.good for outcome in outcomes) else 1


def _objects(folder: Path, asked: argparse.Namespace) -> Outcome:
    """Have uploads to an object store fail."""
    import objects  # needs moto, which no other part does

    return objects.objects(folder, _seeds(asked))


def report(outcomes: list[Outcome]) -> str:
    """Return in a line what all parts have come to."""
    tried = [outcome for outcome in outcomes if outcome.part != "mutants"]
    words = [
        f"{sum(outcome.points_clean for outcome in tried):,} of {sum(outcome.points for outcome in tried):,} points",
        f"{sum(outcome.seeds_clean for outcome in tried):,} of {sum(outcome.seeds for outcome in tried):,} seeds",
        f"{sum(outcome.rows_lost for outcome in tried):,} rows lost",
        f"{sum(outcome.rows_twice for outcome in tried):,} rows twice",
        *(f"{each.points_clean} of {each.points} mutants caught" for each in outcomes if each.part == "mutants"),
    ]
    return ", ".join(words)


def _record(path: Path, outcomes: list[Outcome], said: str) -> None:
    """Keep what was found, with the command, the versions and the machine."""
    import report as figures  # needs psutil, which only benchmarks and this do

    found = {
        "benchmark": "chaos",
        "command": ["nox", "-s", "chaos", "--", *sys.argv[1:]],
        **figures.moment(),
        "report": said,
        "parts": [asdict(outcome) for outcome in outcomes],
        "versions": figures.own_versions(),
        "machine": figures.machine(),
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def _seeds(asked: argparse.Namespace) -> range:
    return range(asked.first_seed, asked.first_seed + asked.seeds)


def _choice(asked: argparse.Namespace) -> Choice:
    return Choice(asked.first_seed, asked.points, tuple(asked.calls))


def _asked() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=names, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=40, help="random courses of events, for kills and objects each")
    parser.add_argument("--first_seed", type=int, default=0, help="the first of them; also draws points and states")
    parser.add_argument("--rows", type=int, default=2000, help="rows of the list of which runs are killed")
    parser.add_argument("--points", type=int, help="points of each format and error; all if not given")
    parser.add_argument("--calls", type=names, default=[], help="only points at these calls of the system")
    parser.add_argument("--formats", type=names, help="output formats of points and faults")
    parser.add_argument("--errors", type=names, default=list(ERRORS), help="with which calls fail")
    parser.add_argument("--states", type=int, default=STATES, help="states drawn at each prefix of operations")
    parser.add_argument("--scenarios", type=names, default=list(SCENARIOS), help="what is done when power is lost")
    parts = [part for part in PARTS if part != "mutants"]
    parser.add_argument("--caught_by", type=names, default=parts, help="only mutants that these parts must catch")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep what was found, as JSON")
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
