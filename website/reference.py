"""The parts of the documentation that are made from the program itself: commands, options, reasons, Python's names.

A page in ``docs/`` has pairs of marks, ``<!-- made: reasons Names -->`` and ``<!-- end -->``. What stands between them
is for readers of the source, and is replaced by what the entry ``reasons`` of :data:`MADE` returns of ``Names``. Each
command has a page of its own besides.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import typer.main

import async_img2ds
from async_img2ds import cli
from async_img2ds.errors import MAY_HEAL, NOT_FETCHED, ErrorClass
from async_img2ds.hints import FASTER, HINTS
from async_img2ds.options import POSITIONAL, flags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from async_img2ds.flags import Flag

__all__ = ["GROUPS_OF_REASONS", "MADE", "command_page", "commands", "filled"]

_MARKS: Final = re.compile(r"<!-- made: (\w+)(?: ([^>]+?))? -->\n.*?<!-- end -->", flags=re.DOTALL)

# The command → the function that does the same, where it is called otherwise.
FUNCTIONS: Final[Mapping[str, str]] = {"fetch": "download", "plan": "survey"}

# A signature with more parameters is one with options, which have pages of their own.
MANY_PARAMETERS: Final = 12

# How reasons begin → what they are about. A reason belongs to the first that it fits.
GROUPS_OF_REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "The row itself": ("url_", "duplicate", "addr_", "port_", "source_"),
    "Names": ("dns_",),
    "Connections": ("connect_", "host_"),
    "Certificates": ("tls_",),
    "Answers": ("http_", "redirect_"),
    "Bodies": ("read_", "total_", "too_slow", "body_", "content_", "hash_"),
    "Reservations of owners": ("optout_", "robots_"),
    "Images": ("not_image", "decode_", "too_small", "area", "aspect", "bbox_", "encode_"),
    "The program": ("internal",),
}


class Declared(Protocol):
    """A command of the command line that knows of what options it was made."""

    help: str
    declared: tuple[tuple[type, Flag], ...]


def commands() -> Mapping[str, Declared]:
    """Return every command by its name, in the order of the help."""
    return cast("Mapping[str, Declared]", getattr(typer.main.get_command(cli.app), "commands"))  # noqa: B009  typer's own group, which no type has


def filled(page: str) -> str:
    """Return *page* with what is made between its marks.

    Raises:
        KeyError: nothing of such a name is made.

    """
    return _MARKS.sub(lambda found: MADE[found[1]](found[2] or ""), page)


def command_page(name: str) -> str:
    """Return the page on the command *name*."""
    command = commands()[name]
    arguments = " ".join(flag.name.upper() for _, flag in command.declared if flag.required)
    lines = [f"# aimg2ds {name}", "", command.help, "", f"```sh\naimg2ds {name} {arguments} [OPTIONS]\n```", ""]
    function = FUNCTIONS.get(name, name)
    if function in async_img2ds.__all__:
        lines += [f"In Python: [`{function}`](api.md#{function}), with the same options as keywords.", ""]
    lines += ["Where an option shapes the dataset, a run that goes on with another value of it is refused.", ""]
    last: type | None = None
    for group, flag in command.declared:
        if group is not last:
            lines += [f"## {(group.__doc__ or '').rstrip('.')}", ""]
            last = group
        lines += [*_option(flag), ""]
    return "\n".join(lines)


def _option(flag: Flag) -> Iterator[str]:
    """Yield the lines on one option."""
    yield f"### {flag.name.upper() if flag.required else f'`--{flag.name}`'} {{ #{flag.name} }}"
    yield ""
    yield _plain(flag.help)
    yield ""
    facts = [f"Takes {_accepted(flag)}"]
    if flag.also:
        facts.append(f"also `--{flag.also}`")
    if flag.required:
        facts.append("required")
    elif "Default:" not in flag.help:
        facts.append(f"default {_default(flag)}")
    if flag.shapes:
        facts.append("**shapes the dataset**")
    if flag.secret:
        facts.append("its value is told to nobody")
    yield " · ".join(facts)
    yield "{ .facts }"


def _accepted(flag: Flag) -> str:
    """Return what an option takes, its choices as they are typed."""
    if not flag.choices:
        return _plain(flag.accepts)
    several = "some of " if flag.kind is tuple else ""
    return several + ", ".join(f"`{choice}`" for choice in flag.choices)


def _default(flag: Flag) -> str:
    value = flag.default
    if value is None:
        return f"`{flag.unset}`"
    if flag.name.endswith("bytes_max"):
        return f"`{value}`, which is {value >> 20} MiB"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "`[]`"
    return f"`{value:g}`" if isinstance(value, float) and not math.isinf(value) else f"`{value}`"


def _commands(_: str) -> str:
    lines = ["| command | does |", "|---|---|"]
    lines += [f"| [`aimg2ds {name}`]({name}.md) | {_first(command.help)} |" for name, command in commands().items()]
    return "\n".join(lines)


def _first(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def _options(_: str) -> str:
    """Return every option of every command, by the alphabet."""
    places: dict[str, list[str]] = {}
    for name, command in commands().items():
        for _group, flag in command.declared:
            places.setdefault(flag.name, []).append(name)
    lines = ["| option | of |", "|---|---|"]
    for option in sorted(places):
        links = ", ".join(f"[{name}]({name}.md#{option})" for name in places[option])
        lines.append(f"| `{option}` | {links} |")
    return "\n".join(lines)


def _positions(_: str) -> str:
    """Return the options that may go by position, in their order."""
    return "\n".join(f"{number}. [`{name}`](fetch.md#{name})" for number, name in enumerate(POSITIONAL, 1))


def _shaping(_: str) -> str:
    """Return the options that shape a dataset."""
    return ", ".join(f"[`{flag.name}`](fetch.md#{flag.name})" for flag in flags() if flag.shapes)


def _reasons(title: str) -> str:
    """Return the reasons of a group, or of all: what each means, what to do, and whether a retry tries it again."""
    if title:
        members = reasons_by_group()[title]
        return "\n".join(
            f"`{reason}`{{ #{reason} }}\n:   {_plain(HINTS[reason])}.{_again(reason)}\n" for reason in members
        )
    lines: list[str] = []
    for name, members in reasons_by_group().items():
        lines += [f"## {name}", "", "| reason | means | fetched again by `retry` |", "|---|---|---|"]
        for reason in members:
            again = "if asked for" if reason not in NOT_FETCHED else "never"
            again = "yes" if reason in MAY_HEAL else again
            lines.append(f"| [`{reason}`](../troubleshooting.md#{reason}) | {_plain(HINTS[reason])} | {again} |")
        lines.append("")
    return "\n".join(lines)


def _again(reason: ErrorClass) -> str:
    return " Fetched again by `aimg2ds retry`." if reason in MAY_HEAL else ""


def reasons_by_group() -> dict[str, list[ErrorClass]]:
    """Return the reasons in the groups in which they are told.

    Raises:
        ValueError: one fits no group.

    """
    grouped: dict[str, list[ErrorClass]] = {title: [] for title in GROUPS_OF_REASONS}
    for reason in ErrorClass:
        fit = [title for title, begins in GROUPS_OF_REASONS.items() if reason.startswith(begins)]
        if not fit:
            raise ValueError(f"{reason} fits none of GROUPS_OF_REASONS")
        grouped[fit[0]].append(reason)
    return grouped


def _limits(_: str) -> str:
    lines = ["| limited by | faster with |", "|---|---|"]
    lines += [f"| {limit} | {_plain(advice)} |" for limit, advice in FASTER.items()]
    return "\n".join(lines)


def _statuses(_: str) -> str:
    """Return the exit statuses, as the docstring of the command line has them."""
    text = inspect.getdoc(cli) or ""
    lines = ["| status | means |", "|---|---|"]
    for status, meaning in re.findall(r"^(\d+(?:, \d+)*) +(\S.*(?:\n {2,}.*)*)", text, flags=re.MULTILINE):
        lines.append(f"| {status} | {' '.join(meaning.split())} |")
    return "\n".join(lines)


def _api(_: str) -> str:
    """Return every public name of the package: functions, then what they return, options, errors."""
    there = [(name, getattr(async_img2ds, name)) for name in async_img2ds.__all__ if name != "__version__"]
    kinds: dict[str, Callable[[Any], bool]] = {
        "Functions": inspect.isfunction,
        "Errors": lambda thing: isinstance(thing, type) and issubclass(thing, Exception),
        "Words": lambda thing: isinstance(thing, enum.EnumType),
        "Options": lambda thing: thing.__name__.endswith("Options"),
        "What is returned": lambda _: True,
    }
    found: dict[str, list[tuple[str, Any]]] = {kind: [] for kind in kinds}
    for name, thing in there:
        found[next(kind for kind, fits in kinds.items() if fits(thing))].append((name, thing))
    lines: list[str] = []
    for kind in ("Functions", "What is returned", "Options", "Words", "Errors"):
        lines += [f"## {kind}", ""]
        for name, thing in found[kind]:
            lines += [f"### `{name}` {{ #{name} }}", "", *_told_of(name, thing), ""]
    return "\n".join(lines)


def _told_of(name: str, thing: Any) -> Iterator[str]:  # noqa: ANN401  a function or a class
    """Yield the lines on a public name below its heading."""
    if inspect.isfunction(thing):
        yield f"```python\n{_signature(name, thing)}\n```"
        yield ""
    yield _as_markdown(inspect.getdoc(thing) or "", _types(thing))
    if isinstance(thing, enum.EnumType) and thing is not ErrorClass:
        yield ""
        yield ", ".join(f"`{member.value}`" for member in cast("type[enum.Enum]", thing))
    elif thing is ErrorClass:
        yield ""
        yield "Its values are [the reasons](reasons.md)."
    elif dataclasses.is_dataclass(thing) and name.endswith("Options"):
        yield ""
        yield ", ".join(f"`{field.name}`" for field in dataclasses.fields(thing))
    elif isinstance(thing, type) and issubclass(thing, Exception):
        yield ""
        base = thing.__bases__[0].__name__
        yield f"Is an [`{base}`](#{base})." if base in async_img2ds.__all__ else f"Is an `{base}`."


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return the signature of *function*, one parameter a line, and ``**options`` for many of them."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    said = [str(parameter).replace("'", "") for parameter in parameters]
    if len(parameters) > MANY_PARAMETERS:
        said = [said[0].split(":")[0], "**options"]
    # Awaitables are told apart by what is called, not by what it returns.
    begin = "await " if inspect.iscoroutinefunction(function) else ""
    returned = signature.return_annotation
    end = "" if returned is inspect.Signature.empty else f" -> {_type(returned)}"
    return f"{begin}{name}({', '.join(said)}){end}"


def _types(thing: Any) -> Mapping[str, str]:  # noqa: ANN401  a function or a class
    """Return the types of what a class has, by name."""
    return (
        {field.name: _type(field.type) for field in dataclasses.fields(thing)}
        if dataclasses.is_dataclass(thing)
        else {}
    )


def _type(annotation: Any) -> str:  # noqa: ANN401  as annotations are
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


_SECTION: Final = re.compile(r"^(Args|Attributes|Raises|Returns):$")
_ENTRY: Final = re.compile(r"^    (\w+): (.*)$")


def _as_markdown(text: str, types: Mapping[str, str]) -> str:
    """Return a docstring as Markdown; its lists of names become lists of definitions, with their *types*."""
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        if found := _SECTION.match(line):
            section = found[1]
            lines += ["", f"**{section}**", ""]
        elif section == "Returns":
            lines.append(_marked_up(line.strip()))
        elif found := _ENTRY.match(line):
            kind = f" <small>{_escaped(types[found[1]])}</small>" if found[1] in types else ""
            name = f"[`{found[1]}`](#{found[1]})" if found[1] in async_img2ds.__all__ else f"`{found[1]}`"
            lines += ["", f"{name}{kind}", f":   {_marked_up(found[2])}"]
        else:
            # What stands at the margin below a list is not of its last entry.
            ends = line[:1].strip() and lines and lines[-1].startswith((" ", ":"))
            lines += [*([""] if ends else []), _marked_up(line)]
    return "\n".join(lines)


def _marked_up(line: str) -> str:
    """Return a line of a docstring with its roles and literals as Markdown has them."""

    def link(found: re.Match[str]) -> str:
        name = found[1].rpartition(".")[2]
        return f"[`{name}`](#{name})" if name in async_img2ds.__all__ else f"`{found[1]}`"

    line = re.sub(r":\w+:`~?([\w.]+)`", link, line)
    return re.sub(r"``(.+?)``", r"`\1`", line)


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


# What is typed stands out: an option, a name with underscores, a file of the dataset, an expression in brackets.
_TYPED: Final = re.compile(
    r"(?<![\w`])(--\w+|[a-zA-Z]+(?:_\w+)+|\[[\"']?\w.*?\]|'[^']+'(?=[\s.,;)]|$)|NNNNN\.\w+)(?![\w`])"
)


def _plain(text: str) -> str:
    """Return words of the command line as Markdown: what can be typed in code, and nothing taken for markup."""
    return _TYPED.sub(lambda found: f"`{found[1]}`", text).replace("<", "&lt;").replace("|", "\\|")


MADE: Final[Mapping[str, Callable[[str], str]]] = {
    "commands": _commands,
    "options": _options,
    "positions": _positions,
    "shaping": _shaping,
    "reasons": _reasons,
    "limits": _limits,
    "statuses": _statuses,
    "api": _api,
}
