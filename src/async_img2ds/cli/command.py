"""A typer command made from the declarations of its options."""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from async_img2ds.cli.outcome import told_by_status
from async_img2ds.cli.spelling import Spelling, given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from async_img2ds.flags import Flag

__all__ = ["add_command"]


def add_command(
    app: typer.Typer,
    name: str,
    function: Callable[..., None],
    groups: Mapping[type, Iterable[Flag]],
    order: tuple[str, ...],
) -> None:
    """Have *function* called by *name* in *app*, with what is said of the options of *groups*.

    Those in *order* need no name.
    """
    in_groups = [(group, flag) for group, of_group in groups.items() for flag in of_group]
    flags = tuple(flag for _, flag in in_groups)
    spelling = Spelling(flags, order)

    @functools.wraps(function)
    def command(**words: Any) -> None:  # noqa: ANN401  typed by the signature made below
        with told_by_status():
            said = given(words, flags)
        function(**said)

    parameters = [_parameter(flag, _panel(group)) for group, flag in in_groups]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect.signature looks for first
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}

    class Spelled(TyperCommand):
        declared = tuple(in_groups)  # from which its page is made

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  typer's own copy of click's Context
            with told_by_status():
                words = spelling.in_one_spelling(args, os.environ)
            return super().parse_args(ctx, words)

    app.command(name, cls=Spelled)(command)


def _parameter(flag: Flag, panel: str) -> inspect.Parameter:
    # All values arrive as words, which the options read themselves: one place that knows what is accepted and says so.
    kind = list[str] if flag.kind is tuple and not flag.required else str
    if flag.required:
        made: Any = typer.Argument(help=escape(flag.help), show_default=False, metavar=flag.name.upper())
        return inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, made])
    names = [f"--{flag.name}", *([f"--{flag.also}"] if flag.also else [])]
    made = typer.Option(
        *names,
        help=escape(flag.help + _default_in_words(flag)),
        show_default=False,
        metavar=_metavar(flag),
        rich_help_panel=panel,
        autocompletion=_completion(flag),
    )
    return inspect.Parameter(
        flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, made]
    )


def _completion(flag: Flag) -> Callable[[str], list[str]] | None:
    """Return what a shell asks for the words that an option may have, None if they are countless."""
    words = flag.choices or (("True", "False") if flag.kind is bool else ())

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    complete.__annotations__ = {"incomplete": str}  # typer tells by the type what it is to be given
    return complete if words else None


def _panel(group: type) -> str:
    return (group.__doc__ or "").rstrip(".")


def _default_in_words(flag: Flag) -> str:
    if flag.default is None or isinstance(flag.default, tuple):  # its help says it, if there is anything to say
        return ""
    return f" Default: {flag.default:g}." if isinstance(flag.default, float) else f" Default: {flag.default}."


def _metavar(flag: Flag) -> str:
    if flag.choices and flag.kind is not tuple:
        return "|".join(flag.choices)
    return {str: "TEXT", int: "N", float: "NUMBER", bool: "BOOL", tuple: "LIST"}[flag.kind]
