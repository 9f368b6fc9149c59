"""aimg2ds plan: what a list has, and what a fetch of it will be."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from async_img2ds import startup
from async_img2ds.cli.figures import size
from async_img2ds.cli.layout import beside, cut, width
from async_img2ds.cli.outcome import end, run_until_signalled, say, told_by_status
from async_img2ds.options import PlanOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.distributors.base import Stop
    from async_img2ds.lists.census import Census
    from async_img2ds.policy.census import About
    from async_img2ds.policy.estimates import Estimate
    from async_img2ds.prospect import SurveyReport, Trial

__all__ = ["plan"]

# Hosts that are named, and characters before the text of a line.
NAMED: Final = 5
HEAD: Final = 12


def plan(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Look at a list before it is fetched: hosts, repeats, suspicious rows; with --sample, what a fetch of it will be.

    Takes the options of fetch: put plan in its place. Without --sample nobody is asked for anything.
    """
    with told_by_status():
        options = PlanOptions.of(**words)
        grace_s = options.fetch.run.grace_s if options.survey.sample else None
        report, signalled = asyncio.run(run_until_signalled(partial(_run_survey, options), grace_s))
    say(_as_json(report) if options.survey.json else "\n".join(_in_words(report, options, width())))
    end(signalled, complete=True)


async def _run_survey(options: PlanOptions, stop: Stop) -> SurveyReport:
    from async_img2ds.prospect import run_survey

    startup.settle()
    return await run_survey(options, stop)


def _as_json(report: SurveyReport) -> str:
    """Return a report as one JSON object; what is not a number is null."""
    return json.dumps(_plain(asdict(report)), ensure_ascii=False)


def _plain(value: Any) -> Any:  # noqa: ANN401  values of JSON
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _in_words(report: SurveyReport, options: PlanOptions, columns: int) -> Iterator[str]:
    """Yield a report in words and figures, line by line."""
    census = report.census
    if not census.is_whole:
        yield "interrupted: this is what was counted up to there"
    yield from _counted(census, columns)
    yield from _suspicious(census, columns)
    if report.trial is not None:
        yield ""
        yield from _tried(report.trial, options, columns)
    elif report.interrupted and census.is_whole:
        yield "interrupted: the sample was not fetched to its end, and says nothing"
    elif not options.survey.sample:
        advice = "add --sample 500 to fetch so many rows and estimate success, size, time and settings by them"
        yield beside(_head("next"), advice, columns)


def _head(name: str) -> str:
    return f"{name:<{HEAD}}"


def _counted(census: Census, columns: int) -> Iterator[str]:
    """Yield what was counted."""
    where = f"in {census.files:,} files" if census.files > 1 else "in one file"
    of_size = "" if census.file_bytes is None else f" of {size(census.file_bytes)}"
    looked = f"looked at in {census.seconds:.1f} s"
    yield beside(_head("rows"), f"{census.rows:,} {where}{of_size}, {looked}", columns)
    if census.columns:
        yield beside(_head("columns"), ", ".join(census.columns), columns)
    for hint in census.column_hints:
        yield beside(_head("") + "→ ", hint, columns)
    yield beside(_head("hosts"), _hosts_in_words(census), columns)
    named = census.top_hosts[:NAMED] if len(census.top_hosts) > 1 else ()
    for host in named:
        share = f"{host.rows / census.rows:>7.1%}"
        more = f" (and up to {host.missed:,} more)" if host.missed else ""
        yield f"{_head('')}{host.rows:>13,} {share}  {cut(host.value, columns - HEAD - 24)}{more}"
    yield beside(_head("repeats"), _repeats_in_words(census), columns)
    if census.most_repeated:
        head = f"{_head('')}{census.most_repeats:,} times: "
        yield head + cut(census.most_repeated, columns - len(head))


def _hosts_in_words(census: Census) -> str:
    if not census.top_hosts:
        return "none: no row has a URL that anybody can be asked for"
    told = [f"{_about(census.hosts)}; the largest has {census.share_of_top(1):.1%} of the rows"]
    told += [
        f"the {count} largest {census.share_of_top(count):.1%}" for count in (10, 100) if census.hosts.count > count
    ]
    return ", ".join(told)


def _repeats_in_words(census: Census) -> str:
    if not census.repeats.count:
        return "none: no URL comes twice" if census.repeats.is_exact else "none among those that were compared"
    return f"{_about(census.repeats)} rows ({census.repeats.count / census.rows:.1%}) have a URL that came before"


def _about(count: About) -> str:
    """Return a count, and how far off it may be."""
    return f"{count.count:,}" if count.is_exact else f"about {count.count:,} (give or take {count.margin:,})"


def _suspicious(census: Census, columns: int) -> Iterator[str]:
    """Yield which rows look wrong, each kind with an example and what to do."""
    if not census.suspects:
        yield beside(_head("suspicious"), "no row looks wrong", columns)
        return
    rows = sum(one.rows for one in census.suspects)
    yield beside(_head("suspicious"), f"{rows:,} rows ({rows / census.rows:.1%})", columns)
    for said, is_fetched in (("cannot be fetched", False), ("are fetched all the same", True)):
        ones = [one for one in census.suspects if one.is_fetched is is_fetched]
        if ones:
            yield f"  {sum(one.rows for one in ones):,} {said}"
        for one in ones:
            head = f"{one.rows:>{HEAD - 2},}  {one.what:<21}  "
            yield (head + cut(one.examples[0], columns - len(head))).rstrip()
            yield beside(f"{_head('')}→ ", one.advice, columns)


def _tried(trial: Trial, options: PlanOptions, columns: int) -> Iterator[str]:
    """Yield what a sample came to, and what follows for the list."""
    rows = options.survey.sample

    def line(name: str, text: str) -> str:
        return beside(_head(name), text, columns)

    few = "" if trial.rows >= rows else ", all that there are"
    how = f"by {trial.processes} process{'es' if trial.processes > 1 else ''} in {trial.seconds:.1f} s"
    yield line("sample", f"{trial.rows:,} rows drawn at random (seed {options.survey.seed}){few}, fetched {how}")
    yield line("success", f"{_range(trial.success_share, _percent)}: {_range(trial.images, _whole)} images of the list")
    yield from _failed(trial, columns)
    each = _range(trial.received_each, _small)
    yield line("received", f"{each} a row: {_range(trial.received, _large)} for the list")
    yield line("disk", _disk_in_words(trial))
    yield line(
        "speed",
        f"{_range(trial.rows_per_second, _rate)} rows/s, {_range(trial.images_per_second, _rate)} images/s, "
        f"{_range(trial.megabits_per_second, _rate)} Mb/s",
    )
    yield line("time", f"{_range(trial.hours, _hours)} for the list on this machine")
    yield line("", f"{trial.hours.how}; {_NOT_ALIKE}")
    for note in trial.notes:
        yield beside(_head("") + "→ ", note, columns)
    yield "settings"
    for setting in trial.settings:
        mark = "→ " if setting.is_change else "  "
        head = f"{mark}--{setting.option} {setting.value}"
        yield beside(f"{head:<{SETTING}}  ", setting.why, columns)


# Characters of an option and its value.
SETTING: Final = 33
# In what a sample is not like its list.
_NOT_ALIKE: Final = "a sample also looks more names up for each row, and asks hosts for less at a time, than its list"


def _failed(trial: Trial, columns: int) -> Iterator[str]:
    from async_img2ds.hints import HINTS

    for name, count in list(trial.error_classes.items())[:NAMED]:
        yield beside(f"  {count / trial.rows:>7.1%}  {name:<20}  ", HINTS.get(name, ""), columns)
    if others := sum(list(trial.error_classes.values())[NAMED:]):
        yield f"  {others / trial.rows:>7.1%}  for other reasons"


def _disk_in_words(trial: Trial) -> str:
    said = f"{_range(trial.written_each, _small)} a row: {_range(trial.disk, _large)} for the list"
    if trial.image_bytes:
        said += (
            f"; half of the images are below {_small(trial.image_bytes[0])}, 95 % below {_small(trial.image_bytes[1])}"
        )
    return said + ("" if trial.room is None else f"; {_large(trial.room)} are free")


def _range(estimate: Estimate, shown: Any) -> str:  # noqa: ANN401  a number → words
    """Return an estimate and between what it lies, its unit said once."""
    likely, low = shown(estimate.likely), shown(estimate.low)
    high = "" if math.isinf(estimate.high) else shown(estimate.high)
    if low == high:
        return str(likely)
    if math.isinf(estimate.high):
        return f"{likely} ({low} or more)"
    if low.partition(" ")[2] == high.partition(" ")[2]:
        low = low.partition(" ")[0]
    return f"{likely} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _whole(count: float) -> str:
    return f"{round(count):,}" if count < 10_000 else f"{_two(count):,.0f}"  # noqa: PLR2004  few digits are of worth


def _two(value: float) -> float:
    """Return *value* with three digits that are not 0: no sample says more."""
    return float(f"{value:.3g}")


def _small(count: float) -> str:
    return f"{count:,.0f} B" if count < 1000 else f"{_two(count / 1000):,.4g} kB" if count < 1e6 else _large(count)  # noqa: PLR2004


def _large(count: float) -> str:
    unit, bytes_in = next((each for each in _UNITS if count >= each[1]), _UNITS[-1])
    return f"{_two(count / bytes_in):,g} {unit}"


_UNITS: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))


def _rate(value: float) -> str:
    return f"{_two(value):,.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004  as above


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"  # noqa: PLR2004  four days
