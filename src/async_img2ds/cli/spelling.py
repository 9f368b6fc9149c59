"""The ways in which people type options, brought to one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, cast

from async_img2ds.settings import in_environment, in_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from async_img2ds.flags import Flag

__all__ = ["Spelling", "given", "joined"]

_CONFIG: Final = "--config="
# Who asks for help gets it, whatever else is said.
_HELP: Final = ("--help",)
_TRUTHS: Final = frozenset({"true", "false", "1", "0", "yes", "no"})


@dataclass(frozen=True, slots=True)
class Spelling:
    """The ways in which the options of a command may be typed: its *flags*, and *order*, those that need no name.

    The first of these, which it cannot do without, are its arguments.
    """

    flags: tuple[Flag, ...]
    order: tuple[str, ...]

    def in_one_spelling(self, words: list[str], environment: Mapping[str, str] | None = None) -> list[str]:
        """Bring the ways in which people type options to one: flags as ``--name=value``, then the arguments.

        Python Fire reads img2dataset's command line: a name with ``_`` or ``-`` behind one dash or two, its value
        behind ``=`` or as the next word, a switch bare, with a value, or as ``--noname``; words that belong to no flag
        are the options in the order of the function's parameters that no flag names. What is not said so may be said
        in the *environment* or in the file that ``--config`` names.

        Raises:
            OptionsError: that file cannot be read, or has something else than options.

        """
        spelled: list[str] = []
        alone: list[str] = []
        named: set[str] = set()
        rest = deque(words)
        while rest:
            word = rest.popleft()
            found = self._flag_in(word)
            if word == "--":
                alone += rest
                break
            if found is None:
                (spelled if word.startswith("-") else alone).append(word)
                continue
            flag, value = found
            if value is None and flag.kind is bool:
                value = rest.popleft() if rest and rest[0].lower() in _TRUTHS else "True"
            elif value is None and rest and self._flag_in(rest[0]) is None:
                value = rest.popleft()
            named.add(flag.name)
            spelled.append(f"--{flag.name}={value or ''}")
        left = [name for name in self.order if name not in named]
        spelled += [f"--{name}={word}" for name, word in zip(left, alone, strict=False)]
        if not any(word in _HELP for word in words):
            spelled = self._with_said_elsewhere(spelled, named.union(left[: len(alone)]), environment or {})
        # The arguments are flags, too, where people come from.
        required = {flag.name for flag in self.flags if flag.required}
        as_flags = [f"--{name}=" for name in self.order if name in required]
        said = [[word.removeprefix(flag) for word in spelled if word.startswith(flag)][-1:] for flag in as_flags]
        arguments = [word for words in takewhile(bool, said) for word in words]
        flags_only = [word for word in spelled if not word.startswith(tuple(as_flags))]
        return [*flags_only, *(["--", *arguments] if arguments else []), *alone[len(left) :]]

    def _with_said_elsewhere(
        self, spelled: list[str], named: AbstractSet[str], environment: Mapping[str, str]
    ) -> list[str]:
        """Return *spelled*, and what the environment and a file say of options that are not *named*."""
        said = in_environment(environment, self.flags)
        if any(flag.name == "config" for flag in self.flags):
            files = [word.removeprefix(_CONFIG) for word in spelled if word.startswith(_CONFIG)]
            from_environment = said.pop("config", None)
            spelled = [word for word in spelled if not word.startswith(_CONFIG)]  # what it says is all there is to it
            if path := files[-1] if files else from_environment:
                said = {**in_file(path, self.flags), **said}
        return [*spelled, *(f"--{name}={word}" for name, word in said.items() if name not in named)]

    def _flag_in(self, word: str) -> tuple[Flag, str | None] | None:
        """Return the flag that *word* names and its value if there is one in it; None if it names none."""
        if not word.startswith("-"):
            return None
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        for flag in self.flags:
            if name in (flag.name, flag.also):
                return flag, value if equals else None
            if name == f"no{flag.name}" and flag.kind is bool and not equals:
                return flag, "False"
        return None


def given(words: Mapping[str, Any], known: Iterable[Flag]) -> dict[str, object]:
    """Return what was said of the *known* flags."""
    said = {flag: words[flag.name] for flag in known}
    return {flag.name: joined(flag, word) for flag, word in said.items() if word is not None and word != []}


def joined(flag: Flag, word: str | list[str]) -> object:
    """Make one list of a repeated list option: each time it may hold one item or several.

    None, said alone, stays None: for some options that is not the empty list but "as usual".
    """
    if isinstance(word, str):
        return word
    lists = [cast("tuple[str, ...] | None", flag.accept(part)) for part in word]
    return None if lists == [None] else [item for items in lists for item in items or ()]
