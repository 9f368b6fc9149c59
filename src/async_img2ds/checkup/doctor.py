"""doctor(): look at this machine, and say of each thing whether it is well and what to do if not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from async_img2ds.blocking import DaemonThread, look_at, waited_for
from async_img2ds.checkup.disks import finding_of_output, finding_of_temp
from async_img2ds.checkup.libraries import findings_of_libraries
from async_img2ds.checkup.machine import findings_of_machine
from async_img2ds.checkup.names import hosts_in, look_up
from async_img2ds.errors import AsyncImg2dsError
from async_img2ds.options import DoctorOptions
from async_img2ds.policy.findings import Finding, Verdict, of_lookups

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DoctorReport", "doctor", "run_doctor"]

T = TypeVar("T")

# What takes longer is given up: a disk or a list that does not answer.
GIVEN_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What was found out about a machine: what ``doctor`` returns.

    Attributes:
        findings: one for each thing that was looked at.
        seconds: how long it took.

    """

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Those by which a run would fail, or lose many rows."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.PROBLEM)


def doctor(url_list: Any = None, **options: Any) -> DoctorReport:  # noqa: ANN401  checked against their fields
    """Look at this machine, with the options of ``aimg2ds doctor`` as keywords.

    From a script, a notebook, or inside a running event loop. Names are looked up, of the hosts of *url_list* if there
    is one; else nothing is sent, and what is written is gone at the end.

    Raises:
        OptionsError: an option cannot be used.
        InputError: the list cannot be read.

    """
    named = {} if url_list is None else {"url_list": url_list}
    checked = DoctorOptions.of(**named, **options)
    return waited_for(lambda: run_doctor(checked))


async def run_doctor(options: DoctorOptions) -> DoctorReport:
    """Look at everything that *options* name, some of it at a time, and for a few seconds."""
    began = time.monotonic()
    refused: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            names = tasks.create_task(_finding_of_names(options))
            still = tasks.create_task(_within(lambda: [*findings_of_libraries(), *findings_of_machine(options)]))
            temp = tasks.create_task(_finding_of_disk("temp", partial(finding_of_temp, options)))
            output = tasks.create_task(_finding_of_disk("output", partial(finding_of_output, options)))
    except* AsyncImg2dsError as errors:
        refused = errors.exceptions[0]
    if refused is not None:
        raise refused
    findings = (*(still.result() or ()), names.result(), temp.result(), output.result())
    return DoctorReport(findings, time.monotonic() - began)


async def _finding_of_names(options: DoctorOptions) -> Finding:
    if options.input is None:
        return of_lookups(await look_up(options.checkup.names, "names that are there for it", options.fetch))
    hosts = await _within(partial(hosts_in, options.input))
    if hosts is None:
        said = f"not checked: the list was not read within {GIVEN_S:g} s"
        return Finding("DNS", Verdict.ADVICE, said, "leave the list out, or see what holds it up")
    return of_lookups(await look_up(hosts, "hosts of the list", options.fetch))


async def _finding_of_disk(use: str, look: Callable[[], Finding]) -> Finding:
    finding = await _within(look)
    if finding is None:
        return Finding(use, Verdict.PROBLEM, f"did not answer within {GIVEN_S:g} s", "choose another folder")
    return finding


async def _within(work: Callable[[], T]) -> T | None:
    """Return what *work* returns, done in a thread that keeps nobody waiting for longer than it may; None then."""
    thread = DaemonThread("doctor")
    outcome = asyncio.wrap_future(thread.submit(work))
    thread.shutdown()
    await asyncio.wait((outcome,), timeout=GIVEN_S)
    if outcome.done():
        return outcome.result()
    outcome.add_done_callback(look_at)
    return None
