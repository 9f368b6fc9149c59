"""aimg2ds doctor: whether this machine is fit for a run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from async_img2ds import startup
from async_img2ds.cli.layout import beside, width
from async_img2ds.cli.outcome import DEFECTIVE, say, told_by_status
from async_img2ds.options import DoctorOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.checkup.doctor import DoctorReport

__all__ = ["doctor"]

_COLOURS: Final = {"ok": "green", "advice": "yellow", "problem": "red"}


def doctor(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Look at this machine: cores, memory, name servers, image library, disks and more, and say what to do.

    With a URL_LIST it looks up the names of that list's hosts.
    """
    with told_by_status():
        options = DoctorOptions.of(**words)
        report = asyncio.run(_run_doctor(options))
    say(_as_json(report) if options.checkup.json else "\n".join(_in_words(report, width())))
    if report.problems:
        raise typer.Exit(DEFECTIVE)


async def _run_doctor(options: DoctorOptions) -> DoctorReport:
    startup.keep_pandas_out()
    from async_img2ds.checkup.doctor import run_doctor

    startup.settle()
    return await run_doctor(options)


def _as_json(report: DoctorReport) -> str:
    """Return a report as one JSON object."""
    return json.dumps({**asdict(report), "problems": len(report.problems)}, ensure_ascii=False)


def _in_words(report: DoctorReport, columns: int) -> Iterator[str]:
    """Yield a line for each finding, and one for all."""
    for finding in report.findings:
        said = finding.said + (f" → {finding.advice}" if finding.advice else "")
        line = beside(f"{finding.verdict:<8} {finding.subject:<12} ", said, columns)
        yield typer.style(line[: len(finding.verdict)], fg=_COLOURS[finding.verdict]) + line[len(finding.verdict) :]
    advice = sum(finding.verdict == "advice" for finding in report.findings)
    problems = f"{len(report.problems) or 'no'} problem{'' if len(report.problems) == 1 else 's'}"
    yield f"{problems}, {advice or 'no'} advice, looked at in {report.seconds:.1f} s"
