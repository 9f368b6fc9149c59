"""Whether the headers of an answer reserve the image against this use.

``X-Robots-Tag`` as Google and MDN document it: one or more header lines, each a comma list of rules; a rule may be
preceded by ``bot-name:``, and that name applies to every rule that follows until another name appears; rules before
any name apply to everybody. ``none`` stands for ``noindex, nofollow``. Some rules have values of their own behind a
colon, so a colon alone does not make a name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["ROBOTS_TOKEN", "disallowing_directive"]

# RFC 9309 allows letters, "_" and "-" in a product token, and the common matchers stop at the first other character.
ROBOTS_TOKEN: Final = "AsyncImgDS"  # noqa: S105  a name, not a secret

# Sites that name img2dataset mean this job, whoever does it.
_OUR_NAMES: Final = frozenset({ROBOTS_TOKEN.lower(), "img2dataset", "*", "robots"})
_VALUED: Final = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
# What is read of hostile headers at the most; aiohttp's own limits lie near it.
_LINES_MAX: Final = 64
_CHARACTERS_MAX: Final = 65_536
_TOKEN: Final = re.compile(r"([^,:]*)([,:]?)")
_WEEKDAY: Final = re.compile(r"\s*(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\s*,(?=\s*\d)", re.IGNORECASE)


def disallowing_directive(lines: Iterable[str], directives: Collection[str], our_name: str | None = None) -> str | None:
    """Return the first rule in *lines* that is among *directives* and addressed to us, or None.

    Args:
        lines: the values of all ``X-Robots-Tag`` headers of an answer, in order.
        directives: what counts as a reservation, in lower case.
        our_name: a further bot name to obey, beside our own, img2dataset's, ``*`` and ``robots``.

    """
    names = _OUR_NAMES | ({our_name.strip().lower()} if our_name else frozenset())
    for number, line in enumerate(lines):
        if number >= _LINES_MAX:
            break
        for name, rule in _rules(line[:_CHARACTERS_MAX]):
            reserves = rule in directives or (rule == "none" and "noindex" in directives)
            if reserves and (name is None or name in names):
                return rule
    return None


def _rules(line: str) -> Iterator[tuple[str | None, str]]:
    """Yield each rule without a value, in lower case, with the bot name it is addressed to."""
    name: str | None = None
    at = 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        assert found is not None  # the pattern matches an empty token, too
        token, end = found[1].strip().lower(), found[2]
        at = found.end()
        if end != ":":
            yield name, token
        elif token in _VALUED:
            at = _end_of_value(token, line, at)
        else:
            name = token


def _end_of_value(rule: str, line: str, at: int) -> int:
    """Return where the rule after a valued one begins; a date may begin with a weekday and a comma of its own."""
    if rule == "unavailable_after" and (weekday := _WEEKDAY.match(line, at)):
        at = weekday.end()
    comma = line.find(",", at)
    return len(line) if comma < 0 else comma + 1
