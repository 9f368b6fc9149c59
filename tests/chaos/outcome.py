"""What a part of the harness found, as a value that can be added up and written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Outcome", "Rows", "Trial"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the list that are in no committed shard at the end, and those that are in one more than once."""

    lost: int = 0
    twice: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one point or seed, called *name*: nothing wrong if there are no *defects*."""

    name: str
    defects: tuple[str, ...] = ()
    rows: Rows = Rows()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether all was as it must be."""
        return not self.defects and self.rows == Rows()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a part found.

    Attributes:
        part: its name.
        points: places at which something was made to go wrong.
        points_clean: those of them after which all was as it must be.
        seeds: random courses of events.
        seeds_clean: those of them likewise.
        rows_lost: rows of a list that were in no committed shard at the end.
        rows_twice: rows that were in one more than once.
        defects: what was wrong, in words, each with the point or the seed by which it comes about again.
        figures: what else was counted.
        seconds: wall time.

    """

    part: str
    points: int = 0
    points_clean: int = 0
    seeds: int = 0
    seeds_clean: int = 0
    rows_lost: int = 0
    rows_twice: int = 0
    defects: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, part: str, trials: Iterable[Trial], seconds: float, *, seeded: bool) -> Outcome:
        """Add up *trials*, which are seeds if they are *seeded*, and points if not."""
        tried = list(trials)
        clean = sum(trial.clean for trial in tried)
        figures: dict[str, float] = {}
        for trial in tried:
            for name, value in trial.figures.items():
                figures[name] = figures.get(name, 0) + value
        counted = (
            {"seeds": len(tried), "seeds_clean": clean} if seeded else {"points": len(tried), "points_clean": clean}
        )
        return cls(
            part,
            **counted,
            rows_lost=sum(trial.rows.lost for trial in tried),
            rows_twice=sum(trial.rows.twice for trial in tried),
            defects=tuple(f"{trial.name}: {defect}" for trial in tried for defect in trial.defects),
            figures=figures,
            seconds=round(seconds, 1),
        )

    @property
    def good(self) -> bool:
        """Whether something was tried, and nothing was wrong."""
        tried = self.points + self.seeds > 0
        all_clean = self.points == self.points_clean and self.seeds == self.seeds_clean
        return tried and all_clean and not (self.rows_lost or self.rows_twice or self.defects)

    def __str__(self) -> str:
        counts = [f"{self.points_clean} of {self.points} points"] if self.points else []
        counts += [f"{self.seeds_clean} of {self.seeds} seeds"] if self.seeds else []
        counts += [f"{self.rows_lost} rows lost", f"{self.rows_twice} rows twice"]
        counts += [f"{name} {value:g}" for name, value in self.figures.items()]
        return f"{self.part}: {', '.join(counts)}; {self.seconds:.0f} s"
