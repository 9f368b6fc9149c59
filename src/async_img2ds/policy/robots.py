"""robots.txt: which paths of a site may be fetched, and for what (RFC 9309).

Beside its allow and disallow a group may have ``Content-Signal`` (Cloudflare: ``ai-train=no`` reserves against
training) and ``Content-Usage`` (draft-ietf-aipref-attach: an optional path, and preferences).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from async_img2ds.policy.optout import our_names, reserved_by_usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["ROBOTS_BYTES_MAX", "PathPattern", "Robots", "normal", "parse"]

# RFC 9309 2.5: parsers must handle at least 500 KiB; what is beyond is not looked at, as Google does.
ROBOTS_BYTES_MAX: Final = 500 * 1024
# A group of ours with more rules than this is no statement about paths but an attack on whoever matches them; so that
# none is missed, it forbids all.
RULES_MAX: Final = 10_000
# Wildcards of a pattern; each makes matching longer by the length of the path at the most.
WILDCARDS_MAX: Final = 32

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_TOKEN: Final = re.compile(r"[a-z_-]+")
_NO_TRAINING: Final = re.compile(r"(?:^|[,;])\s*ai-train\s*=\s*no\s*(?:[,;]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern of paths: *parts* between its wildcards, in octets; *ends* says whether the path must, too."""

    parts: tuple[bytes, ...]
    ends: bool
    length: int

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Read a pattern as RFC 9309 2.2.3 has it."""
        ends = text.endswith("$")
        parts = [normal(part) for part in text.removesuffix("$").split("*")]
        length = sum(map(len, parts)) + len(parts) - 1 + ends
        if len(parts) > WILDCARDS_MAX:  # a longer one would match less, so this reserves more
            parts, ends = [*parts[:WILDCARDS_MAX], b""], False
        return cls(tuple(parts), ends, length)

    def matches(self, path: bytes) -> bool:
        """Whether *path* is one of them. Takes the first place for each part, so it never looks back."""
        first, *others = self.parts
        if not path.startswith(first):
            return False
        at = len(first)
        if not others:
            return at == len(path) if self.ends else True
        *between, last = others
        for part in between:
            if (found := path.find(part, at)) < 0:
                return False
            at = found + len(part)
        if self.ends:
            return len(path) - len(last) >= at and path.endswith(last)
        return path.find(last, at) >= 0


@dataclass(slots=True)
class _Group:
    """What is said to some."""

    rules: list[tuple[PathPattern, bool]] = field(default_factory=list)
    uses: list[tuple[PathPattern, str]] = field(default_factory=list)
    no_training: bool = False
    overflows: bool = False

    def __len__(self) -> int:
        """Return how many rules there are."""
        return len(self.rules) + len(self.uses)

    def reservation(self, octets: bytes) -> str | None:
        """Return the rule against fetching a path for training, None if there is none."""
        if self.overflows:
            return f"more than {RULES_MAX} rules"
        longest, allows = -1, True
        for pattern, allowing in self.rules:
            better = pattern.length > longest or (pattern.length == longest and allowing)
            if better and pattern.matches(octets):
                longest, allows = pattern.length, allowing
        if not allows:
            return "disallow"
        if self.no_training:
            return "Content-Signal ai-train=no"
        return self._reserved_use(octets)

    def _reserved_use(self, path: bytes) -> str | None:
        matching = [(pattern.length, said) for pattern, said in self.uses if pattern.matches(path)]
        longest = max((length for length, _ in matching), default=0)
        for length, said in matching:
            if length == longest and (word := reserved_by_usage(said)):
                return f"Content-Usage {word}"
        return None


_ANYWHERE: Final = PathPattern((b"/",), ends=False, length=1)


@dataclass(frozen=True, slots=True)
class Robots:
    """What a robots.txt says to us, under each of the names that it calls us by."""

    _groups: tuple[_Group, ...] = ()

    def __len__(self) -> int:
        """Return how many rules there are."""
        return sum(map(len, self._groups))

    def reservation(self, path: str) -> str | None:
        """Return the rule against fetching *path*, with its query, for training; None if there is none.

        The longest pattern counts, and of those of one length the one that allows (RFC 9309 2.2.2). What is said to
        one of our names is not taken back by what is said to another.
        """
        octets = normal(path)
        return next(filter(None, (group.reservation(octets) for group in self._groups)), None)


def parse(content: bytes, our_name: str | None = None) -> Robots:
    """Read a robots.txt as far as it is about us; never fails.

    All groups for one of our names count together; the groups for everybody only if there is none for any of them.
    """
    whole = content[:ROBOTS_BYTES_MAX]
    text = whole.decode("utf-8-sig", "replace")
    lines = _LINE_END.split(text)
    if len(content) > ROBOTS_BYTES_MAX:
        lines.pop()  # half a line
    names = our_names(our_name)
    ours: dict[str, _Group] = {}
    everybodys = _Group()
    addressed: list[_Group] = []
    naming = False
    for key, value in _statements(lines):
        if key == "user-agent":
            if not naming:
                addressed, naming = [], True
            if value == "*":
                addressed.append(everybodys)
            elif (name := _our_name_in(value, names)) is not None:
                addressed.append(ours.setdefault(name, _Group()))
            continue
        if key in ("allow", "disallow", "content-signal", "content-usage"):
            naming = False
            for group in {id(group): group for group in addressed}.values():
                _say(group, key, value)
    return Robots(tuple(ours.values()) or (everybodys,))


def _statements(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _our_name_in(value: str, names: Collection[str]) -> str | None:
    """Return which of *names* is the product token that *value* begins with, if any is (RFC 9309 2.2.1)."""
    lowered = value.lower()
    if lowered in names:
        return lowered
    token = _TOKEN.match(lowered)
    return token[0] if token and token[0] in names and not lowered[token.end() :][:1].isalnum() else None


def _say(group: _Group, key: str, value: str) -> None:
    if key == "content-signal":
        group.no_training = group.no_training or _NO_TRAINING.search(value) is not None
    elif len(group) >= RULES_MAX:
        group.overflows = True
    elif key == "content-usage":
        path, _, said = value.partition(" ") if value.startswith("/") else ("", "", value)
        group.uses.append((PathPattern.parse(path) if path else _ANYWHERE, said.strip()))
    elif value:  # an empty one says nothing
        written = value if value.startswith(("/", "*")) else f"/{value}"
        group.rules.append((PathPattern.parse(written), key == "allow"))


# Octets that stand for themselves in a path (RFC 3986 2.3, and what may divide it); all others are compared quoted, and
# so are those that mean something in patterns (RFC 9309 2.2.3).
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/?#[]@!&'()+,;=:")
_QUOTED: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normal(path: str) -> bytes:
    """Return *path* in octets, in one of the ways in which it may be quoted (RFC 9309 2.2.2)."""

    def requoted(found: re.Match[bytes]) -> bytes:
        octet = unquote_to_bytes(found[0])
        return octet if octet[0] in _UNRESERVED else found[0].upper()

    octets = path.encode("utf-8", "surrogateescape")
    quoted = b"".join(bytes((o,)) if o in _PLAIN or o == 0x25 else b"%%%02X" % o for o in octets)  # noqa: PLR2004  "%"
    return _QUOTED.sub(requoted, quoted)
