"""What an option is: declared once as a field, read from words or values, refused in words that say what is accepted.

The groups in ``options/`` are made of these; the command line and its help are made from them.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Final

from async_img2ds.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["JUST_ABOVE_ZERO", "Checked", "Flag", "flags_of", "option"]

# The least value of options that may be any positive number of seconds.
JUST_ABOVE_ZERO: Final = 0.001
# Of so many choices that nobody finds theirs in the list of them, the nearest is told.
MANY: Final = 12


def option(  # noqa: PLR0913  an option has so many sides
    default: Any = dataclasses.MISSING,  # noqa: ANN401  a default is of the field's own type, which the field annotates
    *,
    help: str,  # noqa: A002  the word every command-line library uses
    choices: tuple[str, ...] = (),
    least: float = -math.inf,
    most: float = math.inf,
    whole: tuple[str, str] | None = None,
    unset: str = "none",
    secret: bool = False,
    shapes: bool | None = None,
    also: str = "",
) -> Any:  # noqa: ANN401  as dataclasses.field itself
    """Declare one option; *least* and *most* are inclusive.

    A list whose items may have commas in them is not split at these; *whole* says what an item is called, and how a
    list of them is written. *unset* is another word for None. The value of a *secret* one is told to nobody. *shapes*
    says whether it changes what a dataset holds, given the same answers; by default its group's ``SHAPE`` says it.
    *also* is another name for it on the command line.
    """
    words = {"help": help, "choices": choices, "whole": whole, "unset": unset, "also": also}
    limits = {"least": least, "most": most}
    return field(default=default, repr=not secret, metadata={**words, **limits, "secret": secret, "shapes": shapes})


class Checked:
    """Turn the words of each field into its type, and refuse what its declaration does not allow."""

    __slots__ = ()
    SHAPE: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for flag in flags_of(type(self)):
            object.__setattr__(self, flag.name, flag.accept(getattr(self, flag.name)))


@dataclass(frozen=True, slots=True)
class Flag:
    """One option as the command line and the help see it."""

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...]
    least: float
    most: float
    whole: tuple[str, str] | None
    unset: str
    secret: bool
    shapes: bool
    also: str

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is dataclasses.MISSING

    @property
    def optional(self) -> bool:
        """Whether it may be None."""
        return type(None) in typing.get_args(self.type)

    @property
    def kind(self) -> type:
        """The plain type of its values: str, int, float, bool or tuple."""
        inner = self.type
        if isinstance(inner, types.UnionType):
            inner = next(part for part in typing.get_args(inner) if part is not type(None))
        return typing.cast("type", typing.get_origin(inner) or inner)

    def accept(self, value: object) -> object:
        """Return *value* as this option's type.

        Raises:
            OptionsError: it is not one that this option accepts; says what is.

        """
        may_be_empty = self.kind is tuple and not self.required
        unset = isinstance(value, str) and value.strip().lower() in ("none", "null", self.unset)
        if unset and (self.optional or may_be_empty):
            value = None
        if not isinstance(value, bool) and str(value) in self.choices:  # 4 is as good as "4"
            value = str(value)
        if value is None:
            if self.optional:
                return None
            if may_be_empty:
                return ()
            raise OptionsError(f"{self.name} takes {self.accepts}; got None")
        if self.whole and may_be_empty and value in ([], (), "[]"):
            return ()
        read = _read_whole_items(value) if self.whole else _READERS[self.kind](value)
        if read is None or not self._allowed(read):
            raise OptionsError(f"{self.name} takes {self.accepts}" + ("" if self.secret else self._got(value)))
        if self.choices and isinstance(read, tuple):
            return tuple(item.lower() for item in read)
        return read.lower() if self.choices and isinstance(read, str) else read

    def _got(self, value: object) -> str:
        words = [str(word).lower() for word in (value if isinstance(value, list | tuple) else [value])]
        near = [match for word in words for match in difflib.get_close_matches(word, self.choices, 1)]
        return f"; got {value!r}" + (f", which may mean {near[0]}" if near and len(self.choices) > MANY else "")

    def _allowed(self, value: object) -> bool:
        if self.choices and isinstance(value, tuple):
            return all(item.lower() in self.choices for item in value)
        if self.choices:
            return isinstance(value, str) and value.lower() in self.choices
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self.least <= value <= self.most
        return value != ""

    @property
    def accepts(self) -> str:
        """What the option takes, in words."""
        if self.choices:
            said = (
                ", ".join(self.choices[:-1]) + " or " + self.choices[-1]
                if len(self.choices) > 1
                else f"only {self.choices[0]}"
            )
        elif self.whole:
            said = f"a {self.whole[0]}, or a list of {self.whole[0]}s such as {self.whole[1]}"
        else:
            said = {
                str: "a text",
                int: "a whole number",
                float: "a number",
                bool: "True or False",
                tuple: 'a list such as ["a","b"], or []',
            }[self.kind]
            if math.isfinite(self.least):
                said += f" of at least {self.least:g}" if self.least != JUST_ABOVE_ZERO else " above 0"
            if math.isfinite(self.most):
                said += f" and at most {self.most:g}"
        return said + (f", or {self.unset.replace('none', 'None')}" if self.optional else "")


@functools.cache
def _flags_of(group: typing.Hashable) -> tuple[Flag, ...]:
    assert isinstance(group, type)
    hints = typing.get_type_hints(group)
    shape = getattr(group, "SHAPE", False)
    return tuple(Flag(f.name, hints[f.name], f.default, **_sides(f.metadata, shape)) for f in dataclasses.fields(group))


def _sides(told: Mapping[str, Any], shape: bool) -> dict[str, Any]:  # noqa: FBT001  no flag of a caller's
    return {**told, "shapes": shape if told["shapes"] is None else told["shapes"]}


def flags_of(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options that the dataclass *group* declares, in order."""
    return _flags_of(typing.cast("typing.Hashable", group))


def _read_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if hasattr(value, "__fspath__") else None


def _read_whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):  # NumPy's, too
        return int(value)
    if isinstance(value, Real) and float(value).is_integer():
        return int(float(value))
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return None


def _read_number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Real | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return None if math.isnan(number) else number
    return None


def _read_bool(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            value.strip().lower()
        )
    return bool(value) if isinstance(value, Integral) and value in (0, 1) else None  # a bool is one of these, too


def _read_list(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = _read_list_words(value.strip())
    if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    return None


def _read_whole_items(value: object) -> tuple[str, ...] | None:
    """Read one item, whatever commas are in it, or a list of them; in words a list is written ``["a","b"]``."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            read = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):  # such as a path that begins with a bracket
            read = None
        if isinstance(read, list) and all(isinstance(item, str) for item in read):
            value = read
    items = [_read_text(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return tuple(item for item in items if item) if items and all(items) else None


def _read_list_words(text: str) -> list[object] | None:
    """Read ``["a","b"]``, ``("a","b")``, ``[a, b]``, ``a,b`` or ``a``; no text at all is no list."""
    if text[:1] + text[-1:] in ("[]", "()"):
        try:
            read = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            inner = text[1:-1]
            if "[" not in inner and "]" not in inner:  # else they are the brackets of addresses, such as [::1],[::2]
                text = inner
        else:
            return list(read) if isinstance(read, list | tuple) else None
        if not text.strip():
            return []
    return [word.strip().strip("'\"") for word in text.split(",")] if text else None


_READERS: Final[Mapping[type, Any]] = {
    str: _read_text,
    int: _read_whole,
    float: _read_number,
    bool: _read_bool,
    tuple: _read_list,
}
