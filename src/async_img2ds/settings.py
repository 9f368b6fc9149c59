"""Options from a file and from the environment, as words that the command line reads; and options as such a file."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from async_img2ds.flags import Flag

__all__ = ["PREFIX", "in_environment", "in_file", "to_toml"]

# What the name of an option begins with in the environment: AIMG2DS_IMAGE_SIZE=512.
PREFIX: Final = "AIMG2DS_"


def in_environment(environment: Mapping[str, str], known: Iterable[Flag]) -> dict[str, str]:
    """Return the words that *environment* has for options that are *known*; others are another command's."""
    names = {PREFIX + flag.name.upper(): flag.name for flag in known}
    return {name: environment[variable] for variable, name in names.items() if environment.get(variable)}


def in_file(path: str, known: Iterable[Flag]) -> dict[str, str]:
    """Return the words that the TOML file at *path* has for options: ``image_size = 512``, a line each.

    Raises:
        OptionsError: there is no such file, it is not TOML, or it has something that is no option that is *known*.

    """
    try:
        told = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"config: cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise OptionsError(f"config: {path} is not TOML: {error}") from None
    names = [flag.name for flag in known]
    for name, value in told.items():
        if isinstance(value, dict):
            raise OptionsError(f"config: {path} has a table [{name}]; options stand alone, as in image_size = 512")
        if name not in names or name == "config":
            near = difflib.get_close_matches(name, names, 1)
            raise OptionsError(f"config: {path} has no such option: {name}" + (f" (is it {near[0]}?)" if near else ""))
    return {name: _word(value) for name, value in told.items()}


def _word(value: Any) -> str:  # noqa: ANN401  whatever TOML has
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def to_toml(values: Iterable[tuple[Flag, Any]], kept_back: Mapping[str, str]) -> str:
    """Return options with their *values* as such a file; of those that are *kept_back* it says why they are.

    Options that are None, and would be without being said, stand as comments: TOML has no such value.
    """
    lines = []
    for flag, value in values:
        if flag.name in kept_back:
            lines.append(f"# {flag.name}: {kept_back[flag.name]}")
        elif value is None and flag.default is None:
            lines.append(f"# {flag.name}: {flag.unset}")
        else:
            lines.append(f"{flag.name} = {_in_toml('none' if value is None else value)}")
    return "\n".join(lines) + "\n"


def _in_toml(value: Any) -> str:  # noqa: ANN401  whatever an option is
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_in_toml, value)) + "]"
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else str(value)
