"""How a command ends: its status, what is said where it cannot be carried out, and what a signal does to it."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from async_img2ds import startup
from async_img2ds.cli.logs import begin_logging
from async_img2ds.errors import AsyncImg2dsError, InputError, InputOutOfReach, OptionsError, redacted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from async_img2ds.distributors.base import Stop
    from async_img2ds.options import RunOptions

__all__ = ["AGAIN", "DEFECTIVE", "INCOMPLETE", "REFUSED", "end", "run_until_signalled", "say", "told_by_status"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

DEFECTIVE: Final = 1
REFUSED: Final = 2
INCOMPLETE: Final = 3
AGAIN: Final = "run the same command again"


def say(text: str, *, err: bool = False) -> None:
    """Print *text* without the credentials of URLs in it, which logs would keep.

    A reader that has gone, or a full disk behind a pipe, does not undo the work.
    """
    with suppress(OSError):
        typer.echo(redacted(text), err=err)


@contextmanager
def told_by_status() -> Iterator[None]:
    """Say in a line what a command cannot do, and end with the status for it."""
    try:
        yield
    except (OptionsError, InputError) as error:
        say(f"aimg2ds: {error}", err=True)
        raise typer.Exit(INCOMPLETE if isinstance(error, InputOutOfReach) else REFUSED) from None
    except AsyncImg2dsError as error:
        say(f"aimg2ds: {error}", err=True)
        raise typer.Exit(INCOMPLETE) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None


async def run_until_signalled(
    run: Callable[[Stop], Awaitable[T]], grace_s: float | None, voice: RunOptions | None = None
) -> tuple[T, int]:
    """Run, and log as *voice* says; the first SIGINT or SIGTERM drains, the second drops what is open or uncleared.

    Return what *run* returns and the signal, 0 for none.
    """
    startup.keep_pandas_out()
    from async_img2ds.distributors.base import Stop

    begin_logging(voice)
    stop = Stop()
    received: list[int] = []
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # on Windows, where Ctrl-C ends the run at once
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _heed, number, received, stop, grace_s)
    return await run(stop), received[0] if received else 0


def _heed(number: int, received: list[int], stop: Stop, grace_s: float | None) -> None:
    received.append(number)
    stop.ask()
    if len(received) == 1 and grace_s is not None:
        logger.warning("stopping: open shards get %g s to finish; once more to drop them now", grace_s)


def end(signalled: int, *, complete: bool) -> None:
    """End with the status of a command that was *signalled*, or of one that has or has not done all it meant to."""
    if signalled:
        raise typer.Exit(128 + signalled)
    if not complete:
        raise typer.Exit(INCOMPLETE)
