"""The command line: typer commands made from the options' own declarations, and the outcome as an exit status.

0  every row of the list is accounted for in a committed shard
2  the request was refused: an option or the list
3  the run ended with lost shards, internal errors, or workers that would not run
130, 143  interrupted by Ctrl-C or SIGTERM; the same command goes on
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO, cast

import typer

from async_img2ds.errors import AsyncImg2dsError, ErrorClass, InputError, OptionsError
from async_img2ds.flags import Flag, flags_of
from async_img2ds.options import GROUPS, Options, flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_img2ds.records import RunReport
    from async_img2ds.run import Stop

__all__ = ["app", "main"]

logger = logging.getLogger(__name__)

REFUSED: Final = 2
INCOMPLETE: Final = 3

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
    try:
        app(_in_one_spelling(sys.argv[1:]), prog_name="aimg2ds")
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

        typer.echo(f"aimg2ds {version('async-img2ds')}")
        raise typer.Exit


@app.callback()
def _aimg2ds(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Have commands below ``aimg2ds``, even while there is only one."""


def _fetch(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
    """Fetch the images of a URL list into a dataset."""
    given = {name: word for name, word in words.items() if word is not None and word != []}
    try:
        options = Options.of(**{name: _joined(name, word) for name, word in given.items()})
        report, signalled = asyncio.run(_run_until_signalled(options))
    except (OptionsError, InputError) as error:
        typer.echo(f"aimg2ds: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    except AsyncImg2dsError as error:
        typer.echo(f"aimg2ds: {error}", err=True)
        raise typer.Exit(INCOMPLETE) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    with suppress(OSError):  # a reader that has gone, or a full disk behind a pipe, does not undo the work
        typer.echo(_summary(report, options))
    if signalled:
        typer.echo("interrupted: run the same command again to go on", err=True)
        raise typer.Exit(128 + signalled)
    if not report.complete:
        raise typer.Exit(INCOMPLETE)


async def _run_until_signalled(options: Options) -> tuple[RunReport, int]:
    """Run; the first SIGINT or SIGTERM drains, the second drops what is open.

    Return the report and the signal, 0 for none.
    """
    from async_img2ds.run import Stop, run

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = Stop()
    received: list[int] = []
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # on Windows, where Ctrl-C ends the run at once
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _heed, number, received, stop, options.run.grace_s)
    return await run(options, stop), received[0] if received else 0


def _heed(number: int, received: list[int], stop: Stop, grace_s: float) -> None:
    received.append(number)
    stop.ask()
    if len(received) == 1:
        logger.warning("stopping: open shards get %g s to finish; once more to drop them now", grace_s)


def _summary(report: RunReport, options: Options) -> str:
    """Return the end of a run in words and figures."""
    from async_img2ds.hints import HINTS

    rows = report.count
    lines = [
        f"{report.successes:,} of {rows:,} images in {report.seconds:.1f} s ({report.images_per_second:.0f} images/s), "
        f"{report.bytes_received / 1e6:,.1f} MB received, {report.bytes_written / 1e6:,.1f} MB of images written",
        f"shards: {report.shards_done} done"
        + (f", {report.shards_skipped} were done before" if report.shards_skipped else "")
        + (f", {len(report.shards_lost)} LOST" if report.shards_lost else ""),
    ]
    if failed := rows - report.successes:
        lines.append(
            f"failed: {failed:,} ({report.failed_to_download:,} not downloaded, "
            f"{report.failed_to_resize:,} not made into an image)"
        )
        width = max(len(name) for name in report.error_classes)
        lines += [
            f"  {name:<{width}}  {count:>9,}  {HINTS[ErrorClass(name)]}" for name, count in report.error_classes.items()
        ]
    lines += [f"  shard {shard_id}: {reason}" for shard_id, reason in list(report.shards_lost.items())[:10]]
    lines.append(f"dataset: {options.output.output_folder}")
    return "\n".join(lines)


_TRUTHS: Final = frozenset({"true", "false", "1", "0", "yes", "no"})


def _in_one_spelling(arguments: list[str]) -> list[str]:
    """Bring the ways in which people type a flag to one: ``_`` for ``-`` in names, a value for a bare switch."""
    names = {f"--{flag.name}": flag for flag in flags()}
    spelled = []
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        flag = names.get(name.replace("-", "_").replace("__", "--", 1))
        if flag is None:
            spelled.append(word)
        elif flag.required:  # it is an argument here, and was a flag, too, where people come from
            spelled += [value] if equals else []
        elif flag.kind is bool and not equals and after.lower() not in _TRUTHS:
            spelled.append(f"--{flag.name}=True")
        else:
            spelled.append(f"--{flag.name}{equals}{value}")
    return spelled


def _joined(name: str, word: str | list[str]) -> object:
    """Make one list of a repeated list option: each time it may hold one item or several.

    None, said alone, stays None: for some options that is not the empty list but "as usual".
    """
    if isinstance(word, str):
        return word
    flag = next(flag for flag in flags() if flag.name == name)
    lists = [cast("tuple[str, ...] | None", flag.accept(part)) for part in word]
    return None if lists == [None] else [item for items in lists for item in items or ()]


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Give *function* a parameter for each option, so that typer makes flags and help of them."""
    parameters = [_parameter(flag, _panel(group)) for group in GROUPS.values() for flag in flags_of(group)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect.signature looks for first
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _parameter(flag: Flag, panel: str) -> inspect.Parameter:
    # All values arrive as words, which the options read themselves: one place that knows what is accepted and says so.
    kind = list[str] if flag.kind is tuple and not flag.required else str
    if flag.required:
        made: Any = typer.Argument(help=flag.help, show_default=False, metavar=flag.name.upper())
        return inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, made])
    made = typer.Option(
        f"--{flag.name}",
        help=flag.help + _default_in_words(flag),
        show_default=False,
        metavar=_metavar(flag),
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, made]
    )


def _panel(group: type) -> str:
    return (group.__doc__ or "").rstrip(".")


def _default_in_words(flag: Flag) -> str:
    if flag.default in (None, ()):
        return ""
    return f" Default: {flag.default:g}." if isinstance(flag.default, float) else f" Default: {flag.default}."


def _metavar(flag: Flag) -> str:
    if flag.choices:
        return "|".join(flag.choices)
    return {str: "TEXT", int: "N", float: "NUMBER", bool: "BOOL", tuple: "LIST"}[flag.kind]


app.command("fetch")(_command(_fetch))
