"""Figures → drawings as inline SVG, by functions that know nothing but their arguments.

Lengths across are in percent, so that a drawing is as wide as its place while its letters stay as large as they are.
Colours come by the classes of ``page.css``. All texts are escaped here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Area", "Column", "Series", "Tick", "columns", "lines", "nice", "share_bar", "stacked_bar"]

# Of a drawing with axes, in pixels: how high it is, where its area begins and ends, where the words below stand.
HEIGHT: Final = 196
TOP: Final = 12
BOTTOM: Final = 164
WORDS: Final = 184
LEFT: Final = 52
# So many lines across an area, about.
LINES: Final = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a histogram: how high, and what is said of it where it is pointed at."""

    value: float
    said: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Words below an area, at a place from 0 to 1; one that is *minor* is left out where there is little room."""

    at: float
    said: str
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Values that are evenly apart, drawn in the colour of a *kind*; None where there is none."""

    kind: str
    values: Sequence[float | None]
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Area:
    """What a drawing with axes has beside its values: a *name* that nothing else on the page has, a title, words."""

    name: str
    title: str
    description: str
    ticks: Sequence[Tick]
    breaks: Sequence[Tick] = ()


def share_bar(part: float, whole: float, kind: str) -> Markup:
    """Return a bar that is filled by *part* of a *whole*; what it says is said beside it."""
    width = _percent(part / whole if whole else 0.0, least=0.4 if part else 0.0)
    return Markup(
        '<svg class="bar" width="100%" height="8" aria-hidden="true" focusable="false">'
        '<rect class="track" width="100%" height="8" rx="4"/><rect class="{}" width="{}" height="8" rx="4"/></svg>'
    ).format(kind, width)


def stacked_bar(parts: Sequence[tuple[str, float]], said: str) -> Markup:
    """Return one bar of *parts*, each of a kind and with its value, beside each other; *said* is what it shows."""
    whole = sum(value for _, value in parts)
    at, drawn = 0.0, Markup("")
    for kind, value in parts:
        if value:
            width = value / whole
            drawn += Markup('<rect class="{}" x="{}" width="{}" height="20"/>').format(
                kind, _percent(at), _percent(width, least=0.3)
            )
            at += width
    return Markup(
        '<svg class="stack" width="100%" height="20" role="img" aria-label="{}" focusable="false">{}</svg>'
    ).format(said, drawn or Markup('<rect class="track" width="100%" height="20"/>'))


def columns(values: Sequence[Column], area: Area, kind: str, said: Callable[[float], str]) -> Markup:
    """Return a histogram of *values*, which are counts, side by side; *said* is how its axis words them."""
    top = nice(max((column.value for column in values), default=0.0), whole=True)
    width = 1 / max(1, len(values))
    drawn = Markup("")
    for at, column in enumerate(values):
        if column.value:
            height = max(1.0, (BOTTOM - TOP) * column.value / top)
            drawn += Markup(
                '<rect class="{}" x="{}" width="{}" y="{:.1f}" height="{:.1f}" rx="1.5"><title>{}</title></rect>'
            ).format(kind, _percent(at * width), _percent(width * 0.86), BOTTOM - height, height, column.said)
    return _framed(area, top, said, drawn)


def lines(series: Sequence[Series], area: Area, said: Callable[[float], str]) -> Markup:
    """Return *series* as lines over one area, each as steps; *said* is how its axis words their values."""
    top = nice(max((value for each in series for value in each.values if value is not None), default=0.0))
    drawn = Markup("")
    for each in series:
        for begin, run in _runs(each.values):
            steps = _steps(run, begin, len(each.values), top)
            end = 1000 * (begin + len(run)) / len(each.values)
            if each.filled:
                closed = f"{steps}L{end:.1f} 1000L{1000 * begin / len(each.values):.1f} 1000Z"
                drawn += Markup('<path class="{} filled" d="{}"/>').format(each.kind, closed)
            drawn += Markup('<path class="{} line" d="{}" vector-effect="non-scaling-stroke"/>').format(
                each.kind, steps
            )
    stretched = Markup(
        '<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none">{}</svg>'
    ).format(TOP, BOTTOM - TOP, drawn)
    return _framed(area, top, said, stretched)


def nice(value: float, *, whole: bool = False) -> float:
    """Return the end of an axis from 0 with room for *value*, whose lines are at short numbers, or *whole* ones."""
    if not 0 < value < math.inf:
        return float(LINES)
    step = value / LINES
    power = 10.0 ** math.floor(math.log10(step))
    if whole:
        power = max(1.0, power)
    return LINES * next((each * power for each in _STEPS if each * power >= step), 10 * power)


# Between two lines of an axis, times a power of ten.
_STEPS: Final = (1, 2, 3, 4, 5, 6, 8, 10)


def _runs(values: Sequence[float | None]) -> list[tuple[int, list[float]]]:
    """Return the runs of *values* that are there, each with where it begins."""
    runs: list[tuple[int, list[float]]] = []
    is_open = False
    for at, value in enumerate(values):
        if value is not None:
            if not is_open:
                runs.append((at, []))
            runs[-1][1].append(value)
        is_open = value is not None
    return runs


def _steps(run: Sequence[float], begin: int, total: int, top: float) -> str:
    """Return a path along the tops of *run*, in thousandths of an area."""
    parts: list[str] = []
    for at, value in enumerate(run):
        y = 1000 - 1000 * value / top
        left, right = (1000 * (begin + at + more) / total for more in (0, 1))
        parts.append(f"{'L' if parts else 'M'}{left:.1f} {y:.1f}L{right:.1f} {y:.1f}")
    return "".join(parts)


def _framed(area: Area, top: float, said: Callable[[float], str], drawn: Markup) -> Markup:
    """Return what is *drawn* with its axes, lines across, and words."""
    across = labels = below = Markup("")
    for line in range(LINES + 1):
        y = BOTTOM - (BOTTOM - TOP) * line / LINES
        across += Markup('<line class="{}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>').format(
            "grid" if line else "axis", y=y
        )
        labels += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT - 8, y + 4, said(top * line / LINES)
        )
    for cut in area.breaks:
        below += Markup('<line class="break" x1="{at}" x2="{at}" y1="{}" y2="{}"><title>{}</title></line>').format(
            TOP - 6, BOTTOM, cut.said, at=_percent(cut.at)
        )
    for tick in area.ticks:
        anchor = "start" if tick.at < 0.04 else "end" if tick.at > 0.96 else "middle"  # noqa: PLR2004  it must not stick out
        below += Markup('<text{} x="{}" y="{}" text-anchor="{}">{}</text>').format(
            Markup(' class="minor"') if tick.minor else "", _percent(tick.at), WORDS, anchor, tick.said
        )
    return Markup(
        '<div class="plot"><svg class="scale" width="{left}" height="{height}" aria-hidden="true" focusable="false">'
        '{labels}</svg><svg class="area" width="100%" height="{height}" role="img" focusable="false" '
        'aria-labelledby="{name}-title {name}-description"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-description">{description}</desc>{across}{drawn}{below}</svg></div>'
    ).format(
        left=LEFT,
        height=HEIGHT,
        labels=labels,
        name=escape(area.name),
        title=area.title,
        description=area.description,
        across=across,
        drawn=drawn,
        below=below,
    )


def _percent(share: float, least: float = 0.0) -> str:
    """Return a *share* from 0 to 1 as a length, of some percent at the *least*."""
    return f"{min(100.0, max(least, 100 * share)):.2f}%"
