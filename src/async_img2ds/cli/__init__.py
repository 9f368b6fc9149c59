"""The command line: typer commands made from the options' own declarations, and the outcome as an exit status.

0  every row of the list is accounted for in a committed shard; all that was to be done again, or removed, was
1  a dataset that was checked has defects or is not finished, one that was added up has stats files that are damaged,
   a machine that was looked at has problems
2  the request was refused: an option or the list
3  the run ended with lost shards, internal errors, or workers that would not run; or was not begun, as another one
   writes to the folder, or the server of the folder or of the list does not answer: the same command goes on
130, 143  interrupted by Ctrl-C or SIGTERM; the same command goes on
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, TextIO

import typer

from async_img2ds import startup
from async_img2ds.cli.again import purge, retry
from async_img2ds.cli.command import add_command
from async_img2ds.cli.doctor import doctor
from async_img2ds.cli.fetch import fetch
from async_img2ds.cli.manifest import list_files
from async_img2ds.cli.outcome import say
from async_img2ds.cli.partition import partition
from async_img2ds.cli.plan import plan
from async_img2ds.cli.push import push
from async_img2ds.cli.report import report
from async_img2ds.cli.summary import summarize
from async_img2ds.cli.verify import verify
from async_img2ds.flags import flags_of
from async_img2ds.options import (
    DOCTOR_GROUPS,
    GROUPS,
    PARTITION_GROUPS,
    PLAN_GROUPS,
    POSITIONAL,
    PURGE_GROUPS,
    RETRY_GROUPS,
    ManifestOptions,
    PushOptions,
    ReportOptions,
    SummaryOptions,
    VerifyOptions,
    doctor_flags,
    later_flags,
    partition_flags,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="aimg2ds",
    help="Turn lists of image URLs into image datasets ready for machine learning.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line of this process."""
    startup.begin()
    try:
        app(prog_name="aimg2ds")
    except KeyboardInterrupt:  # before there was a run to stop
        sys.exit(128 + signal.SIGINT)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush_or_forget(stream)


def _flush_or_forget(stream: TextIO | None) -> None:
    """Have the interpreter end with our exit status even if *stream* cannot take its last words."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:  # as Python's "Note on SIGPIPE" advises, or it would fail again at the end, with status 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show_version(asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if asked:
        from importlib.metadata import version

        say(f"aimg2ds {version('async-img2ds')}")
        raise typer.Exit


@app.callback()
def _aimg2ds(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take what is said before a command."""


add_command(app, "fetch", fetch, {group: flags_of(group) for group in GROUPS.values()}, POSITIONAL)
add_command(app, "plan", plan, {group: flags_of(group) for group in PLAN_GROUPS.values()}, POSITIONAL)
add_command(app, "doctor", doctor, {group: doctor_flags(group) for group in DOCTOR_GROUPS.values()}, ("url_list",))
add_command(app, "retry", retry, {group: later_flags(group) for group in RETRY_GROUPS.values()}, ("output_folder",))
add_command(app, "purge", purge, {group: later_flags(group) for group in PURGE_GROUPS.values()}, ("output_folder",))
add_command(
    app,
    "partition",
    partition,
    {group: partition_flags(group) for group in PARTITION_GROUPS.values()},
    ("url_list", "output_folder"),
)
add_command(app, "verify", verify, {VerifyOptions: flags_of(VerifyOptions)}, ("output_folder",))
add_command(app, "summary", summarize, {SummaryOptions: flags_of(SummaryOptions)}, ("output_folder",))
add_command(app, "report", report, {ReportOptions: flags_of(ReportOptions)}, ("output_folder",))
add_command(app, "manifest", list_files, {ManifestOptions: flags_of(ManifestOptions)}, ("output_folder",))
add_command(app, "push", push, {PushOptions: flags_of(PushOptions)}, ("output_folder", "destination"))
